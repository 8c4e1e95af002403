"""Runs: tasks that go on although nobody listens, and can be listened to by many."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.errors import EmptyInputError, GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command

from examples.service.answers import Refused, event, explained
from examples.service.identity import user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StreamMode

    from examples.service.agent import Agent
    from examples.service.metrics import Metrics
    from examples.service.settings import Settings
    from examples.service.storage import Storage

    _Input = dict[str, Any] | Command[Any] | None

KEEP_ALIVE = b": still there\n\n"
KEEP_ALIVE_SECONDS = 15.0  # [s] proxies end what is silent for a minute


class Run:
    """One run of a thread.

    Attributes:
        id: Its id.
        thread_id: The thread.
        who: Whose it is.
        status: ``running``, then ``success``, ``interrupted`` (it waits for a person), ``stopped``
            (it was cancelled or the service ended; it can be continued) or ``error``.
        error: What went wrong.
        messages: What was said since the user's last message.
        interrupts: What it waits for.
        events: The events so far, as they are sent.
    """

    def __init__(self, thread_id: str, who: str) -> None:
        self.id = uuid4().hex
        self.thread_id = thread_id
        self.who = who
        self.status = "running"
        self.error: Refused | None = None
        self.messages: list[BaseMessage] = []
        self.interrupts: list[dict[str, Any]] = []
        self.events: list[bytes] = []
        self.control = RunControl()
        self.task: asyncio.Task[str] | None = None
        self._news = asyncio.Event()

    def say(self, kind: str, value: object) -> None:
        """Add an event."""
        self.events.append(event(kind, f"{self.id}-{len(self.events)}", value))
        self._tell()

    def end(self, status: str, error: Refused | None = None) -> None:
        """Note how it ended."""
        self.status, self.error = status, error
        self._tell()

    def cancel(self) -> None:
        """Stop it where it is. What its finished steps and tasks did is kept."""
        if self.task is not None:
            self.task.cancel()

    async def begun(self) -> None:
        """Wait for its first event, or its end."""
        while not self.events and self.status == "running":
            await self._news.wait()

    async def ended(self) -> None:
        """Wait for its end."""
        while self.status == "running":
            await self._news.wait()

    async def follow(self, after: int = 0) -> AsyncIterator[bytes]:
        """Yield its events from a number on, until it ends."""
        while True:
            news = self._news
            while after < len(self.events):
                yield self.events[after]
                after += 1
            if self.status != "running":
                return
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await news.wait()
            except TimeoutError:
                yield KEEP_ALIVE

    def summary(self) -> dict[str, Any]:
        """Return what is told of it at its end."""
        said: dict[str, Any] = {
            "run_id": self.id,
            "thread_id": self.thread_id,
            "status": self.status,
            "messages": self.messages,
            "interrupts": self.interrupts,
        }
        if self.error is not None:
            said["error"] = {"error": self.error.code, "message": str(self.error)}
        return said

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Runs:
    """The runs of this process.

    Args:
        agent: What is run.
        storage: Who may run a thread.
        settings: How many, and how long.
        metrics: Where they are counted.

    Attributes:
        draining: Whether no more are begun, because the service ends.
    """

    def __init__(
        self, agent: Agent, storage: Storage, settings: Settings, metrics: Metrics
    ) -> None:
        self._agent = agent
        self._storage = storage
        self._settings = settings
        self._metrics = metrics
        self._going: dict[str, Run] = {}
        self._of_user: Counter[str] = Counter()
        self._ended: OrderedDict[str, Run] = OrderedDict()
        self.draining = False

    def start(
        self,
        thread_id: str,
        input: _Input,
        *,
        checkpoint_id: str | None = None,
        modes: Sequence[StreamMode] = (),
    ) -> Run:
        """Begin a run, as the current user.

        Args:
            thread_id: The thread.
            input: New messages, an answer to an interrupt, or None to go on where it stopped.
            checkpoint_id: Where to go on from, if not from the newest checkpoint.
            modes: What its events are made of, as LangGraph's ``stream_mode``; none without.

        Raises:
            Refused: The thread is running, or the service or its user has enough to do.
        """
        if self.draining:
            raise Refused(503, "unavailable", "the service is shutting down; try again")
        if len(self._going) >= self._settings.max_runs:
            raise Refused(503, "busy", f"{len(self._going)} runs are going on; try again")
        run = Run(thread_id, user.get())
        if self._of_user[run.who] >= self._settings.max_runs_per_user:
            # 429: what one user does too much of is no failure of the service, and no alert.
            number = self._of_user[run.who]
            raise Refused(429, "busy", f"{number} runs of yours are going on; try again")
        going = self._going.setdefault(thread_id, run)
        if going is not run:
            if going.who != run.who:  # not theirs: the guard would say the same
                raise Refused(404, "not_found", "there is no such thread")
            raise Refused(409, "conflict", f"run {going.id} of this thread is going on")
        configurable = {"thread_id": thread_id}
        if checkpoint_id is not None:
            configurable["checkpoint_id"] = checkpoint_id
        config: RunnableConfig = {"configurable": configurable}
        # A task of its own, with the context of the request: it outlives the connection.
        self._of_user[run.who] += 1
        run.task = asyncio.create_task(self._work(run, input, config, modes))
        run.task.add_done_callback(lambda task: self._note_end(run, task))
        return run

    def get(self, thread_id: str, run_id: str) -> Run:
        """Return a run of the current user's.

        Raises:
            Refused: This process knows of none.
        """
        run = self._ended.get(run_id) or self._going.get(thread_id)
        if run is None or (run.id, run.thread_id, run.who) != (run_id, thread_id, user.get()):
            raise Refused(
                404, "not_found", "this process has no such run; the thread's state has its outcome"
            )
        return run

    @property
    def going(self) -> int:
        """How many are going on."""
        return len(self._going)

    async def drain(self) -> None:
        """Begin no more runs and wait for those that go on, for as long as the settings say.

        They get some time to finish, then they stop after the step they are in, then they are
        cancelled. In each case everything finished is in the store when this returns.
        """
        self.draining = True
        await self._wait(self._settings.finish_seconds)
        for run in self._going.values():
            run.control.request_drain("the service ends")
        await self._wait(self._settings.step_seconds)
        for run in self._going.values():
            run.cancel()
        # LangGraph waits for saves that were begun, and the store gives up at its deadline.
        await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        tasks = [run.task for run in self._going.values() if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _work(
        self, run: Run, input: _Input, config: RunnableConfig, modes: Sequence[StreamMode]
    ) -> str:
        async with self._storage.writing(run.thread_id):
            await self._check_begin(input, config)
            if modes:
                return await self._streamed(run, input, config, modes)
            return await self._run(run, input, config)

    async def _check_begin(self, input: _Input, config: RunnableConfig) -> None:
        """Refuse to go on from what isn't there: LangGraph would begin with an empty state.

        Raises:
            Refused: There is no such checkpoint, or nothing that an answer could be for.
        """
        chosen = "checkpoint_id" in config["configurable"]
        if not chosen and not isinstance(input, Command):
            return  # the newest checkpoint or a new thread: either will do
        if await self._storage.saver.aget_tuple(config) is None:
            if chosen:
                raise Refused(404, "not_found", "there is no such checkpoint")
            raise EmptyInputError

    def _note_end(self, run: Run, task: asyncio.Task[str]) -> None:
        """Note how a run ended. As a callback: a task may be cancelled before it has begun."""
        del self._going[run.thread_id]
        self._of_user[run.who] -= 1
        if not self._of_user[run.who]:
            del self._of_user[run.who]  # else every user who was ever here would be kept
        error = None
        if task.cancelled():
            status, error = "stopped", _stopped("it was cancelled")
        elif (problem := task.exception()) is None:
            status = task.result()
        elif isinstance(problem, GraphDrained):
            status, error = "stopped", _stopped("the service ends")
        else:
            status, error = "error", explained(problem)
        if run.events:
            run.status, run.error = status, error
            run.say("end", run.summary())
        run.end(status, error)
        self._metrics.runs.labels(status).inc()
        self._ended[run.id] = run
        while len(self._ended) > self._settings.runs_kept:
            self._ended.popitem(last=False)

    async def _run(self, run: Run, input: _Input, config: RunnableConfig) -> str:
        values = await self._agent.ainvoke(
            cast("Any", input),  # LangGraph's type wants the whole state
            config,
            durability=self._settings.durability,
            control=run.control,
        )
        return _finish(run, values)

    async def _streamed(
        self,
        run: Run,
        input: _Input,
        config: RunnableConfig,
        modes: Sequence[StreamMode],
    ) -> str:
        values: dict[str, Any] = {}
        stream = self._agent.astream(
            cast("Any", input),
            config,
            stream_mode=list({*modes, "values"}),
            durability=self._settings.durability,
            control=run.control,
        )
        async for mode, value in cast("AsyncIterator[tuple[str, Any]]", stream):
            if not run.events:
                # Not before something was read and saved: an error until then has its own status.
                run.say("metadata", {"run_id": run.id, "thread_id": run.thread_id})
            if mode == "values":
                values = value
            if mode in modes:
                run.say(mode, value)
        return _finish(run, values)


def _finish(run: Run, values: dict[str, Any]) -> str:
    """Note what a run has come to. Returns its status."""
    messages: list[BaseMessage] = values.get("messages", [])
    begin = len(messages)
    # Since the user's last word: what is answered doesn't grow with the thread.
    while begin > 0 and not isinstance(messages[begin - 1], HumanMessage):
        begin -= 1
    run.messages = messages[begin:]
    found = values.get("__interrupt__", ())
    run.interrupts = [{"id": one.id, "value": one.value} for one in found]
    return "interrupted" if found else "success"


def _stopped(why: str) -> Refused:
    return Refused(
        503, "stopped", f"{why}; what was done is kept: run the thread with no input to go on"
    )
