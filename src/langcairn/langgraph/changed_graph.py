"""Whether a graph still has what a checkpoint waits for.

LangGraph skips what it doesn't know: a run whose next node was renamed would end at once, as if it
were finished.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.types import TASKS, SendProtocol

from langcairn.errors import GraphChanged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.pregel import Pregel
    from langgraph.types import StateSnapshot

_logger = logging.getLogger(__name__)

# Names of the channels by which a StateGraph starts nodes.
_BRANCH = "branch:to:"
_JOIN = "join:"
_INTERNAL = ("__", _BRANCH, _JOIN, "start:")


def check_nodes(graph: Pregel[Any, Any, Any, Any], found: CheckpointTuple) -> None:
    """Check that a graph has all nodes that a checkpoint waits for.

    Raises:
        GraphChanged: It lacks one.
    """
    values = found.checkpoint["channel_values"]
    missing = {
        name.removeprefix(_BRANCH)
        for name in values
        if name.startswith(_BRANCH) and name.removeprefix(_BRANCH) not in graph.nodes
    }
    # A join that some of its nodes have reached, and the others now can't.
    missing |= {name for name in values if name.startswith(_JOIN) and name not in graph.channels}
    missing |= {
        packet.node
        for packet in values.get(TASKS) or ()
        if isinstance(packet, SendProtocol) and packet.node not in graph.nodes
    }
    place: Any = found.config["configurable"]
    if missing:
        known = [name for name in graph.nodes if not name.startswith("__")]
        thread = str(place["thread_id"])
        raise GraphChanged(sorted(missing), found.checkpoint["id"], thread, known)
    lost = [name for name in values if name not in graph.channels and not _is_internal(name)]
    if lost:
        # Legitimate, if the state was meant to lose them.
        _logger.warning(
            "checkpoint %r of execution %r has values for %s, which the graph's state doesn't "
            "have; its next checkpoint won't have them",
            found.checkpoint["id"], place["thread_id"], ", ".join(map(repr, sorted(lost))),
        )  # fmt: skip


def _is_internal(channel: str) -> bool:
    return channel.startswith(_INTERNAL)


def open_subgraphs(
    graph: Pregel[Any, Any, Any, Any], snapshot: StateSnapshot
) -> Iterator[tuple[Pregel[Any, Any, Any, Any], RunnableConfig]]:
    """Yield the subgraphs that a run is in the middle of, with their checkpoints' configs.

    Args:
        graph: The graph.
        snapshot: Its state, with those of its subgraphs.
    """
    for task in snapshot.tasks:
        inside: Any = task.state
        if not hasattr(inside, "tasks"):
            continue
        for _, subgraph in graph.get_subgraphs(namespace=task.name):
            called: Any = subgraph
            yield called, inside.config
            yield from open_subgraphs(called, inside)
