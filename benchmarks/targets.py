"""The figures to reach, as issues 2 to 5 of the project state them, and if they are reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.figures import SaverFigures
    from benchmarks.parts import Part

TIMES = "\N{MULTIPLICATION SIGN}"

Measure = Literal[
    "bytes_kept",
    "bytes_to_ideal",
    "put",
    "put_late",
    "put_growth",
    "put_writes",
    "replay",
    "get",
    "fresh_get",
    "fresh_total",
    "runs",
]

CEILINGS = ("put_growth", "bytes_to_ideal")
"""Measures that are ratios already, and are compared with no other saver's."""


@dataclass(frozen=True)
class Target:
    """What a saver of ours has to reach.

    `bound` is how many times smaller or faster than the saver it is set against it has to be at
    least; for `put_growth`, how many times its own early puts its late puts may take at most, for
    `bytes_to_ideal`, how many times the ideal it may keep.
    """

    workload: str
    saver: str
    measure: Measure
    bound: float
    against: str

    @property
    def is_ceiling(self) -> bool:
        return self.measure in CEILINGS

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


def _targets(saver: str, against: str, bounds: dict[tuple[str, Measure], float]) -> list[Target]:
    return [
        Target(workload, saver, measure, bound, against)
        for (workload, measure), bound in bounds.items()
    ]


TARGETS = [
    *_targets(
        "langcairn sqlite",
        "official sqlite",
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
        "official memory",
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
    *_targets(
        "langcairn postgres",
        "official postgres",
        {
            ("agent", "bytes_kept"): 100,
            ("agent", "put"): 15,
            ("agent", "put_late"): 30,
            ("agent", "get"): 3,
            # With opening: the one connects when it is opened, the other when it is first used.
            ("agent", "fresh_total"): 1,
            ("counter", "put"): 1,
            ("counter", "put_writes"): 1,
            ("counter", "get"): 1,
            ("tasks", "runs"): 4,
            ("threads", "runs"): 3,
        },
    ),
    *_targets("langcairn postgres", "official memory", {("tasks", "runs"): 0.7}),
    *_targets(
        "langcairn valkey",
        "raw valkey",
        {("agent", "replay"): 1 / 2, ("agent", "bytes_to_ideal"): 3},
    ),
    *_targets("langcairn files", "langcairn sqlite", {("agent", "replay"): 1 / 1.5}),
    # No slower; the rest is what two runs of the same differ by.
    *_targets("langcairn objects", "langcairn sqlite", {("agent", "put"): 1 / 1.05}),
    *_targets("retaining sqlite", "langcairn sqlite", {("agent", "put"): 1 / 1.3}),
    *_targets("leased postgres", "langcairn postgres", {("agent", "put"): 1 / 1.1}),
    *_targets(
        "encrypted sqlite",
        "langcairn sqlite",
        {("agent", "put"): 1 / 1.25, ("agent", "get"): 1 / 1.3},
    ),
    *_targets(
        "signed sqlite",
        "langcairn sqlite",
        {("agent", "put"): 1 / 1.1, ("agent", "get"): 1 / 1.1},
    ),
]


def ratio(reference: SaverFigures, ours: SaverFigures, measure: str) -> float | None:
    """Say how many times smaller or faster ours is."""
    theirs_value = getattr(reference, measure)
    ours_value = getattr(ours, measure)
    return theirs_value / ours_value if theirs_value and ours_value else None


def verdicts(
    part: Part, workload: str, figures: Mapping[str, SaverFigures]
) -> dict[tuple[str, str], Verdict]:
    """Judge a workload's figures; the keys are saver and measure. What wasn't measured is left."""
    judged = {}
    for target in TARGETS:
        paired = part.pairs.get(target.saver) == target.against
        if paired and target.workload == workload and target.saver in figures:
            value = _value(target, figures)
            if value is not None:
                judged[target.saver, str(target.measure)] = Verdict(target, value)
    return judged


def crowd_verdicts(workload: str, runs: Mapping[str, float]) -> dict[tuple[str, str], Verdict]:
    """Judge runs a second by saver; the keys are saver and what it is set against."""
    return {
        (target.saver, target.against): Verdict(target, runs[target.saver] / runs[target.against])
        for target in TARGETS
        if target.workload == workload and {target.saver, target.against} <= runs.keys()
    }


def _value(target: Target, figures: Mapping[str, SaverFigures]) -> float | None:
    ours = figures[target.saver]
    if target.is_ceiling:
        value: float = getattr(ours, target.measure)
        return value
    reference = figures.get(target.against)
    return ratio(reference, ours, target.measure) if reference else None
