"""``/threads``: their ids, states and histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from examples.service.answers import Refused, json
from examples.service.identity import user
from langcairn import ThreadId

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from examples.service.agent import Agent
    from examples.service.storage import Storage


class NewThread(BaseModel):
    """What a thread will be for."""

    model_config = ConfigDict(extra="forbid")
    session_type: Annotated[str, Field(min_length=1, max_length=50)] = "chat"


def threads_router(agent: Agent, storage: Storage) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/threads")

    @router.post("")
    async def create(body: NewThread | None = None) -> Response:
        # Nothing is stored before the first run: an id that nobody uses costs nothing.
        kind = (body or NewThread()).session_type
        return json({"thread_id": str(ThreadId.new(user.get(), kind))}, 201)

    @router.get("")
    async def find(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str, Query(max_length=400)] = "",
    ) -> Response:
        return json({"thread_ids": await storage.threads(limit, after)})

    @router.get("/{thread_id}/state")
    async def state(thread_id: str, checkpoint_id: str | None = None) -> Response:
        snapshot = await agent.aget_state(_config(thread_id, checkpoint_id))
        if checkpoint_id is not None and snapshot.created_at is None:
            raise Refused(404, "not_found", "there is no such checkpoint")
        return json(_fields(snapshot))

    @router.get("/{thread_id}/history")
    async def history(
        thread_id: str,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        before: Annotated[str, Query(max_length=200)] | None = None,
    ) -> Response:
        found = agent.aget_state_history(
            _config(thread_id),
            limit=limit,
            before=None if before is None else _config(thread_id, before),
        )
        return json([_fields(snapshot) async for snapshot in found])

    @router.delete("/{thread_id}")
    async def delete(thread_id: str) -> Response:
        if not await storage.delete(thread_id):
            raise Refused(404, "not_found", "there is no such thread")
        return Response(status_code=204)

    return router


def _config(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    configurable = {"thread_id": thread_id}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def _fields(snapshot: StateSnapshot) -> dict[str, Any]:
    parent = snapshot.parent_config
    return {
        "checkpoint_id": snapshot.config["configurable"].get("checkpoint_id"),
        "parent_checkpoint_id": parent and parent["configurable"].get("checkpoint_id"),
        "created_at": snapshot.created_at,
        "values": snapshot.values,
        "next": snapshot.next,
        "interrupts": [{"id": one.id, "value": one.value} for one in snapshot.interrupts],
        "metadata": snapshot.metadata,
    }
