"""Packs: objects that hold many chunks of one execution, and the pointers to what is in them.

Stored format, version 1. A pack is::

    "CAIRNPAK"  version  length of the execution id (4 bytes)  execution id in UTF-8
    the stored bytes of chunks, one after the other

and its name ``<store>/<hash of the execution id>/<pack>``, in hexadecimal digits; store (8 bytes)
and pack (16 bytes) are random. A pointer stands in the database in place of a chunk's data::

    0xCF  version  store  pack  offset (4 bytes)  length (4 bytes)  checksum (16 bytes)

Numbers are big-endian. The checksum is blake2b over the chunk's id and its stored bytes, so neither
changed bytes nor those of another chunk pass for it. A pack is never changed.
"""

from __future__ import annotations

import secrets
import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from langcairn.codec.chunks import POINTER
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from langcairn.backends.base import ChunkId

STORE_BYTES = 8
PACK_BYTES = 16
# A longer execution id is read in a second request.
HEAD_BYTES = 1024

_VERSION = 1
_MAGIC = b"CAIRNPAK"
_HEAD = struct.Struct(">8sBI")
_POINTER = struct.Struct(f">cB{STORE_BYTES}s{PACK_BYTES}sII16s")


class Pointer(NamedTuple):
    """Where a chunk is."""

    store: bytes
    pack: bytes
    offset: int
    length: int
    checksum: bytes

    @property
    def end(self) -> int:
        """Where the byte behind the chunk is."""
        return self.offset + self.length

    def pack_path(self, execution_id: str) -> str:
        """Return the name of the pack."""
        return f"{folder(self.store, execution_id)}{self.pack.hex()}"

    def dump(self) -> bytes:
        """Return what is stored in place of the chunk."""
        return _POINTER.pack(POINTER, _VERSION, *self)

    def check(self, id: ChunkId, data: bytes) -> bool:
        """Tell whether this is what was packed as the chunk."""
        return checksum(id, data) == self.checksum


def parse_pointer(id: ChunkId, stored: bytes) -> Pointer:
    """Return a pointer that is stored in place of a chunk.

    Raises:
        CorruptData: It is damaged, or of a newer version.
    """
    if stored[1:2] > bytes((_VERSION,)):
        raise CorruptData(f"chunk {id} was moved by a newer langcairn: update it")
    if len(stored) != _POINTER.size:
        raise CorruptData(f"the pointer of chunk {id} is damaged: it has {len(stored)} bytes")
    return Pointer(*_POINTER.unpack(stored)[2:])


def checksum(id: ChunkId, data: bytes) -> bytes:
    """Return the checksum of a chunk's stored bytes."""
    content = blake2b(id.encode(), digest_size=16, person=b"cairn packed")
    content.update(data)
    return content.digest()


def folder(store: bytes, execution_id: str) -> str:
    """Return what the names of an execution's packs begin with; it says nothing about the id."""
    name = blake2b(execution_id.encode(), digest_size=16, person=b"cairn folder").hexdigest()
    return f"{store.hex()}/{name}/"


class PackBuilder:
    """A pack while it is put together.

    Attributes:
        pointers: Where the chunks are.
        size: What the pack will have [bytes].
    """

    def __init__(self, store: bytes, execution_id: str) -> None:
        self._store = store
        self._execution_id = execution_id
        self._pack = secrets.token_bytes(PACK_BYTES)
        id = execution_id.encode()
        self._parts = [_HEAD.pack(_MAGIC, _VERSION, len(id)), id]
        self.pointers: dict[ChunkId, Pointer] = {}
        self.size = sum(map(len, self._parts))

    @property
    def path(self) -> str:
        """The name of the pack."""
        return f"{folder(self._store, self._execution_id)}{self._pack.hex()}"

    def add(self, id: ChunkId, data: bytes) -> None:
        """Add a chunk's stored bytes."""
        self.pointers[id] = Pointer(
            self._store, self._pack, self.size, len(data), checksum(id, data)
        )
        self._parts.append(data)
        self.size += len(data)

    def data(self) -> bytes:
        """Return the pack."""
        return b"".join(self._parts)


class CutHead(ValueError):
    """More of a pack's beginning is needed.

    Attributes:
        needed: How much of it [bytes].
    """

    def __init__(self, needed: int) -> None:
        super().__init__(f"{needed} bytes are needed")
        self.needed = needed


def owner(head: bytes) -> str:
    """Return the id of the execution that a pack belongs to, from its beginning.

    Raises:
        CutHead: It is too short.
        CorruptData: This is no pack.
    """
    if len(head) < _HEAD.size:
        raise CutHead(_HEAD.size)
    magic, version, length = _HEAD.unpack_from(head)
    if magic != _MAGIC or version != _VERSION:
        raise CorruptData("this is no pack of this version of langcairn")
    if len(head) < _HEAD.size + length:
        raise CutHead(_HEAD.size + length)
    try:
        return head[_HEAD.size : _HEAD.size + length].decode()
    except UnicodeDecodeError as error:
        raise CorruptData("the head of a pack is damaged") from error
