"""Dictionaries of a store: finding, keeping and using them, and what is seen of their place.

They are chunks of the execution `RESERVED`. Chunks name the dictionary that they are packed with,
so a store that meets an unknown one reads all that are new to it, and then goes on: `seen` does
that for whoever fetches chunks, and hides the reserved execution. A store without dictionaries is
asked nothing more than before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from langcairn.backends.base import (
    RESERVED,
    ChunkId,
    Commit,
    FetchChunks,
    FindExecutions,
    FindOldChunks,
    Request,
    Rewrite,
    Survey,
    Surveyed,
)
from langcairn.backends.measures import Measure, Measured, MeasureExecutions, Stored
from langcairn.codec.chunks import Kind, Payload
from langcairn.codec.dictionaries import (
    LARGEST,
    SMALLEST,
    Trained,
    dictionary_of,
    payload_of,
)
from langcairn.errors import CorruptData, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.operations import Operation

_EVER = 2**62  # later than every epoch
# Each takes memory in every process that reads what is packed with it.
MOST = 64  # [dictionaries in a store]
_AT_ONCE = 16  # [dictionaries read at a time]
_EXECUTIONS = 1000  # [execution ids read at a time]
_MOST_EXECUTIONS = 100_000  # [execution ids looked at for a sample]
_LONGEST = 16 * 1024  # [bytes] of a sample
_SHORTEST = 32  # [bytes] of a sample
_MOST_CONTENT = 32 * 2**20  # [bytes] of all samples
_CHUNKS = 200  # [chunks repacked or sampled at a time]


# What the layers above see


def seen(format: ChunkFormat, request: Request) -> Operation[object] | None:
    """Return the steps to what is to be seen of an answer; None: the answer as it is.

    Args:
        format: What learns the dictionaries of chunks that are fetched.
        request: What is asked.
    """
    steps = _SEEN.get(type(request))
    return None if steps is None else steps(format, request)


def _fetched(format: ChunkFormat, fetch: FetchChunks) -> Operation[dict[ChunkId, bytes]]:
    chunks: dict[ChunkId, bytes] = yield fetch
    if format.lacks(chunks.values()):
        yield from load(format)
    return chunks


def _behind(_: ChunkFormat, request: FindExecutions | MeasureExecutions) -> Operation[object]:
    """Begin behind the reserved execution, before which there is none."""
    return (yield request._replace(after=max(request.after, RESERVED)))


def _measured(_: ChunkFormat, measure: Measure) -> Operation[Measured]:
    measured: Measured = yield measure
    own: list[tuple[str, Stored]] = yield MeasureExecutions(ids=[RESERVED])
    if not own:
        return measured
    stored, (_id, taken) = measured.stored, own[0]
    return measured._replace(
        executions=max(measured.executions - 1, 0),
        stored=stored._replace(
            chunks=max(stored.chunks - taken.chunks, 0), bytes=max(stored.bytes - taken.bytes, 0)
        ),
    )


def _surveyed(_: ChunkFormat, survey: Survey) -> Operation[Surveyed]:
    surveyed: Surveyed = yield survey
    return surveyed._replace(executions=[id for id in surveyed.executions if id != RESERVED])


_SEEN: dict[type, Callable[[ChunkFormat, Any], Operation[object]]] = {
    FetchChunks: _fetched,
    FindExecutions: _behind,
    MeasureExecutions: _behind,
    Measure: _measured,
    Survey: _surveyed,
}


def load(format: ChunkFormat) -> Operation[None]:
    """Learn the dictionaries of a store that aren't known yet.

    What is damaged is noted in ``format.damaged``: what needs it can't be read, the rest can.
    """
    namer = format.namer(RESERVED)
    known = {namer(payload_of(one)) for one in format.dictionaries}
    ids: list[ChunkId] = yield FindOldChunks(RESERVED, _EVER)
    new = [id for id in ids if id not in known]
    damaged: dict[ChunkId, str] = {}
    for start in range(0, min(len(new), 2 * MOST), _AT_ONCE):
        chunks: dict[ChunkId, bytes] = yield FetchChunks(RESERVED, new[start : start + _AT_ONCE])
        for id, sealed in chunks.items():
            try:
                format.learn(dictionary_of(format.unseal(id, sealed)))
            except CorruptData as error:
                damaged[id] = f"dictionary {id} can't be used: {error}"
    format.damaged = damaged


@dataclass(frozen=True, slots=True)
class DictionaryInfo:
    """What may be said of a dictionary; what is in it are pieces of anybody's texts.

    Attributes:
        name: What error messages call it.
        trained_at: When it was trained, in UTC.
        samples: On how many chunks.
        size: How large it is [bytes].
    """

    name: str
    trained_at: datetime
    samples: int
    size: int


def dictionaries(format: ChunkFormat) -> Operation[list[DictionaryInfo]]:
    """Return the dictionaries of a store, the newest last.

    Raises:
        CorruptData: One is damaged.
    """
    yield from load(format)
    if format.damaged:
        raise CorruptData("; ".join(format.damaged.values()))
    return [
        DictionaryInfo(one.name, one.trained_at, one.samples, len(one.data))
        for one in format.dictionaries
    ]


# Training


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training has brought.

    Attributes:
        refusal: Why no dictionary was stored; empty if one was.
        samples: How many chunks were looked at.
        bytes_before: What those take that were held back from the training, as chunks are packed
            without the new dictionary [bytes].
        bytes_after: What they take with it [bytes].
        name: What the dictionary is called; None: none was stored.
        size: How large it is [bytes]; 0: none was stored.
        trained_at: When; None: none was stored.
    """

    refusal: str
    samples: int
    bytes_before: int
    bytes_after: int
    name: str | None = None
    size: int = 0
    trained_at: datetime | None = None

    @property
    def stored(self) -> bool:
        """Whether a dictionary was stored."""
        return not self.refusal

    @property
    def ratio(self) -> float | None:
        """The bytes with the dictionary as a part of those without; None: nothing was tried."""
        return self.bytes_after / self.bytes_before if self.bytes_before else None


def check_training(samples: object, size: object, least_gain: object) -> None:
    """Check the arguments of a training.

    Raises:
        InvalidInput: One can't be used.
    """
    if type(samples) is not int or not 100 <= samples <= 100_000:
        raise InvalidInput(f"samples={samples!r}: from 100 to 100,000 chunks")
    if type(size) is not int or not SMALLEST <= size <= LARGEST:
        raise InvalidInput(f"size={size!r}: from {SMALLEST:,} to {LARGEST:,} bytes")
    if type(least_gain) not in (int, float) or not 0 <= least_gain < 1:  # type: ignore[operator]  # a number by now
        raise InvalidInput(f"least_gain={least_gain!r}: a part of the bytes, from 0 to below 1")


def gather_samples(
    format: ChunkFormat, count: int, executions: Sequence[str] | None
) -> Operation[list[Payload]]:
    """Return chunks of a store at random: values, no pages, and none that is long.

    Each execution gives about as many as any other, as far as it has them.

    Args:
        format: How chunks are stored.
        count: The most to return.
        executions: Only chunks of these; None: of any.
    """
    yield from load(format)  # what is gained must be gained over the newest one
    chance = random.SystemRandom()
    ids = list(executions) if executions is not None else (yield from _some_executions())
    chance.shuffle(ids)
    samples: list[Payload] = []
    held = 0
    for number, execution_id in enumerate(ids):
        # What is left to get, from as many executions as are left: two for one that suits.
        share = 2 * -(-(count - len(samples)) // (len(ids) - number))
        chunks: list[ChunkId] = yield FindOldChunks(execution_id, _EVER)
        chosen = chance.sample(chunks, min(len(chunks), max(share, 8)))
        for start in range(0, len(chosen), _CHUNKS):
            fetch = FetchChunks(execution_id, chosen[start : start + _CHUNKS])
            found: dict[ChunkId, bytes] = yield fetch
            for id, sealed in found.items():
                payload = _opened(format, id, sealed)
                if payload is not None and _suits(payload):
                    samples.append(payload)
                    held += len(payload.data)
        if len(samples) >= count or held >= _MOST_CONTENT:
            break
    chance.shuffle(samples)
    return samples[:count]


def _some_executions() -> Operation[list[str]]:
    ids: list[str] = []
    while len(ids) < _MOST_EXECUTIONS:
        after = ids[-1] if ids else RESERVED
        page: list[str] = yield FindExecutions(after, _EXECUTIONS)
        ids += page
        if len(page) < _EXECUTIONS:
            break
    return ids


def _opened(format: ChunkFormat, id: ChunkId, sealed: bytes) -> Payload | None:
    """Return a chunk's content; None if it is damaged, which `verify` is there to find."""
    try:
        return format.unseal(id, sealed)
    except CorruptData:
        return None


def _suits(payload: Payload) -> bool:
    # A page is ids, which are random, or small values.
    return payload.kind is not Kind.PAGE and _SHORTEST <= len(payload.data) <= _LONGEST


def keep(format: ChunkFormat, trained: Trained) -> Operation[TrainingReport]:
    """Store a dictionary that is worth it, and use it from now on."""
    dictionary, refusal = trained.dictionary, trained.refusal
    if len(format.dictionaries) >= MOST:
        refusal = (
            f"the store has {len(format.dictionaries)} dictionaries, the most that it may have; "
            "langcairn.migrate moves it into a new one, which begins with none"
        )
    figures = trained.samples, trained.before, trained.after
    if dictionary is None or refusal:
        return TrainingReport(refusal, *figures)
    payload = payload_of(dictionary)
    sealed = format.seal(payload)
    yield Commit(RESERVED, None, [(format.namer(RESERVED)(payload), sealed)])
    format.learn(dictionary)
    return TrainingReport(
        "", *figures, dictionary.name, len(dictionary.data), dictionary.trained_at
    )


# Packing anew


class Repacked(NamedTuple):
    """What was packed anew with the newest dictionary."""

    executions: int
    """How many executions were looked at."""
    chunks: int
    """How many chunks were packed anew."""
    bytes_before: int
    """What these took [bytes]."""
    bytes_after: int
    """What they take now [bytes]."""
    after: str | None
    """The last execution that was looked at, from which to go on; None: there are no more."""


def repack(format: ChunkFormat, after: str, limit: int | None) -> Operation[Repacked]:
    """Pack chunks with the newest dictionary where that makes them smaller.

    Damaged ones are left as they are. What is packed stays so, so after an interruption it may
    simply be run again. Readers and writers go on meanwhile.

    Args:
        format: How chunks are stored.
        after: Only executions behind this one.
        limit: Stop after the execution with which so many chunks were packed anew; None: never.
    """
    if limit is not None and limit < 1:
        raise InvalidInput(f"limit={limit}: a number of chunks from 1, or None for all")
    yield from load(format)
    done = Repacked(0, 0, 0, 0, None)
    place = max(after, RESERVED)
    if not format.dictionaries:
        return done
    while True:
        page: list[str] = yield FindExecutions(place, _CHUNKS)
        for place in page:
            done = yield from _repack_execution(format, place, done)
            if limit is not None and done.chunks >= limit:
                return done._replace(after=place)
        if len(page) < _CHUNKS:
            return done


def _repack_execution(
    format: ChunkFormat, execution_id: str, done: Repacked
) -> Operation[Repacked]:
    ids: list[ChunkId] = yield FindOldChunks(execution_id, _EVER)
    chunks = before = after = 0
    for start in range(0, len(ids), _CHUNKS):
        found: dict[ChunkId, bytes] = yield FetchChunks(execution_id, ids[start : start + _CHUNKS])
        changes = []
        for id, sealed in found.items():
            again = _repacked(format, id, sealed)
            if again is not None:
                changes.append((id, again))
                before += len(sealed)
                after += len(again)
        if changes:
            yield Rewrite(execution_id, changes)
            chunks += len(changes)
    return Repacked(
        done.executions + 1,
        done.chunks + chunks,
        done.bytes_before + before,
        done.bytes_after + after,
        None,
    )


def _repacked(format: ChunkFormat, id: ChunkId, sealed: bytes) -> bytes | None:
    try:
        return format.repacked(id, sealed)
    except CorruptData:
        return None
