"""Figures of ours alone, which are set against a bound and not against another saver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from benchmarks import behind, keeping, moving
from benchmarks.rows import format_bytes, format_ratio, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.servers import ServerName

Unit = Literal["times", "seconds", "bytes", "MB/s", "saves/s", "saves"]


@dataclass(frozen=True)
class Single:
    """One figure.

    Attributes:
        name: What the JSON calls it.
        label: What the tables call it.
        value: In its unit.
        unit: The unit.
        most: What it may be at most; None: anything.
        least: What it has to be at least; None: anything.
    """

    name: str
    label: str
    value: float
    unit: Unit
    most: float | None = None
    least: float | None = None

    @property
    def reached(self) -> bool:
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    @property
    def text(self) -> str:
        return _text(self.value, self.unit)

    @property
    def goal(self) -> str:
        """The bound as words; nothing if there is none."""
        if self.most is not None:
            return f"≤ {_text(self.most, self.unit)}"
        return "" if self.least is None else f"≥ {_text(self.least, self.unit)}"


def _text(value: float, unit: Unit) -> str:
    formats: dict[str, Callable[[float], str]] = {
        "times": format_ratio, "seconds": format_seconds, "bytes": format_bytes,
    }  # fmt: skip
    return formats[unit](value) if unit in formats else f"{value:,.3g} {unit}"


@dataclass(frozen=True)
class Singles:
    """What one job measured; the figures of a quick run are held against nothing."""

    name: str
    description: str
    is_quick: bool
    figures: list[Single] = field(default_factory=list)

    def judged(self) -> list[Single]:
        """Give those that have a target to reach."""
        return [] if self.is_quick else [one for one in self.figures if one.goal]


@dataclass(frozen=True)
class Run:
    """What a job is given.

    Attributes:
        rounds: How often to time.
        quick: Only to see whether it runs.
        place: Where files may be kept.
        advance: To be called `Job.steps` times.
    """

    rounds: int
    quick: bool
    place: Path
    advance: Callable[[], None]


@dataclass(frozen=True)
class Job:
    """Something to measure.

    Attributes:
        part: What `--only` calls the part that it belongs to.
        name: What the report calls it.
        measure: Measures it.
        steps: How many steps that takes, given the rounds.
        server: The server that it needs.
    """

    part: str
    name: str
    measure: Callable[[Run], Singles]
    steps: Callable[[int], int]
    server: ServerName | None = None


def _keeping(run: Run) -> Singles:
    kept = keeping.measure(quick=run.quick)
    run.advance()
    figures = [
        Single("peak", "most bytes at any moment", kept.peak, "bytes"),
        Single("final", "chunks of the final state", kept.final, "bytes"),
        Single("ratio", "most, against the final state", kept.peak / kept.final, "times", most=2),
    ]
    return Singles("max_checkpoints", keeping.DESCRIPTION, run.quick, figures)


def _behind(run: Run) -> Singles:
    found = behind.measure(run.rounds, run.advance, quick=run.quick)
    share = found.own / found.direct
    figures = [
        Single("rate", "saves accepted", found.rate, "saves/s", least=0.99 * behind.RATE),
        Single("dropped", "saves dropped", found.dropped, "saves", most=0),
        Single("direct", "a direct save, mean", found.direct, "seconds"),
        Single("own", "the caller's own time for a save, mean", found.own, "seconds"),
        Single("share", "that, against a direct save", share, "times", most=0.1),
        Single("flush", "until all is stored, longest", found.flush, "seconds"),
    ]
    return Singles("write-behind", behind.DESCRIPTION, run.quick, figures)


def _moving(run: Run) -> Singles:
    moved = moving.measure(run.rounds, run.place, run.advance, quick=run.quick)
    figures = [Single("logical", "logical state of the store", moved.logical, "bytes")]
    for name, one in moved.operations.items():
        rate = one.distinct / one.seconds / 1e6
        figures += [
            Single(f"{name}_distinct", f"{name}: distinct content", one.distinct, "bytes"),
            Single(f"{name}_rate", f"{name}: of it", rate, "MB/s", least=20),
            Single(
                f"{name}_source_rate",
                f"{name}: of the source's file",
                one.source / one.seconds / 1e6,
                "MB/s",
            ),
            Single(f"{name}_memory", f"{name}: peak memory", one.memory, "bytes", most=200e6),
        ]
    return Singles("transfer", moving.DESCRIPTION, run.quick, figures)


JOBS = (
    Job("workflow", "max_checkpoints", _keeping, lambda _: 1),
    Job("workflow", "write-behind", _behind, lambda rounds: rounds, "postgres"),
    Job("transfer", "transfer", _moving, moving.steps),
)
