"""The bytes of a backup, version 1: frames in, frames out, no files. docs/backup-format.md has it.

A backup is a prefix, frames, and a trailer that says where the last frame is. Numbers are
little-endian. A frame's checks depend on the backup's id and on the frame's place in the file.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import ormsgpack
import zstandard

from langcairn.backends.base import CheckpointRow, WriteRow
from langcairn.errors import CorruptData, InvalidInput, StoreMisconfigured
from langcairn.transfer.protection import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.transfer.protection import Protection
    from langcairn.transfer.reading import Snapshot

VERSION = 1
# As in PNG: the high bit and both line ends show a transfer that took the file for text.
MAGIC = b"\x89cairB\r\n"
ID_BYTES = 16
CHECK_BYTES = 8
_PREFIX = struct.Struct("<8sI4s")  # magic, version, check: so in every version
PREFIX_BYTES = _PREFIX.size + ID_BYTES
_FRAME = struct.Struct("<2sBBI8s")  # mark, kind, packing, size of the payload, check
FRAME_HEADER_BYTES = _FRAME.size
MARK = b"BF"
_TRAILER = struct.Struct("<Q8s8s")  # place of the last frame, check, mark
TRAILER_BYTES = _TRAILER.size
_TRAILER_MARK = b"cairnend"
_RAW, _ZSTD = 0, 1
_LEVEL = 3
# A chunk has 1 GB at most (codec/chunks.py), and a batch of them a few MB more.
_LARGEST_PAYLOAD = (1 << 30) + (1 << 26)  # [bytes]
DIGEST_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Kind(IntEnum):
    """What a frame holds. The numbers are part of the format."""

    HEADER = 1
    BEGIN = 2
    CHUNKS = 3
    ROWS = 4
    WRITES = 5
    END = 6
    INDEX = 7
    CLOSE = 8


class Part(IntEnum):
    """What a backup has of an execution. The numbers are part of the format."""

    FULL = 0
    """All of it."""
    CHANGED = 1
    """Its rows, and those chunks that the backups before don't have."""
    SAME = 2
    """Nothing: it is as in the backup before."""
    GONE = 3
    """Nothing: it was deleted since the backup before."""


class Header(NamedTuple):
    """What a backup says about itself."""

    parent: bytes
    """The id of the backup that it builds on; empty for none."""
    parent_name: str
    """The name of that file."""
    created: int
    """When [microseconds since 1970]."""
    protection: str = ""
    """``"encrypted"`` or ``"signed"``; empty if the payloads stand as they are."""
    key: bytes = b""
    """The id of the key for that."""


class Entry(NamedTuple):
    """An execution in the index."""

    execution_id: str
    part: int
    offset: int
    """Where its first frame is; 0 if it has none here."""
    digest: bytes
    """Of its rows and writes; empty if it is gone."""
    checkpoints: int
    writes: int


class Ending(NamedTuple):
    """The last frame of an execution."""

    part: int
    digest: bytes
    checkpoints: int
    writes: int
    chunks: str
    """The ids of the chunks that it refers to, without separators."""
    further: str
    """Ids of other chunks of it that this backup or those before have."""


class Close(NamedTuple):
    """The last frame of a backup."""

    pages: list[tuple[int, str]]
    """The place of each page of the index, and its first execution."""
    executions: int
    checkpoints: int
    writes: int


class Frame(NamedTuple):
    """A frame's header."""

    kind: int
    packing: int
    start: int
    size: int

    @property
    def payload_at(self) -> int:
        """Where its payload begins."""
        return self.start + FRAME_HEADER_BYTES

    @property
    def end(self) -> int:
        """Where the next frame begins."""
        return self.payload_at + self.size + CHECK_BYTES


def pack_prefix(id: bytes) -> bytes:
    """Return the beginning of a backup."""
    head = _PREFIX.pack(MAGIC, VERSION, b"")[:12]
    return head + blake2b(head, digest_size=4).digest() + id


def parse_prefix(data: bytes, name: str) -> bytes:
    """Return the id of a backup from its beginning.

    Raises:
        InvalidInput: It is no backup.
        CorruptData: It is damaged.
        StoreMisconfigured: It was written by a later version.
    """
    if len(data) < PREFIX_BYTES:
        raise CorruptData(f"{name} is no backup, or cut off: it has only {len(data)} bytes")
    magic, version, check = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise InvalidInput(f"{name} is no backup of langcairn: it doesn't begin as one")
    if check != blake2b(data[:12], digest_size=4).digest():
        raise CorruptData(f"{name} is damaged: its first bytes don't match their check")
    if version != VERSION:
        raise StoreMisconfigured(
            f"{name} is a backup of format version {version}, but this langcairn knows only "
            f"versions up to {VERSION}: update langcairn"
        )
    return data[_PREFIX.size : PREFIX_BYTES]


def pack_frame(
    id: bytes, start: int, kind: Kind, content: object, protection: Protection = PLAIN
) -> bytes:
    """Return a frame for a place in a backup; its content is packed as msgpack."""
    payload = ormsgpack.packb(content)
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(payload)
    packing = _ZSTD if len(packed) < len(payload) else _RAW
    payload = packed if packing == _ZSTD else payload
    payload = protection.seal(_place(start, kind, packing), payload)
    head = _FRAME.pack(MARK, kind, packing, len(payload), b"")[:8]
    at = start + FRAME_HEADER_BYTES
    return b"".join((head, _placed(id, start, head), payload, _placed(id, at, payload)))


def parse_frame_header(id: bytes, start: int, data: bytes) -> Frame | None:
    """Read the header of a frame; None if at this place there is no whole one."""
    if len(data) != FRAME_HEADER_BYTES:
        return None
    mark, kind, packing, size, check = _FRAME.unpack(data)
    if mark != MARK or check != _placed(id, start, data[:8]):
        return None
    return Frame(kind, packing, start, size)


def parse_payload(
    id: bytes, frame: Frame, data: bytes, protection: Protection = PLAIN
) -> Any | None:
    """Return what a frame holds, from its payload and check; None if they are damaged.

    Raises:
        DecryptionFailed: It is encrypted and was forged.
        ForgedData: It is signed and was forged.
    """
    payload = data[: frame.size]
    if data[frame.size :] != _placed(id, frame.payload_at, payload):
        return None
    payload = protection.open(_place(frame.start, frame.kind, frame.packing), payload)
    try:
        if frame.packing == _ZSTD:
            if not 0 <= zstandard.frame_content_size(payload) <= _LARGEST_PAYLOAD:
                return None
            payload = zstandard.ZstdDecompressor().decompress(payload)
        return ormsgpack.unpackb(payload)
    except (zstandard.ZstdError, ValueError):
        return None  # it was made wrong, which no check of its bytes can tell


def _place(start: int, kind: int, packing: int) -> bytes:
    return struct.pack("<QBB", start, kind, packing)


def pack_trailer(id: bytes, start: int, close_at: int) -> bytes:
    """Return the end of a backup."""
    place = close_at.to_bytes(8, "little")
    return _TRAILER.pack(close_at, _placed(id, start, place), _TRAILER_MARK)


def parse_trailer(id: bytes, start: int, data: bytes) -> int | None:
    """Return where the last frame is; None if there is no whole trailer."""
    if len(data) != TRAILER_BYTES:
        return None
    close_at, check, mark = _TRAILER.unpack(data)
    if mark != _TRAILER_MARK or check != _placed(id, start, data[:8]):
        return None
    return int(close_at)


def _placed(id: bytes, start: int, data: bytes) -> bytes:
    """Return a check that fails for the same bytes at another place or in another backup."""
    salt = start.to_bytes(blake2b.SALT_SIZE, "little")
    return blake2b(data, digest_size=CHECK_BYTES, salt=salt, person=id).digest()


def pack_row(row: CheckpointRow) -> tuple[object, ...]:
    """Return a checkpoint as it stands in a frame; its execution stands before it."""
    return (*row[1:7], (row.timestamp - _EPOCH) // _MICROSECOND, row.version, row.graph)


def parse_row(execution_id: str, fields: Sequence[Any]) -> CheckpointRow:
    """Return a checkpoint that stood in a frame.

    Raises:
        CorruptData: It isn't what `pack_row` makes.
    """
    try:
        *columns, microseconds, version, graph = fields
        timestamp = _EPOCH + microseconds * _MICROSECOND
        row = CheckpointRow._make((execution_id, *columns, timestamp, version, graph))
        types = tuple(map(type, (*row[1:3], *row[4:7], *row[8:])))
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptData(f"a checkpoint in the backup has unknown content: {error}") from error
    if types != (str, str, str, bytes, bytes, int, bytes):
        raise CorruptData("a checkpoint in the backup has fields of other types")
    return row


def parse_write(execution_id: str, fields: Sequence[Any]) -> WriteRow:
    """Return a pending write that stood in a frame, where it is all fields but the execution.

    Raises:
        CorruptData: It isn't that.
    """
    if tuple(map(type, fields)) != (str, str, str, int, str, str, bytes):
        raise CorruptData("a pending write in the backup has unknown content")
    return WriteRow(execution_id, *fields)


def digest_of(snapshot: Snapshot) -> bytes:
    """Return a digest of an execution's rows and writes; the same for the same."""
    content = blake2b(digest_size=DIGEST_BYTES)
    for row in sorted(snapshot.rows, key=lambda row: (row.namespace, row.id)):
        content.update(ormsgpack.packb(pack_row(row)))
    for write in sorted(snapshot.writes):
        content.update(ormsgpack.packb(tuple(write)))
    return content.digest()
