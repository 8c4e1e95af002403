r"""What is in the sorted set of an execution, and how rows are turned into its members.

All members have the score 0, so Redis keeps them in the order of their bytes: the set is a table
of names and values, in which a range of names is found in O(log n). A member begins with the
letter of its kind and a name whose parts end in NUL::

    c chunk id \0 epoch                                  the epoch it was last committed in
    d chunk id \0 data
    e epoch                                              of the execution; its 8 bytes
    f token \0 until \0 ttl \0 owner                      see `langcairn.backends.redis.leases`
    h \0 horizon                                         see `langcairn.backends.redis.plans`
    i checkpoint id \0 namespace \0                      finds checkpoints by id
    n namespace \0 checkpoint id \0 value                a checkpoint
    w namespace \0 checkpoint id \0 task \0 idx \0 value a pending write

Epochs are 8 bytes, the most significant first. Values are msgpack. UTF-8 sorts by bytes as Python
does by characters, and NUL before everything, so names sort as tuples of their parts.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import ormsgpack

from langcairn.backends.base import CheckpointRow, ChunkId, WriteRow
from langcairn.backends.redis.keys import encoded
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from langcairn.backends.base import FindCheckpoints, Position

_EPOCH_BYTES = 8
_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def name(*parts: str) -> bytes:
    """Return the name that consists of these parts.

    Raises:
        InvalidInput: A part can't be in a name.
    """
    return b"".join(part(text) + b"\0" for text in parts)


def part(text: str) -> bytes:
    """Return a part of a name.

    Raises:
        InvalidInput: It can't be one.
    """
    return encoded(text, "name")


# Epochs


def epoch_bytes(epoch: int) -> bytes:
    """Return an epoch as it is stored; also one that a caller made up."""
    return (epoch % 2**64).to_bytes(_EPOCH_BYTES)


def epoch_number(stored: bytes) -> int:
    """Return an epoch that was stored."""
    return int.from_bytes(stored)


def epoch_of(members: list[bytes]) -> int | None:
    """Return the epoch of an execution, from what was found in the range `EPOCH`."""
    return epoch_number(members[0][1:]) if members else None


EPOCH = (b"[e", b"(f")
"""The range of names in which the epoch is."""

GAPS = tuple(
    (first, last)
    for first, last in zip(
        (b"-", b"[g", b"[j", b"[o", b"[x"), (b"(c", b"(h", b"(n", b"(w", b"+"), strict=True
    )
)
"""The ranges between the kinds of members, in which there is nothing."""
LEASE = (b"[f", b"(g")
"""The range of names in which the lease is."""


# Checkpoints


def row_entry(row: CheckpointRow) -> tuple[bytes, bytes, bytes]:
    """Return a checkpoint's name, its name by id, and its value."""
    value = (
        row.parent_id,
        row.node_name,
        row.state,
        row.metadata,
        (row.timestamp - _START) // _MICROSECOND,
        row.version,
        row.graph,
    )
    return (
        row_name(row.namespace, row.id),
        b"i" + name(row.id, row.namespace),
        ormsgpack.packb(value),
    )


def row_name(*place: str) -> bytes:
    """Return what the names of checkpoints begin with: a namespace, and perhaps an id."""
    return b"n" + name(*place)


def row_from(execution_id: str, member: bytes) -> CheckpointRow:
    """Return the checkpoint that a member holds.

    Raises:
        CorruptData: It isn't what we write.
    """
    try:
        namespace, id, value = member[1:].split(b"\0", 2)
        parent_id, node_name, state, metadata, time, version, graph = ormsgpack.unpackb(value)
        row = CheckpointRow(
            execution_id, namespace.decode(), id.decode(), parent_id, node_name,
            state, metadata, _START + time * _MICROSECOND, version, graph,
        )  # fmt: skip
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptData(f"a checkpoint of execution {execution_id!r} is damaged") from error
    if tuple(map(type, row)) not in _ROW_TYPES:
        raise CorruptData(f"checkpoint {row.id!r} of execution {execution_id!r} is damaged")
    return row


def place_from(execution_id: str, member: bytes) -> tuple[str, str]:
    """Return id and namespace of the checkpoint that a member of the kind i or n names.

    Raises:
        CorruptData: It isn't what we write.
    """
    try:
        first, second, _ = member[1:].split(b"\0", 2)
        id, namespace = (first, second) if member.startswith(b"i") else (second, first)
        return id.decode(), namespace.decode()
    except ValueError as error:
        raise CorruptData(f"an index of execution {execution_id!r} is damaged") from error


_ROW_TYPES = [
    (str, str, str, parent, str, bytes, bytes, datetime, int, bytes) for parent in (str, type(None))
]


# Pending writes


def write_entry(write: WriteRow) -> tuple[bytes, bytes, bytes]:
    """Return a write's name, its value, and whether it replaces the one that is there."""
    return (
        b"w" + name(write.namespace, write.checkpoint_id, write.task_id, str(write.idx)),
        ormsgpack.packb((write.task_path, write.channel, write.value)),
        b"1" if write.idx < 0 else b"",
    )


def write_from(execution_id: str, member: bytes) -> WriteRow:
    """Return the write that a member holds.

    Raises:
        CorruptData: It isn't what we write.
    """
    try:
        namespace, checkpoint_id, task_id, idx, value = member[1:].split(b"\0", 4)
        task_path, channel, data = ormsgpack.unpackb(value)
        write = WriteRow(
            execution_id, namespace.decode(), checkpoint_id.decode(), task_id.decode(), int(idx),
            task_path, channel, data,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise CorruptData(f"a pending write of execution {execution_id!r} is damaged") from error
    if tuple(map(type, write[-3:])) != (str, str, bytes):
        raise CorruptData(f"a write to checkpoint {write.checkpoint_id!r} is damaged")
    return write


# Chunks


def chunk_from(id: ChunkId, member: bytes) -> bytes:
    """Return the data of a chunk."""
    return member[len(encoded(id, "chunk id")) + 2 :]


def chunk_epoch_from(member: bytes) -> tuple[ChunkId, int]:
    """Return a chunk's id and the epoch in which it was last committed.

    Raises:
        CorruptData: It isn't what we write.
    """
    try:
        id = member[1 : -_EPOCH_BYTES - 1].decode()
    except UnicodeDecodeError as error:
        raise CorruptData("the name of a chunk is damaged") from error
    return ChunkId(id), epoch_number(member[-_EPOCH_BYTES:])


# Ranges, as (first, last) for ZRANGEBYLEX


def beginning_with(start: bytes) -> tuple[bytes, bytes]:
    """Return the range of all names that begin with a complete name, or with a kind."""
    return b"[" + start, b"(" + start[:-1] + bytes((start[-1] + 1,))


def behind(member: bytes, kind: bytes) -> tuple[bytes, bytes]:
    """Return the range of the names of a kind behind a member."""
    return b"(" + member, beginning_with(kind)[1]


def checkpoints_of(query: FindCheckpoints, execution_id: str) -> tuple[bytes, bytes]:
    """Return the range in which the checkpoints are that a query wants of one execution.

    Their names, if the query says the namespace, or else their names by id.
    """
    table = b"i" if query.namespace is None else b"n" + name(query.namespace)
    if query.id is None:
        first, last = beginning_with(table)
    else:
        first, last = beginning_with(table + name(query.id))
    if query.before_id is not None:
        last = min(last, b"(" + table + name(query.before_id))
    if query.after is not None:
        last = min(last, b"(" + _position(query.after, table, execution_id, query.namespace))
    return first, last


def _position(after: Position, table: bytes, execution_id: str, namespace: str | None) -> bytes:
    """Return what the names of all checkpoints of an execution behind a position sort before."""
    at = table + name(after.id)
    if execution_id != after.execution_id:
        same_id_follows = execution_id < after.execution_id
    elif namespace is None:
        return at + name(after.namespace)
    else:
        same_id_follows = namespace < after.namespace
    return beginning_with(at)[1][1:] if same_id_follows else at
