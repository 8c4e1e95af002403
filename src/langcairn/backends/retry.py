"""Repeating what a passing fault made fail: when to try again, and when to give up.

A backend translates its driver's errors where they occur. What may pass becomes
`StoreUnavailable` and is repeated here until a deadline; every other error is the caller's at
once. Every request may be repeated without harm (see `Backend`), also one of which a lost
connection left open whether it was done.

The plan is shared by blocking callers and coroutines; only the sleeping exists twice::

    retry = Retry(deadline=30)
    answer = retry.call(lambda remaining: ask(request, timeout=remaining))
    answer = await retry.acall(lambda remaining: aask(request, timeout=remaining))
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from langcairn.errors import InvalidInput, StoreUnavailable
from langcairn.observing import retried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_FIRST_PAUSE = 0.05  # [s]
# A server that restarts is back after some seconds; looking more seldom would add to the outage.
_LONGEST_PAUSE = 2.0  # [s]
_DOUBLINGS = 10  # are enough to get there; after a thousand the number would be no float any more


class Retry:
    """How long a request may take, repetitions included.

    Args:
        deadline: As a timedelta or in seconds; 0 tries once.

    Raises:
        InvalidInput: The deadline is negative, or no number.
    """

    def __init__(self, deadline: timedelta | float) -> None:
        self.deadline = seconds(deadline, "deadline")

    def call(self, attempt: Callable[[float], T]) -> T:
        """Return what ``attempt`` returns, as soon as it does.

        Args:
            attempt: Does the work. It is given the seconds that are left, and must not wait
                longer for anything (with 0 left it may still try without waiting).

        Raises:
            StoreUnavailable: It was, until the deadline. The cause is the last error.
        """
        attempts = Attempts(self.deadline)
        while True:
            try:
                return attempt(attempts.remaining())
            except StoreUnavailable as error:
                pause = attempts.pause_after(error)
            time.sleep(pause)

    async def acall(self, attempt: Callable[[float], Awaitable[T]]) -> T:
        """Do as `call` without blocking the event loop."""
        attempts = Attempts(self.deadline)
        while True:
            try:
                return await attempt(attempts.remaining())
            except StoreUnavailable as error:
                pause = attempts.pause_after(error)
            await asyncio.sleep(pause)


class Attempts:
    """The attempts of one request: how many there were, and how long to wait for the next.

    Pauses double from one to the next, and each is a random part of its size: clients that one
    fault hit together must not come back together.

    Args:
        deadline: How long the request may take in all, from now on [s].
    """

    def __init__(self, deadline: float) -> None:
        self._begin = time.monotonic()
        self._deadline = deadline
        self._count = 0

    def remaining(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._begin + self._deadline - time.monotonic())

    def pause_after(self, error: Exception) -> float:
        """Return how long to sleep before the next attempt [s].

        Args:
            error: What the last one failed with.

        Raises:
            StoreUnavailable: There is no time for another attempt.
        """
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._count, _DOUBLINGS))
        self._count += 1
        # At least half of it: next to none would be no pause.
        pause = random.uniform(longest / 2, longest)  # noqa: S311 -- spreads load, keeps no secret
        if pause < self.remaining():
            retried(pause)
            return pause
        took = time.monotonic() - self._begin
        tries = f"{self._count} attempts" if self._count > 1 else "1 attempt"
        raise StoreUnavailable(f"{error} (gave up after {tries} in {took:.1f} s)") from error


def seconds(duration: timedelta | float, what: str) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidInput: It is negative, infinite or no duration; the message names ``what``.
    """
    number = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise InvalidInput(f"{what} must be a timedelta or seconds, not {duration!r}")
    if not math.isfinite(number) or number < 0:
        raise InvalidInput(f"{what} must not be negative or infinite: {duration!r}")
    return float(number)
