"""The figures as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from benchmarks.figures import windows
from benchmarks.targets import PAIRS, TIMES, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from benchmarks.figures import SaverFigures
    from benchmarks.results import RunResult, WorkloadResult
    from benchmarks.targets import Verdict

ABSENT = "-"
BUSY_LOAD = 1.0
"""A load average above this means that others were using the machine."""


def format_bytes(count: float) -> str:
    if count < 1_000:
        return f"{count:.0f} B"
    if count < 1_000_000:
        return f"{count / 1e3:,.1f} kB"
    return f"{count / 1e6:,.2f} MB" if count < 10_000_000 else f"{count / 1e6:,.0f} MB"


def format_seconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.1f} µs"


def format_ratio(value: float) -> str:
    return f"{value:,.0f}{TIMES}" if value >= 100 else f"{value:.3g}{TIMES}"


def _rows(turns: int) -> list[tuple[str, str, Callable[[float], str]]]:
    early, late = windows(turns)
    return [
        ("bytes_kept", "bytes kept at the end", format_bytes),
        ("put", "put, median", format_seconds),
        ("put_early", f"put, turns {early[0]}-{early[-1]}", format_seconds),
        ("put_late", f"put, turns {late[0]}-{late[-1]}", format_seconds),
        ("put_growth", "put, late against early", format_ratio),
        ("put_writes", "put_writes, median", format_seconds),
        ("get", "get_tuple, same process", format_seconds),
        ("fresh_get", "get_tuple, fresh process", format_seconds),
        ("fresh_open", "opening, fresh process", format_seconds),
    ]


def print_workload(console: Console, result: WorkloadResult) -> None:
    workload = result.workload
    table = Table(
        title=f"[bold]{workload.name}[/]: {workload.turns:,} turns; {workload.description}",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for heading in ("official", "langcairn", "times better", "target"):
        table.add_column(heading, justify="right")
    table.add_column("reached")
    judged = result.judged()
    for ours, official in PAIRS.items():
        if ours in result.figures or official in result.figures:
            _add_pair(table, result, ours, official, judged)
    console.print(table)
    ideal = result.ideal
    console.print(
        f"[bold]ideal[/]: {ideal.values:,} distinct values, {format_bytes(ideal.serialized)} "
        f"serialized; after zstd {format_bytes(ideal.one_by_one)} one by one, "
        f"{format_bytes(ideal.one_stream)} as one stream. {_against_ideal(result)}\n"
    )


def _add_pair(
    table: Table,
    result: WorkloadResult,
    ours: str,
    official: str,
    judged: dict[tuple[str, str], Verdict],
) -> None:
    table.add_section()
    table.add_row(Text(f"{ours} against {official}", style="bold"))
    our_figures, their_figures = result.figures.get(ours), result.figures.get(official)
    for measure, label, formatted in _rows(result.workload.turns):
        theirs, mine = _value(their_figures, measure), _value(our_figures, measure)
        if theirs is None and mine is None:
            continue
        better = None
        if our_figures and their_figures and measure != "put_growth":
            better = ratio(their_figures, our_figures, measure)
        verdict = judged.get((ours, measure))
        table.add_row(
            f"  {label}",
            ABSENT if theirs is None else formatted(theirs),
            ABSENT if mine is None else formatted(mine),
            "" if better is None else format_ratio(better),
            "" if verdict is None else str(verdict.target),
            "" if verdict is None else _mark(verdict),
        )


def _value(figures: SaverFigures | None, measure: str) -> float | None:
    value: float | None = None if figures is None else getattr(figures, measure)
    return value


def _mark(verdict: Verdict) -> Text:
    return Text(str(verdict), style="green" if verdict.reached else "bold red")


def _against_ideal(result: WorkloadResult) -> str:
    parts = [
        f"{name} keeps {format_ratio(figures.bytes_kept / result.ideal.one_by_one)}"
        for name, figures in result.figures.items()
    ]
    return "Against one by one, " + ", ".join(parts) + "."


def print_summary(console: Console, result: RunResult) -> None:
    machine = result.machine
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, SQLite "
        f"{machine['sqlite']}; an fsync of 4 kB takes {machine['fsync_us']:.0f} µs. "
        f"Medians of {result.rounds} passes after one to warm up."
    )
    if machine["load_before"] > BUSY_LOAD:
        console.print(
            f"[bold red]The machine was busy before (load {machine['load_before']:.1f}): "
            "don't trust the times.[/]"
        )
    judged = [verdict for one in result.workloads for verdict in one.judged().values()]
    if judged:
        reached = sum(verdict.reached for verdict in judged)
        console.print(f"[bold]{reached} of {len(judged)} targets reached.[/]")
