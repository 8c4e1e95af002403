"""Moving in the background what this process has stored."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from langcairn.errors import CairnError, StoreError
from langcairn.objects.moving import Overtaken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langcairn.backends.base import ChunkId, Request

_logger = logging.getLogger(__name__)

_MOST = 100_000  # [executions remembered; those forgotten are moved by a call or another process]
_PATIENCE = 60.0  # [s] longer than a request takes
_PATIENCE_AT_EXIT = 5.0  # [s]
# A checkpoint bears the time when it was made, which is before it is stored.
_BEFORE = timedelta(minutes=1)


@dataclass
class Touched:
    """An execution that was written to."""

    since: datetime
    """Checkpoints before were looked at, or not stored by this process."""
    large: set[ChunkId] = field(default_factory=set)
    """Large chunks that were committed since."""
    commits: int = 0
    """How often it was written to."""


class _Stopped(Exception):
    """The store is being closed."""


if TYPE_CHECKING:
    Work = Callable[[str, Touched, Callable[[Request], object]], datetime | None]


class Background:
    """A thread that works on the executions that were written to, at intervals.

    It is started when something is noted. In a forked process it starts anew, for what is written
    there.

    Args:
        every: The time between the rounds [seconds].
        execute: Answers requests.
        work: Moves what is old or large of an execution, and returns up to when it has looked; None
            if there is nothing left that will grow old.
    """

    def __init__(self, every: float, execute: Callable[[Request], object], work: Work) -> None:
        self._every = every
        self._execute = execute
        self._work = work
        self._start_afresh()
        _all.add(self)

    def _start_afresh(self) -> None:
        self._touched: OrderedDict[str, Touched] = OrderedDict()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, execution_id: str, large: Iterable[ChunkId]) -> None:
        """Remember that an execution was written to."""
        with self._lock:
            touched = self._touched.get(execution_id)
            if touched is None:
                touched = Touched(datetime.now(UTC) - _BEFORE)
                self._touched[execution_id] = touched
            touched.large.update(large)
            touched.commits += 1
            if len(self._touched) > _MOST:
                self._touched.popitem(last=False)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="langcairn-objects", daemon=True
                )
                self._thread.start()

    def round(self) -> None:
        """Work on everything that was noted, once."""
        for execution_id in list(self._touched):
            with self._lock:
                touched = self._touched.get(execution_id)
                if touched is None:
                    continue  # forgotten, as there are too many
                task = Touched(touched.since, set(touched.large), touched.commits)
            try:
                since = self._work(execution_id, task, self._unless_stopped)
            except _Stopped:
                return
            except Overtaken:
                continue
            except StoreError as error:
                # An outage, most likely: the others wait, too, and this one comes last next time.
                _logger.warning(
                    "content of %r stays in the database for now: %s", execution_id, error
                )
                with self._lock:
                    if execution_id in self._touched:
                        self._touched.move_to_end(execution_id)
                return
            except CairnError as error:
                _logger.warning("content of %r stays in the database: %s", execution_id, error)
                since = None
            with self._lock:
                touched.large -= task.large
                if since is not None:
                    touched.since = since
                elif touched.commits == task.commits:
                    self._touched.pop(execution_id, None)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self.round()
            except Exception:
                # A mistake of ours must not end the thread: then nothing would ever move again.
                _logger.exception("moving content to objects failed")

    def _unless_stopped(self, request: Request) -> object:
        if self._stop.is_set():
            raise _Stopped
        return self._execute(request)

    def close(self, patience: float = _PATIENCE) -> None:
        """End the thread, after the request that it is at; but don't wait longer than so [s]."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)

    async def aclose(self) -> None:
        """Do as `close`."""
        self._stop.set()
        await asyncio.to_thread(self.close)


_all: weakref.WeakSet[Background] = weakref.WeakSet()


def _forked() -> None:
    for background in list(_all):
        background._start_afresh()  # noqa: SLF001 -- of this module


def _exiting() -> None:
    # A thread that is in a driver's code while the interpreter is taken down may crash it.
    for background in list(_all):
        background.close(_PATIENCE_AT_EXIT)


if hasattr(os, "register_at_fork"):  # Windows can't fork
    os.register_at_fork(after_in_child=_forked)
atexit.register(_exiting)
