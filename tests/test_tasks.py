"""Pending writes are told by the node whose task made them."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt

from langcairn.backends.base import FindCheckpoints
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.operations import find
from langcairn.tasks import find_nodes, node_of

CONFIG: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    """What the graph below works on."""

    found: Annotated[list[int], operator.add]


def work(state: Any) -> State:
    if state["number"] == 1:
        raise ValueError("one")
    return {"found": [interrupt("?") if state["number"] else 0]}


def nodes_by_channel(saver: CheckpointSaver) -> dict[str, set[str | None]]:
    """Return the nodes that wrote to each channel, at the newest checkpoint."""
    store = saver.store
    loaded = store.run(find(store.codec, FindCheckpoints("t", "", limit=1)))[0]
    nodes = store.run(find_nodes(loaded))
    found: dict[str, set[str | None]] = {}
    for task_id, channel, _ in loaded.writes:
        found.setdefault(channel, set()).add(nodes.get(task_id))
    return found


def test_triggered_and_sent_to() -> None:
    saver = CheckpointSaver("memory:")
    builder = StateGraph(State)
    builder.add_node("plan, all", lambda _: {"found": []})
    builder.add_node("work", work)
    builder.add_node("other", lambda _: interrupt("!"))
    builder.add_edge(START, "plan, all")
    builder.add_conditional_edges(
        "plan, all",
        lambda _: [Send("work", {"number": n}) for n in (0, 2)] + [Send("other", {})],
        ["work", "other"],
    )
    builder.compile(checkpointer=saver).invoke({"found": []}, CONFIG)
    found = nodes_by_channel(saver)
    assert found["found"] == {"work"}
    assert found["__interrupt__"] == {"work", "other"}


def test_failed() -> None:
    saver = CheckpointSaver("memory:")
    builder = StateGraph(State)
    builder.add_node("plan, all", lambda _: work({"number": 1}))
    builder.add_edge(START, "plan, all")
    with pytest.raises(ValueError, match="one"):
        builder.compile(checkpointer=saver).invoke({"found": []}, CONFIG)
    assert nodes_by_channel(saver) == {"__error__": {"plan, all"}}


def test_called_by_an_entrypoint() -> None:
    saver = CheckpointSaver("memory:")

    @task
    def double(number: int) -> int:
        return 2 * number

    @entrypoint(checkpointer=saver)
    def flow(number: int) -> Any:
        return interrupt(double(number).result())

    flow.invoke(1, CONFIG)
    found = nodes_by_channel(saver)
    assert (found["__return__"], found["__interrupt__"]) == ({"flow"}, {"flow"})


def test_what_says_nothing() -> None:
    for path in ("", "x", "~__pregel_push, 0000000001, 0000000000", "~__pregel_push, x"):
        for state in (None, {}, {"__pregel_tasks": [1]}, {"__pregel_tasks": 5}):
            assert node_of(path, state) is None
