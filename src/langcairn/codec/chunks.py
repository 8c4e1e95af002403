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
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import zstandard

from langcairn.errors import CorruptData, DecryptionFailed, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.backends.base import ChunkId

T = TypeVar("T")

ID_LENGTH = 22  # [characters]
# How an encrypted chunk begins: with what is no kind.
ENVELOPE = b"\xce"
_HASH_BYTES = 16
_RAW, _ZSTD = 0, 1
# Below this, compression gains little (a frame has its own header, and short texts repeat little)
# for 3 µs in every load.
_WORTH_COMPRESSING = 480  # [bytes]
# 3 is zstd's default: on 6 kB of text 20 µs and 59 % of the size; level 1 takes 14 µs for 58 %,
# but falls behind on JSON and code.
DEFAULT_LEVEL = 3
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


class _PerThread(threading.local, Generic[T]):
    """One object for each thread: zstandard's mustn't be shared, and making one costs 10 µs."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: T | None = None

    def get(self) -> T:
        if self._made is None:
            self._made = self._make()
        return self._made


_decompressors = _PerThread(zstandard.ZstdDecompressor)


class Payload(NamedTuple):
    """The content of a chunk, before packing or after opening."""

    kind: Kind
    data: bytes


class ChunkFormat:
    """How the chunks of a store are named, packed and checked.

    Args:
        level: Of zstd's compression, from -7 (fast) to 22 (small).
        secret: If backends keep chunks encrypted: from an execution to the key of its ids, so that
            equal content can't be recognised by them. What such a backend returns is authentic.
    """

    def __init__(
        self, level: int = DEFAULT_LEVEL, secret: Callable[[str], bytes] | None = None
    ) -> None:
        if type(level) is not int or not -7 <= level <= 22:
            raise InvalidInput(f"compression={level!r}: zstd has the levels -7 to 22")
        self._secret = secret
        self._compressors = _PerThread(lambda: zstandard.ZstdCompressor(level=level))

    def namer(self, execution_id: str) -> Callable[[Payload], ChunkId]:
        """Return what gives the content of an execution its ids."""
        key = self.id_key(execution_id)
        return partial(chunk_id, key=key) if key else chunk_id

    def id_key(self, execution_id: str) -> bytes:
        """Return the key of an execution's ids; nothing if they are made without."""
        return b"" if self._secret is None else self._secret(execution_id)

    def seal(self, payload: Payload) -> bytes:
        """Return the bytes to store for this content."""
        kind, data = payload
        if len(data) >= _WORTH_COMPRESSING:
            packed = self._compressors.get().compress(data)
            if len(packed) < len(data):
                return bytes((kind, _ZSTD)) + packed
        return bytes((kind, _RAW)) + data

    def unseal(self, id: ChunkId, sealed: bytes) -> Payload:
        """Return the content of a stored chunk.

        Raises:
            CorruptData: The bytes aren't those that were stored under this id.
        """
        payload = _opened(id, sealed)
        # Behind encryption nothing but what was stored under this id comes so far, and after the
        # keys have been changed the ids are still those made with the old ones.
        if self._secret is None and chunk_id(payload) != id:
            raise CorruptData(f"chunk {id} holds other content than was stored under its hash")
        return payload


def chunk_id(payload: Payload, key: bytes = b"") -> ChunkId:
    """Return the id under which this content is stored."""
    if key:
        person = b"cairn%d" % payload.kind
        content = blake2b(digest_size=_HASH_BYTES, key=key, person=person)
    else:
        content = _HASHES[payload.kind]()
    content.update(payload.data)
    text = b2a_base64(content.digest(), newline=False).translate(_URL_SAFE)
    return text[:ID_LENGTH].decode()  # type: ignore[return-value]  # NewType of str


def encrypted(what: str) -> DecryptionFailed:
    """Return the error for something encrypted that came to where no key is."""
    return DecryptionFailed(f"{what} is encrypted: open the store with its key (encryption=…)")


def _opened(id: ChunkId, sealed: bytes) -> Payload:
    if sealed.startswith(ENVELOPE):
        raise encrypted(f"chunk {id}")
    if len(sealed) < 2 or (kind := _KINDS.get(sealed[0])) is None or sealed[1] > _ZSTD:
        raise CorruptData(f"chunk {id} has no valid header; it was damaged or not written by us")
    body = memoryview(sealed)[2:]
    data = bytes(body) if sealed[1] == _RAW else _decompress(id, body)
    return Payload(kind, data)


def _decompress(id: ChunkId, body: memoryview) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= _LARGEST_PAYLOAD:
            raise CorruptData(f"chunk {id} claims a size of {size} bytes, which no chunk has")
        return _decompressors.get().decompress(body)
    except zstandard.ZstdError as error:
        raise CorruptData(f"chunk {id} can't be decompressed: it was damaged") from error
