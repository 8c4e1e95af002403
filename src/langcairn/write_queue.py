"""The queue of a `WriteBehind`: bounded, in order, stored by one thread of its own.

What takes waiting is written once, as generators of futures to wait for; `WriteBehind` waits for
them blocking or in an event loop.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.retry import Attempts
from langcairn.errors import (
    SavesFailed,
    StaleEpoch,
    StoreClosed,
    StoreFull,
    StoreUnavailable,
)
from langcairn.store import CheckpointStore, _record
from langcairn.write_sessions import Session, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langcairn.backends.base import Commit
    from langcairn.checkpoint import Checkpoint
    from langcairn.records import Draft
    from langcairn.write_sessions import Save

# One commit of many large saves would take a server's memory and everyone's time.
_LARGE_BATCH = 2**23  # [bytes]
# How long a save waits for company, unless somebody waits for it. A commit for each would take
# time of the very threads that are to be spared.
_GATHERING = 0.01  # [s]
_PASSING = (StoreUnavailable, StoreFull)


class Limits(NamedTuple):
    """What bounds a queue."""

    max_pending: int  # [saves]
    max_bytes: int
    batch_size: int  # [saves]
    retry_for: float  # [s]
    cache_bytes: int


class WriteQueue:
    """Saves that wait to be stored.

    Any number of threads and event loops add to it. A thread of its own, which begins with the
    first save, takes up to a batch of them, hands them to the backend together, and removes those
    that are stored or have failed for good.

    Args:
        store: Where to.
        limits: How many, how long.
        on_error: Called, in the thread of the queue, with each checkpoint that has failed.
    """

    def __init__(
        self,
        store: CheckpointStore,
        limits: Limits,
        on_error: Callable[[Checkpoint, Exception], object] | None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._on_error = on_error
        self._closed = False
        self._start_afresh()
        _queues.add(self)

    def _start_afresh(self) -> None:
        # Reentrant, so that a signal handler which interrupts their owner is noticed.
        self._encoding = threading.RLock()  # for the sessions; so the queue has their order
        self._lock = threading.RLock()  # for what follows; nobody waits for anything inside
        self._wake = threading.Condition(self._lock)
        self._sessions = Sessions(self._store.codec, self._limits.cache_bytes)
        self._pending: deque[Save] = deque()  # ascending by number; those under way included
        self._bytes = 0  # of those that are pending
        self._accepted = 0
        self._failures: list[tuple[Checkpoint, Exception]] = []
        self._waiting: list[Future[None]] = []
        self._thread: threading.Thread | None = None

    # For callers

    @property
    def pending(self) -> int:
        """The number of saves that are neither stored nor reported yet."""
        return len(self._pending)

    def saving(self, draft: Draft) -> Iterator[Future[None]]:
        """Add a save, waiting for room.

        Raises:
            Unserializable: A value can't be stored; nothing was accepted.
            SavesFailed: Earlier saves did; this one was not accepted.
            StoreClosed: The queue is closed.
        """
        if _is_owned(self._encoding):
            raise StoreUnavailable("not possible while a save of the same thread is under way")
        while True:
            with self._encoding:
                with self._lock:
                    self._refuse_if_closed()
                    self._report("This save was not begun: repeat it.")
                    room = None if self._has_room() else self._progress()
                if room is None:
                    return self._encode(draft)
            yield room

    def _encode(self, draft: Draft) -> None:
        try:
            self._add(self._sessions.encode(draft))
        except BaseException:
            # Its chunks may count as queued, though they aren't.
            self._sessions.forget(draft.execution_id)
            raise

    def flushing(self) -> Iterator[Future[None]]:
        """Wait until everything that was accepted before is stored, or was reported.

        Raises:
            SavesFailed: Some saves weren't stored.
        """
        last = self._accepted
        while True:
            with self._lock:
                if not self._pending or self._pending[0].number > last:
                    self._report()
                    return
                stored = self._progress()
            yield stored

    def closing(self) -> Iterator[Future[None]]:
        """Accept no more saves, and wait until all are stored or were reported.

        Raises:
            SavesFailed: Some saves weren't stored.
        """
        self.end()
        try:
            yield from self.flushing()
        finally:
            self._leave_exit()

    def end(self) -> None:
        """Accept no more saves; those that are pending are stored all the same."""
        with self._lock:
            self._closed = True
            self._wake.notify_all()
            self._note_progress()  # who waits for room won't get it

    def refuse_to_wait_for_oneself(self) -> None:
        """Raise an error in a place where waiting would never end.

        Those are ``on_error``, and a signal handler that interrupted this queue in its own lock.
        """
        if self._thread is threading.current_thread() or _is_owned(self._lock):
            raise StoreUnavailable(
                "a WriteBehind can't be waited for in its own on_error, nor in a signal handler "
                "that interrupted it; set a flag there, and wait outside"
            )

    def _has_room(self) -> bool:
        few = len(self._pending) < self._limits.max_pending
        return few and self._bytes < self._limits.max_bytes

    def _add(self, save: Save) -> None:
        with self._lock:
            self._refuse_if_closed()
            if self._thread is None or not self._thread.is_alive():
                self._begin()
            self._accepted += 1
            save.number = self._accepted
            self._bytes += save.size
            self._pending.append(save)
            if len(self._pending) in (1, self._limits.batch_size):
                self._wake.notify_all()

    def _begin(self) -> None:
        # A daemon, so that a forgotten `close` doesn't keep the process; atexit drains instead.
        atexit.register(self._at_exit)
        name = "langcairn-write-behind"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreClosed("this WriteBehind is closed; make a new one")

    def _report(self, note: str = "") -> None:
        """Raise what has failed since the last report."""
        failures, self._failures = self._failures, []
        if failures:
            raise SavesFailed(failures, note) from failures[0][1]

    def _progress(self) -> Future[None]:
        """Return a future that is done as soon as there is room, or less to wait for."""
        future: Future[None] = Future()
        self._waiting = [other for other in self._waiting if not other.cancelled()]
        self._waiting.append(future)
        self._wake.notify_all()
        return future

    def _note_progress(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():  # its waiter may have given up
                future.set_result(None)

    def _at_exit(self) -> None:
        """Store what is pending. What is raised here is printed by the interpreter."""
        try:
            for future in self.closing():
                future.result()
        except BaseException as error:
            if self._pending:
                error.add_note(f"{len(self._pending)} saves of a WriteBehind were not stored")
            raise

    def _leave_exit(self) -> None:
        """Let go of the interpreter's exit, if there is nothing to do or say then."""
        with self._lock:
            if not self._pending and not self._failures:
                atexit.unregister(self._at_exit)

    # In the thread

    def _work(self) -> None:
        attempts = Attempts(math.inf)
        while batch := self._next_batch():
            try:
                unavailable = self._store_batch(batch)
            except Exception as error:  # noqa: BLE001 -- it must fail these saves, not the thread
                unavailable = None
                self._fail([(save, error) for save in batch])
            if unavailable is None:
                attempts = Attempts(math.inf)
            else:
                time.sleep(attempts.pause_after(unavailable))
        self._leave_exit()

    def _next_batch(self) -> list[Save]:
        """Wait for saves, and return the first ones. An empty list: there won't be any more."""
        with self._lock:
            while not self._pending:
                if self._closed:
                    return []
                self._wake.wait()
            many = len(self._pending) >= self._limits.batch_size
            if not many and not self._waiting and not self._closed:
                self._wake.wait(_GATHERING)
            return self._first()

    def _first(self) -> list[Save]:
        batch: list[Save] = []
        sessions: dict[str, Session] = {}
        size = 0
        for save in self._pending:
            session = sessions.get(save.row.execution_id)
            size += save.size
            if batch and (
                len(batch) == self._limits.batch_size
                or size > _LARGE_BATCH
                or session not in (None, save.session)
            ):
                break
            batch.append(save)
            if save.alone:
                break
            sessions[save.row.execution_id] = save.session
        return batch

    def _store_batch(self, batch: Sequence[Save]) -> Exception | None:
        """Try to store saves. Returns the error if some of them had better be tried again later."""
        by_session: dict[Session, list[Save]] = {}
        for save in batch:
            by_session.setdefault(save.session, []).append(save)
        commits = [session.commit(saves) for session, saves in by_session.items()]
        outcomes, together = self._outcomes(commits)
        stored: list[Save] = []
        failed: list[tuple[Save, Exception]] = []
        delayed: list[tuple[Save, Exception]] = []
        for commit, outcome, saves in zip(commits, outcomes, by_session.values(), strict=True):
            session = saves[0].session
            if isinstance(outcome, int):
                session.committed(commit, outcome)
                stored += saves
            elif isinstance(outcome, _PASSING):
                delayed += [(save, outcome) for save in saves]
            elif isinstance(outcome, StaleEpoch):
                session.lost()  # at once again, with everything in it
            elif together or len(saves) > 1:
                session.lost()
                for save in saves:
                    save.alone = True
            else:
                failed.append((saves[0], outcome))
        self._remove(stored)
        self._fail(failed)
        if not delayed:
            return None
        self._fail(self._expired(delayed, whole=len(delayed) == len(batch)))
        return delayed[0][1] if self._pending else None

    def _outcomes(self, commits: Sequence[Commit]) -> tuple[Sequence[int | Exception], bool]:
        """Make commits. Returns their outcomes, and whether several have failed together."""
        try:
            return self._store.commit_all(commits), False
        except Exception as error:  # noqa: BLE001 -- the outcome of all of them
            return [error] * len(commits), len(commits) > 1

    def _expired(
        self, delayed: list[tuple[Save, Exception]], *, whole: bool
    ) -> list[tuple[Save, Exception]]:
        """Return those that have been tried long enough.

        Args:
            delayed: Those that were tried in vain, with why.
            whole: Nothing could be stored: then it isn't their fault, and saves of the same age
                that wait behind them needn't be tried one batch after the other.
        """
        until = time.monotonic() - self._limits.retry_for
        if whole:
            with self._lock:
                delayed = [(save, delayed[0][1]) for save in self._pending]
        return [(save, error) for save, error in delayed if save.accepted <= until]

    def _fail(self, failed: Sequence[tuple[Save, Exception]]) -> None:
        """Report saves that are given up."""
        for save, error in failed:
            save.session.given_up()
            checkpoint = self._given_back(save, error)
            if self._on_error is not None:
                try:
                    self._on_error(checkpoint, error)
                except BaseException as own:  # noqa: BLE001 -- the caller's; it must not end the thread
                    error.add_note(f"on_error, which was told of this, itself failed: {own!r}")
            with self._lock:
                self._failures.append((checkpoint, error))
        self._remove([save for save, _ in failed])

    def _given_back(self, save: Save, error: Exception) -> Checkpoint:
        """Return what was to be saved, as it was then."""
        try:
            return _record(save.session.decode(save))
        except Exception as own:  # noqa: BLE001 -- the user's serializer may raise anything
            error.add_note(f"the state of {save.row.id!r} can't be given back: {own!r}")
            return save.without_state()

    def _remove(self, saves: Sequence[Save]) -> None:
        if not saves:
            return
        gone = set(saves)
        with self._lock:
            self._pending = deque(save for save in self._pending if save not in gone)
            self._bytes = sum(save.size for save in self._pending)
            self._note_progress()

    def _forked(self) -> None:
        # What is pending is the parent's to store, and so is what failed to be reported.
        atexit.unregister(self._at_exit)
        self._start_afresh()


_queues: weakref.WeakSet[WriteQueue] = weakref.WeakSet()


def _is_owned(lock: object) -> bool:
    """Tell whether this thread holds a reentrant lock."""
    return lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # noqa: SLF001 -- as threading.Condition asks


def _after_fork() -> None:
    for queue in list(_queues):
        queue._forked()  # noqa: SLF001 -- of this module


if hasattr(os, "register_at_fork"):  # Windows can't fork
    os.register_at_fork(after_in_child=_after_fork)
