"""The agent: a LangGraph graph like any other; only its chat model follows a script.

    START → agent ⇄ tools        the model asks, the tools read
              ↓
            review               a person decides (interrupt)
              ↓
            publish → END

Nothing here knows where the checkpoints go: that is `compile(checkpointer=...)`.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Send, interrupt

from langcairn.demo import trail
from langcairn.demo.journal import BEGUN, DONE, Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.messages import BaseMessage
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

TASK = f"Write a guide to the Cairn Trail, all {trail.STAGES} stages."
WINTER_TASK = "Snow came early. Stop here and write a winter guide to the stages you have read."

_TOOLS = {
    "logbook": trail.read_logbook,
    "weather": trail.read_weather,
    "bulletin": trail.read_bulletin,
}


class State(TypedDict, total=False):
    """What the graph carries from step to step, and so what a checkpoint holds."""

    messages: Annotated[list[AnyMessage], add_messages]
    status: str


class ScriptedModel(BaseChatModel):
    """A chat model that decides by rules, from the conversation alone.

    It remembers nothing between calls, as a real model wouldn't: what it knows after a crash is
    what the checkpoint brought back.
    """

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 -- BaseChatModel's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 -- the same
        **kwargs: Any,  # noqa: ARG002 -- the same
    ) -> ChatResult:
        winter = any(message.content == WINTER_TASK for message in messages)
        results = [message for message in messages if isinstance(message, ToolMessage)]
        read = {result.tool_call_id for result in results}
        stages = [stage for stage in range(1, trail.STAGES + 1) if f"logbook-{stage}" in read]
        if not winter and len(stages) < trail.STAGES:
            stage = len(stages) + 1
            return _answer(
                f"ask-{stage}",
                f"Stage {stage}: I need its logbook and its weather.",
                [_call("logbook", stage), _call("weather", stage)],
            )
        if winter and not any(call.startswith("bulletin") for call in read):
            return _answer(
                "ask-bulletins",
                "Winter changes the upper stages: I need their avalanche bulletins.",
                [_call("bulletin", stage) for stage in stages[-2:]],
            )
        season = "winter" if winter else "summer"
        return _answer(f"draft-{season}", _write_guide(season, results))


def build_graph(
    saver: BaseCheckpointSaver[Any], journal: Journal, stall_at: str = ""
) -> CompiledStateGraph[State, None, State, State]:
    """Build the agent.

    Args:
        saver: Where its checkpoints go.
        journal: Where its work is written down.
        stall_at: The tool call that never comes back, such as ``weather-5``: a server that
            hangs, so that the kill finds the process in the middle of a step.
    """
    model = ScriptedModel()

    def agent(state: State) -> State:
        reply = model.invoke(state["messages"])
        journal.record(DONE, str(reply.id))
        return {"messages": [reply], "status": "researching"}

    def review(state: State) -> State:
        guide = str(state["messages"][-1].content)
        headline = guide.splitlines()[0]
        # The process may end here and the answer come next week: the first time this raises,
        # with the answer present it returns it.
        decision = interrupt({"question": f"Publish the {headline}?", "words": len(guide.split())})
        verdict = "approved" if decision["publish"] else "declined"
        said = HumanMessage(f"{decision['by']}: {decision['note']}", id=f"{verdict}-{headline}")
        return {"messages": [said], "status": f"{verdict} by {decision['by']}"}

    def publish(state: State) -> State:
        journal.record(DONE, "publish")
        by = state["status"].removeprefix("approved ")
        return {"messages": [AIMessage("The guide is out.")], "status": f"published, approved {by}"}

    builder = StateGraph(State)
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode(_build_tools(journal, stall_at)))
    builder.add_node("review", review)
    builder.add_node("publish", publish)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", _after_agent, ["tools", "review"])
    builder.add_edge("tools", "agent")
    builder.add_conditional_edges("review", _after_review, ["publish", END])
    builder.add_edge("publish", END)
    return builder.compile(checkpointer=saver)


def _after_agent(state: State) -> list[Send] | str:
    reply = state["messages"][-1]
    if isinstance(reply, AIMessage) and reply.tool_calls:
        # A task for each call: they run at once, and each result is kept as soon as it is there.
        return [Send("tools", [call]) for call in reply.tool_calls]
    return "review"


def _after_review(state: State) -> str:
    return "publish" if state["status"].startswith("approved") else END


def _build_tools(journal: Journal, stall_at: str) -> list[BaseTool]:
    def build(kind: str, read: Callable[[int], str]) -> BaseTool:
        def run(stage: int) -> str:
            work = f"{kind}-{stage}"
            journal.record(BEGUN, work)
            if work == stall_at:
                sys.stdin.read()  # returns only if the parent process is gone
                raise SystemExit(f"the parent process ended while {work} was stalled")
            text = read(stage)
            journal.record(DONE, work, size=len(text.encode()))
            return text

        return StructuredTool.from_function(run, name=kind, description=str(read.__doc__))

    return [build(kind, read) for kind, read in _TOOLS.items()]


def _call(kind: str, stage: int) -> ToolCall:
    return ToolCall(name=kind, args={"stage": stage}, id=f"{kind}-{stage}", type="tool_call")


def _answer(message_id: str, content: str, tool_calls: list[ToolCall] | None = None) -> ChatResult:
    message = AIMessage(content, id=message_id, tool_calls=tool_calls or [])
    return ChatResult(generations=[ChatGeneration(message=message)])


def _write_guide(season: str, results: list[ToolMessage]) -> str:
    """Put together the first lines of everything that was read, stage by stage."""
    facts: dict[int, list[str]] = {}
    for result in results:
        headline = re.match(r"\w+, stage (\d+): (.+)", str(result.content))
        if headline is None:
            raise ValueError(f"{result.tool_call_id} brought no headline")
        facts.setdefault(int(headline[1]), []).append(headline[2])
    lines = [f"Stage {stage}: {'; '.join(parts)}." for stage, parts in sorted(facts.items())]
    return "\n".join([f"{season} guide, {len(facts)} stages", *lines])
