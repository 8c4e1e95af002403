"""Checkpoints in an SQLite file, for any number of threads and processes at once."""

from __future__ import annotations

import ctypes
import os
import random
import sqlite3
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from typing_extensions import override

from langcairn.backends.base import Commit
from langcairn.backends.sqlite.appending import addition
from langcairn.backends.sqlite.gate import Gate
from langcairn.backends.sqlite.queries import Queries
from langcairn.backends.sqlite.schema import prepare, tables_of
from langcairn.backends.threaded import ThreadedBackend
from langcairn.errors import (
    CairnError,
    Conflict,
    CorruptData,
    InvalidInput,
    StaleEpoch,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)
from langcairn.observing import spent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from types import TracebackType

    from langcairn.backends.base import Request

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

_PATIENCE = 5.0  # [s] for requests that are under way before a fork, beside their own waiting
_MAX_IDLE = 16
"""Connections kept for the next reader. Each may hold a page cache of its own."""


class SqliteBackend(ThreadedBackend):
    """Keeps checkpoints in one SQLite file in WAL mode.

    Reading never waits for writing. Writers of all threads share transactions (group commit);
    writers of other processes take turns. The file and its tables are made on first use.

    Args:
        path: The file. Its directory must exist.
        table_name: The table of checkpoints. Several stores with different names may share a
            file, also with tables of other programs.
        synchronous: What happens to commits if the power fails. ``"FULL"``: they are kept, as far
            as ``fsync`` keeps its word. ``"NORMAL"``: the last ones may be lost. ``"OFF"``: the
            file may be damaged. A killed process loses nothing with any of them.
        cache_size: SQLite's page cache for each connection, as its pragma takes it: a number of
            pages, or if negative of KiB. None: SQLite's default of 2,000 KiB.
        busy_timeout: How long to wait for writers of other processes, as a timedelta or in seconds.
        max_threads: The most threads that serve coroutines.

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
        busy_timeout: timedelta | float = 10.0,
        max_threads: int = 4,
    ) -> None:
        self._path = _checked_path(path)
        self._table_name = table_name
        self._tables = tables_of(table_name)
        self._queries = Queries(self._tables)
        self._translated = _Translated(self._path)
        self._pragmas = [f"synchronous = {_checked_synchronous(synchronous)}"]
        if cache_size is not None:
            self._pragmas.append(f"cache_size = {_checked_cache_size(cache_size)}")
        self._busy_timeout = _seconds(busy_timeout)
        self._start_empty()
        super().__init__(max_threads=max_threads)

    def _start_empty(self) -> None:
        self._prepared = False
        self._writer: _Connection | None = None
        self._writer_lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._gate = Gate()
        self._was_busy = False

    @override
    def _read(self, request: Request) -> object:
        with self._gate, self._translated:
            connection = self._borrow()
            try:
                answer = self._queries.readers[type(request)](connection, request)
            except BaseException:
                # Perhaps in the middle of a transaction, or on a file that is damaged or gone.
                connection.close()
                raise
            self._give_back(connection)
            return answer

    @override
    def _write(self, requests: Sequence[Request]) -> Sequence[object]:
        with self._writer_lock, self._gate, self._translated:
            self._refuse_if_closed()
            if self._writer is None:
                self._writer = self._connect()
                self._writer.execute("PRAGMA busy_timeout = 0")  # _patiently waits instead
            connection = self._writer
            try:
                if len(requests) == 1 and (epoch := self._added(connection, requests[0])):
                    return [epoch]
                # Not a plain BEGIN: a transaction that becomes a writer's only later fails if
                # another process was faster, without waiting.
                self._patiently(connection, "BEGIN IMMEDIATE")
                if len(requests) == 1:
                    answers = [self._answer(connection, requests[0])]
                else:
                    answers = [self._answer_alone(connection, request) for request in requests]
                connection.execute("COMMIT")
            except (StaleEpoch, Conflict):
                connection.execute("ROLLBACK")
                raise
            except BaseException:
                # Closing rolls back, whatever state an error or an interrupt left.
                self._writer = None
                connection.close()
                raise
            return answers

    def _added(self, connection: sqlite3.Connection, request: Request) -> int | None:
        """Make a commit by one statement. Returns the epoch; None: it takes more than that."""
        if type(request) is not Commit or (statement := addition(self._tables, request)) is None:
            return None
        return request.epoch if self._patiently(connection, *statement).rowcount > 0 else None

    def _answer(self, connection: sqlite3.Connection, request: Request) -> object:
        return self._queries.writers[type(request)](connection, request)

    def _answer_alone(self, connection: sqlite3.Connection, request: Request) -> object:
        """Answer one request of several such that it fails alone."""
        connection.execute("SAVEPOINT request")
        answer: object
        try:
            with self._translated:
                answer = self._answer(connection, request)
        except Exception as error:
            if not connection.in_transaction:
                raise  # SQLite has given up all of it, as it may do when the disk is full
            connection.execute("ROLLBACK TO request")
            answer = error
        connection.execute("RELEASE request")
        return answer

    @override
    def _release(self) -> None:
        with self._writer_lock, self._gate:
            self._close_all()

    def _close_all(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._close_idle()

    @override
    def _pause(self) -> None:
        # SQLite in a child believes in what it finds of its parent's in memory: in locks on the
        # file, which the child hasn't got, so that whoever closes the file next deletes the log
        # into which the child writes; and in mutexes of threads that don't exist there. With
        # nothing open, and nobody at work, there is nothing to find.
        if self._gate.shut(self._busy_timeout + _PATIENCE):
            self._close_all()
        else:
            self._was_busy = True

    @override
    def _resume(self) -> None:
        self._was_busy = False
        self._gate.open()

    @override
    def _abandon(self) -> None:
        was_busy = self._was_busy
        # A child must not use the parent's connections, nor even close them: that may delete a
        # write-ahead log which another process needs. So they stay alive until the child ends.
        for connection in (self._writer, *self._idle):
            if connection is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self._start_empty()
        self._was_busy = was_busy

    def _borrow(self) -> _Connection:
        """Return a connection to read from: the one used last, whose cache is the warmest."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, connection: _Connection) -> None:
        if connection.immutable or len(self._idle) >= _MAX_IDLE:
            connection.close()
        else:
            self._idle.append(connection)
        if self._closed:
            self._close_idle()  # close() may have looked before this one came back

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _connect(self) -> _Connection:
        if self._was_busy:
            raise StoreMisconfigured(
                f"{self._path}: this process was forked while its parent was at work on the file, "
                "whose locks SQLite takes for its own here: fork when no request is under way"
            )
        try:
            return self._opened(str(self._path))
        except sqlite3.OperationalError as error:
            if not self._is_frozen(error):
                raise
        return self._opened(self._path.as_uri() + "?immutable=1", immutable=True)

    def _is_frozen(self, error: sqlite3.OperationalError) -> bool:
        """Tell whether the file can't be opened only because its directory is read-only.

        SQLite would need a log and shared memory beside it, but if they are not there, nobody
        writes at the moment, and the file can be read by itself. Such a connection serves one
        request: it wouldn't notice a writer that comes later.
        """
        return (
            error.sqlite_errorcode in (sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.SQLITE_CANTOPEN)
            and os.access(self._path, os.R_OK)
            and not os.access(self._path.parent, os.W_OK)
            and not _log(self._path).exists()
        )

    def _opened(self, database: str, *, immutable: bool = False) -> _Connection:
        connection = sqlite3.connect(
            database,
            timeout=self._busy_timeout,
            isolation_level=None,  # transactions begin and end where the code says so
            check_same_thread=False,  # used by one thread at a time, but not always the same
            factory=_Connection,
            uri=immutable,
        )
        try:
            connection.immutable = immutable
            for pragma in self._pragmas:
                connection.execute(f"PRAGMA {pragma}")
            # Any number of threads and processes may come here at once.
            if not self._prepared:
                if not immutable:
                    self._use_wal(connection)
                prepare(connection, self._table_name, self._tables)
                self._prepared = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # While another process makes the file, SQLite would say "locked" without waiting.
        (mode,) = self._patiently(connection, "PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreMisconfigured(
                f"{self._path}: the journal mode is {mode} and can't be made WAL, which needs a "
                "file system of this machine"
            )

    def _patiently(
        self, connection: sqlite3.Connection, sql: str, parameters: Sequence[object] = ()
    ) -> sqlite3.Cursor:
        """Execute a statement when other processes let it.

        SQLite's own way of waiting sleeps up to 100 ms at a time. Of eight processes that commit
        without pause, some then wait 5 s; like this less than 1 s, and all are twice as fast.
        """
        deadline = time.monotonic() + self._busy_timeout
        pause = 0.0005  # [s]
        while True:
            try:
                return connection.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() >= deadline:
                    raise
            nap = random.uniform(0, pause)  # noqa: S311 -- no secret, only a coin toss
            time.sleep(nap)
            spent("lock", nap)
            pause = min(2 * pause, 0.004)


class _Translated:
    """Raises the driver's errors as langcairn's. One serves any number of threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise _translation(error, self._path) from error
        if isinstance(error, (OverflowError, UnicodeEncodeError)):
            raise InvalidInput(f"SQLite can't store this: {error}") from error
        if isinstance(error, UnicodeDecodeError):  # a damaged name in the text of SQLite's error
            raise CorruptData(f"{self._path}: the database is damaged") from error


class _Connection(sqlite3.Connection):
    immutable = False
    """The file was opened as one that nobody can change."""


def _checked_path(path: str | PathLike[str]) -> Path:
    text = os.fsdecode(path)
    if text in ("", ":memory:"):
        raise InvalidInput(f"{text!r} is no file; for a store in memory open 'memory:'")
    if "\0" in text:
        raise InvalidInput(f"{text!r} can't be a file: it contains NUL")
    # Absolute, so that a later chdir() doesn't begin a second file, and that no name is a URI to
    # SQLite ("file:x?mode=memory").
    return Path(text).absolute()


def _log(path: Path) -> Path:
    """Return SQLite's write-ahead log: the last commits, unless all processes have closed."""
    return path.with_name(path.name + "-wal")


def _checked_synchronous(level: str) -> str:
    if level.upper() not in get_args(Synchronous):
        raise InvalidInput(f"synchronous={level!r}: choose {', '.join(get_args(Synchronous))}")
    return level.upper()


def _checked_cache_size(size: int) -> int:
    if not -(2**31) < size < 2**31:
        raise InvalidInput(f"cache_size={size!r}: SQLite counts pages or KiB in 32 bits")
    return int(size)


def _seconds(timeout: timedelta | float) -> float:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    # SQLite counts milliseconds in 31 bits.
    if not 0 <= seconds <= 2_000_000:
        raise InvalidInput(f"busy_timeout={timeout!r}: from 0 to 2,000,000 seconds")
    return seconds


_KINDS: dict[int, type[CairnError]] = {
    sqlite3.SQLITE_ERROR: StoreMisconfigured,  # a table was dropped or altered
    sqlite3.SQLITE_BUSY: StoreUnavailable,
    sqlite3.SQLITE_LOCKED: StoreUnavailable,
    sqlite3.SQLITE_PROTOCOL: StoreUnavailable,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_IOERR_SHMSIZE: StoreFull,
    sqlite3.SQLITE_READONLY: StoreMisconfigured,
    sqlite3.SQLITE_PERM: StoreMisconfigured,
    sqlite3.SQLITE_NOTADB: StoreMisconfigured,
    sqlite3.SQLITE_CORRUPT: CorruptData,
    sqlite3.SQLITE_TOOBIG: InvalidInput,
    sqlite3.SQLITE_CONSTRAINT: InvalidInput,
    sqlite3.SQLITE_MISMATCH: InvalidInput,
}
"""Errors by SQLite's code; a primary code, in the low byte, stands for all its extended ones."""


def _translation(error: sqlite3.Error, path: Path) -> CairnError:
    reason = str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the sqlite3 module itself
        if isinstance(error, sqlite3.OperationalError):
            return CorruptData(f"{path}: {reason}")  # a text that is no UTF-8
        return InvalidInput(f"{path}: {reason}")  # a value of a type that SQLite doesn't know
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN:
        return _why_not_opened(path)
    kind = _KINDS.get(code) or _KINDS.get(code & 0xFF, StoreError)
    return kind(f"{path}: {reason}")


def _why_not_opened(path: Path) -> CairnError:
    """Say what SQLite doesn't."""
    reason = "no permission to open it, or to write beside it"
    try:
        if path.is_dir():
            reason = "it is a directory, not a file"
        elif not path.parent.is_dir():
            reason = f"there is no directory {path.parent}"
        elif not os.access(path.parent, os.W_OK) and _log(path).exists():
            reason = f"its log {_log(path).name} needs permission to write beside it"
        elif os.access(path if path.exists() else path.parent, os.R_OK | os.W_OK):
            return StoreUnavailable(f"{path}: it can't be opened; are too many files open?")
    except OSError as error:
        reason = str(error)
    return StoreMisconfigured(f"{path}: {reason}")
