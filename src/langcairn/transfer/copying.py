"""Copying executions between two stores as they are stored, without decoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from langcairn.checks import checked_graph, checked_write, rechecked, write_with_check
from langcairn.codec.reader import parse
from langcairn.codec.renaming import Renamer
from langcairn.errors import CorruptData, InvalidInput
from langcairn.transfer.placing import Rows, place
from langcairn.transfer.reading import Batches, bytes_of, check_rows, read_execution, walk
from langcairn.transfer.references import blame, unharmed
from langcairn.transfer.reports import Finding

if TYPE_CHECKING:
    from langcairn.backends.base import CheckpointRow, ChunkId
    from langcairn.store import CheckpointStore
    from langcairn.transfer.moving import MigrationReport
    from langcairn.transfer.reading import Snapshot, Sound, Walked
    from langcairn.transfer.running import Steps

_EMPTY = b"{}"


def copy_execution(
    source: CheckpointStore,
    target: CheckpointStore,
    execution_id: str,
    report: MigrationReport,
    *,
    replace: bool = False,
) -> Steps[int | None]:
    """Copy what is sound of an execution, and compare the rows in the target with it.

    Returns the bytes of the source; None if they were not read, as the target has all of it.
    """
    snapshot = yield from read_execution(source, execution_id)
    sound = check_rows(snapshot)
    nodes = [node for part in (sound.rows, sound.writes) for _, nodes in part for node in nodes]
    walked = yield from walk(source, execution_id, nodes)
    copies: list[_Copy] = []

    def chunks() -> _Copy:
        kind = _Copy if _same_ids(source, target, execution_id) else _RenamedCopy
        snapshot.findings[:] = before
        copies.append(kind(source, target, snapshot, sound, walked))
        return copies[-1]

    def rows() -> Steps[Rows]:
        return copies[-1].rows()

    before = list(snapshot.findings)
    there = yield from read_execution(target, execution_id)
    stored = _by_key(there)
    wanted = _by_key(snapshot)
    if wanted and wanted.items() <= stored.items() and not snapshot.findings and not replace:
        # The target's chunks are looked at by whoever asked for the copy.
        report.skipped += len(snapshot.rows)
        report.compared += len(snapshot.rows)
    else:
        placed = yield from place(target, execution_id, chunks, rows, replace=replace)
        wanted = _by_key(snapshot._replace(rows=placed.checkpoints, writes=placed.writes))
        there = yield from read_execution(target, execution_id)
        now = _by_key(there)
        for key in wanted:
            if now.get(key) != wanted[key]:
                what = "the target has another row, or none, in place of it"
                snapshot.findings.append(
                    Finding(execution_id, key[0], key[1], what, "this checkpoint", repairable=False)
                )
        known = sum(stored.get((row.namespace, row.id)) == wanted[row.namespace, row.id]
                    for row in placed.checkpoints)  # fmt: skip
        report.skipped += known
        report.checkpoints += len(placed.checkpoints) - known
        report.writes += len(placed.writes)
        report.chunks += len(walked.live)
        report.compared += len(placed.checkpoints)
    size = sum(copy.size for copy in copies)
    size += bytes_of(snapshot.rows) + bytes_of(snapshot.writes)
    report.bytes += size
    report.findings += snapshot.findings
    return size if copies else None


def _same_ids(source: CheckpointStore, target: CheckpointStore, execution_id: str) -> bool:
    formats = source.codec.format, target.codec.format
    return formats[0].id_key(execution_id) == formats[1].id_key(execution_id)


class _Copy:
    """The chunks of an execution, and then the rows that refer to no bad one."""

    def __init__(
        self,
        source: CheckpointStore,
        target: CheckpointStore,
        snapshot: Snapshot,
        sound: Sound,
        walked: Walked,
    ) -> None:
        ids = sorted(walked.live)
        self._batches = Batches(source, snapshot.execution_id, ids, portable=True)
        self.source = source
        self.target = target
        self.snapshot = snapshot
        self.sound = sound
        self.walked = walked

    @property
    def bad(self) -> dict[ChunkId, str]:
        """Chunks that couldn't be read, and what is wrong with each."""
        return self._batches.bad

    @property
    def size(self) -> int:
        """Bytes of chunks that were read."""
        return self._batches.size

    def next(self) -> Steps[dict[ChunkId, bytes]]:
        """Return the next chunks; an empty dict at the end."""
        return (yield from self._batches.next())

    def rows(self) -> Steps[Rows]:
        """Return the rows that can be read, once all chunks were."""
        yield from ()
        bad = {**self.bad, **self.walked.bad}
        pages = self.walked.pages
        self.snapshot.findings.extend(blame(self.snapshot.execution_id, self.sound, bad, pages))
        return Rows(*unharmed(self.sound, bad, pages))


class _RenamedCopy(_Copy):
    """The same under the ids that the target gives."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._source_format, self._format = self.source.codec.format, self.target.codec.format
        self._name = self._format.namer(self.snapshot.execution_id)
        self._ids: dict[ChunkId, ChunkId] = {}
        self._rows: Rows | None = None

    def next(self) -> Steps[dict[ChunkId, bytes]]:
        """Return the next values, then all pages; an empty dict at the end."""
        while batch := (yield from super().next()):
            if renamed := self._renamed(batch):
                return renamed
        if self._rows is not None:
            return {}
        renamer = Renamer(self.walked.pages, self._ids, self._name)
        rows = yield from super().rows()
        try:
            self._rows = _renamed(rows, renamer)
        except CorruptData as error:
            # No damage of the target's.
            raise InvalidInput(f"the source holds a forged checkpoint: {error}") from error
        return {id: self._format.seal(payload) for id, payload in renamer.made.items()}

    def _renamed(self, batch: dict[ChunkId, bytes]) -> dict[ChunkId, bytes]:
        renamed = {}
        for id, sealed in batch.items():
            if id in self.walked.pages:
                continue
            try:
                payload = self._source_format.unseal(id, sealed)
            except CorruptData as error:  # under a new id, it would look as if it were right
                self.bad[id] = str(error)
                continue
            self._ids[id] = self._name(payload)
            renamed[self._ids[id]] = sealed
        return renamed

    def rows(self) -> Steps[Rows]:
        """Return the rows that can be read, once all chunks were."""
        if self._rows is None:
            yield from self.next()
        return self._rows or Rows([], [])


def _renamed(rows: Rows, renamer: Renamer) -> Rows:
    checkpoints, writes = [], []
    for row in rows.checkpoints:
        graph = checked_graph(row)
        state = orjson.dumps(renamer.rename(parse(row.state, "the state")))
        renamed = row._replace(state=state, graph=graph)
        checkpoints.append(renamed if row.graph == _EMPTY else rechecked(renamed))
    for write in rows.writes:
        node = renamer.rename(parse(checked_write(write), "a pending write"))
        writes.append(write_with_check(write._replace(value=orjson.dumps(node))))
    return Rows(checkpoints, writes)


def _by_key(snapshot: Snapshot) -> dict[tuple[Any, ...], object]:
    """Return what of each row must be equal in two stores, by its key."""
    found: dict[tuple[Any, ...], object] = {
        (row.namespace, row.id): _content(row) for row in snapshot.rows
    }
    for write in snapshot.writes:
        found[write[1:5]] = write[5:]
    return found


def _content(row: CheckpointRow) -> object:
    """Return what of a row is the same on every backend; databases write JSON in their own way."""
    if row.graph != _EMPTY:
        return row.graph  # it ends in the check of all columns
    return (
        *row[3:5],
        *(orjson.dumps(orjson.loads(json), option=orjson.OPT_SORT_KEYS) for json in row[5:7]),
        *row[7:],
    )
