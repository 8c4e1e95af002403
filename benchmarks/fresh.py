"""The first get_tuple of a fresh process: `python -m benchmarks.fresh SAVER DIRECTORY WORKLOAD`.

The process imports everything first, and runs two turns of the workload on a store of its own, so
that no module is loaded and no code is met for the first time while the clock runs. It collects
garbage, so that the collector stands at the same point for every saver, and leaves the collector
on. Then it opens the store to be measured and times the opening and the first get_tuple. The
operating system has the files in its cache, for every saver.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from benchmarks.replay import LATEST
from benchmarks.savers import ADAPTERS
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parents[1]


class FreshTimes(NamedTuple):
    """Medians over several processes [s]."""

    open: float
    get: float


def time_fresh(stores: dict[str, Path], workload: str, processes: int) -> dict[str, FreshTimes]:
    """Time each saver's first get_tuple in `processes` processes, in turn with the others."""
    times: dict[str, list[FreshTimes]] = {name: [] for name in stores}
    for _ in range(processes):
        for name, directory in stores.items():
            times[name].append(_run_process(name, directory, workload))
    return {
        name: FreshTimes(median(one.open for one in several), median(one.get for one in several))
        for name, several in times.items()
        if several
    }


def _run_process(name: str, directory: Path, workload: str) -> FreshTimes:
    command = [sys.executable, "-m", "benchmarks.fresh", name, str(directory), workload]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return FreshTimes(**json.loads(done.stdout))


def _measure(name: str, directory: Path) -> FreshTimes:
    gc.collect()
    begin = perf_counter()
    session = ADAPTERS[name].open(directory)
    opened = perf_counter()
    found = session.saver.get_tuple(LATEST)
    got = perf_counter()
    if found is None:
        raise SystemExit(f"{name} has no checkpoint in {directory}")
    session.close()
    return FreshTimes(opened - begin, got - opened)


def _warm_up(name: str, workload: str) -> None:
    with ADAPTERS[name].new_place() as directory:
        session = ADAPTERS[name].open(directory)
        WORKLOADS[workload].drive(session.saver, 2)
        session.saver.get_tuple(LATEST)
        session.close()


def _main(name: str, directory: str, workload: str) -> None:
    _warm_up(name, workload)
    print(json.dumps(_measure(name, Path(directory))._asdict()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
