"""`Maintenance`: `CheckpointStore.maintain` at an interval."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn.errors import InvalidInput
from langcairn.retention import Retention, retentions
from langcairn.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from langcairn.store import CheckpointStore
    from langcairn.upkeep import MaintainedExecution, MaintenanceReport

_logger = logging.getLogger(__name__)


class Maintenance(Rounds):
    """Maintains a store while a ``with`` or ``async with`` block runs, or until it is closed.

    ::

        with Maintenance(store, every=3600, retention=Retention(max_age=timedelta(days=30))):
            serve()

    A round that was ended by ``limit`` or ``seconds``, or by an outage, is gone on with in the
    next one. Any number of processes may have one. What couldn't be maintained is logged.

    Args:
        store: The store.
        every: How long to wait between two rounds, as a timedelta or in seconds.
        retention: As for `CheckpointStore.maintain`, and so are ``garbage``, ``limit`` and
            ``seconds``: the last two bound what a round does.
        garbage: Whether to look for what crashes have left.
        limit: The most executions to look at in a round.
        seconds: After which time to begin no further execution in a round.
        on_report: Is called with the report of each round, in the thread or task. What it raises
            is logged. With ``async with`` it may be a coroutine function.

    Raises:
        InvalidInput: An argument can't be used as it is.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        every: timedelta | float = 3600.0,
        retention: Retention | Iterable[Retention] | None = None,
        garbage: bool = True,
        limit: int | None = None,
        seconds: timedelta | float | None = None,
        on_report: Callable[[MaintenanceReport], Any] | None = None,
    ) -> None:
        super().__init__("maintenance", every)
        if on_report is not None and not callable(on_report):
            raise InvalidInput(f"on_report must be callable, not {type(on_report).__name__}")
        self._store = store
        self._options: dict[str, Any] = {
            "retention": None if retention is None else retentions(retention),
            "garbage": garbage,
            "limit": limit,
            "seconds": seconds,
            "progress": self._note,
        }
        self._on_report = on_report
        self._after = ""

    def maintain(self) -> MaintenanceReport:
        """Make a round now, where the last one ended.

        Raises:
            StoreClosed: The store was closed.
            StoreError: The storage failed; the next round goes on where this one came to.
        """
        report = self._store.maintain(after=self._after, **self._options)
        self._end(report)
        return report

    async def amaintain(self) -> MaintenanceReport:
        """Do as `maintain`."""
        report = await self._store.amaintain(after=self._after, **self._options)
        self._end(report)
        return report

    def _note(self, done: MaintainedExecution) -> None:
        self._after = done.execution_id

    def _end(self, report: MaintenanceReport) -> None:
        self._after = report.next or ""
        for execution_id, error in report.errors.items():
            _logger.warning("execution %r was not maintained: %s", execution_id, error)

    @override
    def _make_round(self) -> None:
        report = self.maintain()
        if self._on_report is not None:
            self._on_report(report)

    @override
    async def _amake_round(self) -> None:
        report = await self.amaintain()
        if self._on_report is not None:
            answer = self._on_report(report)
            if inspect.isawaitable(answer):
                await answer
