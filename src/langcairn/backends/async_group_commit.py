"""Group commit for coroutines: requests that wait at the same time share one statement.

The twin of `langcairn.backends.group_commit` for one event loop. Here no caller leads: batches are
run by tasks of their own, so that a cancelled caller takes nothing of the others with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeAlias, TypeVar, cast

from langcairn.backends.group_commit import _copied
from langcairn.observing import clock, current, together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from langcairn.observing import Observation

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


_UNSEEN = nullcontext()


class _Waiting(NamedTuple, Generic[RequestT, AnswerT]):
    """A request in the queue."""

    request: RequestT
    future: asyncio.Future[AnswerT]
    observations: Sequence[Observation]
    since: float


_Batch: TypeAlias = "list[_Waiting[RequestT, AnswerT]]"


class AsyncGroupCommit(Generic[RequestT, AnswerT]):
    """Runs requests of coroutines in shared batches, in the order of their arrival.

    Args:
        run: Executes a batch and returns an outcome for each request, in order: the answer, or an
            ``Exception`` for a request that failed alone. What it raises failed all of them.
        lanes: The most batches under way at the same time.
        max_batch: The most requests in one batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[RequestT]], Awaitable[Sequence[AnswerT | Exception]]],
        *,
        lanes: int = 1,
        max_batch: int = 64,
    ) -> None:
        self._run = run
        self._lanes = lanes
        self._max_batch = max_batch
        self._queue: deque[_Waiting[RequestT, AnswerT]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, request: RequestT) -> AnswerT:
        """Run a request, together with those of other tasks that wait too.

        If the task is cancelled, a request that has begun is completed; one that has not is never
        begun.
        """
        future: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        observations = current.get()
        since = clock() if observations else 0.0
        self._queue.append(_Waiting(request, future, observations, since))
        if len(self._tasks) < self._lanes:
            # It begins when the tasks that are ready now have run, and takes their requests along.
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            # Also for a task that is cancelled before it runs.
            task.add_done_callback(self._tasks.discard)
        return await future

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    async def drain(self) -> None:
        """Wait until all requests are done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                await self._commit(batch)
        finally:
            # In the same breath as the last look into the queue: a request that came in between
            # would find all lanes taken, and wait for ever.
            self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _commit(self, batch: _Batch[RequestT, AnswerT]) -> None:
        futures = [one.future for one in batch]
        observations = []
        for one in batch:
            for observation in one.observations:
                observation.spent("queue", clock() - one.since)
                observations.append(observation)
        try:
            # Also without any, if the task was begun by one that is seen: it has that context.
            with together(observations) if observations or current.get() else _UNSEEN:
                outcomes = await self._run([one.request for one in batch])
        except Exception as error:  # noqa: BLE001 -- handed to every caller of the batch
            _settle(futures, [error, *(_copied(error) for _ in batch[1:])])
        except BaseException:
            # The loop is being shut down.
            for future in futures:
                future.cancel()
            raise
        else:
            _settle(futures, outcomes)

    def _next_batch(self) -> _Batch[RequestT, AnswerT]:
        batch: _Batch[RequestT, AnswerT] = []
        while self._queue and len(batch) < self._max_batch:
            element = self._queue.popleft()
            if not element.future.done():  # its caller was cancelled
                batch.append(element)
        return batch


def _settle(
    futures: Sequence[asyncio.Future[AnswerT]], outcomes: Sequence[AnswerT | Exception]
) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue  # cancelled meanwhile: nobody is left to receive the outcome
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
