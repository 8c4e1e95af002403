"""Checks of rows: every column of a checkpoint or pending write that changed by itself is noticed.

Chunks are named by the hash of their content. Rows aren't, so each carries a check of all its
columns, its key included. Like that hash it finds accidents; whoever forges a row can make it anew.

A checkpoint's check is the last member of its ``graph`` column, which every backend keeps byte by
byte. It is of the columns as they are written, keys sorted. (PostgreSQL gives jsonb back in another
form, which is then made canonical again.) A row whose ``graph`` is ``{}`` was written by
LangGraphGo or by hand in SQL, and has no check. A pending write's value is ``["<check>", node]``.
"""

from __future__ import annotations

from binascii import b2a_base64
from hashlib import blake2b

import ormsgpack

from langcairn.backends.base import CheckpointRow, WriteRow
from langcairn.codec.chunks import encrypted
from langcairn.codec.nodes import MARK, canonical
from langcairn.codec.reader import parse
from langcairn.errors import CorruptData

CHECK_KEY = "$check"
_HASH_BYTES = 12
_LENGTH = 16  # [characters of base64]
_HEAD, _END = b'"%s":"' % CHECK_KEY.encode(), b'"}'
_TAIL = len(_HEAD) + _LENGTH + len(_END)
_EMPTY = b"{}"
_WRITE_HEAD, _WRITE_MIDDLE, _WRITE_END = b'["', b'",', b"]"
# What langcairn.security.encrypted makes of a column.
_ENCRYPTED = b'{"%s":["e"' % MARK.encode()
_WRITE_PREFIX = len(_WRITE_HEAD) + _LENGTH + len(_WRITE_MIDDLE)

# Copying a hash object that is set up takes half the time of setting one up.
_new_hash = blake2b(digest_size=_HASH_BYTES, person=b"cairn row").copy


def with_check(row: CheckpointRow, form: CheckpointRow | None = None) -> CheckpointRow:
    """Return a row with its check.

    Args:
        row: The row, whose graph has no check.
        form: The row with state and metadata as `canonical` makes them; None: they are.
    """
    comma = b"," if len(row.graph) > len(_EMPTY) else b""
    graph = b"".join((row.graph[:-1], comma, _HEAD, _row_check(form or row), _END))
    return CheckpointRow(*row[:-1], graph)


def rechecked(row: CheckpointRow) -> CheckpointRow:
    """Return a row that was read, and changed since, with a check. Its columns stay as they are.

    Raises:
        CorruptData: A column isn't JSON.
        DecryptionFailed: It is encrypted, so that its envelope would no longer fit it.
    """
    form = _canonical(row)
    if form.state.startswith(_ENCRYPTED):
        raise encrypted(_name(row))
    return with_check(row, form)


def checked_graph(row: CheckpointRow) -> bytes:
    """Return the graph column of a row without the check, which is compared.

    Args:
        row: The row as it was read.

    Raises:
        CorruptData: A column isn't what was written.
    """
    graph = row.graph
    if graph == _EMPTY:
        return graph
    bare = _bare(graph)
    if bare is None:
        raise CorruptData(f"{_name(row)} is damaged: its check is missing or broken")
    check = graph[-_LENGTH - len(_END) : -len(_END)]
    unchecked = CheckpointRow(*row[:-1], bare)
    if check != _row_check(unchecked) and check != _row_check(_canonical(unchecked)):
        raise CorruptData(f"{_name(row)} is damaged: a column isn't what was written")
    return bare


def moved(row: CheckpointRow, execution_id: str) -> CheckpointRow:
    """Return a row for another execution, after comparing its check.

    Raises:
        CorruptData: A column isn't what was written.
    """
    return rechecked(row._replace(graph=checked_graph(row), execution_id=execution_id))


def _canonical(row: CheckpointRow) -> CheckpointRow:
    """Return a row as it was written, before a database sorted the keys in its own way."""
    state, metadata = parse(row.state, "the state"), parse(row.metadata, "the metadata")
    return row._replace(state=canonical(state), metadata=canonical(metadata))


def _bare(graph: bytes) -> bytes | None:
    """Return a graph column without its check; None if there isn't one."""
    tail = graph[-_TAIL:]
    if not tail.startswith(_HEAD) or not tail.endswith(_END):
        return None
    return graph[:-_TAIL].removesuffix(b",") + b"}"


def _row_check(row: CheckpointRow) -> bytes:
    """Return the check of a row that has none."""
    try:
        return _check(ormsgpack.packb(tuple(row)))
    except (TypeError, ValueError) as error:  # a string that is no Unicode
        raise CorruptData(f"{_name(row)} is damaged: {error}") from error


def _name(row: CheckpointRow) -> str:
    return f"checkpoint {row.id!r} of execution {row.execution_id!r}"


def write_with_check(write: WriteRow) -> WriteRow:
    """Return a pending write with its check; its value is a node in JSON."""
    parts = (_WRITE_HEAD, _write_check(write), _WRITE_MIDDLE, write.value, _WRITE_END)
    return WriteRow(*write[:-1], b"".join(parts))


def checked_write(write: WriteRow) -> bytes:
    """Return the node of a pending write, in JSON, after comparing its check.

    Raises:
        CorruptData: The row isn't what was written.
    """
    value = write.value
    if value.startswith(_ENCRYPTED):
        raise encrypted(f"a pending write to {write.channel!r} of {write.execution_id!r}")
    bare = WriteRow(*write[:-1], value[_WRITE_PREFIX:-1])
    check = _write_check(bare)
    if value != b"".join((_WRITE_HEAD, check, _WRITE_MIDDLE, bare.value, _WRITE_END)):
        raise CorruptData(
            f"a pending write to {write.channel!r} at checkpoint {write.checkpoint_id!r} of "
            f"execution {write.execution_id!r} is damaged: it isn't what was written"
        )
    return bare.value


def moved_write(write: WriteRow, execution_id: str) -> WriteRow:
    """Return a pending write for another execution, after comparing its check.

    Raises:
        CorruptData: The row isn't what was written.
    """
    node = checked_write(write)
    return write_with_check(write._replace(execution_id=execution_id, value=node))


def _write_check(write: WriteRow) -> bytes:
    try:
        return _check(ormsgpack.packb(tuple(write)))
    except (TypeError, ValueError) as error:
        raise CorruptData(
            f"a pending write of {write.execution_id!r} is damaged: {error}"
        ) from error


def _check(data: bytes) -> bytes:
    content = _new_hash()
    content.update(data)
    return b2a_base64(content.digest(), newline=False)
