"""`restore`: from a backup into any store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from langcairn.backends.base import ChunkId
from langcairn.codec.chunks import ID_LENGTH
from langcairn.errors import (
    AlreadyThere,
    CairnError,
    CorruptData,
    InvalidInput,
    StoreClosed,
    StoreError,
)
from langcairn.records import valid_execution_id
from langcairn.transfer.backups import chosen_executions, split_ids
from langcairn.transfer.chain import Chain
from langcairn.transfer.placing import Rows, is_there, learn_dictionaries, place
from langcairn.transfer.reading import Snapshot, Sound, bytes_of, check_rows, damage_of, walk
from langcairn.transfer.references import blame, unharmed
from langcairn.transfer.reports import Counts, Finding, Meter
from langcairn.transfer.running import Steps, Work, arun, run

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.store import CheckpointStore
    from langcairn.transfer.backup_files import BackupFile, Content
    from langcairn.transfer.backup_format import Entry
    from langcairn.transfer.reports import OnProgress

Existing = Literal["refuse", "skip", "replace"]
_BATCH = 2 * 2**20  # [bytes of chunks committed at a time, about]
_PAGE = 500  # [entries looked at in one go]


@dataclass
class RestoreReport(Counts):
    """What was restored.

    Attributes:
        skipped: How many executions were left as they are in the store.
    """

    skipped: int = 0


def restore(
    path: str | os.PathLike[str],
    store: CheckpointStore,
    *,
    executions: Sequence[str] | None = None,
    existing: Existing = "refuse",
    parents: Sequence[str | os.PathLike[str]] | None = None,
    salvage: bool = False,
    progress: OnProgress = None,
) -> RestoreReport:
    """Put what a backup holds into a store, on whatever backend.

    Each execution is stored whole, by one commit (unless its rows take more than 32 MB), so that
    an interrupted restore can be repeated with ``existing="skip"``. What is damaged in the backup
    is reported, and the rest restored.

    Args:
        path: The backup.
        store: Where to put it. It must have the serializer of the store that was backed up.
        executions: Only these.
        existing: What to do if the store has checkpoints of an execution: ``"refuse"`` all,
            before anything is written; ``"skip"`` this one; or ``"replace"`` what is there.
        parents: The backups that this one builds on; None: they are beside it.
        salvage: Restore what is whole in a backup that is cut off, instead of refusing it.
        progress: Called after each execution.

    Raises:
        InvalidInput: An argument can't be used as it is, or the file is no backup.
        AlreadyThere: The store has an execution; nothing was restored.
        CorruptData: The backup is cut off, or damaged at its beginning.
        StoreMisconfigured: There is no such file, or a later version wrote it.
        StoreError: The store can't take it. What was restored until then is whole.
    """
    return run(_restore(path, store, executions, existing, parents, salvage, progress))


async def arestore(
    path: str | os.PathLike[str],
    store: CheckpointStore,
    *,
    executions: Sequence[str] | None = None,
    existing: Existing = "refuse",
    parents: Sequence[str | os.PathLike[str]] | None = None,
    salvage: bool = False,
    progress: OnProgress = None,
) -> RestoreReport:
    """Do as `restore`."""
    return await arun(_restore(path, store, executions, existing, parents, salvage, progress))


def _restore(
    path: str | os.PathLike[str],
    store: CheckpointStore,
    executions: Sequence[str] | None,
    existing: Existing,
    parents: Sequence[str | os.PathLike[str]] | None,
    salvage: bool,
    progress: OnProgress,
) -> Steps[RestoreReport]:
    if existing not in get_args(Existing):
        raise InvalidInput(f"existing={existing!r}: choose {', '.join(get_args(Existing))}")
    chosen = chosen_executions(executions)
    others = None if parents is None else [Path(parent).absolute() for parent in parents]
    chain = Chain(Path(path).absolute(), others, salvage=salvage)
    try:
        yield Work(chain.open)
        report = RestoreReport()
        total = 0
        entries = _Entries(chain, chosen)
        while page := (yield Work(entries.next_page)):
            total += len(page)
            if existing == "refuse":
                yield from _refuse_existing(store, page)
        yield from learn_dictionaries(store)
        meter = Meter(report, progress, total)
        entries = _Entries(chain, chosen)
        while page := (yield Work(entries.next_page)):
            for entry in page:
                if existing == "skip" and (yield from is_there(store, entry.execution_id)):
                    report.skipped += 1
                else:
                    job = _Job(store, chain, entry, report, replace=existing == "replace")
                    yield from job.do()
                meter.tick(entry.execution_id)
        report.findings += [
            Finding("", None, None, what, "perhaps executions", repairable=False)
            for what in dict.fromkeys(chain.newest.damage)
        ]
        return report
    finally:
        chain.close()


class _Entries:
    """The executions to restore, a page at a time."""

    def __init__(self, chain: Chain, chosen: list[str] | None) -> None:
        self._entries = chain.entries() if chosen is None else _chosen(chain, chosen)

    def next_page(self) -> list[Entry]:
        return list(islice(self._entries, _PAGE))


def _chosen(chain: Chain, chosen: list[str]) -> Iterator[Entry]:
    for execution_id in chosen:
        entry = chain.find(execution_id)
        if entry is None:
            raise InvalidInput(f"{chain.newest.path} has no execution {execution_id!r}")
        yield entry


def _refuse_existing(store: CheckpointStore, page: Sequence[Entry]) -> Steps[None]:
    for entry in page:
        if (yield from is_there(store, entry.execution_id)):
            raise AlreadyThere(
                f"the store has checkpoints of execution {entry.execution_id!r}, and nothing was "
                "restored. Choose existing='skip' or existing='replace', or another store"
            )


class _Job:
    """One execution while it is restored."""

    def __init__(
        self,
        store: CheckpointStore,
        chain: Chain,
        entry: Entry,
        report: RestoreReport,
        *,
        replace: bool,
    ) -> None:
        self.store = store
        self.chain = chain
        self.entry = entry
        self.report = report
        self.replace = replace
        self.findings: list[Finding] = []
        self.content: Content
        self.sound: Sound
        self.bad: dict[ChunkId, str] = {}
        self.source: _Chunks

    def do(self) -> Steps[None]:
        execution_id, report = self.entry.execution_id, self.report
        try:
            valid_execution_id(execution_id)  # a forged backup may name the reserved one
            places = yield Work(partial(self.chain.places, self.entry))
            self.content = yield Work(partial(places[0][0].content, places[0][1]))
            self._note_damage()
            rows = yield from place(
                self.store,
                execution_id,
                partial(self._chunks, places),
                self._rows,
                replace=self.replace,
            )
        except (StoreError, StoreClosed) as error:
            error.add_note(
                f"while restoring execution {execution_id!r}; {report.executions} others were "
                "restored: repeat with existing='skip' for the rest"
            )
            raise
        except CairnError as error:
            self._find(str(error), "all of it")
            report.findings += self.findings
            return
        report.executions += 1
        report.checkpoints += len(rows.checkpoints)
        report.writes += len(rows.writes)
        report.chunks += len(self.source.done)
        report.bytes += self.source.size + bytes_of(rows.checkpoints) + bytes_of(rows.writes)
        report.findings += self.findings

    def _find(self, what: str, lost: str) -> None:
        id = self.entry.execution_id
        self.findings.append(Finding(id, None, None, what, lost, repairable=False))

    def _note_damage(self) -> None:
        content, entry = self.content, self.entry
        lost = [
            f"{expected - found} {what}"
            for what, expected, found in (
                ("checkpoints", entry.checkpoints, len(content.rows)),
                ("pending writes", entry.writes, len(content.writes)),
            )
            if expected > found
        ]
        for what in dict.fromkeys(content.damage):
            self._find(f"the backup is damaged: {what}", " and ".join(lost))
        snapshot = Snapshot(entry.execution_id, content.rows, content.writes, 0, self.findings)
        self.sound = check_rows(snapshot)
        self._noted = len(self.findings)

    def _chunks(self, places: Sequence[tuple[BackupFile, Entry]]) -> _Chunks:
        ending = self.content.ending
        wanted = None if ending is None else set(split_ids(ending.chunks))
        self.bad = {}
        del self.findings[self._noted :]  # of an attempt that was overtaken
        self.source = _Chunks(places, wanted, self.bad, self.store.codec.format)
        return self.source

    def _rows(self) -> Steps[Rows]:
        """Return those rows that refer to nothing that is lost."""
        sound, execution_id = self.sound, self.entry.execution_id
        nodes = [node for part in (sound.rows, sound.writes) for _, nodes in part for node in nodes]
        try:
            walked = yield from walk(self.store, execution_id, nodes)
        except CorruptData as error:
            raise InvalidInput(f"the backup holds a forged checkpoint: {error}") from error
        for id in walked.live - self.source.done:
            self.bad.setdefault(id, f"chunk {id} is missing in the backup, or damaged there")
        bad = {id: what for id, what in {**walked.bad, **self.bad}.items() if id in walked.live}
        self.findings += blame(execution_id, sound, bad, walked.pages)
        return Rows(*unharmed(sound, bad, walked.pages))


class _Chunks:
    """The chunks of an execution in a chain of backups."""

    def __init__(
        self,
        places: Sequence[tuple[BackupFile, Entry]],
        wanted: set[ChunkId] | None,
        bad: dict[ChunkId, str],
        format: ChunkFormat,
    ) -> None:
        self._format = format
        self._frames = (frame for file, entry in places for frame in file.chunks(entry))
        self._wanted = wanted
        self._bad = bad
        self.done: set[ChunkId] = set()
        self.size = 0

    def next(self) -> Steps[dict[ChunkId, bytes]]:
        """Return the next chunks that are wanted; an empty dict at the end."""
        batch: dict[ChunkId, bytes] = yield Work(self._read)
        return batch

    def _read(self) -> dict[ChunkId, bytes]:
        batch: dict[ChunkId, bytes] = {}
        held = 0
        for frame in self._frames:
            for name, data in frame:
                id = ChunkId(name)
                if id in self.done or (self._wanted is not None and id not in self._wanted):
                    continue
                if len(id) != ID_LENGTH or (what := damage_of(self._format, id, data)) is not None:
                    self._bad[id] = what or "it has an impossible id"
                    continue
                batch[id] = data
                held += len(data)
                self.done.add(id)
            if held >= _BATCH:
                break
        self.size += held
        return batch
