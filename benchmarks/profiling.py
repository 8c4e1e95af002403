"""`python -m benchmarks profile`: where a saver's time goes, for those who make it faster."""

from __future__ import annotations

import cProfile
import functools
import pstats
from collections import defaultdict
from contextlib import ExitStack
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, cast, get_args
from unittest.mock import patch

from rich.table import Table

from benchmarks.recording import PutCall
from benchmarks.replay import LATEST, record_for
from benchmarks.rows import format_seconds
from benchmarks.savers import ADAPTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from benchmarks.workloads import Workload

Method = Literal["put", "put_writes", "get_tuple"]
METHODS: tuple[Method, ...] = get_args(Method)

GETS = 50
TOP = 40


def profile(console: Console, workload: Workload, saver: str, method: Method) -> None:
    """Print the functions of one method that took most time themselves, and the files.

    cProfile makes every Python call cost more and leaves C code as it is: read the order from it,
    not the times. Only the calling thread is profiled.
    """
    profiler = cProfile.Profile()
    count = _replay(workload, saver, method, profiler.runcall)
    console.print(f"[bold]{saver}, {workload.name}[/]: {count:,} calls of {method}")
    stats = pstats.Stats(profiler)
    stats.sort_stats("tottime").print_stats(TOP)
    console.print(_file_table(stats, count))


def time_stages(
    console: Console, workload: Workload, saver: str, method: Method, functions: list[str]
) -> None:
    """Time functions inside one method by wrapping them, without the cost of a profiler.

    Functions are named by module and attribute, as in `langcairn.codec.tree:Encoder.encode`, and
    have to be looked up there when they are called. Their times include what they call.
    """
    stages = _Stages()
    with ExitStack() as stack:
        for name in functions:
            stack.enter_context(stages.watching(name))
        count = _replay(workload, saver, method, stages.run)
    console.print(f"[bold]{saver}, {workload.name}[/]: {count:,} calls of {method}")
    console.print(stages.table(method, count))


def _replay(
    workload: Workload, saver: str, method: Method, around: Callable[[Callable[[], object]], object]
) -> int:
    """Replay a workload, with `around` running each call of `method`; say how many it ran."""
    with ADAPTERS[saver].new_place() as place:
        recording = record_for(workload, [saver], place.parent)[saver]
        session = ADAPTERS[saver].open(place)
        session.prepare(recording.calls)
        count = 0
        for call in recording.calls:
            if method == ("put" if isinstance(call, PutCall) else "put_writes"):
                around(functools.partial(call.replay, session.saver))
                count += 1
            else:
                call.replay(session.saver)
        if method == "get_tuple":
            for _ in range(GETS):
                around(functools.partial(session.saver.get_tuple, LATEST))
            count = GETS
        session.close()
    return count


def _file_table(stats: pstats.Stats, count: int) -> Table:
    """Sum the functions' own times by file: which layer the time is spent in."""
    own: defaultdict[str, float] = defaultdict(float)
    # pstats keeps its figures in an attribute that typeshed doesn't know:
    # (file, line, name) -> (primitive calls, calls, own time, cumulative time, callers).
    entries = cast("dict[tuple[str, int, str], tuple[Any, ...]]", vars(stats)["stats"])
    for (file, _, function), entry in entries.items():
        own[_layer(file, function)] += entry[2]
    table = Table(title="own time by file", title_justify="left")
    table.add_column("file, or builtin")
    table.add_column("a call", justify="right")
    table.add_column("share", justify="right")
    total = sum(own.values())
    for layer, seconds in sorted(own.items(), key=lambda item: -item[1])[:TOP]:
        table.add_row(layer, format_seconds(seconds / count), f"{seconds / total:.1%}")
    return table


def _layer(file: str, function: str) -> str:
    if file == "~":
        return function
    for root in ("site-packages/", "src/", "lib/"):
        if root in file:
            return file.rpartition(root)[2]
    return file


class _Stages:
    """Sums the time of watched functions while a measured call runs."""

    def __init__(self) -> None:
        self._running = False
        self._total = 0.0
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._calls: defaultdict[str, int] = defaultdict(int)

    def run(self, action: Callable[[], object]) -> None:
        self._running = True
        begin = perf_counter()
        action()
        self._total += perf_counter() - begin
        self._running = False

    def watching(self, name: str) -> Any:
        """Give a context manager in which a function's time is summed."""
        module, _, path = name.partition(":")
        *holders, attribute = path.split(".")
        holder: Any = functools.reduce(getattr, holders, import_module(module))
        return patch.object(holder, attribute, self._watched(name, getattr(holder, attribute)))

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self._running:
                return function(*args, **kwargs)
            begin = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._spent[name] += perf_counter() - begin
                self._calls[name] += 1

        return watched

    def table(self, method: Method, count: int) -> Table:
        table = Table()
        table.add_column("function", overflow="fold")
        for heading in ("times a call", f"a call of {method}", "share"):
            table.add_column(heading, justify="right")
        table.add_row(method, "1", format_seconds(self._total / count), "100.0%")
        for name, seconds in sorted(self._spent.items(), key=lambda item: -item[1]):
            table.add_row(
                name,
                f"{self._calls[name] / count:.3g}",
                format_seconds(seconds / count),
                f"{seconds / self._total:.1%}",
            )
        return table
