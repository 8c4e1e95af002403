"""``/threads/{thread_id}/runs``: runs that are waited for, streamed, joined and cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from langchain_core.messages import HumanMessage
from langgraph.types import Command
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from examples.service.answers import json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from examples.service.running import Run, Runs


_DEEPEST = 50  # [levels] of lists and objects in an answer to an interrupt


class UserMessage(BaseModel):
    """What a user says. Other roles are the agent's: nobody puts words or calls in its mouth."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["user"] = "user"
    content: Annotated[str, Field(min_length=1, max_length=20_000)]


class RunInput(BaseModel):
    """New messages of a thread."""

    model_config = ConfigDict(extra="forbid")
    messages: Annotated[list[UserMessage], Field(min_length=1, max_length=20)]


def _shallow(value: object) -> object:
    """Refuse what is nested deeper than it can be saved, before the run begins."""
    level, depth = [value], 0
    while level := [
        item
        for one in level
        if isinstance(one, (dict, list))
        for item in (one.values() if isinstance(one, dict) else one)
    ]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"must not be nested deeper than {_DEEPEST} levels")
    return value


class ResumeCommand(BaseModel):
    """The answer to an interrupt."""

    model_config = ConfigDict(extra="forbid")
    resume: Annotated[Any, AfterValidator(_shallow)]


class RunRequest(BaseModel):
    """A run: of new messages, of an answer to an interrupt, or, without both, of what is left."""

    model_config = ConfigDict(extra="forbid")
    input: RunInput | None = None
    command: ResumeCommand | None = None
    checkpoint_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    # A phone that loses its network finds the answer in the thread when it is back.
    on_disconnect: Literal["continue", "cancel"] = "continue"

    @model_validator(mode="after")
    def _one_of_them(self) -> RunRequest:
        if self.input is not None and self.command is not None:
            raise ValueError("give an input or a command, not both")
        return self

    def start(self, runs: Runs, thread_id: str, modes: list[Any]) -> Run:
        """Begin the run."""
        value: Any = None
        if self.input is not None:
            said = [HumanMessage(message.content) for message in self.input.messages]
            value = {"messages": said}
        elif self.command is not None:
            value = Command(resume=self.command.resume)
        return runs.start(thread_id, value, checkpoint_id=self.checkpoint_id, modes=modes)


class StreamRequest(RunRequest):
    """A run whose events are wanted, as LangGraph's ``stream_mode`` has them."""

    stream_mode: Annotated[
        list[Literal["values", "updates", "messages"]], Field(min_length=1, max_length=3)
    ] = ["updates"]


def runs_router(runs: Runs) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/threads/{thread_id}/runs")

    @router.post("/wait")
    async def wait(thread_id: str, body: RunRequest, request: Request) -> Response:
        run = body.start(runs, thread_id, [])
        if body.on_disconnect == "cancel":
            await _end_or_disconnect(run, request)
        else:
            await run.ended()
        return _outcome(run)

    @router.post("/stream")
    async def stream(thread_id: str, body: StreamRequest) -> Response:
        run = body.start(runs, thread_id, list(body.stream_mode))
        await run.begun()
        if run.error is not None and not run.events:
            raise run.error
        return _streaming(run, 0, cancel=body.on_disconnect == "cancel")

    @router.post("")
    async def begin(thread_id: str, body: StreamRequest) -> Response:
        run = body.start(runs, thread_id, list(body.stream_mode))
        return json(run.summary(), 202)

    @router.get("/{run_id}")
    async def look(thread_id: str, run_id: str) -> Response:
        return json(runs.get(thread_id, run_id).summary())

    @router.get("/{run_id}/stream")
    async def join(
        thread_id: str, run_id: str, last_event_id: Annotated[str, Header()] = ""
    ) -> Response:
        run = runs.get(thread_id, run_id)
        of, _, number = last_event_id.rpartition("-")
        after = int(number) + 1 if of == run.id and number.isascii() and number.isdigit() else 0
        return _streaming(run, after, cancel=False)

    @router.get("/{run_id}/join")
    async def result(thread_id: str, run_id: str) -> Response:
        run = runs.get(thread_id, run_id)
        await run.ended()
        return _outcome(run)

    @router.post("/{run_id}/cancel")
    async def cancel(thread_id: str, run_id: str) -> Response:
        run = runs.get(thread_id, run_id)
        run.cancel()
        await run.ended()
        return json(run.summary())

    return router


def _outcome(run: Run) -> Response:
    if run.error is not None:
        raise run.error
    return json(run.summary())


def _streaming(run: Run, after: int, *, cancel: bool) -> Response:
    async def events() -> AsyncIterator[bytes]:
        try:
            async for one in run.follow(after):
                yield one
        finally:
            # Left early only if the client has gone.
            if cancel:
                run.cancel()

    # Proxies that collect answers would turn a stream into one answer at the end.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def _end_or_disconnect(run: Run, request: Request) -> None:
    """Wait until a run ends, and cancel it if its client goes away before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    ended = asyncio.create_task(run.ended())
    watch = asyncio.create_task(gone())
    await asyncio.wait({ended, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()
    if not ended.done():
        run.cancel()
        await ended
