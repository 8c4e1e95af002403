"""What a look at a store has found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    """What was looked at: ``connection``, ``durability``, …"""
    level: Level
    what: str
    """How it is."""
    remedy: str = ""
    """What to do about it; ``""`` if nothing is to be done."""


def ok(check: str, what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(check, Level.OK, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Return that something may become a problem, or is one for some uses."""
    return Finding(check, Level.WARNING, what, remedy)


def problem(check: str, what: str, remedy: str) -> Finding:
    """Return that something keeps the store from what it promises."""
    return Finding(check, Level.PROBLEM, what, remedy)


def clock(ahead: float, roundtrip: float, server: str) -> Finding:
    """Return how a server's clock compares with this machine's.

    Args:
        ahead: How much later the server's is [s].
        roundtrip: How long the question took [s]; the comparison is no more exact.
        server: What to call it.
    """
    if abs(ahead) <= 1.0 + roundtrip:
        return ok("clock", f"{server}'s clock is within {abs(ahead) + roundtrip:.1f} s of this one")
    return warning(
        "clock",
        f"{server}'s clock is {abs(ahead):,.1f} s {'ahead of' if ahead > 0 else 'behind'} this one",
        "Checkpoint ids sort by the clock of the machine that wrote them, and ages and expiries "
        "are counted from it: synchronize the machines' clocks (NTP).",
    )
