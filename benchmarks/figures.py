"""From single timings to the figures that are compared."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.recording import PutCall

if TYPE_CHECKING:
    from benchmarks.fresh import FreshTimes
    from benchmarks.replay import Timings

EARLY_TURNS = (6, 14)
LATE_TURNS = 10


@dataclass(frozen=True)
class SaverFigures:
    """What one saver needs for one workload; times in seconds, all of them medians.

    Attributes:
        bytes_kept: Files after closing, live bytes in memory, or what the server says.
        bytes_to_ideal: The same as a multiple of the distinct content after zstd.
        put: Over all puts.
        put_early: Over the puts of the turns that `windows` gives first (6 to 14).
        put_late: Over the puts of the last ten turns.
        put_writes: Over all put_writes.
        replay: All puts and put_writes of a pass together; the median over the passes.
        get: get_tuple of the latest checkpoint in the process that wrote it; None for what can't
            read.
        fresh_get: The first get_tuple of a fresh process; None for a saver in memory.
        fresh_open: Opening the saver before it.
        bytes_series: Pairs of a turn and the bytes kept after it.
        put_series: Pairs of a turn and the median of its puts.
    """

    bytes_kept: int
    bytes_to_ideal: float
    put: float
    put_early: float
    put_late: float
    put_writes: float
    replay: float
    get: float | None
    fresh_get: float | None
    fresh_open: float | None
    bytes_series: list[tuple[int, int]]
    put_series: list[tuple[int, float]]

    @property
    def put_growth(self) -> float:
        return self.put_late / self.put_early

    @property
    def fresh_total(self) -> float | None:
        """Opening and the first get_tuple of a fresh process together."""
        if self.fresh_open is None or self.fresh_get is None:
            return None
        return self.fresh_open + self.fresh_get


def windows(turns: int) -> tuple[range, range]:
    """Give the turns whose puts are set against each other: early ones and the last ones."""
    if turns < 3 * LATE_TURNS:  # a quick run: the first and the last third
        third = max(1, turns // 3)
        return range(1, third + 1), range(turns - third + 1, turns + 1)
    return range(EARLY_TURNS[0], EARLY_TURNS[1] + 1), range(turns - LATE_TURNS + 1, turns + 1)


def figures_of(timings: Timings, fresh: FreshTimes | None, ideal_bytes: int) -> SaverFigures:
    calls = timings.recording.calls
    puts_of_turn: defaultdict[int, list[float]] = defaultdict(list)
    put_writes = []
    for call, seconds in zip(calls, timings.call_times(), strict=True):
        if isinstance(call, PutCall):
            puts_of_turn[call.turn].append(seconds)
        else:
            put_writes.append(seconds)
    early, late = windows(timings.recording.turns)
    return SaverFigures(
        bytes_kept=timings.bytes_kept,
        bytes_to_ideal=timings.bytes_kept / ideal_bytes,
        put=median(seconds for puts in puts_of_turn.values() for seconds in puts),
        put_early=median(seconds for turn in early for seconds in puts_of_turn[turn]),
        put_late=median(seconds for turn in late for seconds in puts_of_turn[turn]),
        put_writes=median(put_writes),
        replay=timings.replay_time(),
        get=timings.get_time(),
        fresh_get=fresh.get if fresh else None,
        fresh_open=fresh.open if fresh else None,
        bytes_series=sorted(timings.bytes_after_turn.items()),
        put_series=[(turn, median(puts)) for turn, puts in sorted(puts_of_turn.items())],
    )
