"""The stores of a crash test: where they are, and the servers behind them, to be killed as well."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

STORES = ("files", "sqlite", "postgresql", "valkey")


class Server(Protocol):
    """A server that the referee may kill."""

    def crash(self, chance: random.Random) -> str:
        """Kill it, and return how."""

    def start(self) -> object:
        """Start it where it was, with what it had stored, and wait until it answers."""


class Target(NamedTuple):
    """A store to be tested, and its server if it has one of its own."""

    url: str
    server: Server | None = None


@contextmanager
def target(store: str, directory: Path) -> Iterator[Target]:
    """Provide a store for one test.

    Args:
        store: One of `STORES`, or the URL of any other, whose server won't be killed.
        directory: Where files and SQLite store.
    """
    match store:
        case "files":
            yield Target(f"file://{directory}/files")
        case "sqlite":
            yield Target(f"sqlite:///{directory}/sqlite.db")
        case "postgresql":
            postgres = _Postgres(durable=True)
            try:
                postgres.start()
                yield Target(postgres.url(), postgres)
            finally:
                postgres.remove()
        case "valkey":
            # The file is rewritten often, so that kills meet that, too.
            always = {"appendonly": "yes", "appendfsync": "always", "save": "",
                      "auto_aof_rewrite_min_size": "1mb"}  # fmt: skip
            with _Valkey(**always) as valkey:
                yield Target(valkey.url, valkey)
        case url:
            yield Target(url)


class _Postgres(PostgresServer):
    def crash(self, chance: random.Random) -> str:
        if chance.random() < 0.2:
            self.stop_immediately()
            return "immediate stops of the server"
        self.kill()
        return "kills of the server"


class _Valkey(ValkeyServer):
    def crash(self, chance: random.Random) -> str:
        self.kill()
        return "kills of the server"


class Forgetful(_Valkey):
    """Keeps what it is told in memory only, to see that the referee notices."""

    def __init__(self) -> None:
        super().__init__(save="")
