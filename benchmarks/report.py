"""The figures as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from benchmarks.rows import crowd_pairs, format_bytes, format_ratio, objects_rows, workload_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmarks.crowd import CrowdResult
    from benchmarks.objects import ObjectsResult
    from benchmarks.results import RunResult, WorkloadResult
    from benchmarks.rows import Pair, Row
    from benchmarks.singles import Singles

BUSY_LOAD = 1.0
"""A load average above this means that others were using the machine."""


def print_workload(console: Console, result: WorkloadResult) -> None:
    workload = result.workload
    title = f"{workload.name} ({result.part.name})"
    description = f"{workload.turns:,} turns; {workload.description}"
    console.print(_table(title, description, workload_pairs(result)))
    ideal = result.ideal
    console.print(
        f"[bold]ideal[/]: {ideal.values:,} distinct values, {format_bytes(ideal.serialized)} "
        f"serialized; after zstd {format_bytes(ideal.one_by_one)} one by one, "
        f"{format_bytes(ideal.one_stream)} as one stream.\n"
    )


def print_crowd(console: Console, result: CrowdResult) -> None:
    crowd = result.crowd
    console.print(_table(f"crowd of {crowd.name}", crowd.description, crowd_pairs(result)))
    console.print()


def print_objects(console: Console, result: ObjectsResult) -> None:
    table = Table(
        title=f"[bold]object storage[/]: {result.checkpoints:,} checkpoints of {result.threads} "
        f"threads, moved on {result.days} days; for 1,000 checkpoints",
        title_justify="left",
        show_header=False,
    )
    for label, figure in objects_rows(result):
        table.add_row(label, figure)
    console.print(table)
    console.print()


def print_singles(console: Console, result: Singles) -> None:
    table = Table(title=f"[bold]{result.name}[/]: {result.description}", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("langcairn", "target"):
        table.add_column(heading, justify="right")
    table.add_column("reached")
    judged = result.judged()
    for one in result.figures:
        cells: list[str | Text] = [one.label, one.text]
        if one in judged:
            style = "green" if one.reached else "bold red"
            cells += [one.goal, Text("✓" if one.reached else "✗", style=style)]
        table.add_row(*cells)
    console.print(table)
    console.print()


def _table(title: str, description: str, pairs: Sequence[Pair]) -> Table:
    table = Table(title=f"[bold]{title}[/]: {description}", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("reference", "langcairn", "times better", "target"):
        table.add_column(heading, justify="right")
    table.add_column("reached")
    for pair in pairs:
        table.add_section()
        table.add_row(Text(f"{pair.ours} against {pair.reference}", style="bold"))
        for row in pair.rows:
            table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str | Text]:
    better = "" if row.better is None else format_ratio(row.better)
    cells: list[str | Text] = [f"  {row.label}", row.reference, row.ours, better]
    if row.verdict is not None:
        style = "green" if row.verdict.reached else "bold red"
        cells += [str(row.verdict.target), Text(str(row.verdict), style=style)]
    return cells


def print_summary(console: Console, result: RunResult) -> None:
    machine = result.machine
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, SQLite "
        f"{machine['sqlite']}; an fsync of 4 kB takes {machine['fsync_us']:.0f} µs. "
        f"Medians of {result.rounds} passes after one to warm up."
    )
    for server, facts in result.servers.items():
        console.print(f"{server}: " + ", ".join(f"{name} {fact}" for name, fact in facts.items()))
    if machine["load_before"] > BUSY_LOAD:
        console.print(
            f"[bold red]The machine was busy before (load {machine['load_before']:.1f}): "
            "don't trust the times.[/]"
        )
    judged = result.judged()
    if judged:
        reached = sum(verdict.reached for verdict in judged)
        console.print(f"[bold]{reached} of {len(judged)} targets reached.[/]")
