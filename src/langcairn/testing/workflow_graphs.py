"""Graphs for tests of the workflow layer."""

from __future__ import annotations

import operator
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Log(TypedDict, total=False):
    """A log that grows, and a number."""

    log: Annotated[list[str], operator.add]
    n: int


def loop(steps: int, each: Callable[[], None] = lambda: None) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph that runs one node over and over, until ``n`` is a multiple of ``steps``."""

    def step(state: Log) -> Log:
        each()
        return {"log": [f"{state['n']:>300}"], "n": state["n"] + 1}

    builder = StateGraph(Log)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: END if state["n"] % steps == 0 else "step")
    return builder


def fan(note: Callable[[str], None]) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph: plan, then left and right at once, then join, then ask a person."""

    def node(name: str) -> Any:
        def run(state: Log) -> Log:
            note(name)
            return {"log": [f"{name} {len(state['log'])}"]}

        return run

    def ask(state: Log) -> Log:  # noqa: ARG001 -- LangGraph passes it
        note("ask")
        return {"log": [f"ask {interrupt('Which?')}"]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    for name in ("plan", "left", "right", "join"):
        builder.add_node(name, node(name))
    builder.add_node("ask", ask)
    builder.add_edge(START, "plan")
    for name in ("left", "right"):
        builder.add_edge("plan", name)
    builder.add_edge(["left", "right"], "join")
    builder.add_edge("join", "ask")
    return builder


FAN_LOG = ["start", "plan 1", "left 2", "right 2", "join 4"]


class Journal:
    """Notes in a file, which survive the process that makes them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def note(self, text: str) -> None:
        """Add a line."""
        with self._path.open("a") as file:
            file.write(f"{text}\n")

    def lines(self) -> list[str]:
        """Return all lines."""
        return self._path.read_text().split()


def run_elsewhere(url: str, journal: Path, kill_at: str, *, auto_save: bool = True) -> int:
    """Run `fan` in another process, which is killed in a node; returns its exit code.

    Args:
        url: The store.
        journal: Where the nodes that begin are noted.
        kill_at: The node that sends SIGKILL to its own process; ``""``: none.
        auto_save: As for `CheckpointConfig`.
    """
    arguments = [url, str(journal), kill_at, "auto" if auto_save else "interval"]
    return subprocess.run(  # noqa: S603 -- our own module, no shell
        [sys.executable, "-m", "langcairn.testing.workflow_process", *arguments],
        timeout=60,
        check=False,
    ).returncode
