"""Checkpoints between LangGraph's form and ours, in both directions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.serde.types import TASKS, SendProtocol

from langcairn.records import Draft, valid_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions

    from langcairn.records import Loaded

# What LangGraph writes since 1.0; for records saved by hand, which have no number of their own.
_FORMAT = 4
_START = "__start__"


def draft_of(
    place: tuple[str, str, str | None],
    checkpoint: Checkpoint,
    facts: dict[str, Any],
    new_versions: ChannelVersions | None,
    pushed: Sequence[str],
) -> Draft:
    """Return a checkpoint of LangGraph's as it is to be saved.

    Args:
        place: Thread id and namespace, valid, and the id of the parent.
        checkpoint: The checkpoint.
        facts: Its metadata.
        new_versions: The channels that changed; None: all.
        pushed: Names of the nodes that `Send` packets in the parent start.
    """
    execution_id, namespace, parent = place
    values = checkpoint["channel_values"]
    timestamp, exact = _timestamp(checkpoint.get("ts"))
    graph = dict(checkpoint)
    for key in ("id", "channel_values", "ts") if exact else ("id", "channel_values"):
        graph.pop(key, None)
    step = facts.get("step")
    return Draft(
        execution_id,
        namespace,
        valid_name(checkpoint["id"], "checkpoint id", empty=False),
        valid_name(parent, "checkpoint id", empty=False) if parent else None,
        _node_name(facts, checkpoint, pushed),
        values,
        facts,
        timestamp,
        max(step + 2, 0) if type(step) is int else 0,
        graph,
        new_versions,
        pushed_by(values),
    )


def tuple_of(loaded: Loaded, config: RunnableConfig | None) -> CheckpointTuple:
    """Return a checkpoint as LangGraph wants it.

    Args:
        loaded: The checkpoint.
        config: Names its thread as the caller does, who may have given an integer.
    """
    row, graph = loaded.row, loaded.graph
    values = loaded.state
    if not graph:  # saved by hand: it has no channels of LangGraph's
        if type(values) is not dict:
            values = {"__root__": values}
        graph = {
            "v": _FORMAT,
            "channel_versions": dict.fromkeys(values, 1),
            "versions_seen": {},
            "updated_channels": None,
        }
    checkpoint = {"ts": row.timestamp.isoformat(), **graph, "id": row.id, "channel_values": values}
    parent = row.parent_id
    metadata = loaded.metadata
    if not loaded.graph:
        # What LangGraph expects of every checkpoint when a graph continues from one.
        metadata = {"source": "update", "step": row.version - 2, "parents": {}, **metadata}
    return CheckpointTuple(
        config_of(config, row.namespace, row.id, row.execution_id),
        cast("Checkpoint", checkpoint),
        cast("CheckpointMetadata", metadata),
        config_of(config, row.namespace, parent, row.execution_id) if parent else None,
        loaded.writes,
    )


def _timestamp(text: Any) -> tuple[datetime, bool]:
    """Return a checkpoint's time for the row, and whether the row alone gives back the text."""
    try:
        timestamp = datetime.fromisoformat(text)
        if timestamp.tzinfo is not UTC:
            timestamp = timestamp.astimezone(UTC)
    except (TypeError, ValueError):
        return datetime.now(UTC), text is None
    return timestamp, timestamp.isoformat() == text


def pushed_by(values: Any) -> Sequence[str]:
    """Return the nodes that the `Send` packets among channel values start."""
    packets = values.get(TASKS) if type(values) is dict else None
    if type(packets) is not list:
        return ()
    return [packet.node for packet in packets if isinstance(packet, SendProtocol)]


def _node_name(facts: dict[str, Any], checkpoint: Checkpoint, pushed: Sequence[str]) -> str:
    """Return the nodes that ran in the super-step before a checkpoint.

    A node is noted with the channel versions that started it. Each super-step raises the
    highest version by one, so those that ran last have seen the one below. `Send` packets start
    nodes without a version; their names come from the checkpoint before, if this process has
    put or loaded it.
    """
    if facts.get("source") == "input":
        return _START
    try:
        ran = _ran_last(checkpoint)
    except (TypeError, ValueError):
        ran = []  # versions that LangGraph doesn't make; a name is no reason to fail a put
    if len(ran) == 1 and not pushed:
        return ran[0]
    return ", ".join(sorted({*ran, *pushed}))


def _ran_last(checkpoint: Checkpoint) -> list[str]:
    versions = checkpoint["channel_versions"].values()
    before = version_number(max(versions)) - 1 if versions else 0
    return [
        node
        for node, seen in checkpoint["versions_seen"].items()
        if seen
        and version_number(max(seen.values())) >= before
        and (node == _START or not node.startswith("__"))
    ]


def version_number(version: Any) -> float:
    """Return what a channel version counts: other savers' are strings ``"00…07.0.123"``."""
    return int(version.split(".")[0]) if isinstance(version, str) else version


def config_of(
    given: RunnableConfig | None, namespace: str, id: str, thread: Any = None
) -> RunnableConfig:
    """Return the config that names a checkpoint.

    Args:
        given: A config that names its thread as the caller does; None: ``thread`` does.
        namespace: Its namespace.
        id: Its id.
        thread: The thread, if no config is given.
    """
    return {
        "configurable": {
            "thread_id": given["configurable"]["thread_id"] if given else thread,
            "checkpoint_ns": namespace,
            "checkpoint_id": id,
        }
    }
