"""`maintain`: what a store needs from time to time, one execution after the other.

Of each execution: what a `Retention` doesn't keep goes, then pending writes whose checkpoint will
never come, then chunks that nothing refers to. The last two are left when a process dies in the
middle of something. Every step is one that any process may do at any time (see
`langcairn.maintenance`), so graphs may run meanwhile, and whoever stops in between leaves nothing
that the next run doesn't find.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.base import (
    CheckpointRow,
    ChunkId,
    Clear,
    Commit,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    Newest,
    Remove,
    Survey,
    Surveyed,
    Sweep,
    WriteRow,
)
from langcairn.backends.measures import MeasureExecutions, Stored
from langcairn.codec.reader import Content, references
from langcairn.errors import (
    AccessDenied,
    CairnError,
    Conflict,
    CorruptData,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
)
from langcairn.keeping import Plan
from langcairn.maintenance import (
    Key,
    batches,
    content_of,
    live_chunks,
    node_of,
    read_found,
    sizes_of,
    sweep,
    written_node,
)
from langcairn.objects.naming import RESERVED
from langcairn.retention import Going, Retention, going, rule_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from langcairn.codec.nodes import Node
    from langcairn.operations import Codec, Operation

    Progress = Callable[["MaintainedExecution"], object] | None

_EXECUTIONS = 100  # [ids asked for at a time]
_KEYS = 1000  # [checkpoints removed at a time: what holds a lock is to be short]
_ATTEMPTS = 3
_EVER = 2**62  # later than every epoch
# What was committed in the present epoch and has no rows may be half of something under way.
_GRACE = 3600 * 1_000_000  # [µs]


@dataclass
class MaintainedExecution:
    """What was removed of one execution; in a dry run what would be.

    Attributes:
        execution_id: The execution.
        checkpoints: Namespaces and ids of its checkpoints that went.
        writes: How many pending writes went, with them or because their checkpoint never came.
        chunks: How many chunks went, because nothing refers to them any more.
        bytes: What all these took: rows, writes and chunks as they are stored, without keys,
            indexes and encryption [bytes].
        cleared: Whether nothing was left, and so the execution itself went.
        leased: Who has the lease because of which it was left as it was; None: nobody.
        error: Why it couldn't be done, or not to the end; None: it was.
    """

    execution_id: str
    checkpoints: list[Key] = field(default_factory=list)
    writes: int = 0
    chunks: int = 0
    bytes: int = 0
    cleared: bool = False
    leased: str | None = None
    error: CairnError | None = None

    @property
    def changed(self) -> bool:
        """Whether anything went."""
        return bool(self.checkpoints or self.writes or self.chunks or self.cleared)


@dataclass
class MaintenanceReport:
    """What `CheckpointStore.maintain` has done; in a dry run, what it would have.

    Attributes:
        dry_run: Whether nothing was removed.
        executions: How many executions were looked at.
        changed: Of how many of them something went.
        cleared: How many went whole.
        checkpoints: How many checkpoints went.
        writes: How many pending writes went.
        chunks: How many chunks went.
        bytes: What all these took, as in `MaintainedExecution` [bytes].
        leased: Ids of the executions that somebody has a lease on; they were left as they were.
        errors: Execution ids, and why they couldn't be maintained.
        details: In a dry run, what would go of each execution. Else ask by ``progress``.
        next: Behind which execution to go on, if a limit ended the run; None: all were looked at.
    """

    dry_run: bool = False
    executions: int = 0
    changed: int = 0
    cleared: int = 0
    checkpoints: int = 0
    writes: int = 0
    chunks: int = 0
    bytes: int = 0
    leased: list[str] = field(default_factory=list)
    errors: dict[str, CairnError] = field(default_factory=dict)
    details: list[MaintainedExecution] = field(default_factory=list)
    next: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every execution could be maintained, but those with a lease."""
        return not self.errors

    def add(self, done: MaintainedExecution) -> None:
        """Count an execution."""
        self.executions += 1
        self.changed += done.changed
        self.cleared += done.cleared
        self.checkpoints += len(done.checkpoints)
        self.writes += done.writes
        self.chunks += done.chunks
        self.bytes += done.bytes
        if done.leased is not None:
            self.leased.append(done.execution_id)
        if done.error is not None:
            self.errors[done.execution_id] = done.error
        if self.dry_run and done.changed:
            self.details.append(done)

    def __str__(self) -> str:
        """Return it as a line of text."""
        what = "would go" if self.dry_run else "went"
        text = (
            f"looked at {self.executions} executions; {self.checkpoints} checkpoints, "
            f"{self.writes} pending writes and {self.chunks} chunks of {self.changed} of them "
            f"{what} ({self.bytes} bytes), {self.cleared} executions whole"
        )
        if self.leased:
            text += f"; {len(self.leased)} have a lease"
        if self.errors:
            text += f"; {len(self.errors)} failed"
        return text if self.next is None else f"{text}; to go on, start after {self.next!r}"


class Orders(NamedTuple):
    """How to maintain."""

    rules: Sequence[Retention]
    now: datetime
    """The time by which checkpoints are old."""
    dry_run: bool = False
    garbage: bool = True
    """Whether to look for what crashes have left, for which every row and page is read."""


def maintain(
    codec: Codec,
    orders: Orders,
    *,
    after: str = "",
    limit: int | None = None,
    seconds: float | None = None,
    progress: Progress = None,
) -> Operation[MaintenanceReport]:
    """Maintain the executions of a store, in ascending order of their ids.

    Args:
        codec: How to store, and whose caches to keep right.
        orders: What to do.
        after: Only those behind this id.
        limit: The most executions to look at.
        seconds: After which time to begin no further execution [s].
        progress: Called after each.

    Raises:
        StoreError: The storage failed. What was done until then is done; a note on the error says
            where to go on.
    """
    report = MaintenanceReport(orders.dry_run)
    begin = time.monotonic()
    while True:
        try:
            ids = yield from next_executions(after, _EXECUTIONS)
            for execution_id in ids:
                if execution_id == RESERVED:
                    continue  # it has no rows, but the name of the store in its object storage
                if report.executions == limit or (
                    seconds is not None and time.monotonic() - begin >= seconds
                ):
                    report.next = after
                    return report
                done = yield from _maintained(codec, execution_id, orders)
                report.add(done)
                after = execution_id
                if progress is not None:
                    progress(done)
        except CairnError as error:
            error.add_note(f"maintenance came to here; to go on, call it with after={after!r}")
            raise
        if not ids:
            return report


def next_executions(after: str, limit: int) -> Operation[list[str]]:
    """Return the ids of some executions behind one, in ascending order; none at the end.

    Logs of files whose id is unreadable are left out: `Survey` names them.
    """
    ids: list[str]
    try:
        ids = yield FindExecutions(after, limit)
    except CorruptData:
        surveyed: Surveyed = yield Survey()
        ids = [id for id in surveyed.executions if id > after][:limit]
    return ids


def _maintained(codec: Codec, execution_id: str, orders: Orders) -> Operation[MaintainedExecution]:
    """Maintain one execution; what is wrong with it alone, is said in what is returned."""
    done = MaintainedExecution(execution_id)
    for attempt in range(_ATTEMPTS):
        if orders.dry_run:
            done = MaintainedExecution(execution_id)  # what was counted, is still there
        try:
            yield from _Visit(codec, execution_id, orders, done).pay()
        except LeaseHeld as error:
            done.leased = error.owner
        except CorruptData as error:
            # Another clean-up may have removed what was being read; damage will show again.
            if attempt < _ATTEMPTS - 1:
                continue
            done.error = error
        except (AccessDenied, InvalidInput, LeaseLost) as error:
            done.error = error
        break
    return done


class _Visit:
    """The maintenance of one execution.

    Args:
        codec: How to store, and whose caches to keep right.
        execution_id: The execution.
        orders: What to do.
        done: Where to note what was done.
    """

    def __init__(
        self, codec: Codec, execution_id: str, orders: Orders, done: MaintainedExecution
    ) -> None:
        self._codec = codec
        self._id = execution_id
        self._orders = orders
        self._done = done

    def pay(self) -> Operation[None]:
        """Do all of it."""
        found = yield from read_found(FindCheckpoints(self._id))
        rows = [one.row for one in found]
        writes: list[WriteRow] = yield FindWrites(self._id)
        plan = Plan(self._codec, rows, writes)
        goes = yield from self._planned(plan, rows, writes)
        if goes.first or goes.last or plan.orphans:
            yield from self._thin_out(plan, goes, writes)
        elif self._orders.garbage:
            epochs = {one.epoch for one in found}
            yield from self._collect(rows, writes, epochs.pop() if len(epochs) == 1 else None)
        gone = {*goes.first, *goes.last}
        if gone >= plan.by_key.keys():
            yield from self._clear(writes, {*gone, *plan.orphans})

    # What goes

    def _planned(
        self, plan: Plan, rows: Sequence[CheckpointRow], writes: Sequence[WriteRow]
    ) -> Operation[Going]:
        rule = rule_for(self._orders.rules, self._id, rows, self._orders.now)
        if rule is None:
            return Going([], [])
        size_of = None
        if rule.max_bytes is not None:
            measured: list[tuple[str, Stored]] = yield MeasureExecutions(ids=[self._id])
            taken = measured[0][1].bytes if measured else 0
            if taken > rule.max_bytes:
                size_of = yield from self._sizes(plan, rows, writes, taken)
        return going(self._codec, plan, rule, self._orders.now, size_of)

    def _sizes(
        self, plan: Plan, rows: Sequence[CheckpointRow], writes: Sequence[WriteRow], taken: int
    ) -> Operation[Callable[[set[Key]], float]]:
        """Return what says how much the execution would take with only some checkpoints.

        Args:
            plan: The execution.
            rows: Its checkpoints.
            writes: Its pending writes.
            taken: What it takes now, by the backend's reckoning [bytes].
        """
        content = content_of(self._codec, None)
        yield from live_chunks(self._codec, self._id, rows, writes, content)
        stored: list[ChunkId] = yield FindOldChunks(self._id, _EVER)
        parts = _Parts(rows, writes, content, (yield from sizes_of(self._id, stored)))
        # By the same reckoning: some backends count keys, too, or compress.
        ratio = taken / max(parts.total, 1)
        written = {(write.namespace, write.checkpoint_id) for write in writes}
        coming = written - plan.by_key.keys() - set(plan.orphans)
        return lambda keys: ratio * parts.bytes_of(keys | coming)

    # Removing

    def _thin_out(self, plan: Plan, goes: Going, writes: Sequence[WriteRow]) -> Operation[None]:
        keys = [*goes.first, *plan.orphans]
        if self._orders.dry_run:
            self._count(plan, [*keys, *goes.last], writes)
            yield from self._count_chunks(plan, {*keys, *goes.last}, writes)
            return
        before = self._codec.caches.peek(self._id)
        epoch: int | None = None
        for part in batches(keys, _KEYS):
            epoch = yield Remove(self._id, part)
            self._codec.caches.drop(self._id)
            if epoch is None:
                return  # it was cleared meanwhile
            self._count(plan, part, writes)
        if goes.last:
            epoch = (yield from self._expire(plan, goes.last, writes)) or epoch
        if epoch is not None:
            left = yield from sweep(
                self._codec, self._id, epoch, before.content if before else None, measure=True
            )
            if left is not None:
                self._done.chunks += left.swept
                self._done.bytes += left.bytes
                if before is not None:
                    self._codec.caches.carry_over(self._id, before, epoch, left.live, left.states)

    def _expire(
        self, plan: Plan, keys: Sequence[Key], writes: Sequence[WriteRow]
    ) -> Operation[int | None]:
        """Remove the rest of an execution. Returns the epoch; None if it has come to life."""
        newest = [Newest(name, id, id) for name, id in plan.newest.items() if (name, id) in keys]
        try:
            epoch: int = yield Commit(self._id, None, removals=keys, newest=newest)
        except (LeaseHeld, LeaseLost):
            raise
        except Conflict:
            return None
        self._codec.caches.drop(self._id)
        self._count(plan, keys, writes)
        return epoch

    def _count(self, plan: Plan, keys: Iterable[Key], writes: Sequence[WriteRow]) -> None:
        """Note rows that go."""
        gone = set(keys)
        there = [key for key in keys if key in plan.by_key]
        attached = [write for write in writes if (write.namespace, write.checkpoint_id) in gone]
        self._done.checkpoints += there
        self._done.writes += len(attached)
        self._done.bytes += sum(_row_bytes(plan.by_key[key]) for key in there)
        self._done.bytes += sum(len(write.value) for write in attached)

    def _count_chunks(
        self, plan: Plan, gone: set[Key], writes: Sequence[WriteRow]
    ) -> Operation[None]:
        """Note the chunks that would go with rows."""
        live = yield from live_chunks(
            self._codec,
            self._id,
            [row for key, row in plan.by_key.items() if key not in gone],
            [write for write in writes if (write.namespace, write.checkpoint_id) not in gone],
        )
        stored: list[ChunkId] = yield FindOldChunks(self._id, _EVER)
        yield from self._count_garbage([id for id in stored if id not in live])

    def _count_garbage(self, ids: Sequence[ChunkId]) -> Operation[None]:
        sizes = yield from sizes_of(self._id, ids)
        self._done.chunks += len(ids)
        self._done.bytes += sum(sizes.values())

    # What crashes have left

    def _collect(
        self, rows: Sequence[CheckpointRow], writes: Sequence[WriteRow], epoch: int | None
    ) -> Operation[None]:
        """Remove chunks that nothing refers to.

        Args:
            rows: The checkpoints.
            writes: The pending writes.
            epoch: In which epoch all rows were read; None: in none, or in several.
        """
        stored: list[ChunkId] = yield FindOldChunks(self._id, _EVER)
        if not stored:
            return
        before = self._codec.caches.peek(self._id)
        content = content_of(self._codec, before.content if before else None)
        live = yield from live_chunks(self._codec, self._id, rows, writes, content)
        garbage = {id for id in stored if id not in live}
        if not garbage or (epoch is None and rows):
            return
        if epoch is None or epoch >> 11 < time.time_ns() // 1000 - _GRACE:
            yield from self._collect_all(sorted(garbage))
            return
        # Within an epoch rows are only added, and they refer to nothing that was garbage in it but
        # what they carry, which then is of this epoch.
        old: list[ChunkId] = yield FindOldChunks(self._id, epoch)
        ids = [id for id in old if id in garbage]
        yield from self._count_garbage(ids)
        if not self._orders.dry_run:
            for part in batches(ids):
                yield Sweep(self._id, epoch, part)

    def _collect_all(self, garbage: Sequence[ChunkId]) -> Operation[None]:
        """Remove also what was committed in the present epoch: by whom, is long dead."""
        if self._orders.dry_run:
            yield from self._count_garbage(garbage)
            return
        before = self._codec.caches.peek(self._id)
        epoch: int | None = yield Remove(self._id, ())
        self._codec.caches.drop(self._id)
        if epoch is None:
            return
        left = yield from sweep(self._codec, self._id, epoch, measure=True)
        if left is not None:
            self._done.chunks += left.swept
            self._done.bytes += left.bytes
            if before is not None:
                self._codec.caches.carry_over(self._id, before, epoch, left.live, left.states)

    def _clear(self, writes: Sequence[WriteRow], gone: set[Key]) -> Operation[None]:
        """Remove an execution in which nothing is left."""
        if self._orders.dry_run:
            self._done.cleared = {(w.namespace, w.checkpoint_id) for w in writes} <= gone
            return
        self._done.cleared = yield Clear(self._id, only_empty=True)
        if self._done.cleared:
            self._codec.caches.drop(self._id)


class _Parts:
    """What the parts of an execution take.

    Args:
        rows: Its checkpoints.
        writes: Its pending writes.
        content: All its pages.
        chunks: The sizes of all its chunks [bytes].
    """

    def __init__(
        self,
        rows: Iterable[CheckpointRow],
        writes: Iterable[WriteRow],
        content: Content,
        chunks: Mapping[ChunkId, int],
    ) -> None:
        self._pages = content.pages
        self._chunks = chunks
        self._own: dict[Key, int] = {}  # [bytes]
        self._nodes: dict[Key, list[Node]] = {}
        for row in rows:
            self._add((row.namespace, row.id), _row_bytes(row), node_of(row))
        for write in writes:
            key = write.namespace, write.checkpoint_id
            self._add(key, len(write.value), written_node(write))

    def _add(self, key: Key, size: int, node: Node) -> None:
        self._own[key] = self._own.get(key, 0) + size
        self._nodes.setdefault(key, []).append(node)

    @property
    def total(self) -> int:
        """What all of it takes, garbage included [bytes]."""
        return sum(self._own.values()) + sum(self._chunks.values())

    def bytes_of(self, keys: set[Key]) -> int:
        """Return what checkpoints take with their writes, and all that these refer to [bytes]."""
        nodes = [node for key in keys for node in self._nodes[key]]
        pages, values = references(nodes, self._pages)
        return sum(self._own[key] for key in keys) + sum(
            self._chunks.get(id, 0) for id in pages | values
        )


def _row_bytes(row: CheckpointRow) -> int:
    return len(row.state) + len(row.metadata) + len(row.graph)
