"""What LangGraph rebuilds a `DeltaChannel` from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langcairn.backends.base import FindCheckpoints, FoundCheckpoint, Position
from langcairn.checks import checked_graph, checked_write
from langcairn.codec.reader import parse
from langcairn.errors import MissingChunks
from langcairn.operations import ATTEMPTS, Codec, Operation, decode_parts
from langcairn.records import place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

# Ancestors mostly follow each other in a thread, so they are read many at a time; nothing but
# the requested channels is decoded.
_PAGE = 64  # [checkpoints]


def delta_history(
    codec: Codec, query: FindCheckpoints, channels: Sequence[str]
) -> Operation[dict[str, DeltaChannelHistory]]:
    """Walk from a checkpoint's parent towards the root, collecting channels' writes.

    The walk ends for a channel at the first ancestor whose state has it: that is its seed.

    Args:
        codec: How to decode.
        query: What finds the checkpoint.
        channels: The channels to collect.

    Returns:
        For each channel its writes, oldest first, and its seed if there is one (LangGraph's
        `BaseCheckpointSaver.get_delta_channel_history`).
    """
    for attempt in range(ATTEMPTS):
        try:
            return (yield from _walk(codec, query, channels))
        except MissingChunks:
            if attempt == ATTEMPTS - 1:
                raise  # not removed meanwhile, but gone
    raise AssertionError("the last attempt returns or raises")


def _walk(
    codec: Codec, query: FindCheckpoints, channels: Sequence[str]
) -> Operation[dict[str, DeltaChannelHistory]]:
    collected: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    found: list[FoundCheckpoint] = yield query._replace(with_writes=False)
    ancestors: dict[str, FoundCheckpoint] = {}
    row = found[0].row if found else None
    seen: set[str] = set()  # parents may go in a circle: a put may be repeated with its own config
    while row is not None and row.parent_id is not None and len(seeds) < len(collected):
        if row.parent_id in seen:
            break
        seen.add(row.parent_id)
        if row.parent_id not in ancestors:
            ancestors = yield from _page_with(row.parent_id, row.execution_id, row.namespace)
        if row.parent_id not in ancestors:
            break
        ancestor = ancestors[row.parent_id]
        row = ancestor.row
        open_channels = [channel for channel in collected if channel not in seeds]
        state = parse(row.state, f"the state of {place(row)}")
        checked_graph(row)
        stored = [c for c in open_channels if type(state) is dict and c in state]
        writes = [write for write in ancestor.writes if write.channel in open_channels]
        nodes = [state[channel] for channel in stored]
        nodes += [parse(checked_write(w), "a pending write") for w in writes]
        values = yield from decode_parts(codec, ancestor, nodes)
        seeds.update(zip(stored, values, strict=False))
        for write, value in reversed(list(zip(writes, values[len(stored) :], strict=True))):
            collected[write.channel].append((write.task_id, write.channel, value))
    result: dict[str, DeltaChannelHistory] = {}
    for channel, backwards in collected.items():
        result[channel] = {"writes": backwards[::-1]}
        if channel in seeds:
            result[channel]["seed"] = seeds[channel]
    return result


def _page_with(id: str, execution_id: str, namespace: str) -> Operation[dict[str, FoundCheckpoint]]:
    """Return a checkpoint and the ones that come before it, by id."""
    one: list[FoundCheckpoint] = yield FindCheckpoints(execution_id, namespace, id)
    more: list[FoundCheckpoint] = yield FindCheckpoints(
        execution_id, namespace, after=Position(id, execution_id, namespace), limit=_PAGE
    )
    return {element.row.id: element for element in (*one, *more)}
