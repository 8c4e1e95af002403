"""The servers that savers are measured on: real ones, started for the run.

Their URLs stand in environment variables, so that the fresh processes find them, too; a variable
that is set already means a server of the user's.

PostgreSQL has its default settings (fsync and synchronous_commit on); Valkey writes an append-only
file that is synced every second. Both keep their files in the system's temporary directory.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

ServerName = Literal["postgres", "valkey"]

VARIABLES: dict[ServerName, str] = {
    "postgres": "LANGCAIRN_BENCH_POSTGRES",
    "valkey": "LANGCAIRN_BENCH_VALKEY",
}


def url_of(server: ServerName) -> str:
    """Return the URL of a server that is running."""
    return os.environ[VARIABLES[server]]


@contextmanager
def running(servers: Iterable[ServerName]) -> Iterator[None]:
    """Run servers, but those of the user's."""
    with ExitStack() as stack:
        for server in sorted(set(servers)):
            if VARIABLES[server] not in os.environ:
                os.environ[VARIABLES[server]] = stack.enter_context(_STARTERS[server]())
                stack.callback(os.environ.pop, VARIABLES[server])
        yield


# The tests' servers are imported only here: the fresh processes don't start any.


@contextmanager
def _postgres() -> Iterator[str]:
    from tests.postgres_server import PostgresServer  # noqa: PLC0415 -- as said above

    server = PostgresServer(durable=True)
    try:
        yield server.start().url()
    finally:
        server.remove()


@contextmanager
def _valkey() -> Iterator[str]:
    from tests.valkey_server import ValkeyServer  # noqa: PLC0415 -- as said above

    with ValkeyServer(appendonly="yes", appendfsync="everysec", save="") as server:
        yield server.url


_STARTERS: dict[ServerName, Callable[[], AbstractContextManager[str]]] = {
    "postgres": _postgres,
    "valkey": _valkey,
}


def describe(servers: Iterable[ServerName]) -> dict[str, dict[str, Any]]:
    """Say what runs, and how durable a commit is there."""
    describing = {"postgres": _describe_postgres, "valkey": _describe_valkey}
    return {server: describing[server]() for server in sorted(set(servers))}


def _describe_postgres() -> dict[str, Any]:
    import psycopg  # noqa: PLC0415 -- only if there is such a server

    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        found = connection.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (list(names),)
        )
        return dict(found.fetchall())


def _describe_valkey() -> dict[str, Any]:
    import redis  # noqa: PLC0415 -- only if there is such a server

    with redis.Redis.from_url(url_of("valkey"), decode_responses=True) as client:
        info: Any = client.info("server")
        names = ("appendonly", "appendfsync", "save")
        settings: Any = client.config_get(*names)
    version = info.get("valkey_version", info["redis_version"])
    return {"server_version": version, **{name: settings[name] for name in names}}
