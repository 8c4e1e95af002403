"""The figures to reach, as issue 2 of the project states them, and whether they are reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.figures import SaverFigures

TIMES = "\N{MULTIPLICATION SIGN}"

Measure = Literal["bytes_kept", "put", "put_growth", "put_writes", "get", "fresh_get"]

PAIRS = {
    "langcairn sqlite": "official sqlite",
    "langcairn memory": "official memory",
}
"""Each saver of ours, and the official one that it is set against."""


@dataclass(frozen=True)
class Target:
    """What a saver of ours has to reach.

    `bound` is how many times smaller or faster than the official saver it has to be at least;
    for `put_growth`, how many times its own early puts its late puts may take at most.
    """

    workload: str
    saver: str
    measure: Measure
    bound: float

    @property
    def is_ceiling(self) -> bool:
        return self.measure == "put_growth"

    def __str__(self) -> str:
        return f"{'≤' if self.is_ceiling else '≥'} {self.bound:.3g}{TIMES}"


@dataclass(frozen=True)
class Verdict:
    target: Target
    value: float

    @property
    def reached(self) -> bool:
        return self.shortfall <= 1

    @property
    def shortfall(self) -> float:
        """Say by which factor the target is missed; 1 or less if it is reached."""
        if self.target.is_ceiling:
            return self.value / self.target.bound
        return self.target.bound / self.value

    def __str__(self) -> str:
        return "✓" if self.reached else f"✗ short by {self.shortfall:.3g}{TIMES}"


def _targets(saver: str, bounds: dict[tuple[str, Measure], float]) -> list[Target]:
    return [
        Target(workload, saver, measure, bound) for (workload, measure), bound in bounds.items()
    ]


TARGETS = [
    *_targets(
        "langcairn sqlite",
        {
            ("agent", "bytes_kept"): 150,
            ("agent", "put"): 8,
            ("agent", "put_growth"): 2,
            ("agent", "get"): 3,
            ("agent", "fresh_get"): 1,
            ("document", "bytes_kept"): 40,
            ("counter", "put"): 1,
            ("counter", "put_writes"): 1,
            ("counter", "get"): 1,
        },
    ),
    *_targets(
        "langcairn memory",
        {
            ("agent", "bytes_kept"): 100,
            ("agent", "put"): 2,
            ("agent", "put_growth"): 2,
            ("agent", "get"): 2,
            ("document", "bytes_kept"): 40,
            ("counter", "put"): 1 / 3,
            ("counter", "put_writes"): 1 / 3,
            ("counter", "get"): 1 / 3,
        },
    ),
]


def ratio(official: SaverFigures, ours: SaverFigures, measure: str) -> float | None:
    """Say how many times smaller or faster ours is."""
    theirs_value = getattr(official, measure)
    ours_value = getattr(ours, measure)
    return theirs_value / ours_value if theirs_value and ours_value else None


def verdicts(workload: str, figures: Mapping[str, SaverFigures]) -> dict[tuple[str, str], Verdict]:
    """Judge a workload's figures; the keys are saver and measure. What wasn't measured is left."""
    judged = {}
    for target in TARGETS:
        if target.workload == workload and target.saver in figures:
            value = _value(target, figures)
            if value is not None:
                judged[target.saver, str(target.measure)] = Verdict(target, value)
    return judged


def _value(target: Target, figures: Mapping[str, SaverFigures]) -> float | None:
    ours = figures[target.saver]
    if target.is_ceiling:
        return ours.put_growth
    official = figures.get(PAIRS[target.saver])
    return ratio(official, ours, target.measure) if official else None
