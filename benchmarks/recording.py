"""A checkpointer that notes what a real graph asks of its saver, for replaying it on others."""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from benchmarks.workloads import THREAD_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

    from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class PutCall:
    turn: int
    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    new_versions: ChannelVersions

    def replay(self, saver: BaseCheckpointSaver[Any]) -> None:
        saver.put(self.config, self.checkpoint, self.metadata, self.new_versions)


@dataclass(frozen=True, slots=True)
class PutWritesCall:
    turn: int
    config: RunnableConfig
    writes: Sequence[tuple[str, Any]]
    task_id: str
    task_path: str

    def replay(self, saver: BaseCheckpointSaver[Any]) -> None:
        saver.put_writes(self.config, self.writes, self.task_id, self.task_path)


Call = PutCall | PutWritesCall


@dataclass(frozen=True)
class Recording:
    """Every put and put_writes of one run of a workload, in the order in which they came."""

    workload: Workload
    calls: list[Call]

    @property
    def turns(self) -> int:
        return max(call.turn for call in self.calls)

    def last_checkpoint(self) -> Checkpoint:
        return next(call.checkpoint for call in reversed(self.calls) if isinstance(call, PutCall))


def _as_given(value: Any) -> Any:
    """Copy what may change after the call; everything else stays the object it was.

    In a real run the messages of one put are those of the put before, and a saver may gain or lose
    by that, so they aren't copied. They don't change either, but for one thing: `add_messages`
    gives a message that has no id one, in place, and does so after the put of a run's input.
    """
    if isinstance(value, dict):
        return {key: _as_given(element) for key, element in value.items()}
    if isinstance(value, list):
        return [_as_given(element) for element in value]
    if isinstance(value, BaseMessage) and value.id is None:
        return copy.copy(value)
    return value


def _copy_config(config: RunnableConfig) -> RunnableConfig:
    copied = copy.copy(config)
    copied["configurable"] = dict(config["configurable"])
    return copied


class RecordingSaver(BaseCheckpointSaver[Any]):
    """Notes calls, and serves the graph the latest checkpoint, as a saver would.

    A checkpoint read back is made of new objects, here as with any saver that serializes: each
    `invoke` of a conversation works on messages that equal those of the last one, and aren't them.
    Versions come from the saver that will be measured.
    """

    def __init__(
        self, versions_from: BaseCheckpointSaver[Any], turn_begins: Literal["input", "step"]
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._versions_from = versions_from
        self._turn_begins = turn_begins
        self._turn = 1
        self._latest: PutCall | None = None
        self._writes: defaultdict[str, list[tuple[str, str, Any]]] = defaultdict(list)
        self._lock = threading.Lock()  # the graph's put_writes come from threads of its own

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._versions_from.get_next_version(current, channel)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        with self._lock:
            self._begin_turn(metadata)
            kept = checkpoint.copy()
            kept["channel_values"] = _as_given(checkpoint["channel_values"])
            call = PutCall(
                self._turn, _copy_config(config), kept, metadata.copy(), new_versions.copy()
            )
            self.calls.append(call)
            self._latest = call
        return self._config_of(checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        with self._lock:
            copied = [(channel, _as_given(value)) for channel, value in writes]
            call = PutWritesCall(self._turn, _copy_config(config), copied, task_id, task_path)
            self.calls.append(call)
            self._writes[config["configurable"]["checkpoint_id"]].extend(
                (task_id, channel, value) for channel, value in copied
            )

    def get_tuple(
        self,
        config: RunnableConfig,  # noqa: ARG002 -- one thread, and its latest checkpoint only
    ) -> CheckpointTuple | None:
        with self._lock:
            if self._latest is None:
                return None
            latest = self._latest
            writes = list(self._writes[latest.checkpoint["id"]])
        parent_id = latest.config["configurable"].get("checkpoint_id")
        return CheckpointTuple(
            config=self._config_of(latest.checkpoint["id"]),
            checkpoint=self._as_new_objects(latest.checkpoint),
            metadata=self._as_new_objects(latest.metadata),
            parent_config=self._config_of(parent_id) if parent_id else None,
            pending_writes=self._as_new_objects(writes),
        )

    def _begin_turn(self, metadata: CheckpointMetadata) -> None:
        if self._turn_begins == "step":
            self._turn = max(1, metadata["step"])
        elif metadata["source"] == "input" and self._latest is not None:
            self._turn += 1

    def _as_new_objects(self, value: Any) -> Any:
        return self.serde.loads_typed(self.serde.dumps_typed(value))

    def _config_of(self, checkpoint_id: str) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": THREAD_ID,
                "checkpoint_ns": "",
                "checkpoint_id": checkpoint_id,
            }
        }


def record(workload: Workload, versions_from: BaseCheckpointSaver[Any]) -> Recording:
    """Run a workload's graph, and note what it asks of its saver."""
    saver = RecordingSaver(versions_from, workload.turn_begins)
    workload.drive(saver, workload.turns)
    return Recording(workload, saver.calls)


def version_form(saver: BaseCheckpointSaver[Any]) -> tuple[str, str]:
    """Say what a saver's channel versions look like; savers of one form share a recording.

    LangGraph knows two forms: ints, and a padded number, a point and a random fraction.
    """
    first = saver.get_next_version(None, None)
    return type(first).__name__, str(first).partition(".")[0]
