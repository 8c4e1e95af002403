"""Dictionaries of a store: finding, keeping and using them, and what is seen of their place.

They are chunks of the execution `RESERVED`. Chunks begin with the key of the dictionary that they
are packed with, so a store that meets an unknown one reads all that are new to it, and then goes
on: `seen` does that for whoever fetches chunks, and hides the reserved execution. A store without
dictionaries is asked nothing more than before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import (
    RESERVED,
    ChunkId,
    Commit,
    FetchChunks,
    FindExecutions,
    FindOldChunks,
    Request,
    Survey,
    Surveyed,
)
from langcairn.backends.measures import Measure, Measured, MeasureExecutions, Stored
from langcairn.codec.chunks import Kind, Payload
from langcairn.codec.dictionaries import (
    LARGEST,
    SMALLEST,
    Dictionary,
    RetiredDictionary,
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
_ATTEMPTS = 20  # as each is thwarted only by somebody else's retirement
# Each takes memory in every process that reads what is packed with it.
MOST = 64  # [dictionaries in a store]
_AT_ONCE = 16  # [dictionaries read at a time]
_EXECUTIONS = 1000  # [execution ids read at a time]
_MOST_EXECUTIONS = 100_000  # [execution ids looked at for a sample]
_LONGEST = 16 * 1024  # [bytes] of a sample
_SHORTEST = 32  # [bytes] of a sample
_MOST_CONTENT = 32 * 2**20  # [bytes] of all samples
_CHUNKS = 200  # [chunks sampled at a time]


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
    if format.lacking(chunks.values()):
        yield from load(format)
        for key in format.lacking(chunks.values()):
            _open(format, key)
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
    """Learn the dictionaries of a store that aren't known yet, and which are retired.

    What is damaged is noted in ``format.damaged``: what needs it can't be read, the rest can.
    """
    for _ in range(_ATTEMPTS):
        # Before they are listed: what another thread stores meanwhile isn't gone.
        known = set(format.stored)
        ids: list[ChunkId] = yield FindOldChunks(RESERVED, _EVER)
        for id in known.difference(ids):
            _forget(format, id)
        new = [id for id in ids if id not in format.stored][: 2 * MOST]
        damaged: dict[ChunkId, str] = {}
        there = 0
        for start in range(0, len(new), _AT_ONCE):
            fetch = FetchChunks(RESERVED, new[start : start + _AT_ONCE])
            chunks: dict[ChunkId, bytes] = yield fetch
            there += len(chunks)
            for id, sealed in chunks.items():
                try:
                    _note(format, id, dictionary_of(format.unseal(id, sealed)))
                except CorruptData as error:
                    damaged[id] = f"dictionary {id} can't be used: {error}"
        format.damaged = damaged
        if there == len(new):
            return
        # One was retired in between, and is stored under another id by now.


def _note(format: ChunkFormat, id: ChunkId, dictionary: Dictionary | RetiredDictionary) -> None:
    if isinstance(dictionary, Dictionary):
        format.learn(dictionary)
    format.stored[id] = dictionary


def _forget(format: ChunkFormat, id: ChunkId) -> None:
    """Pack nothing any more with what isn't stored under this id any more."""
    gone = format.stored.pop(id, None)
    if isinstance(gone, Dictionary):
        format.give_up(gone.key)


def _open(format: ChunkFormat, key: bytes) -> None:
    """Learn a retired dictionary by the key in a chunk that is packed with it."""
    for one in list(format.stored.values()):
        dictionary = one.opened(key) if isinstance(one, RetiredDictionary) else None
        if dictionary is not None:
            format.give_up(key)
            format.learn(dictionary)
            return


@dataclass(frozen=True, slots=True)
class DictionaryInfo:
    """What may be said of a dictionary; what is in it are pieces of anybody's texts.

    Attributes:
        name: What error messages call it.
        trained_at: When it was trained, in UTC.
        samples: On how many chunks.
        size: How large it is [bytes].
        retired: Whether nothing is to be packed with it any more.
    """

    name: str
    trained_at: datetime
    samples: int
    size: int
    retired: bool = False


def dictionaries(format: ChunkFormat) -> Operation[list[DictionaryInfo]]:
    """Return the dictionaries of a store, the newest last.

    Raises:
        CorruptData: One is damaged.
    """
    yield from load(format)
    if format.damaged:
        raise CorruptData("; ".join(format.damaged.values()))
    # While one is being retired, both of its forms are there.
    known = {one.name: one for one in sorted(format.stored.values(), key=_is_active)}
    return [
        DictionaryInfo(one.name, one.trained_at, one.samples, one.size, not _is_active(one))
        for one in sorted(known.values(), key=lambda one: one.trained)
    ]


def _is_active(dictionary: Dictionary | RetiredDictionary) -> bool:
    return isinstance(dictionary, Dictionary)


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
    there = len(format.stored)
    if there >= MOST:
        refusal = (
            f"the store has {there} dictionaries, with those that are retired, the most that it "
            "may have; langcairn.migrate moves it into a new one, which begins with none"
        )
    figures = trained.samples, trained.before, trained.after
    if dictionary is None or refusal:
        return TrainingReport(refusal, *figures)
    yield from put_away(format, dictionary)
    return TrainingReport(
        "", *figures, dictionary.name, len(dictionary.data), dictionary.trained_at
    )


def put_away(format: ChunkFormat, dictionary: Dictionary | RetiredDictionary) -> Operation[None]:
    """Store a dictionary, in either form, and use it from now on."""
    payload = payload_of(dictionary)
    id = format.namer(RESERVED)(payload)
    yield Commit(RESERVED, None, [(id, format.seal(payload))])
    _note(format, id, dictionary)
