"""`WriteBehind`: saves off the hot path."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING

from typing_extensions import override

from langcairn.backends.retry import seconds
from langcairn.closing import Closing
from langcairn.errors import InvalidInput, StoreUnavailable
from langcairn.records import draft_of
from langcairn.store import CheckpointStore
from langcairn.write_queue import Limits, WriteQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from datetime import timedelta

    from langcairn.checkpoint import Checkpoint


class WriteBehind(Closing):
    """Saves checkpoints behind the caller's back: `save` returns before they are stored.

    **What is pending is lost if the process is killed or the machine stops** (see
    ``docs/write-behind.md``). For checkpoints that a run must resume from, use the store itself.

    A save is encoded when it is called, so later changes of the state don't show, and what can't
    be stored is refused at once. Saves of one execution are stored in their order. Pending ones
    aren't found by the store: call `flush` before reading. At the normal end of the process what
    is pending is stored. Any number of threads and event loops may share one object::

        with open_store(url) as store, WriteBehind(store) as behind:
            behind.save(checkpoint)

    Args:
        store: The store to save to. It is not closed with this.
        max_pending: The most saves that wait; then `save` waits for room.
        max_pending_bytes: Likewise the bytes that they keep in memory, about.
        batch_size: The most saves that are stored together.
        retry_for: For how long a save is tried again, from when it was accepted, while the store
            is unavailable or full [seconds].
        on_error: Called with each checkpoint that could not be stored, as it was saved, and the
            error. It runs in another thread, and must neither wait for this object nor close it.
        cache_bytes: How much to remember about executions saved last, so that a save costs what
            changed [bytes, about].

    Raises:
        InvalidInput: An argument can't be used as it is.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        max_pending: int = 1000,
        max_pending_bytes: int = 64 * 2**20,
        batch_size: int = 50,
        retry_for: timedelta | float = 60.0,
        on_error: Callable[[Checkpoint, Exception], object] | None = None,
        cache_bytes: int = 64 * 2**20,
    ) -> None:
        if not isinstance(store, CheckpointStore):
            raise InvalidInput(f"expected an open store, not {type(store).__name__}")
        if on_error is not None and not callable(on_error):
            raise InvalidInput(f"on_error must be a function, not {on_error!r}")
        limits = Limits(
            _whole("max_pending", max_pending, 1),
            _whole("max_pending_bytes", max_pending_bytes, 1),
            _whole("batch_size", batch_size, 1),
            seconds(retry_for, "retry_for"),
            _whole("cache_bytes", cache_bytes, 0),
        )
        self._queue = WriteQueue(store, limits, on_error)
        # One that is dropped without being closed stores what is pending, and ends its thread.
        weakref.finalize(self, self._queue.end).atexit = False

    @property
    def pending(self) -> int:
        """The number of saves that are neither stored nor reported as failed yet."""
        return self._queue.pending

    def save(self, checkpoint: Checkpoint, *, timeout: timedelta | float | None = None) -> None:
        """Accept a checkpoint, to be stored soon; one with the same key is then replaced.

        Args:
            checkpoint: What to save.
            timeout: How long to wait for room at most [seconds]; None: until there is some.

        Raises:
            InvalidInput: A field can't be stored; nothing was accepted.
            Unserializable: Likewise for a value in the state or metadata; says which.
            SavesFailed: Saves that were accepted earlier have failed. This one was not accepted.
            StoreUnavailable: There was no room until the timeout; it was not accepted.
            StoreClosed: This object is closed.
        """
        self._run(self._queue.saving(draft_of(checkpoint)), timeout)

    async def asave(
        self,
        checkpoint: Checkpoint,
        *,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 -- as of its blocking twin
    ) -> None:
        """Do as `save`, waiting for room without blocking the event loop."""
        await self._arun(self._queue.saving(draft_of(checkpoint)), timeout)

    def flush(self, timeout: timedelta | float | None = None) -> None:
        """Wait until everything accepted so far is stored.

        Args:
            timeout: How long to wait at most [seconds]; None: until it is stored or has failed.

        Raises:
            SavesFailed: Some of it could not be stored.
            StoreUnavailable: It took longer than the timeout; it goes on.
        """
        self._run(self._queue.flushing(), timeout)

    async def aflush(
        self,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 -- as of its blocking twin
    ) -> None:
        """Do as `flush` without blocking the event loop."""
        await self._arun(self._queue.flushing(), timeout)

    @override
    def close(self) -> None:
        """Store what is pending, and accept no more. Closing twice is fine.

        Raises:
            SavesFailed: Some of it could not be stored.
        """
        self._run(self._queue.closing(), None)

    @override
    async def aclose(self) -> None:
        """Do as `close` without blocking the event loop."""
        await self._arun(self._queue.closing(), None)

    def _run(self, waits: Iterator[Future[None]], timeout: timedelta | float | None) -> None:
        left = _countdown(timeout)
        for future in waits:
            self._queue.refuse_to_wait_for_oneself()
            try:
                future.result(left())
            except TimeoutError:
                future.cancel()
                raise self._late(timeout) from None

    async def _arun(
        self,
        waits: Iterator[Future[None]],
        timeout: timedelta | float | None,  # noqa: ASYNC109 -- as of its blocking twin
    ) -> None:
        left = _countdown(timeout)
        for future in waits:
            self._queue.refuse_to_wait_for_oneself()
            try:
                await asyncio.wait_for(asyncio.wrap_future(future), left())
            except TimeoutError:
                raise self._late(timeout) from None

    def _late(self, timeout: object) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.pending} saves are still pending after {timeout} seconds: the store takes them "
            "more slowly than they come, or not at all. They go on; a save that waited for room "
            "was not accepted: repeat it later"
        )


def _countdown(timeout: timedelta | float | None) -> Callable[[], float | None]:
    """Return a function that tells how many seconds are left."""
    if timeout is None:
        return lambda: None
    until = time.monotonic() + seconds(timeout, "timeout")
    return lambda: max(0.0, until - time.monotonic())


def _whole(name: str, value: object, least: int) -> int:
    if type(value) is not int or value < least:
        raise InvalidInput(f"{name} must be a whole number, {least} or more, not {value!r}")
    return value
