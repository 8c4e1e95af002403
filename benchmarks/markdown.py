"""The figures as Markdown tables, to be taken into the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rows import crowd_pairs, objects_rows, workload_pairs

if TYPE_CHECKING:
    from benchmarks.objects import ObjectsResult
    from benchmarks.results import RunResult
    from benchmarks.rows import Pair, Row
    from benchmarks.singles import Singles

NAMES = {
    "official sqlite": "langgraph-checkpoint-sqlite",
    "official memory": "InMemorySaver",
    "official postgres": "langgraph-checkpoint-postgres",
    "raw valkey": "the same new bytes as pipelined SETs",
    "langcairn sqlite": "langcairn on SQLite",
    "langcairn memory": "langcairn in memory",
    "langcairn postgres": "langcairn on PostgreSQL",
    "langcairn valkey": "langcairn on Valkey",
    "langcairn files": "langcairn on files",
    "langcairn objects": "langcairn on SQLite, moving to objects",
    "retaining sqlite": "with max_checkpoints=10",
    "leased postgres": "with a lease",
    "encrypted sqlite": "encrypted, on SQLite",
    "signed sqlite": "signed, on SQLite",
    "encrypted memory": "encrypted, in memory",
    "signed memory": "signed, in memory",
}


def as_markdown(result: RunResult) -> str:
    tables = [
        _table(f"{one.workload.name}, {one.workload.turns:,} turns", pair)
        for one in result.workloads
        for pair in workload_pairs(one)
    ]
    tables += [
        _table(one.crowd.description, pair) for one in result.crowds for pair in crowd_pairs(one)
    ]
    if result.objects is not None:
        tables.append(_objects(result.objects))
    tables += [_singles(one) for one in result.singles]
    return "\n".join(tables)


def _objects(result: ObjectsResult) -> str:
    lines = ["| object storage, for 1,000 checkpoints | |", "|---|---|"]
    lines += [f"| {label} | {figure} |" for label, figure in objects_rows(result)]
    return "".join(f"{line}\n" for line in lines)


def _singles(result: Singles) -> str:
    lines = [f"| {result.description} | | to reach |", "|---|---|---|"]
    lines += [f"| {one.label} | {one.text} | {one.goal} |" for one in result.figures]
    return "".join(f"{line}\n" for line in lines)


def _table(title: str, pair: Pair) -> str:
    lines = [
        f"| {title} | {NAMES[pair.reference]} | {NAMES[pair.ours]} | |",
        "|---|---|---|---|",
        *(f"| {row.label} | {row.reference} | {row.ours} | {_better(row)} |" for row in pair.rows),
    ]
    return "".join(f"{line}\n" for line in lines)


def _better(row: Row) -> str:
    if row.better is None:
        return ""
    if row.smaller:
        return f"1/{row.better:.0f}" if row.better >= 1.5 else f"{1 / row.better:.2g} times as many"
    if row.better >= 1:
        return (
            f"{row.better:.2g} times faster"
            if row.better < 99.5
            else f"{row.better:.0f} times faster"
        )
    return f"{1 / row.better:.2g} times slower"
