"""What is where in one log: an index in memory that is built from its frames."""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.base import ChunkId
from langcairn.backends.conditions import NO_LEASE, Deadline
from langcairn.backends.file.layout import (
    CommitEntry,
    Damaged,
    LeaseEntry,
    RemoveEntry,
    SweepEntry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langcairn.backends.base import FindCheckpoints
    from langcairn.backends.file.layout import Entry

_OVERHEAD = 40
"""What an index entry of a blob costs in the log, at least about. [bytes]"""


class Span(NamedTuple):
    """Where a blob stands in the log."""

    offset: int
    size: int


class StoredCheckpoint(NamedTuple):
    """What is known of a checkpoint without reading its blob."""

    namespace: str
    id: str
    timestamp: int
    span: Span


class StoredWrite(NamedTuple):
    """What is known of a pending write without reading its blob."""

    key: tuple[str, str, str, int]
    """Namespace, checkpoint id, task id, idx."""
    span: Span


class StoredChunk(NamedTuple):
    """What is known of a chunk without reading its blob."""

    epoch: int
    """That of the last commit which carried it."""
    span: Span


class Index:
    """The checkpoints, writes and chunks of one log.

    Attributes:
        epoch: The execution's.
        lease: The lease on it.
        chunks: Id to where it is.
        live: The bytes that a log with nothing else in it would have, about.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.lease = NO_LEASE
        self.chunks: dict[ChunkId, StoredChunk] = {}
        self.live = 0
        self._checkpoints: dict[str, dict[str, StoredCheckpoint]] = {}  # by namespace and id
        self._order: dict[str, list[str]] = {}  # namespace to checkpoint ids, ascending
        # By namespace and checkpoint id, then by task id and idx.
        self._writes: dict[tuple[str, str], dict[tuple[str, int], StoredWrite]] = {}

    def apply(self, entries: Sequence[Entry], data_at: int) -> None:
        """Take in the entries of a frame.

        Args:
            entries: What was done, in this order.
            data_at: Where the frame's blobs begin.

        Raises:
            Damaged: They aren't what this code writes. The index is of no more use.
        """
        try:
            for entry in entries:
                if isinstance(entry, CommitEntry):
                    data_at = self._commit(entry, data_at)
                elif isinstance(entry, RemoveEntry):
                    self._remove(entry)
                elif isinstance(entry, LeaseEntry):
                    self.lease = Deadline._make(entry)
                elif isinstance(entry, SweepEntry):
                    self._sweep(entry)
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"the index of a frame has unknown content: {error}") from error

    def _commit(self, entry: CommitEntry, offset: int) -> int:
        epoch = self.epoch = max(self.epoch, entry.epoch)
        chunks = self.chunks
        for id in entry.again:
            chunk = ChunkId(id)
            chunks[chunk] = StoredChunk(epoch, chunks[chunk].span)
        for id, size in entry.chunks:
            self._drop(chunks.get(ChunkId(id)))  # rewritten in another form
            # A log that was compacted has its chunks in the epochs in which they were committed.
            chunks[ChunkId(id)] = StoredChunk(entry.epoch, Span(offset, size))
            self.live += size + _OVERHEAD
            offset += size
        for namespace, id, timestamp, size in entry.checkpoints:
            self._put(StoredCheckpoint(namespace, id, timestamp, Span(offset, size)))
            offset += size
        for namespace, checkpoint_id, task_id, idx, size in entry.writes:
            rows = self._writes.setdefault((namespace, checkpoint_id), {})
            self._drop(rows.get((task_id, idx)))
            key = (namespace, checkpoint_id, task_id, idx)
            rows[task_id, idx] = StoredWrite(key, Span(offset, size))
            self.live += size + _OVERHEAD
            offset += size
        return offset

    def _put(self, stored: StoredCheckpoint) -> None:
        rows = self._checkpoints.setdefault(stored.namespace, {})
        old = rows.get(stored.id)
        if old is None:
            order = self._order.setdefault(stored.namespace, [])
            if not order or order[-1] < stored.id:
                order.append(stored.id)
            else:
                insort(order, stored.id)
        self._drop(old)
        rows[stored.id] = stored
        self.live += stored.span.size + _OVERHEAD

    def _remove(self, entry: RemoveEntry) -> None:
        self.epoch = max(self.epoch, entry.epoch)
        for namespace, id in entry.checkpoints:
            for write in self._writes.pop((namespace, id), {}).values():
                self._drop(write)
            stored = self._checkpoints.get(namespace, {}).pop(id, None)
            if stored is not None:
                order = self._order[namespace]
                del order[bisect_left(order, id)]
                self._drop(stored)

    def _sweep(self, entry: SweepEntry) -> None:
        for id in entry.chunks:
            self._drop(self.chunks.pop(ChunkId(id), None))

    def _drop(self, stored: StoredCheckpoint | StoredWrite | StoredChunk | None) -> None:
        if stored is not None:
            self.live -= stored.span.size + _OVERHEAD

    def __len__(self) -> int:
        """Return how many things are stored, as a measure of what the index costs in memory."""
        rows = sum(map(len, self._checkpoints.values()))
        return rows + len(self.chunks) + sum(map(len, self._writes.values()))

    def newest(self, namespace: str) -> str | None:
        """Return the highest id of a namespace's checkpoints."""
        ids = self._order.get(namespace)
        return ids[-1] if ids else None

    def checkpoint(self, namespace: str, id: str) -> StoredCheckpoint | None:
        """Return where a checkpoint is."""
        return self._checkpoints.get(namespace, {}).get(id)

    def write(self, key: tuple[str, str, str, int]) -> StoredWrite | None:
        """Return where a pending write is."""
        namespace, checkpoint_id, task_id, idx = key
        return self._writes.get((namespace, checkpoint_id), {}).get((task_id, idx))

    def __contains__(self, key: tuple[str, str, str, int]) -> bool:
        """Tell whether a pending write is stored: namespace, checkpoint id, task id, idx."""
        return key[2:] in self._writes.get(key[:2], ())

    def ids(self) -> Iterator[str]:
        """Yield the ids of all checkpoints; one in several namespaces several times."""
        for rows in self._checkpoints.values():
            yield from rows

    def checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Yield all checkpoints, in no certain order."""
        for rows in self._checkpoints.values():
            yield from rows.values()

    def writes(self) -> list[StoredWrite]:
        """Return all pending writes."""
        return [write for rows in self._writes.values() for write in rows.values()]

    def writes_of(self, checkpoint: StoredCheckpoint) -> list[StoredWrite]:
        """Return the pending writes of a checkpoint, in no certain order."""
        return list(self._writes.get((checkpoint.namespace, checkpoint.id), {}).values())

    def find(self, query: FindCheckpoints) -> Iterator[StoredCheckpoint]:
        """Yield the checkpoints with the keys that a query means, newest first.

        Its conditions on executions, times and metadata are not applied.
        """
        namespaces = self._order if query.namespace is None else [query.namespace]
        if query.id is not None:
            for namespace in sorted(namespaces, reverse=True):
                stored = self._checkpoints.get(namespace, {}).get(query.id)
                if stored is not None and (query.before_id is None or query.id < query.before_id):
                    yield stored
            return
        runs = [self._newest_first(namespace, query) for namespace in namespaces]
        if len(runs) == 1:
            yield from runs[0]
        else:
            yield from merge(*runs, key=lambda row: (row.id, row.namespace), reverse=True)

    def _newest_first(self, namespace: str, query: FindCheckpoints) -> Iterator[StoredCheckpoint]:
        ids = self._order.get(namespace, [])
        end = len(ids) if query.before_id is None else bisect_left(ids, query.before_id)
        if query.after is not None:
            # The id itself may be wanted, of another execution or namespace.
            end = min(end, bisect_left(ids, query.after.id) + 1)
        rows = self._checkpoints.get(namespace, {})
        for i in range(min(end, len(ids)) - 1, -1, -1):
            yield rows[ids[i]]
