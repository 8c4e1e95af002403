"""Putting whole executions into a store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from langcairn.backends.base import (
    CheckpointRow,
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindWrites,
    FoundCheckpoint,
    Remove,
    Survey,
    Surveyed,
    WriteRow,
)
from langcairn.dictionaries import load
from langcairn.errors import CorruptData, StaleEpoch
from langcairn.maintenance import sweep
from langcairn.operations import ATTEMPTS, too_busy
from langcairn.transfer.reading import bytes_of
from langcairn.transfer.running import At, Steps, on

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.store import CheckpointStore

_logger = logging.getLogger(__name__)

# A commit holds all rows of nearly every execution. Redis takes 1 GB at once; databases are
# quicker with less.
_COMMIT = 32 * 2**20  # [bytes]


class Source(Protocol):
    """Chunks, some megabytes at a time."""

    def next(self) -> Steps[dict[ChunkId, bytes]]:
        """Return the next chunks; an empty dict at the end."""


class Rows(NamedTuple):
    """The rows of an execution."""

    checkpoints: list[CheckpointRow]
    writes: list[WriteRow]


def learn_dictionaries(store: CheckpointStore) -> Steps[None]:
    """Let a store pack what it is about to get with its newest dictionary, if it has one."""
    yield from on(store, load(store.codec.format))


def is_there(store: CheckpointStore, execution_id: str) -> Steps[bool]:
    """Tell whether a store has checkpoints or writes of an execution, readable or not."""
    query = FindCheckpoints(execution_id, limit=1, with_writes=False)
    try:
        found: list[FoundCheckpoint] = yield At(store, query)
        if found:
            return True
        writes: list[WriteRow] = yield At(store, FindWrites(execution_id))
    except CorruptData:
        return True
    return bool(writes)


def place(
    store: CheckpointStore,
    execution_id: str,
    source: Callable[[], Source],
    rows: Callable[[], Steps[Rows]],
    *,
    replace: bool,
) -> Steps[Rows]:
    """Store an execution: first its chunks, then its rows in one commit.

    Only rows of more than 32 MB in all take several commits. Where an execution is replaced, it is
    empty for the moment between two requests.

    Args:
        store: Where.
        execution_id: The execution.
        source: Gives its chunks, from the first one each time it is called.
        rows: Gives its rows, once all chunks are stored.
        replace: Whether what is stored of it now is removed.

    Returns:
        The rows that were stored.

    Raises:
        StoreUnavailable: It was cleaned up by others all the time.
    """
    for _ in range(ATTEMPTS):
        try:
            epoch = yield from _store_chunks(store, execution_id, source(), check=replace)
            chosen = yield from rows()
            if replace:
                epoch = yield from _remove_all(store, execution_id, epoch)
            committed = epoch
            for part in _parts(chosen):
                committed = yield At(store, Commit(execution_id, committed, (), *part))
        except StaleEpoch:
            continue
        except CorruptData:
            if not replace:
                raise
            # What is there is too damaged to be written to.
            yield At(store, Clear(execution_id))
            replace = False
            continue
        finally:
            store.codec.caches.drop(execution_id)
        if replace:
            try:
                yield from on(store, sweep(store.codec, execution_id, epoch))
            except CorruptData as error:
                # What was asked for is done; only space is lost.
                _logger.warning("space of execution %r was not freed: %s", execution_id, error)
        return chosen
    raise too_busy(execution_id)


def _store_chunks(
    store: CheckpointStore, execution_id: str, source: Source, *, check: bool
) -> Steps[int]:
    """Store chunks. Returns the execution's epoch.

    Raises:
        CorruptData: One of them was stored before, and is damaged.
    """
    epoch: int | None = None
    while batch := (yield from source.next()):
        packed = [(id, _packed(store, id, sealed)) for id, sealed in batch.items()]
        epoch = yield At(store, Commit(execution_id, epoch, packed))
        if check:
            # What is stored already keeps its data, also if that is damaged.
            stored: dict[ChunkId, bytes] = yield At(store, FetchChunks(execution_id, list(batch)))
            for id in batch:
                store.codec.format.unseal(id, stored.get(id, b""))
    if epoch is None:
        epoch = yield At(store, Commit(execution_id, None))
    return epoch


def _packed(store: CheckpointStore, id: ChunkId, sealed: bytes) -> bytes:
    """Return a chunk as this store would have packed it, if that is smaller."""
    try:
        return store.codec.format.repacked(id, sealed) or sealed
    except CorruptData:
        return sealed  # it comes as it was found; rows that need it don't


def _remove_all(store: CheckpointStore, execution_id: str, epoch: int) -> Steps[int]:
    """Remove all rows of an execution. Returns its epoch from then on."""
    surveyed: Surveyed = yield At(store, Survey(execution_id))
    writes: list[WriteRow] = yield At(store, FindWrites(execution_id))
    keys = {*surveyed.checkpoints, *((write.namespace, write.checkpoint_id) for write in writes)}
    if not keys:
        return epoch
    raised: int | None = yield At(store, Remove(execution_id, sorted(keys)))
    if raised is None:
        raise StaleEpoch("the execution was cleared")
    return raised


def _parts(rows: Rows) -> list[tuple[list[CheckpointRow], list[WriteRow]]]:
    """Return rows in parts of what one commit takes: the oldest first, each with its writes."""
    by_key: dict[tuple[str, str], list[WriteRow]] = {}
    for write in rows.writes:
        by_key.setdefault((write.namespace, write.checkpoint_id), []).append(write)
    parts: list[tuple[list[CheckpointRow], list[WriteRow]]] = []
    part: tuple[list[CheckpointRow], list[WriteRow]] = ([], [])
    held = 0
    for row in sorted(rows.checkpoints, key=lambda row: (row.id, row.namespace)):
        writes = by_key.pop((row.namespace, row.id), [])
        part[0].append(row)
        part[1].extend(writes)
        held += bytes_of([row, *writes])
        if held >= _COMMIT:
            parts.append(part)
            part, held = ([], []), 0
    part[1].extend(write for writes in by_key.values() for write in writes)
    return [*parts, part]
