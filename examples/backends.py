"""The same conversation on every backend: only the URL differs.

Servers are used where the environment names them::

    POSTGRES_URL=postgresql://user@host/db REDIS_URL=redis://localhost:6379 python backends.py
"""

import os
from pathlib import Path

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph

from langcairn import CheckpointSaver, open_store


def answer(state: MessagesState) -> dict[str, list[AIMessage]]:
    """Answer like a very simple model."""
    return {"messages": [AIMessage(f"That was message {len(state['messages'])}.")]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")

urls = ["memory:", "sqlite:///backends.db", f"file://{Path('backends').resolve()}"]
for variable in ("POSTGRES_URL", "REDIS_URL"):
    if variable in os.environ:
        urls.append(os.environ[variable])
    else:
        print(f"{variable} is not set: that backend is left out")

thread: RunnableConfig = {"configurable": {"thread_id": "Ada's thread"}}
for url in urls:
    with open_store(url) as store:
        store.clear("Ada's thread")  # of the last time that this ran
        # The options of a store can stand in its URL or be keyword arguments of open_store.
        graph = builder.compile(checkpointer=CheckpointSaver(store))
        for text in ("hello", "and again"):
            graph.invoke({"messages": [HumanMessage(text)]}, thread)

        # What a graph saved is seen as records, on every backend alike.
        newest = store.list("Ada's thread", limit=1)[0]
        steps = len(store.list("Ada's thread"))
        last = newest.state["messages"][-1].content
        print(f"{url.partition(':')[0]:10} {steps} checkpoints, the last says: {last}")
