"""Going back to an earlier checkpoint, trying another way, and comparing the two."""

import operator
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from rich.console import Console
from rich.tree import Tree

from langcairn import CheckpointableRunnable, CheckpointConfig, MemoryCheckpointStore


class Trip(TypedDict, total=False):
    """What the graph carries."""

    goal: str
    weather: str
    plan: Annotated[list[str], operator.add]


def forecast(state: Trip) -> Trip:  # noqa: ARG001 -- LangGraph passes it
    """Ask for the weather."""
    return {"weather": "snow"}


def choose(state: Trip) -> Trip:
    """Choose a way by the weather."""
    way = "the road" if state["weather"] == "snow" else "the ridge"
    return {"plan": [f"take {way}"]}


def pack(state: Trip) -> Trip:
    """Pack for the weather."""
    return {"plan": ["pack chains" if state["weather"] == "snow" else "pack sun cream"]}


builder = StateGraph(Trip)
builder.add_sequence([forecast, choose, pack])
builder.add_edge(START, "forecast")

console = Console(highlight=False)
config = CheckpointConfig(MemoryCheckpointStore(), max_checkpoints=None)
with CheckpointableRunnable(builder, config) as trip:
    trip.invoke({"goal": "the hut"})
    first_end = trip.list_checkpoints()[0]
    trip.name_fork(first_end.id, "as forecast")

    # Back to the moment before the choice, with other weather.
    after_forecast = next(one for one in trip.list_checkpoints() if one.node_name == "forecast")
    then: RunnableConfig = {"configurable": {"checkpoint_id": after_forecast.id}}
    trip.update_state(then, {"weather": "sun"}, as_node="forecast")
    trip.invoke(None)
    second_end = trip.list_checkpoints()[0]
    trip.name_fork(second_end.id, "if the sun shone")

    tree = Tree("The trip's checkpoints", guide_style="dim")
    for fork in trip.forks():
        start = "from the start" if fork.forked_from is None else f"from {fork.forked_from[:8]}…"
        branch = tree.add(f"[bold]{fork.name}[/] [dim]{start}[/]")
        for step in fork.steps:
            branch.add(f"{step.id[:13]}… [cyan]{step.node_name or step.source}[/]")
    console.print(tree)

    console.print("\nWhat is different at the two ends:")
    for channel in trip.compare(first_end.id, second_end.id).channels:
        console.print(f"  [bold]{channel.name}[/]")
        for item in channel.items:
            console.print(f"    {item.kind} {item.key}: {item.before!r} → {item.after!r}")
        if not channel.items:
            console.print(f"    {channel.before!r} → {channel.after!r}")
