"""What object storage costs: requests and bytes for 1,000 checkpoints, and for reading them again.

Some threads grow by one message a checkpoint. After each day's share of it, everything moves to
packs in a folder, which counts requests as a bucket would. At the end each thread is read by a
store with empty caches.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import HumanMessage

from benchmarks.words import text
from langcairn import Checkpoint, ObjectStorage, SqliteCheckpointStore

if TYPE_CHECKING:
    from pathlib import Path

    from langcairn.objects import TieredBackend

MESSAGE_LENGTH = 1_500
KINDS = ("put", "get", "list", "delete", "out", "in")


@dataclass(frozen=True)
class ObjectsResult:
    """What was asked of the object storage.

    Attributes:
        threads: How many threads there were.
        checkpoints: How many checkpoints in all.
        days: How often everything moved.
        bytes_moved: What went from the database to packs.
        moving: Requests by kind and bytes ``out`` and ``in``, all moves together.
        reading: Likewise for reading all threads.
        messages: How many messages the longest thread has.
        longest: Requests for reading it.
    """

    threads: int
    checkpoints: int
    days: int
    bytes_moved: int
    moving: dict[str, int]
    reading: dict[str, int]
    messages: int
    longest: int


@dataclass(frozen=True)
class _Scene:
    """How long threads are, and in how many days they came to be."""

    lengths: tuple[int, ...]
    days: int


FULL = _Scene((800, 200), 10)
QUICK = _Scene((120, 30), 2)


def measure_objects(place: Path, *, quick: bool = False) -> ObjectsResult:
    """Measure in a directory."""
    scene = QUICK if quick else FULL
    directory = place / "objects-cost"
    directory.mkdir()
    threads = [_messages(number, length) for number, length in enumerate(scene.lengths)]
    moved = 0
    with closing(_open(directory)) as store:
        for day in range(1, scene.days + 1):
            for number, messages in enumerate(threads):
                share = len(messages) // scene.days
                for end in range((day - 1) * share + 1, day * share + 1):
                    _save(store, number, messages[:end])
            moved += store.move_to_objects().bytes
        moving = _counts(store)
    reading: Counter[str] = Counter()
    requests = []
    for number, messages in enumerate(threads):
        with closing(_open(directory)) as store:
            (latest,) = store.list(f"thread {number}", limit=1)
            if latest.state != {"messages": messages}:
                raise AssertionError(f"thread {number} came back otherwise")
            counts = _counts(store)
        reading.update(counts)
        requests.append(counts["get"] + counts["list"])
    return ObjectsResult(
        threads=len(threads),
        checkpoints=sum(scene.lengths),
        days=scene.days,
        bytes_moved=moved,
        moving={kind: moving[kind] for kind in KINDS},
        reading={kind: reading[kind] for kind in KINDS},
        messages=max(scene.lengths),
        longest=requests[0],
    )


def _open(directory: Path) -> SqliteCheckpointStore:
    objects = ObjectStorage(url=f"file://{directory}/objects", after=0, every=None)
    return SqliteCheckpointStore(directory / "costs.db", synchronous="OFF", objects=objects)


def _counts(store: SqliteCheckpointStore) -> Counter[str]:
    return Counter(cast("TieredBackend", store.backend).objects.counts)


def _messages(number: int, length: int) -> list[Any]:
    return [
        HumanMessage(text(f"{number}-{n}", MESSAGE_LENGTH), id=f"{n:04}") for n in range(length)
    ]


def _save(store: SqliteCheckpointStore, number: int, messages: list[Any]) -> None:
    store.save(
        Checkpoint(
            id=f"{len(messages):04}",
            execution_id=f"thread {number}",
            node_name="chat",
            state={"messages": messages},
            metadata={},
        )
    )
