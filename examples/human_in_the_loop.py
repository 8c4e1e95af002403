"""A graph asks a person, its process ends, and another process gets the answer.

This program starts itself twice: `ask` runs until the question, `answer` goes on from there. Days
may pass between the two, and it may be another machine that reaches the same store.
"""

import subprocess
import sys
from typing import TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from langcairn import CheckpointableRunnable, CheckpointConfig

STORE = "sqlite:///orders.db"


class Order(TypedDict, total=False):
    """What the graph carries."""

    item: str
    price: int
    status: str


def quote(state: Order) -> Order:
    """Find a price. This runs once, however long the answer takes."""
    print(f"  quote    asks the shop for {state['item']}")
    return {"price": 340}


def approve(state: Order) -> Order:
    """Ask a person; the run stops here until there is an answer."""
    answer = interrupt(f"Pay {state['price']} € for {state['item']}?")
    return {"status": f"{answer['verdict']} by {answer['by']}"}


def order(state: Order) -> Order:
    """Act on the answer."""
    print(f"  order    {state['item']}: {state['status']}")
    return {}


builder = StateGraph(Order)
builder.add_sequence([("quote", quote), ("approve", approve), ("order", order)])
builder.add_edge(START, "quote")


def open_order() -> CheckpointableRunnable:
    """Return the graph on the one order."""
    return CheckpointableRunnable(builder, CheckpointConfig(STORE), execution_id="order 17")


def ask() -> None:
    """Be the first process."""
    with open_order() as runnable:
        runnable.clear_checkpoints()
        result = runnable.invoke({"item": "40 m of rope"})
        print(f"  waiting  {result['__interrupt__'][0].value}")


def answer() -> None:
    """Be the second process."""
    with open_order() as runnable:
        (task,) = runnable.get_state().tasks
        print(f"  found    {task.interrupts[0].value}")
        runnable.invoke(Command(resume={"verdict": "approved", "by": "Grace"}))


if len(sys.argv) > 1:
    {"ask": ask, "answer": answer}[sys.argv[1]]()
else:
    for part in ("ask", "answer"):
        print(f"A process to {part}:", flush=True)
        subprocess.run([sys.executable, __file__, part], check=True)
