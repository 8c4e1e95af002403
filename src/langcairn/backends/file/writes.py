"""The requests that change something, as entries of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from langcairn.backends.base import (
    AcquireLease,
    Commit,
    Move,
    ReleaseLease,
    Remove,
    RenewLease,
    Rewrite,
    Sweep,
    next_epoch,
)
from langcairn.backends.conditions import (
    Deadline,
    acquired,
    check_commit,
    check_fence,
    ended,
    is_valid,
    renewed,
)
from langcairn.backends.file.layout import (
    CommitEntry,
    LeaseEntry,
    PreparedEntry,
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


class Frame:
    """Requests to one execution that are answered in turn and become one frame.

    Each sees what those before it did: entries go into the log's index at once. The caller holds
    the log's locks.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._entries: list[Entry] = []
        self._blobs: list[bytes] = []
        self._versions: dict[tuple[str, str], int] = {}  # of what can't be read yet
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
            return _HANDLERS[type(request)](self, request)
        except CairnError as error:
            return error

    def _add(self, entry: Entry, blobs: Sequence[bytes] = ()) -> None:
        self._log.index.apply([entry], self._data_at)
        self._entries.append(entry)
        self._blobs += blobs
        self._data_at += sum(map(len, blobs))

    def prepare(self, commit: Commit, transaction: str) -> int:
        """Make a commit that is a part of a transaction of several executions, in the index only.

        Returns:
            Its answer.

        Raises:
            CairnError: It is refused, and the log is of no more use.
        """
        self._log.usable = False
        self._add(PreparedEntry(transaction))
        return self._commit(commit)

    def append(self) -> None:
        """Append what was prepared to the log, without syncing it.

        Raises:
            OSError: Nothing was kept.
        """
        self._log.append(self._entries, self._blobs)

    def _commit(self, commit: Commit) -> int:
        index = self._log.index
        expired = self._check(commit)
        if expired or commit.removals:
            # What can't be stored must show before anything is changed.
            for row in commit.checkpoints:
                pack_checkpoint(row)
            for write in commit.writes:
                pack_write(write)
        if expired:
            self._end_lease()
        epoch = index.epoch or next_epoch()
        if commit.removals:
            epoch = next_epoch(index.epoch)
            self._add(RemoveEntry(epoch, list(commit.removals)))
        entry = CommitEntry.of(epoch)
        if self._replaces(commit):
            entry = CommitEntry.of(next_epoch(epoch))
        blobs = [
            *self._chunks(commit, entry),
            *self._checkpoints(commit, entry),
            *self._writes(commit, entry),
        ]
        if blobs or entry.again or not index.epoch:
            self._add(entry, blobs)
        return entry.epoch

    def _check(self, commit: Commit) -> bool:
        """Refuse a commit whose conditions aren't met. Returns whether a lease is to be ended."""
        index = self._log.index
        expired = check_fence(commit.execution_id, index.lease.now(), commit.fence)
        if commit.epoch is not None and commit.epoch != index.epoch:
            raise StaleEpoch(f"execution {commit.execution_id!r} has left epoch {commit.epoch}")
        if commit.is_conditional:
            check_commit(commit, self)
        return expired

    def version(self, namespace: str, id: str) -> int | None:
        """Return the version of a checkpoint; None if there is none.

        Raises:
            CorruptData: It can't be read.
        """
        stored = self._log.index.checkpoint(namespace, id)
        if stored is None:
            return None
        if not self._is_new(stored.span):
            return self._log.checkpoint(stored).version
        return self._versions[namespace, id]

    def newest(self, namespace: str) -> str | None:
        """Return the highest id of a namespace's checkpoints."""
        return self._log.index.newest(namespace)

    def holds(self, row: CheckpointRow) -> bool:  # noqa: ARG002 -- see conditions.Stored
        """Return False: no commit comes again, as what isn't acknowledged here wasn't made."""
        return False

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
        self._versions.update(((row.namespace, row.id), row.version) for row in commit.checkpoints)
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
        index = self._log.index
        expired = check_fence(remove.execution_id, index.lease.now(), remove.fence)
        if not index.epoch:
            return None
        if expired:
            self._end_lease()
        entry = RemoveEntry(next_epoch(index.epoch), list(remove.checkpoints))
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

    def _acquire(self, request: AcquireLease) -> int:
        index = self._log.index
        lease = acquired(index.lease.now(), request)
        if not index.epoch:
            self._add(CommitEntry.of(next_epoch()))
        self._add(LeaseEntry._make(Deadline.of(lease)))
        return lease.token

    def _renew(self, request: RenewLease) -> None:
        lease = renewed(self._log.index.lease.now(), request)
        self._add(LeaseEntry._make(Deadline.of(lease)))

    def _release(self, request: ReleaseLease) -> bool:
        if not is_valid(self._log.index.lease.now(), request.token):
            return False
        self._end_lease()
        return True

    def _end_lease(self) -> None:
        over = Deadline.of(ended(self._log.index.lease.now()))
        self._add(LeaseEntry._make(over))


_HANDLERS: dict[type, Callable[[Frame, Any], object]] = {
    Commit: Frame._commit,  # noqa: SLF001 -- of this module, as are those below
    Remove: Frame._remove,  # noqa: SLF001
    Sweep: Frame._sweep,  # noqa: SLF001
    Rewrite: Frame._rewrite,  # noqa: SLF001
    Move: Frame._move,  # noqa: SLF001
    AcquireLease: Frame._acquire,  # noqa: SLF001
    RenewLease: Frame._renew,  # noqa: SLF001
    ReleaseLease: Frame._release,  # noqa: SLF001
}
"""Not bound to a frame: it would be in a circle of references, and keep its log open."""
