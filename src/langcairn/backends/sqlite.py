"""Checkpoints in an SQLite file, for any number of threads and processes at once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from datetime import timedelta
from os import PathLike, fsdecode
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from langcairn.backends.group_commit import GroupCommit
from langcairn.backends.sqlite_queries import Queries
from langcairn.backends.sqlite_schema import prepare, tables_of
from langcairn.backends.threaded import ThreadedBackend
from langcairn.errors import (
    CairnError,
    CorruptData,
    InvalidInput,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langcairn.backends.base import Request

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]


class SqliteBackend(ThreadedBackend):
    """Keeps checkpoints in one SQLite file in WAL mode.

    Readers never wait for a writer. Writers of all threads share transactions (group commit);
    writers of other processes take turns. The file and its tables are made on first use.

    Args:
        path: The file.
        table_name: The table of checkpoints. Several stores with different names may share a
            file, also with tables of other programs.
        synchronous: What a commit survives: with ``"FULL"`` a loss of power; with ``"NORMAL"`` the
            loss of power may undo the last commits; with ``"OFF"`` it may also destroy the file.
            A killed process loses nothing with any of them.
        cache_size: SQLite's page cache for each connection, as the pragma takes it: a number of
            pages, or if negative a number of KiB. None: SQLite's default, 2,000 KiB.
        busy_timeout: How long to wait for other processes, in seconds or as a timedelta.
        max_threads: How many threads serve coroutines.

    Raises:
        InvalidInput: An argument can't be used as it is.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        table_name: str = "checkpoints",
        *,
        synchronous: Synchronous = "FULL",
        cache_size: int | None = None,
        busy_timeout: float | timedelta = 10.0,
        max_threads: int = 4,
    ) -> None:
        super().__init__(max_threads=max_threads)
        self._path = _checked_path(path)
        self._table_name = table_name
        self._tables = tables_of(table_name)
        self._queries = Queries(self._tables)
        if synchronous.upper() not in ("OFF", "NORMAL", "FULL", "EXTRA"):
            raise InvalidInput(f"synchronous={synchronous!r}: use OFF, NORMAL, FULL or EXTRA")
        self._pragmas = [f"synchronous = {synchronous.upper()}"]
        if cache_size is not None:
            self._pragmas.append(f"cache_size = {int(cache_size)}")
        if isinstance(busy_timeout, timedelta):
            busy_timeout = busy_timeout.total_seconds()
        if not busy_timeout >= 0:
            raise InvalidInput(f"busy_timeout={busy_timeout!r} must be 0 or more seconds")
        self._busy_timeout = busy_timeout
        self._abandon()

    def _abandon(self) -> None:
        self._writer: sqlite3.Connection | None = None
        self._writer_lock = threading.Lock()
        self._prepared = False
        self._idle: list[sqlite3.Connection] = []
        self._commits: GroupCommit[Request, object] = GroupCommit(self._commit)

    def _answer(self, request: Request) -> object:
        if type(request) in self._queries.writers:
            return self._commits.submit(request)
        return self._read(request)

    def _release(self) -> None:
        with self._writer_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        while self._idle:
            self._idle.pop().close()

    # Connections

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in self._pragmas:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_writer(self) -> sqlite3.Connection:
        """Return the connection that writes; the caller holds the lock."""
        if self._closed:
            raise StoreClosed("the store is closed")
        if self._writer is None:
            connection = self._connect()
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                prepare(connection, self._table_name, self._tables)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
            self._prepared = True
        return self._writer

    def _read(self, request: Request) -> object:
        with self._translated():
            if not self._prepared:
                with self._writer_lock:
                    self._open_writer()
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                answer = self._queries.readers[type(request)](connection, request)
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            if self._closed:
                self._release()
            return answer

    def _commit(self, requests: Sequence[Request]) -> list[object]:
        with self._writer_lock, self._translated():
            connection = self._open_writer()
            try:
                connection.execute("BEGIN IMMEDIATE")
                if len(requests) == 1:
                    answers = [self._write(connection, requests[0])]
                else:
                    answers = [self._write_alone(connection, request) for request in requests]
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return answers

    def _write_alone(self, connection: sqlite3.Connection, request: Request) -> object:
        connection.execute("SAVEPOINT member")
        answer: object
        try:
            with self._translated():
                answer = self._write(connection, request)
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO member")
            answer = error
        connection.execute("RELEASE member")
        return answer

    def _write(self, connection: sqlite3.Connection, request: Request) -> object:
        return self._queries.writers[type(request)](connection, request)

    # Errors

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise the driver's errors as those of langcairn."""
        try:
            yield
        except sqlite3.Error as error:
            raise _translation(error, self._path) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise InvalidInput(f"a value can't be stored in SQLite: {error}") from error


def _checked_path(path: str | PathLike[str]) -> Path:
    text = fsdecode(path)
    if text in ("", ":memory:"):
        raise InvalidInput(f"{text!r} is no file: for a store in memory use 'memory:'")
    if "\0" in text:
        raise InvalidInput(f"{text!r} is no file: it contains NUL")
    # Absolute, so that a later chdir() doesn't begin a second database, and SQLite doesn't take a
    # name such as "file:x?mode=memory" for a URI.
    return Path(text).absolute()


_PRIMARY = {
    sqlite3.SQLITE_BUSY: StoreUnavailable,
    sqlite3.SQLITE_LOCKED: StoreUnavailable,
    sqlite3.SQLITE_PROTOCOL: StoreUnavailable,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreMisconfigured,
    sqlite3.SQLITE_PERM: StoreMisconfigured,
    sqlite3.SQLITE_CANTOPEN: StoreMisconfigured,
    sqlite3.SQLITE_NOTADB: StoreMisconfigured,
    sqlite3.SQLITE_CORRUPT: CorruptData,
    sqlite3.SQLITE_TOOBIG: InvalidInput,
    sqlite3.SQLITE_CONSTRAINT: InvalidInput,
}


def _translation(error: sqlite3.Error, path: Path) -> CairnError:
    code = getattr(error, "sqlite_errorcode", None)
    kind = StoreError if code is None else _PRIMARY.get(code & 0xFF, StoreError)
    return kind(f"{path}: {error}")
