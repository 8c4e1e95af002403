"""Packing anew what is stored: with the newest dictionary, or without one that is retired."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.base import (
    RESERVED,
    ChunkId,
    FetchChunks,
    FindExecutions,
    FindOldChunks,
    Remove,
    Rewrite,
    Sweep,
)
from langcairn.codec.dictionaries import Dictionary
from langcairn.dictionaries import load, put_away
from langcairn.errors import CorruptData, InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.operations import Operation

_EVER = 2**62  # later than every epoch
_ATTEMPTS = 20  # as each is thwarted only by somebody else's retirement
_CHUNKS = 200  # [chunks packed anew at a time]
_EXECUTIONS = 1000  # [execution ids read at a time]


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

    def plus(self, other: Repacked) -> Repacked:
        """Return the sums."""
        return Repacked(
            self.executions + other.executions,
            self.chunks + other.chunks,
            self.bytes_before + other.bytes_before,
            self.bytes_after + other.bytes_after,
            other.after,
        )


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
    if not format.dictionaries:
        return Repacked(0, 0, 0, 0, None)
    return (yield from _all(format.repacked, after, limit, None))


def _all(
    anew: Callable[[ChunkId, bytes], bytes | None],
    after: str,
    limit: int | None,
    progress: Callable[[Repacked], object] | None,
) -> Operation[Repacked]:
    """Store chunks in the form that a function returns; None: as they are."""
    done, place = Repacked(0, 0, 0, 0, None), max(after, RESERVED)
    while True:
        page: list[str] = yield FindExecutions(place, _EXECUTIONS)
        for place in page:
            done = done.plus((yield from _one(anew, place)))
            if progress is not None:
                progress(done)
            if limit is not None and done.chunks >= limit:
                return done._replace(after=place)
        if len(page) < _EXECUTIONS:
            return done


def _one(anew: Callable[[ChunkId, bytes], bytes | None], execution_id: str) -> Operation[Repacked]:
    ids: list[ChunkId] = yield FindOldChunks(execution_id, _EVER)
    done = Repacked(1, 0, 0, 0, None)
    for start in range(0, len(ids), _CHUNKS):
        found: dict[ChunkId, bytes] = yield FetchChunks(execution_id, ids[start : start + _CHUNKS])
        changes = []
        for id, sealed in found.items():
            try:
                again = anew(id, sealed)
            except CorruptData:
                continue
            if again is not None:
                changes.append((id, again))
                done = done.plus(Repacked(0, 1, len(sealed), len(again), None))
        if changes:
            yield Rewrite(execution_id, changes)
    return done


def retire(
    format: ChunkFormat, name: str, progress: Callable[[Repacked], object] | None
) -> Operation[Repacked]:
    """Let nothing be packed with a dictionary any more, and pack anew what is.

    Others may pack with it until they learn of it, and commit that whenever they like: it can be
    read, and is packed anew by the next call. There is no moment at which a chunk is stored and
    can't be opened: the form that chunks open by themselves is stored before the other one goes.

    Args:
        format: How chunks are stored.
        name: What the dictionary is called.
        progress: Called after each execution with what was done so far.

    Raises:
        InvalidInput: There is no such dictionary.
        CorruptData: A chunk that is packed with it is damaged. The others are packed anew.
        StoreUnavailable: Others are retiring dictionaries, too.
    """
    yield from load(format)
    # A copy, made in one step: another thread may add one.
    there = [one for one in list(format.stored.values()) if one.name == name]
    if not there:
        raise InvalidInput(f"there is no dictionary {name!r:.40} in this store")
    for dictionary in there:
        if isinstance(dictionary, Dictionary):
            yield from _withdraw(format, dictionary)
    damaged: list[str] = []
    anew = partial(_without, format, name, damaged)
    done = yield from _all(anew, "", None, progress)
    if damaged:
        raise CorruptData(
            f"{len(damaged)} chunks that are packed with dictionary {name} are damaged, so it can "
            f"still be opened: {damaged[0]}. verify() says what they belong to"
        )
    return done


def _without(
    format: ChunkFormat, name: str, damaged: list[str], id: ChunkId, sealed: bytes
) -> bytes | None:
    """Return a chunk packed otherwise; None if it isn't packed with this dictionary."""
    if format.packed_with(sealed) != name:
        return None
    try:
        return format.seal(format.unseal(id, sealed))
    except CorruptData as error:
        damaged.append(str(error))
        return None


def _withdraw(format: ChunkFormat, dictionary: Dictionary) -> Operation[None]:
    """Put the form that only chunks can open in the place of a dictionary."""
    yield from put_away(format, dictionary.retired())
    for _ in range(_ATTEMPTS):
        ids = [id for id, one in list(format.stored.items()) if one == dictionary]
        epoch: int | None = yield Remove(RESERVED, ())
        if epoch is None or (yield Sweep(RESERVED, epoch, ids)):
            yield from load(format)  # which gives it up
            return
    raise StoreUnavailable(
        f"dictionary {dictionary.name} could not be withdrawn: others do the same; try again"
    )
