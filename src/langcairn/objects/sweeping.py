"""Removing packs that nothing refers to, and merging those of which little is left.

A pack may be removed when no pointer refers to it and none ever will again. The second is what
the epoch is for: after it was raised, no move can put pointers in that was begun before, and one
that begins later stores a pack of its own. So packs are listed, then the epoch is raised, then
pointers are looked at, and what was listed and isn't referred to is deleted. No clock is needed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import (
    ChunkId,
    FetchChunks,
    FindOldChunks,
    FoundCheckpoint,
    Remove,
)
from langcairn.errors import CorruptData, StoreError
from langcairn.objects.local import UNFINISHED
from langcairn.objects.moving import Moved, Overtaken, Packer, Place, newest_of
from langcairn.objects.packs import HEAD_BYTES, CutHead, Pointer, folder, owner
from langcairn.objects.reading import pointers_in, resolve
from langcairn.objects.requests import (
    Below,
    DeleteObjects,
    GetRanges,
    ListObjects,
    StoredObject,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from langcairn.objects.settings import ObjectStorage

_logger = logging.getLogger(__name__)

_CHUNKS = 500  # [chunks looked at at a time]
_EVERY_EPOCH = 2**63 - 1
# So many packs may be small before they are merged: a conversation that is read comes from few.
_MOST_SMALL = 2

_Links = dict[str, dict[ChunkId, Pointer]]
"""Names of packs to what the database has in them."""


def sweep(
    settings: ObjectStorage,
    at: Place,
    *,
    leave: bool = True,
    merge: bool = True,
    fence: int | None = None,
) -> Generator[Any, Any, Moved]:
    """Remove an execution's packs that nothing refers to; merge small and half empty ones.

    Args:
        settings: What is small.
        at: The execution.
        leave: Whether to leave young objects alone, that may belong to a move under way.
        merge: Whether to merge.
        fence: The token of the caller's lease, if it isn't added to his requests anyway.

    Raises:
        LeaseHeld: Another one has a lease, so nothing may be removed now.
        CorruptData: A pointer is damaged, so nothing can be said. Nothing was removed.
    """
    newest: list[FoundCheckpoint] = []
    if merge:
        newest = yield newest_of(at.execution_id)
    listed: list[StoredObject] = yield ListObjects(folder(at.store, at.execution_id))
    if not listed:
        return Moved()
    links = yield from _links(at)
    done = Moved()
    left: set[str] = set()  # what was merged into others
    if newest:
        poor = _poor(settings, listed, links)
        if poor:
            done = yield from _merge(settings, at, newest[0].epoch, poor, links)
            left = set(poor) if done.packs else set()
    latest = settings.latest()
    unlinked = [
        one.path
        for one in listed
        if one.path not in links and (not leave or one.modified <= latest)
    ]
    removed = yield from _remove(at, [*unlinked, *left], fence)
    return done._replace(removed=removed)


def _links(at: Place) -> Generator[Any, Any, _Links]:
    """Return what the database has in which packs."""
    links: _Links = {}
    ids: list[ChunkId] = yield Below(FindOldChunks(at.execution_id, _EVERY_EPOCH))
    for start in range(0, len(ids), _CHUNKS):
        part = ids[start : start + _CHUNKS]
        stored: dict[ChunkId, bytes] = yield Below(FetchChunks(at.execution_id, part))
        for id, pointer in pointers_in(stored).items():
            links.setdefault(pointer.pack_path(at.execution_id), {})[id] = pointer
    return links


def _remove(at: Place, candidates: Sequence[str], fence: int | None) -> Generator[Any, Any, int]:
    """Delete the objects among some listed ones that nothing refers to, nor ever will."""
    if not candidates:
        return 0
    # Not below what adds tokens of leases to requests.
    epoch: int | None = yield Remove(at.execution_id, (), fence)
    links: _Links = {}
    if epoch is not None:
        links = yield from _links(at)
    garbage = [path for path in candidates if path not in links]
    if garbage:
        yield DeleteObjects(garbage)
    return len(garbage)


def _poor(settings: ObjectStorage, listed: Sequence[StoredObject], links: _Links) -> list[str]:
    """Return the packs to be merged, the oldest first."""
    small: list[str] = []
    wasteful = False
    room = 2 * settings.pack_bytes  # all is in memory at once
    for one in sorted(listed, key=lambda one: (one.modified, one.path)):
        live = sum(pointer.length for pointer in links.get(one.path, {}).values())
        if 0 < live < settings.pack_bytes // 2 and live <= room:
            small.append(one.path)
            room -= live
            wasteful = wasteful or one.size > 2 * live + HEAD_BYTES
    return small if wasteful or len(small) > _MOST_SMALL else []


def _merge(
    settings: ObjectStorage, at: Place, epoch: int, poor: Sequence[str], links: _Links
) -> Generator[Any, Any, Moved]:
    """Put what is left of packs into new ones. Does nothing if that can't be done now."""
    pointers = {id: pointer for path in poor for id, pointer in _in_order(links[path])}
    try:
        data = yield from resolve(at.where, at.execution_id, pointers, None)
        packer = Packer(settings, at, epoch)
        for id, pointer in pointers.items():
            if id in data:
                yield from packer.add(id, pointer.dump(), data[id])
        yield from packer.finish()
    except Overtaken:
        return Moved()
    except CorruptData as error:
        # Reading it gives the error to whoever can do something about it.
        _logger.warning("packs of %r were not merged: %s", at.execution_id, error)
        return Moved()
    return packer.moved


def _in_order(linked: dict[ChunkId, Pointer]) -> list[tuple[ChunkId, Pointer]]:
    return sorted(linked.items(), key=lambda item: item[1].offset)


def sweep_stray(
    settings: ObjectStorage, where: str, store: bytes, place: str
) -> Generator[Any, Any, Moved]:
    """Sweep a folder of which it isn't known to which execution it belongs."""
    listed: list[StoredObject] = yield ListObjects(place)
    for one in listed:
        execution_id = yield from _owner(one.path)
        if execution_id is not None and folder(store, execution_id) == place:
            return (yield from sweep(settings, Place(where, store, execution_id), merge=False))
    latest = settings.latest()
    # Of uploads to a local folder that were interrupted. Nothing ever refers to one.
    unfinished = [
        one.path for one in listed if one.path.endswith(UNFINISHED) and one.modified <= latest
    ]
    if unfinished:
        yield DeleteObjects(unfinished)
    if len(unfinished) < len(listed):
        _logger.warning("%s of %s holds nothing that langcairn knows; it is left", place, where)
    return Moved(removed=len(unfinished))


def _owner(path: str) -> Generator[Any, Any, str | None]:
    """Return the execution that a pack says it belongs to."""
    needed = HEAD_BYTES
    for _ in range(2):
        (outcome,) = yield GetRanges([(path, [(0, needed)])])
        if isinstance(outcome, StoreError):
            raise outcome
        if isinstance(outcome, Exception):
            return None  # gone
        try:
            return owner(outcome[0])
        except CutHead as cut:
            needed = cut.needed
        except CorruptData:
            return None
    return None
