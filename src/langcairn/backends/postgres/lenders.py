"""Where the connections of a store come from: from its own pools, or from pools of the user's."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from langcairn.backends.measures import Load
from langcairn.backends.postgres.options import pool_settings
from langcairn.backends.postgres.pool import AsyncPool, AsyncUsersPool, Pool, UsersPool
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from langcairn.backends.postgres.pool import (
        AsyncConnection,
        AsyncLender,
        Connection,
        Lender,
        PoolSettings,
    )

UsersPools: TypeAlias = (
    "ConnectionPool[Any] | AsyncConnectionPool[Any]"
    " | tuple[ConnectionPool[Any], AsyncConnectionPool[Any]]"
)


class Lenders:
    """What makes the lenders of one store.

    Args:
        given: A connection string, or the user's pools.
        **options: As `pool_settings` takes them.

    Raises:
        InvalidInput: It is none of these, or an option is out of range.
        StoreMisconfigured: The connection string can't be read.
    """

    def __init__(self, given: str | UsersPools, **options: Any) -> None:
        self._settings: PoolSettings | None = None
        self._pool: ConnectionPool[Any] | None = None
        self._async_pool: AsyncConnectionPool[Any] | None = None
        if isinstance(given, str):
            self._settings = pool_settings(given, **options)
        else:
            self._sort(given)

    def _sort(self, given: UsersPools) -> None:
        # Only here, so that a store with pools of its own doesn't need the package.
        from psycopg_pool import AsyncConnectionPool, ConnectionPool  # noqa: PLC0415

        for pool in given if isinstance(given, tuple) else (given,):
            if isinstance(pool, ConnectionPool):
                self._pool = pool
            elif isinstance(pool, AsyncConnectionPool):
                self._async_pool = pool
            else:
                raise InvalidInput(
                    "expected a connection string, a ConnectionPool, an AsyncConnectionPool or a "
                    f"tuple of both, not {type(pool).__name__}"
                )

    def blocking(self) -> Lender:
        """Return what lends connections to blocking callers."""
        if self._settings is not None:
            return Pool(self._settings)
        return UsersPool(self._pool) if self._pool is not None else _Nothing()

    def of_loop(self) -> AsyncLender:
        """Return what lends connections to the running event loop."""
        if self._settings is not None:
            return AsyncPool(self._settings)
        return AsyncUsersPool(self._async_pool) if self._async_pool is not None else _AsyncNothing()


class _Nothing:
    """Stands where the user gave no `ConnectionPool`."""

    @contextmanager
    def connection(self, patience: float) -> Iterator[Connection]:  # noqa: ARG002 -- see Lender
        raise InvalidInput("the store was given no ConnectionPool, which blocking calls need")
        yield  # makes it a generator

    def load(self) -> Load:
        return Load()

    def close(self) -> None:
        pass


class _AsyncNothing:
    """Stands where the user gave no `AsyncConnectionPool`."""

    @asynccontextmanager
    async def connection(
        self,
        patience: float,  # noqa: ARG002 -- see AsyncLender
    ) -> AsyncIterator[AsyncConnection]:
        raise InvalidInput("the store was given no AsyncConnectionPool, which coroutines need")
        yield  # makes it a generator

    def load(self) -> Load:
        return Load()

    def close(self) -> None:
        pass
