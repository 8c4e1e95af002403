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
from typing import Any

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


def with_check(row: CheckpointRow) -> CheckpointRow:
    """Return a row that is in canonical form, and has no check, with its check."""
    return row_with_check(row[:-1], row.graph)


def row_with_check(columns: tuple[Any, ...], graph: bytes) -> CheckpointRow:
    """Return the row of these columns with its check.

    Args:
        columns: All but the last; state and metadata as `canonical` makes them.
        graph: The last.
    """
    return CheckpointRow._make((*columns, _graph_with(graph, _row_check((*columns, graph)))))


def rechecked(row: CheckpointRow) -> CheckpointRow:
    """Return a row that was read, and changed since, with a check. Its columns stay as they are.

    Raises:
        CorruptData: A column isn't JSON.
        DecryptionFailed: It is encrypted, so that its envelope would no longer fit it.
    """
    form = _canonical(row)
    if form.state.startswith(_ENCRYPTED):
        raise encrypted(_name(row))
    return CheckpointRow(*row[:-1], _graph_with(row.graph, _row_check(tuple(form))))


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
    if check != _row_check((*row[:-1], bare)) and check != _row_check(
        (*_canonical(row)[:-1], bare)
    ):
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


def _graph_with(graph: bytes, check: bytes) -> bytes:
    """Return a graph column with a check as its last member."""
    comma = b"," if len(graph) > len(_EMPTY) else b""
    return b"".join((graph[:-1], comma, _HEAD, check, _END))


def _row_check(columns: tuple[Any, ...]) -> bytes:
    """Return the check of a checkpoint's columns, the last of which has none."""
    try:
        return _check(columns)
    except (TypeError, ValueError) as error:  # a string that is no Unicode
        raise CorruptData(f"{_name(CheckpointRow._make(columns))} is damaged: {error}") from error


def _name(row: CheckpointRow) -> str:
    return f"checkpoint {row.id!r} of execution {row.execution_id!r}"


def write_with_check(write: WriteRow) -> WriteRow:
    """Return a pending write with its check; its value is a node in JSON."""
    return write_row(write[:-1], write.value)


def write_row(columns: tuple[Any, ...], node: bytes) -> WriteRow:
    """Return the row of a pending write with its check.

    Args:
        columns: All but the value.
        node: The value as a node, in JSON.
    """
    check = _write_check((*columns, node))
    value = b"".join((_WRITE_HEAD, check, _WRITE_MIDDLE, node, _WRITE_END))
    return WriteRow._make((*columns, value))


def checked_write(write: WriteRow) -> bytes:
    """Return the node of a pending write, in JSON, after comparing its check.

    Raises:
        CorruptData: The row isn't what was written.
    """
    value = write.value
    if value.startswith(_ENCRYPTED):
        raise encrypted(f"a pending write to {write.channel!r} of {write.execution_id!r}")
    node = value[_WRITE_PREFIX:-1]
    check = _write_check((*write[:-1], node))
    if value != b"".join((_WRITE_HEAD, check, _WRITE_MIDDLE, node, _WRITE_END)):
        raise CorruptData(
            f"a pending write to {write.channel!r} at checkpoint {write.checkpoint_id!r} of "
            f"execution {write.execution_id!r} is damaged: it isn't what was written"
        )
    return node


def moved_write(write: WriteRow, execution_id: str) -> WriteRow:
    """Return a pending write for another execution, after comparing its check.

    Raises:
        CorruptData: The row isn't what was written.
    """
    node = checked_write(write)
    return write_with_check(write._replace(execution_id=execution_id, value=node))


def _write_check(columns: tuple[Any, ...]) -> bytes:
    try:
        return _check(columns)
    except (TypeError, ValueError) as error:
        raise CorruptData(f"a pending write of {columns[0]!r} is damaged: {error}") from error


def _check(columns: tuple[Any, ...]) -> bytes:
    content = _new_hash()
    content.update(ormsgpack.packb(columns))
    return b2a_base64(content.digest(), newline=False)
