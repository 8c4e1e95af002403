"""Users who talk with the service, and the account of what it acknowledged."""

from __future__ import annotations

import asyncio
import json
import random
from array import array
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from benchmarks.service_load.client import fields, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.service_load.client import Client

PAUSE = 0.2  # [s] after an answer that wasn't a success, as Retry-After asks for more
VERIFIED = 2000  # [threads] that are read again at the end, beside those that had trouble
_READERS = 16


@dataclass(slots=True)
class Thread:
    """A thread, and what was acknowledged of it.

    Attributes:
        user: Whose it is.
        id: Its id.
        said: The messages whose runs were answered with success.
        doubtful: Whether a run was not answered with success, or was under way at a restart.
    """

    user: str
    id: str
    said: list[str] = field(default_factory=list)
    doubtful: bool = False


@dataclass
class Account:
    """What happened, all users together. Times are those of `time.monotonic`.

    Attributes:
        counting: Whether answers count; not during the warm-up.
        latencies: How long each success took [s].
        outcomes: Answers by status, and errors by name.
        wrong: Answers that don't fit what was acknowledged before.
        ended: Threads that are done.
        latest: When each user last had a success.
        per_second: Successes in each second.
    """

    counting: bool = False
    latencies: array[float] = field(default_factory=lambda: array("d"))
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    ended: list[Thread] = field(default_factory=list)
    latest: dict[str, float] = field(default_factory=dict)
    per_second: Counter[int] = field(default_factory=Counter)


class User:
    """One who says something, waits for the answer, and says the next thing.

    Args:
        name: His name.
        client: Connections to the process that serves him.
        account: Where to note what happened.
        turns: How many runs he makes in a thread before he begins another one.
    """

    def __init__(self, name: str, client: Client, account: Account, turns: int = 10) -> None:
        self.name = name
        self.thread: Thread | None = None
        self._client = client
        self._account = account
        self._headers = fields(x_user=name)
        self._turns = turns
        self._turn = 0

    async def talk(self, stop: asyncio.Event) -> None:
        """Talk until it is over."""
        while not stop.is_set():
            if self.thread is None:
                self.thread = await self._begin()
            elif not await self._say(self.thread) or len(self.thread.said) == self._turns:
                self._account.ended.append(self.thread)
                self.thread = None
        if self.thread is not None:
            self._account.ended.append(self.thread)

    async def _begin(self) -> Thread | None:
        status, body = await self._ask(request("POST", "/threads", self._headers, b"{}"))
        if status != 201:
            await asyncio.sleep(PAUSE)
            return None
        return Thread(self.name, json.loads(body)["thread_id"])

    async def _say(self, thread: Thread) -> bool:
        """Make a run. Returns whether the thread can go on."""
        self._turn += 1
        message = f"turn {self._turn} of {self.name}"
        body = json.dumps({"input": {"messages": [{"content": message}]}}).encode()
        path = f"/threads/{thread.id}/runs/wait"
        begin = monotonic()
        status, answer = await self._ask(request("POST", path, self._headers, body))
        end = monotonic()
        account = self._account
        if status != 200:
            # Perhaps it was made, perhaps not: that is no loss, it was not acknowledged.
            thread.doubtful = True
            await asyncio.sleep(PAUSE)
            return False
        expected = f"You said: {message} (message {2 * len(thread.said) + 1} of this thread)"
        if expected.encode() not in answer:
            account.wrong.append(f"{thread.id}: {answer[-300:]!r} instead of {expected!r}")
            return False
        thread.said.append(message)
        account.latest[self.name] = end
        account.per_second[int(end)] += 1
        if account.counting:
            account.latencies.append(end - begin)
        return True

    async def _ask(self, asked: bytes) -> tuple[int, bytes]:
        try:
            status, body = await self._client.ask(asked)
            outcome = str(status)
        except OSError as error:
            status, body, outcome = 0, b"", type(error).__name__
        if self._account.counting and (status != 201):
            self._account.outcomes[outcome] += 1
        return status, body


async def verify(threads: Sequence[Thread], clients: dict[str, Client]) -> tuple[int, list[str]]:
    """Read threads again: all that had trouble, and some of the others.

    Args:
        threads: All that there were.
        clients: Where to ask, by user.

    Returns:
        How many were read, and what was acknowledged but isn't there.
    """
    doubtful = [thread for thread in threads if thread.doubtful]
    others = [thread for thread in threads if not thread.doubtful]
    chosen = doubtful + random.sample(others, min(VERIFIED, len(others)))
    waiting = iter(chosen)
    lost: list[str] = []

    async def read() -> None:
        for thread in waiting:
            asked = request("GET", f"/threads/{thread.id}/state", fields(x_user=thread.user))
            status, body = await clients[thread.user].ask(asked)
            said = _said(body) if status == 200 else []
            # What was not acknowledged may be there, too, but only after the rest.
            if said[: len(thread.said)] != thread.said:
                lost.append(f"{thread.id}: {status}, {said} instead of {thread.said}")

    await asyncio.gather(*(read() for _ in range(_READERS)))
    return len(chosen), lost


def _said(body: bytes) -> list[str]:
    messages = json.loads(body)["values"].get("messages", [])
    return [message["content"] for message in messages if message["type"] == "human"]
