"""`backup`: everything of a store, or what changed in it, in one file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import ChunkId, FindCheckpoints, FoundCheckpoint, Survey, Surveyed
from langcairn.codec.chunks import ID_LENGTH
from langcairn.errors import CorruptData, InvalidInput, StoreUnavailable
from langcairn.operations import ATTEMPTS
from langcairn.records import valid_execution_id
from langcairn.transfer.backup_files import BackupWriter
from langcairn.transfer.backup_format import Ending, Entry, Header, Kind, Part, digest_of, pack_row
from langcairn.transfer.chain import Chain
from langcairn.transfer.protection import Keychain
from langcairn.transfer.reading import (
    Batches,
    Snapshot,
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
from langcairn.transfer.running import At, Steps, Work, arun, run

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from langcairn.store import CheckpointStore
    from langcairn.transfer.reports import OnProgress

_FRAME = 256 * 1024  # [bytes of rows in a frame, about]


@dataclass
class BackupReport(Counts):
    """What is in a backup.

    Attributes:
        unchanged: How many of the executions are as in the backup that it builds on.
        gone: How many were deleted since then.
        size: The file's size [bytes].
    """

    unchanged: int = 0
    gone: int = 0
    size: int = 0


def backup(
    store: CheckpointStore,
    path: str | os.PathLike[str],
    *,
    executions: Sequence[str] | None = None,
    since: str | os.PathLike[str] | None = None,
    progress: OnProgress = None,
) -> BackupReport:
    """Write what a store holds into one file, while it is used.

    A backup of an encrypted store is encrypted, that of a signed one signed, with the key for what
    is new.

    Each execution is as of one moment, different ones are as of different moments. The file takes
    the place of what was at ``path`` when it is complete and synced. What is damaged is reported;
    all else is in the backup, and the damaged too, as far as it could be read.

    Args:
        store: The store.
        path: The file.
        executions: Only these.
        since: An earlier backup of this store. Then the new one has only what changed since, and
            is restored together with it.
        progress: Called after each execution.

    Raises:
        InvalidInput: An argument can't be used as it is.
        StoreFull: There is no room for the file; what was at ``path`` is as before.
        StoreMisconfigured: The file can't be made there.
        StoreUnavailable: The store can't be read, or an execution changes all the time.
    """
    return run(backup_steps(store, path, executions, since, progress))


async def abackup(
    store: CheckpointStore,
    path: str | os.PathLike[str],
    *,
    executions: Sequence[str] | None = None,
    since: str | os.PathLike[str] | None = None,
    progress: OnProgress = None,
) -> BackupReport:
    """Do as `backup`."""
    return await arun(backup_steps(store, path, executions, since, progress))


def backup_steps(
    store: CheckpointStore,
    path: str | os.PathLike[str],
    executions: Sequence[str] | None,
    since: str | os.PathLike[str] | None,
    progress: OnProgress,
) -> Steps[BackupReport]:
    """Take the steps of `backup`."""
    place = Path(path).absolute()
    chosen = chosen_executions(executions)
    if since is not None and chosen is not None:
        raise InvalidInput("since= and executions= don't go together: back up all that changed")
    if since is not None and Path(since).absolute() == place:
        raise InvalidInput(f"{place} can't take the place of the backup that it builds on")
    keychain = Keychain.of(store)
    chain = None if since is None else Chain(Path(since).absolute(), keychain)
    try:
        if chain is not None:
            yield Work(chain.open)
            if chain.newest.header.protection != keychain.protects:
                raise InvalidInput(
                    f"{since} is a backup of a store that is protected otherwise; make one "
                    "without since="
                )
        total = len(chosen) if chosen is not None else (yield from count_executions(store))
        header = Header(b"", "", time.time_ns() // 1000, keychain.protects, keychain.key)
        if chain is not None:
            header = header._replace(parent=chain.newest.id, parent_name=chain.newest.path.name)
        writer = BackupWriter(place, header, keychain)
        try:
            yield Work(writer.begin)
            report = BackupReport()
            job = _Job(store, writer, chain, report, Meter(report, progress, total))
            yield from job.do(chosen)
            yield Work(writer.finish)
        except BaseException:
            writer.abandon()
            raise
        report.size = writer.size
        return report
    finally:
        if chain is not None:
            chain.close()


def chosen_executions(executions: Sequence[str] | None) -> list[str] | None:
    """Return the ids of executions that were asked for, in ascending order.

    Raises:
        InvalidInput: They aren't a list of ids.
    """
    if executions is None:
        return None
    if isinstance(executions, str):
        raise InvalidInput(f"expected a list of execution ids, not the string {executions!r:.80}")
    return sorted({valid_execution_id(id) for id in executions})


class _Job:
    """One backup while it is made."""

    def __init__(
        self,
        store: CheckpointStore,
        writer: BackupWriter,
        chain: Chain | None,
        report: BackupReport,
        meter: Meter,
    ) -> None:
        self.store = store
        self.writer = writer
        self.chain = chain
        self.report = report
        self.meter = meter
        self._earlier = iter(()) if chain is None else chain.entries()
        self._next_earlier = next(self._earlier, None)

    def do(self, chosen: list[str] | None) -> Steps[None]:
        """Back up all executions, or those that were chosen."""
        after = ""
        while True:
            if chosen is not None:
                ids, chosen = chosen, []
            else:
                ids = yield from next_executions(self.store, after)
            if not ids:
                break
            for execution_id in ids:
                earlier = self._pass_over(execution_id)
                yield from self._execution(execution_id, earlier)
                self.meter.tick(execution_id)
            after = ids[-1]
        self._pass_over(None)
        yield from self._note_lost_logs()

    def _pass_over(self, execution_id: str | None) -> Entry | None:
        """Enter those of the earlier backup that come before an execution as gone.

        Returns its own entry there, if there is one.
        """
        while (entry := self._next_earlier) is not None:
            if execution_id is not None and entry.execution_id > execution_id:
                return None
            self._next_earlier = next(self._earlier, None)
            if entry.execution_id == execution_id:
                return entry
            self._gone(entry.execution_id)
        return None

    def _gone(self, execution_id: str) -> None:
        self.writer.enter(Entry(execution_id, Part.GONE, 0, b"", 0, 0))
        self.report.gone += 1

    def _note_lost_logs(self) -> Steps[None]:
        """Report executions whose very name is unreadable."""
        surveyed: Surveyed = yield At(self.store, Survey())
        self.report.findings += [
            Finding("", None, None, problem, "an execution", repairable=False)
            for problem in surveyed.problems
        ]

    def _execution(self, execution_id: str, earlier: Entry | None) -> Steps[None]:
        for attempt in range(ATTEMPTS):
            snapshot = yield from read_execution(self.store, execution_id)
            if not snapshot.rows and not snapshot.writes and not snapshot.findings:
                if earlier is not None:
                    self._gone(execution_id)
                return  # nothing there, or deleted meanwhile
            digest = digest_of(snapshot)
            entry = Entry(
                execution_id, Part.SAME, 0, digest, len(snapshot.rows), len(snapshot.writes)
            )
            if earlier is not None and earlier.digest == digest and not snapshot.findings:
                self.report.unchanged += 1
            else:
                try:
                    part, offset = yield from self._content(snapshot, digest, earlier)
                except _Changed:
                    if attempt < ATTEMPTS - 1:
                        continue
                    raise StoreUnavailable(
                        f"execution {execution_id!r} was cleaned up {ATTEMPTS} times while it was "
                        "backed up; try again"
                    ) from None
                entry = entry._replace(part=part, offset=offset)
            yield Work(partial(self.writer.enter, entry))
            report = self.report
            report.executions += 1
            report.checkpoints += len(snapshot.rows)
            report.writes += len(snapshot.writes)
            report.bytes += bytes_of(snapshot.rows) + bytes_of(snapshot.writes)
            report.findings += snapshot.findings
            return

    def _content(
        self, snapshot: Snapshot, digest: bytes, earlier: Entry | None
    ) -> Steps[tuple[Part, int]]:
        """Write an execution. Returns what of it is here, and where.

        Raises:
            _Changed: Something was removed meanwhile; it must be read again.
        """
        execution_id, writer = snapshot.execution_id, self.writer
        sound = check_rows(snapshot)
        nodes = [node for part in (sound.rows, sound.writes) for _, nodes in part for node in nodes]
        try:
            walked = yield from walk(self.store, execution_id, nodes)
            live, bad, pages = walked.live, dict(walked.bad), walked.pages
        except CorruptData as error:
            finding = Finding(execution_id, None, None, str(error), "", repairable=False)
            snapshot.findings.append(finding)
            live, bad, pages = set(), {}, {}
        wanted = set(live)
        if snapshot.findings or bad:
            # What the unreadable refers to isn't known.
            wanted.update((yield from all_chunks(self.store, execution_id)))
        known = yield Work(partial(self._known, earlier))
        start: int = yield Work(partial(writer.add, Kind.BEGIN, execution_id))
        batches = Batches(self.store, execution_id, sorted(wanted - known), portable=True)
        while batch := (yield from batches.next()):
            yield Work(partial(writer.add, Kind.CHUNKS, list(batch.items())))
            self.report.chunks += len(batch)
            self.report.bytes += sum(map(len, batch.values()))
            bad.update(damage_in(self.store.codec.format, batch))
        bad.update({id: what for id, what in batches.bad.items() if id in live})
        if bad:
            yield from self._refuse_if_changed(snapshot)
            snapshot.findings.extend(blame(snapshot.execution_id, sound, bad, pages))
        for kind, rows in ((Kind.ROWS, snapshot.rows), (Kind.WRITES, snapshot.writes)):
            for some in parts_of(rows, _FRAME):
                packed = [pack_row(row) if kind is Kind.ROWS else row[1:] for row in some]
                yield Work(partial(writer.add, kind, packed))
        part = Part.FULL if earlier is None else Part.CHANGED
        counts = len(snapshot.rows), len(snapshot.writes)
        ending = Ending(
            part, digest, *counts,
            "".join(sorted(live)), "".join(sorted((wanted | known) - live)),
        )  # fmt: skip
        yield Work(partial(writer.add, Kind.END, tuple(ending)))
        return part, start

    def _known(self, earlier: Entry | None) -> set[ChunkId]:
        """Return the chunks of an execution that earlier backups have."""
        if earlier is None or self.chain is None:
            return set()
        file, entry = self.chain.places(earlier)[0]
        ending = file.content(entry).ending
        if ending is None:
            raise CorruptData(
                f"{file.path} is damaged where it has execution {entry.execution_id!r}, so nothing "
                "can build on it; make a backup without since="
            )
        return {*split_ids(ending.chunks), *split_ids(ending.further)}

    def _refuse_if_changed(self, snapshot: Snapshot) -> Steps[None]:
        query = FindCheckpoints(snapshot.execution_id, limit=1, with_writes=False)
        try:
            found: list[FoundCheckpoint] = yield At(self.store, query)
        except CorruptData:
            return
        if (found[0].epoch if found else 0) != snapshot.epoch:
            raise _Changed


class _Changed(Exception):
    """Something was removed from an execution while it was written into a backup."""


def split_ids(ids: str) -> list[ChunkId]:
    """Return chunk ids that stand in a string without separators."""
    return [ChunkId(ids[i : i + ID_LENGTH]) for i in range(0, len(ids), ID_LENGTH)]


def parts_of(rows: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Yield rows in parts of about this many bytes."""
    part: list[Any] = []
    held = 0
    for row in rows:
        part.append(row)
        held += bytes_of([row])
        if held >= size:
            yield part
            part, held = [], 0
    if part:
        yield part
