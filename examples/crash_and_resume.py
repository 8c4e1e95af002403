"""A process is killed in the middle of a step; another one goes on, and repeats nothing.

This program starts itself: `work` kills its own process with SIGKILL, as a power cut would.
"""

import operator
import os
import signal
import subprocess
import sys
import time
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send

from langcairn import CheckpointableRunnable, CheckpointConfig

CHAPTERS = ["valley", "forest", "ridge", "summit"]


class Book(TypedDict, total=False):
    """What the graph carries."""

    chapters: Annotated[list[str], operator.add]


class Chapter(TypedDict):
    """What the task for one chapter is sent."""

    title: str


def say(line: str) -> None:
    """Print a line at once and in one piece: several tasks print side by side."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def plan(_: Book) -> list[Send]:
    """Give each chapter a task of its own: they run side by side."""
    return [Send("write", {"title": title}) for title in CHAPTERS]


def write(state: Chapter) -> Book:
    """Write one chapter, which costs time and money."""
    title = state["title"]
    if title == "summit" and "work" in sys.argv:
        wait_for_the_others()
        say(f"  {title:<8} ✗ killed while writing")
        os.kill(os.getpid(), signal.SIGKILL)
    say(f"  {title:<8} written")
    return {"chapters": [title]}


def bind(state: Book) -> Book:
    """Do what needs all chapters."""
    say(f"  bound    {', '.join(state['chapters'])}")
    return {}


builder: StateGraph[Any] = StateGraph(Book)
builder.add_node("write", write)
builder.add_node("bind", bind)
builder.add_conditional_edges(START, plan, ["write"])
builder.add_edge("write", "bind")


def open_book() -> CheckpointableRunnable:
    """Return the graph on the one book."""
    return CheckpointableRunnable(
        builder, CheckpointConfig("sqlite:///book.db"), execution_id="book"
    )


def wait_for_the_others() -> None:
    """Let the other chapters be finished and stored, so that the output is always the same."""
    with open_book() as book:
        for _ in range(2000):
            if sum("chapters" in str(task.result) for task in book.get_state().tasks) == 3:
                return
            time.sleep(0.01)
    raise TimeoutError("the other chapters were not stored")


if "work" in sys.argv:
    with open_book() as book:
        book.clear_checkpoints()
        book.invoke({"chapters": []})
elif "resume" in sys.argv:
    with open_book() as book:
        book.invoke(None)
else:
    print("A process at work:", flush=True)
    killed = subprocess.run([sys.executable, __file__, "work"], check=False)
    print(f"It ended with {killed.returncode}. Another process goes on:", flush=True)
    subprocess.run([sys.executable, __file__, "resume"], check=True)
