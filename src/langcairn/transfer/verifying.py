"""`verify`: is everything in a store as it was written?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.base import FindCheckpoints, FoundCheckpoint, Survey, Surveyed
from langcairn.checks import checked_graph
from langcairn.dictionaries import load
from langcairn.errors import CorruptData
from langcairn.operations import ATTEMPTS
from langcairn.records import fields_from_json
from langcairn.transfer.backups import chosen_executions
from langcairn.transfer.reading import (
    Batches,
    Snapshot,
    Sound,
    all_chunks,
    bytes_of,
    check_rows,
    count_executions,
    damage_in,
    next_executions,
    read_execution,
    walk,
)
from langcairn.transfer.references import blame
from langcairn.transfer.reports import Counts, Finding, Meter
from langcairn.transfer.running import At, Steps, arun, on, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import CheckpointRow, ChunkId
    from langcairn.codec.nodes import Node
    from langcairn.store import CheckpointStore
    from langcairn.transfer.reports import OnProgress


@dataclass
class VerifyReport(Counts):
    """What `verify` found.

    Attributes:
        garbage: Chunks that nothing refers to. They take space until the next clean-up.
        orphans: Pending writes whose checkpoint isn't there (yet).
    """

    garbage: int = 0
    orphans: int = 0


def verify(
    store: CheckpointStore,
    *,
    executions: Sequence[str] | None = None,
    progress: OnProgress = None,
) -> VerifyReport:
    """Read everything in a store and compare it with its checks and hashes.

    Args:
        store: The store. It may be in use.
        executions: Only these, and without what the storage system can say of itself as a whole.
        progress: Called after each execution.

    Raises:
        InvalidInput: ``executions`` is no list of ids.
        StoreUnavailable: The store can't be reached.
        StoreMisconfigured: What is there is no store; damage can make it look so.
    """
    return run(verify_steps(store, executions, progress))


async def averify(
    store: CheckpointStore,
    *,
    executions: Sequence[str] | None = None,
    progress: OnProgress = None,
) -> VerifyReport:
    """Do as `verify`."""
    return await arun(verify_steps(store, executions, progress))


def verify_steps(
    store: CheckpointStore, executions: Sequence[str] | None, progress: OnProgress
) -> Steps[VerifyReport]:
    """Take the steps of `verify`."""
    report = VerifyReport()
    chosen = chosen_executions(executions)
    if chosen is None:
        yield from _ask_system(store, report)
    try:
        total = len(chosen) if chosen is not None else (yield from count_executions(store))
        meter = Meter(report, progress, total)
        after = ""
        while True:
            ids = chosen if chosen is not None else (yield from next_executions(store, after))
            for execution_id in ids:
                examined = yield from examine(store, execution_id)
                _add(report, examined)
                meter.tick(execution_id)
            if chosen is not None or not ids:
                return report
            after = ids[-1]
    except CorruptData as error:
        what = f"the executions can't be listed: {error}"
        report.findings.append(Finding("", None, None, what, "all of it", repairable=False))
    return report


def _ask_system(store: CheckpointStore, report: VerifyReport) -> Steps[None]:
    """Note what the storage system finds wrong with itself, and with its dictionaries."""
    try:
        surveyed: Surveyed = yield At(store, Survey(deep=True))
        problems = list(surveyed.problems)
    except CorruptData as error:
        problems = [str(error)]
    try:
        yield from on(store, load(store.codec.format))
        problems += store.codec.format.damaged.values()
    except CorruptData as error:
        problems.append(f"the dictionaries can't be read: {error}")
    report.findings += [
        Finding("", None, None, problem, "", repairable=False) for problem in problems
    ]


class Examined(NamedTuple):
    """An execution, and what is wrong with it."""

    snapshot: Snapshot
    sound: Sound
    bad: dict[ChunkId, str]
    pages: dict[ChunkId, Node]
    chunks: int
    bytes: int
    garbage: int

    @property
    def findings(self) -> list[Finding]:
        """What is wrong."""
        return self.snapshot.findings


def examine(store: CheckpointStore, execution_id: str) -> Steps[Examined]:
    """Look at everything of an execution."""
    before = -1  # no epoch
    for attempt in range(ATTEMPTS):
        examined = yield from _examine_once(store, execution_id)
        if not examined.findings or attempt == ATTEMPTS - 1:
            break
        after = yield from _epoch(store, execution_id)
        if after is None or before == examined.snapshot.epoch == after:
            break
        # It may have been changed meanwhile: what looks like damage may have been removed.
        before = after
    return examined


def _epoch(store: CheckpointStore, execution_id: str) -> Steps[int | None]:
    """Return the epoch of an execution; None if it can't be known."""
    query = FindCheckpoints(execution_id, limit=1, with_writes=False)
    try:
        found: list[FoundCheckpoint] = yield At(store, query)
    except CorruptData:
        return None
    return found[0].epoch if found else 0


def _examine_once(store: CheckpointStore, execution_id: str) -> Steps[Examined]:
    # Before the rows: what is put meanwhile must not look as if it were lost.
    named, problems = yield from _named(store, execution_id)
    snapshot = yield from read_execution(store, execution_id)
    findings = snapshot.findings
    findings += [
        Finding(execution_id, None, None, problem, "", repairable=False) for problem in problems
    ]
    read = {(row.namespace, row.id) for row in snapshot.rows}
    read |= {(f.namespace, f.checkpoint_id) for f in findings if f.checkpoint_id is not None}  # type: ignore[misc]  # both or none
    findings += [
        Finding(
            execution_id, *key, "it is named, but not there", "this checkpoint", repairable=True
        )
        for key in sorted(named - read)
    ]

    def further(row: CheckpointRow) -> None:
        fields_from_json(row.metadata, store.codec.plain, "the metadata")
        graph = checked_graph(row)
        fields_from_json(graph, store.codec.plain, "the graph column")

    sound = check_rows(snapshot, further)
    nodes = [node for part in (sound.rows, sound.writes) for _, nodes in part for node in nodes]
    examined = Examined(snapshot, sound, {}, {}, 0, bytes_of(snapshot.rows), 0)
    try:
        walked = yield from walk(store, execution_id, nodes)
        stored = yield from all_chunks(store, execution_id)
        bad = dict(walked.bad)
        batches = Batches(store, execution_id, sorted(walked.live))
        size = examined.bytes + bytes_of(snapshot.writes)
        while batch := (yield from batches.next()):
            size += sum(map(len, batch.values()))
            bad.update(damage_in(store.codec.format, batch))
    except CorruptData as error:
        if not findings:
            findings.append(
                Finding(execution_id, None, None, str(error), "some of it", repairable=False)
            )
        return examined
    bad.update(batches.bad)
    findings.extend(blame(execution_id, sound, bad, walked.pages))
    # Of unreadable rows it isn't known what they refer to.
    garbage = 0 if findings else len(set(stored) - walked.live)
    return Examined(snapshot, sound, bad, walked.pages, len(walked.live), size, garbage)


def _named(
    store: CheckpointStore, execution_id: str
) -> Steps[tuple[set[tuple[str, str]], Sequence[str]]]:
    try:
        surveyed: Surveyed = yield At(store, Survey(execution_id, deep=True))
    except CorruptData as error:
        return set(), [str(error)]
    return set(surveyed.checkpoints), surveyed.problems


def _add(report: VerifyReport, examined: Examined) -> None:
    snapshot = examined.snapshot
    there = {(row.namespace, row.id) for row in snapshot.rows}
    report.executions += 1
    report.checkpoints += len(snapshot.rows)
    report.writes += len(snapshot.writes)
    report.orphans += sum(
        (write.namespace, write.checkpoint_id) not in there for write in snapshot.writes
    )
    report.chunks += examined.chunks
    report.bytes += examined.bytes
    report.garbage += examined.garbage
    report.findings += examined.findings
