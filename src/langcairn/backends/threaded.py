"""The base of backends whose driver only blocks: writes share commits, coroutines share threads."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

from typing_extensions import override

from langcairn.backends.base import (
    AcquireLease,
    Backend,
    Clear,
    Commit,
    Move,
    ReleaseLease,
    Remove,
    RenewLease,
    Rewrite,
    Sweep,
    Transaction,
)
from langcairn.backends.group_commit import GroupCommit, Ticket
from langcairn.backends.measures import Load
from langcairn.errors import InvalidInput, StoreClosed
from langcairn.observing import clock, current, spent, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.backends.base import Request
    from langcairn.observing import Observation

_WRITES = (
    Commit, Remove, Sweep, Rewrite, Move, Clear,
    Transaction, AcquireLease, RenewLease, ReleaseLease,
)  # fmt: skip


class ThreadedBackend(Backend):
    """A backend that answers requests in the caller's thread, or in threads of its own.

    A subclass implements `_read`, `_write`, `_release` and `_abandon`.

    Args:
        max_threads: The most threads that answer the requests of coroutines. They are started
            when needed.
    """

    def __init__(self, *, max_threads: int) -> None:
        if max_threads < 1:
            raise InvalidInput(f"max_threads={max_threads}: at least one is needed")
        self._max_threads = max_threads
        self._closed = False
        self._start_afresh()
        _backends.add(self)

    def _start_afresh(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        # Reentrant: a signal handler may close the backend while this very thread holds it.
        self._executor_lock = threading.RLock()
        self._commits: GroupCommit[Request, object] = GroupCommit(self._write)

    @abstractmethod
    def _read(self, request: Request) -> object:
        """Answer a request that changes nothing. Called by any number of threads at once."""

    @abstractmethod
    def _write(self, requests: Sequence[Request]) -> Sequence[object]:
        """Answer requests that change something, in one transaction (see `GroupCommit`).

        Called by one thread at a time.
        """

    @abstractmethod
    def _release(self) -> None:
        """Release what was opened. Requests that have begun may still be at work."""

    def _pause(self) -> None:
        """Let nobody begin, until `_resume`: the process is about to fork."""

    def _resume(self) -> None:
        """Go on in the parent, after a fork, or after `_pause` was interrupted."""

    @abstractmethod
    def _abandon(self) -> None:
        """Forget what the parent process opened, in a child just forked, without closing it.

        Locks must be replaced: a thread that held one doesn't exist here.
        """

    @override
    def execute(self, request: Request) -> object:
        self._refuse_if_closed()
        if isinstance(request, _WRITES):
            return self._commits.submit(request)
        return self._read(request)

    @override
    def execute_all(self, commits: Sequence[Commit]) -> Sequence[int | Exception]:
        self._refuse_if_closed()
        return cast("Sequence[int | Exception]", self._commits.submit_all(commits))

    @override
    async def aexecute(self, request: Request) -> object:
        # If the task is cancelled, a request that has begun is completed; one that has not is
        # never begun.
        if not isinstance(request, _WRITES):
            seen, since = current.get(), clock()
            return await self._in_thread(lambda: self._execute_seen(request, seen, since))
        self._refuse_if_closed()
        # In the queue at once, not when a thread is free: whoever commits next takes all along,
        # so that 50 tasks share a commit although there are only a few threads.
        ticket: Ticket[Request, object] = Ticket(request)
        try:
            self._commits.enqueue(ticket)
            return await self._in_thread(lambda: self._commits.wait(ticket))
        except BaseException:
            self._commits.withdraw(ticket)
            raise

    @override
    def load(self) -> Load:
        return Load(queued=self._commits.waiting)

    @override
    def close(self) -> None:
        self._commits.refuse_within_batch()
        with self._executor_lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            # What still waits for a thread gets one, and finds the store closed.
            executor.shutdown()
        self._release()

    @override
    async def aclose(self) -> None:
        # Not in the backend's own threads: close() waits for those to end.
        await asyncio.to_thread(self.close)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreClosed("this store is closed; open a new one")

    def _execute_seen(
        self, request: Request, observations: Sequence[Observation], since: float
    ) -> object:
        """Answer a request in a thread of the backend's, for the operations of a task."""
        if not observations:
            return self.execute(request)
        with together(observations):
            spent("queue", clock() - since)
            return self.execute(request)

    async def _in_thread(self, work: Callable[[], object]) -> object:
        with self._executor_lock:
            self._refuse_if_closed()
            executor = self._executor = self._executor or ThreadPoolExecutor(
                self._max_threads, thread_name_prefix=type(self).__name__
            )
            future = executor.submit(work)
        return await asyncio.wrap_future(future)

    def _forked(self) -> None:
        self._start_afresh()
        self._abandon()


_backends: weakref.WeakSet[ThreadedBackend] = weakref.WeakSet()
_forking = threading.Lock()
_paused: list[ThreadedBackend] = []


def _before_fork() -> None:
    _forking.acquire()
    for backend in list(_backends):
        _paused.append(backend)  # first: an interrupt must not leave it paused for ever
        backend._pause()  # noqa: SLF001 -- of this module


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop()._resume()  # noqa: SLF001 -- as above
    _forking.release()


def _after_fork() -> None:
    global _forking  # noqa: PLW0603 -- the lock is held by a thread that may not exist here
    _forking = threading.Lock()
    _paused.clear()
    for backend in list(_backends):
        backend._forked()  # noqa: SLF001 -- as above


if hasattr(os, "register_at_fork"):  # Windows can't fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork,
    )
