"""Removing checkpoints and freeing what nothing refers to any more.

Removal has two steps, so that no lock is held while references are counted:

1. `Remove` deletes rows and raises the execution's epoch, in one transaction. From then on no
   writer can refer to a chunk that it only remembers: its commit is refused, and it repeats the
   put with every chunk in it, which marks them as of the new epoch.
2. `Sweep` deletes the chunks that no row refers to and that were last committed before the new
   epoch, unless the epoch has changed again; then the next sweep will find them.

A crash between the two leaves garbage until the next sweep, never a dangling reference.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

from langcairn.backends.base import (
    CheckpointRow,
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Position,
    Remove,
    Sweep,
    WriteRow,
)
from langcairn.checks import checked_write, moved, moved_write
from langcairn.codec.reader import Content, parse, references
from langcairn.errors import CorruptData, InvalidInput, StaleEpoch
from langcairn.operations import ATTEMPTS, Codec, Operation, too_busy
from langcairn.records import fields_from_json, only_one, place, valid_text

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from langcairn.cache import ExecutionCache
    from langcairn.codec.nodes import Node

    Rows = tuple[Sequence[CheckpointRow], Sequence[WriteRow]]

T = TypeVar("T")

_logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and checkpoint id."""

_ROWS = 500  # [rows read at a time; they are small, the content is in chunks]
_CHUNKS = 500  # [chunks moved or removed at a time]
_CONTENT = 100  # [chunks read at a time only to know their size]


def delete(codec: Codec, query: FindCheckpoints) -> Operation[bool]:
    """Delete the one checkpoint that a query finds. Returns whether there was one.

    Raises:
        AmbiguousCheckpoint: The query finds several; nothing was deleted.
    """
    found: list[FoundCheckpoint] = yield query
    only_one([element.row for element in found])
    for element in found:
        row = element.row
        yield from remove(codec, row.execution_id, [(row.namespace, row.id)])
    return bool(found)


def clear(codec: Codec, execution_id: str) -> Operation[bool]:
    """Delete everything of an execution. Returns whether there was something."""
    existed: bool = yield Clear(execution_id)
    codec.caches.drop(execution_id)
    return existed


def delete_for_runs(codec: Codec, run_ids: Sequence[str]) -> Operation[None]:
    """Delete the checkpoints whose metadata has one of these run ids."""
    for run_id in map(_run_id, run_ids):
        query = FindCheckpoints(metadata={"run_id": run_id}, with_writes=False)
        by_execution: dict[str, list[tuple[str, str]]] = {}
        for row in (yield from read_rows(query)):
            if metadata_of(codec, row).get("run_id") == run_id:
                by_execution.setdefault(row.execution_id, []).append((row.namespace, row.id))
        for execution_id, keys in by_execution.items():
            yield from remove(codec, execution_id, keys)


def _run_id(value: object) -> str:
    return valid_text(str(value) if isinstance(value, UUID) else value, "run_id")


def prune(codec: Codec, execution_id: str, strategy: str) -> Operation[None]:
    """Remove checkpoints of an execution as LangGraph's ``prune`` says.

    ``keep_latest`` keeps the newest of each namespace, and those ancestors of it from which a
    `DeltaChannel` still has to be rebuilt.

    Raises:
        InvalidInput: There is no such strategy.
    """
    if strategy == "delete":
        yield from clear(codec, execution_id)
        return
    check_strategy(strategy)
    rows = yield from read_rows(FindCheckpoints(execution_id, with_writes=False))
    kept: set[Key] = set()
    newest: dict[str, str] = {}
    by_key = {(row.namespace, row.id): row for row in rows}
    for row in rows:
        if row.namespace not in newest:  # rows come newest first
            newest[row.namespace] = row.id
            kept.update((a.namespace, a.id) for a in needed(codec, row, by_key))
    surplus = [key for key in by_key if key not in kept]
    writes: list[WriteRow] = yield FindWrites(execution_id)
    orphans = orphans_of(writes, by_key, newest)
    if surplus or orphans:
        yield from remove(codec, execution_id, [*surplus, *orphans])


def orphans_of(
    writes: Iterable[WriteRow], by_key: Container[Key], newest: Mapping[str, str]
) -> list[Key]:
    """Return the keys of checkpoints that don't exist, and won't, but have pending writes.

    Writes may arrive before their checkpoint does. Those of a checkpoint older than the newest
    belong to none that will still come.

    Args:
        writes: The writes.
        by_key: Holds the keys of the checkpoints.
        newest: The newest id of each namespace.
    """
    return sorted(
        {
            (write.namespace, write.checkpoint_id)
            for write in writes
            if (write.namespace, write.checkpoint_id) not in by_key
            and write.checkpoint_id < newest.get(write.namespace, "")
        }
    )


def check_strategy(strategy: str) -> None:
    """Check the name of a way to prune.

    Raises:
        InvalidInput: There is no such strategy.
    """
    if strategy not in ("keep_latest", "delete"):
        raise InvalidInput(f"unknown strategy {strategy!r}: use 'keep_latest' or 'delete'")


def needed(
    codec: Codec, row: CheckpointRow, by_key: Mapping[Key, CheckpointRow]
) -> Iterator[CheckpointRow]:
    """Yield a checkpoint and the ancestors that its delta channels are rebuilt from."""
    yield row
    # LangGraph counts, in the metadata, what each delta channel has behind it since its last
    # snapshot; a channel that isn't named there has its whole value in the checkpoint.
    wanted = set(metadata_of(codec, row).get("counters_since_delta_snapshot") or ())
    if wanted:
        wanted -= _channels(row)
    seen = {row.id}  # parents may go in a circle: a put may be repeated with its own config
    while wanted and row.parent_id is not None and row.parent_id not in seen:
        seen.add(row.parent_id)
        parent = by_key.get((row.namespace, row.parent_id))
        if parent is None:
            return
        row = parent
        wanted -= _channels(row)
        yield row


def _channels(row: CheckpointRow) -> set[str]:
    state = parse(row.state, f"the state of {place(row)}")
    return set(state) if type(state) is dict else set()


def metadata_of(codec: Codec, row: CheckpointRow) -> dict[str, Any]:
    """Return the metadata of a row.

    Raises:
        CorruptData: It is damaged.
    """
    return fields_from_json(row.metadata, codec.plain, f"the metadata of {place(row)}")


def copy(
    codec: Codec, source: str, target: str, choose: Callable[[Rows], Rows] | None = None
) -> Operation[int]:
    """Copy checkpoints and writes of one execution into another.

    Checkpoints that the target has under the same key are replaced.

    Args:
        codec: Whose caches to keep right.
        source: The execution.
        target: The other one.
        choose: Returns which checkpoints, newest first, and writes to copy; None: all.

    Returns:
        How many checkpoints were copied; 0 if there is no source.

    Raises:
        CorruptData: The source lacks a chunk that it refers to; the target is as before.
    """
    if source == target:
        raise InvalidInput(f"source and target are the same execution: {source!r}")
    for attempt in range(ATTEMPTS):
        rows: Sequence[CheckpointRow] = yield from read_rows(
            FindCheckpoints(source, with_writes=False)
        )
        writes: Sequence[WriteRow] = yield FindWrites(source)
        if choose is not None:
            rows, writes = choose((rows, writes))
        if not rows and not writes:
            return 0
        try:
            epoch = yield from _copy_chunks(codec, source, target, rows, writes)
            yield Commit(
                target,
                epoch,
                (),
                [moved(row, target) for row in rows],
                [moved_write(write, target) for write in writes],
            )
        except StaleEpoch:
            continue  # the target was cleaned up meanwhile
        except CorruptData:
            if attempt:
                raise
            continue  # the source may have been cleaned up meanwhile; damage will show again
        codec.caches.drop(target)
        return len(rows)
    raise too_busy(target)


def _copy_chunks(
    codec: Codec,
    source: str,
    target: str,
    rows: Sequence[CheckpointRow],
    writes: Sequence[WriteRow],
) -> Operation[int]:
    live = sorted((yield from live_chunks(codec, source, rows, writes)))
    epoch: int = yield Commit(target, None)
    for ids in batches(live):
        chunks: dict[ChunkId, bytes] = yield FetchChunks(source, ids)
        if lacking := set(ids) - chunks.keys():
            raise CorruptData(
                f"execution {source!r} can't be copied: chunk {min(lacking)} is not stored, or "
                "was removed while it was being copied"
            )
        yield Commit(target, epoch, list(chunks.items()))
    return epoch


def remove(codec: Codec, execution_id: str, keys: Sequence[tuple[str, str]]) -> Operation[None]:
    """Remove checkpoints of one execution and what only they referred to.

    What this process remembers of the execution and is still stored, it goes on remembering: the
    next put costs what any other does.

    Args:
        codec: Whose caches to keep right.
        execution_id: The execution.
        keys: Pairs of namespace and checkpoint id.
    """
    before = codec.caches.peek(execution_id)
    epoch: int | None = yield Remove(execution_id, keys)
    codec.caches.drop(execution_id)
    if epoch is not None:
        yield from free(codec, execution_id, epoch, before)


def free(
    codec: Codec, execution_id: str, epoch: int, before: ExecutionCache | None = None
) -> Operation[None]:
    """Sweep an execution from which checkpoints were removed, as far as that is possible.

    Args:
        codec: Whose caches to keep right.
        execution_id: The execution.
        epoch: The epoch that the removal began.
        before: What was remembered before the removal, to be remembered further if it is left.
    """
    try:
        left = yield from sweep(codec, execution_id, epoch, before.content if before else None)
    except CorruptData as error:
        # What was asked for is done; whoever loads the damaged checkpoint gets the error.
        _logger.warning("space of execution %r was not freed: %s", execution_id, error)
    else:
        if left is not None and before is not None:
            codec.caches.carry_over(execution_id, before, epoch, left.live, left.states)


class Left(NamedTuple):
    """What an execution still has after a removal."""

    live: set[ChunkId]
    """All chunks that rows refer to."""
    states: set[bytes]
    """The state columns of its checkpoints."""
    swept: int
    """How many chunks went."""
    bytes: int
    """What these took; 0 if that wasn't asked for."""


def sweep(
    codec: Codec,
    execution_id: str,
    epoch: int,
    opened: Content | None = None,
    *,
    measure: bool = False,
) -> Operation[Left | None]:
    """Remove the chunks that nothing referred to in ``epoch``.

    Args:
        codec: How chunks are stored.
        execution_id: The execution.
        epoch: The epoch that a removal began.
        opened: Chunks that needn't be fetched.
        measure: Whether to read what goes, to say how large it was.

    Returns:
        What is left; None if the execution is in another epoch by now.

    Raises:
        CorruptData: References can't be counted because something is damaged. Nothing was swept.
    """
    rows = yield from read_rows(FindCheckpoints(execution_id, with_writes=False))
    writes: list[WriteRow] = yield FindWrites(execution_id)
    try:
        live = yield from live_chunks(codec, execution_id, rows, writes, content_of(codec, opened))
    except CorruptData:
        if not (yield Sweep(execution_id, epoch, ())):
            return None  # not damage: another clean-up removed what was being read
        raise
    old: list[ChunkId] = yield FindOldChunks(execution_id, epoch)
    garbage = [id for id in old if id not in live]
    size = 0
    if measure:
        size = sum((yield from sizes_of(execution_id, garbage)).values())
    for ids in batches(garbage):
        if not (yield Sweep(execution_id, epoch, ids)):
            return None
    return Left(live, {row.state for row in rows}, len(garbage), size)


def sizes_of(execution_id: str, ids: Iterable[ChunkId]) -> Operation[dict[ChunkId, int]]:
    """Return what chunks take [bytes], of those that are stored; for that, they are read."""
    sizes: dict[ChunkId, int] = {}
    for part in batches(sorted(ids), _CONTENT):
        chunks: dict[ChunkId, bytes] = yield FetchChunks(execution_id, part)
        sizes.update((id, len(data)) for id, data in chunks.items())
    return sizes


def content_of(codec: Codec, opened: Content | None) -> Content:
    """Return what is opened already, in a copy of its own."""
    content = Content(codec.format)
    if opened is not None:
        content.pages.update(opened.pages.copy())  # copied in one step: it is in use elsewhere
    return content


def node_of(row: CheckpointRow) -> Node:
    """Return the node of a checkpoint's state.

    Raises:
        CorruptData: It is damaged.
    """
    return parse(row.state, f"the state of {place(row)}")


def written_node(write: WriteRow) -> Node:
    """Return the node of a pending write's value.

    Raises:
        CorruptData: It is damaged.
    """
    return parse(checked_write(write), f"a pending write to {write.channel!r}")


def live_chunks(
    codec: Codec,
    execution_id: str,
    rows: Iterable[CheckpointRow],
    writes: Iterable[WriteRow],
    content: Content | None = None,
) -> Operation[set[ChunkId]]:
    """Return the ids of all chunks that rows refer to, directly or through pages.

    Args:
        codec: How chunks are stored.
        execution_id: The execution.
        rows: The checkpoints.
        writes: The pending writes.
        content: Has the pages that needn't be fetched; those that must be are added.

    Raises:
        CorruptData: A node is damaged, or a page isn't stored.
    """
    nodes = [*map(node_of, rows), *map(written_node, writes)]
    return (yield from open_pages(content or Content(codec.format), execution_id, nodes))


def open_pages(
    content: Content, execution_id: str, nodes: Sequence[Node]
) -> Operation[set[ChunkId]]:
    """Fetch and open all pages of nodes.

    Args:
        content: Where they are kept.
        execution_id: Whose they are.
        nodes: What refers to them.

    Returns:
        The ids of all chunks that the nodes refer to, directly or through pages.

    Raises:
        CorruptData: A page is damaged or missing.
    """
    while True:
        pages, values = references(nodes, content.pages)
        lacking = sorted(pages - content.pages.keys())
        if not lacking:
            return pages | values
        for ids in batches(lacking):
            chunks: dict[ChunkId, bytes] = yield FetchChunks(execution_id, ids)
            for id, sealed in chunks.items():
                content.add(id, sealed)
            if lost := set(ids) - content.pages.keys():
                # What a lost page referred to can't be known, so nothing may be removed.
                raise CorruptData(
                    f"page {min(lost)} of execution {execution_id!r} is not stored; what it "
                    "referred to is unknown, so no chunk is removed or copied"
                )


def read_rows(query: FindCheckpoints) -> Operation[list[CheckpointRow]]:
    """Read the rows that a query finds, a part at a time."""
    return [element.row for element in (yield from read_found(query))]


def read_found(query: FindCheckpoints) -> Operation[list[FoundCheckpoint]]:
    """Do as `read_rows`, and say in which epoch each was read."""
    rows: list[FoundCheckpoint] = []
    query = query._replace(limit=_ROWS, with_writes=False)
    while True:
        found: list[FoundCheckpoint] = yield query
        rows += found
        if len(found) < _ROWS:
            return rows
        last = rows[-1].row
        query = query._replace(after=Position(last.id, last.execution_id, last.namespace))


def batches(items: Sequence[T], size: int = _CHUNKS) -> Iterator[Sequence[T]]:
    """Yield a sequence in parts."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
