"""Backup, restore and migration: how fast, and with how much memory.

Each operation runs in a process of its own (`benchmarks.moving_process`), which says how long it
took, without its start, and the most memory that it ever had. The store that is backed up holds
threads of the agent workload, so many that their states, each for itself, would take 5 GB. The
source of the migration, LangGraph's own saver on SQLite, has short threads of it: of long ones it
would keep those 5 GB.

Distinct content is what `benchmarks.ideal` counts, serialized and not compressed, once a thread.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from benchmarks.ideal import ideal_of
from benchmarks.recording import PutCall, record
from benchmarks.workloads import WORKLOADS
from langcairn import CheckpointSaver, SqliteCheckpointStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langgraph.checkpoint.base import BaseCheckpointSaver

    from benchmarks.recording import Call, Recording

ROOT = Path(__file__).parents[1]
LOGICAL = 5_000_000_000
"""The bytes of all states of the store that is backed up, each for itself."""
_SHORT_TURNS, _SHORT_THREADS = 3, 150
DESCRIPTION = (
    f"threads of the agent workload with {LOGICAL / 1e9:.0f} GB of logical state on SQLite to a "
    f"backup and back; {_SHORT_THREADS} threads of {_SHORT_TURNS} turns from "
    "langgraph-checkpoint-sqlite"
)
_OPERATIONS = ("backup", "restore", "migrate")


class Operation(NamedTuple):
    """One operation: bytes of distinct content and of the source, time [s], peak memory [bytes]."""

    distinct: int
    source: int
    seconds: float
    memory: int


class Moved(NamedTuple):
    """What was measured."""

    logical: int
    operations: dict[str, Operation]


def steps(rounds: int) -> int:
    """Say how often `measure` calls `advance`."""
    return 2 + rounds * len(_OPERATIONS)


def measure(rounds: int, place: Path, advance: Callable[[], None], *, quick: bool) -> Moved:
    """Fill two stores, and move what they hold."""
    directory = Path(tempfile.mkdtemp(dir=place))
    try:
        store, official = directory / "store.db", directory / "official.db"
        logical, distinct = _fill_store(store, quick=quick)
        advance()
        short = _fill_official(official, quick=quick)
        advance()
        sizes: dict[str, int] = {}
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in _OPERATIONS}
        for number in range(rounds):
            backup = directory / f"{number}.cairn"
            for name, source, target in (
                ("backup", store, backup),
                ("restore", backup, directory / f"restored-{number}.db"),
                ("migrate", official, directory / f"migrated-{number}.db"),
            ):
                sizes[name] = source.stat().st_size
                found[name].append(_run(name, source, target))
                advance()
        contents = {"backup": distinct, "restore": distinct, "migrate": short}
        return Moved(
            logical,
            {
                name: Operation(
                    contents[name],
                    sizes[name],
                    median(seconds for seconds, _ in several),
                    max(memory for _, memory in several),
                )
                for name, several in found.items()
            },
        )
    finally:
        shutil.rmtree(directory)


def _run(operation: str, source: Path, target: Path) -> tuple[float, int]:
    command = [
        sys.executable, "-m", "benchmarks.moving_process", operation, str(source), str(target)
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds, memory = json.loads(done.stdout)
    return seconds, memory


def _fill_store(path: Path, *, quick: bool) -> tuple[int, int]:
    """Return the bytes of all states, and those of distinct content."""
    workload = WORKLOADS["agent"].quick() if quick else WORKLOADS["agent"]
    # Nothing is measured here, so nothing has to be durable.
    with SqliteCheckpointStore(path, synchronous="OFF") as store:
        saver = CheckpointSaver(store)
        recording = record(workload, saver)
        logical = _logical(recording)
        threads = 2 if quick else -(-LOGICAL // logical)
        for thread in range(threads):
            _replay(recording.calls, saver, f"thread {thread}")
    return threads * logical, threads * ideal_of(recording).serialized


def _fill_official(path: Path, *, quick: bool) -> int:
    """Return the bytes of distinct content."""
    threads = 2 if quick else _SHORT_THREADS
    with SqliteSaver.from_conn_string(str(path)) as saver:
        saver.setup()
        saver.conn.execute("PRAGMA synchronous = OFF")
        recording = record(replace(WORKLOADS["agent"], turns=_SHORT_TURNS), saver)
        for thread in range(threads):
            _replay(recording.calls, saver, f"thread {thread}")
    return threads * ideal_of(recording).serialized


def _replay(calls: Iterable[Call], saver: BaseCheckpointSaver[Any], thread: str) -> None:
    for call in calls:
        config = call.config
        moved = {**config, "configurable": {**config["configurable"], "thread_id": thread}}
        replace(call, config=moved).replay(saver)  # type: ignore[arg-type]  # a RunnableConfig


def _logical(recording: Recording) -> int:
    """Return the bytes of every state of a recording, each serialized for itself, about."""
    serde = JsonPlusSerializer()
    # The recording keeps all values alive, so no id is used twice.
    sizes: dict[int, int] = {}
    total = 0
    for call in recording.calls:
        if isinstance(call, PutCall):
            for value in call.checkpoint["channel_values"].values():
                for member in value if isinstance(value, list) else [value]:
                    if id(member) not in sizes:
                        sizes[id(member)] = len(serde.dumps_typed(member)[1])
                    total += sizes[id(member)]
    return total
