"""Graphs that use what LangGraph lets a graph do."""
# mypy: disable-error-code="type-var, arg-type, call-overload"
# ^ LangGraph's overloads for nodes take none of the plain functions and partial states used here
# ruff: noqa: D103, ARG001, ARG005 -- the names say what they show; nodes get a state, needed or not

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Overwrite, RetryPolicy, Send, interrupt
from typing_extensions import TypedDict

from langcairn.testing.models import Colour, Mood, Person, Plan, Point

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.testing.stage import Build, Scene, Stage


class Chat(TypedDict):
    """A conversation."""

    messages: Annotated[list[AnyMessage], add_messages]
    turn: int


class Log(TypedDict, total=False):
    """A list that grows, and what decides how."""

    log: Annotated[list[Any], operator.add]
    n: int
    kept: Any


def compiled(builder: StateGraph[Any], **options: Any) -> Build:
    return lambda saver: builder.compile(checkpointer=saver, **options)


def chain(stage: Stage, *names: str, **options: Any) -> Build:
    """Return a graph of nodes that note their names, one after the other."""
    builder = StateGraph(Log)
    for name in names:

        def node(state: Log, name: str = name) -> Log:
            stage.note(name)
            return {"log": [f"{name}: {'x' * 150}"], "n": state.get("n", 0) + 1}

        builder.add_node(name, node)
    for before, after in zip((START, *names), (*names, END), strict=True):
        builder.add_edge(before, after)
    return compiled(builder, **options)


def conversation(stage: Stage) -> Iterator[object]:
    def agent(state: Chat) -> dict[str, Any]:
        turn = state["turn"]
        call = {"name": "search", "args": {"q": f"{turn}"}, "id": f"c{turn}", "type": "tool_call"}
        return {"messages": [AIMessage("", id=f"call {turn}", tool_calls=[call])]}

    def tool(state: Chat) -> dict[str, Any]:
        last: Any = state["messages"][-1]
        call = last.tool_calls[0]["id"]
        return {"messages": [ToolMessage("r" * 500, tool_call_id=call, id=f"result {call}")]}

    def answer(state: Chat) -> dict[str, Any]:
        turn = state["turn"]
        # The question is replaced and, from the third turn on, the oldest message removed.
        update = [
            AIMessage("a" * 300, id=f"answer {turn}"),
            HumanMessage("edited", id=f"ask {turn}"),
        ]
        removed = [RemoveMessage(state["messages"][0].id)] if turn > 1 else []
        return {"messages": [*update, *removed], "turn": turn + 1}

    builder = StateGraph(Chat)
    for name, node in (("agent", agent), ("tool", tool), ("answer", answer)):
        builder.add_node(name, node)
    for edge in ((START, "agent"), ("agent", "tool"), ("tool", "answer"), ("answer", END)):
        builder.add_edge(*edge)
    build = compiled(builder)
    for turn in range(5):
        question = HumanMessage(f"question {turn}", id=f"ask {turn}")
        yield stage.invoke(build, {"messages": [question], "turn": turn})
        yield stage.state(build)
    yield stage.history(build)


def rich_values(stage: Stage) -> Iterator[object]:
    class Rich(TypedDict, total=False):
        plan: Plan
        person: Person
        colours: Annotated[set[Colour], operator.or_]
        moods: dict[Mood, Point]
        nested: dict[str, Any]
        n: int

    def first(state: Rich) -> Rich:
        return {
            "plan": Plan("up", ["a"], Point(1)),
            "person": Person.model_validate({"fullName": "Ada", "mood": "tense"}),
            "colours": {Colour.RED},
            "moods": {Mood.CALM: Point(2)},
            "nested": {"a": [{"b": ("x" * 200,)}], "$cairn": ["c", "x"], "z": float("inf")},
        }

    def second(state: Rich) -> Rich:
        # LangGraph stores what the first node wrote in another thread, which mustn't see this yet.
        time.sleep(0.02)
        state["plan"].steps.append("b")
        state["nested"]["a"].append(True)
        return {**state, "colours": {Colour.GREEN}, "n": 1}

    def third(state: Rich) -> Rich:
        return {"n": state["n"] + 1}

    builder = StateGraph(Rich)
    builder.add_sequence([("first", first), ("second", second), ("third", third)])
    builder.add_edge(START, "first")
    build = compiled(builder)
    yield stage.invoke(build, {"n": 0})
    yield stage.history(build)
    yield stage.invoke(build, {"n": 5})
    yield stage.state(build)


def long_loop(stage: Stage) -> Iterator[object]:
    def step(state: Log) -> Log:
        return {"log": [f"{state['n']:>130}"], "n": state["n"] + 1}

    builder = StateGraph(Log)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: END if state["n"] % 40 == 0 else "step")
    build = compiled(builder)
    yield stage.invoke(build, {"n": 0})
    yield stage.history(build)
    yield stage.invoke(build, {"n": 40})
    yield stage.state(build)


def map_and_reduce(stage: Stage) -> Iterator[object]:
    def spread(state: Log) -> list[Send]:
        return [Send("worker", {"n": i, "kept": {"text": "t" * 200}}) for i in range(4)]

    def worker(state: Log) -> Log:
        return {"log": [f"worker {state['n']} {state['kept']['text']}"]}

    def collect(state: Log) -> Log:
        return {"log": [f"{len(state['log'])} results"]}

    builder = StateGraph(Log)
    builder.add_node("plan", lambda state: {"log": ["plan"]})
    builder.add_node("worker", worker)
    builder.add_node("collect", collect)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", spread, ["worker"])
    builder.add_edge("worker", "collect")
    for before in (["worker"], ["collect"]):
        build = compiled(builder, interrupt_before=before)
        yield stage.invoke(build, {"n": 1})
        yield stage.state(build)
        yield stage.invoke(build, None)
    yield stage.history(build)


def commands(stage: Stage) -> Iterator[object]:
    def router(state: Log) -> Command[str]:
        goto: Any = ["left", Send("right", {"n": 9})] if state["n"] else END
        return Command(update={"log": ["router"], "n": state["n"] - 1}, goto=goto)

    child = StateGraph(Log)
    child.add_node(
        "jump", lambda state: Command(graph=Command.PARENT, goto="router", update={"log": ["jump"]})
    )
    child.add_edge(START, "jump")
    builder = StateGraph(Log)
    builder.add_node("router", router, destinations=("left", "right"))
    builder.add_node("left", lambda state: {"log": ["left"]})
    builder.add_node("right", lambda state: {"log": [f"right {state['n']}"]})
    builder.add_node("child", child.compile(), destinations=("router",))
    builder.add_edge(START, "router")
    builder.add_edge("left", "child")
    build = compiled(builder)
    yield stage.invoke(build, {"n": 2})
    yield stage.history(build)
    yield stage.invoke(build, Command(goto="left", update={"n": 1}))
    yield stage.history(build)


def interrupts(stage: Stage) -> Iterator[object]:
    def ask(state: Log) -> Log:
        stage.note("ask")
        name = interrupt({"question": "name", "long": "q" * 300})
        age = interrupt(["age", name])
        return {"log": [(name, age)], "kept": Person.model_validate({"fullName": name})}

    def other(state: Log) -> Log:
        stage.note("other")
        return {"log": ["other"]}

    builder = StateGraph(Log)
    for name, node in (("ask", ask), ("other", other), ("end", lambda state: {"log": ["end"]})):
        builder.add_node(name, node)
    for edge in ((START, "ask"), (START, "other"), (["ask", "other"], "end")):
        builder.add_edge(*edge)
    build = compiled(builder)
    yield stage.invoke(build, {"n": 1})
    yield stage.state(build)
    yield stage.invoke(build, Command(resume="Ada"))
    yield stage.state(build)
    yield stage.invoke(build, Command(resume={"years": 36}))
    yield stage.history(build)


def several_interrupts_at_once(stage: Stage) -> Iterator[object]:
    builder = StateGraph(Log)
    for name in ("a", "b"):
        builder.add_node(name, lambda state, name=name: {"log": [f"{name} {interrupt(name)}"]})
        builder.add_edge(START, name)
    build = compiled(builder)
    yield stage.invoke(build, {"n": 1})
    pending = stage.snapshots(build)[0].interrupts
    yield stage.invoke(build, Command(resume={pending[0].id: "first"}))
    yield stage.state(build)
    yield stage.invoke(build, Command(resume={pending[1].id: "second"}))
    yield stage.history(build)


def stops_before_and_after(stage: Stage) -> Iterator[object]:
    build = chain(stage, "a", "b", "c", interrupt_before=["b"], interrupt_after=["b"])
    yield stage.invoke(build, {"n": 0})
    yield stage.state(build)
    yield stage.graph(build).update_state(stage.config, {"log": ["by hand"], "n": 100})
    for _ in range(2):
        yield stage.invoke(build, None)
        yield stage.state(build)
    yield stage.history(build)


def subgraphs(stage: Stage) -> Iterator[object]:
    def inner(state: Log) -> Log:
        stage.note("inner")
        return {"log": [f"inner {interrupt('inside')}", "i" * 300]}

    grandchild = StateGraph(Log)
    grandchild.add_node("inner", inner)
    grandchild.add_edge(START, "inner")
    child = StateGraph(Log)
    child.add_node("before", lambda state: {"log": ["before"], "n": state["n"] + 1})
    child.add_node("deeper", grandchild.compile())
    child.add_edge(START, "before")
    child.add_edge("before", "deeper")
    builder = StateGraph(Log)
    builder.add_node("child", child.compile())
    builder.add_node("after", lambda state: {"log": ["after"]})
    builder.add_edge(START, "child")
    builder.add_edge("child", "after")
    build = compiled(builder)
    yield stage.invoke(build, {"n": 0, "log": ["start"]})
    yield stage.state(build, subgraphs=True)
    inside: Any = stage.snapshots(build)[0].tasks[0].state
    yield stage.state(build, inside)
    yield stage.history(build, inside)
    yield stage.graph(build).update_state(inside, {"log": ["edited inside"]})
    yield stage.state(build, subgraphs=True)
    yield stage.invoke(build, Command(resume="yes"))
    yield stage.history(build)


def subgraph_with_memory(stage: Stage) -> Iterator[object]:
    child = StateGraph(Log)
    child.add_node("count", lambda state: {"log": [f"{state.get('n', 0)}"], "n": state["n"] + 1})
    child.add_edge(START, "count")
    builder = StateGraph(Log)
    builder.add_node("child", child.compile(checkpointer=True))
    builder.add_edge(START, "child")
    build = compiled(builder)
    for turn in range(3):
        yield stage.invoke(build, {"n": turn, "log": [f"turn {turn}"]})
    yield stage.history(build)


def time_travel(stage: Stage) -> Iterator[object]:
    build = chain(stage, "a", "b", "c")
    yield stage.invoke(build, {"n": 0})
    by_next = {snapshot.next: snapshot.config for snapshot in stage.snapshots(build)}
    yield stage.invoke(build, None, by_next["b",])
    yield stage.history(build)
    fork = stage.graph(build).update_state(by_next["c",], {"log": ["forked"], "n": 50})
    yield stage.state(build, fork)
    yield stage.invoke(build, None, fork)
    yield stage.invoke(build, None, by_next["c",])
    yield stage.invoke(build, {"n": 7}, by_next["a",])
    yield stage.history(build)


def updates_by_hand(stage: Stage) -> Iterator[object]:
    build = chain(stage, "a", "b")
    graph = stage.graph(build)
    yield graph.update_state(stage.config, {"log": ["first"], "n": 1}, as_node="a")
    yield stage.state(build)
    yield stage.invoke(build, None)
    yield graph.update_state(stage.config, None, as_node=END)
    yield graph.update_state(stage.config, {"log": ["again"]}, as_node="__start__")
    yield graph.update_state(stage.config, {"log": Overwrite(["only this"])}, as_node="a")
    yield stage.state(build)
    yield graph.update_state(stage.config, None, as_node="__copy__")
    yield stage.history(build)
    yield stage.invoke(build, None)


def errors_and_resuming(stage: Stage) -> Iterator[object]:
    def fails_once(state: Log) -> Log:
        stage.note("fails once")
        if stage.ran.count("fails once") == 1:
            raise ValueError("the first time " + "e" * 300)
        return {"log": ["worked"]}

    def works(state: Log) -> Log:
        stage.note("works")
        return {"log": ["w" * 300], "kept": Plan("x")}

    builder = StateGraph(Log)
    builder.add_node("works", works)
    builder.add_node("wait", lambda state: {"log": ["waited"]})
    builder.add_node("fails", fails_once)
    builder.add_node("end", lambda state: {"log": ["end"]})
    for edge in ((START, "works"), (START, "wait"), ("wait", "fails"), (["works", "fails"], "end")):
        builder.add_edge(*edge)
    build = compiled(builder)
    yield stage.invoke(build, {"n": 1})
    yield stage.state(build)
    yield stage.invoke(build, None)
    yield stage.history(build)


def finished_tasks_are_not_repeated(stage: Stage) -> Iterator[object]:
    def fails_once(state: Log) -> Log:
        if not stage.ran.count("slow"):
            stage.wait_for_write("log")
        stage.note("slow")
        if stage.ran.count("slow") == 1:
            raise ValueError("the first time")
        return {"log": ["slow"]}

    def quick(state: Log) -> Log:
        stage.note("quick")
        return {"log": ["quick " + "x" * 300]}

    builder = StateGraph(Log)
    builder.add_node("quick", quick)
    builder.add_node("slow", fails_once)
    builder.add_edge(START, "quick")
    builder.add_edge(START, "slow")
    build = compiled(builder)
    yield stage.invoke(build, {"n": 1})
    yield stage.state(build)
    yield stage.invoke(build, None)
    yield stage.history(build)


def retries(stage: Stage) -> Iterator[object]:
    def fails_twice(state: Log) -> Log:
        stage.note("try")
        if len(stage.ran) < 3:
            raise ConnectionError("again")
        return {"log": ["worked"]}

    policy = RetryPolicy(initial_interval=0.001, max_attempts=4, jitter=False)
    builder = StateGraph(Log)
    builder.add_node("fails", fails_twice, retry_policy=policy)
    builder.add_edge(START, "fails")
    build = compiled(builder)
    yield stage.invoke(build, {"n": 1})
    yield stage.history(build)


def streams(stage: Stage) -> Iterator[object]:
    build = chain(stage, "a", "b")
    modes = ["values", "updates", "checkpoints"]
    for mode, part in stage.graph(build).stream({"n": 0}, stage.config, stream_mode=modes):
        if mode == "checkpoints":
            yield [mode, part["values"], part["next"], part["config"]["configurable"]]
        else:
            yield [mode, part]
    yield stage.history(build)


def joined_late(stage: Stage) -> Iterator[object]:
    builder = StateGraph(Log)
    for name in ("a", "b", "b2"):
        builder.add_node(name, lambda state, name=name: {"log": [name]})
    builder.add_node("last", lambda state: {"log": [f"last of {len(state['log'])}"]}, defer=True)
    for edge in ((START, "a"), (START, "b"), ("b", "b2"), ("a", "last"), ("b2", "last")):
        builder.add_edge(*edge)
    build = compiled(builder, interrupt_before=["last"])
    yield stage.invoke(build, {"n": 1})
    yield stage.state(build)
    yield stage.invoke(build, None)
    yield stage.history(build)


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        conversation, rich_values, long_loop, map_and_reduce, commands, interrupts,
        several_interrupts_at_once, stops_before_and_after, subgraphs, subgraph_with_memory,
        time_travel, updates_by_hand, errors_and_resuming, finished_tasks_are_not_repeated, retries,
        streams, joined_late,
    )
}  # fmt: skip
