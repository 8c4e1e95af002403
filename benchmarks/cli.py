"""The command line: `python -m benchmarks` measures, `python -m benchmarks profile` profiles."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.crowd import CROWD_SAVERS, CROWDS, crowd_steps, measure_crowd
from benchmarks.figures import figures_of
from benchmarks.fresh import time_fresh
from benchmarks.ideal import ideal_of
from benchmarks.markdown import as_markdown
from benchmarks.objects import measure_objects
from benchmarks.parts import PARTS, servers_of
from benchmarks.profiling import METHODS, profile, time_stages
from benchmarks.replay import measure, record_for, remove, steps
from benchmarks.report import (
    print_crowd,
    print_objects,
    print_singles,
    print_summary,
    print_workload,
)
from benchmarks.results import ROOT, RunResult, WorkloadResult, as_json, describe_machine
from benchmarks.savers import ADAPTERS
from benchmarks.servers import describe, running
from benchmarks.singles import JOBS, Job, Run
from benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.crowd import Crowd
    from benchmarks.parts import Part
    from benchmarks.workloads import Workload

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
PICTURE = ROOT / "docs" / "images" / "growth.png"
PICTURED = ("embedded", "agent")
CROWD = "crowd"
"""What `--only` calls the crowds, beside the parts."""
OBJECTS = "objects"
"""The part for which also requests are counted."""
CONSOLE_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = _console()
    if words[:1] == ["profile"]:
        return _main_profile(console, words[1:])
    return _main_measure(console, words)


def _console() -> Console:
    console = Console()
    # Piped output has 80 columns, too few for the tables.
    return Console(width=max(console.width, CONSOLE_WIDTH), highlight=False)


def _main_measure(console: Console, words: Sequence[str]) -> int:
    parser = _measure_parser()
    options = parser.parse_args(words)
    jobs = _jobs(options)
    crowds = _crowds(options)
    singles = _singles(options)
    if not jobs and not crowds and not singles:
        parser.error("no part of the benchmark has such savers and workloads")
    savers = [name for part, _ in jobs for name in part.savers]
    servers = servers_of([*savers, *(name for _, names in crowds for name in names)])
    servers.update(job.server for job in singles if job.server is not None)
    with tempfile.TemporaryDirectory(dir=options.place) as place, running(servers):
        result = RunResult(
            options.rounds, options.fresh, describe_machine(Path(place)), describe(servers)
        )
        for part, workload in jobs:
            one = _measure_workload(part, workload, options.savers, result, Path(place))
            print_workload(console, one)
            result.workloads.append(one)
        for crowd, names in crowds:
            with _progress(f"crowd of {crowd.name}", crowd_steps(crowd, names)) as advance:
                result.crowds.append(measure_crowd(crowd, names, advance))
            print_crowd(console, result.crowds[-1])
        if any(part.name == OBJECTS for part, _ in jobs):
            result.objects = measure_objects(Path(place), quick=options.quick)
            print_objects(console, result.objects)
        for job in singles:
            with _progress(job.name, job.steps(options.rounds)) as advance:
                run = Run(options.rounds, options.quick, Path(place), advance)
                result.singles.append(job.measure(run))
            print_singles(console, result.singles[-1])
    print_summary(console, result)
    _write_files(console, result, options)
    return 0


def _jobs(options: argparse.Namespace) -> list[tuple[Part, Workload]]:
    """Return what is to be replayed."""
    chosen = []
    for part in PARTS.values():
        if options.only and part.name not in options.only:
            continue
        if options.savers:
            part = part.of(options.savers)  # noqa: PLW2901 -- the part that is left of it
        for name in part.workloads if part.pairs else ():
            if name in (options.workload or part.workloads):
                workload = WORKLOADS[name]
                chosen.append((part, workload.quick() if options.quick else workload))
    return chosen


def _crowds(options: argparse.Namespace) -> list[tuple[Crowd, list[str]]]:
    """Return the crowds, each with its savers. No crowd replays one of the workloads."""
    if options.workload or (options.only and CROWD not in options.only):
        return []
    names = [name for name in CROWD_SAVERS if name in (options.savers or CROWD_SAVERS)]
    crowds = [crowd.quick() if options.quick else crowd for crowd in CROWDS.values()]
    return [(replace(crowd, rounds=options.rounds), names) for crowd in crowds] if names else []


def _singles(options: argparse.Namespace) -> list[Job]:
    """Return what is measured of ours alone."""
    if options.workload or options.savers:
        return []
    return [job for job in JOBS if not options.only or job.part in options.only]


def _measure_workload(
    part: Part, workload: Workload, chosen: Sequence[str], result: RunResult, place: Path
) -> WorkloadResult:
    names = [name for name in part.savers if name in (chosen or part.savers)]
    recordings = record_for(workload, names, place)
    label = f"{workload.name} ({part.name})"
    with _progress(label, steps(recordings, result.rounds)) as advance:
        timings = measure(recordings, result.rounds, place, advance)
    try:
        stores = {
            name: timing.directory
            for name, timing in timings.items()
            if ADAPTERS[name].persistent and timing.directory is not None
        }
        processes = result.fresh_processes if part.fresh else 0
        fresh = time_fresh(stores, workload.name, processes)
    finally:
        for name, timing in timings.items():
            remove(name, timing)
    recording = next(iter(recordings.values()))
    ideal = ideal_of(recording)
    return WorkloadResult(
        part=part,
        workload=workload,
        calls=len(recording.calls),
        ideal=ideal,
        figures={
            name: figures_of(timing, fresh.get(name), ideal.one_by_one)
            for name, timing in timings.items()
        },
    )


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Refreshing from a thread would take time from what is measured; this bar moves between
    # blocks of calls.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, auto_refresh=False
    ) as progress:
        task = progress.add_task(name, total=total)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            progress.update(task, completed=done, refresh=done % max(1, total // 50) == 0)

        yield advance


def _write_files(console: Console, result: RunResult, options: argparse.Namespace) -> None:
    complete = not (options.quick or options.only or options.workload or options.savers)
    output = options.output or (RESULTS if complete else None)
    picture = options.picture or (PICTURE if complete else None)
    if output is None and picture is None:
        console.print("Not a full run: no files are written unless --output or --picture say so.")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(as_json(result))
        markdown = output.with_suffix(".md")
        markdown.write_text(as_markdown(result))
        console.print(f"All figures: {output}; as tables for the README: {markdown}")
    pictured = [one for one in result.workloads if (one.part.name, one.workload.name) == PICTURED]
    if picture is not None and pictured and not options.no_picture:
        from benchmarks.picture import draw  # noqa: PLC0415 -- matplotlib loads for half a second

        draw(pictured[0], picture)
        console.print(f"Picture: {picture}")


def _main_profile(console: Console, words: Sequence[str]) -> int:
    options = _profile_parser().parse_args(words)
    workload = WORKLOADS[options.workload]
    if options.quick:
        workload = workload.quick()
    with running(servers_of([options.saver])):
        if options.time:
            time_stages(console, workload, options.saver, options.method, options.time)
        else:
            profile(console, workload, options.saver, options.method)
    return 0


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return number


def _saver_names(words: str) -> list[str]:
    names = [word.strip() for word in words.split(",")]
    for name in names:
        if name not in ADAPTERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of: {', '.join(ADAPTERS)}")
    return names


def _measure_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure langcairn beside LangGraph's own savers, on calls recorded from real "
        "graphs and on crowds of users.",
        epilog="python -m benchmarks profile --help: where a saver's time goes.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(dict.fromkeys([*PARTS, CROWD, *(job.part for job in JOBS)])),
        help="only this part; may be repeated",
    )
    parser.add_argument(
        "--workload", action="append", choices=list(WORKLOADS), help="only this; may be repeated"
    )
    parser.add_argument(
        "--savers",
        type=_saver_names,
        metavar="A,B",
        help=f"only these, of: {', '.join(ADAPTERS)}",
    )
    parser.add_argument("--quick", action="store_true", help="a few turns: does it run at all?")
    parser.add_argument(
        "--rounds", type=_positive, default=3, metavar="N", help="timed passes (default: 3)"
    )
    parser.add_argument(
        "--fresh", type=int, default=5, metavar="N", help="fresh processes a saver (default: 5)"
    )
    parser.add_argument(
        "--place",
        type=Path,
        metavar="DIR",
        help="where savers without a server keep their files; a RAM disk makes every fsync free",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where the JSON goes; beside it, as .md, tables"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where the picture goes")
    parser.add_argument("--no-picture", action="store_true", help="draw nothing")
    return parser


def _profile_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks profile",
        description="Show where a saver's time goes.",
    )
    parser.add_argument("--workload", choices=list(WORKLOADS), default="agent")
    parser.add_argument("--saver", choices=list(ADAPTERS), default="langcairn sqlite")
    parser.add_argument("--method", choices=METHODS, default="put")
    parser.add_argument("--quick", action="store_true", help="a few turns")
    parser.add_argument(
        "--time",
        action="append",
        metavar="MODULE:FUNCTION",
        help="instead of the profiler, time this function inside the method, as in "
        "langcairn.codec.tree:Encoder.encode; may be repeated",
    )
    return parser
