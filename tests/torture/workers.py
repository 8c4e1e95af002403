"""The processes of a crash test. Each tells what it begins and what is done over a pipe."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base.id import uuid6
from tests.torture.states import SEAL, change, first, is_sound

from langcairn.errors import StoreUnavailable
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.calling import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langgraph.checkpoint.base import CheckpointTuple

    from langcairn.store import CheckpointStore

    Opened = Callable[[], CheckpointStore]

LONGEST_RUN = 40
"""Puts to an execution before its writer begins another. [checkpoints]"""


class Pipe:
    """Tells the referee what is going on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._numbers = itertools.count(1)

    def tell(self, what: str, number: int = 0, **details: Any) -> None:
        """Send a message; it is short enough to arrive whole or not at all."""
        line = json.dumps([what, number, time.monotonic(), details]) + "\n"
        os.write(self._fd, line.encode())

    @contextmanager
    def announced(self, what: str, **details: Any) -> Iterator[None]:
        """Tell that something begins, and that it is done."""
        number = next(self._numbers)
        self.tell(what, number, **details)
        try:
            yield
        except StoreUnavailable:
            self.tell("unavailable", number)
            return
        self.tell("done", number)


def config_of(execution_id: str, namespace: str | None = None, id: str | None = None) -> Any:
    """Return a config for an execution, for one namespace of it, or for a checkpoint there."""
    place = {"thread_id": execution_id, "checkpoint_ns": namespace, "checkpoint_id": id}
    return {"configurable": {name: value for name, value in place.items() if value is not None}}


def write(opened: Opened, pipe: Pipe, name: str, seed: int) -> None:
    """Put states for ever, in two threads."""
    with opened() as store:
        saver = CheckpointSaver(store)
        tasks = [partial(_keep_writing, saver, pipe, f"{name}-{n}", seed + n) for n in range(2)]
        _in_threads(pipe, tasks)


def _keep_writing(saver: CheckpointSaver, pipe: Pipe, name: str, seed: int) -> None:
    """Put to a run of one's own, and to one that all writers share."""
    chance = random.Random(seed)
    with asyncio.Runner() as runner:
        caller = Caller(saver, chance.choice((None, runner)))
        writers = [_Writer(caller, pipe, f"run-{name}", ""), _Writer(caller, pipe, "shared", name)]
        while True:
            writers[chance.random() < 0.3].step(chance)


class _Writer:
    """Goes on from the last checkpoint in its place, and to a new execution when a run is long."""

    def __init__(self, saver: Caller, pipe: Pipe, name: str, namespace: str) -> None:
        self._saver = saver
        self._pipe = pipe
        self._name = name
        self._namespace = namespace
        self._number = 0
        self._load()

    def _load(self) -> None:
        self._last: str | None = None
        self._values = first()
        self._versions: dict[str, int] = {}
        self._changed = set(self._values)
        found = self._last_one()
        if found is not None:
            self._last = found.checkpoint["id"]
            self._values = found.checkpoint["channel_values"]
            self._versions = dict(found.checkpoint["channel_versions"])  # type: ignore[arg-type]  # ints are ours
            self._changed = set()
            if not is_sound(self._values):
                raise AssertionError(f"{self._last} of {self._execution_id} is a wrong state")

    def _last_one(self) -> CheckpointTuple | None:
        while True:
            try:
                found: CheckpointTuple | None = self._saver.get_tuple(self._config())
            except StoreUnavailable:
                self._pipe.tell("unavailable")
            else:
                return found

    @property
    def _execution_id(self) -> str:
        return f"{self._name}-{self._number}"

    def _config(self, id: str | None = None) -> Any:
        return config_of(self._execution_id, self._namespace, id)

    def step(self, chance: random.Random) -> None:
        """Put one checkpoint, and perhaps a pending write of it."""
        while self._values["count"] >= LONGEST_RUN:
            self._number += 1
            self._load()
        values = self._values
        # What a refused put has changed is still to be put.
        self._changed |= change(values, chance)
        version = max(self._versions.values(), default=0) + 1
        self._versions.update(dict.fromkeys(self._changed, version))
        id = str(uuid6())
        checkpoint: Any = {
            "v": 4, "id": id, "ts": datetime.now(UTC).isoformat(), "channel_values": dict(values),
            "channel_versions": dict(self._versions), "versions_seen": {}, "updated_channels": None,
        }  # fmt: skip
        place = {"execution": self._execution_id, "namespace": self._namespace, "id": id}
        with self._pipe.announced("put", **place, seal=values[SEAL]):
            new: Any = dict.fromkeys(self._changed, version)
            metadata: Any = {"source": "loop", "step": values["count"]}
            self._saver.put(self._config(self._last), checkpoint, metadata, new)
            self._last = id
            self._changed = set()
        if self._last == id and chance.random() < 0.3:
            value = f"{chance.randrange(10**6)} " * 30
            with self._pipe.announced("write", **place, task="task", value=value):
                self._saver.put_writes(self._config(id), [("out", value)], "task")


def keep(opened: Opened, pipe: Pipe, seed: int) -> None:
    """Remove checkpoints for ever: one, the old ones of an execution, or all."""
    chance = random.Random(seed)
    with opened() as store:
        saver = CheckpointSaver(store)
        while True:
            time.sleep(chance.random() * 0.01)
            with suppress(StoreUnavailable):
                _remove_something(saver, pipe, chance)


def _remove_something(saver: CheckpointSaver, pipe: Pipe, chance: random.Random) -> None:
    executions = saver.store.executions()
    if not executions:
        return
    # Most of all where several write at the same time.
    shared = [id for id in executions if id.startswith("shared")]
    execution_id = chance.choice(shared if shared and chance.random() < 0.7 else executions)
    kind = chance.choices(("delete", "prune", "clear"), (10, 5, 1))[0]
    if kind == "delete":
        found = list(saver.list(config_of(execution_id), limit=20))
        if found:
            # Rather a new one: older ones hardly have content that no other has.
            one = found[int(chance.random() ** 3 * len(found))].config["configurable"]
            id, namespace = one["checkpoint_id"], one["checkpoint_ns"]
            with pipe.announced("delete", execution=execution_id, id=id):
                saver.store.delete(id, execution_id=execution_id, namespace=namespace)
    elif kind == "prune":
        with pipe.announced("prune", execution=execution_id):
            saver.prune([execution_id])
    else:
        with pipe.announced("clear", execution=execution_id):
            saver.delete_thread(execution_id)


def read(opened: Opened, pipe: Pipe, seed: int) -> None:
    """Read for ever, and see that every state is one that was put."""
    chance = random.Random(seed)
    with opened() as store:
        saver = CheckpointSaver(store)
        while True:
            try:
                executions = store.executions()
                if chance.random() < 0.1 or not executions:
                    found = list(saver.list(None, limit=10))
                else:
                    found = list(saver.list(config_of(chance.choice(executions)), limit=10))
            except StoreUnavailable:
                pipe.tell("unavailable")
                continue
            for one in found:
                if not is_sound(one.checkpoint["channel_values"]):
                    raise AssertionError(f"{one.config} is a wrong state")
            pipe.tell("read", count=len(found))


def _in_threads(pipe: Pipe, tasks: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=guarded, args=(pipe, task)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def guarded(pipe: Pipe, task: Callable[[], None]) -> None:
    """Do something, and tell the referee if it fails."""
    try:
        task()
    except BaseException:  # noqa: BLE001 -- whatever it is, it must not pass unseen
        pipe.tell("failure", text=traceback.format_exc()[-3000:])
