"""Group commit: requests that wait at the same time share one transaction.

A caller puts its request in the queue. If nobody is committing, it becomes the leader: it runs
everything that waits, itself included, as one batch, and hands each caller its own outcome.
Callers that arrive meanwhile wait for the next batch, which the first of them leads. There is no
thread of its own, and a caller without company needs no queue: it pays for a lock and no hand-over.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from langcairn.errors import StoreUnavailable
from langcairn.observing import clock, current, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

T = TypeVar("T")
RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

_PATIENCE = 0.5
"""Longest sleep of a waiting caller before it looks for itself whether anyone leads. [s]

A leader wakes its successor; this heals the case that an interrupt hit it in just that line.
"""


class Ticket(Generic[RequestT, AnswerT]):
    """A request in the queue, and later its outcome."""

    __slots__ = ("_answer", "_error", "_wake", "done", "observations", "queued", "request")

    def __init__(self, request: RequestT) -> None:
        self.request = request
        self.done = False
        self.observations = current.get()
        self.queued = clock() if self.observations else 0.0
        self._answer: AnswerT | None = None
        self._error: Exception | None = None
        self._wake = threading.Lock()
        self._wake.acquire()

    def settle(self, outcome: AnswerT | Exception) -> None:
        """Set the outcome and wake the caller."""
        if isinstance(outcome, Exception):
            self._error = outcome
        else:
            self._answer = outcome
        self.done = True
        self.nudge()

    def nudge(self) -> None:
        """Wake the caller: to fetch its outcome, or to lead."""
        # Two leaders in turn may nudge the same caller before it runs: one wake-up is enough.
        with suppress(RuntimeError):
            self._wake.release()

    def sleep(self) -> None:
        """Wait for a nudge."""
        self._wake.acquire(timeout=_PATIENCE)

    def result(self) -> AnswerT:
        """Return the answer or raise the error."""
        if self._error is not None:
            raise self._error
        return cast("AnswerT", self._answer)


class GroupCommit(Generic[RequestT, AnswerT]):
    """Runs requests of blocking callers in shared batches, in the order of their arrival.

    Args:
        run: Executes a batch as one transaction, never called by two threads at once. It returns
            an outcome for each request, in order: the answer, or an ``Exception`` for a request
            that failed alone. What it raises failed the whole batch, of which nothing may have
            been kept. Requests must be repeatable: if ``run`` is interrupted by something that is
            no ``Exception`` (``KeyboardInterrupt``), the other requests of the batch run again.
        max_batch: The most requests in one batch, which bounds how long a caller waits for the
            work of others.
    """

    def __init__(
        self,
        run: Callable[[Sequence[RequestT]], Sequence[AnswerT | Exception]],
        *,
        max_batch: int = 64,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._queue: deque[Ticket[RequestT, AnswerT]] = deque()
        self._batch: Sequence[Ticket[RequestT, AnswerT]] = ()
        # Guards both. Reentrant: a signal handler may submit while this very thread holds it.
        self._queue_lock = threading.RLock()
        self._leading = threading.Lock()
        self._leaders: set[int] = set()  # threads that lead, or are about to
        self._alone = 0  # requests under way that were never in the queue

    def submit(self, request: RequestT) -> AnswerT:
        """Run a request, together with those of other threads that wait too.

        Returns when the batch is committed. Raises what failed the request or its batch.
        """
        if not self._queue and not self._leading.locked():
            self.refuse_within_batch()
            return self._lead(lambda: self._run_alone(request))
        ticket: Ticket[RequestT, AnswerT] = Ticket(request)
        try:
            self.enqueue(ticket)
            return self.wait(ticket)
        except BaseException:
            # Interrupted while it waited or led: nobody is left to receive the outcome.
            self.withdraw(ticket)
            raise

    def submit_all(self, requests: Sequence[RequestT]) -> list[AnswerT | Exception]:
        """Run requests of one caller together. Returns an outcome for each, in order."""
        tickets: list[Ticket[RequestT, AnswerT]] = [Ticket(request) for request in requests]
        outcomes: list[AnswerT | Exception] = []
        try:
            for ticket in tickets:
                self.enqueue(ticket)
            for ticket in tickets:
                try:
                    outcomes.append(self.wait(ticket))
                except Exception as error:  # noqa: BLE001 -- an outcome
                    outcomes.append(error)
        except BaseException:
            for ticket in tickets:
                self.withdraw(ticket)
            raise
        return outcomes

    @property
    def waiting(self) -> int:
        """How many requests wait, or are under way."""
        return len(self._queue) + self._alone

    def enqueue(self, ticket: Ticket[RequestT, AnswerT]) -> None:
        """Put a request in the queue, without blocking. It must be waited for, or withdrawn."""
        with self._queue_lock:
            self._queue.append(ticket)

    def wait(self, ticket: Ticket[RequestT, AnswerT]) -> AnswerT:
        """Wait for the outcome of a request, or lead its batch."""
        self.refuse_within_batch()
        while not ticket.done:
            if self._leading.locked():
                ticket.sleep()
            else:
                self._lead(lambda: self._run_until(ticket))
        return ticket.result()

    def refuse_within_batch(self) -> None:
        """Raise an error if this thread is inside a batch, interrupted by a signal handler.

        If it waited for the leader then, it would wait for itself, for ever.
        """
        if threading.get_ident() in self._leaders:
            raise StoreUnavailable("not possible while a commit of the same thread is under way")

    def withdraw(self, ticket: Ticket[RequestT, AnswerT]) -> None:
        """Take a request out of the queue, unless it has begun: then it is completed."""
        with self._queue_lock:
            if ticket in self._queue and ticket not in self._batch:
                self._queue.remove(ticket)
                ticket.settle(Withdrawn())
            self._nudge_first()  # if an interrupted leader leaves, it was itself the first

    def _lead(self, work: Callable[[], T]) -> T:
        """Do something that only one thread may do at a time."""
        thread = threading.get_ident()
        try:
            self._leaders.add(thread)
            # In a with statement even KeyboardInterrupt finds no gap in which the lock is taken
            # but wouldn't be released.
            with self._leading:
                return work()
        finally:
            self._leaders.discard(thread)
            # After the lock is free: who saw it taken and went to sleep is in the queue by now.
            if self._queue:
                with self._queue_lock:
                    self._nudge_first()

    def _run_alone(self, request: RequestT) -> AnswerT:
        """Run a request that was never in the queue."""
        try:
            self._alone = 1
            (outcome,) = self._run([request])
        finally:
            self._alone = 0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _run_until(self, ticket: Ticket[RequestT, AnswerT]) -> None:
        """Run batches until one has contained the leader's own request."""
        while not ticket.done:
            self._run_batch()

    def _run_batch(self) -> None:
        try:
            with self._queue_lock:
                # Again: an interrupt may have cut the same below, and nothing may run a second
                # time when its caller has gone on.
                self._drop_done()
                # By index: a signal handler may append in the midst, which stops an iterator.
                size = min(len(self._queue), self._max_batch)
                self._batch = batch = [self._queue[i] for i in range(size)]
            try:
                with _seen_by(batch):
                    outcomes = self._run([ticket.request for ticket in batch])
            except Exception as error:  # noqa: BLE001 -- handed to every caller of the batch
                outcomes = [error, *(_copied(error) for _ in batch[1:])]
            for ticket, outcome in zip(batch, outcomes, strict=True):
                ticket.settle(outcome)
        finally:
            # A ticket leaves the queue only with its outcome: what an interrupted leader leaves
            # behind is where the next one finds it.
            with self._queue_lock:
                self._batch = ()
                self._drop_done()

    def _nudge_first(self) -> None:
        if self._queue:
            self._queue[0].nudge()

    def _drop_done(self) -> None:
        while self._queue and self._queue[0].done:
            self._queue.popleft()


def _seen_by(batch: Sequence[Ticket[RequestT, AnswerT]]) -> AbstractContextManager[None]:
    """End the waiting of a batch, and note what follows for all that are in it."""
    observations = []
    for ticket in batch:
        for observation in ticket.observations:
            observation.spent("queue", clock() - ticket.queued)
            observations.append(observation)
    return together(observations) if observations else _UNSEEN


_UNSEEN = nullcontext()


class Withdrawn(Exception):
    """The request was taken back before it began."""


def _copied(error: Exception) -> Exception:
    """Copy an error for another thread: raising one object twice would mix the tracebacks."""
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 -- its class can't be made from its args; then one object must do
        return error
    copied.__cause__ = error.__cause__
    return copied
