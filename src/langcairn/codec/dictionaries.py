"""Dictionaries: what the short texts of a store have in common, for zstd to refer to.

Stored format, version 1. A dictionary is a chunk of its own kind, in the execution
`langcairn.backends.base.RESERVED`; its payload is msgpack of a map::

    v        1
    number   what chunks name it by: 4 bytes, not all zero
    trained  when [µs since 1970]
    samples  on how many chunks
    data     a zstd dictionary

Dictionaries are never changed and never removed: chunks may need them for ever.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import ormsgpack
import zstandard

from langcairn.codec.chunks import Kind, Packer, Payload
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langcairn.codec.chunks import ChunkFormat

_VERSION = 1
_KEY_BYTES = 4
LARGEST = 2**20  # [bytes] of a dictionary
SMALLEST = 1024  # [bytes]
# zstd's own advice is a hundred times the dictionary; with less than ten it is learnt by heart.
_CONTENT = 10
FEWEST = 100  # [samples]
_HELD_OUT = 5  # every fifth sample is not trained with, but tried
NUMBERS = range(2**15, 2**31)  # those that zstd leaves to its users


@dataclass(frozen=True, slots=True)
class Dictionary:
    """One dictionary.

    Attributes:
        key: What chunks name it by: 4 bytes.
        trained: When it was trained [µs since 1970].
        samples: On how many chunks.
        data: What zstd takes.
    """

    key: bytes
    trained: int
    samples: int
    data: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """What error messages call it."""
        return self.key.hex()

    @property
    def trained_at(self) -> datetime:
        """When it was trained, in UTC."""
        return datetime.fromtimestamp(self.trained / 1e6, UTC)


def payload_of(dictionary: Dictionary) -> Payload:
    """Return the content of a dictionary's chunk."""
    content = {
        "v": _VERSION,
        "number": dictionary.key,
        "trained": dictionary.trained,
        "samples": dictionary.samples,
        "data": dictionary.data,
    }
    return Payload(Kind.DICTIONARY, ormsgpack.packb(content))


def dictionary_of(payload: Payload) -> Dictionary:
    """Return the dictionary in a chunk.

    Raises:
        CorruptData: There is none.
    """
    kind, data = payload
    if kind is not Kind.DICTIONARY or len(data) > 2 * LARGEST:
        raise CorruptData("a chunk stands in a dictionary's place and is none")
    try:
        content = ormsgpack.unpackb(data)
        key, trained, samples = content["number"], content["trained"], content["samples"]
        if content["v"] != _VERSION:
            raise CorruptData(f"a dictionary has the format {content['v']!r:.20}: update langcairn")
        if (
            type(key) is bytes
            and len(key) == _KEY_BYTES
            and type(trained) is type(samples) is int
            and 0 <= trained < 2**53
            and type(content["data"]) is bytes
        ):
            return Dictionary(key, trained, samples, content["data"])
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptData(f"a dictionary is malformed: {error}") from error
    raise CorruptData("a dictionary is malformed")


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
    key = _new_key(one.key for one in format.dictionaries)
    try:
        data = zstandard.train_dictionary(
            size, learnt, dict_id=int.from_bytes(key, "big"), level=format.level
        ).as_bytes()
    except zstandard.ZstdError as error:
        return Trained(None, f"zstd finds nothing in common in {count} chunks: {error}", count)
    newest = max((one.trained for one in format.dictionaries), default=0)
    # Also after a clock was set back the newest is the newest.
    dictionary = Dictionary(key, max(time.time_ns() // 1000, newest + 1), len(learnt), data)
    packer = Packer(dictionary, format.level)
    before = sum(len(format.seal(one)) for one in tried)
    after = sum(min(len(packer.pack(one.data)), len(one.data)) + 2 for one in tried)
    refusal = ""
    if after > before * (1 - least_gain):
        saved = 1 - after / before
        refusal = f"it would save {saved:.0%} of what chunks take now, less than {least_gain:.0%}"
    return Trained(dictionary, refusal, count, before, after)


def _new_key(taken: Iterable[bytes]) -> bytes:
    known = set(taken)
    while True:
        number = NUMBERS.start + secrets.randbelow(len(NUMBERS))
        key = number.to_bytes(_KEY_BYTES, "big")
        if key not in known:
            return key
