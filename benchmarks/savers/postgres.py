"""LangGraph's saver on PostgreSQL, and ours: each session has a database of one server's."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import sql

from benchmarks.savers.base import Adapter, Session
from benchmarks.servers import url_of
from benchmarks.workloads import THREAD_ID
from langcairn import CheckpointSaver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTE = "database"
_SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""


class _PostgresSession(Session):
    """A session on the database that the directory's note names; a new one if there is none."""

    def __init__(self, directory: Path) -> None:
        note = directory / NOTE
        self._is_new = not note.exists()
        if self._is_new:
            note.write_text(create_database())
        self._url = database_url(note.read_text())
        self._direct = psycopg.connect(self._url, autocommit=True)

    def bytes_kept(self) -> int:
        row = self._direct.execute(_SIZE).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> int:
        kept = self.bytes_kept()
        self._close_saver()
        self._direct.close()
        return kept

    @abstractmethod
    def _close_saver(self) -> None: ...


class _PostgresAdapter(Adapter):
    persistent = True
    server = "postgres"

    def remove(self, directory: Path) -> None:
        note = directory / NOTE
        if note.exists():
            drop_database(note.read_text())
        super().remove(directory)


class _OfficialPostgresSession(_PostgresSession):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        # One connection without a pool, as its documentation has it, is the fastest for one caller.
        self._context = PostgresSaver.from_conn_string(self._url)
        self.saver: PostgresSaver = self._context.__enter__()
        if self._is_new:
            self.saver.setup()

    def _close_saver(self) -> None:
        self._context.__exit__(None, None, None)


class OfficialPostgres(_PostgresAdapter):
    name = "official postgres"

    def open(self, directory: Path) -> Session:
        return _OfficialPostgresSession(directory)


class _LangcairnPostgresSession(_PostgresSession):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.saver: CheckpointSaver = CheckpointSaver(self._url)

    def _close_saver(self) -> None:
        self.saver.close()


class LangcairnPostgres(_PostgresAdapter):
    name = "langcairn postgres"

    def open(self, directory: Path) -> Session:
        return _LangcairnPostgresSession(directory)


class _LeasedPostgresSession(_LangcairnPostgresSession):
    """Holds a lease on the thread from beginning to end."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._lease = self.saver.store.lease(THREAD_ID).acquire()

    def _close_saver(self) -> None:
        self._lease.release()
        super()._close_saver()


class LeasedPostgres(_PostgresAdapter):
    name = "leased postgres"

    def open(self, directory: Path) -> Session:
        return _LeasedPostgresSession(directory)


def create_database() -> str:
    """Make an empty database, and return its name."""
    name = f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return name


def drop_database(name: str) -> None:
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        connection.execute(statement)


@contextmanager
def new_database() -> Iterator[str]:
    """Make an empty database, give its URL, and drop it at the end."""
    name = create_database()
    try:
        yield database_url(name)
    finally:
        drop_database(name)


def database_url(name: str) -> str:
    """Say how to connect to a database of the server's."""
    return urlunsplit(urlsplit(url_of("postgres"))._replace(path=f"/{name}"))
