"""The command line: `python -m benchmarks.service_load`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from tests.postgres_server import PostgresServer

from benchmarks.results import ROOT, describe_machine
from benchmarks.savers.postgres import new_database
from benchmarks.servers import VARIABLES
from benchmarks.service_load.measuring import Load, measure
from benchmarks.service_load.serving import SAVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.status import Status

    from benchmarks.service_load.measuring import Outcome

RESULTS = ROOT / "benchmarks" / "results" / "service.json"
OURS = "langcairn"
# As issue 6 states them.
RUNS_A_SECOND = 500
MEAN = 0.3  # [s]
FAILED_SHARE = 0.0005  # of the answers; the seeds'
TIMES_OFFICIAL = 3
SHARE_OF_MEMORY = 0.6
RECOVERY = 5.0  # [s]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns 1 if something was lost or wrong."""
    options = _parser().parse_args(arguments)
    console = Console(width=max(Console().width, 150), highlight=False)
    settings = [tuple(one.partition("=")[::2]) for one in options.set]
    load = Load(
        processes=options.processes,
        users=options.users,
        turns=options.turns,
        warmup=options.warmup,
        seconds=options.seconds,
        restarts=options.restarts,
        profile=options.profile,
        settings=tuple((name, value) for name, value in settings),
        wrap=tuple(options.wrap.split()),
    )
    outcomes: dict[str, list[Outcome]] = {saver: [] for saver in options.savers}
    with ExitStack() as stack:
        server = _server(stack)
        if load.restarts and server is None:
            raise SystemExit("a server of yours isn't restarted: leave --restarts out")
        for number in range(options.rounds):
            first = number % len(options.savers)
            for saver in options.savers[first:] + options.savers[:first]:
                with new_database() as url, console.status(saver) as status:

                    def show(text: str, status: Status = status, saver: str = saver) -> None:
                        status.update(f"{saver}: {text}")

                    outcome = asyncio.run(measure(saver, load, url, server, show))
                outcomes[saver].append(outcome)
                console.print(_line(outcome))
    _print(console, outcomes, load)
    _write(options.json, outcomes, load)
    console.print(f"written to {options.json}")
    return int(any(one.lost or one.wrong for found in outcomes.values() for one in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service_load",
        description="Load on the reference service. On a quiet machine, or the times mean nothing.",
    )
    default = Load()
    parser.add_argument("--savers", nargs="+", choices=SAVERS, default=list(SAVERS))
    parser.add_argument("--processes", type=int, default=default.processes)
    parser.add_argument("--users", type=int, default=default.users)
    parser.add_argument("--turns", type=int, default=default.turns, help="runs in each thread")
    parser.add_argument("--seconds", type=float, default=default.seconds)
    parser.add_argument("--warmup", type=float, default=default.warmup)
    parser.add_argument("--rounds", type=int, default=1, help="savers take turns; medians count")
    parser.add_argument("--restarts", type=int, default=0, help="of PostgreSQL, while it is loaded")
    parser.add_argument("--profile", action="store_true", help="sample where CPU time goes")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="of the service's environment"
    )
    parser.add_argument("--wrap", default="", help="a command to run the service with, as prlimit")
    parser.add_argument("--json", type=Path, default=RESULTS)
    return parser


def _server(stack: ExitStack) -> PostgresServer | None:
    """Start PostgreSQL with its default durability, unless the user has one."""
    variable = VARIABLES["postgres"]
    if variable in os.environ:
        return None
    server = PostgresServer(durable=True)
    stack.callback(server.remove)
    os.environ[variable] = server.start().url()
    stack.callback(os.environ.pop, variable)
    return server


def _line(one: Outcome) -> str:
    failed = {name: count for name, count in one.answers.items() if name != "200"}
    text = (
        f"{one.saver}: {one.runs_a_second:.0f} runs/s, mean {1000 * one.mean:.0f} ms, not 200: "
        f"{failed or 'none'}, {one.verified} threads verified, {len(one.lost)} lost something"
    )
    return "\n".join([text, *one.wrong[:3], *one.lost[:3]])


def _print(console: Console, outcomes: dict[str, list[Outcome]], load: Load) -> None:
    asked = f"{load.users} users, {load.turns} turns, {load.processes} processes"
    table = Table(title=f"{asked}, {load.seconds:g} s")
    for heading in (
        "saver", "runs/s", "mean", "p50", "p95", "p99", "longest", "failed", "lost",
        "CPU/run: service", "PostgreSQL", "load", "memory",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "saver" else "right")
    for saver, found in outcomes.items():
        one = _middle(found)
        runs = max(one.runs, 1)
        table.add_row(
            saver,
            f"{one.runs_a_second:.0f}",
            *(f"{1000 * x:.0f} ms" for x in (one.mean, one.p50, one.p95, one.p99, one.longest)),
            f"{_failed(one):.3%}",
            str(len(one.lost) + len(one.wrong)),
            *(f"{1000 * cpu / runs:.2f} ms" for cpu in (one.cpu.service, one.cpu.postgres)),
            f"{1000 * one.cpu.generator / runs:.2f} ms",
            f"{max(one.series.memory, default=0) / 2**20:.0f} MiB",
        )
    console.print(table)
    for saver, found in outcomes.items():
        for one in found:
            for restart in one.restarts:
                console.print(
                    f"{saver}: PostgreSQL was away for {restart.down:.2f} s; the first answer came "
                    f"{restart.first:.2f} s after that, all users were served after "
                    f"{restart.recovered:.2f} s"
                )
        if load.seconds >= 300:
            one = _middle(found)
            connections = [n for n in one.series.connections if n >= 0]
            console.print(
                f"{saver}: memory grew by {one.memory_growth / 2**20:.1f} MiB an hour; connections "
                f"{min(connections, default=0)} to {max(connections, default=0)}"
            )
    for saver, found in outcomes.items():
        if found[0].profile:
            shares = found[0].profile["packages"].items()
            console.print(f"{saver}: " + ", ".join(f"{k} {v:.0%}" for k, v in shares if v >= 0.005))
    for text in verdicts(outcomes):
        console.print(text)


def verdicts(outcomes: dict[str, list[Outcome]]) -> list[str]:
    """Say which of the figures to reach are reached."""
    speeds = {
        saver: median(one.runs_a_second for one in found) for saver, found in outcomes.items()
    }
    if OURS not in outcomes:
        return []
    ours, speed = outcomes[OURS], speeds[OURS]
    mean = median(one.mean for one in ours)
    failed = max(map(_failed, ours))
    judged = [
        (speed >= RUNS_A_SECOND, f"{speed:.0f} runs a second; {RUNS_A_SECOND} wanted"),
        (mean < MEAN, f"mean {1000 * mean:.0f} ms; less than {1000 * MEAN:.0f} wanted"),
        (failed == 0, f"{failed:.3%} failed; none wanted, {FAILED_SHARE:.2%} allowed"),
    ]
    if "official" in speeds:
        times = speed / speeds["official"]
        judged.append((times >= TIMES_OFFICIAL, f"{times:.2f} times AsyncPostgresSaver; 3 wanted"))
    if "memory" in speeds:
        share = speed / speeds["memory"]
        judged.append((share >= SHARE_OF_MEMORY, f"{share:.2f} of InMemorySaver; 0.6 wanted"))
    slowest = [restart.recovered for one in ours for restart in one.restarts]
    if slowest:
        text = f"recovered within {max(slowest):.2f} s; {RECOVERY:g} wanted"
        judged.append((max(slowest) <= RECOVERY, text))
    return [f"{'reached' if good else 'MISSED '}  {text}" for good, text in judged]


def _middle(found: Sequence[Outcome]) -> Outcome:
    """Return the round with the median speed."""
    return sorted(found, key=lambda one: one.runs_a_second)[len(found) // 2]


def _failed(one: Outcome) -> float:
    whole = sum(one.answers.values())
    return 1 - one.answers.get("200", 0) / whole if whole else 1.0


def _write(file: Path, outcomes: dict[str, list[Outcome]], load: Load) -> None:
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "machine": describe_machine(Path(tempfile.gettempdir())),
        "load": {**load.__dict__, "settings": dict(load.settings)},
        "outcomes": {saver: [one.as_json() for one in all] for saver, all in outcomes.items()},
        "verdicts": verdicts(outcomes),
    }
    file.write_text(json.dumps(found, indent=1) + "\n")
