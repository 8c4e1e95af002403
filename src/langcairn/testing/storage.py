"""Where a contract's tests store: stores on one place, and hands that reach below them."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, cast

import orjson

from langcairn.backends.base import FindCheckpoints
from langcairn.backends.memory import MemoryBackend
from langcairn.checks import with_check
from langcairn.codec.nodes import canonical
from langcairn.errors import CorruptData
from langcairn.store import CheckpointStore
from langcairn.stores import SqliteCheckpointStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from langcairn.backends.base import Backend, FoundCheckpoint


class Storage(ABC):
    """One place to store, empty at first.

    `open` gives a store on it; further calls give further stores on the same data, each with
    caches of its own, as other processes would have. The rest bypasses the stores, so that a
    mistake in reading can't hide one in writing, and damage can be done.

    Attributes:
        url: What another process opens with `langcairn.open_store`, also when this storage was
            closed; None: none can.
    """

    url: str | None = None

    @property
    def process_url(self) -> str | None:
        """What another process opens while this storage is open; None: none can."""
        return self.url

    def __init__(self) -> None:
        self._opened: list[CheckpointStore] = []
        self._own: CheckpointStore | None = None

    def open(self, **options: Any) -> CheckpointStore:
        """Open another store on this place."""
        store = self._open(**options)
        self._opened.append(store)
        return store

    @abstractmethod
    def _open(self, **options: Any) -> CheckpointStore:
        """Open a store; it is closed by `close`."""

    @property
    def backend(self) -> Backend:
        """A backend on this place, for requests that bypass stores and their caches."""
        if self._own is None:
            self._own = self.open()
        return self._own.backend

    def close(self) -> None:
        """Close all stores that were opened here."""
        while self._opened:
            self._opened.pop().close()

    @abstractmethod
    def chunks(self, execution_id: str) -> dict[str, bytes]:
        """Return all stored chunks of an execution."""

    @abstractmethod
    def replace_chunk(self, execution_id: str, id: str, data: bytes) -> None:
        """Store a chunk's bytes, in place of those that are stored or anew."""

    @abstractmethod
    def drop_chunk(self, execution_id: str, id: str) -> None:
        """Remove a chunk."""

    @abstractmethod
    def replace_column(
        self, execution_id: str, namespace: str, id: str, column: str, data: bytes
    ) -> None:
        """Replace the ``state``, ``metadata`` or ``graph`` of a stored checkpoint.

        Raises:
            ValueError: The system itself refuses to hold such bytes.
        """

    def forge_column(
        self, execution_id: str, namespace: str, id: str, column: str, data: bytes
    ) -> None:
        """Do as `replace_column`, and make the row's check anew, as whoever forges it would.

        Raises:
            ValueError: As `replace_column`.
        """
        query = FindCheckpoints(execution_id, namespace, id)
        (found,) = cast("list[FoundCheckpoint]", self.backend.execute(query))
        changes: dict[str, Any] = {"graph": b'{"v":4}', column: data}
        row = found.row._replace(**changes)
        with suppress(CorruptData, orjson.JSONDecodeError):  # then no check makes it readable
            state, metadata = (canonical(orjson.loads(d)) for d in (row.state, row.metadata))
            row = with_check(row._replace(state=state, metadata=metadata))
        self.replace_column(execution_id, namespace, id, column, data)
        self.replace_column(execution_id, namespace, id, "graph", row.graph)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class MemoryStorage(Storage):
    """A memory backend, which several stores share as several processes share a server."""

    def __init__(self) -> None:
        super().__init__()
        self._backend = MemoryBackend()

    def _open(self, **options: Any) -> CheckpointStore:
        return CheckpointStore(self._backend, **options)

    def chunks(self, execution_id: str) -> dict[str, bytes]:  # noqa: D102 -- inherited
        execution = self._backend._executions.get(execution_id)  # noqa: SLF001 -- below the store
        return {id: data for id, (_, data) in execution.chunks.items()} if execution else {}

    def replace_chunk(self, execution_id: str, id: str, data: bytes) -> None:  # noqa: D102 -- inherited
        chunks: Any = self._backend._executions[execution_id].chunks  # noqa: SLF001 -- below the store
        chunks[id] = (chunks.get(id, (0, b""))[0], data)

    def drop_chunk(self, execution_id: str, id: str) -> None:  # noqa: D102 -- inherited
        chunks: dict[Any, Any] = self._backend._executions[execution_id].chunks  # noqa: SLF001 -- below the store
        del chunks[id]

    def replace_column(  # noqa: D102 -- inherited
        self, execution_id: str, namespace: str, id: str, column: str, data: bytes
    ) -> None:
        rows = self._backend._executions[execution_id].checkpoints  # noqa: SLF001 -- below the store
        changes: dict[str, Any] = {column: data}
        rows[namespace, id] = rows[namespace, id]._replace(**changes)


class SqliteStorage(Storage):
    """A SQLite file. It need not survive a loss of power, so that tests are fast."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.url = f"sqlite:///{path}"

    def _open(self, **options: Any) -> CheckpointStore:
        return SqliteCheckpointStore(self._path, **{"synchronous": "OFF", **options})

    def chunks(self, execution_id: str) -> dict[str, bytes]:  # noqa: D102 -- inherited
        with self._connection() as connection:
            return dict(
                connection.execute(
                    "SELECT id, data FROM checkpoint_chunks JOIN checkpoint_executions"
                    " ON execution = number WHERE execution_id = ?",
                    (execution_id,),
                ).fetchall()
            )

    def replace_chunk(self, execution_id: str, id: str, data: bytes) -> None:  # noqa: D102 -- inherited
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO checkpoint_chunks (execution, id, epoch, data)"
                " SELECT number, ?, 0, ? FROM checkpoint_executions WHERE execution_id = ?"
                " ON CONFLICT DO UPDATE SET data = excluded.data",
                (id, data, execution_id),
            )

    def drop_chunk(self, execution_id: str, id: str) -> None:  # noqa: D102 -- inherited
        with self._connection() as connection:
            connection.execute(
                "DELETE FROM checkpoint_chunks WHERE id = ? AND execution ="
                " (SELECT number FROM checkpoint_executions WHERE execution_id = ?)",
                (id, execution_id),
            )

    def replace_column(  # noqa: D102 -- inherited
        self, execution_id: str, namespace: str, id: str, column: str, data: bytes
    ) -> None:
        with self._connection() as connection:
            connection.execute(
                f"UPDATE checkpoints SET {column} = CAST(? AS TEXT)"  # noqa: S608 -- a constant of a test
                " WHERE execution_id = ? AND namespace = ? AND id = ?",
                (data, execution_id, namespace, id),
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path)
        try:
            with connection:
                yield connection
        finally:
            connection.close()
