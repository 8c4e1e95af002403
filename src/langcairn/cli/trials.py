"""Replaying a thread on stores, and taking the time: what `langcairn advise` measures."""

from __future__ import annotations

import copy
import random
import statistics
import string
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from langcairn.errors import CairnError
from langcairn.langgraph.saver import CheckpointSaver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import Checkpoint, CheckpointTuple

    from langcairn.store import CheckpointStore

_READS = 5


class Step(NamedTuple):
    """A checkpoint as it is put, and the pending writes that follow."""

    checkpoint: Checkpoint
    metadata: dict[str, Any]
    new_versions: dict[str, Any]
    writes: dict[str, list[tuple[str, Any]]]
    """By task."""


@dataclass
class Trial:
    """What one store did with the steps.

    Attributes:
        name: What to call it.
        puts: How long each put took, one thread alone [s].
        gets: How long reading the newest checkpoint took, with nothing remembered [s].
        crowded: How long each put took with several threads at once [s].
        rate: Puts a second, all of these together.
        stored_bytes: What one thread takes.
        error: Why there are no figures; ``""`` if there are.
    """

    name: str
    puts: list[float] = field(default_factory=list)
    gets: list[float] = field(default_factory=list)
    crowded: list[float] = field(default_factory=list)
    rate: float = 0.0
    stored_bytes: int = 0
    error: str = ""


def percentile(times: Sequence[float], share: float) -> float:
    """Return the time that this share stayed within; 0 for none."""
    ordered = sorted(times)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def conversation(turns: int, size: int) -> list[Step]:
    """Return the steps of a made-up conversation.

    Args:
        turns: How many questions with their answers.
        size: The length of each message [characters].
    """
    rng = random.Random(turns * size)  # noqa: S311 -- words to fill messages with
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(2000)]

    def text() -> str:
        return " ".join(rng.choices(words, k=max(size // 6, 1)))

    messages: list[Any] = []
    steps = []
    for turn in range(turns):
        for kind in (HumanMessage, AIMessage):
            messages = [*messages, kind(text(), id=f"{kind.__name__}-{turn}")]
            number = len(messages)
            checkpoint = empty_checkpoint()
            checkpoint["id"] = str(uuid6(clock_seq=number))
            checkpoint["channel_values"] = {"messages": messages, "turn": turn}
            checkpoint["channel_versions"] = {"messages": number, "turn": number}
            checkpoint["versions_seen"] = {"agent": {"messages": number - 1}}
            writes = {f"task-{number}": [("messages", [kind(text(), id=f"next-{number}")])]}
            metadata = {"source": "loop", "step": number, "parents": {}}
            steps.append(Step(checkpoint, metadata, {"messages": number, "turn": number}, writes))
    return steps


def steps_of(store: CheckpointStore, thread_id: str, most: int) -> list[Step]:
    """Return the newest steps of a thread's own namespace, the oldest first."""
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    tuples = list(CheckpointSaver(store).list(config, limit=most))[::-1]
    before: dict[str, Any] = {}
    steps = []
    for one in tuples:
        versions = dict(one.checkpoint["channel_versions"])
        new = {key: value for key, value in versions.items() if before.get(key) != value}
        before = versions
        steps.append(Step(one.checkpoint, dict(one.metadata), new, _writes(one)))
    return steps


def _writes(one: CheckpointTuple) -> dict[str, list[tuple[str, Any]]]:
    writes: dict[str, list[tuple[str, Any]]] = {}
    for task_id, channel, value in one.pending_writes or ():
        writes.setdefault(task_id, []).append((channel, value))
    return writes


def try_out(
    name: str, opened: Callable[[], CheckpointStore], steps: Sequence[Step], crowd: int, mark: str
) -> Trial:
    """Replay steps on a store: alone, then by several threads at once. Leaves nothing there.

    Args:
        name: What to call the store.
        opened: Opens it. Each call may be another object on the same data.
        steps: The steps.
        crowd: How many threads, and threads of LangGraph's, at once.
        mark: What the names of the threads begin with.
    """
    trial = Trial(name)
    names = [f"{mark}-{number}" for number in range(crowd + 1)]
    try:
        with opened() as store:
            try:
                _alone(store, opened, steps, names[0], trial)
                _together(store, steps, names[1:], trial)
            finally:
                for one in names:
                    with suppress(CairnError):  # the error that led here says more
                        store.clear(one)
    except (CairnError, ImportError) as error:
        trial.error = str(error)
    return trial


def _alone(
    store: CheckpointStore,
    opened: Callable[[], CheckpointStore],
    steps: Sequence[Step],
    thread: str,
    trial: Trial,
) -> None:
    _replay(CheckpointSaver(store), steps[:1], f"{thread}")  # connects, and makes tables
    store.clear(thread)
    trial.puts = _replay(CheckpointSaver(store), steps, thread)
    trial.stored_bytes = store.execution_stats(execution_ids=[thread])[0].stored_bytes
    config: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    for _ in range(_READS):
        # Another object remembers nothing; in memory there is only the one that has the data.
        with opened() if trial.name != "memory" else _Same(store) as cold:
            cold.executions(limit=1)
            begin = time.perf_counter()
            CheckpointSaver(cold).get_tuple(config)
            trial.gets.append(time.perf_counter() - begin)


class _Same:
    """A store that stays open."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store

    def __enter__(self) -> CheckpointStore:
        return self._store

    def __exit__(self, *_: object) -> None:
        return


def _together(
    store: CheckpointStore, steps: Sequence[Step], names: Sequence[str], trial: Trial
) -> None:
    saver = CheckpointSaver(store)
    times: list[list[float]] = []
    errors: list[BaseException] = []

    def work(thread: str) -> None:
        try:
            times.append(_replay(saver, steps, thread))
        except BaseException as error:  # noqa: BLE001 -- raised again below
            errors.append(error)

    workers = [threading.Thread(target=work, args=(name,)) for name in names]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - begin
    if errors:
        raise errors[0]
    trial.crowded = [one for part in times for one in part]
    trial.rate = len(trial.crowded) / took


def _replay(saver: CheckpointSaver, steps: Sequence[Step], thread: str) -> list[float]:
    """Put steps into a thread. Returns how long each put took, without its writes [s]."""
    times = []
    parent: str | None = None
    for step in steps:
        config: RunnableConfig = {
            "configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": parent}
        }
        checkpoint = copy.copy(step.checkpoint)
        begin = time.perf_counter()
        following = saver.put(config, checkpoint, cast("Any", step.metadata), step.new_versions)
        times.append(time.perf_counter() - begin)
        for task_id, writes in step.writes.items():
            saver.put_writes(following, writes, task_id)
        parent = checkpoint["id"]
    return times


def middle(times: Sequence[float]) -> float:
    """Return the median; 0 for none."""
    return statistics.median(times) if times else 0.0
