"""Which node a pending write is from: LangGraph stores where its task stands, and no name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from langgraph.types import Send

from langcairn.backends.base import FindCheckpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langcairn.backends.base import FoundCheckpoint, WriteRow
    from langcairn.operations import Operation
    from langcairn.records import Loaded

# LangGraph's paths: a node that was triggered, one that was sent to, by its place among the
# sends, and a task that an entrypoint has called.
_TRIGGERED = re.compile(r"~__pregel_pull, (.+)", re.DOTALL)
_SENT = re.compile(r"~__pregel_push, (\d+)\b.*")
_CALLED = re.compile(r"~__pregel_push, ~__pregel_pull, (.+?), \d{10}\b.*", re.DOTALL)
_SENDS = "__pregel_tasks"


def find_nodes(loaded: Loaded) -> Operation[dict[str, str]]:
    """Return what `nodes_of` does for a checkpoint that was loaded."""
    row = loaded.row
    found: Sequence[FoundCheckpoint] = yield FindCheckpoints(
        row.execution_id, row.namespace, row.id
    )
    return nodes_of((write for one in found for write in one.writes), loaded.state)


def nodes_of(writes: Iterable[WriteRow], state: Any) -> dict[str, str]:
    """Return the nodes of tasks, by task id.

    Tasks are left out whose node isn't known, such as those of other writers than LangGraph.

    Args:
        writes: What they have written to a checkpoint.
        state: The state of the checkpoint.
    """
    nodes = {write.task_id: node_of(write.task_path, state) for write in writes}
    return {task_id: node for task_id, node in nodes.items() if node is not None}


def node_of(path: str, state: Any) -> str | None:
    """Return the node of the task at a path; None if it isn't known.

    Args:
        path: A pending write's ``task_path``.
        state: The state of its checkpoint, where sends stand.
    """
    # A called task is no node itself: it is told by the entrypoint that called it.
    named = _CALLED.fullmatch(path) or _TRIGGERED.fullmatch(path)
    if named is not None:
        return named[1]
    sent = _SENT.fullmatch(path)
    sends = state.get(_SENDS) if isinstance(state, dict) else None
    if sent is None or not isinstance(sends, (list, tuple)) or int(sent[1]) >= len(sends):
        return None
    send = sends[int(sent[1])]
    return send.node if isinstance(send, Send) else None
