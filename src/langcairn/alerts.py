"""What a `Monitor` calls about: alerts, when there is one, and how operations are judged."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from langcairn.observing import FAULTS, HOUSEKEEPING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langcairn.observing import Observation

_SLICES = 288
"""Into how many parts the time compared with is divided: of a day, five minutes each."""


class Level(StrEnum):
    """How bad it is."""

    P0 = "P0"
    """The store can't be used."""
    P1 = "P1"
    """It is slower, or fails more often, than it should."""
    P2 = "P2"
    """Something it needs is running short."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that isn't as it should be, or is again.

    Attributes:
        level: How bad it is.
        name: What it is, the same each time: ``unavailable``, ``slower:put``, ``space``, …
        message: What it is, for people. It never holds a state.
        value: What was measured; None: nothing can be.
        threshold: What it should be.
        resolved: Whether it is over.
    """

    level: Level
    name: str
    message: str
    value: float | None = None
    threshold: float | None = None
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a `Monitor` calls.

    Attributes:
        success: P1: a smaller share of an interval's operations ended without a fault. Refusing
            what can't be stored is none.
        response: P1: operations took longer than this on average [s].
        checkpoint: P1: saving a checkpoint took longer than this on average [s].
        slower: P1: operations of a kind took this many times as long as those of ``baseline``.
        used: P2: more than this share of the space is used, or of the pool's connections.
        queued: P2: more requests than this wait in the process.
        fewest: What fewer operations than these took says nothing.
    """

    success: float = 0.999
    response: float = 0.5
    checkpoint: float = 1.0
    slower: float = 1.2
    used: float = 0.9
    queued: int = 1000
    fewest: int = 20


class _Tally(NamedTuple):
    """Operations of a kind."""

    number: int = 0
    faults: int = 0
    seconds: float = 0.0

    def plus(self, other: _Tally) -> _Tally:
        return _Tally(
            self.number + other.number, self.faults + other.faults, self.seconds + other.seconds
        )

    @property
    def mean(self) -> float:
        return self.seconds / self.number


_Tallies = dict[str, _Tally]


class Pace:
    """How long operations take, and how often they fail: in this interval, and in those before.

    Args:
        baseline: How far back to look [s].
    """

    def __init__(self, baseline: float) -> None:
        self._baseline = baseline
        self._lock = threading.Lock()
        self._tallies: _Tallies = {}
        self._past: deque[tuple[float, _Tallies]] = deque()

    def add(self, observation: Observation) -> None:
        """Take an operation in."""
        if observation.operation in HOUSEKEEPING:
            return
        tally = _Tally(1, observation.outcome in FAULTS, observation.seconds)
        with self._lock:
            known = self._tallies.get(observation.operation, _Tally())
            self._tallies[observation.operation] = known.plus(tally)

    def judged(self, limits: Thresholds) -> Iterator[Alert]:
        """Begin a new interval, and yield what was wrong in the one that ends."""
        with self._lock:
            now, self._tallies = self._tallies, {}
        every = _total(now.values())
        if every.number >= limits.fewest:
            success = 1 - every.faults / every.number
            if success < limits.success:
                message = f"{every.faults} of {every.number} operations failed"
                yield Alert(Level.P1, "failures", message, success, limits.success)
            if every.mean > limits.response:
                message = f"operations took {every.mean:.3f} s on average"
                yield Alert(Level.P1, "slow", message, every.mean, limits.response)
        before = self._before()
        for operation, tally in now.items():
            if operation == "put" and tally.mean > limits.checkpoint:
                message = f"saving a checkpoint took {tally.mean:.3f} s on average"
                yield Alert(Level.P1, "slow:put", message, tally.mean, limits.checkpoint)
            usual = before.get(operation, _Tally())
            if min(tally.number, usual.number) < limits.fewest or not usual.seconds:
                continue
            times = tally.mean / usual.mean
            if times > limits.slower:
                message = f"{operation} took {times:.2f} times as long as before"
                yield Alert(Level.P1, f"slower:{operation}", message, times, limits.slower)
        self._remember(now)

    def _remember(self, tallies: _Tallies) -> None:
        """Keep what operations took, in so many slices that they can be added in each round."""
        time_now = time.monotonic()
        if not self._past or time_now - self._past[-1][0] > self._baseline / _SLICES:
            self._past.append((time_now, tallies))
            return
        last = self._past[-1][1]
        for operation, tally in tallies.items():
            last[operation] = last.get(operation, _Tally()).plus(tally)

    def _before(self) -> _Tallies:
        """Return what operations took in the time that the last ones are compared with."""
        while self._past and self._past[0][0] < time.monotonic() - self._baseline:
            self._past.popleft()
        operations = {operation for _, tallies in self._past for operation in tallies}
        return {
            operation: _total(tallies.get(operation, _Tally()) for _, tallies in self._past)
            for operation in operations
        }


def _total(tallies: Iterable[_Tally]) -> _Tally:
    total = _Tally()
    for tally in tallies:
        total = total.plus(tally)
    return total
