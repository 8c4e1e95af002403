"""The agent: a shop's clerk, whose model is a script so that it needs no key and no network.

It looks orders up (``order 17``), gives money back if a person approves (``refund 17``), and
answers anything else at once. A real service has its own graph here; nothing else knows it.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.callbacks import (
        AsyncCallbackManagerForLLMRun,
        CallbackManagerForLLMRun,
    )
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    Agent = CompiledStateGraph[MessagesState, None, MessagesState, MessagesState]

_WISH = re.compile(r"\b(order|refund) (\d+)")
_TOOLS = {"order": "look_up", "refund": "refund"}


@tool
def look_up(order: int) -> str:
    """Tell where an order is."""
    return f"Order {order} was sent {order % 7 + 1} days ago."


@tool
def refund(order: int) -> str:
    """Give the money for an order back."""
    return f"Order {order} is refunded."


class ScriptedModel(BaseChatModel):
    """Answers by a few rules.

    Attributes:
        seconds: How long an answer takes [s].
    """

    seconds: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("the service is asynchronous: use ainvoke")

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return ChatResult(generations=[ChatGeneration(message=answer_to(messages))])

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = answer_to(messages)
        pieces = re.findall(r"\S+\s*", str(answer.content)) or [""]
        for piece in pieces:
            await asyncio.sleep(self.seconds / len(pieces))
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        if answer.tool_calls:
            chunk = AIMessageChunk(content="", tool_calls=answer.tool_calls)
            yield ChatGenerationChunk(message=chunk)


def answer_to(messages: list[BaseMessage]) -> AIMessage:
    """Return the clerk's next message: the tool that is still to be used, or the last word."""
    asked = max(i for i, message in enumerate(messages) if isinstance(message, HumanMessage))
    question = str(messages[asked].content)
    results = [message for message in messages[asked + 1 :] if isinstance(message, ToolMessage)]
    wishes = _WISH.findall(question)
    if len(results) < len(wishes):
        kind, order = wishes[len(results)]
        call = ToolCall(
            name=_TOOLS[kind],
            args={"order": int(order)},
            id=f"{messages[asked].id}-{len(results)}",
            type="tool_call",
        )
        return AIMessage(f"I see to {kind} {order}.", tool_calls=[call])
    if results:
        return AIMessage(" ".join(str(result.content) for result in results))
    return AIMessage(f"You said: {question:.200} (message {len(messages)} of this thread)")


def build_agent(saver: BaseCheckpointSaver[Any], model_seconds: float = 0.0) -> Agent:
    """Build the agent.

    Args:
        saver: Where its checkpoints go.
        model_seconds: How long an answer of the model takes [s].
    """
    model = ScriptedModel(seconds=model_seconds)

    async def clerk(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def approve(state: MessagesState) -> dict[str, list[BaseMessage]]:
        call = _calls(state)[0]
        # The run ends here; the answer may come next week, to another process.
        decision = interrupt({"approve": call["name"], "args": call["args"]})
        if decision is True:
            return {"messages": []}
        refusal = ToolMessage("A person said no.", tool_call_id=call["id"], status="error")
        return {"messages": [refusal]}

    builder = StateGraph(MessagesState)
    builder.add_node("clerk", clerk)
    builder.add_node("approve", approve)
    builder.add_node("tools", ToolNode([look_up, refund]))
    builder.add_edge(START, "clerk")
    builder.add_conditional_edges("clerk", _after_clerk, ["approve", "tools", END])
    builder.add_conditional_edges("approve", _after_approve, ["clerk", "tools"])
    builder.add_edge("tools", "clerk")
    return builder.compile(checkpointer=saver)


def _calls(state: MessagesState) -> list[ToolCall]:
    last = state["messages"][-1]
    return last.tool_calls if isinstance(last, AIMessage) else []


def _after_clerk(state: MessagesState) -> str:
    calls = _calls(state)
    if not calls:
        return END
    return "approve" if calls[0]["name"] == "refund" else "tools"


def _after_approve(state: MessagesState) -> str:
    return "tools" if _calls(state) else "clerk"
