"""What the workers announced and acknowledged, and what must therefore be found.

Workers announce what they begin and acknowledge what is done, both with the time of a clock that
all processes share. So it is known of every checkpoint whether it must be there, must be gone, or
may be either because something was under way.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.torture.states import SEAL, is_sound

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointTuple

GRACE = 3.0
"""How long after its client's death a server may still do what it was asked to. [s]"""

Place = tuple[str, str]
"""Execution and namespace."""


class Failure(Exception):
    """The store broke a promise."""


class Put:
    """A checkpoint that a worker began to put."""

    def __init__(self, place: Place, id: str, seal: str, begun: float) -> None:
        self.place = place
        self.id = id
        self.seal = seal
        self.begun = begun
        self.done = math.inf
        self.writes: dict[str, tuple[str, float]] = {}
        """Task id to the value that it wrote, and when that was done."""


class Removal:
    """Something that removes checkpoints of an execution: one of them, the old ones, or all."""

    def __init__(self, kind: str, execution_id: str, id: str, begun: float) -> None:
        self.kind = kind
        self.execution_id = execution_id
        self.id = id
        self.begun = begun
        self.done = math.inf
        self.ended = math.inf
        """When it can't have an effect any more: done, or its worker dead."""


class Message(NamedTuple):
    """A line from a worker. Its number links an acknowledgement to the announcement."""

    what: str
    number: int
    time: float
    details: dict[str, Any]


class Ledger:
    """The book of one run.

    Attributes:
        counts: What was done, for the report.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._puts: dict[str, dict[tuple[str, str], Put]] = {}  # execution, then namespace and id
        self._removals: dict[str, list[Removal]] = {}
        self._under_way: dict[int, dict[int, Any]] = {}  # by worker and number

    # Taking down

    def note(self, worker: int, message: Message) -> None:
        """Take down a worker's message."""
        open_ones = self._under_way.setdefault(worker, {})
        details = message.details
        match message.what:
            case "put":
                put = Put((details["execution"], details["namespace"]), details["id"],
                          details["seal"], message.time)  # fmt: skip
                self._puts.setdefault(put.place[0], {})[put.place[1], put.id] = put
                open_ones[message.number] = put
            case "write":
                put = self._puts[details["execution"]][details["namespace"], details["id"]]
                put.writes[details["task"]] = (details["value"], math.inf)
                open_ones[message.number] = (put, details["task"])
            case "delete" | "prune" | "clear":
                removal = Removal(
                    message.what, details["execution"], details.get("id", ""), message.time
                )
                self._removals.setdefault(removal.execution_id, []).append(removal)
                open_ones[message.number] = removal
            case "done":
                self._done(open_ones.pop(message.number), message.time)
            case "read":
                self.counts["states read while others wrote"] += details["count"]
            case "unavailable":
                self._left_open(open_ones.pop(message.number, None), message.time)
                self.counts["refused as unavailable"] += 1
            case "failure":
                raise Failure(details["text"])

    def _done(self, item: Any, time: float) -> None:
        if isinstance(item, Put):
            item.done = time
            self.counts["puts acknowledged"] += 1
        elif isinstance(item, Removal):
            item.done = item.ended = time
            self.counts["removals acknowledged"] += 1
        else:
            put, task = item
            put.writes[task] = (put.writes[task][0], time)
            self.counts["pending writes acknowledged"] += 1

    def died(self, worker: int, time: float) -> None:
        """Take down that a worker is dead, when all its messages are."""
        for item in self._under_way.pop(worker, {}).values():
            self._left_open(item, time)
            self.counts["operations cut off by a kill"] += 1

    def _left_open(self, item: Any, time: float) -> None:
        """Take down that nobody will tell whether something was done."""
        if isinstance(item, Removal):
            item.ended = time + GRACE

    # Comparing

    def executions(self) -> list[str]:
        """Return all executions that were ever written to."""
        return list(self._puts)

    def compare(
        self, execution_id: str, found: list[CheckpointTuple], begun: float, ended: float
    ) -> None:
        """Compare what a store has of an execution with what it must have.

        Args:
            execution_id: The execution.
            found: All its checkpoints.
            begun: When the reading of them began.
            ended: And when it ended; what was announced until then has been noted.

        Raises:
            Failure: They differ.
        """
        puts = self._puts.get(execution_id, {})
        present = {}
        for one in found:
            configurable = one.config["configurable"]
            key = (configurable["checkpoint_ns"], configurable["checkpoint_id"])
            put = puts.get(key)
            if put is None:
                raise Failure(f"{execution_id} has {key}, which nobody put")
            self._compare_one(put, one, begun)
            present[key] = put
        self.counts["states compared after a kill"] += len(present)
        for key, put in puts.items():
            if key in present:
                if self._must_be_gone(put, begun):
                    raise Failure(f"{key} of {execution_id} was removed and is there")
            elif put.done < begun and not self._may_be_gone(put, ended):
                raise Failure(f"{key} of {execution_id} was acknowledged and is not there")

    def _compare_one(self, put: Put, found: CheckpointTuple, begun: float) -> None:
        values = found.checkpoint["channel_values"]
        if values.get(SEAL) != put.seal or not is_sound(values):
            raise Failure(f"{put.id} of {put.place} is not what was put")
        written = {task: value for task, _, value in found.pending_writes or ()}
        for task, (value, done) in put.writes.items():
            if done < begun and task not in written:
                raise Failure(f"a write of {task} to {put.id} was acknowledged and is not there")
            if written.get(task, value) != value:
                raise Failure(f"a write of {task} to {put.id} is not what was put")

    def _must_be_gone(self, put: Put, now: float) -> bool:
        return any(
            removal.done < now
            and put.done < removal.begun
            and (removal.kind == "clear" or (removal.kind == "delete" and removal.id == put.id))
            for removal in self._removals.get(put.place[0], ())
        )

    def _may_be_gone(self, put: Put, now: float) -> bool:
        return any(
            removal.begun <= now and put.begun <= removal.ended and self._covers(removal, put)
            for removal in self._removals.get(put.place[0], ())
        )

    def _covers(self, removal: Removal, put: Put) -> bool:
        match removal.kind:
            case "delete":
                return removal.id == put.id
            case "prune":  # never the newest
                return any(
                    other.place == put.place and other.id > put.id and other.begun <= removal.ended
                    for other in self._puts[put.place[0]].values()
                )
            case _:
                return True
