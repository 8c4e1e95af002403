"""A chat agent with a tool, kept in a file: every run of this program continues the conversation.

The model follows a script: no key, no network. Put `init_chat_model(...)` in its place.
"""

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, MessagesState
from rich.console import Console

from langcairn import CheckpointableMessageGraph, CheckpointConfig

QUESTIONS = ["How high is the pass?", "And how cold is it up there?"]
FACTS = {"height": "2,475 m", "cold": "-4 °C"}


def model(state: MessagesState) -> dict[str, list[AIMessage]]:
    """Answer like a model that knows when to use its tool."""
    last = state["messages"][-1]
    if isinstance(last, ToolMessage):
        return {"messages": [AIMessage(f"It says {last.content}.")]}
    topic = "cold" if "cold" in str(last.content) else "height"
    call = {"name": "look_up", "args": {"topic": topic}, "id": f"call {len(state['messages'])}"}
    return {"messages": [AIMessage("", tool_calls=[{**call, "type": "tool_call"}])]}


def look_up(state: MessagesState) -> dict[str, list[ToolMessage]]:
    """Run the tool that the model asked for."""
    call = state["messages"][-1].tool_calls[0]  # type: ignore[union-attr]  # the edge below saw it
    return {"messages": [ToolMessage(FACTS[call["args"]["topic"]], tool_call_id=call["id"])]}


def wants_a_tool(state: MessagesState) -> str:
    """Say where to go on after the model."""
    last = state["messages"][-1]
    return "look_up" if isinstance(last, AIMessage) and last.tool_calls else END


graph = CheckpointableMessageGraph()
graph.add_node("model", model)
graph.add_node("look_up", look_up)
graph.add_edge(START, "model")
graph.add_conditional_edges("model", wants_a_tool, ["look_up", END])
graph.add_edge("look_up", "model")
# The ten newest checkpoints are enough to go on, and to go back a little.
graph.set_checkpoint_config(CheckpointConfig("sqlite:///chat.db", max_checkpoints=10))

console = Console(highlight=False)
with graph.compile_checkpointable(execution_id="Ada's chat") as agent:
    before = agent.get_state().values.get("messages", [])
    console.print(f"[dim]{len(before)} messages were kept from earlier runs.[/]")
    for question in QUESTIONS:
        console.print(f"[bold]you[/]     {question}")
        for update in agent.stream({"messages": [HumanMessage(question)]}, stream_mode="updates"):
            for node, change in update.items():
                said = change["messages"][-1]
                text = said.content or f"calls {said.tool_calls[0]['name']}"
                console.print(f"[bold cyan]{node:<8}[/]{text}")
    kept = agent.list_checkpoints()
    console.print(f"[dim]{len(kept)} checkpoints; the newest is after {kept[0].node_name!r}.[/]")
