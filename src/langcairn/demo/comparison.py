"""What the same checkpoints weigh in the official saver's file: really put there, and measured."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from langcairn.demo.narrate import format_bytes
from langcairn.demo.storage import THREAD, open_saver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple

_BAR_WIDTH = 34


class Replay(NamedTuple):
    """The outcome of `replay_officially`."""

    checkpoints: int
    official_bytes: int
    largest_row: int
    """Bytes of the largest single checkpoint in the official file."""
    equal: bool
    """Both files give back the same checkpoints."""


def replay_officially(database: Path, official: Path) -> Replay:
    """Put all checkpoints and writes of the thread into an official SqliteSaver.

    Raises:
        ImportError: langgraph-checkpoint-sqlite is not installed.
    """
    from langgraph.checkpoint.sqlite import (  # noqa: PLC0415 -- a dev dependency: only the demo's last section needs it
        SqliteSaver,
    )

    config: RunnableConfig = {"configurable": {"thread_id": THREAD}}
    with open_saver(database) as saver:
        ours = sorted(saver.list(config), key=lambda found: found.checkpoint["id"])
    with SqliteSaver.from_conn_string(str(official)) as saver:
        for found in ours:
            _put(saver, found)
        theirs = sorted(saver.list(config), key=lambda found: found.checkpoint["id"])
        (largest_row,) = saver.conn.execute(
            "SELECT max(length(checkpoint)) FROM checkpoints"
        ).fetchone()
    return Replay(
        checkpoints=len(ours),
        official_bytes=measure(official),
        largest_row=largest_row,
        equal=[found.checkpoint for found in ours] == [found.checkpoint for found in theirs],
    )


def _put(saver: Any, found: CheckpointTuple) -> None:
    """Repeat the calls that once saved a checkpoint and its pending writes."""
    parent = found.parent_config or {"configurable": {"thread_id": THREAD, "checkpoint_ns": ""}}
    saved = saver.put(
        parent, found.checkpoint, found.metadata, found.checkpoint["channel_versions"]
    )
    for task_id, writes in groupby(found.pending_writes or (), key=lambda write: write[0]):
        saver.put_writes(saved, [write[1:] for write in writes], task_id)


def measure(database: Path) -> int:
    """Return the bytes of a SQLite database: the file and what SQLite keeps beside it."""
    return sum(file.stat().st_size for file in database.parent.glob(database.name + "*"))


def build_bars(rows: Sequence[tuple[str, int, str]]) -> Table:
    """Draw sizes as bars of one scale; each row is a name, bytes and a colour."""
    largest = max(size for _, size, _ in rows)
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    for name, size, colour in rows:
        table.add_row(name, format_bytes(size), Text(_bar(size / largest), style=colour))
    return table


def _bar(share: float) -> str:
    """Draw a share of the full width in eighths of a character, and never nothing."""
    eighths = max(1, round(share * _BAR_WIDTH * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
