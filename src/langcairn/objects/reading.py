"""Reading chunks, wherever they are: from the database, or through pointers from packs."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import FetchChunks
from langcairn.codec.chunks import POINTER
from langcairn.errors import CorruptData, MissingChunks, StoreUnavailable
from langcairn.objects.packs import Pointer, parse_pointer
from langcairn.objects.requests import Below, GetRanges, ListObjects, ObjectMissing, StoredObject

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from langcairn.backends.base import ChunkId
    from langcairn.objects.requests import Ranges

    Found = Generator[Any, Any, dict[ChunkId, bytes]]

# A request takes as long as the transfer of so much, about. So much is read along with what is
# asked for, on both sides: what lies beside it in a pack is mostly asked for next.
_ALONG = 512 << 10  # [bytes]
# Packs are merged now and then; whoever reads looks again where the chunk has gone.
_ATTEMPTS = 5


class Recent:
    """What was read from packs last, within a budget. Packs never change.

    Args:
        limit: The budget [bytes].
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._lock = threading.Lock()
        self._parts: OrderedDict[str, list[tuple[int, bytes]]] = OrderedDict()
        """By pack: where a part begins, and the part."""

    def find(self, execution_id: str, pointers: dict[ChunkId, Pointer]) -> dict[ChunkId, bytes]:
        """Return those of an execution's chunks that are remembered."""
        found: dict[ChunkId, bytes] = {}
        for id, pointer in pointers.items():
            data = self._get(pointer.pack_path(execution_id), pointer)
            # What was read along with something else was never checked.
            if data is not None and pointer.check(id, data):
                found[id] = data
        return found

    def _get(self, path: str, pointer: Pointer) -> bytes | None:
        with self._lock:
            for start, data in self._parts.get(path, ()):
                if start <= pointer.offset and pointer.end <= start + len(data):
                    self._parts.move_to_end(path)
                    return data[pointer.offset - start : pointer.end - start]
        return None

    def add(self, path: str, ranges: Ranges, read: Sequence[bytes]) -> None:
        """Remember what was read from a pack."""
        for (start, _), data in zip(ranges, read, strict=True):
            self._add(path, start, data)

    def _add(self, path: str, start: int, data: bytes) -> None:
        with self._lock:
            parts = self._parts.setdefault(path, [])
            self._parts.move_to_end(path)
            end = start + len(data)
            inside = [part for part in parts if start <= part[0] <= part[0] + len(part[1]) <= end]
            for part in inside:
                parts.remove(part)
            parts.append((start, data))
            self._total += len(data) - sum(len(part) for _, part in inside)
            while self._total > self._limit:
                _, dropped = self._parts.popitem(last=False)
                self._total -= sum(len(part) for _, part in dropped)

    def forget(self, beginning: str) -> None:
        """Forget the packs whose names begin so."""
        with self._lock:
            for path in [path for path in self._parts if path.startswith(beginning)]:
                self._total -= sum(len(part) for _, part in self._parts.pop(path))


def pointers_in(stored: dict[ChunkId, bytes]) -> dict[ChunkId, Pointer]:
    """Return the pointers among chunks as they are stored.

    Raises:
        CorruptData: One is damaged.
    """
    return {id: parse_pointer(id, data) for id, data in stored.items() if data.startswith(POINTER)}


def fetch(where: str, request: FetchChunks, recent: Recent | None) -> Found:
    """Read chunks.

    Args:
        where: What to call the object store.
        request: Which.
        recent: What was read last; None: nothing is remembered.

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
    found = {} if recent is None else recent.find(execution_id, pointers)
    lacking = [item for item in pointers.items() if item[0] not in found]
    if not lacking:
        return found
    wanted: dict[str, list[tuple[ChunkId, Pointer]]] = {}
    for id, pointer in lacking:
        wanted.setdefault(pointer.pack_path(execution_id), []).append((id, pointer))
    along = 0 if recent is None else _ALONG
    parts = [(path, merged((pointer for _, pointer in wanted[path]), along)) for path in wanted]
    outcomes: Sequence[list[bytes] | Exception] = yield GetRanges(parts)
    for (path, ranges), outcome in zip(parts, outcomes, strict=True):
        if isinstance(outcome, Exception):
            if isinstance(outcome, ObjectMissing):
                continue
            raise outcome
        for id, pointer in wanted[path]:
            found[id] = chunk = _part_of(pointer, ranges, outcome)
            if not pointer.check(id, chunk):
                yield from _report(where, execution_id, id, pointer, len(chunk))
        if recent is not None:
            recent.add(path, ranges, outcome)
    return found


def _part_of(pointer: Pointer, ranges: Ranges, read: Sequence[bytes]) -> bytes:
    """Return what a pointer is to from the ranges of its pack."""
    number = bisect_right(ranges, pointer.offset, key=lambda ends: ends[0]) - 1
    at = pointer.offset - ranges[number][0]
    return read[number][at : at + pointer.length]


def merged(pointers: Iterable[Pointer], along: int) -> list[tuple[int, int]]:
    """Return the ranges of a pack to read for some of its chunks, few rather than exact.

    Args:
        pointers: To the chunks.
        along: How much to read with them on both sides [bytes]; the pack may end before.
    """
    ranges: list[tuple[int, int]] = []
    for pointer in sorted(pointers, key=lambda pointer: pointer.offset):
        start, end = max(pointer.offset - along, 0), pointer.end + along
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], end)
        else:
            ranges.append((start, end))
    return ranges


def _report(
    where: str, execution_id: str, id: ChunkId, pointer: Pointer, came: int
) -> Generator[Any, Any, None]:
    """Raise what it is when other bytes came than were put there."""
    path = pointer.pack_path(execution_id)
    if came == pointer.length:
        raise CorruptData(
            f"chunk {id} of execution {execution_id!r} is damaged in pack {path} of {where}: its "
            f"{came:,} bytes at {pointer.offset:,} are not those that were put there"
        )
    listed: list[StoredObject] = yield ListObjects(path.rpartition("/")[0] + "/")
    size = next((one.size for one in listed if one.path == path), 0)
    if size < pointer.end:
        raise CorruptData(
            f"pack {path} of {where} is cut: it has {size:,} bytes, and chunk {id} of execution "
            f"{execution_id!r} ends at {pointer.end:,}"
        )
    raise StoreUnavailable(f"{where} sent too little of object {path}; it may work again")
