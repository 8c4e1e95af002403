"""Reading whole executions of a store, damaged ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from langcairn import upkeep
from langcairn.backends.base import (
    CheckpointRow,
    ChunkId,
    FetchChunks,
    FindCheckpoints,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Position,
    Survey,
    Surveyed,
    WriteRow,
)
from langcairn.checks import checked_graph, checked_write
from langcairn.codec.reader import Content, parse, references
from langcairn.errors import (
    CorruptData,
    DecryptionFailed,
    ForgedData,
    StoreUnavailable,
    TamperedData,
)
from langcairn.operations import ATTEMPTS
from langcairn.transfer.reports import Finding
from langcairn.transfer.running import At, Steps, on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.codec.nodes import Node
    from langcairn.store import CheckpointStore

_IDS = 1000  # [execution ids read at a time]
# One request, and so one moment, for nearly every execution; 10 MB of rows.
_ROWS = 5000
_BATCH = 2 * 2**20  # [bytes of chunks held at a time, about]
_MOST_CHUNKS = 500  # [chunks asked for at a time]
_FIRST_CHUNKS = 64  # [chunks asked for before their size is known]
_EVER = 2**62  # later than every epoch

Key = tuple[str, str]
"""Namespace and checkpoint id."""


class Snapshot(NamedTuple):
    """The rows of an execution as of one moment, and what of them couldn't be read."""

    execution_id: str
    rows: list[CheckpointRow]
    """The newest first."""
    writes: list[WriteRow]
    epoch: int
    findings: list[Finding]


def next_executions(store: CheckpointStore, after: str) -> Steps[list[str]]:
    """Return the ids of some executions behind one, in ascending order; none at the end.

    Logs of files whose id is unreadable are left out: `Survey` names them.
    """
    return (yield from on(store, upkeep.next_executions(after, _IDS)))


def count_executions(store: CheckpointStore) -> Steps[int]:
    """Return how many executions there are."""
    total, after = 0, ""
    while ids := (yield from next_executions(store, after)):
        total, after = total + len(ids), ids[-1]
    return total


def read_execution(store: CheckpointStore, execution_id: str) -> Steps[Snapshot]:
    """Read all rows of an execution.

    Every checkpoint comes with its writes, as of one moment, and no removal or replacement lies
    between two of them. Writes whose checkpoint isn't there are as of a moment before.
    """
    for _ in range(ATTEMPTS):
        try:
            writes: list[WriteRow] = yield At(store, FindWrites(execution_id))
            found = yield from _pages(store, execution_id)
        except CorruptData as error:
            return (yield from _read_singly(store, execution_id, error))
        if found is not None:
            break
    else:
        raise StoreUnavailable(
            f"execution {execution_id!r} was changed {ATTEMPTS} times while it was read; try again"
        )
    rows = [one.row for one in found]
    there = {(row.namespace, row.id) for row in rows}
    orphans = [write for write in writes if (write.namespace, write.checkpoint_id) not in there]
    if orphans:
        # Perhaps their checkpoints were removed in between, and what they refer to.
        writes = yield At(store, FindWrites(execution_id))
        orphans = sorted(set(orphans).intersection(writes))
    attached = [write for one in found for write in one.writes]
    epoch = found[0].epoch if found else 0
    return Snapshot(execution_id, rows, attached + orphans, epoch, [])


def _pages(store: CheckpointStore, execution_id: str) -> Steps[list[FoundCheckpoint] | None]:
    """Read all checkpoints; None if something was removed or replaced in between."""
    found: list[FoundCheckpoint] = []
    query = FindCheckpoints(execution_id, limit=_ROWS)
    while True:
        page: list[FoundCheckpoint] = yield At(store, query)
        found += page
        if found and any(one.epoch != found[0].epoch for one in page):
            return None
        if len(page) < _ROWS:
            return found
        last = page[-1].row
        query = query._replace(after=Position(last.id, last.execution_id, last.namespace))


def _read_singly(store: CheckpointStore, execution_id: str, error: CorruptData) -> Steps[Snapshot]:
    """Read what is readable of an execution, one checkpoint after the other."""
    snapshot = Snapshot(execution_id, [], [], 0, [])
    findings = snapshot.findings
    try:
        surveyed: Surveyed = yield At(store, Survey(execution_id))
    except CorruptData:
        findings.append(
            Finding(execution_id, None, None, str(error), "all of it", repairable=False)
        )
        return snapshot
    epoch = 0
    for namespace, id in sorted(surveyed.checkpoints, key=lambda key: key[::-1], reverse=True):
        query = FindCheckpoints(execution_id, namespace, id, limit=1)
        try:
            found: list[FoundCheckpoint] = yield At(store, query)
        except CorruptData as damage:
            what = str(damage)
            try:
                found = yield At(store, query._replace(with_writes=False))
                lost = "its pending writes"
            except CorruptData:
                found, lost = [], "this checkpoint"
            findings.append(
                Finding(execution_id, namespace, id, what, lost, repairable=repairable(damage))
            )
        for one in found:
            snapshot.rows.append(one.row)
            snapshot.writes.extend(one.writes)
            epoch = one.epoch
    there = {(row.namespace, row.id) for row in snapshot.rows}
    try:
        writes: list[WriteRow] = yield At(store, FindWrites(execution_id))
    except CorruptData as damage:
        if not findings:
            findings.append(
                Finding(
                    execution_id, None, None, str(damage),
                    "pending writes whose checkpoint isn't there", repairable=False,
                )
            )  # fmt: skip
    else:
        keys = {(finding.namespace, finding.checkpoint_id) for finding in findings}
        snapshot.writes.extend(
            write for write in writes if (write.namespace, write.checkpoint_id) not in there | keys
        )
    return snapshot._replace(epoch=epoch)


class Walked(NamedTuple):
    """What rows refer to."""

    live: set[ChunkId]
    """All that they refer to, as far as pages can be read."""
    bad: dict[ChunkId, str]
    """Chunks that are missing or damaged, and what is wrong."""
    pages: dict[ChunkId, Node]
    """The pages that could be read."""


def walk(store: CheckpointStore, execution_id: str, nodes: Sequence[Node]) -> Steps[Walked]:
    """Follow the references of nodes through their pages.

    Raises:
        CorruptData: A node is malformed, although its row's check is right: it is forged.
    """
    content = Content(store.codec.format)
    bad: dict[ChunkId, str] = {}
    while True:
        pages, values = references(nodes, content.pages)
        lacking = sorted(pages - content.pages.keys() - bad.keys())
        if not lacking:
            return Walked(pages | values, bad, content.pages)
        batches = Batches(store, execution_id, lacking)
        while batch := (yield from batches.next()):
            for id in batch:
                _open(content, id, batch[id], bad)
            content.leaves.clear()
        bad.update(batches.bad)
        for id in lacking:
            if id not in content.pages:
                bad.setdefault(id, f"chunk {id} is not stored, or is no page")


def _open(content: Content, id: ChunkId, sealed: bytes, bad: dict[ChunkId, str]) -> None:
    try:
        content.add(id, sealed)
    except CorruptData as error:
        bad[id] = str(error)


class Batches:
    """Chunks of an execution, some megabytes at a time.

    Args:
        store: Where they are.
        execution_id: The execution.
        ids: Which.
        portable: Return them in a form that any store can open, without a dictionary.
    """

    def __init__(
        self,
        store: CheckpointStore,
        execution_id: str,
        ids: Iterable[ChunkId],
        *,
        portable: bool = False,
    ) -> None:
        self._store = store
        self._portable = portable
        self._execution_id = execution_id
        self._ids = list(ids)
        self._at = 0
        self._count = _FIRST_CHUNKS
        self.bad: dict[ChunkId, str] = {}
        """Those that weren't there or can't be decrypted, and what is wrong with each."""
        self.size = 0
        """Bytes read so far."""

    def next(self) -> Steps[dict[ChunkId, bytes]]:
        """Return the next chunks; an empty dict at the end."""
        chunks: dict[ChunkId, bytes] = {}
        while not chunks and self._at < len(self._ids):
            asked = self._ids[self._at : self._at + self._count]
            self._at += len(asked)
            try:
                chunks = yield from self._fetch(asked)
            except TamperedData:
                chunks = yield from self._fetch_singly(asked)
            for id in asked:
                if id not in chunks:
                    self.bad.setdefault(id, f"chunk {id} is not stored")
            size = sum(map(len, chunks.values()))
            self.size += size
            # As many as would be a batch, if the next ones are as large as these.
            self._count = max(1, min(_MOST_CHUNKS, _BATCH * len(asked) // max(size, 1)))
        if self._portable:
            return {id: self._portable_form(id, sealed) for id, sealed in chunks.items()}
        return chunks

    def _fetch(self, ids: list[ChunkId]) -> Steps[dict[ChunkId, bytes]]:
        chunks: dict[ChunkId, bytes] = yield At(self._store, FetchChunks(self._execution_id, ids))
        return chunks

    def _fetch_singly(self, ids: list[ChunkId]) -> Steps[dict[ChunkId, bytes]]:
        """Fetch those that can be decrypted."""
        chunks: dict[ChunkId, bytes] = {}
        for id in ids:
            try:
                chunks |= yield from self._fetch([id])
            except TamperedData as error:
                self.bad[id] = str(error)
        return chunks

    def _portable_form(self, id: ChunkId, sealed: bytes) -> bytes:
        try:
            return self._store.codec.format.portable(id, sealed)
        except CorruptData:
            return sealed  # whoever opens it says what is wrong with it


def repairable(error: CorruptData) -> bool:
    """Tell whether what can't be read is lost, so that `repair` may drop it.

    With another key, or none, it may be readable: a signature doesn't tell which key it was made
    with.
    """
    return isinstance(error, TamperedData) or not isinstance(error, DecryptionFailed | ForgedData)


def all_chunks(store: CheckpointStore, execution_id: str) -> Steps[list[ChunkId]]:
    """Return the ids of all chunks that are stored for an execution."""
    ids: list[ChunkId] = yield At(store, FindOldChunks(execution_id, _EVER))
    return ids


def damage_of(format: ChunkFormat, id: ChunkId, sealed: bytes) -> str | None:
    """Say what is wrong with a chunk; None if it is what was stored."""
    try:
        format.unseal(id, sealed)
    except CorruptData as error:
        return str(error)
    return None


def damage_in(format: ChunkFormat, chunks: Mapping[ChunkId, bytes]) -> dict[ChunkId, str]:
    """Say of each chunk that isn't what was stored what is wrong with it."""
    found = ((id, damage_of(format, id, sealed)) for id, sealed in chunks.items())
    return {id: what for id, what in found if what is not None}


class Sound(NamedTuple):
    """The rows of a snapshot that are as they were written, with the nodes in them."""

    rows: list[tuple[CheckpointRow, list[Node]]]
    writes: list[tuple[WriteRow, list[Node]]]


def check_rows(snapshot: Snapshot, further: Callable[[CheckpointRow], None] | None = None) -> Sound:
    """Compare the rows of a snapshot with their checks; adds to its findings.

    Args:
        snapshot: The rows.
        further: Raises `CorruptData` for a row that isn't sound for another reason.
    """
    findings = snapshot.findings
    sound = Sound([], [])
    for row in snapshot.rows:
        try:
            state = parse(row.state, "the state")
            checked_graph(row)
            if further is not None:
                further(row)
            sound.rows.append((row, [state]))
        except CorruptData as error:
            key = (row.namespace, row.id)
            findings.append(
                Finding(
                    snapshot.execution_id,
                    *key,
                    str(error),
                    "this checkpoint",
                    repairable=repairable(error),
                )
            )
    for write in snapshot.writes:
        try:
            sound.writes.append((write, [parse(checked_write(write), "a pending write")]))
        except CorruptData as error:
            findings.append(
                Finding(
                    snapshot.execution_id, write.namespace, write.checkpoint_id, str(error),
                    "a pending write", repairable=repairable(error),
                )
            )  # fmt: skip
    return sound


def bytes_of(rows: Iterable[CheckpointRow | WriteRow]) -> int:
    """Return the bytes of rows, as far as they are text."""
    return sum(len(f) for row in rows for f in row if isinstance(f, bytes | str))
