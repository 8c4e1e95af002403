"""Dictionaries: what the short texts of a store have in common, for zstd to refer to.

Stored format, version 2. A dictionary is a chunk of its own kind, in the execution
`langcairn.backends.base.RESERVED`; its payload is msgpack of a map::

    v        2
    number   what it is called, and zstd's number of it: 4 bytes
    trained  when [µs since 1970]
    samples  on how many chunks
    key      8 random bytes, with which all chunks begin that are packed with it
    data     a zstd dictionary

Nobody can know whether a process that stood still will yet commit a chunk that it packed long ago,
so a dictionary is never removed. A retired one has ``sealed`` in the place of key and data: a hash
of the data, and the data, encrypted with what is derived from the key. So chunks that are packed
with it open it, and when there are none, nothing does.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b, pbkdf2_hmac, shake_256
from typing import TYPE_CHECKING

import ormsgpack
import zstandard

from langcairn.codec.chunks import Kind, Packer, Payload
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.codec.chunks import ChunkFormat

_VERSION = 2
_NUMBER_BYTES = 4
_KEY_BYTES = 8
_HASH_BYTES = 16
# So that trying all 2^64 keys takes 2^80 hashes. Once for each retired dictionary, 25 ms.
_ROUNDS = 100_000
LARGEST = 2**20  # [bytes] of a dictionary
SMALLEST = 1024  # [bytes]
# zstd's own advice is a hundred times the dictionary; with less than ten it is learnt by heart.
_CONTENT = 10
FEWEST = 100  # [samples]
_HELD_OUT = 5  # every fifth sample is not trained with, but tried
NUMBERS = range(2**15, 2**31)  # those that zstd leaves to its users


@dataclass(frozen=True, slots=True)
class _Named:
    """What is known of any dictionary.

    Attributes:
        number: What it is called: 4 bytes.
        trained: When it was trained [µs since 1970].
        samples: On how many chunks.
    """

    number: bytes
    trained: int
    samples: int

    @property
    def name(self) -> str:
        """What people and error messages call it."""
        return self.number.hex()

    @property
    def trained_at(self) -> datetime:
        """When it was trained, in UTC."""
        return datetime.fromtimestamp(self.trained / 1e6, UTC)


@dataclass(frozen=True, slots=True)
class Dictionary(_Named):
    """One dictionary.

    Attributes:
        key: What chunks that are packed with it begin with: 8 bytes.
        data: What zstd takes.
    """

    key: bytes = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """How large it is [bytes]."""
        return len(self.data)

    def retired(self) -> RetiredDictionary:
        """Return the form in which it is stored when nothing is to be packed with it any more."""
        check = blake2b(self.data, digest_size=_HASH_BYTES).digest()
        sealed = _mixed(check + self.data, self.key, self.number)
        return RetiredDictionary(self.number, self.trained, self.samples, sealed)


@dataclass(frozen=True, slots=True)
class RetiredDictionary(_Named):
    """One that can be opened only with its key, which stands in chunks that are packed with it.

    Attributes:
        sealed: What is encrypted.
    """

    sealed: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """How large the dictionary in it is [bytes]."""
        return len(self.sealed) - _HASH_BYTES

    def opened(self, key: bytes) -> Dictionary | None:
        """Return the dictionary in it; None if this isn't its key."""
        clear = _mixed(self.sealed, key, self.number)
        check, data = clear[:_HASH_BYTES], clear[_HASH_BYTES:]
        if blake2b(data, digest_size=_HASH_BYTES).digest() != check:
            return None
        return Dictionary(self.number, self.trained, self.samples, key, data)


def _mixed(data: bytes, key: bytes, number: bytes) -> bytes:
    """Encrypt or decrypt, with a stream that is used for nothing else."""
    secret = pbkdf2_hmac("sha256", key, number, _ROUNDS)
    stream = shake_256(secret).digest(len(data))
    both = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return both.to_bytes(len(data), "big")


def payload_of(dictionary: Dictionary | RetiredDictionary) -> Payload:
    """Return the content of a dictionary's chunk."""
    content: dict[str, object] = {
        "v": _VERSION,
        "number": dictionary.number,
        "trained": dictionary.trained,
        "samples": dictionary.samples,
    }
    if isinstance(dictionary, Dictionary):
        content |= {"key": dictionary.key, "data": dictionary.data}
    else:
        content["sealed"] = dictionary.sealed
    return Payload(Kind.DICTIONARY, ormsgpack.packb(content))


def dictionary_of(payload: Payload) -> Dictionary | RetiredDictionary:
    """Return the dictionary in a chunk.

    Raises:
        CorruptData: There is none.
    """
    kind, data = payload
    if kind is not Kind.DICTIONARY or len(data) > 2 * LARGEST:
        raise CorruptData("a chunk stands in a dictionary's place and is none")
    try:
        content = ormsgpack.unpackb(data)
        if content["v"] != _VERSION:
            raise CorruptData(f"a dictionary has the format {content['v']!r:.20}: update langcairn")
        number, trained, samples = content["number"], content["trained"], content["samples"]
        if (
            _is_bytes(number, _NUMBER_BYTES)
            and type(trained) is type(samples) is int
            and 0 <= trained < 2**53
        ):
            if "sealed" in content and _is_bytes(content["sealed"]):
                return RetiredDictionary(number, trained, samples, content["sealed"])
            if _is_bytes(content["key"], _KEY_BYTES) and _is_bytes(content["data"]):
                return Dictionary(number, trained, samples, content["key"], content["data"])
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptData(f"a dictionary is malformed: {error}") from error
    raise CorruptData("a dictionary is malformed")


def _is_bytes(value: object, length: int | None = None) -> bool:
    return type(value) is bytes and length in (None, len(value))


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training.

    Attributes:
        dictionary: The dictionary; None: none could be made.
        refusal: Why not, or why it is not worth keeping; empty if it is.
        samples: How many chunks it was trained and tried on.
        before: What those that were held back take as they are packed now [bytes].
        after: What they take with it [bytes].
    """

    dictionary: Dictionary | None
    refusal: str
    samples: int
    before: int = 0
    after: int = 0


def train(format: ChunkFormat, samples: Sequence[Payload], size: int, least_gain: float) -> Trained:
    """Train a dictionary on four fifths of the samples, and try it on the others.

    This computes, for some seconds.

    Args:
        format: How chunks are packed without it, and with the newest one that there is.
        samples: Chunks, in no order.
        size: How large it may get; less content gives a smaller one [bytes].
        least_gain: The part of the bytes that it must save of what chunks take now.
    """
    count = len(samples)
    learnt: list[bytes | bytearray | memoryview[int]] = [
        one.data for number, one in enumerate(samples) if number % _HELD_OUT
    ]
    tried = samples[::_HELD_OUT]
    size = min(size, sum(map(len, learnt)) // _CONTENT)
    if count < FEWEST or size < SMALLEST:
        return Trained(None, f"{count} chunks of a suitable size are too few to learn from", count)
    number = NUMBERS.start + secrets.randbelow(len(NUMBERS))
    try:
        data = zstandard.train_dictionary(
            size, learnt, dict_id=number, level=format.level
        ).as_bytes()
    except zstandard.ZstdError as error:
        return Trained(None, f"zstd finds nothing in common in {count} chunks: {error}", count)
    newest = max((one.trained for one in format.dictionaries), default=0)
    # Also after a clock was set back the newest is the newest.
    dictionary = Dictionary(
        number.to_bytes(_NUMBER_BYTES, "big"),
        max(time.time_ns() // 1000, newest + 1),
        len(learnt),
        secrets.token_bytes(_KEY_BYTES),
        data,
    )
    packer = Packer(dictionary, format.level)
    before = sum(len(format.seal(one)) for one in tried)
    after = sum(min(len(packer.pack(one.data)), len(one.data)) + 2 for one in tried)
    refusal = ""
    if after > before * (1 - least_gain):
        saved = 1 - after / before
        refusal = f"it would save {saved:.0%} of what chunks take now, less than {least_gain:.0%}"
    return Trained(dictionary, refusal, count, before, after)
