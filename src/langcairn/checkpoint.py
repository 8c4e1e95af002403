"""The record that a `CheckpointStore` saves and loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from langgraph.checkpoint.base.id import uuid6


def _new_id() -> str:
    return str(uuid6())


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """One saved step of an execution, with the fields of LangGraphGo's record and a few more.

    Attributes:
        id: Unique within its execution and namespace. LangGraph's ids sort by time.
        execution_id: The run it belongs to; for LangGraph the ``thread_id``.
        node_name: The node after which it was taken; several that ran at once are joined by
            ``", "``. ``"__start__"`` for a run's input, ``""`` if unknown.
        state: What was saved. For a LangGraph checkpoint a dict of channel values.
        metadata: Searchable facts about it.
        timestamp: When it was taken; aware. Stored in UTC to the microsecond.
        version: Its number; LangGraph checkpoints count super-steps from 1.
        namespace: LangGraph's ``checkpoint_ns``: ``""``, or the path of a subgraph.
        parent_id: The checkpoint that it continues, in the same namespace.
        graph: What only LangGraph needs of a checkpoint that a graph saved; to be left as it is.
    """

    execution_id: str
    state: Any
    id: str = field(default_factory=_new_id)
    node_name: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    timestamp: datetime = field(default_factory=_now)
    version: int = 1
    namespace: str = ""
    parent_id: str | None = None
    graph: dict[str, Any] | None = field(default=None, repr=False)
