"""Calling the command line in this process, on stores that real graphs have filled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt
from typer.testing import CliRunner

from langcairn.checkpoint import Checkpoint
from langcairn.cli import checks_files
from langcairn.cli.commands import program
from langcairn.langgraph.saver import CheckpointSaver

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from langchain_core.runnables import RunnableConfig

    from langcairn.store import CheckpointStore

HOSTILE = "evil\x1b]0;owned\x07\x1b[31m\r\n\x9b2J\u202egnp\u200b"
"""Escape sequences of 7 and 8 bits, a carriage return, a mark that turns writing around."""


class State(TypedDict, total=False):
    """What the graph below works on."""

    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    facts: dict[str, Any]


class Inner(TypedDict, total=False):
    """What its subgraph works on."""

    topic: str
    depth: int


def _answer(state: State) -> State:
    number = len(state["messages"])
    return {"messages": [AIMessage(f"Answer {number}.", id=f"ai-{number}")]}


def _approve(state: State) -> State:
    said = interrupt("May I go on?")
    return {"facts": {"approved": said, "by": {"name": "Ada", "turns": [1, 2]}}}


def build(saver: CheckpointSaver) -> Any:
    """Return a graph: an answer, a subgraph, and a question to a person."""
    inner = StateGraph(Inner)
    inner.add_node("dig", lambda state: {"depth": len(state.get("topic", ""))})
    inner.add_edge(START, "dig")
    graph = StateGraph(State)
    graph.add_node("answer", _answer)
    graph.add_node("research", inner.compile(checkpointer=True))
    graph.add_node("approve", _approve)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", "research")
    graph.add_edge("research", "approve")
    graph.add_edge("approve", END)
    return graph.compile(checkpointer=saver)


def thread(id: str) -> RunnableConfig:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": id}}


def ask(text: str, id: str) -> State:
    """Return an input."""
    return {"messages": [HumanMessage(text, id=id)], "topic": "cairns"}


def fill(store: CheckpointStore) -> None:
    """Run the graph: ``done`` ends and has a fork, ``waiting`` waits for an answer."""
    graph = build(CheckpointSaver(store))
    graph.invoke(ask("Hello?", "h-1"), thread("done"))
    graph.invoke(Command(resume="yes"), thread("done"))
    old = [one for one in graph.get_state_history(thread("done")) if one.next == ("research",)]
    graph.update_state(old[0].config, {"messages": [HumanMessage("Instead?", id="h-2")]})
    graph.invoke(ask("Anybody?", "h-3"), thread("waiting"))


def fill_hostile(store: CheckpointStore) -> None:
    """Run a graph whose every name and value is hostile, and save such a state by hand."""
    graph: Any = StateGraph(dict)
    graph.add_node(HOSTILE, lambda _: {HOSTILE: {HOSTILE: [HOSTILE]}})
    graph.add_edge(START, HOSTILE)
    app = graph.compile(checkpointer=CheckpointSaver(store))
    config = thread(HOSTILE)
    config["metadata"] = {HOSTILE: HOSTILE}
    app.invoke({HOSTILE: HOSTILE}, config)
    newest = store.list(HOSTILE, limit=1)[0]
    store.name_fork(newest.id, HOSTILE, execution_id=HOSTILE)
    messages = [
        HumanMessage(HOSTILE, id=HOSTILE, name=HOSTILE),
        AIMessage([HOSTILE, {"x": HOSTILE}]),
    ]
    call = {"name": HOSTILE, "args": {HOSTILE: HOSTILE}, "id": HOSTILE}
    messages.append(AIMessage("", tool_calls=[call]))
    state = {HOSTILE: messages, "text": HOSTILE, "more": {HOSTILE: {HOSTILE}}}
    store.save(Checkpoint(execution_id=HOSTILE, id="0-by-hand", state=state, node_name=HOSTILE))
    saver = CheckpointSaver(store)
    where = saver.list(config, limit=1)
    saver.put_writes(next(where).config, [(HOSTILE, HOSTILE), ("__error__", HOSTILE)], HOSTILE)


def mount(kind: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything look as if it were on a file system of this kind."""
    mounts = directory / "mounts"
    mounts.write_text(f"proc /proc proc rw 0 0\n/dev/sda1 / {kind} rw,relatime 0 0\n")
    monkeypatch.setattr(checks_files, "_MOUNTS", mounts)


class Called:
    """What a call of the command line came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def call(*words: str, answer: str | None = None, **env: str) -> Called:
    """Call the command line in this process."""
    environment: dict[str, str | None] = {
        "LANGCAIRN_STORE": None, "COLUMNS": "200", "NO_COLOR": None, "FORCE_COLOR": None, **env,
    }  # fmt: skip
    result = CliRunner().invoke(program, list(words), env=environment, input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return Called(result.exit_code, result.stdout, result.stderr)


def is_safe(text: str) -> bool:
    """Tell whether nothing in a text steers a terminal."""
    return all(one.isprintable() or one == "\n" for one in text)
