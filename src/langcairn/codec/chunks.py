"""Chunks: immutable bytes under the hash of their content.

Stored format, version 1. A chunk is two bytes of header and a body::

    kind      what the payload is: see `Kind`
    packing   how the body holds the payload: 0 as it is, 1 compressed with zstd, 2 compressed with
              zstd and a dictionary
    body      with a dictionary, its key (8 bytes) and a zstd frame without its first four bytes,
              which are always the same

Its id is the first 128 bits of blake2b over the payload, personalized with the kind, in 22
characters of URL-safe base64. So a page can't pass for a value, and any change to the body is
found when the chunk is opened, however it is packed. What is packed with a dictionary can only be
opened where the dictionary is: see `langcairn.codec.dictionaries`.
"""

from __future__ import annotations

import threading
from binascii import b2a_base64
from enum import IntEnum
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import zstandard

from langcairn.errors import CorruptData, DecryptionFailed, InvalidInput, MissingChunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langcairn.backends.base import ChunkId
    from langcairn.codec.dictionaries import Dictionary, RetiredDictionary

T = TypeVar("T")

ID_LENGTH = 22  # [characters]
# How an encrypted chunk begins: with what is no kind.
ENVELOPE = b"\xce"
# How a pointer into object storage begins, in the place of a chunk: see `langcairn.objects.packs`.
POINTER = b"\xcf"
_HASH_BYTES = 16
_RAW, _ZSTD, _WITH_DICTIONARY = 0, 1, 2
_BODY_AT = 2
_FRAME_AT = 10  # behind the dictionary's key
# Below this, compression gains little (a frame has its own header, and short texts repeat little)
# for 3 µs in every load.
_WORTH_COMPRESSING = 480  # [bytes]
# With a dictionary, which holds what short texts have in common, nearly everything is; below this,
# a frame's own header eats the gain.
_WORTH_WITH_DICTIONARY = 64  # [bytes]
# Longer texts say by themselves what a dictionary could, and zstd is tuned for short ones with it.
_TOO_LONG_FOR_DICTIONARY = 64 * 1024  # [bytes]
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
    DICTIONARY = 6
    """What others are packed with: see `langcairn.codec.dictionaries`."""


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
_MAGIC: bytes = zstandard.FRAME_HEADER


class Payload(NamedTuple):
    """The content of a chunk, before packing or after opening."""

    kind: Kind
    data: bytes


class Packer:
    """Packs short payloads with a dictionary, and opens them.

    Args:
        dictionary: The dictionary.
        level: Of zstd's compression.

    Raises:
        CorruptData: It is no dictionary.
    """

    def __init__(self, dictionary: Dictionary, level: int) -> None:
        self.dictionary = dictionary
        try:
            # Digested once, for all threads.
            digested = zstandard.ZstdCompressionDict(
                dictionary.data, dict_type=zstandard.DICT_TYPE_FULLDICT
            )
            digested.precompute_compress(level=level)
        except zstandard.ZstdError as error:
            raise CorruptData(f"dictionary {dictionary.name} is none: {error}") from error
        self.key = dictionary.key
        self._compressors = _PerThread(
            lambda: zstandard.ZstdCompressor(level=level, dict_data=digested, write_dict_id=False)
        )
        self._decompressors = _PerThread(lambda: zstandard.ZstdDecompressor(dict_data=digested))

    def pack(self, data: bytes) -> bytes:
        """Return what stands behind the packing byte."""
        return self.key + self._compressors.get().compress(data)[len(_MAGIC) :]

    def unpack(self, id: ChunkId, frame: memoryview) -> bytes:
        """Return the payload of a chunk.

        Raises:
            CorruptData: The frame is damaged.
        """
        return _decompress(id, _MAGIC + frame, self._decompressors.get())


class ChunkFormat:
    """How the chunks of a store are named, packed and checked.

    Args:
        level: Of zstd's compression, from -7 (fast) to 22 (small).
        secret: If backends keep chunks encrypted: from an execution to the key of its ids, so that
            equal content can't be recognised by them. What such a backend returns is authentic.

    Attributes:
        level: As above.
        stored: The dictionaries of the store by the ids that they were found under.
        damaged: What is wrong with dictionaries that are stored, but can't be used.
    """

    def __init__(
        self, level: int = DEFAULT_LEVEL, secret: Callable[[str], bytes] | None = None
    ) -> None:
        if type(level) is not int or not -7 <= level <= 22:
            raise InvalidInput(f"compression={level!r}: zstd has the levels -7 to 22")
        self.level = level
        self._secret = secret
        self._compressors = _PerThread(lambda: zstandard.ZstdCompressor(level=level))
        self._packers: dict[bytes, Packer] = {}
        self._newest: Packer | None = None
        self._only_open: set[bytes] = set()
        self._lock = threading.Lock()
        self.stored: dict[ChunkId, Dictionary | RetiredDictionary] = {}
        self.damaged: dict[ChunkId, str] = {}

    def namer(self, execution_id: str) -> Callable[[Payload], ChunkId]:
        """Return what gives the content of an execution its ids."""
        key = self.id_key(execution_id)
        return partial(chunk_id, key=key) if key else chunk_id

    def id_key(self, execution_id: str) -> bytes:
        """Return the key of an execution's ids; nothing if they are made without."""
        return b"" if self._secret is None else self._secret(execution_id)

    # Dictionaries

    @property
    def packs(self) -> bool:
        """Whether what is new is packed with a dictionary."""
        return self._newest is not None

    @property
    def dictionaries(self) -> list[Dictionary]:
        """The dictionaries that may be packed with, the newest last."""
        packers = list(self._packers.values())  # made in one step: another thread may add one
        usable = [one.dictionary for one in packers if one.key not in self._only_open]
        return sorted(usable, key=_age)

    def learn(self, dictionary: Dictionary) -> None:
        """Open what is packed with a dictionary from now on; pack with the newest one.

        Raises:
            CorruptData: It is no dictionary, or has the key of another one.
        """
        with self._lock:
            known = self._packers.get(dictionary.key)
            if known is None:
                self._packers[dictionary.key] = Packer(dictionary, self.level)
                self._choose()
                return
        if known.dictionary.data != dictionary.data:
            raise CorruptData(f"two dictionaries are stored as {dictionary.name}: one is forged")

    def give_up(self, key: bytes) -> None:
        """Pack nothing with a dictionary any more, whether it is known or not."""
        with self._lock:
            self._only_open.add(key)
            self._choose()

    def _choose(self) -> None:
        newest = max(self.dictionaries, key=_age, default=None)
        self._newest = None if newest is None else self._packers[newest.key]

    def lacking(self, chunks: Iterable[bytes]) -> set[bytes]:
        """Return the keys of unknown dictionaries that stored chunks are packed with."""
        known = self._packers
        return {
            key
            for sealed in chunks
            if sealed[1:_BODY_AT] == b"\2" and (key := sealed[_BODY_AT:_FRAME_AT]) not in known
        }

    def packed_with(self, sealed: bytes) -> str | None:
        """Return the name of the dictionary that a chunk is packed with; None: of no known one."""
        if sealed[1:_BODY_AT] != b"\2":
            return None
        packer = self._packers.get(sealed[_BODY_AT:_FRAME_AT])
        return None if packer is None else packer.dictionary.name

    # Chunks

    def seal(self, payload: Payload) -> bytes:
        """Return the bytes to store for this content."""
        kind, data = payload
        newest = self._newest
        if newest is None or kind is Kind.DICTIONARY or len(data) > _TOO_LONG_FOR_DICTIONARY:
            return self.seal_alone(payload)
        if len(data) >= _WORTH_WITH_DICTIONARY:
            packed = newest.pack(data)
            if len(packed) < len(data):
                return bytes((kind, _WITH_DICTIONARY)) + packed
        return bytes((kind, _RAW)) + data

    def seal_alone(self, payload: Payload) -> bytes:
        """Return bytes for this content that any store can open, without a dictionary."""
        kind, data = payload
        if len(data) >= _WORTH_COMPRESSING:
            packed = self._compressors.get().compress(data)
            if len(packed) < len(data):
                return bytes((kind, _ZSTD)) + packed
        return bytes((kind, _RAW)) + data

    def portable(self, id: ChunkId, sealed: bytes) -> bytes:
        """Return a chunk in a form that any store can open.

        Raises:
            CorruptData: It is damaged, or its dictionary isn't there.
        """
        if sealed[1:_BODY_AT] != b"\2" or sealed.startswith(ENVELOPE):
            return sealed
        return self.seal_alone(self.unseal(id, sealed))

    def repacked(self, id: ChunkId, sealed: bytes) -> bytes | None:
        """Return a chunk packed with the newest dictionary; None if that doesn't make it smaller.

        Raises:
            CorruptData: It is damaged, or its dictionary isn't there.
        """
        newest = self._newest
        if newest is None or sealed[1:_FRAME_AT] == b"\2" + newest.key:
            return None
        again = self.seal(self.unseal(id, sealed))
        return again if len(again) < len(sealed) else None

    def unseal(self, id: ChunkId, sealed: bytes) -> Payload:
        """Return the content of a stored chunk.

        Raises:
            CorruptData: The bytes aren't those that were stored under this id.
            MissingChunks: The dictionary that it is packed with isn't there.
        """
        payload = self._opened(id, sealed)
        # Behind encryption nothing but what was stored under this id comes so far, and after the
        # keys have been changed the ids are still those made with the old ones.
        if self._secret is None and chunk_id(payload) != id:
            raise CorruptData(f"chunk {id} holds other content than was stored under its hash")
        return payload

    def _opened(self, id: ChunkId, sealed: bytes) -> Payload:
        if sealed.startswith(ENVELOPE):
            raise encrypted(f"chunk {id}")
        if len(sealed) < _BODY_AT or (kind := _KINDS.get(sealed[0])) is None:
            raise _headless(id, sealed)
        packing, body = sealed[1], memoryview(sealed)[_BODY_AT:]
        if packing == _RAW:
            return Payload(kind, bytes(body))
        if packing == _ZSTD:
            return Payload(kind, _decompress(id, body, _decompressors.get()))
        if packing == _WITH_DICTIONARY:
            return Payload(kind, self._with_dictionary(id, sealed))
        raise _headless(id, sealed)

    def _with_dictionary(self, id: ChunkId, sealed: bytes) -> bytes:
        key = sealed[_BODY_AT:_FRAME_AT]
        packer = self._packers.get(key)
        if packer is not None:
            return packer.unpack(id, memoryview(sealed)[_FRAME_AT:])
        # Its key isn't told: it opens a retired one.
        what = f"chunk {id} is packed with a dictionary"
        if self.damaged:
            raise CorruptData(f"{what}, and {'; '.join(self.damaged.values())}")
        raise MissingChunks(
            f"{what} that is not stored: it was removed by something other than langcairn, or "
            "the chunk was damaged, or brought from another store past langcairn"
        )


def _age(dictionary: Dictionary) -> tuple[int, bytes]:
    return dictionary.trained, dictionary.key


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


def _headless(id: ChunkId, sealed: bytes) -> CorruptData:
    if sealed.startswith(POINTER):
        return CorruptData(
            f"chunk {id} was moved to object storage: open the store with objects=…; or it was "
            "damaged"
        )
    return CorruptData(f"chunk {id} has no valid header; it was damaged or not written by us")


def _decompress(
    id: ChunkId, frame: bytes | memoryview, decompressor: zstandard.ZstdDecompressor
) -> bytes:
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= _LARGEST_PAYLOAD:
            raise CorruptData(f"chunk {id} claims a size of {size} bytes, which no chunk has")
        return decompressor.decompress(frame)
    except zstandard.ZstdError as error:
        raise CorruptData(f"chunk {id} can't be decompressed: it was damaged") from error
