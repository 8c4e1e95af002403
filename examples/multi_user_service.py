"""A service that talks with many users at once: one saver, a thread for each conversation.

One `CheckpointSaver` serves all tasks of the event loop. Whoever comes back, finds the conversation
where it was; nobody sees another's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langcairn import CheckpointSaver

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    Service = CompiledStateGraph[MessagesState, None, MessagesState, MessagesState]

USERS = ["ada", "grace", "hedy", "joan_of_arc", "李冶"]


async def answer(state: MessagesState) -> dict[str, list[AIMessage]]:
    """Answer like a model that takes its time."""
    await asyncio.sleep(0.01)
    asked = sum(isinstance(message, HumanMessage) for message in state["messages"])
    last = state["messages"][-1].content
    return {"messages": [AIMessage(f"Question {asked} was: {last}")]}


async def ask(service: Service, user: str, conversation: str, question: str) -> str:
    """Answer one request, as the handler of a web framework would.

    Of requests to the same conversation, let only one run at a time; different ones never wait for
    each other.
    """
    config: RunnableConfig = {"configurable": {"thread_id": f"{user}/{conversation}"}}
    state = await service.ainvoke({"messages": [HumanMessage(question)]}, config)
    return str(state["messages"][-1].content)


async def talk(service: Service, user: str) -> None:
    """Have two conversations at the same time."""

    async def converse(conversation: str) -> None:
        for number in range(1, 4):
            question = f"{user} asks about {conversation}, {number} of 3"
            assert question in await ask(service, user, conversation, question)

    await asyncio.gather(converse("the weather"), converse("an order"))


async def main() -> None:
    """Serve all users at once, then look at what was kept."""
    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    async with CheckpointSaver("sqlite:///service.db") as saver:
        service = builder.compile(checkpointer=saver)
        await asyncio.gather(*(talk(service, user) for user in USERS))

        for thread_id in await saver.store.aexecutions():
            newest = (await saver.store.alist(thread_id, limit=1))[0]
            messages = newest.state["messages"]
            print(f"{thread_id:28} {len(messages)} messages, the last: {messages[-1].content}")
            user, _, conversation = thread_id.partition("/")
            assert all(f"{user} asks about {conversation}" in m.content for m in messages)


asyncio.run(main())
