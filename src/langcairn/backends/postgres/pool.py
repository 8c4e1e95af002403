"""The connections of the PostgreSQL backend: its own, or those of a pool of the user's.

Its own are not kept by psycopg_pool, whose workers connect in the background: there, a wrong
password shows as a timeout, and a server that is back is noticed when a worker's pause has ended.
Here whoever needs a connection makes it, and gets it or the error at once. Nothing runs in the
background, so there is nothing to stop in a forked child or when an event loop ends.
"""

from __future__ import annotations

import asyncio
import math
import select
import threading
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from langcairn.backends.measures import Load
from langcairn.backends.postgres.errors import translated
from langcairn.backends.postgres.values import accept_packed
from langcairn.errors import StoreClosed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from psycopg_pool import AsyncConnectionPool, ConnectionPool

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]
ConnectionT = TypeVar("ConnectionT", Connection, AsyncConnection)


class PoolSettings(NamedTuple):
    """How to connect, and how many connections to keep for how long."""

    connect: Mapping[str, Any]
    """Parameters of libpq."""
    max_conns: int
    min_conns: int
    max_conn_lifetime: float  # [s]
    max_conn_idle_time: float  # [s]


class Lender(Protocol):
    """What lends connections to blocking callers."""

    def connection(self, patience: float) -> AbstractContextManager[Connection]:
        """Lend a connection in autocommit mode, and wait no longer than ``patience`` for it [s].

        A connection that comes back in the middle of anything is closed.
        """

    def load(self) -> Load:
        """Return how many connections there are, and are lent."""

    def close(self) -> None:
        """Close what is the store's own."""


class AsyncLender(Protocol):
    """What lends connections to the tasks of one event loop."""

    def connection(self, patience: float) -> AbstractAsyncContextManager[AsyncConnection]:
        """Do as `Lender.connection`."""

    def load(self) -> Load:
        """Do as `Lender.load`. Any thread may call it."""

    def close(self) -> None:
        """Do as `Lender.close`. Any thread may call it."""


class _Held(Generic[ConnectionT]):
    """A connection of a pool."""

    __slots__ = ("born", "connection", "used")

    def __init__(self, connection: ConnectionT) -> None:
        self.connection: ConnectionT = connection
        self.born = self.used = time.monotonic()

    def end(self) -> None:
        # What close() does, which is a coroutine for one of the two kinds.
        self.connection.pgconn.finish()


class _Idle(Generic[ConnectionT]):
    """The idle connections of a pool, for any number of threads at once.

    The one used last is lent first, so that those not needed grow old. They are looked at whenever
    the pool is used; there is no timer.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._stack: deque[_Held[ConnectionT]] = deque()  # each operation on it is atomic
        self._lent: set[_Held[ConnectionT]] = set()  # likewise
        self._closed = False

    def take(self) -> _Held[ConnectionT] | None:
        """Return an idle connection that is alive, or None.

        Raises:
            StoreClosed: The pool is closed.
        """
        if self._closed:
            raise StoreClosed("this store is closed; open a new one")
        while True:
            try:
                held = self._stack.pop()
            except IndexError:
                return None
            age = time.monotonic() - held.born
            if age <= self._settings.max_conn_lifetime and _is_silent(held.connection):
                return held
            held.end()

    def put(self, held: _Held[ConnectionT]) -> None:
        """Keep a connection for the next one, or close it if it is of no more use."""
        self._lent.discard(held)
        if not is_clean(held.connection):
            held.end()
            return
        held.used = time.monotonic()
        self._stack.append(held)
        if self._closed:
            self.close()  # it may have looked before this one came back
        elif len(self._stack) > self._settings.min_conns:
            self._end_surplus(held.used - self._settings.max_conn_idle_time)

    def lend(self, held: _Held[ConnectionT]) -> None:
        """Note that a connection is in use, until it is put back."""
        self._lent.add(held)

    def load(self) -> Load:
        """Return how many connections there are."""
        lent = len(self._lent)
        return Load(0, lent + len(self._stack), lent, self._settings.max_conns)

    def close(self) -> None:
        """Close what is idle, and from now on whatever comes back."""
        self._closed = True
        while self._stack:
            try:
                self._stack.pop().end()
            except IndexError:
                return  # another thread was faster

    def _end_surplus(self, unused_since: float) -> None:
        while len(self._stack) > self._settings.min_conns:
            try:
                oldest = self._stack.popleft()
            except IndexError:
                return
            if oldest.used > unused_since:
                self._stack.appendleft(oldest)
                return
            oldest.end()


class Pool:
    """The store's own connections, for blocking callers."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._idle: _Idle[Connection] = _Idle(settings)
        self._vacant = threading.Semaphore(settings.max_conns)

    @contextmanager
    def connection(self, patience: float) -> Iterator[Connection]:  # noqa: D102 -- inherited
        if not self._vacant.acquire(timeout=patience):
            raise _all_in_use(self._settings)
        try:
            held = self._idle.take() or self._connect(patience)
            self._idle.lend(held)
            try:
                yield held.connection
            finally:
                self._idle.put(held)
        finally:
            self._vacant.release()

    def _connect(self, patience: float) -> _Held[Connection]:
        try:
            connection = psycopg.connect(
                **_within(self._settings.connect, patience), autocommit=True
            )
        except psycopg.Error as error:
            raise translated(error) from error
        accept_packed(connection)
        return _Held(connection)

    def load(self) -> Load:  # noqa: D102 -- inherited
        return self._idle.load()

    def close(self) -> None:  # noqa: D102 -- inherited
        self._idle.close()


class AsyncPool:
    """The store's own connections, for the tasks of one event loop."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._idle: _Idle[AsyncConnection] = _Idle(settings)
        self._vacant = asyncio.Semaphore(settings.max_conns)

    @asynccontextmanager
    async def connection(  # noqa: D102 -- inherited
        self, patience: float
    ) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(patience if self._vacant.locked() else None):
                await self._vacant.acquire()
        except TimeoutError:
            raise _all_in_use(self._settings) from None
        try:
            held = self._idle.take() or await self._connect(patience)
            self._idle.lend(held)
            try:
                yield held.connection
            finally:
                self._idle.put(held)
        finally:
            self._vacant.release()

    async def _connect(self, patience: float) -> _Held[AsyncConnection]:
        try:
            connection = await psycopg.AsyncConnection.connect(
                **_within(self._settings.connect, patience), autocommit=True
            )
        except psycopg.Error as error:
            raise translated(error) from error
        accept_packed(connection)
        return _Held(connection)

    def load(self) -> Load:  # noqa: D102 -- inherited
        return self._idle.load()

    def close(self) -> None:  # noqa: D102 -- inherited
        self._idle.close()


class UsersPool:
    """A `psycopg_pool.ConnectionPool` of the user's. It is never closed here."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool

    @contextmanager
    def connection(self, patience: float) -> Iterator[Connection]:  # noqa: D102 -- inherited
        try:
            connection = self._pool.getconn(timeout=patience)
        except psycopg.Error as error:
            raise translated(error) from error
        autocommit = connection.autocommit
        try:
            connection.autocommit = True
            accept_packed(connection)
            yield connection
        finally:
            if is_clean(connection):
                connection.autocommit = autocommit
            else:
                connection.close()  # the pool replaces it
            self._pool.putconn(connection)

    def load(self) -> Load:  # noqa: D102 -- inherited
        return _load_of(self._pool)

    def close(self) -> None:  # noqa: D102 -- inherited
        pass


class AsyncUsersPool:
    """A `psycopg_pool.AsyncConnectionPool` of the user's. It is never closed here."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(  # noqa: D102 -- inherited
        self, patience: float
    ) -> AsyncIterator[AsyncConnection]:
        try:
            connection = await self._pool.getconn(timeout=patience)
        except psycopg.Error as error:
            raise translated(error) from error
        autocommit = connection.autocommit
        try:
            await connection.set_autocommit(True)
            accept_packed(connection)
            yield connection
        finally:
            if is_clean(connection):
                await connection.set_autocommit(autocommit)
            else:
                await connection.close()  # the pool replaces it
            await self._pool.putconn(connection)

    def load(self) -> Load:  # noqa: D102 -- inherited
        return _load_of(self._pool)

    def close(self) -> None:  # noqa: D102 -- inherited
        pass


def _load_of(pool: ConnectionPool[Any] | AsyncConnectionPool[Any]) -> Load:
    stats = pool.get_stats()
    size = stats.get("pool_size", 0)
    in_use = size - stats.get("pool_available", 0)
    return Load(stats.get("requests_waiting", 0), size, in_use, stats.get("pool_max"))


def is_clean(connection: Connection | AsyncConnection) -> bool:
    """Tell whether a connection is open and in the middle of nothing."""
    pgconn = connection.pgconn
    return pgconn.status == ConnStatus.OK and pgconn.transaction_status == TransactionStatus.IDLE


def _is_silent(connection: Connection | AsyncConnection) -> bool:
    """Tell whether an idle connection has nothing to say, as it should.

    One that the server ended has, if only that: no round trip is needed to find it.
    """
    if not hasattr(select, "poll"):  # Windows, whose select() takes any socket
        return not select.select([connection.fileno()], [], [], 0)[0]
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _within(connect: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """Return parameters that let connecting take no longer than there is time.

    libpq counts whole seconds, and two at least.
    """
    longest = max(2, math.ceil(patience))
    given = int(connect.get("connect_timeout") or longest)
    return {**connect, "connect_timeout": min(given, longest)}


def _all_in_use(settings: PoolSettings) -> StoreUnavailable:
    return StoreUnavailable(
        f"all {settings.max_conns} connections of the pool are in use; raise pool_max_conns"
    )
