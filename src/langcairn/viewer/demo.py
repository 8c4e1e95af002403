"""Fill a store with threads worth looking at: tools, forks, an interrupt, a subgraph, an error."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command

from langcairn.checkpoint import Checkpoint
from langcairn.demo.agent import TASK, WINTER_TASK, build_graph
from langcairn.demo.journal import Journal
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.thread_id import ThreadId

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langcairn.store import CheckpointStore

TRAIL, REPORT, CLAIM = "cairn-trail", "quarterly-report", "insurance-claim"
_CHATS = 28
_APPROVAL = {"publish": True, "by": "Hanna", "note": "Good work, put it on the site."}


def fill(store: CheckpointStore) -> None:
    """Run graphs on a store, and save some older chats."""
    _chats(store)
    saver = CheckpointSaver(store)
    _fail(saver)
    _research(saver)
    _walk(store, saver)


def _config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}, "recursion_limit": 100}


def _walk(store: CheckpointStore, saver: CheckpointSaver) -> None:
    """Run the agent of `langcairn.demo` to its end, and on a fork to its question."""
    with TemporaryDirectory() as directory:
        graph = build_graph(saver, Journal(Path(directory) / "journal", io.StringIO()))
        config = _config(TRAIL)
        graph.invoke({"messages": [HumanMessage(TASK, id="task")]}, config)
        graph.invoke(Command(resume=_APPROVAL), config)
        published = store.list(TRAIL, namespace="", limit=1)[0]
        store.name_fork(published.id, "summer", execution_id=TRAIL)
        old = next(
            snapshot
            for snapshot in graph.get_state_history(config)
            if isinstance(snapshot.values.get("messages", [None])[-1], ToolMessage)
            and snapshot.values["messages"][-1].tool_call_id == "weather-8"
        )
        order = {"messages": [HumanMessage(WINTER_TASK, id="winter")]}
        graph.invoke(None, graph.update_state(old.config, order, as_node="tools"))
        waiting = store.list(TRAIL, namespace="", limit=1)[0]
        store.name_fork(waiting.id, "winter", execution_id=TRAIL)


class _Report(TypedDict, total=False):
    topic: str
    findings: Annotated[list[dict[str, Any]], add]
    outline: dict[str, Any]
    messages: Annotated[list[AnyMessage], add_messages]


def _research(saver: CheckpointSaver) -> None:
    """Run a graph whose researcher is a graph itself, twice on one thread."""

    def search(state: _Report) -> _Report:
        said = f"Searching for {state['topic']}"
        arguments = {"query": state["topic"], "limit": 3}
        call = ToolCall(name="search", args=arguments, id="s1", type="tool_call")
        return {"messages": [AIMessage(said, tool_calls=[call])]}

    def read(state: _Report) -> _Report:
        found = {"source": f"{state['topic']} in brief", "pages": 12, "score": 0.87, "quoted": True}
        return {
            "messages": [ToolMessage("3 documents found, 1 of them read", tool_call_id="s1")],
            "findings": [found],
        }

    inner = StateGraph(_Report)
    inner.add_sequence([search, read])
    inner.add_edge(START, "search")

    def plan(state: _Report) -> _Report:
        sections = [{"title": "Revenue", "pages": 4}, {"title": "Costs", "pages": 3}]
        return {"outline": {"title": state["topic"].title(), "sections": sections, "draft": 1}}

    def write(state: _Report) -> _Report:
        outline = {**state["outline"], "draft": state["outline"]["draft"] + 1}
        return {
            "messages": [AIMessage("The report has two sections and one source.")],
            "outline": outline,
        }

    outer = StateGraph(_Report)
    outer.add_node("plan", plan)
    outer.add_node("research", inner.compile(), input_schema=_Report)
    outer.add_node("write", write)
    outer.add_edge(START, "plan")
    outer.add_edge("plan", "research")
    outer.add_edge("research", "write")
    outer.add_edge("write", END)
    graph = outer.compile(checkpointer=saver)
    for topic in ("revenue of the third quarter", "costs of the third quarter"):
        asked: _Report = {"topic": topic, "messages": [HumanMessage(f"Write about the {topic}")]}
        graph.invoke(asked, _config(REPORT))


def _fail(saver: CheckpointSaver) -> None:
    """Run a graph whose second node fails."""

    def extract(state: _Report) -> _Report:  # noqa: ARG001 -- a node takes the state
        return {"outline": {"claim": "A-2291", "amount": 1840.5, "currency": "EUR", "photos": 3}}

    def assess(state: _Report) -> _Report:
        raise ConnectionError(f"no answer from the assessor about {state['outline']['claim']}")

    builder = StateGraph(_Report)
    builder.add_sequence([extract, assess])
    builder.add_edge(START, "extract")
    graph = builder.compile(checkpointer=saver)
    try:
        graph.invoke({"topic": "claim A-2291", "messages": []}, _config(CLAIM))
    except ConnectionError:
        return  # what the thread is to show
    raise AssertionError("the node fails")


def _chats(store: CheckpointStore) -> None:
    """Save chats of some weeks as they were: they run on nobody's clock."""
    rng = random.Random(7)  # noqa: S311 -- invented chats, no secret
    now = datetime.now(UTC)
    for number in range(_CHATS):
        begun = now - timedelta(hours=30 * number + rng.randint(1, 20))
        thread = ThreadId(
            rng.choice(["ada", "goran", "nadia", "yusuf"]),
            rng.choice(["support", "chat", "onboarding"]),
            begun,
            f"{number:016x}",
        )
        messages: list[AnyMessage] = [SystemMessage("Be brief and friendly.", id="system")]
        records = []
        parent = None
        for turn in range(rng.randint(3, 24)):
            at = begun + timedelta(minutes=2 * turn)
            if turn % 2 == 0:
                messages.append(HumanMessage(rng.choice(_QUESTIONS), id=f"q{turn}"))
            else:
                answer = " ".join(rng.choices(_ANSWERS, k=rng.randint(1, 9)))
                messages.append(AIMessage(answer, id=f"a{turn}"))
            id = f"{int(at.timestamp() * 1000):013x}"
            records.append(
                Checkpoint(
                    id=id,
                    execution_id=str(thread),
                    node_name="answer" if turn % 2 else "__start__",
                    state={"messages": list(messages), "turn": turn},
                    metadata={"source": "loop" if turn % 2 else "input", "step": turn - 1},
                    timestamp=at,
                    version=turn + 1,
                    parent_id=parent,
                )
            )
            parent = id
        store.save_many(records)


_QUESTIONS = (
    "How do I reset my password?",
    "Can I pay by invoice?",
    "The export stopped halfway, what now?",
    "Where do I find the audit log?",
    "Please move our renewal to March.",
)
_ANSWERS = (
    "You find it in the settings, under Security.",
    "I have sent you a link; it is valid for one hour.",
    "Invoices go out on the first of each month.",
    "The export begins again where it stopped.",
    "I have noted that down for your account manager.",
)
