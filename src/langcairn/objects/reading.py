"""Reading chunks, wherever they are: from the database, or through pointers from packs."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import FetchChunks
from langcairn.errors import CorruptData, MissingChunks, StoreUnavailable
from langcairn.objects.packs import POINTER, Pointer, parse_pointer
from langcairn.objects.requests import Below, GetRanges, ListObjects, ObjectMissing, StoredObject

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from langcairn.backends.base import ChunkId
    from langcairn.objects.requests import Ranges

    Found = Generator[Any, Any, dict[ChunkId, bytes]]

# What a request costs in time is worth about a megabyte of transfer.
_GAP = 512 << 10  # [bytes] that are read along rather than asking twice
# Packs are merged now and then; whoever reads looks again where the chunk has gone.
_ATTEMPTS = 5


class Recent:
    """What was read from packs last, within a budget. Under a pointer nothing ever changes.

    Args:
        limit: The budget [bytes].
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._lock = threading.Lock()
        self._data: OrderedDict[tuple[str, Pointer], bytes] = OrderedDict()

    def get(self, execution_id: str, pointer: Pointer) -> bytes | None:
        """Return what is behind a pointer of an execution, if it is remembered."""
        key = execution_id, pointer
        with self._lock:
            data = self._data.get(key)
            if data is not None:
                self._data.move_to_end(key)
            return data

    def add(self, execution_id: str, pointer: Pointer, data: bytes) -> None:
        """Remember what is behind a pointer of an execution."""
        key = execution_id, pointer
        if len(data) > self._limit // 4:
            return  # it would push out all that is small
        with self._lock:
            if key not in self._data:
                self._data[key] = data
                self._total += len(data)
            while self._total > self._limit:
                _, dropped = self._data.popitem(last=False)
                self._total -= len(dropped)

    def forget(self, execution_id: str) -> None:
        """Forget an execution."""
        with self._lock:
            for key in [key for key in self._data if key[0] == execution_id]:
                self._total -= len(self._data.pop(key))


def pointers_in(stored: dict[ChunkId, bytes]) -> dict[ChunkId, Pointer]:
    """Return the pointers among chunks as they are stored.

    Raises:
        CorruptData: One is damaged.
    """
    return {id: parse_pointer(id, data) for id, data in stored.items() if data.startswith(POINTER)}


def fetch(where: str, request: FetchChunks, recent: Recent) -> Found:
    """Read chunks.

    Args:
        where: What to call the object store.
        request: Which.
        recent: What was read last.

    Returns:
        Those that exist, id to data.

    Raises:
        CorruptData: A pack is cut, or holds other bytes than were put there.
        MissingChunks: A pack isn't there.
        StoreUnavailable: The object store can't be reached, and is needed.
    """
    stored: dict[ChunkId, bytes] = yield Below(request)
    pointers = pointers_in(stored)
    for _ in range(_ATTEMPTS):
        if not pointers:
            return stored
        found = yield from resolve(where, request.execution_id, pointers, recent)
        stored.update(found)
        lost = {id: pointer for id, pointer in pointers.items() if id not in found}
        if not lost:
            return stored
        # Their pack is gone. Perhaps it was merged with others, or the chunks were removed.
        again: dict[ChunkId, bytes] = yield Below(FetchChunks(request.execution_id, sorted(lost)))
        for id in lost:
            del stored[id]
        stored.update(again)
        pointers = pointers_in(again)
        if pointers == lost:
            break
    id, pointer = next(iter(pointers.items()))
    raise MissingChunks(
        f"chunk {id} of execution {request.execution_id!r} was moved to pack "
        f"{pointer.pack_path(request.execution_id)} of {where}, and the pack is not there: it was "
        "deleted by something other than langcairn. No state was returned."
    )


def resolve(
    where: str, execution_id: str, pointers: dict[ChunkId, Pointer], recent: Recent | None
) -> Found:
    """Read what is behind pointers; what is in packs that aren't there is left out.

    Raises:
        CorruptData: A pack is cut, or holds other bytes than were put there.
        StoreUnavailable: The object store can't be reached.
    """
    found: dict[ChunkId, bytes] = {}
    wanted: dict[str, list[tuple[ChunkId, Pointer]]] = {}
    for id, pointer in pointers.items():
        known = None if recent is None else recent.get(execution_id, pointer)
        if known is None:
            wanted.setdefault(pointer.pack_path(execution_id), []).append((id, pointer))
        else:
            found[id] = known
    if not wanted:
        return found
    parts = [(path, merged(pointer for _, pointer in wanted[path])) for path in wanted]
    outcomes: Sequence[list[bytes] | Exception] = yield GetRanges(parts)
    for (path, ranges), outcome in zip(parts, outcomes, strict=True):
        if isinstance(outcome, ObjectMissing):
            continue
        if isinstance(outcome, Exception):
            raise outcome
        if sum(map(len, outcome)) != sum(end - start for start, end in ranges):
            yield from _cut(where, execution_id, path, ranges[-1][1])
        for id, pointer in wanted[path]:
            found[id] = _taken(where, execution_id, id, pointer, ranges, outcome)
            if recent is not None:
                recent.add(execution_id, pointer, found[id])
    return found


def _taken(
    where: str,
    execution_id: str,
    id: ChunkId,
    pointer: Pointer,
    ranges: Ranges,
    read: Sequence[bytes],
) -> bytes:
    """Return a chunk from the range of its pack that it is in.

    Raises:
        CorruptData: It isn't what was put there.
    """
    place = bisect_right(ranges, pointer.offset, key=lambda ends: ends[0]) - 1
    at = pointer.offset - ranges[place][0]
    chunk = read[place][at : at + pointer.length]
    if not pointer.check(id, chunk):
        raise CorruptData(
            f"chunk {id} of execution {execution_id!r} is damaged in pack "
            f"{pointer.pack_path(execution_id)} of {where}, {pointer.length} bytes at "
            f"{pointer.offset}"
        )
    return chunk


def merged(pointers: Iterable[Pointer]) -> list[tuple[int, int]]:
    """Return the ranges of a pack to read for some of its chunks, few rather than exact."""
    ranges: list[tuple[int, int]] = []
    for pointer in sorted(pointers, key=lambda pointer: pointer.offset):
        if ranges and pointer.offset - ranges[-1][1] <= _GAP:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], pointer.end)
        else:
            ranges.append((pointer.offset, pointer.end))
    return ranges


def _cut(where: str, execution_id: str, path: str, end: int) -> Generator[Any, Any, None]:
    """Raise what it is when fewer bytes came than were asked for."""
    listed: list[StoredObject] = yield ListObjects(path.rpartition("/")[0] + "/")
    size = next((one.size for one in listed if one.path == path), 0)
    if size < end:
        raise CorruptData(
            f"pack {path} of {where} is cut: it has {size:,} bytes, and a chunk of execution "
            f"{execution_id!r} ends at {end:,}"
        )
    raise StoreUnavailable(f"{where} sent too little of object {path}; it may work again")
