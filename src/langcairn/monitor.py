"""`Monitor`: looks after a store at an interval, and calls back when something is wrong."""

from __future__ import annotations

import inspect
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn import figures
from langcairn.alerts import Alert, Level, Pace, Thresholds
from langcairn.backends.retry import seconds
from langcairn.errors import CairnError, InvalidInput, StoreClosed
from langcairn.observing import Observer, tell
from langcairn.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta

    from langcairn.figures import Health, Stats
    from langcairn.observing import Observation
    from langcairn.operations import Operation
    from langcairn.store import CheckpointStore

_logger = logging.getLogger(__name__)


class Monitor(Observer, Rounds):
    """Looks after a store while a ``with`` or ``async with`` block runs, or until it is closed.

    ::

        with Monitor(store, every=60, on_alert=lambda alert: pager.send(alert.message)):
            serve()

    Each round tries the connection, takes the store's figures, and looks at what the operations
    since the last round took. Whatever begins to be wrong is an `Alert`; when it is over, there is
    another one, ``resolved``. Observers of the store (metrics) are told the figures, too.

    Args:
        store: The store.
        every: How long to wait between two rounds, as a timedelta or in seconds.
        on_alert: Is called with each alert, in the monitor's thread or task. What it raises is
            logged. With ``async with`` it may be a coroutine function.
        thresholds: When to call.
        stats: Whether to take the store's figures, which in a large store takes its time.
        logical: Whether to measure what sharing saves, for which everything is read.
        baseline: With the operations of how long those of the last interval are compared, as a
            timedelta or in seconds.

    Raises:
        InvalidInput: An argument can't be used as it is.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        every: timedelta | float = 300.0,
        on_alert: Callable[[Alert], Any],
        thresholds: Thresholds | None = None,
        stats: bool = True,
        logical: bool = False,
        baseline: timedelta | float = 86_400.0,
    ) -> None:
        Rounds.__init__(self, "monitor", every)
        self._store = store
        if not callable(on_alert):
            raise InvalidInput(f"on_alert must be callable, not {type(on_alert).__name__}")
        self._on_alert = on_alert
        self._thresholds = thresholds or Thresholds()
        self._stats = stats
        self._logical = logical
        self._pace = Pace(seconds(baseline, "baseline"))
        self._active: dict[str, Alert] = {}

    @property
    def active(self) -> list[Alert]:
        """What isn't as it should be, as of the last round; the worst first."""
        return sorted(self._active.values(), key=lambda alert: (alert.level, alert.name))

    # One round

    def check(self) -> list[Alert]:
        """Look after the store once, now. Returns what has changed since the last time.

        Raises:
            StoreClosed: The store was closed.
        """
        alerts = self._store.run(self._round())
        for alert in alerts:
            try:
                self._on_alert(alert)
            except Exception:
                _logger.exception("on_alert failed for %s", alert.name)
        return alerts

    async def acheck(self) -> list[Alert]:
        """Do as `check`."""
        alerts = await self._store.arun(self._round())
        for alert in alerts:
            try:
                answer = self._on_alert(alert)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                _logger.exception("on_alert failed for %s", alert.name)
        return alerts

    def _round(self) -> Operation[list[Alert]]:
        backend, observers = self._store.backend.name, self._store.observers
        try:
            health = yield from figures.test_connection(backend)
        except StoreClosed:
            raise
        except CairnError as error:
            tell(observers.checked, backend, None)
            found = {**self._active, "unavailable": _unavailable(error)}
        else:
            tell(observers.checked, backend, health)
            stats = None
            damage: CairnError | None = None
            if self._stats:
                try:
                    stats = yield from figures.stats(
                        self._store.codec, backend, None, logical=self._logical, on_progress=None
                    )
                    tell(observers.measured, backend, stats)
                except StoreClosed:
                    raise
                except CairnError as error:
                    damage = error
            found = {alert.name: alert for alert in self._judged(health, stats, damage)}
        return self._changed(found)

    def _changed(self, found: Mapping[str, Alert]) -> list[Alert]:
        over = [
            replace(old, resolved=True) for name, old in self._active.items() if name not in found
        ]
        begun = [alert for name, alert in found.items() if name not in self._active]
        self._active = dict(found)
        return sorted(begun, key=lambda alert: alert.level) + over

    def _judged(
        self, health: Health, stats: Stats | None, damage: CairnError | None
    ) -> Iterator[Alert]:
        """Yield what isn't as it should be."""
        limits = self._thresholds
        if not health.writable:
            yield Alert(
                Level.P0, "read-only", f"{health.product} takes no commits: is it a replica?"
            )
        if damage is not None:
            yield Alert(Level.P1, "unmeasured", f"no figures: {type(damage).__name__}")
        yield from self._pace.judged(limits)
        if stats is not None and stats.used_ratio is not None and stats.used_ratio > limits.used:
            yield Alert(
                Level.P2,
                "space",
                f"{stats.used_ratio:.1%} of the space of {health.product} is used",
                stats.used_ratio,
                limits.used,
            )
        load = self._store.backend.load()
        if load.queued > limits.queued:
            message = f"{load.queued} requests wait for the store"
            yield Alert(Level.P2, "queue", message, load.queued, limits.queued)
        if load.limit and load.in_use is not None and load.in_use / load.limit > limits.used:
            message = f"{load.in_use} of {load.limit} connections are in use"
            yield Alert(Level.P2, "pool", message, load.in_use / load.limit, limits.used)

    @override
    def ended(self, observation: Observation) -> None:
        self._pace.add(observation)

    # Going on

    @override
    def _make_round(self) -> None:
        self.check()

    @override
    async def _amake_round(self) -> None:
        await self.acheck()

    @override
    def _enter(self) -> None:
        self._store.observers.add(self)

    @override
    def _leave(self) -> None:
        self._store.observers.discard(self)


def _unavailable(error: CairnError) -> Alert:
    return Alert(Level.P0, "unavailable", f"the store can't be used: {error}")
