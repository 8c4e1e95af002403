"""What the knobs of docs/tuning.md do here: ``python -m benchmarks.tuning``, a few minutes.

Settings of one knob take turns, so that what else the machine does hits all of them; the first
round warms up. Read the ratios. A saved conversation grows by two texts of 400 characters a step.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from langgraph.graph import END, START, MessagesState, StateGraph

from benchmarks.savers.postgres import new_database
from benchmarks.servers import running
from benchmarks.words import text
from langcairn import Checkpoint, CheckpointSaver, CheckpointStore, WriteBehind, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    Timed = Callable[[], float]

_names = count()
_STEPS = 100
_USERS = 50
_EACH = 10  # [steps of each of many users]


def _states(steps: int, length: int) -> list[dict[str, Any]]:
    name = next(_names)
    log = [text(f"{name} {number}", length) for number in range(2 * steps)]
    return [{"log": log[: 2 * step + 2], "step": step} for step in range(steps)]


def _checkpoints(steps: int, length: int = 400) -> list[Checkpoint]:
    execution_id = f"run-{next(_names)}"
    return [
        Checkpoint(id=f"{step:06}", execution_id=execution_id, state=state)
        for step, state in enumerate(_states(steps, length))
    ]


def one(store: Any, steps: int = _STEPS, length: int = 400) -> float:
    """Return what a save takes in the middle [s]: one caller, one conversation."""
    times = []
    for checkpoint in _checkpoints(steps, length):
        begin = perf_counter()
        store.save(checkpoint)
        times.append(perf_counter() - begin)
    return median(times)


def in_turns(store: CheckpointStore) -> float:
    """Return what a save takes [s] of 30 conversations of 100 texts, one after the other."""
    work = [_checkpoints(55) for _ in range(30)]
    for checkpoints in work:
        store.save_many(checkpoints[:50])
    begin = perf_counter()
    for step in range(50, 55):
        for checkpoints in work:
            store.save(checkpoints[step])
    return (perf_counter() - begin) / (30 * 5)


def threads(store: CheckpointStore, number: int) -> float:
    """Return what a save takes of the time [s] while threads save conversations of their own."""
    work = [_checkpoints(_EACH) for _ in range(_USERS)]

    def save(checkpoints: list[Checkpoint]) -> None:
        for checkpoint in checkpoints:
            store.save(checkpoint)

    with ThreadPoolExecutor(number) as executor:
        begin = perf_counter()
        list(executor.map(save, work))
        return (perf_counter() - begin) / (_USERS * _EACH)


def tasks(make: Callable[[], CheckpointStore]) -> float:
    """Do as `threads` with a task for each of 50 users, in one event loop."""
    work = [_checkpoints(_EACH) for _ in range(_USERS)]

    async def save(store: CheckpointStore, checkpoints: list[Checkpoint]) -> None:
        for checkpoint in checkpoints:
            await store.asave(checkpoint)

    async def all() -> float:
        async with make() as store:
            await store.asave(_checkpoints(1)[0])
            begin = perf_counter()
            await asyncio.gather(*(save(store, checkpoints) for checkpoints in work))
            return (perf_counter() - begin) / (_USERS * _EACH)

    return asyncio.run(all())


def runs(store: CheckpointStore, durability: Any) -> float:
    """Return what a run of a graph of five nodes takes [s]."""
    builder = StateGraph(MessagesState)
    names = [f"node-{number}" for number in range(5)]
    for name in names:
        builder.add_node(name, lambda _, name=name: {"messages": [("ai", text(name, 400))]})
    for before, after in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(before, after)
    graph: Any = builder.compile(checkpointer=CheckpointSaver(store))
    thread = {"configurable": {"thread_id": f"run-{next(_names)}"}}
    times = []
    for number in range(20):
        begin = perf_counter()
        graph.invoke({"messages": [("human", f"{number}")]}, thread, durability=durability)
        times.append(perf_counter() - begin)
    return median(times)


def compare(title: str, settings: dict[str, Timed], rounds: int) -> None:
    """Measure the settings of a knob in turns, and print what each takes."""
    taken: dict[str, list[float]] = {name: [] for name in settings}
    for number in range(rounds + 1):
        for name, timed in settings.items():
            gc.collect()
            seconds = timed()
            if number:
                taken[name].append(seconds)
    print(f"\n{title}")
    first = median(next(iter(taken.values())))
    for name, times in taken.items():
        spread = f"{min(times) * 1e6:,.0f} to {max(times) * 1e6:,.0f}"
        print(
            f"  {name:32} {median(times) * 1e6:9,.0f} µs  {median(times) / first:5.2f}   ({spread})"
        )


def sqlite(stack: ExitStack, rounds: int) -> None:
    """Measure SQLite's and the files' knobs, and those of every store."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

    def store(url: str, **options: Any) -> CheckpointStore:
        opened = open_store(f"{url}/{next(_names)}".replace("//f", f"//{folder}/f"), **options)
        return stack.enter_context(opened)

    base = "sqlite:///f"
    (folder / "f").mkdir()
    full, normal, off = (store(base, synchronous=how) for how in ("FULL", "NORMAL", "OFF"))
    compare(
        "SQLite: synchronous, one caller",
        {"FULL": partial(one, full), "NORMAL": partial(one, normal), "OFF": partial(one, off)},
        rounds,
    )
    crowd: dict[str, Timed] = {f"{n} threads": partial(threads, full, n) for n in (1, 2, 8, 16)}
    compare("SQLite FULL: threads that save at the same time, time for each save", crowd, rounds)
    synced, lazy = store("file:///f"), store("file:///f", fsync=False)
    compare("Files: fsync", {"True": partial(one, synced), "False": partial(one, lazy)}, rounds)
    crowd = {f"{n} threads": partial(threads, synced, n) for n in (1, 2, 8)}
    compare("Files: threads, time for each save", crowd, rounds)
    levels = {
        f"{level}": store(base, synchronous="OFF", compression=level) for level in (3, -7, 1, 9, 19)
    }
    compare(
        "compression, texts of 6,000 characters",
        {k: partial(one, s, 50, 6000) for k, s in levels.items()},
        rounds,
    )
    for level, kept in levels.items():
        print(f"  {level:32} {kept.stats().stored_bytes:9,} bytes")
    caches = {
        "64 MiB": store(base, synchronous="OFF"),
        "0": store(base, synchronous="OFF", cache_bytes=0),
    }
    compare(
        "cache_bytes, one conversation",
        {k: partial(one, s, 200) for k, s in caches.items()},
        rounds,
    )
    caches["1 MiB"] = store(base, synchronous="OFF", cache_bytes=2**20)
    compare(
        "cache_bytes, 30 conversations in turns",
        {k: partial(in_turns, s) for k, s in caches.items()},
        rounds,
    )
    graphs: dict[str, Timed] = {how: partial(runs, full, how) for how in ("sync", "async", "exit")}
    compare("LangGraph's durability, a run of five nodes on SQLite FULL", graphs, rounds)


def postgres(stack: ExitStack, rounds: int) -> None:
    """Measure PostgreSQL's knobs."""
    stack.enter_context(running(["postgres"]))
    url = stack.enter_context(new_database())
    also = "&" if "?" in url else "?"

    def opened(more: str = "", **options: Any) -> CheckpointStore:
        return open_store(url + more, **options)

    def store(more: str = "", **options: Any) -> CheckpointStore:
        return stack.enter_context(opened(more, **options))

    def crowded(connections: int) -> float:
        with opened(pool_max_conns=connections) as one_more:
            one_more.executions(limit=1)
            return threads(one_more, _USERS)

    usual, off = store(), f"{also}options=-c%20synchronous_commit%3Doff"
    lazy, unprepared = store(off), store(off, prepare=False)
    compare(
        "PostgreSQL, one caller",
        {
            "the defaults": partial(one, usual),
            "synchronous_commit=off": partial(one, lazy),
            "also prepare=False": partial(one, unprepared),
        },
        rounds,
    )
    compare(
        "PostgreSQL: pool_max_conns, 50 tasks, time for each save",
        {str(n): partial(tasks, partial(opened, pool_max_conns=n)) for n in (10, 1, 2, 50)},
        rounds,
    )
    compare(
        "PostgreSQL: lanes, 50 tasks, time for each save",
        {str(n): partial(tasks, partial(opened, lanes=n)) for n in (2, 1, 4, 8)},
        rounds,
    )
    compare(
        "PostgreSQL: pool_max_conns, 50 threads, time for each save",
        {str(n): partial(crowded, n) for n in (10, 1, 2, 50)},
        rounds,
    )
    behind = stack.enter_context(WriteBehind(usual))

    def accepted() -> float:
        try:
            return one(behind)
        finally:
            behind.flush()

    compare(
        "WriteBehind: what the caller waits",
        {"save": partial(one, usual), "behind": accepted},
        rounds,
    )
    graphs: dict[str, Timed] = {how: partial(runs, usual, how) for how in ("sync", "async", "exit")}
    compare("LangGraph's durability, a run of five nodes on PostgreSQL", graphs, rounds)


def valkey(stack: ExitStack, rounds: int) -> None:
    """Measure Valkey's knobs."""
    from tests.valkey_server import ValkeyServer  # noqa: PLC0415 -- as in benchmarks.servers

    def store(**settings: str) -> CheckpointStore:
        server = stack.enter_context(ValkeyServer(save="", **settings))
        return stack.enter_context(open_store(server.url))

    every = store(appendonly="yes", appendfsync="everysec")
    always = store(appendonly="yes", appendfsync="always")
    none = store(appendonly="no")
    compare(
        "Valkey: the append-only file, one caller",
        {
            "everysec": partial(one, every),
            "always": partial(one, always),
            "none": partial(one, none),
        },
        rounds,
    )
    crowd: dict[str, Timed] = {f"{n} threads": partial(threads, always, n) for n in (1, 8)}
    compare("Valkey always: threads, time for each save", crowd, rounds)
    server = stack.enter_context(ValkeyServer(save="", appendonly="yes", appendfsync="everysec"))
    waiting = stack.enter_context(open_store(server.url, wait_aof=True))
    compare(
        "Valkey everysec: wait_aof, one caller",
        {"False": partial(one, every, 5), "True": partial(one, waiting, 5)},
        rounds,
    )


PARTS = {"sqlite": sqlite, "postgres": postgres, "valkey": valkey}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            with ExitStack() as stack:
                part(stack, given.rounds)


if __name__ == "__main__":
    main()
