"""Copying executions between two stores as they are stored, without decoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from langcairn.transfer.placing import Rows, place
from langcairn.transfer.reading import Batches, bytes_of, check_rows, read_execution, walk
from langcairn.transfer.references import blame, unharmed
from langcairn.transfer.reports import Finding

if TYPE_CHECKING:
    from langcairn.backends.base import CheckpointRow
    from langcairn.store import CheckpointStore
    from langcairn.transfer.moving import MigrationReport
    from langcairn.transfer.placing import Source
    from langcairn.transfer.reading import Snapshot
    from langcairn.transfer.running import Steps

_EMPTY = b"{}"


def copy_execution(
    source: CheckpointStore, target: CheckpointStore, execution_id: str, report: MigrationReport
) -> Steps[int | None]:
    """Copy what is sound of an execution, and compare the rows in the target with it.

    Returns the bytes of the source; None if they were not read, as the target has all of it.
    """
    snapshot = yield from read_execution(source, execution_id)
    sound = check_rows(snapshot)
    nodes = [node for part in (sound.rows, sound.writes) for _, nodes in part for node in nodes]
    walked = yield from walk(source, execution_id, nodes)
    copies: list[Batches] = []

    def chunks() -> Source:
        copies.append(Batches(source, execution_id, sorted(walked.live), portable=True))
        return copies[-1]

    def rows() -> Steps[Rows]:
        yield from ()
        missing = {id: f"chunk {id} is not stored" for id in copies[-1].missing}
        bad = {**missing, **walked.bad}
        found = snapshot.findings
        found[:] = [finding for finding in found if finding not in blamed]
        blamed[:] = blame(execution_id, sound, bad, walked.pages)
        found += blamed
        return Rows(*unharmed(sound, bad, walked.pages))

    blamed: list[Finding] = []
    there = yield from read_execution(target, execution_id)
    stored = _by_key(there)
    wanted = _by_key(snapshot)
    if wanted and wanted.items() <= stored.items() and not snapshot.findings:
        # The target's chunks are looked at by whoever asked for the copy.
        report.skipped += len(snapshot.rows)
        report.compared += len(snapshot.rows)
    else:
        placed = yield from place(target, execution_id, chunks, rows, replace=False)
        there = yield from read_execution(target, execution_id)
        wanted = _by_key(snapshot._replace(rows=placed.checkpoints, writes=placed.writes))
        stored = _by_key(there)
        for key in wanted:
            if stored.get(key) != wanted[key]:
                what = "the target has another row, or none, in place of it"
                snapshot.findings.append(
                    Finding(execution_id, key[0], key[1], what, "this checkpoint", repairable=False)
                )
        report.checkpoints += len(placed.checkpoints)
        report.writes += len(placed.writes)
        report.chunks += len(walked.live)
        report.compared += len(placed.checkpoints)
    size = sum(copy.size for copy in copies)
    size += bytes_of(snapshot.rows) + bytes_of(snapshot.writes)
    report.bytes += size
    report.findings += snapshot.findings
    return size if copies else None


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
