"""Writing a log anew, without what is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langcairn.backends.conditions import NO_LEASE
from langcairn.backends.file.layout import CommitEntry, LeaseEntry
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.file.index import Index, Span
    from langcairn.backends.file.layout import Entry
    from langcairn.backends.file.log import Log

_FRAME = 1 << 20
"""About the size of the data in one frame, which is held in memory. [bytes]"""


def frames_of(log: Log) -> Iterator[tuple[Entry, list[bytes]]]:
    """Yield entry and blobs for each of the frames that hold what is live in a log.

    Blobs are copied as they are, with their checks: what is damaged stays so, and is found by
    whoever reads it.
    """
    entry = CommitEntry.of(log.index.epoch)
    blobs: list[bytes] = []
    size = 0
    for epoch, field, row, span in _live(log.index):
        if epoch != entry.epoch or size >= _FRAME:
            if blobs:
                yield entry, blobs
            entry, blobs, size = CommitEntry.of(epoch), [], 0
        getattr(entry, field).append(row)
        blobs.append(_blob(log, span))
        size += span.size
    yield entry, blobs
    if entry.epoch != log.index.epoch:
        yield CommitEntry.of(log.index.epoch), []
    if log.index.lease != NO_LEASE:
        yield LeaseEntry._make(log.index.lease), []


def _live(index: Index) -> Iterator[tuple[int, str, tuple[Any, ...], Span]]:
    """Yield epoch, list in the entry, row in it and place of everything, by ascending epochs."""
    chunks = sorted(index.chunks.items(), key=lambda item: (item[1].epoch, item[1].span.offset))
    for id, chunk in chunks:
        yield chunk.epoch, "chunks", (id, chunk.span.size), chunk.span
    for stored in index.checkpoints():
        row = (stored.namespace, stored.id, stored.timestamp, stored.span.size)
        yield index.epoch, "checkpoints", row, stored.span
    for write in index.writes():
        yield index.epoch, "writes", (*write.key, write.span.size), write.span


def _blob(log: Log, span: Span) -> bytes:
    blob = log.file.read(*span)
    if len(blob) != span.size:
        raise CorruptData(f"{log.path} ends before offset {span.offset + span.size}")
    return blob
