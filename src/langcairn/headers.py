"""The checkpoints of an execution without their states: enough to draw how they hang together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import FindCheckpoints, Position
from langcairn.errors import CorruptData
from langcairn.forks import step_of
from langcairn.maintenance import metadata_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import CheckpointRow, FoundCheckpoint, WriteRow
    from langcairn.forks import Step
    from langcairn.operations import Codec, Operation

Key = tuple[str, str]
"""Namespace and checkpoint id."""

# Rows hold no large values, and nobody waits for a lock meanwhile: few requests are best.
_ROWS = 2000  # [rows read at a time]


@dataclass(frozen=True, slots=True)
class Header:
    """A checkpoint without its state.

    Attributes:
        namespace: Its namespace, ``""`` for the graph itself, otherwise a subgraph's.
        step: What is known of it.
        call: The checkpoint whose step called this subgraph; None for the graph itself.
        damage: What is wrong with its metadata; None: nothing.
    """

    namespace: str
    step: Step
    call: Key | None
    damage: str | None = None

    @property
    def key(self) -> Key:
        """Namespace and id."""
        return self.namespace, self.step.id


def find_headers(codec: Codec, execution_id: str) -> Operation[list[Header]]:
    """Return all checkpoints of an execution, the newest first, without decoding a state."""
    headers: list[Header] = []
    query = FindCheckpoints(execution_id, limit=_ROWS, with_writes=False)
    while True:
        found: Sequence[FoundCheckpoint] = yield query
        headers += [_header(codec, one.row) for one in found]
        if len(found) < _ROWS:
            return headers
        last = found[-1].row
        query = query._replace(after=Position(last.id, last.execution_id, last.namespace))


def _header(codec: Codec, row: CheckpointRow) -> Header:
    damage = None
    try:
        metadata = metadata_of(codec, row)
    except CorruptData as error:
        # One damaged row must not hide the others, least of all from who looks for the damage.
        metadata, damage = {}, str(error)
    call = _call(row, metadata.get("parents"))
    return Header(row.namespace, step_of(row, metadata), call, damage)


def _call(row: CheckpointRow, parents: Any) -> Key | None:
    if not row.namespace or not isinstance(parents, dict) or not parents:
        return None
    namespace = max(parents, key=len)  # the others are its callers
    return namespace, str(parents[namespace])


def find_written(
    execution_id: str, after: Position | None, limit: int
) -> Operation[dict[Key, list[WriteRow]]]:
    """Return the pending writes of the checkpoints behind a place, by key, as they are stored."""
    found: Sequence[FoundCheckpoint] = yield FindCheckpoints(execution_id, after=after, limit=limit)
    return {(one.row.namespace, one.row.id): list(one.writes) for one in found}


def find_newest(execution_id: str) -> Operation[FoundCheckpoint | None]:
    """Return an execution's newest checkpoint as it is stored; None if there is none."""
    found: Sequence[FoundCheckpoint] = yield FindCheckpoints(execution_id, limit=1)
    return found[0] if found else None
