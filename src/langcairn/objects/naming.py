"""The name under which a store's packs are, so that stores may share a bucket.

It is random, and stands in the database as the only chunk of an execution that nobody sees. So a
sweep never takes the packs of another store for garbage; and if the name should be lost, packs are
read as before, as pointers hold it, too.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import (
    ChunkId,
    Commit,
    FetchChunks,
    FindExecutions,
    Survey,
    Surveyed,
)
from langcairn.errors import CorruptData
from langcairn.objects.packs import STORE_BYTES
from langcairn.objects.requests import Below

if TYPE_CHECKING:
    from collections.abc import Generator

    from langcairn.backends.measures import Measure, Measured, MeasureExecutions, Stored

# No thread is called so: it begins with a control character.
RESERVED = "\x01langcairn objects"
_NAME = ChunkId("langcairn-objects-name")
_MARK = b"\xcf\x00"  # no kind of chunk, and no pointer


def was_moved() -> Generator[Any, Any, bool]:
    """Tell whether content is in object storage, asked of a store that wasn't told where."""
    found: list[str] = yield FindExecutions(RESERVED[:-1], 1)
    return RESERVED in found


def known_name() -> Generator[Any, Any, bytes | None]:
    """Return the name; None if nothing was ever moved."""
    stored: dict[ChunkId, bytes] = yield Below(FetchChunks(RESERVED, [_NAME]))
    if _NAME not in stored:
        return None
    name = stored[_NAME].removeprefix(_MARK)
    if len(name) != STORE_BYTES:
        raise CorruptData("the name of this store in its object storage is damaged")
    return name


def make_name() -> Generator[Any, Any, bytes]:
    """Return the name, which is made if there is none.

    Where executions expire, it lives on by this as one that is written to.
    """
    fresh = secrets.token_bytes(STORE_BYTES)
    # If it is stored already, that data stays: the first one counts.
    yield Below(Commit(RESERVED, None, [(_NAME, _MARK + fresh)]))
    name = yield from known_name()
    return fresh if name is None else name


def find_executions(find: FindExecutions) -> Generator[Any, Any, list[str]]:
    """Find executions, but not the reserved one."""
    found: list[str] = yield Below(find)
    if RESERVED in found:
        if find.limit is not None:
            found = yield Below(find._replace(limit=find.limit + 1))
        found = [id for id in found if id != RESERVED][: find.limit]
    return found


def survey(request: Survey) -> Generator[Any, Any, Surveyed]:
    """Say what there is by name, but not the reserved execution."""
    found: Surveyed = yield Below(request)
    return found._replace(executions=[id for id in found.executions if id != RESERVED])


def measure(request: Measure) -> Generator[Any, Any, Measured]:
    """Measure the database, but don't count the reserved execution."""
    measured: Measured = yield Below(request)
    if (yield from known_name()) is None:
        return measured
    stored = measured.stored
    return measured._replace(
        executions=max(measured.executions - 1, 0),
        stored=stored._replace(chunks=max(stored.chunks - 1, 0)),
    )


def measure_executions(
    request: MeasureExecutions,
) -> Generator[Any, Any, list[tuple[str, Stored]]]:
    """Measure executions in the database, but not the reserved one."""
    found: list[tuple[str, Stored]] = yield Below(request)
    if any(id == RESERVED for id, _ in found):
        if request.limit is not None:
            found = yield Below(request._replace(limit=request.limit + 1))
        found = [one for one in found if one[0] != RESERVED][: request.limit]
    return found
