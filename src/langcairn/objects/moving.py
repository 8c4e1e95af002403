"""Moving content from the database to packs, and from packs to better ones.

A move reads the execution's epoch, then the chunks; puts a pack into the object store and reads it
back; and only then replaces the chunks in the database by pointers, each if it is still as it was
read, and all only in the same epoch (`Move`). Whoever removes a pack raises the epoch first (see
`langcairn.objects.sweeping`). So a crash or a race leaves a pack that nothing refers to, never a
pointer to what isn't there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from langcairn.backends.base import (
    ChunkId,
    FetchChunks,
    FindCheckpoints,
    FoundCheckpoint,
    Move,
    Position,
)
from langcairn.checks import checked_write
from langcairn.codec.chunks import POINTER
from langcairn.codec.reader import Content, ReadOrder, parse
from langcairn.errors import StoreUnavailable
from langcairn.maintenance import open_pages
from langcairn.objects.packs import PackBuilder
from langcairn.objects.requests import Below, DeleteObjects, GetObject, ObjectMissing, PutObject
from langcairn.records import place

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from datetime import datetime

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.codec.nodes import Node
    from langcairn.objects.settings import ObjectStorage

_logger = logging.getLogger(__name__)

_ROWS = 200  # [rows read at a time]
_CHUNKS = 64  # [chunks read at a time]
_LINKED = 1 << 20  # [bytes of chunks that are replaced in one transaction]


class Overtaken(Exception):
    """The execution was cleaned up meanwhile, so that nothing more may be moved now."""


class Moved(NamedTuple):
    """What a move to object storage has done."""

    executions: int = 0
    """The executions that were looked at."""
    chunks: int = 0
    """The chunks that went from the database to packs."""
    bytes: int = 0
    """Their size."""
    packs: int = 0
    """The packs that were stored, also in place of others."""
    removed: int = 0
    """The objects that nothing referred to any more, and that were deleted."""
    failed: int = 0
    """The executions that were passed over because something in them is damaged; see the log."""

    def plus(self, other: Moved) -> Moved:
        """Return the sums."""
        return Moved(*(mine + its for mine, its in zip(self, other, strict=True)))


class Place(NamedTuple):
    """An execution, and where its packs go."""

    where: str
    """What to call the object store."""
    store: bytes
    execution_id: str


def move(
    settings: ObjectStorage,
    format: ChunkFormat,
    at: Place,
    *,
    since: datetime | None = None,
    large: Collection[ChunkId] | None = None,
) -> Generator[Any, Any, tuple[Moved, datetime | None]]:
    """Move what is old or large of an execution.

    Args:
        settings: What is old or large.
        format: How chunks are stored.
        at: The execution.
        since: Only checkpoints since then are looked at, as those before have been.
        large: Chunks that may be large, if that is known; then no young checkpoint is looked at.

    Returns:
        What was done; and since when checkpoints have to be looked at the next time, or None if
        all of them are old.

    Raises:
        CorruptData: What the execution refers to can't be found out.
        Overtaken: It was cleaned up meanwhile.
    """
    cutoff = settings.cutoff()
    newest: list[FoundCheckpoint] = yield newest_of(at.execution_id)
    if not newest:
        return Moved(executions=1), None
    rest = cutoff if newest[0].row.timestamp >= cutoff else None
    packer = Packer(settings, at, newest[0].epoch)
    content = Content(format)
    old = yield from _referred(content, FindCheckpoints(at.execution_id, since=since, until=cutoff))
    young: Collection[ChunkId] = large or ()
    if large is None:
        young = yield from _referred(content, FindCheckpoints(at.execution_id, since=cutoff))
    ids = list(dict.fromkeys([*young, *old]))
    some_large = False
    for start in range(0, len(ids), _CHUNKS):
        part = ids[start : start + _CHUNKS]
        stored: dict[ChunkId, bytes] = yield Below(FetchChunks(at.execution_id, part))
        for id in part:
            data = stored.get(id, b"")
            least = settings.smaller if id in old else settings.larger
            if len(data) >= max(least, 1) and not data.startswith(POINTER):
                yield from packer.add(id, data, data)
                some_large = some_large or len(data) >= settings.larger
    done = yield from packer.finish(0 if some_large else settings.least_bytes)
    if rest is not None and not done:
        rest = since  # what is too little for a pack is looked at again, with what will be old then
    return packer.moved._replace(executions=1), rest


def newest_of(execution_id: str) -> Below:
    """Return what asks for the newest checkpoint, and with it for the execution's epoch."""
    return Below(FindCheckpoints(execution_id, limit=1, with_writes=False))


def _referred(content: Content, query: FindCheckpoints) -> Generator[Any, Any, dict[ChunkId, None]]:
    """Return the values that checkpoints and their writes refer to, those of the newest first."""
    order = ReadOrder(content.pages)
    query = query._replace(limit=_ROWS)
    while True:
        found: list[FoundCheckpoint] = yield query
        nodes: list[Node] = []
        for row, writes, _ in found:
            nodes.append(parse(row.state, f"the state of {place(row)}"))
            nodes += [parse(checked_write(one), f"a write to {place(row)}") for one in writes]
        if found:
            yield from open_pages(content, found[0].row.execution_id, nodes)
        for node in nodes:
            order.add(node)
        if len(found) < _ROWS:
            return order.values
        last = found[-1].row
        query = query._replace(after=Position(last.id, last.execution_id, last.namespace))


class Packer:
    """Puts chunks of one execution into packs, and pointers in their place.

    Attributes:
        moved: What was done.
    """

    def __init__(self, settings: ObjectStorage, at: Place, epoch: int) -> None:
        self._settings = settings
        self._at = at
        self._epoch = epoch
        self.moved = Moved()
        self._begin()

    def _begin(self) -> None:
        self._pack = PackBuilder(self._at.store, self._at.execution_id)
        self._head = self._pack.size
        self._replaced: dict[ChunkId, bytes] = {}

    def add(self, id: ChunkId, stored: bytes, data: bytes) -> Generator[Any, Any, None]:
        """Add a chunk.

        Args:
            id: Its id.
            stored: What is in the database now.
            data: What goes into the pack.
        """
        self._replaced[id] = stored
        self._pack.add(id, data)
        if self._pack.size >= self._settings.pack_bytes:
            yield from self._store()

    def finish(self, least: int = 0) -> Generator[Any, Any, bool]:
        """Store the last pack, if there is at least so much for it [bytes].

        Returns:
            Whether nothing is left.
        """
        if self._replaced and self._pack.size - self._head >= least:
            yield from self._store()
        return not self._replaced

    def _store(self) -> Generator[Any, Any, None]:
        pack, replaced = self._pack, self._replaced
        self._begin()
        data = pack.data()
        yield PutObject(pack.path, data)
        yield from self._check(pack.path, data)
        part: list[tuple[ChunkId, bytes, bytes]] = []
        size = 0
        for id, stored in replaced.items():
            part.append((id, stored, pack.pointers[id].dump()))
            size += len(stored)
            if size >= _LINKED:
                yield from self._link(part)
                part, size = [], 0
        yield from self._link(part)
        chunks = [stored for stored in replaced.values() if not stored.startswith(POINTER)]
        self.moved = self.moved.plus(
            Moved(chunks=len(chunks), bytes=sum(map(len, chunks)), packs=1)
        )

    def _check(self, path: str, data: bytes) -> Generator[Any, Any, None]:
        """Check that a pack is stored as it is, before anything is taken from the database."""
        try:
            back: bytes = yield GetObject(path)
        except ObjectMissing:
            newest: list[FoundCheckpoint] = yield newest_of(self._at.execution_id)
            if not newest or newest[0].epoch != self._epoch:
                raise Overtaken(self._at.execution_id) from None  # a sweep has taken it
            raise StoreUnavailable(
                f"object {path} of {self._at.where} isn't there after it was stored; its content "
                "stays in the database"
            ) from None
        if back != data:
            yield DeleteObjects([path])
            raise StoreUnavailable(
                f"object {path} of {self._at.where} came back otherwise than it was stored; its "
                "content stays in the database"
            )

    def _link(self, part: list[tuple[ChunkId, bytes, bytes]]) -> Generator[Any, Any, None]:
        if part and not (yield Below(Move(self._at.execution_id, self._epoch, part))):
            # The pack stays, as the answer to a move that was repeated after its connection broke
            # says nothing about the first time. If nothing refers to it, a sweep removes it.
            _logger.debug("execution %r was cleaned up meanwhile", self._at.execution_id)
            raise Overtaken(self._at.execution_id)
