"""The stored format of the file backend, version 1: bytes in, bytes out, no files.

A log is a header and then frames, each of them one commit; docs/file-format.md describes both,
and why a torn end can be told from damage. Everything is little-endian.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import ormsgpack

from langcairn.backends.base import CheckpointRow, WriteRow
from langcairn.errors import InvalidInput, StoreMisconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
# As in PNG: the high bit and both line ends show a transfer that took the file for text.
MAGIC = b"\x89cairn\r\n"
LOG_ID_BYTES = 16
LONGEST_HEADER = 1024  # [bytes] an execution id has 512 at most

CHECK_BYTES = 8
_PREFIX = struct.Struct("<8sI")  # magic, version: so in every version
_PREFIX_CHECK_BYTES = 4
_NAMED = struct.Struct(f"<{LOG_ID_BYTES}sH")  # log id, length of the execution id

_FRAME = struct.Struct("<2sQI8s2s")  # mark, size of the data, size of the index, check, mark
FRAME_HEADER_BYTES = _FRAME.size
# A sector is written whole or not at all, and what wasn't written is zero. These marks and the
# trailer's see to it that no sector's part of a frame's ends is zero in a frame that was written.
FRAME_MARK = b"CF"
_HEADER_END = b"\xc1\xa5"
_TRAILER = struct.Struct("<8s4s")  # check of the index, mark
TRAILER_BYTES = _TRAILER.size
_FRAME_END = b"end\n"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Damaged(Exception):
    """Bytes aren't what was written; the caller knows the file and the offset."""


class LogHeader(NamedTuple):
    """The beginning of a log."""

    execution_id: str
    log_id: bytes
    """Random; new in every generation of a log. The checks of frames depend on it."""
    size: int


class CommitEntry(NamedTuple):
    """Content that was stored. Sizes are those of blobs, which stand in this order."""

    epoch: int
    again: list[str]
    """Ids of chunks that were stored already, committed once more."""
    chunks: list[tuple[str, int]]
    """Id, size."""
    checkpoints: list[tuple[str, str, int, int]]
    """Namespace, id, timestamp in microseconds since 1970, size."""
    writes: list[tuple[str, str, str, int, int]]
    """Namespace, checkpoint id, task id, idx, size."""

    @classmethod
    def of(cls, epoch: int) -> CommitEntry:
        """Return an entry to be filled."""
        return cls(epoch, [], [], [], [])


class RemoveEntry(NamedTuple):
    """Checkpoints that were removed with their writes."""

    epoch: int
    """The execution's from here on."""
    checkpoints: list[tuple[str, str]]
    """Namespace, id."""


class SweepEntry(NamedTuple):
    """Chunks that were removed."""

    chunks: list[str]


class LeaseEntry(NamedTuple):
    """The lease on the execution, from here on; as in `conditions.Deadline`."""

    token: int
    owner: str | None
    until: int
    ttl: int


class PreparedEntry(NamedTuple):
    """What begins a frame that is part of a transaction of several executions.

    It counts if the transaction was decided, or if another frame follows.
    """

    transaction: str
    """Names the file that decides."""


Entry = CommitEntry | RemoveEntry | SweepEntry | LeaseEntry | PreparedEntry
_KINDS: dict[int, type[Entry]] = {
    1: CommitEntry,
    2: RemoveEntry,
    3: SweepEntry,
    4: LeaseEntry,
    5: PreparedEntry,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


class Frame(NamedTuple):
    """Where a frame stands, as its header says."""

    start: int
    data_size: int
    index_size: int

    @property
    def data_at(self) -> int:
        """Where its blobs begin."""
        return self.start + FRAME_HEADER_BYTES

    @property
    def index_at(self) -> int:
        """Where its index begins."""
        return self.data_at + self.data_size

    @property
    def end(self) -> int:
        """Where the next frame begins."""
        return self.index_at + self.index_size + TRAILER_BYTES


def pack_log_header(execution_id: str, log_id: bytes) -> bytes:
    """Return the beginning of a log."""
    name = execution_id.encode()
    prefix = _PREFIX.pack(MAGIC, VERSION)
    header = prefix + _check(prefix, _PREFIX_CHECK_BYTES) + _NAMED.pack(log_id, len(name)) + name
    return header + _check(header)


def parse_log_header(data: bytes) -> LogHeader:
    """Read the beginning of a log, from at least `LONGEST_HEADER` bytes or the whole file.

    Raises:
        Damaged: It isn't one.
        StoreMisconfigured: It is one of a later version.
    """
    named_at = _PREFIX.size + _PREFIX_CHECK_BYTES
    prefix = data[: _PREFIX.size]
    if len(data) < named_at or data[_PREFIX.size : named_at] != _check(prefix, _PREFIX_CHECK_BYTES):
        raise Damaged("it doesn't begin as a log does")
    magic, version = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise Damaged("it isn't a log of langcairn")
    if version != VERSION:
        raise StoreMisconfigured(
            f"it has format version {version}, but this langcairn knows only versions up to "
            f"{VERSION}: update langcairn"
        )
    name_at = named_at + _NAMED.size
    if len(data) < name_at:
        raise Damaged("its header is cut off")
    log_id, length = _NAMED.unpack_from(data, named_at)
    end = name_at + length
    if data[end : end + CHECK_BYTES] != _check(data[:end]):
        raise Damaged("its header is damaged")
    return LogHeader(data[name_at:end].decode(), log_id, end + CHECK_BYTES)


def pack_frame(
    log_id: bytes, start: int, entries: Sequence[Entry], blobs: Sequence[bytes]
) -> bytes:
    """Return a frame for a place in a log."""
    index = _packed([(_NUMBERS[type(entry)], *entry) for entry in entries])
    sizes = sum(map(len, blobs)), len(index)
    return b"".join(
        (
            _FRAME.pack(FRAME_MARK, *sizes, _frame_check(log_id, start, *sizes), _HEADER_END),
            *blobs,
            index,
            _TRAILER.pack(_placed_check(log_id, start, index), _FRAME_END),
        )
    )


def parse_frame_header(log_id: bytes, start: int, data: bytes) -> Frame | None:
    """Read the header of a frame; None if at this place there is no whole one."""
    if len(data) != FRAME_HEADER_BYTES:
        return None
    mark, data_size, index_size, check, end = _FRAME.unpack(data)
    if mark != FRAME_MARK or end != _HEADER_END:
        return None
    if check != _frame_check(log_id, start, data_size, index_size):
        return None
    return Frame(start, data_size, index_size)


def parse_index(log_id: bytes, frame: Frame, data: bytes) -> list[Entry] | None:
    """Read a frame's entries from its index and trailer; None if they aren't whole.

    Raises:
        Damaged: They are whole, but not what this code writes.
    """
    if len(data) != frame.index_size + TRAILER_BYTES:
        return None
    index = data[: frame.index_size]
    check, end = _TRAILER.unpack_from(data, frame.index_size)
    if end != _FRAME_END or check != _placed_check(log_id, frame.start, index):
        return None
    try:
        entries: list[Entry] = [
            _KINDS[number](*fields) for number, *fields in ormsgpack.unpackb(index)
        ]
        sizes = [size for entry in entries for size in blob_sizes(entry)]
        if not all(e.transaction.isalnum() for e in entries if isinstance(e, PreparedEntry)):
            raise Damaged("the index of a frame names no transaction")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise Damaged(f"the index of a frame has unknown content: {error}") from error
    if not all(type(size) is int and size >= CHECK_BYTES for size in sizes):
        raise Damaged("the index of a frame has impossible sizes")
    if sum(sizes) != frame.data_size:
        raise Damaged("the index of a frame doesn't describe its data")
    return entries


def blob_sizes(entry: Entry) -> list[int]:
    """Return the sizes of an entry's blobs, in their order."""
    if not isinstance(entry, CommitEntry):
        return []
    return [row[-1] for rows in (entry.chunks, entry.checkpoints, entry.writes) for row in rows]


def seal(content: bytes) -> bytes:
    """Return a blob: the content behind its check."""
    return _check(content) + content


def unseal(blob: bytes) -> bytes:
    """Return the content of a blob.

    Raises:
        Damaged: It isn't what was stored.
    """
    content = blob[CHECK_BYTES:]
    if len(blob) < CHECK_BYTES or blob[:CHECK_BYTES] != _check(content):
        raise Damaged("content doesn't match its check")
    return content


def pack_checkpoint(row: CheckpointRow) -> bytes:
    """Return what a checkpoint's blob holds: the fields that no entry does."""
    return _packed((row.parent_id, row.node_name, row.state, row.metadata, row.version, row.graph))


def parse_checkpoint(
    execution_id: str, namespace: str, id: str, timestamp: int, content: bytes
) -> CheckpointRow:
    """Return the checkpoint that a blob and its entry describe.

    Raises:
        Damaged: They don't.
    """
    try:
        parent_id, node_name, state, metadata, version, graph = ormsgpack.unpackb(content)
        moment = _EPOCH + timestamp * _MICROSECOND
    except (ValueError, TypeError, OverflowError) as error:
        raise Damaged(f"a checkpoint has unknown content: {error}") from error
    types = (str, bytes, bytes, int, bytes)
    if tuple(map(type, (node_name, state, metadata, version, graph))) != types:
        raise Damaged("a checkpoint has fields of other types")
    return CheckpointRow(
        execution_id,
        namespace,
        id,
        parent_id,
        node_name,
        state,
        metadata,
        moment,
        version,
        graph,
    )


def pack_write(row: WriteRow) -> bytes:
    """Return what a pending write's blob holds: the fields that no entry does."""
    return _packed((row.task_path, row.channel, row.value))


def parse_write(execution_id: str, key: tuple[str, str, str, int], content: bytes) -> WriteRow:
    """Return the pending write that a blob and its entry describe.

    Raises:
        Damaged: They don't.
    """
    try:
        task_path, channel, value = ormsgpack.unpackb(content)
    except (ValueError, TypeError) as error:
        raise Damaged(f"a pending write has unknown content: {error}") from error
    if tuple(map(type, (task_path, channel, value))) != (str, str, bytes):
        raise Damaged("a pending write has fields of other types")
    return WriteRow(execution_id, *key, task_path, channel, value)


def microseconds(moment: datetime) -> int:
    """Return a time as it is stored, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def _packed(value: Any) -> bytes:
    try:
        return ormsgpack.packb(value)
    except ormsgpack.MsgpackEncodeError as error:
        raise InvalidInput(f"files can't store this: {error}") from error


def _check(data: bytes, size: int = CHECK_BYTES) -> bytes:
    return blake2b(data, digest_size=size).digest()


def _placed_check(log_id: bytes, start: int, data: bytes) -> bytes:
    """Return a check that fails for the same bytes at another place or in another log."""
    salt = start.to_bytes(blake2b.SALT_SIZE, "little")
    return blake2b(data, digest_size=CHECK_BYTES, salt=salt, person=log_id).digest()


def _frame_check(log_id: bytes, start: int, data_size: int, index_size: int) -> bytes:
    return _placed_check(log_id, start, struct.pack("<QI", data_size, index_size))
