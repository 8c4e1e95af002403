"""Work that is done at an interval, in a thread of its own or in a task."""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from langcairn.backends.retry import seconds
from langcairn.closing import Closing
from langcairn.errors import InvalidInput, StoreClosed

if TYPE_CHECKING:
    from datetime import timedelta

_logger = logging.getLogger(__name__)

# A round may be waiting for a server that is away; the thread is a daemon and may be left behind.
_LONGEST_FAREWELL = 5.0  # [s]


class Rounds(Closing):
    """Makes rounds while a ``with`` or ``async with`` block runs, or until it is closed.

    What a round raises is logged, and the next one is made; but a store that was closed ends it.

    Args:
        what: What it is called in logs and as a thread.
        every: How long to wait between two rounds, as a timedelta or in seconds.

    Raises:
        InvalidInput: That is no time to wait.
    """

    def __init__(self, what: str, every: timedelta | float) -> None:
        self._what = what
        self._every = seconds(every, "every")
        if not self._every:
            raise InvalidInput("every must be more than 0 seconds")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    def _make_round(self) -> object:
        """Make a round, blocking."""

    @abstractmethod
    async def _amake_round(self) -> object:
        """Make a round without blocking the event loop."""

    def _enter(self) -> None:
        """Do what must be done before the first round."""

    def _leave(self) -> None:
        """Do what must be done when it is closed."""

    @override
    def __enter__(self) -> Self:
        self._begin()
        name = f"langcairn-{self._what}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        return self

    @override
    async def __aenter__(self) -> Self:
        self._begin()
        self._task = asyncio.create_task(self._awork(), name=f"langcairn-{self._what}")
        return self

    def _begin(self) -> None:
        if self._thread is not None or self._task is not None:
            raise InvalidInput(f"this {self._what} runs already; make another one")
        self._enter()

    @override
    def close(self) -> None:
        """Stop. A round under way is waited for, but not for long."""
        self._stop.set()
        self._leave()
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        if self._thread not in (None, threading.current_thread()):
            self._thread.join(_LONGEST_FAREWELL)

    @override
    async def aclose(self) -> None:
        """Stop; a round under way is given up."""
        self._stop.set()
        self._leave()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._thread is not None:
            await asyncio.to_thread(self.close)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._make_round()
            except StoreClosed:
                return
            except Exception:
                # Whatever it was, the next round may find what matters.
                _logger.exception("a round of the %s failed", self._what)
            self._stop.wait(self._every)

    async def _awork(self) -> None:
        while not self._stop.is_set():
            try:
                await self._amake_round()
            except StoreClosed:
                return
            except Exception:
                _logger.exception("a round of the %s failed", self._what)
            await asyncio.sleep(self._every)
