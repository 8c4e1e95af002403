"""Running plans on a connection: one driver for blocking callers, and its twin for coroutines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import tuple_row
from typing_extensions import override

from langcairn.backends.postgres.errors import translated
from langcairn.errors import CairnError, CorruptData, StoreUnavailable

if TYPE_CHECKING:
    from psycopg.abc import PQGen

    from langcairn.backends.postgres.pool import AsyncConnection, Connection
    from langcairn.backends.postgres.values import Plan, Rows, Statement

T = TypeVar("T")


class _Cursor(psycopg.RawCursor[tuple[Any, ...]]):
    """A cursor whose statements end at a certain time."""

    def __init__(self, connection: Connection, expires: float) -> None:
        super().__init__(connection, row_factory=tuple_row)
        self._expires = expires

    @override
    def _execute_gen(self, *args: Any, **kwargs: Any) -> PQGen[None]:
        return _until(self._expires, super()._execute_gen(*args, **kwargs))


class _AsyncCursor(psycopg.AsyncRawCursor[tuple[Any, ...]]):
    """The same for coroutines."""

    def __init__(self, connection: AsyncConnection, expires: float) -> None:
        super().__init__(connection, row_factory=tuple_row)
        self._expires = expires

    @override
    def _execute_gen(self, *args: Any, **kwargs: Any) -> PQGen[None]:
        return _until(self._expires, super()._execute_gen(*args, **kwargs))


def _until(expires: float, communication: PQGen[T]) -> PQGen[T]:
    """Let psycopg wait for the server until a certain time.

    A server that stalls, or a network that swallows packets, would hold the caller for ever. Where
    psycopg waits, it resumes its generators ten times a second.
    """
    try:
        wanted = next(communication)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() >= expires:
                raise StoreUnavailable("PostgreSQL gave no answer in time")
            wanted = communication.send(ready)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


def run(connection: Connection, plan: Plan[T], expires: float, prepare: bool | None) -> T:
    """Run a plan; its errors are langcairn's.

    Args:
        connection: Where; in autocommit mode.
        plan: What.
        expires: Until when, on the monotonic clock [s].
        prepare: As psycopg's ``execute`` takes it.

    Raises:
        StoreUnavailable: There was no answer in time; the connection is of no more use.
    """
    cursor = _Cursor(connection, expires)
    try:
        statement = next(plan)
        while True:
            try:
                rows = _execute(cursor, statement, prepare)
            except CairnError as error:
                statement = plan.throw(error)
            else:
                statement = plan.send(rows)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


def _execute(cursor: _Cursor, statement: Statement, prepare: bool | None) -> Rows:
    try:
        cursor.execute(statement.sql, statement.parameters, prepare=prepare, binary=True)
    except (psycopg.Error, UnicodeError) as error:
        raise translated(error) from error
    try:
        return cursor.fetchall() if _has_rows(cursor) else []
    except psycopg.DataError as error:
        raise _unreadable(error) from error


async def arun(
    connection: AsyncConnection, plan: Plan[T], expires: float, prepare: bool | None
) -> T:
    """Do as `run`."""
    cursor = _AsyncCursor(connection, expires)
    try:
        statement = next(plan)
        while True:
            try:
                rows = await _aexecute(cursor, statement, prepare)
            except CairnError as error:
                statement = plan.throw(error)
            else:
                statement = plan.send(rows)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


async def _aexecute(cursor: _AsyncCursor, statement: Statement, prepare: bool | None) -> Rows:
    try:
        await cursor.execute(statement.sql, statement.parameters, prepare=prepare, binary=True)
    except (psycopg.Error, UnicodeError) as error:
        raise translated(error) from error
    try:
        return await cursor.fetchall() if _has_rows(cursor) else []
    except psycopg.DataError as error:
        raise _unreadable(error) from error


def _has_rows(cursor: _Cursor | _AsyncCursor) -> bool:
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _unreadable(error: psycopg.DataError) -> CorruptData:
    return CorruptData(f"PostgreSQL returned a value that can't be read: {error}")
