"""The stores, one for each backend."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langcairn.backends.memory import MemoryBackend
from langcairn.errors import InvalidInput
from langcairn.slow import DEFAULT_SLOW
from langcairn.store import DEFAULT_CACHE_BYTES, CheckpointStore

if TYPE_CHECKING:
    import os
    from datetime import timedelta

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langcairn.backends.base import Backend
    from langcairn.backends.postgres import PostgresBackend
    from langcairn.backends.sqlite import Synchronous


class MemoryCheckpointStore(CheckpointStore):
    """Keeps checkpoints in this process' memory; they are lost with it."""

    backend: MemoryBackend

    def __init__(
        self,
        *,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        slow_operation: timedelta | float | None = DEFAULT_SLOW,
    ) -> None:
        """Make an empty store; for the arguments see `CheckpointStore`."""
        super().__init__(
            MemoryBackend(), serde=serde, cache_bytes=cache_bytes, slow_operation=slow_operation
        )

    def stored_bytes(self) -> int:
        """Return the bytes of all rows and chunks with their keys, without Python's overhead."""
        return self.backend.stored_bytes()


class FileCheckpointStore(CheckpointStore):
    """Keeps checkpoints in plain files, one log for each execution."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        slow_operation: timedelta | float | None = DEFAULT_SLOW,
        **options: Any,
    ) -> None:
        """Open a directory, which is made on first use; for the rest see `CheckpointStore`.

        Args:
            directory: Where the logs are.
            serde: As for `CheckpointStore`.
            cache_bytes: As for `CheckpointStore`.
            slow_operation: As for `CheckpointStore`.
            **options: As for `langcairn.backends.file.FileBackend`.

        Raises:
            InvalidInput: An argument can't be used as it is.
        """
        backend = _backend("file", "FileBackend", directory, **options)
        super().__init__(
            backend, serde=serde, cache_bytes=cache_bytes, slow_operation=slow_operation
        )


class SqliteCheckpointStore(CheckpointStore):
    """Keeps checkpoints in one SQLite file, which any number of processes may share."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        table_name: str = "checkpoints",
        *,
        synchronous: Synchronous = "FULL",
        cache_size: int | None = None,
        busy_timeout: float | timedelta = 10.0,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        slow_operation: timedelta | float | None = DEFAULT_SLOW,
    ) -> None:
        """Open a file, which is made on first use; for the rest see `CheckpointStore`.

        Args:
            path: The file.
            table_name: The table of checkpoints; stores with different names may share a file.
            synchronous: What a loss of power may do: with ``"FULL"`` nothing, with ``"NORMAL"``
                undo the last commits, with ``"OFF"`` also destroy the file. A killed process
                loses nothing with any of them.
            cache_size: SQLite's page cache as its pragma takes it: pages, or if negative KiB.
            busy_timeout: How long to wait while other processes write [seconds].
            serde: As for `CheckpointStore`.
            cache_bytes: As for `CheckpointStore`.
            slow_operation: As for `CheckpointStore`.

        Raises:
            InvalidInput: An argument can't be used as it is.
        """
        backend = _backend(
            "sqlite",
            "SqliteBackend",
            path,
            table_name,
            synchronous=synchronous,
            cache_size=cache_size,
            busy_timeout=busy_timeout,
        )
        super().__init__(
            backend, serde=serde, cache_bytes=cache_bytes, slow_operation=slow_operation
        )


class PostgresCheckpointStore(CheckpointStore):
    """Keeps checkpoints in tables of a PostgreSQL database (extra ``postgres``)."""

    backend: PostgresBackend

    def __init__(
        self,
        conn_string: Any,
        table_name: str = "checkpoints",
        *,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        slow_operation: timedelta | float | None = DEFAULT_SLOW,
        **options: Any,
    ) -> None:
        """Connect to a database; for the rest see `CheckpointStore`.

        Args:
            conn_string: As libpq has it, with the pool's options in it if you like; or a pool of
                your own, or a tuple of a blocking and an async one.
            table_name: The table of checkpoints.
            serde: As for `CheckpointStore`.
            cache_bytes: As for `CheckpointStore`.
            slow_operation: As for `CheckpointStore`.
            **options: As for `langcairn.backends.postgres.PostgresBackend`.

        Raises:
            ImportError: psycopg is not installed.
            InvalidInput: An argument can't be used as it is.
        """
        backend = _backend("postgres", "PostgresBackend", conn_string, table_name, **options)
        super().__init__(
            backend, serde=serde, cache_bytes=cache_bytes, slow_operation=slow_operation
        )

    def init_schema(self, partitions: int | None = None) -> None:
        """Make the tables, which otherwise happens on first use.

        Args:
            partitions: Into how many parts to divide each by a hash of the execution id.

        Raises:
            StoreMisconfigured: The tables can't be made, or are there, divided otherwise.
        """
        self.backend.init_schema(partitions)

    async def ainit_schema(self, partitions: int | None = None) -> None:
        """Do as `init_schema`."""
        await self.backend.ainit_schema(partitions)


class RedisCheckpointStore(CheckpointStore):
    """Keeps checkpoints in Redis or Valkey, a cluster of them, or behind Sentinels (``redis``)."""

    def __init__(
        self,
        addr: str = "localhost:6379",
        *,
        prefix: str = "langgraph:",
        ttl: float | timedelta = 0,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        slow_operation: timedelta | float | None = DEFAULT_SLOW,
        **options: Any,
    ) -> None:
        """Connect to servers; for the rest see `CheckpointStore`.

        Args:
            addr: ``host:port``, or a URL.
            prefix: What every key begins with.
            ttl: When an execution that is no longer written to expires [seconds]; 0: never.
            serde: As for `CheckpointStore`.
            cache_bytes: As for `CheckpointStore`.
            slow_operation: As for `CheckpointStore`.
            **options: As for `langcairn.backends.redis.RedisBackend`.

        Raises:
            ImportError: redis-py is not installed.
            InvalidInput: An argument can't be used as it is.
        """
        backend = _backend("redis", "RedisBackend", addr, prefix=prefix, ttl=ttl, **options)
        super().__init__(
            backend, serde=serde, cache_bytes=cache_bytes, slow_operation=slow_operation
        )


def _backend(module: str, name: str, *args: Any, **options: Any) -> Backend:
    """Make a backend whose driver need not be installed for the others."""
    cls: type[Backend] = getattr(import_module(f"langcairn.backends.{module}"), name)
    try:
        return cls(*args, **options)
    except TypeError as error:
        # An option that doesn't exist; anything else wrong with them is checked by the backend.
        raise InvalidInput(f"{name.removesuffix('Backend')}CheckpointStore: {error}") from error
