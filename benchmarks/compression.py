"""What chunks take with zstd alone and with a dictionary, on text as conversations hold it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.corpus import KINDS, conversation
from benchmarks.targets import Target, Verdict
from langcairn.codec.chunks import DEFAULT_LEVEL, ChunkFormat, Kind, Payload, chunk_id
from langcairn.codec.dictionaries import train
from langcairn.codec.serde import SafeSerializer
from langcairn.codec.tree import Encoder
from langcairn.compressing import DEFAULT_SAMPLES, DEFAULT_SIZE, LEAST_GAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.codec.dictionaries import Dictionary

COMPRESSION = "compression"
"""What `--only` calls this, beside the parts."""
CONVERSATIONS = "conversations"
LEVELS = (1, 3, 9, 19)
TARGET = Target(CONVERSATIONS, "dictionary", "bytes_with_dictionary", 0.6, "zstd alone")
_TURNS = 8


@dataclass(frozen=True)
class Packed:
    """How one kind of text is packed at one level.

    Attributes:
        text: The kind.
        level: Of zstd's.
        dictionary: Whether with one.
        bytes: What the chunks take.
        seal: How long it takes to pack one [s], the mean.
        unseal: How long it takes to open and check one [s], the mean.
    """

    text: str
    level: int
    dictionary: bool
    bytes: int
    seal: float
    unseal: float


@dataclass(frozen=True)
class CompressionResult:
    """What was measured.

    Attributes:
        trained_on: How many chunks of other conversations the dictionary was trained on.
        dictionary_bytes: How large it is.
        chunks: How many chunks of each kind were packed.
        serialized: What they are before that [bytes].
        packed: How they were packed.
    """

    trained_on: int
    dictionary_bytes: int
    quick: bool
    chunks: dict[str, int] = field(default_factory=dict)
    serialized: dict[str, int] = field(default_factory=dict)
    packed: list[Packed] = field(default_factory=list)

    def find(self, text: str, level: int, *, dictionary: bool) -> Packed:
        """Return how a text is packed at a level."""
        wanted = text, level, dictionary
        return next(one for one in self.packed if (one.text, one.level, one.dictionary) == wanted)

    def ratio(self, text: str, level: int = DEFAULT_LEVEL) -> float:
        """Return the bytes with a dictionary as a part of those without, at one level."""
        with_it = self.find(text, level, dictionary=True)
        return with_it.bytes / self.find(text, level, dictionary=False).bytes

    def judged(self) -> dict[str, Verdict]:
        """Judge the figures; those of a quick run say nothing."""
        return {} if self.quick else {CONVERSATIONS: Verdict(TARGET, self.ratio(CONVERSATIONS))}


def compression_steps() -> int:
    """Say how often `measure_compression` advances."""
    return (1 + len(KINDS)) * len(LEVELS)


def measure_compression(
    rounds: int, advance: Callable[[], None], *, quick: bool
) -> CompressionResult:
    """Train a dictionary on conversations, and pack others with and without it."""
    count = 30 if quick else 250
    learnt = _chunks_of_conversations("learnt", count)
    random.Random("order").shuffle(learnt)
    trained = train(ChunkFormat(), learnt[:DEFAULT_SAMPLES], DEFAULT_SIZE, LEAST_GAIN)
    if trained.dictionary is None or trained.refusal:
        raise RuntimeError(f"no dictionary: {trained.refusal}")
    dictionary = trained.dictionary
    result = CompressionResult(dictionary.samples, len(dictionary.data), quick)
    texts = {CONVERSATIONS: _chunks_of_conversations("tried", count // 3)}
    for kind in KINDS:
        source = random.Random(f"tried {kind.name}")
        texts[kind.name] = _chunks([kind.make(source) for _ in range(count)])
    for text, payloads in texts.items():
        result.chunks[text] = len(payloads)
        result.serialized[text] = sum(len(payload.data) for payload in payloads)
        for level in LEVELS:
            for given in (None, dictionary):
                result.packed.append(_pack(text, payloads, level, given, rounds))
            advance()
    return result


def _chunks_of_conversations(seed: str, count: int) -> list[Payload]:
    # Each by itself, as nothing is shared between executions.
    return [
        payload
        for number in range(count)
        for payload in _chunks(conversation(f"{seed} {number}", _TURNS))
    ]


def _chunks(value: Sequence[object]) -> list[Payload]:
    """Return the chunks of a value, without its pages."""
    encoder = Encoder(SafeSerializer())
    encoder.encode(list(value), None, "messages")
    return [payload for payload in encoder.chunks.values() if payload.kind is not Kind.PAGE]


def _pack(
    text: str,
    payloads: Sequence[Payload],
    level: int,
    dictionary: Dictionary | None,
    rounds: int,
) -> Packed:
    format = ChunkFormat(level)
    if dictionary is not None:
        format.learn(dictionary)
    ids = [chunk_id(payload) for payload in payloads]
    sealing, unsealing = [], []
    for _ in range(1 + rounds):
        begin = perf_counter()
        sealed = [format.seal(payload) for payload in payloads]
        sealing.append(perf_counter() - begin)
        begin = perf_counter()
        opened = [format.unseal(id, data) for id, data in zip(ids, sealed, strict=True)]
        unsealing.append(perf_counter() - begin)
        if opened != payloads:
            raise RuntimeError("a chunk is not what was packed")
    return Packed(
        text,
        level,
        dictionary is not None,
        sum(map(len, sealed)),
        median(sealing[1:]) / len(payloads),
        median(unsealing[1:]) / len(payloads),
    )
