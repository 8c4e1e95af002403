"""Rows as SQLite holds them: texts, numbers and bytes, of types that damage may have changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from langcairn.backends.base import CheckpointRow, WriteRow
from langcairn.errors import CorruptData


def json_columns(row: CheckpointRow) -> tuple[str, str, str]:
    """Return the columns of a row that hold JSON."""
    return row.state.decode(), row.metadata.decode(), row.graph.decode()


def columns_of(row: CheckpointRow) -> tuple[object, ...]:
    """Turn a row into column values, in the order of its fields."""
    return (
        *row[:5],
        row.state.decode(),
        row.metadata.decode(),
        time_text(row.timestamp),
        row.version,
        row.graph.decode(),
    )


def time_text(time: datetime) -> str:
    """Write a time as SQLite's own ``datetime()`` does, in UTC, but always with microseconds.

    Such texts sort by time.
    """
    return time.astimezone(UTC).isoformat(" ", "microseconds").removesuffix("+00:00")


def checkpoint_of(columns: tuple[Any, ...]) -> CheckpointRow:
    """Turn column values into a row."""
    execution_id, _, id = columns[:3]
    if tuple(map(type, columns)) not in _CHECKPOINT_TYPES:
        raise CorruptData(f"checkpoint {id!r} of {execution_id!r} has damaged columns")
    try:
        timestamp = datetime.fromisoformat(columns[7])
    except ValueError as error:
        raise CorruptData(
            f"checkpoint {id!r} of {execution_id!r} has the timestamp {columns[7]!r}"
        ) from error
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)  # as this backend writes it
    else:
        timestamp = timestamp.astimezone(UTC)
    return CheckpointRow._make((*columns[:7], timestamp, *columns[8:]))


def write_of(execution_id: str, columns: tuple[Any, ...]) -> WriteRow:
    """Turn column values into a row."""
    if tuple(map(type, columns)) != _WRITE_TYPES:
        raise CorruptData(f"a write to checkpoint {columns[1]!r} of {execution_id!r} is damaged")
    return WriteRow(execution_id, *columns)


# SQLite lets a column hold any type, and a flipped bit can turn one into another.
_CHECKPOINT_TYPES = tuple(
    (str, str, str, parent, str, bytes, bytes, str, int, bytes) for parent in (str, type(None))
)
_WRITE_TYPES = (str, str, str, int, str, str, bytes)
