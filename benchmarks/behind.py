"""`WriteBehind` at a steady rate, and direct saves, on PostgreSQL.

In each round saves come at a steady pace and are accepted; when all of them are stored, as many
direct ones follow, one after the other, on the same store.
"""

from __future__ import annotations

import gc
import time
from statistics import mean
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.savers.postgres import new_database
from benchmarks.words import text
from langcairn import Checkpoint, PostgresCheckpointStore, WriteBehind

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn import CheckpointStore

RATE = 500
"""Saves a second."""
_SECONDS = 4
_USERS = 50
_DIRECT = 500
DESCRIPTION = (
    f"WriteBehind at {RATE} saves a second on PostgreSQL, for {_SECONDS} s a round: states of "
    f"2 kB, {_USERS} executions"
)


class Behind(NamedTuple):
    """What was measured; times in seconds."""

    rate: float
    dropped: int
    direct: float
    own: float
    flush: float


class _Times(NamedTuple):
    accepted: list[float]
    direct: list[float]
    paces: list[float]
    flushes: list[float]


def measure(rounds: int, advance: Callable[[], None], *, quick: bool) -> Behind:
    """Measure some rounds after one to warm up. `advance` is called once for each round."""
    count, direct = (40, 10) if quick else (RATE * _SECONDS, _DIRECT)
    saves = [_checkpoint(number) for number in range((count + direct) * (rounds + 1))]
    failed: list[Any] = []
    with new_database() as url, PostgresCheckpointStore(url) as store:
        with WriteBehind(store, on_error=lambda one, _: failed.append(one)) as behind:
            left = iter(saves)
            times = _Times([], [], [], [])
            for number in range(rounds + 1):
                gc.collect()
                once = _Times([], [], [], [])
                _pace(behind, [next(left) for _ in range(count)], once)
                _save(store, [next(left) for _ in range(direct)], once)
                if number:
                    for mine, found in zip(times, once, strict=True):
                        mine.extend(found)
                    advance()
        stored = sum(len(store.list(_execution(user))) for user in range(_USERS))
    return Behind(
        min(times.paces), len(saves) - stored, mean(times.direct), mean(times.accepted),
        max(times.flushes),
    )  # fmt: skip


def _pace(behind: WriteBehind, saves: list[Checkpoint], times: _Times) -> None:
    begin = perf_counter()
    for number, one in enumerate(saves):
        time.sleep(max(0.0, begin + number / RATE - perf_counter()))
        before = perf_counter()
        behind.save(one)
        times.accepted.append(perf_counter() - before)
    took = max(perf_counter() - begin, len(saves) / RATE)
    times.paces.append(len(saves) / took)
    before = perf_counter()
    behind.flush()
    times.flushes.append(perf_counter() - before)


def _save(store: CheckpointStore, saves: list[Checkpoint], times: _Times) -> None:
    for one in saves:
        before = perf_counter()
        store.save(one)
        times.direct.append(perf_counter() - before)


def _execution(number: int) -> str:
    return f"user {number % _USERS}"


def _checkpoint(number: int) -> Checkpoint:
    state = {"n": number, "said": f"{number}: {_SAID}", "answer": f"{number}: {_ANSWER}"}
    return Checkpoint(
        execution_id=_execution(number), state=state, id=f"{number:08}", node_name="agent"
    )


_SAID, _ANSWER = text("behind said", 300), text("behind answer", 1_700)
