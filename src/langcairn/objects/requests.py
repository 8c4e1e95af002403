"""What an object store can be asked. Operations yield these beside the requests for a backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from langcairn.backends.base import Request


class Below(NamedTuple):
    """A request for the database itself, which answers with what is stored there: also pointers.

    Everything that stands before the tiers passes it on as it is.
    """

    request: Request


class PutObject(NamedTuple):
    """Store an object whose name is new, whole or not at all. Answer: None."""

    path: str
    data: bytes


class GetObject(NamedTuple):
    """Read a whole object. Answer: bytes.

    Raises:
        ObjectMissing: There is none.
    """

    path: str


Ranges = Sequence[tuple[int, int]]
"""Of an object: where each begins, and the byte behind it."""


class GetRanges(NamedTuple):
    """Read ranges of objects, all at once.

    Answer: for each object a list of bytes, or the error that its reading ended with. A range that
    ends behind the end of its object is cut there.
    """

    parts: Sequence[tuple[str, Ranges]]
    """Names, and the ranges to read."""


class ListObjects(NamedTuple):
    """Find objects whose names begin with a folder. Answer: a list of `StoredObject`."""

    folder: str


class ListFolders(NamedTuple):
    """Find the folders in a folder. Answer: a list of names, each with the ``/`` at its end."""

    folder: str


class DeleteObjects(NamedTuple):
    """Delete objects; those that aren't there are fine. Answer: None."""

    paths: Sequence[str]


class StoredObject(NamedTuple):
    """An object that is there."""

    path: str
    size: int
    modified: datetime


ObjectRequest = PutObject | GetObject | GetRanges | ListObjects | ListFolders | DeleteObjects


class ObjectMissing(LookupError):
    """There is no object of this name, though the store is there and answers."""
