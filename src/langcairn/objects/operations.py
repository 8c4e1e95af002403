"""What the store and the background do with object storage, as operations."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import FindExecutions
from langcairn.errors import Conflict, CorruptData, StoreError
from langcairn.objects.moving import Moved, Overtaken, Place, move
from langcairn.objects.naming import known_name, make_name
from langcairn.objects.packs import folder
from langcairn.objects.requests import ListFolders, ListObjects
from langcairn.objects.sweeping import sweep, sweep_stray

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator
    from datetime import datetime

    from langcairn.backends.base import ChunkId, Clear
    from langcairn.codec.chunks import ChunkFormat
    from langcairn.objects.reading import Recent
    from langcairn.objects.requests import StoredObject
    from langcairn.objects.settings import ObjectStorage

_logger = logging.getLogger(__name__)

_EXECUTIONS = 100  # [executions asked for at a time]


def move_all(
    settings: ObjectStorage,
    format: ChunkFormat,
    where: str,
    progress: Callable[[str, Moved], None] | None,
) -> Generator[Any, Any, Moved]:
    """Move what is old or large of all executions, and remove what nothing refers to.

    Raises:
        StoreUnavailable: Something can't be reached. What was moved is moved.
    """
    store = yield from make_name()
    # Before executions are asked for: who has packs by now and isn't found then, is gone.
    folders: list[str] = yield ListFolders(f"{store.hex()}/")
    left = dict.fromkeys(folders)
    done = Moved()
    after = ""
    while True:
        executions: list[str] = yield FindExecutions(after, limit=_EXECUTIONS)
        for execution_id in executions:
            at = Place(where, store, execution_id)
            name = folder(store, execution_id)
            done = done.plus((yield from _one(settings, format, at, packed=name in left)))
            left.pop(name, None)
            if progress is not None:
                progress(execution_id, done)
        if len(executions) < _EXECUTIONS:
            break
        after = executions[-1]
    for name in left:
        done = done.plus((yield from sweep_stray(settings, where, store, name)))
    return done


def move_one(
    settings: ObjectStorage, format: ChunkFormat, where: str, execution_id: str
) -> Generator[Any, Any, Moved]:
    """Do as `move_all` for one execution."""
    store = yield from make_name()
    at = Place(where, store, execution_id)
    return (yield from _one(settings, format, at, packed=True))


def _one(
    settings: ObjectStorage, format: ChunkFormat, at: Place, *, packed: bool
) -> Generator[Any, Any, Moved]:
    done = Moved()
    try:
        done, _ = yield from move(settings, format, at)
        if packed or done.packs:
            done = done.plus((yield from sweep(settings, at)))
    except (Overtaken, Conflict):
        # Cleaned up meanwhile, or there is something to remove and another one has the lease.
        return done._replace(executions=1)
    except CorruptData as error:
        _logger.warning("execution %r can't be moved to objects: %s", at.execution_id, error)
        return done._replace(executions=1, failed=1)
    return done


def move_touched(
    settings: ObjectStorage,
    format: ChunkFormat,
    where: str,
    execution_id: str,
    since: datetime,
    large: Collection[ChunkId],
) -> Generator[Any, Any, datetime | None]:
    """Move what is old or large by now of an execution that this process has written to.

    Returns:
        Since when it has to be looked at the next time; None if nothing is left to grow old.
    """
    store = yield from make_name()
    at = Place(where, store, execution_id)
    done, rest = yield from move(settings, format, at, since=since, large=large)
    if done.packs:
        yield from sweep(settings, at)
    return rest


def objects_left(
    settings: ObjectStorage, where: str, execution_id: str
) -> Generator[Any, Any, int]:
    """Remove all objects of an execution that was cleared. Returns how many are left."""
    store = yield from known_name()
    if store is None:
        return 0
    place = folder(store, execution_id)
    listed: list[StoredObject] = yield ListObjects(place)
    if listed:
        yield from sweep(settings, Place(where, store, execution_id), leave=False, merge=False)
        listed = yield ListObjects(place)
    return len(listed)


def clear_objects(
    settings: ObjectStorage, where: str, clear: Clear, recent: Recent | None
) -> Generator[Any, Any, None]:
    """Remove the packs of an execution that was cleared, as far as that can be done now."""
    execution_id = clear.execution_id
    try:
        store = yield from known_name()
        if store is not None:
            if recent is not None:
                recent.forget(folder(store, execution_id))
            at = Place(where, store, execution_id)
            yield from sweep(settings, at, leave=False, merge=False, fence=clear.fence)
    except (StoreError, CorruptData, Conflict) as error:
        # What was asked for is done; what nothing refers to is found by the next sweep.
        _logger.warning(
            "objects of %r, which was cleared, are still there until the next sweep: %s",
            execution_id,
            error,
        )
