"""The stores, one for each backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn.backends.memory import MemoryBackend
from langcairn.backends.sqlite import SqliteBackend, Synchronous
from langcairn.store import DEFAULT_CACHE_BYTES, CheckpointStore

if TYPE_CHECKING:
    import os
    from datetime import timedelta

    from langgraph.checkpoint.serde.base import SerializerProtocol


class MemoryCheckpointStore(CheckpointStore):
    """Keeps checkpoints in this process' memory; they are lost with it."""

    backend: MemoryBackend

    def __init__(
        self, *, serde: SerializerProtocol | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        """Make an empty store; for the arguments see `CheckpointStore`."""
        super().__init__(MemoryBackend(), serde=serde, cache_bytes=cache_bytes)

    def stored_bytes(self) -> int:
        """Return the bytes of all rows and chunks with their keys, without Python's overhead."""
        return self.backend.stored_bytes()


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

        Raises:
            InvalidInput: An argument can't be used as it is.
        """
        backend = SqliteBackend(
            path,
            table_name,
            synchronous=synchronous,
            cache_size=cache_size,
            busy_timeout=busy_timeout,
        )
        super().__init__(backend, serde=serde, cache_bytes=cache_bytes)
