"""A conversation that is kept in a file, and looked at afterwards.

Run it twice: the second run continues the conversation of the first. No key, no network.
"""

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langcairn import CheckpointSaver


def answer(state: MessagesState) -> dict[str, list[AIMessage]]:
    """Answer like a very simple model."""
    return {"messages": [AIMessage(f"That was message {len(state['messages'])}.")]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")

with CheckpointSaver("sqlite:///quickstart.db") as saver:
    graph = builder.compile(checkpointer=saver)
    result = graph.invoke(
        {"messages": [HumanMessage("hello")]}, {"configurable": {"thread_id": "Ada's thread"}}
    )
    print(result["messages"][-1].content)
    for checkpoint in saver.store.list("Ada's thread", limit=3):
        messages = checkpoint.state.get("messages", [])
        print(f"  {checkpoint.node_name or '-':10} {len(messages)} messages")
