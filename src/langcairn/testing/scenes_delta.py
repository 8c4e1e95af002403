"""Graphs with delta channels, and workflows of the functional API."""
# mypy: disable-error-code="type-var, arg-type, call-overload"
# ^ LangGraph's overloads for nodes take none of the plain functions and partial states used here
# ruff: noqa: D103 -- the names say what they show

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Overwrite, interrupt
from typing_extensions import TypedDict

from langcairn.testing.scenes import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langcairn.testing.stage import Build, Scene, Stage


def concatenate(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    return reduce(operator.add, writes, state)


def merge(state: dict[str, Any], writes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return reduce(operator.or_, writes, state)


class Deltas(TypedDict, total=False):
    """Channels of which only changes are stored."""

    often: Annotated[list[AnyMessage], DeltaChannel(concatenate, snapshot_frequency=3)]
    rarely: Annotated[list[str], DeltaChannel(concatenate, snapshot_frequency=1000)]
    facts: Annotated[dict[str, Any], DeltaChannel(merge, snapshot_frequency=2)]
    n: int


def _loop(**options: Any) -> Build:
    def step(state: Deltas) -> dict[str, Any]:
        n = state["n"]
        return {
            "often": [AIMessage("m" * 200, id=f"m{n}")],
            "rarely": [f"{n:>150}"],
            "facts": {f"k{n}": ["v" * 120, n]},
            "n": n + 1,
        }

    def aside(state: Deltas) -> dict[str, Any]:
        return {"rarely": [f"aside {state['n']}"]}

    builder = StateGraph(Deltas)
    builder.add_node("step", step)
    builder.add_node("aside", aside)
    builder.add_edge(START, "step")
    builder.add_edge(START, "aside")
    builder.add_conditional_edges("step", lambda state: END if state["n"] % 4 == 0 else "step")
    return compiled(builder, **options)


def delta_channels(stage: Stage) -> Iterator[object]:
    build = _loop()
    for turn in range(3):
        message = HumanMessage(f"turn {turn}", id=f"h{turn}")
        yield stage.invoke(build, {"n": turn * 4, "often": [message]})
        yield stage.state(build)
    yield stage.history(build)


def delta_channels_edited(stage: Stage) -> Iterator[object]:
    build = _loop()
    yield stage.invoke(build, {"n": 0})
    graph = stage.graph(build)
    yield graph.update_state(stage.config, {"rarely": ["by hand"]}, as_node="step")
    yield graph.update_state(stage.config, {"rarely": Overwrite(["only"])}, as_node="step")
    yield stage.state(build)
    yield graph.update_state(stage.config, {"facts": {"by": "hand"}}, as_node="aside")
    yield stage.invoke(build, {"n": 5})
    yield stage.history(build)


def delta_channels_forked(stage: Stage) -> Iterator[object]:
    build = _loop()
    yield stage.invoke(build, {"n": 0})
    past = [s.config for s in stage.snapshots(build) if s.next == ("step",)]
    yield [stage.state(build, config) for config in past]
    for config in past:
        yield stage.invoke(build, None, config)
    fork = stage.graph(build).update_state(past[-1], {"rarely": ["fork"], "n": 1}, as_node="step")
    yield stage.invoke(build, None, fork)
    yield stage.state(build, past[0])
    yield stage.history(build)


def delta_channels_stopped(stage: Stage) -> Iterator[object]:
    build = _loop(interrupt_after=["step"])
    yield stage.invoke(build, {"n": 0})
    for _ in range(5):
        yield stage.invoke(build, None)
        yield stage.state(build)
    yield stage.history(build)


def workflow(stage: Stage) -> Iterator[object]:
    @task
    def square(n: int) -> dict[str, Any]:
        stage.note(f"square {n}")
        return {"n": n * n, "pad": "p" * 200}

    def build(saver: Any) -> Any:
        @entrypoint(checkpointer=saver)
        def flow(n: int, *, previous: Any = None) -> Any:
            squares = [square(i) for i in range(n)]
            total = sum(future.result()["n"] for future in squares)
            agreed = interrupt({"total": total})
            return entrypoint.final(
                value=[total, agreed, previous], save={"total": total, "runs": ["r" * 150]}
            )

        return flow

    for n in (3, 4):
        yield stage.invoke(build, n)
        yield stage.state(build)
        yield stage.invoke(build, Command(resume=f"ok {n}"))
    yield stage.history(build)


def workflow_that_fails(stage: Stage) -> Iterator[object]:
    @task
    def work(n: int) -> int:
        stage.note(f"work {n}")
        if n == 2 and stage.ran.count("work 2") == 1:
            raise ValueError("the first time")
        return n + 1

    def build(saver: Any) -> Any:
        @entrypoint(checkpointer=saver)
        def flow(n: int) -> int:
            for _ in range(4):
                n = work(n).result()
            return n

        return flow

    yield stage.invoke(build, 0)
    yield stage.state(build)
    yield stage.invoke(build, None)
    yield stage.history(build)


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        delta_channels, delta_channels_edited, delta_channels_forked, delta_channels_stopped,
        workflow, workflow_that_fails,
    )
}  # fmt: skip
