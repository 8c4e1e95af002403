"""The requests that change something, as entries of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from langcairn.backends.base import Commit, Move, Remove, Rewrite, Sweep, next_epoch
from langcairn.backends.file.layout import (
    CommitEntry,
    RemoveEntry,
    SweepEntry,
    microseconds,
    pack_checkpoint,
    pack_write,
    seal,
)
from langcairn.errors import CairnError, CorruptData, StaleEpoch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langcairn.backends.base import CheckpointRow, Request, WriteRow
    from langcairn.backends.file.index import Span, StoredCheckpoint, StoredChunk, StoredWrite
    from langcairn.backends.file.layout import Entry
    from langcairn.backends.file.log import Log

    StoredT = TypeVar("StoredT", StoredCheckpoint, StoredWrite, StoredChunk)
    RowT = TypeVar("RowT", CheckpointRow, WriteRow, bytes)


class Transaction:
    """Requests to one execution that are answered in turn and become one frame.

    Each sees what those before it did: entries go into the log's index at once. The caller holds
    the log's locks.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._entries: list[Entry] = []
        self._blobs: list[bytes] = []
        self._data_at = log.data_at

    def run(self, requests: Sequence[Request]) -> list[object]:
        """Answer requests, and append what they change to the log, without syncing it.

        Returns:
            For each its answer, or the error with which it failed alone.

        Raises:
            OSError: Nothing was kept.
        """
        self._log.usable = False  # until the file holds what the index does
        outcomes = [self._outcome(request) for request in requests]
        if self._entries:
            self._log.append(self._entries, self._blobs)
        self._log.usable = True
        return outcomes

    def _outcome(self, request: Request) -> object:
        try:
            match request:
                case Commit():
                    return self._commit(request)
                case Remove():
                    return self._remove(request)
                case Sweep():
                    return self._sweep(request)
                case Rewrite():
                    self._rewrite(request)
                    return None
                case Move():
                    return self._move(request)
            raise TypeError(type(request).__name__)
        except CairnError as error:
            return error

    def _add(self, entry: Entry, blobs: Sequence[bytes] = ()) -> None:
        self._log.index.apply([entry], self._data_at)
        self._entries.append(entry)
        self._blobs += blobs
        self._data_at += sum(map(len, blobs))

    def _commit(self, commit: Commit) -> int:
        index = self._log.index
        if commit.epoch is not None and commit.epoch != index.epoch:
            raise StaleEpoch(f"execution {commit.execution_id!r} has left epoch {commit.epoch}")
        entry = CommitEntry.of(index.epoch or next_epoch())
        if self._replaces(commit):
            entry = CommitEntry.of(next_epoch(index.epoch))
        blobs = [
            *self._chunks(commit, entry),
            *self._checkpoints(commit, entry),
            *self._writes(commit, entry),
        ]
        if blobs or entry.again or not index.epoch:
            self._add(entry, blobs)
        return entry.epoch

    def _replaces(self, commit: Commit) -> bool:
        """Tell whether a commit replaces a state or value, whose references then are gone."""
        return any(map(self._replaces_checkpoint, commit.checkpoints)) or any(
            map(self._replaces_write, commit.writes)
        )

    def _replaces_checkpoint(self, row: CheckpointRow) -> bool:
        stored = self._log.index.checkpoint(row.namespace, row.id)
        if stored is None:
            return False
        try:
            return self._is_new(stored.span) or self._log.checkpoint(stored).state != row.state
        except CorruptData:
            return True  # what is damaged may be replaced

    def _replaces_write(self, row: WriteRow) -> bool:
        stored = self._log.index.write((row.namespace, row.checkpoint_id, row.task_id, row.idx))
        if stored is None or row.idx >= 0:
            return False
        try:
            return self._is_new(stored.span) or self._log.write(stored).value != row.value
        except CorruptData:
            return True  # as above

    def _is_new(self, span: Span) -> bool:
        """Tell whether something is in the frame being made, and so can't be read yet."""
        return span.offset >= self._log.data_at

    # Each of these notes its part of a commit in the entry and yields the blobs for it.

    def _chunks(self, commit: Commit, entry: CommitEntry) -> Iterator[bytes]:
        stored = self._log.index.chunks
        for id, data in dict(commit.chunks).items():
            if id not in stored:
                blob = seal(data)
                entry.chunks.append((id, len(blob)))
                yield blob
            elif stored[id].epoch < entry.epoch:
                entry.again.append(id)

    def _checkpoints(self, commit: Commit, entry: CommitEntry) -> Iterator[bytes]:
        for (namespace, id), row in {(r.namespace, r.id): r for r in commit.checkpoints}.items():
            blob = seal(pack_checkpoint(row))
            entry.checkpoints.append((namespace, id, microseconds(row.timestamp), len(blob)))
            yield blob

    def _writes(self, commit: Commit, entry: CommitEntry) -> Iterator[bytes]:
        new: dict[tuple[str, str, str, int], WriteRow] = {}
        for row in commit.writes:
            key = (row.namespace, row.checkpoint_id, row.task_id, row.idx)
            if row.idx < 0 or (key not in self._log.index and key not in new):
                new[key] = row
        for key, row in new.items():
            blob = seal(pack_write(row))
            entry.writes.append((*key, len(blob)))
            yield blob

    def _remove(self, remove: Remove) -> int | None:
        epoch = self._log.index.epoch
        if not epoch:
            return None
        entry = RemoveEntry(next_epoch(epoch), list(remove.checkpoints))
        self._add(entry)
        return entry.epoch

    def _rewrite(self, rewrite: Rewrite) -> None:
        index = self._log.index
        entry = CommitEntry.of(index.epoch)
        blobs: list[bytes] = []
        for id, data in dict(rewrite.chunks).items():
            if id in index.chunks:
                blobs.append(seal(data))
                entry.chunks.append((id, len(blobs[-1])))
        for old, new in rewrite.checkpoints:
            stored = index.checkpoint(old.namespace, old.id)
            if stored is not None and self._holds(stored, self._log.checkpoint, old):
                blobs.append(seal(pack_checkpoint(new)))
                moment = microseconds(new.timestamp)
                entry.checkpoints.append((old.namespace, old.id, moment, len(blobs[-1])))
        for before, after in rewrite.writes:
            key = (before.namespace, before.checkpoint_id, before.task_id, before.idx)
            found = index.write(key)
            if found is not None and self._holds(found, self._log.write, before):
                blobs.append(seal(pack_write(after)))
                entry.writes.append((*key, len(blobs[-1])))
        if blobs:
            self._add(entry, blobs)

    def _move(self, move: Move) -> bool:
        index = self._log.index
        if not index.epoch or index.epoch != move.epoch:
            return False
        entry = CommitEntry.of(index.epoch)
        blobs: list[bytes] = []
        for id, (old, new) in {id: data for id, *data in move.chunks}.items():
            stored = index.chunks.get(id)
            if stored is not None and self._holds(stored, self._log.chunk, old):
                blobs.append(seal(new))
                entry.chunks.append((id, len(blobs[-1])))
        if blobs:
            self._add(entry, blobs)
        return True

    def _holds(self, stored: StoredT, read: Callable[[StoredT], RowT], row: RowT) -> bool:
        """Tell whether a row is stored as it was read; one of this very frame is newer."""
        try:
            return not self._is_new(stored.span) and read(stored) == row
        except CorruptData:
            return False

    def _sweep(self, sweep: Sweep) -> bool:
        index = self._log.index
        if not index.epoch or index.epoch != sweep.epoch:
            return False
        chunks = ((id, index.chunks.get(id)) for id in dict.fromkeys(sweep.chunks))
        gone = [id for id, chunk in chunks if chunk is not None and chunk.epoch < sweep.epoch]
        if gone:
            self._add(SweepEntry(list(gone)))
        return True
