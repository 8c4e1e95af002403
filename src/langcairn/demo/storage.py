"""The saver of the demo: langcairn's, which also says when something has become durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from langcairn import CheckpointSaver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

    from langcairn.checkpoint import Checkpoint as Record
    from langcairn.demo.journal import Journal

THREAD = "trail-guide"
SHORT_ID = 6
"""Characters of an id's end that are shown: LangGraph's ids begin with the time, alike for all."""

CONFIG: RunnableConfig = {"configurable": {"thread_id": THREAD}}


def make_url(database: Path) -> str:
    """Return the URL of a database file, given by its absolute path."""
    return f"sqlite:///{quote(str(database))}"


def open_saver(database: Path) -> CheckpointSaver:
    """Open langcairn's saver on a file."""
    return CheckpointSaver(make_url(database))


class AnnouncingSaver(CheckpointSaver):
    """Tells the parent process what is durable, so that it can kill at a known moment."""

    def __init__(self, database: Path, journal: Journal) -> None:
        super().__init__(make_url(database))
        self._journal = journal

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint, then announce it."""
        saved = super().put(config, checkpoint, metadata, new_versions)
        self._journal.tell("saved", checkpoint=checkpoint["id"], step=metadata.get("step"))
        return saved

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save what a task of the present step brought, then announce it."""
        super().put_writes(config, writes, task_id, task_path)
        self._journal.tell("kept", calls=_find_tool_calls(writes))


class Glance(NamedTuple):
    """What the file says about the thread's latest checkpoint."""

    checkpoint_id: str
    messages: int
    kept: list[str]
    """Tool calls of the step after it whose results are there already."""
    question: str
    """What the graph waits to be told; empty if it doesn't wait."""


def look_at_latest(database: Path) -> Glance:
    """Read the latest checkpoint of the thread, in this process."""
    with open_saver(database) as saver:
        found = saver.get_tuple(CONFIG)
    if found is None:
        raise LookupError(f"{database} holds no checkpoint of {THREAD}")
    writes = [(channel, value) for _, channel, value in found.pending_writes or ()]
    return Glance(
        checkpoint_id=found.checkpoint["id"],
        messages=len(found.checkpoint["channel_values"]["messages"]),
        kept=_find_tool_calls(writes),
        question=_find_question(writes),
    )


def read_history(database: Path) -> tuple[list[Record], dict[str, str]]:
    """Read all checkpoints of the thread, oldest first, and the questions asked at some of them."""
    with open_saver(database) as saver:
        records = sorted(saver.store.list(THREAD), key=lambda record: record.id)
        questions = {
            found.checkpoint["id"]: question
            for found in saver.list(CONFIG)
            if (question := _find_question([write[1:] for write in found.pending_writes or ()]))
        }
    return records, questions


def _find_tool_calls(writes: Sequence[tuple[str, Any]]) -> list[str]:
    results = [value for channel, value in writes if channel == "messages"]
    return [
        message.tool_call_id for result in results for message in result if message.type == "tool"
    ]


def _find_question(writes: Sequence[tuple[str, Any]]) -> str:
    for channel, value in writes:
        if channel == "__interrupt__":
            return str(value[0].value["question"])
    return ""
