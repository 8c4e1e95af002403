"""Chunks: immutable bytes under the hash of their content.

Stored format, version 1. A chunk is two bytes of header and a body::

    kind      what the payload is: see `Kind`
    packing   how the body holds the payload: 0 as it is, 1 compressed with zstd
    body

Its id is the first 128 bits of blake2b over the payload, personalized with the kind, in 22
characters of URL-safe base64. So a page can't pass for a value, and any change to the body is
found when the chunk is opened.
"""

from __future__ import annotations

import threading
from binascii import b2a_base64
from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from langcairn.backends.base import ChunkId

ID_LENGTH = 22  # [characters]
_HASH_BYTES = 16
_RAW, _ZSTD = 0, 1
# Below this, compression gains little (a frame has its own header, and short texts repeat little)
# for 3 µs in every load.
_WORTH_COMPRESSING = 480  # [bytes]
# 3 is zstd's default: on 6 kB of text 20 µs and 59 % of the size; level 1 takes 14 µs for 58 %,
# but falls behind on JSON and code.
_LEVEL = 3
# PostgreSQL's largest field is 1 GB and Redis' largest value 512 MB. A forged header that claims
# more is refused before memory is reserved for it.
_LARGEST_PAYLOAD = 1 << 30  # [bytes]


class Kind(IntEnum):
    """What a chunk's payload is. The numbers are part of the stored format."""

    MSGPACK = 1
    """A value as LangGraph's msgpack."""
    MESSAGE = 2
    """A LangChain message: see `langcairn.codec.messages`."""
    BYTEARRAY = 3
    """A bytearray's bytes."""
    CUSTOM = 4
    """What a serializer of the user's made: msgpack of its type tag and its bytes."""
    PAGE = 5
    """JSON: a page of a tree, or a node too large to stand in its parent."""


# Copying a hash object that is set up takes half the time of setting one up.
_HASHES = {kind: blake2b(digest_size=_HASH_BYTES, person=b"cairn%d" % kind).copy for kind in Kind}
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_KINDS = {int(kind): kind for kind in Kind}
# zstandard's objects must not be used by two threads at once, and making one costs 10 µs.
_per_thread = threading.local()


class Payload(NamedTuple):
    """The content of a chunk, before packing or after opening."""

    kind: Kind
    data: bytes


def chunk_id(payload: Payload) -> ChunkId:
    """Return the id under which this content is stored."""
    content = _HASHES[payload.kind]()
    content.update(payload.data)
    text = b2a_base64(content.digest(), newline=False).translate(_URL_SAFE)
    return text[:ID_LENGTH].decode()  # type: ignore[return-value]  # NewType of str


def seal(payload: Payload) -> bytes:
    """Return the bytes to store for this content."""
    kind, data = payload
    if len(data) >= _WORTH_COMPRESSING:
        packed = _compressor().compress(data)
        if len(packed) < len(data):
            return bytes((kind, _ZSTD)) + packed
    return bytes((kind, _RAW)) + data


def unseal(id: ChunkId, sealed: bytes) -> Payload:
    """Return the content of a stored chunk.

    Raises:
        CorruptData: The bytes aren't those that were stored under this id.
    """
    if len(sealed) < 2 or (kind := _KINDS.get(sealed[0])) is None or sealed[1] > _ZSTD:
        raise CorruptData(f"chunk {id} has no valid header; it was damaged or not written by us")
    body = memoryview(sealed)[2:]
    data = bytes(body) if sealed[1] == _RAW else _decompress(id, body)
    payload = Payload(kind, data)
    if chunk_id(payload) != id:
        raise CorruptData(f"chunk {id} holds other content than was stored under its hash")
    return payload


def _decompress(id: ChunkId, body: memoryview) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= _LARGEST_PAYLOAD:
            raise CorruptData(f"chunk {id} claims a size of {size} bytes, which no chunk has")
        return _decompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise CorruptData(f"chunk {id} can't be decompressed: it was damaged") from error


def _compressor() -> zstandard.ZstdCompressor:
    try:
        return _per_thread.compressor  # type: ignore[no-any-return]  # threading.local has no types
    except AttributeError:
        _per_thread.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        return _per_thread.compressor  # type: ignore[no-any-return]  # as above


def _decompressor() -> zstandard.ZstdDecompressor:
    try:
        return _per_thread.decompressor  # type: ignore[no-any-return]  # as above
    except AttributeError:
        _per_thread.decompressor = zstandard.ZstdDecompressor()
        return _per_thread.decompressor  # type: ignore[no-any-return]  # as above
