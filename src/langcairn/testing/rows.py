"""Rows for the tests of backends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from langcairn.backends.base import CheckpointRow, ChunkId, WriteRow

TIME = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


def row(id: str, execution_id: str = "run", **fields: Any) -> CheckpointRow:
    """Return a row."""
    row = CheckpointRow(
        execution_id, "", id, None, "node", b'{"a": 1}', b'{"m": "x"}', TIME, 1, b"{}"
    )
    return row._replace(**fields)


def write(task: str = "t", idx: int = 0, **fields: Any) -> WriteRow:
    """Return a pending write of checkpoint c1."""
    return WriteRow("run", "", "c1", task, idx, "", "channel", b'{"v": 1}')._replace(**fields)


def chunk_id(number: int) -> ChunkId:
    """Return an id in the form of a chunk's."""
    return ChunkId(f"{number:_>22}")
