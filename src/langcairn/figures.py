"""Figures about a store: whether it works, how much is in it, and how much sharing saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langcairn.backends.base import (
    ChunkId,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FoundCheckpoint,
    Position,
)
from langcairn.backends.measures import (
    Measure,
    Measured,
    MeasureExecutions,
    Ping,
    Server,
    Stored,
)
from langcairn.codec.reader import parse
from langcairn.codec.sizes import Sizes
from langcairn.observing import clock
from langcairn.records import place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from langcairn.operations import Codec, Operation

    Progress = Callable[[int, int], object]

_ROWS = 500  # [checkpoints read at a time]
_CHUNKS = 100  # [chunks read at a time; their content is needed for a moment]
_EXECUTIONS = 1000  # [ids read at a time]


@dataclass(frozen=True, slots=True)
class Health:
    """That a store can be used, and by what.

    Attributes:
        backend: The backend: ``sqlite``, ``postgres``, …
        product: What stores: ``SQLite``, ``PostgreSQL``, ``Valkey``, …
        version: Its version.
        latency: What one small request took [s].
        writable: Whether it would take a put, as far as it can tell without one: a replica, a
            read-only file or a role without rights wouldn't.
    """

    backend: str
    product: str
    version: str
    latency: float
    writable: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """How much is in a store, or in one of its executions.

    Attributes:
        backend: The backend: ``sqlite``, ``postgres``, …
        executions: How many executions.
        checkpoints: How many checkpoints.
        writes: How many pending writes.
        chunks: How many chunks, shared by these.
        stored_bytes: What all this takes as the backend holds it, without keys and indexes (on
            Redis with them) [bytes].
        logical_bytes: What the states would take if every checkpoint were stored whole,
            serialized and not compressed [bytes]. None: not asked for.
        disk_bytes: What the backend takes, indexes and unused space included [bytes]. None:
            unknown.
        free_bytes: What is left: of the file system, or below a server's limit [bytes]. None:
            unknown.
        total_bytes: How much that was, all in all [bytes]. None: unknown.
        oldest: When the oldest checkpoint was taken; None: there is none.
        newest: When the newest was; None: there is none.
        estimated: Names of those figures here that are no exact counts.
    """

    backend: str
    executions: int
    checkpoints: int
    writes: int
    chunks: int
    stored_bytes: int
    logical_bytes: int | None
    disk_bytes: int | None
    free_bytes: int | None
    total_bytes: int | None
    oldest: datetime | None
    newest: datetime | None
    estimated: frozenset[str]

    @property
    def sharing_ratio(self) -> float | None:
        """How many times larger the states are than what is stored; None: not asked for."""
        if self.logical_bytes is None or not self.stored_bytes:
            return None
        return self.logical_bytes / self.stored_bytes

    @property
    def used_ratio(self) -> float | None:
        """How full the file system or server is, from 0 to 1; None: unknown."""
        if self.free_bytes is None or not self.total_bytes:
            return None
        return 1 - self.free_bytes / self.total_bytes


@dataclass(frozen=True, slots=True)
class ExecutionStats:
    """How much is stored of one execution.

    Attributes:
        execution_id: Its id; for LangGraph the thread id.
        checkpoints: How many checkpoints.
        writes: How many pending writes.
        chunks: How many chunks, shared by these.
        stored_bytes: What all this takes, as in `Stats` [bytes].
        oldest: When its oldest checkpoint was taken; None: it has none.
        newest: When its newest was; None: it has none.
    """

    execution_id: str
    checkpoints: int
    writes: int
    chunks: int
    stored_bytes: int
    oldest: datetime | None
    newest: datetime | None


def test_connection(backend: str) -> Operation[Health]:
    """Use the storage system once."""
    begin = clock()
    server: Server = yield Ping()
    return Health(backend, server.product, server.version, clock() - begin, server.writable)


def stats(
    codec: Codec,
    backend: str,
    execution_id: str | None,
    *,
    logical: bool,
    on_progress: Progress | None,
) -> Operation[Stats]:
    """Measure a store, or one execution of it.

    Args:
        codec: How chunks are stored.
        backend: The name of its backend.
        execution_id: The execution; None: all.
        logical: Whether to read everything, to see how large the states are.
        on_progress: Is told how many executions were read, and of how many.

    Raises:
        CorruptData: What was read to see how large it is, is damaged.
    """
    if execution_id is None:
        measured: Measured = yield Measure()
    else:
        found: list[tuple[str, Stored]] = yield MeasureExecutions(ids=[execution_id])
        measured = Measured(len(found), found[0][1] if found else Stored())
    size = None
    if logical:
        size = 0
        ids = [execution_id] if execution_id is not None else (yield from _executions())
        for done, id in enumerate(ids, 1):
            size += yield from _logical_bytes(codec, id)
            if on_progress is not None:
                on_progress(done, len(ids))
    stored = measured.stored
    return Stats(
        backend,
        measured.executions,
        stored.checkpoints,
        stored.writes,
        stored.chunks,
        stored.bytes,
        size,
        measured.disk_bytes,
        measured.free_bytes,
        measured.total_bytes,
        stored.oldest,
        stored.newest,
        frozenset(_PUBLIC.get(name, name) for name in measured.estimated),
    )


_PUBLIC = {"bytes": "stored_bytes"}


def execution_stats(
    after: str, limit: int | None, ids: Sequence[str] | None
) -> Operation[list[ExecutionStats]]:
    """Measure executions one by one, in ascending order of their ids."""
    found: list[tuple[str, Stored]] = yield MeasureExecutions(after, limit, ids)
    return [ExecutionStats(id, *stored) for id, stored in found]


def _executions() -> Operation[list[str]]:
    ids: list[str] = []
    while True:
        page: list[str] = yield FindExecutions(ids[-1] if ids else "", _EXECUTIONS)
        ids += page
        if len(page) < _EXECUTIONS:
            return ids


def _logical_bytes(codec: Codec, execution_id: str) -> Operation[int]:
    """Return what the states of an execution's checkpoints would take without sharing [bytes].

    A checkpoint that is removed meanwhile isn't counted.
    """
    sizes = Sizes(codec.format)
    total = 0
    query = FindCheckpoints(execution_id, limit=_ROWS, with_writes=False)
    while True:
        found: list[FoundCheckpoint] = yield query
        rows = [element.row for element in found]
        nodes = [parse(row.state, f"the state of {place(row)}") for row in rows]
        gone = yield from _fill(execution_id, sizes, nodes)
        total += sum(sizes.of(node) for node in nodes if not gone or not sizes.missing([node]))
        if len(found) < _ROWS:
            return total
        last = rows[-1]
        query = query._replace(after=Position(last.id, last.execution_id, last.namespace))


def _fill(execution_id: str, sizes: Sizes, nodes: Sequence[object]) -> Operation[set[ChunkId]]:
    """Read the chunks of nodes. Returns those that aren't stored."""
    gone: set[ChunkId] = set()
    while missing := sizes.missing(nodes) - gone:
        ids = sorted(missing)
        for start in range(0, len(ids), _CHUNKS):
            batch = ids[start : start + _CHUNKS]
            chunks: dict[ChunkId, bytes] = yield FetchChunks(execution_id, batch)
            sizes.add(chunks)
            gone |= set(batch) - chunks.keys()
    return gone
