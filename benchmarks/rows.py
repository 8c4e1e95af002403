"""The figures as rows of words: each saver of ours beside the one it is set against."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benchmarks.figures import windows
from benchmarks.targets import CEILINGS, TIMES, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.crowd import CrowdResult
    from benchmarks.figures import SaverFigures
    from benchmarks.objects import ObjectsResult
    from benchmarks.results import WorkloadResult
    from benchmarks.targets import Verdict

ABSENT = "-"


class Row(NamedTuple):
    """One measure of a pair of savers."""

    label: str
    reference: str
    ours: str
    better: float | None
    """How many times smaller or faster ours is; None if that can't be said."""
    smaller: bool
    """It is about bytes, not about time."""
    verdict: Verdict | None


class Pair(NamedTuple):
    ours: str
    reference: str
    rows: Sequence[Row]


def format_bytes(count: float) -> str:
    if count < 1_000:
        return f"{count:.0f} B"
    if count < 1_000_000:
        return f"{count / 1e3:,.1f} kB"
    return f"{count / 1e6:,.2f} MB" if count < 10_000_000 else f"{count / 1e6:,.0f} MB"


def format_seconds(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:,.2f} s"
    return f"{seconds * 1e3:,.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.1f} µs"


def format_ratio(value: float) -> str:
    return f"{value:,.0f}{TIMES}" if value >= 100 else f"{value:.3g}{TIMES}"


def workload_pairs(result: WorkloadResult) -> list[Pair]:
    """Set the savers of a part side by side."""
    return [
        Pair(ours, reference, _rows(result, ours, reference))
        for ours, reference in result.part.pairs.items()
    ]


def crowd_pairs(result: CrowdResult) -> list[Pair]:
    """Set ours beside each of the others."""
    runs, judged = result.runs(), result.judged()
    ours = [name for name in runs if name.startswith("langcairn")]
    others = [name for name in runs if name not in ours]
    return [
        Pair(
            mine,
            other,
            [
                Row(
                    "runs a second",
                    f"{runs[other]:,.0f}",
                    f"{runs[mine]:,.0f}",
                    runs[mine] / runs[other],
                    smaller=False,
                    verdict=judged.get((mine, other)),
                )
            ],
        )
        for mine in ours
        for other in others
    ]


def objects_rows(result: ObjectsResult) -> list[tuple[str, str]]:
    """Say what object storage costs, each with its label, for 1,000 checkpoints."""
    moving, reading = result.moving, result.reading

    def each(count: float) -> str:
        return f"{count * 1000 / result.checkpoints:,.0f}"

    return [
        ("moved, from the database to packs", format_bytes(result.bytes_moved)),
        ("PUT", each(moving["put"])),
        ("GET, each pack once to check it, and merging", each(moving["get"])),
        ("LIST", each(moving["list"])),
        ("DELETE", each(moving["delete"])),
        ("bytes sent, with merging", format_bytes(moving["out"])),
        ("bytes fetched, likewise", format_bytes(moving["in"])),
        (f"GET to read all {result.threads} threads", f"{reading['get']}"),
        (f"GET to read {result.messages} messages", f"{result.longest}"),
    ]


def _measures(turns: int) -> list[tuple[str, str, Callable[[float], str]]]:
    early, late = windows(turns)
    return [
        ("bytes_kept", "bytes kept at the end", format_bytes),
        ("bytes_to_ideal", "bytes kept, against the ideal", format_ratio),
        ("put", "put, median", format_seconds),
        ("put_early", f"put, turns {early[0]}-{early[-1]}", format_seconds),
        ("put_late", f"put, turns {late[0]}-{late[-1]}", format_seconds),
        ("put_growth", "put, late against early", format_ratio),
        ("put_writes", "put_writes, median", format_seconds),
        ("replay", "all puts and put_writes", format_seconds),
        ("get", "get_tuple, same process", format_seconds),
        ("fresh_get", "get_tuple, fresh process", format_seconds),
        ("fresh_open", "opening, fresh process", format_seconds),
        ("fresh_total", "both, fresh process", format_seconds),
    ]


def _rows(result: WorkloadResult, ours: str, reference: str) -> list[Row]:
    judged = result.judged()
    mine, theirs = result.figures.get(ours), result.figures.get(reference)
    rows = []
    for measure, label, formatted in _measures(result.workload.turns):
        their_value, my_value = _value(theirs, measure), _value(mine, measure)
        if their_value is None and my_value is None:
            continue
        rows.append(
            Row(
                label,
                ABSENT if their_value is None else formatted(their_value),
                ABSENT if my_value is None else formatted(my_value),
                ratio(theirs, mine, measure)
                if mine and theirs and measure not in CEILINGS
                else None,
                measure == "bytes_kept",
                judged.get((ours, measure)),
            )
        )
    return rows


def _value(figures: SaverFigures | None, measure: str) -> float | None:
    value: float | None = None if figures is None else getattr(figures, measure)
    return value
