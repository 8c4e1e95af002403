"""A backend that stands before another one and changes the form of what is stored."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from langcairn.backends.base import (
    Backend,
    ChunkId,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindWrites,
    FoundCheckpoint,
    Rewrite,
    Transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.backends.base import CheckpointRow, Request, WriteRow
    from langcairn.backends.measures import Load


class StandingBefore(Backend):
    """Passes requests on to another backend, rows and chunks in another form.

    Attributes:
        inner: The backend that stores.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self._outward: dict[type, Callable[[Any], Request]] = {
            Commit: self._commit,
            Transaction: lambda one: Transaction([self._commit(part) for part in one.commits]),
            FindCheckpoints: self._query,
            Rewrite: self._rewrite,
        }
        self._inward: dict[type, Callable[[Any, Any], object]] = {
            FindCheckpoints: lambda _, found: [self._found(one) for one in found],
            FindWrites: lambda _, writes: [self.open_write(write) for write in writes],
            FetchChunks: self._fetched,
        }

    # What a subclass does

    @abstractmethod
    def seal_row(self, row: CheckpointRow) -> CheckpointRow:
        """Return a checkpoint as it is stored."""

    @abstractmethod
    def open_row(self, row: CheckpointRow) -> CheckpointRow:
        """Return a checkpoint that was stored."""

    @abstractmethod
    def seal_write(self, write: WriteRow) -> WriteRow:
        """Return a pending write as it is stored."""

    @abstractmethod
    def open_write(self, write: WriteRow) -> WriteRow:
        """Return a pending write that was stored."""

    def seal_chunk(self, execution_id: str, id: ChunkId, data: bytes) -> bytes:  # noqa: ARG002 -- for subclasses
        """Return a chunk as it is stored."""
        return data

    def open_chunk(self, execution_id: str, id: ChunkId, data: bytes) -> bytes:  # noqa: ARG002 -- for subclasses
        """Return a chunk that was stored."""
        return data

    def searchable(self, query: FindCheckpoints) -> FindCheckpoints:
        """Return a query without conditions on what the inner backend can't see."""
        return query

    # Requests

    @override
    def execute(self, request: Request) -> object:
        return self._answer(request, self.inner.execute(self._passed_on(request)))

    @override
    def execute_all(self, commits: Sequence[Commit]) -> Sequence[int | Exception]:
        return self.inner.execute_all([self._commit(commit) for commit in commits])

    @override
    async def aexecute(self, request: Request) -> object:
        return self._answer(request, await self.inner.aexecute(self._passed_on(request)))

    @property
    @override
    def name(self) -> str:
        return self.inner.name

    @override
    def load(self) -> Load:
        return self.inner.load()

    @override
    def close(self) -> None:
        self.inner.close()

    @override
    async def aclose(self) -> None:
        await self.inner.aclose()

    def _passed_on(self, request: Request) -> Request:
        change = self._outward.get(type(request))
        return request if change is None else change(request)

    def _answer(self, request: Request, answer: object) -> object:
        change = self._inward.get(type(request))
        return answer if change is None else change(request, answer)

    def _commit(self, commit: Commit) -> Commit:
        execution_id = commit.execution_id
        return commit._replace(
            chunks=[(id, self.seal_chunk(execution_id, id, data)) for id, data in commit.chunks],
            checkpoints=[self.seal_row(row) for row in commit.checkpoints],
            writes=[self.seal_write(write) for write in commit.writes],
        )

    def _rewrite(self, rewrite: Rewrite) -> Rewrite:
        if rewrite.checkpoints or rewrite.writes:
            # A row as it was read is not a row as it is stored.
            raise ValueError(f"{type(self).__name__} rewrites chunks only; ask the inner backend")
        execution_id = rewrite.execution_id
        return rewrite._replace(
            chunks=[(id, self.seal_chunk(execution_id, id, data)) for id, data in rewrite.chunks]
        )

    def _query(self, query: FindCheckpoints) -> FindCheckpoints:
        return self.searchable(query)

    def _found(self, found: FoundCheckpoint) -> FoundCheckpoint:
        writes = [self.open_write(write) for write in found.writes]
        return FoundCheckpoint(self.open_row(found.row), writes, found.epoch)

    def _fetched(self, fetch: FetchChunks, answer: object) -> dict[ChunkId, bytes]:
        chunks = cast("dict[ChunkId, bytes]", answer)
        return {id: self.open_chunk(fetch.execution_id, id, data) for id, data in chunks.items()}
