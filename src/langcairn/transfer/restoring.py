"""`restore`: from a backup into any store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from langcairn.backends.base import ChunkId, Clear
from langcairn.codec.chunks import ID_LENGTH
from langcairn.errors import (
    AlreadyThere,
    CairnError,
    CorruptData,
    ForgedData,
    InvalidInput,
    StoreClosed,
    StoreError,
)
from langcairn.stores import MemoryCheckpointStore
from langcairn.transfer.backups import chosen_executions, split_ids
from langcairn.transfer.chain import Chain
from langcairn.transfer.copying import copy_execution
from langcairn.transfer.moving import MigrationReport
from langcairn.transfer.placing import Rows, is_there, place
from langcairn.transfer.protection import ENCRYPTED, Keychain
from langcairn.transfer.reading import Snapshot, Sound, bytes_of, check_rows, damage_of, walk
from langcairn.transfer.references import blame, unharmed
from langcairn.transfer.reports import Counts, Finding, Meter
from langcairn.transfer.running import At, Steps, Work, arun, run

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.security.keys import Keys
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
    encryption: Keys | None = None,
    trusted: bool = False,
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
        encryption: The keys of an encrypted backup, if they aren't among the store's; see
            `StoreOptions`.
        trusted: Restore a backup that may be anybody's into a store that is encrypted or signed.
        progress: Called after each execution.

    Raises:
        InvalidInput: An argument can't be used as it is, or the file is no backup.
        AlreadyThere: The store has an execution; nothing was restored.
        CorruptData: The backup is cut off, or damaged at its beginning.
        DecryptionFailed: It is encrypted with a key that isn't given.
        ForgedData: It is signed with another key, or neither signed nor encrypted while the store
            is, and not ``trusted``.
        StoreMisconfigured: There is no such file, or a later version wrote it.
        StoreError: The store can't take it. What was restored until then is whole.
    """
    source = _Source(path, parents, salvage, encryption, trusted)
    return run(_restore(source, store, executions, existing, progress))


async def arestore(
    path: str | os.PathLike[str],
    store: CheckpointStore,
    *,
    executions: Sequence[str] | None = None,
    existing: Existing = "refuse",
    parents: Sequence[str | os.PathLike[str]] | None = None,
    salvage: bool = False,
    encryption: Keys | None = None,
    trusted: bool = False,
    progress: OnProgress = None,
) -> RestoreReport:
    """Do as `restore`."""
    source = _Source(path, parents, salvage, encryption, trusted)
    return await arun(_restore(source, store, executions, existing, progress))


class _Source:
    """The backup, and how what it holds gets from there into a store."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        parents: Sequence[str | os.PathLike[str]] | None,
        salvage: bool,
        encryption: Keys | None,
        trusted: bool,
    ) -> None:
        self._path = Path(path).absolute()
        self._parents = None if parents is None else [Path(one).absolute() for one in parents]
        self._salvage = salvage
        self._trusted = trusted
        self._given = None if encryption is None else MemoryCheckpointStore(encryption=encryption)

    def chain(self, store: CheckpointStore) -> Chain:
        """Return the backup, to be opened with the keys given, or else those of the store."""
        keychain = Keychain.of(self._given or store)
        return Chain(self._path, keychain, self._parents, salvage=self._salvage)

    def check(self, store: CheckpointStore, protection: str) -> None:
        """Refuse what might be forged, if what is in the store is to be authentic."""
        keychain = Keychain.of(store)
        if keychain.protects and not keychain.verifies(protection) and not self._trusted:
            raise ForgedData(
                f"{self._path} is {protection or 'plain'}, so it can't be told who made it, and in "
                f"this store, which is {keychain.protects}, it would look authentic. If you know "
                "where it comes from, restore it with trusted=True"
            )

    def stage(self, store: CheckpointStore, protection: str) -> CheckpointStore | None:
        """Return what takes executions in between if their chunks have other ids in the store."""
        if protection == ENCRYPTED:
            if self._given is None or _same_ids(self._given, store):
                return None
            return self._given
        plain = MemoryCheckpointStore()
        return None if _same_ids(plain, store) else plain


def _same_ids(one: CheckpointStore, other: CheckpointStore) -> bool:
    return one.codec.format.id_key("any") == other.codec.format.id_key("any")


def _restore(
    source: _Source,
    store: CheckpointStore,
    executions: Sequence[str] | None,
    existing: Existing,
    progress: OnProgress,
) -> Steps[RestoreReport]:
    if existing not in get_args(Existing):
        raise InvalidInput(f"existing={existing!r}: choose {', '.join(get_args(Existing))}")
    chosen = chosen_executions(executions)
    chain = source.chain(store)
    try:
        yield Work(chain.open)
        protection = chain.newest.header.protection
        source.check(store, protection)
        stage = source.stage(store, protection)
        report = RestoreReport()
        total = 0
        entries = _Entries(chain, chosen)
        while page := (yield Work(entries.next_page)):
            total += len(page)
            if existing == "refuse":
                yield from _refuse_existing(store, page)
        meter = Meter(report, progress, total)
        entries = _Entries(chain, chosen)
        replace = existing == "replace"
        while page := (yield Work(entries.next_page)):
            for entry in page:
                if existing == "skip" and (yield from is_there(store, entry.execution_id)):
                    report.skipped += 1
                elif stage is None:
                    yield from _Job(store, chain, entry, report, replace=replace).do()
                else:
                    yield from _Job(stage, chain, entry, report, replace=False).do()
                    yield from _move_on(stage, store, entry.execution_id, report, replace=replace)
                meter.tick(entry.execution_id)
        report.findings += [
            Finding("", None, None, what, "perhaps executions", repairable=False)
            for what in dict.fromkeys(chain.newest.damage)
        ]
        return report
    finally:
        chain.close()


def _move_on(
    stage: CheckpointStore,
    store: CheckpointStore,
    execution_id: str,
    report: RestoreReport,
    *,
    replace: bool,
) -> Steps[None]:
    """Move an execution from memory into the store, where its chunks have other ids."""
    if (yield from is_there(stage, execution_id)):
        moved = MigrationReport()
        try:
            yield from copy_execution(stage, store, execution_id, moved, replace=replace)
        except (StoreError, StoreClosed) as error:
            error.add_note(_note(execution_id, report.executions - 1))
            raise
        report.findings += moved.findings
    yield At(stage, Clear(execution_id))
    stage.codec.caches.drop(execution_id)


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


def _note(execution_id: str, restored: int) -> str:
    return (
        f"while restoring execution {execution_id!r}; {restored} others were restored: repeat with "
        "existing='skip' for the rest"
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
            error.add_note(_note(execution_id, report.executions))
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
