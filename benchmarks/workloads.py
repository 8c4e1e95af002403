"""The workloads: real LangGraph graphs with scripted nodes, no network and no keys.

Each is driven the way an application would drive it: a conversation is one `invoke` per human
message on the same thread, a document and a counter are one long run of a loop.

Answers and tool results have ids, as those of LangChain's chat models do. Without, `add_messages`
gives them one in place, while another thread already stores the node's output: whether a
put_writes sees a message with its id or without then differs from run to run, and with it what
there is to store. Human messages have none, as is usual; those get theirs well after the put.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from benchmarks.words import text

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

THREAD_ID = "bench"

HUMAN_LENGTH = 300
TOOL_RESULT_LENGTH = 6_000
ANSWER_LENGTH = 1_500
CHAT_HUMAN_LENGTH = 500
CHAT_ANSWER_LENGTH = 2_000
SECTIONS = 200
SECTION_LENGTH = 500

Drive = Callable[["BaseCheckpointSaver[Any]", int], None]


@dataclass(frozen=True)
class Workload:
    """A graph and the way it is driven.

    Attributes:
        name: What `--workload` calls it.
        description: One line for the report.
        drive: Builds the graph, and runs it for a number of turns on a saver.
        turns: How many turns the full benchmark runs.
        quick_turns: How many a smoke test runs.
        turn_begins: What begins a turn: an input (one `invoke` a turn), or a super-step.
        block: How many turns one saver replays before the next saver's go.
    """

    name: str
    description: str
    drive: Drive
    turns: int
    quick_turns: int
    turn_begins: Literal["input", "step"]
    block: int

    def quick(self) -> Workload:
        return replace(self, turns=self.quick_turns)


def thread_config(recursion_limit: int = 25) -> RunnableConfig:
    return {"configurable": {"thread_id": THREAD_ID}, "recursion_limit": recursion_limit}


# --- agent ---------------------------------------------------------------------------------------


def _message_id(seed: str) -> str:
    return str(uuid.UUID(bytes=random.Random(seed).randbytes(16), version=4))


def _ai_message(seed: str, content: str, **fields: Any) -> AIMessage:
    """Make an answer with the id and metadata that LangChain's chat models put on theirs."""
    return AIMessage(
        content,
        id=f"lc_run--{_message_id(seed)}",
        response_metadata={"model_name": "scripted-1", "finish_reason": "stop"},
        usage_metadata=UsageMetadata(
            input_tokens=1_000, output_tokens=len(content), total_tokens=1_000 + len(content)
        ),
        **fields,
    )


def _turn_of(messages: list[AnyMessage]) -> int:
    return sum(message.type == "human" for message in messages)


def _agent(state: MessagesState) -> dict[str, Any]:
    turn = _turn_of(state["messages"])
    if state["messages"][-1].type == "tool":
        seed = f"agent answer {turn}"
        return {"messages": [_ai_message(seed, text(seed, ANSWER_LENGTH))]}
    call = {"name": "look_up", "args": {"subject": f"{turn}"}, "id": f"call_{turn}"}
    return {"messages": [_ai_message(f"agent call {turn}", "", tool_calls=[call])]}


@tool
def look_up(subject: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
    """Look a subject up."""
    seed = f"agent tool {subject}"
    return ToolMessage(
        text(seed, TOOL_RESULT_LENGTH),
        id=_message_id(seed),
        name="look_up",
        tool_call_id=tool_call_id,
    )


def _needs_tool(state: MessagesState) -> str:
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else END


def drive_agent(saver: BaseCheckpointSaver[Any], turns: int) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", _agent)
    builder.add_node("tools", ToolNode([look_up]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", _needs_tool, ["tools", END])
    builder.add_edge("tools", "agent")
    graph = builder.compile(checkpointer=saver)
    for turn in range(1, turns + 1):
        question = HumanMessage(text(f"agent human {turn}", HUMAN_LENGTH))
        graph.invoke({"messages": [question]}, thread_config(), durability="sync")


# --- chat ----------------------------------------------------------------------------------------


def _chat(state: MessagesState) -> dict[str, Any]:
    seed = f"chat answer {_turn_of(state['messages'])}"
    return {"messages": [_ai_message(seed, text(seed, CHAT_ANSWER_LENGTH))]}


def drive_chat(saver: BaseCheckpointSaver[Any], turns: int) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("chat", _chat)
    builder.add_edge(START, "chat")
    builder.add_edge("chat", END)
    graph = builder.compile(checkpointer=saver)
    for turn in range(1, turns + 1):
        question = HumanMessage(text(f"chat human {turn}", CHAT_HUMAN_LENGTH))
        graph.invoke({"messages": [question]}, thread_config(), durability="sync")


# --- document ------------------------------------------------------------------------------------


class DocumentState(TypedDict):
    document: dict[str, str]
    edits: int


def _section(number: int) -> str:
    return f"section {number:03}"


def _edit(state: DocumentState) -> dict[str, Any]:
    edits = state["edits"] + 1
    changed = {_section(edits % SECTIONS): text(f"document edit {edits}", SECTION_LENGTH)}
    return {"document": {**state["document"], **changed}, "edits": edits}


def drive_document(saver: BaseCheckpointSaver[Any], turns: int) -> None:
    def more(state: DocumentState) -> str:
        return "edit" if state["edits"] < turns else END

    builder = StateGraph(DocumentState)
    builder.add_node("edit", _edit)
    builder.add_edge(START, "edit")
    builder.add_conditional_edges("edit", more, ["edit", END])
    graph = builder.compile(checkpointer=saver)
    document = {
        _section(number): text(f"document {number}", SECTION_LENGTH) for number in range(SECTIONS)
    }
    graph.invoke({"document": document, "edits": 0}, thread_config(turns + 10), durability="sync")


# --- counter -------------------------------------------------------------------------------------


class CounterState(TypedDict):
    steps: int
    total: int
    remainder: int


def _count(state: CounterState) -> dict[str, Any]:
    steps = state["steps"] + 1
    return {"steps": steps, "total": state["total"] + steps, "remainder": steps % 7}


def drive_counter(saver: BaseCheckpointSaver[Any], turns: int) -> None:
    def more(state: CounterState) -> str:
        return "count" if state["steps"] < turns else END

    builder = StateGraph(CounterState)
    builder.add_node("count", _count)
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", more, ["count", END])
    graph = builder.compile(checkpointer=saver)
    start: CounterState = {"steps": 0, "total": 0, "remainder": 0}
    graph.invoke(start, thread_config(turns + 10), durability="sync")


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(
            name="agent",
            description="a human message of 300 characters, an AI message with a tool call, a tool "
            "result of 6,000, an AI answer of 1,500 a turn",
            drive=drive_agent,
            turns=200,
            quick_turns=6,
            turn_begins="input",
            block=1,
        ),
        Workload(
            name="chat",
            description="a human message of 500 characters and an answer of 2,000 a turn",
            drive=drive_chat,
            turns=200,
            quick_turns=6,
            turn_begins="input",
            block=2,
        ),
        Workload(
            name="document",
            description="a dict of 200 sections of 500 characters, one changed per step",
            drive=drive_document,
            turns=200,
            quick_turns=10,
            turn_begins="step",
            block=5,
        ),
        Workload(
            name="counter",
            description="three ints that change at every step",
            drive=drive_counter,
            turns=1_000,
            quick_turns=20,
            turn_begins="step",
            block=10,
        ),
    )
}
