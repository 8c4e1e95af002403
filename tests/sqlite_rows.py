"""Rows, and short ways to store and find them, for the tests of the SQLite backend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from langcairn.backends.base import (
    CheckpointRow,
    ChunkId,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FoundCheckpoint,
    WriteRow,
)

if TYPE_CHECKING:
    from langcairn.backends.base import Backend

WAIT = 20.0
"""Longest wait of a test for anything. [s]"""

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


def row(id: str, execution_id: str = "e", namespace: str = "", **fields: Any) -> CheckpointRow:
    made = CheckpointRow(
        execution_id, namespace, id, None, "node", b'{"n":1}', b"{}", NOON, 1, b'{"v":4}'
    )
    return made._replace(**fields)


def write(checkpoint_id: str, task_id: str, idx: int, value: bytes = b"1", **f: Any) -> WriteRow:
    return WriteRow("e", "", checkpoint_id, task_id, idx, "path", "channel", value)._replace(**f)


def put(backend: Backend, *rows: CheckpointRow, epoch: int | None = None) -> int:
    execution_id = rows[0].execution_id if rows else "e"
    return cast("int", backend.execute(Commit(execution_id, epoch, (), rows)))


def find(backend: Backend, *args: Any, **conditions: Any) -> list[FoundCheckpoint]:
    return cast("list[FoundCheckpoint]", backend.execute(FindCheckpoints(*args, **conditions)))


def ids(found: list[FoundCheckpoint]) -> list[str]:
    return [checkpoint.row.id for checkpoint in found]


def chunk(text: str) -> tuple[ChunkId, bytes]:
    return ChunkId(text), text.encode() * 3


def fetch(backend: Backend, *chunks: str) -> dict[str, bytes]:
    return cast("dict[str, bytes]", backend.execute(FetchChunks("e", list(map(ChunkId, chunks)))))
