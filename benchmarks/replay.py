"""Replaying recordings on several savers in one process, and timing every call.

What is done so that the savers can be compared:

- All get the same calls. They take turns: each replays a block of turns, then the next one does,
  and who begins changes from block to block.
- The first pass warms everything up and weighs what is kept; it isn't timed. Of each call's times
  in the passes after it, the median counts.
- Python's garbage collector runs as it would in an application, but doesn't look at the
  recordings (`gc.freeze`), which no application would hold. It is emptied before each pass.
- Every saver has its own defaults. Both SQLite savers commit with WAL and synchronous=FULL, and
  our files with an fdatasync; savers on a server share it (`benchmarks.servers`).
"""

from __future__ import annotations

import gc
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.recording import Recording, record, version_form
from benchmarks.savers import ADAPTERS, Session
from benchmarks.workloads import THREAD_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig

    from benchmarks.recording import Call
    from benchmarks.workloads import Workload

# psycopg prepares a statement at its fifth use, and PostgreSQL plans a prepared one anew for five
# more: before that, what is timed is not a warm process.
GET_WARM_UPS = 12
GETS = 15
BYTES_SAMPLES = 50

LATEST: RunnableConfig = {"configurable": {"thread_id": THREAD_ID, "checkpoint_ns": ""}}


class WrongStateError(Exception):
    """A saver gave back another state than it was given; its figures mean nothing."""


@dataclass
class Timings:
    """What was measured of one saver; times in seconds, one list of times a pass."""

    recording: Recording
    calls: list[list[float]] = field(default_factory=list)
    gets: list[list[float]] = field(default_factory=list)
    bytes_after_turn: dict[int, int] = field(default_factory=dict)
    bytes_kept: int = 0
    directory: Path | None = None
    """Where a persistent saver left its data, for fresh processes to open."""

    def call_times(self) -> list[float]:
        """Give one time for each call: the median of the passes."""
        return [median(times) for times in zip(*self.calls, strict=True)]

    def replay_time(self) -> float:
        return median(sum(times) for times in self.calls)

    def get_time(self) -> float | None:
        return median(median(times) for times in self.gets) if self.gets else None


@dataclass
class _Run:
    """One saver in one pass."""

    name: str
    session: Session
    timings: Timings
    blocks: list[list[Call]]
    times: list[float] = field(default_factory=list)
    gets: list[float] = field(default_factory=list)


def record_for(workload: Workload, names: Sequence[str], place: Path) -> dict[str, Recording]:
    """Record a workload with each saver's own channel versions; equal forms share a recording."""
    recordings: dict[tuple[str, str], Recording] = {}
    of_saver = {}
    for name in names:
        with ADAPTERS[name].new_place(place) as directory:
            session = ADAPTERS[name].open(directory)
            form = version_form(session.saver)
            if form not in recordings:
                recordings[form] = record(workload, session.saver)
            of_saver[name] = recordings[form]
            session.close()
    return of_saver


def measure(
    recordings: dict[str, Recording], rounds: int, place: Path, progress: Callable[[], None]
) -> dict[str, Timings]:
    """Replay recordings once to warm up and weigh, and `rounds` times to time.

    `progress` is called `steps(recordings, rounds)` times. A persistent saver's data is left in
    `place`, or on its server, for fresh processes to open; then it is to be removed (`remove`).
    """
    timings = {name: Timings(recording) for name, recording in recordings.items()}
    try:
        with _frozen_heap():
            for number in range(rounds + 1):
                _pass(timings, place, progress, timed=number > 0)
    except BaseException:
        for name, timing in timings.items():
            remove(name, timing)
        raise
    return timings


def _pass(
    timings: dict[str, Timings], place: Path, progress: Callable[[], None], *, timed: bool
) -> None:
    runs = [_open_run(name, timing, place) for name, timing in timings.items()]
    gc.collect()
    if timed:
        _replay_timing(runs, progress)
        _time_gets(runs)
    else:
        _replay_weighing(runs, progress)
    for run in runs:
        _finish(run)


def steps(recordings: dict[str, Recording], rounds: int) -> int:
    return sum(len(_blocks(recording)) for recording in recordings.values()) * (rounds + 1)


def _open_run(name: str, timings: Timings, place: Path) -> _Run:
    remove(name, timings)
    timings.directory = Path(tempfile.mkdtemp(dir=place))
    session = ADAPTERS[name].open(timings.directory)
    session.prepare(timings.recording.calls)
    return _Run(name, session, timings, _blocks(timings.recording))


def remove(name: str, timings: Timings) -> None:
    """Remove what a saver left."""
    if timings.directory is not None:
        ADAPTERS[name].remove(timings.directory)
        timings.directory = None


def _blocks(recording: Recording) -> list[list[Call]]:
    def block_of(call: Call) -> int:
        return (call.turn - 1) // recording.workload.block

    return [list(calls) for _, calls in groupby(recording.calls, block_of)]


def _taking_turns(
    runs: list[_Run], progress: Callable[[], None]
) -> Iterator[tuple[_Run, list[Call]]]:
    for number in range(max(len(run.blocks) for run in runs)):
        first = number % len(runs)
        for run in runs[first:] + runs[:first]:
            if number < len(run.blocks):
                yield run, run.blocks[number]
                progress()


def _replay_weighing(runs: list[_Run], progress: Callable[[], None]) -> None:
    for run, block in _taking_turns(runs, progress):
        for call in block:
            call.replay(run.session.saver)
        turn = block[-1].turn
        weighed = run.timings.bytes_after_turn
        if turn - max(weighed, default=0) >= run.timings.recording.turns // BYTES_SAMPLES:
            weighed[turn] = run.session.bytes_kept()


def _replay_timing(runs: list[_Run], progress: Callable[[], None]) -> None:
    for run, block in _taking_turns(runs, progress):
        saver, times = run.session.saver, run.times
        for call in block:
            begin = perf_counter()
            call.replay(saver)
            times.append(perf_counter() - begin)


def _time_gets(runs: list[_Run]) -> None:
    runs = [run for run in runs if ADAPTERS[run.name].reads]
    for number in range(GET_WARM_UPS + GETS):
        first = number % max(1, len(runs))
        for run in runs[first:] + runs[:first]:
            begin = perf_counter()
            run.session.saver.get_tuple(LATEST)
            if number >= GET_WARM_UPS:
                run.gets.append(perf_counter() - begin)


def _finish(run: _Run) -> None:
    if ADAPTERS[run.name].reads:
        _check_state(run)
    run.timings.bytes_kept = run.session.close()
    if run.times:
        run.timings.calls.append(run.times)
    if run.gets:
        run.timings.gets.append(run.gets)


def _check_state(run: _Run) -> None:
    found = run.session.saver.get_tuple(LATEST)
    expected = run.timings.recording.last_checkpoint()
    if found is None or found.checkpoint["channel_values"] != expected["channel_values"]:
        raise WrongStateError(f"{run.name} gave back another state than it was given")


@contextmanager
def _frozen_heap() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
