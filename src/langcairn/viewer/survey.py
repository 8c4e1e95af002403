"""Figures of all threads, gathered behind the pages: a large store takes its time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langcairn.errors import CairnError

if TYPE_CHECKING:
    from langcairn.figures import ExecutionStats, Stats
    from langcairn.store import CheckpointStore

_PAGE = 1000  # [executions measured at a time]
_IDS_FRESH = 2.0  # [s]
_FRESH = 5.0  # [s]
_SHARE = 10  # [how many times longer than it takes a survey stays fresh]


class Survey:
    """The ids of a store's threads, and how much each holds.

    Attributes:
        figures: What was measured last, by execution id.
        total: How much is in the store.
        taken_at: When that was; None: not yet.
        error: Why the last survey failed; None: it didn't.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self.figures: dict[str, ExecutionStats] = {}
        self.total: Stats | None = None
        self.taken_at: datetime | None = None
        self.error: CairnError | None = None
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._ids: tuple[float, list[str]] = (float("-inf"), [])

    async def ids(self) -> list[str]:
        """Return the ids of all threads, a moment old at most, in ascending order."""
        read_at, ids = self._ids
        if time.monotonic() - read_at > _IDS_FRESH:
            ids = await self._store.aexecutions()
            self._ids = (time.monotonic(), ids)
        return ids

    async def look(self, wait: float) -> None:
        """See to it that the figures are fresh, or soon will be.

        Args:
            wait: How long to wait for the first ones [s].
        """
        if self._task is None and time.monotonic() >= self._due:
            self._task = asyncio.create_task(self._take())
        if self._task is not None and self.taken_at is None:
            await asyncio.wait([self._task], timeout=wait)

    def forget(self) -> None:
        """Measure anew at the next look, because something was changed."""
        self._due = 0.0
        self._ids = (float("-inf"), [])

    async def aclose(self) -> None:
        """Stop measuring."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _take(self) -> None:
        begun = time.monotonic()
        figures: dict[str, ExecutionStats] = {}
        try:
            after = ""
            while True:
                page = await self._store.aexecution_stats(after=after, limit=_PAGE)
                figures.update((one.execution_id, one) for one in page)
                if len(page) < _PAGE:
                    break
                after = page[-1].execution_id
            self.total = await self._store.astats()
            self.figures, self.error = figures, None
        except CairnError as error:
            self.error = error  # shown in place of the figures
        finally:
            took = time.monotonic() - begun
            self._due = time.monotonic() + max(_FRESH, _SHARE * took)
            self._task = None
        self.taken_at = datetime.now(UTC)
