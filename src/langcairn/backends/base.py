"""What a backend stores, what it can be asked, and the rules it keeps.

A backend moves rows and bytes in and out of one system. It never looks inside a chunk or a
state: those belong to `langcairn.codec`. Everything it does is one of the requests below, and
each request is atomic. Logic of several steps is written once, as generators that yield requests
(see `langcairn.store`); `Backend.execute` answers them for blocking callers and
`Backend.aexecute` for coroutines.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, NewType, cast

from langcairn.backends.measures import Load, Measure, MeasureExecutions, Ping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

ChunkId = NewType("ChunkId", str)
"""The hash of a chunk's content: 22 characters of URL-safe base64."""

RESERVED = "\x01"
"""The execution in which a store keeps what all others need: its dictionaries. It has chunks only,
and no id sorts before it, so that whoever reads on from it reads all others. It never expires."""


class CheckpointRow(NamedTuple):
    """One saved step. The key is ``(execution_id, namespace, id)``."""

    execution_id: str
    namespace: str
    id: str
    parent_id: str | None
    node_name: str
    state: bytes
    """A JSON object in UTF-8; large values are references to chunks."""
    metadata: bytes
    """A JSON object in UTF-8 that refers to no chunk."""
    timestamp: datetime
    """Aware, in UTC, to the microsecond."""
    version: int
    graph: bytes
    """A JSON object in UTF-8: what only LangGraph needs."""


class WriteRow(NamedTuple):
    """One pending write. The key is ``(execution_id, namespace, checkpoint_id, task_id, idx)``.

    A row with a negative ``idx`` (LangGraph's special channels) replaces the stored one with the
    same key; any other leaves the stored one as it is.
    """

    execution_id: str
    namespace: str
    checkpoint_id: str
    task_id: str
    idx: int
    task_path: str
    channel: str
    value: bytes
    """JSON in UTF-8; large values are references to chunks."""


class FoundCheckpoint(NamedTuple):
    """A row, its pending writes in LangGraph's order, and the epoch at which both were read."""

    row: CheckpointRow
    writes: Sequence[WriteRow]
    epoch: int


class Expected(NamedTuple):
    """A version that a checkpoint must have."""

    namespace: str
    id: str
    version: int | None
    """None: there must be no such checkpoint."""


class Newest(NamedTuple):
    """Which checkpoint must be the newest of a namespace, by its id."""

    namespace: str
    parent_id: str | None
    """None: there must be none."""
    id: str
    """The checkpoint that is put; it may be the newest itself, if it is put again."""


class Commit(NamedTuple):
    """Store chunks, checkpoints and writes of one execution: all of them, or nothing.

    Answer: the execution's epoch (int) after the commit.

    Chunks that are stored already keep their data, but are marked as of the present epoch, so
    that a sweep which began before this commit doesn't remove them. A checkpoint whose key is
    stored already is replaced. If that, or the replacement of a pending write, changes a state or
    value, the epoch is raised: what only the old one referred to may be swept from now on.

    Conditions are compared with what is stored before the commit, in the same transaction; see
    `langcairn.backends.conditions`. Removals come before what is put, and raise the epoch as
    `Remove` does.

    Raises:
        LeaseLost: ``fence`` is not the token of the execution's lease.
        LeaseHeld: There is no ``fence``, but somebody has a lease.
        StaleEpoch: ``epoch`` is not the execution's, or a witness is missing. The commit may refer
            to chunks that it doesn't carry, and they may be gone.
        VersionConflict: A checkpoint has another version than ``expected``.
        ConcurrentWriter: Another checkpoint is the ``newest``.
    """

    execution_id: str
    epoch: int | None
    """The epoch that the writer's cache was built on. None: the commit carries every chunk that
    it refers to, and is welcome in any epoch."""
    chunks: Sequence[tuple[ChunkId, bytes]] = ()
    checkpoints: Sequence[CheckpointRow] = ()
    writes: Sequence[WriteRow] = ()
    removals: Sequence[tuple[str, str]] = ()
    """Pairs of namespace and id of checkpoints that are removed, with their writes."""
    expected: Sequence[Expected] = ()
    newest: Sequence[Newest] = ()
    fence: int | None = None
    """The token of the writer's lease."""
    witnesses: Sequence[ChunkId] = ()
    """Chunks that are there if all is that the commit refers to and doesn't carry. If one is
    missing, the server has lost what it had acknowledged. (A backend whose data can't be lost while
    its writers live needn't look.)"""
    again: bool = False
    """Set by a backend that repeats a commit because it can't know whether the first attempt was
    made: then what this very commit stored or removed is no conflict."""

    @property
    def is_conditional(self) -> bool:
        """Whether anything that is stored must be looked at before the commit is made."""
        return bool(self.removals or self.expected or self.newest)

    @property
    def is_usual(self) -> bool:
        """Whether it only adds a checkpoint, or writes of tasks, and refers to stored chunks only.

        If the epoch is the execution's, one insertion does it. But one that adds nothing doesn't
        say why: the epoch may be another one, or the rows may be there.
        """
        return (
            self.epoch is not None
            and not self.chunks
            and len(self.checkpoints) + bool(self.writes) == 1
            and not self.is_conditional
            and all(write.idx >= 0 for write in self.writes)  # others replace the one before
        )


class Transaction(NamedTuple):
    """Make commits to different executions: all of them, or none.

    Answer: a list of the executions' epochs, in the order of the commits.

    Raises:
        InvalidInput: The executions can't be changed together, because they are on different
            nodes (in a cluster of Redis).
        StaleEpoch, LeaseLost, LeaseHeld, VersionConflict, ConcurrentWriter: As `Commit`.
    """

    commits: Sequence[Commit]
    """One or more."""


class AcquireLease(NamedTuple):
    """Become the only one who may write to an execution, for some time.

    Answer: the lease's fencing token (int), higher than all earlier ones of the execution. To who
    has the lease already the answer is the same token, and it lasts for ``ttl`` from now.

    Raises:
        LeaseHeld: Another owner has a lease that hasn't expired.
    """

    execution_id: str
    owner: str
    """Unlike every other owner, even of the same process."""
    ttl: float
    """How long it lasts if it isn't renewed [s]."""


class RenewLease(NamedTuple):
    """Let a lease last for ``ttl`` from now. Answer: None.

    One that has expired is renewed, too, if nobody has written or taken a lease since.

    Raises:
        LeaseLost: The token isn't that of the execution's lease any more.
    """

    execution_id: str
    token: int
    ttl: float
    """As in `AcquireLease` [s]."""


class ReleaseLease(NamedTuple):
    """Give a lease back. Answer: True, or False if it was lost already."""

    execution_id: str
    token: int


class Position(NamedTuple):
    """A place in the order of `FindCheckpoints`, for reading on after it."""

    id: str
    execution_id: str
    namespace: str


class FindCheckpoints(NamedTuple):
    """Find checkpoints; conditions that are None are not applied.

    Answer: a list of `FoundCheckpoint` in descending order of ``(id, execution_id, namespace)``,
    that is, newest first. Rows, writes and epoch of one element belong together: no commit or
    removal lies between them.
    """

    execution_id: str | None = None
    namespace: str | None = None
    id: str | None = None
    before_id: str | None = None
    """Only checkpoints whose id sorts before this one."""
    after: Position | None = None
    """Only checkpoints behind this place in the order of the answer."""
    since: datetime | None = None
    """Only checkpoints taken at this time (aware, UTC) or later."""
    until: datetime | None = None
    """Only checkpoints taken before this time (aware, UTC)."""
    metadata: Mapping[str, str | int | bool] | None = None
    """Only checkpoints whose metadata has these values at the top level. A backend may leave
    this out or apply it loosely (1 for true); the store checks again, exactly."""
    limit: int | None = None
    with_writes: bool = True


class FindWrites(NamedTuple):
    """Find all pending writes of an execution, also those whose checkpoint isn't there (yet).

    Answer: a list of `WriteRow`.
    """

    execution_id: str


class FetchChunks(NamedTuple):
    """Read chunks of one execution. Answer: a dict of those that exist, id to data."""

    execution_id: str
    ids: Sequence[ChunkId]


class FindExecutions(NamedTuple):
    """Read the ids of executions in a range. Answer: a list of str.

    They are in ascending order as Python compares strings, which is that of their bytes in UTF-8.
    The range is found by an index and read no farther than to ``limit``: a caller may ask for one
    id out of a million as often as it likes. (Plain files have to list their directory.)
    """

    after: str = ""
    """Only ids behind this text, which need not be one."""
    limit: int | None = None
    before: str | None = None
    """Only ids before this text, likewise."""


class Remove(NamedTuple):
    """Remove checkpoints with their writes, and raise the execution's epoch.

    From then on, commits that were built on an older epoch are refused. The chunks stay for a
    `Sweep`. Answer: the new epoch (int), or None if there is no such execution; then nothing
    happened.

    Raises:
        LeaseLost, LeaseHeld: As `Commit`.
    """

    execution_id: str
    checkpoints: Sequence[tuple[str, str]]
    """Pairs of namespace and checkpoint id; those without a row may still have writes."""
    fence: int | None = None
    """The token of the caller's lease."""


class FindOldChunks(NamedTuple):
    """Read the ids of an execution's chunks last committed before ``epoch``.

    Answer: a list of `ChunkId`.
    """

    execution_id: str
    epoch: int


class Sweep(NamedTuple):
    """Remove chunks that nothing refers to, if the execution is still in ``epoch``.

    A chunk that was committed again in ``epoch`` or later stays. Answer: True, or False if the
    epoch is another by now; then nothing was removed. Leases don't matter: nobody can see it.
    """

    execution_id: str
    epoch: int
    chunks: Sequence[ChunkId]


class Rewrite(NamedTuple):
    """Store what is stored in another form: encrypted with another key, packed otherwise, moved.

    To whoever reads it, it means the same, so the epoch stays. What isn't stored (any more) is
    left out, and so is a row that isn't as it was read. Answer: None.
    """

    execution_id: str
    chunks: Sequence[tuple[ChunkId, bytes]] = ()
    """Ids and the new data."""
    checkpoints: Sequence[tuple[CheckpointRow, CheckpointRow]] = ()
    """Each as it was read and as it is to be. Only state, metadata and graph may differ."""
    writes: Sequence[tuple[WriteRow, WriteRow]] = ()
    """Likewise. Only the value may differ."""


class Survey(NamedTuple):
    """Say what there is by name, whatever state its content is in. Answer: `Surveyed`."""

    execution_id: str | None = None
    """Name its checkpoints; None: name the executions."""
    deep: bool = False
    """Let the system check itself as far as it can, which may mean to read everything."""


class Surveyed(NamedTuple):
    """What a `Survey` found."""

    executions: Sequence[str]
    """Ids, in ascending order; empty if the survey was of one execution."""
    checkpoints: Sequence[tuple[str, str]]
    """Pairs of namespace and id, in no order; empty if the survey was of all executions."""
    problems: Sequence[str]
    """What is wrong and would not be seen by reading what is named, one sentence for each."""


class Move(NamedTuple):
    """Store chunks in another form if the execution is still in ``epoch``.

    Readers see the same, so the epoch stays. A chunk that isn't stored as it was read is left out.
    Answer: True, or False if the epoch is another by now; then nothing happened. So whoever raises
    the epoch knows that nothing prepared before will be moved after.
    """

    execution_id: str
    epoch: int
    chunks: Sequence[tuple[ChunkId, bytes, bytes]]
    """Ids, the data as it was read, and the data as it is to be."""


class Clear(NamedTuple):
    """Remove everything of one execution. Answer: True if there was something.

    Who clears with the token of his lease keeps the lease, in an execution that is empty.

    Raises:
        LeaseLost, LeaseHeld: As `Commit`.
    """

    execution_id: str
    fence: int | None = None
    """The token of the caller's lease."""
    only_empty: bool = False
    """Only if it has neither checkpoints nor pending writes, and the caller no lease on it. Else
    the answer is False, and all stays."""


Request = (
    Commit
    | FindCheckpoints
    | FindWrites
    | FetchChunks
    | FindExecutions
    | Remove
    | FindOldChunks
    | Sweep
    | Rewrite
    | Survey
    | Move
    | Clear
    | Ping
    | Measure
    | MeasureExecutions
    | Transaction
    | AcquireLease
    | RenewLease
    | ReleaseLease
)


class Backend(ABC):
    """One storage system, for any number of threads and tasks at once.

    Errors of the system are raised as `langcairn.errors.StoreError` or `CorruptData`, with the
    driver's error as the cause. After one of them nothing of the request has happened, except
    that a lost connection may leave open whether a commit was made; every request may therefore
    be repeated without harm.
    """

    @abstractmethod
    def execute(self, request: Request) -> object:
        """Answer a request; the types of the answers stand at the requests."""

    @abstractmethod
    async def aexecute(self, request: Request) -> object:
        """Answer a request without blocking the event loop."""

    def execute_all(self, commits: Sequence[Commit]) -> Sequence[int | Exception]:
        """Answer several commits, in one transaction if this backend can.

        Each is all or nothing by itself. Of one execution there is at most one among them.

        Returns:
            An outcome for each, in order: the answer, or the error with which it failed alone.

        Raises:
            StoreError: All of them failed.
        """
        outcomes: list[int | Exception] = []
        for commit in commits:
            try:
                outcomes.append(cast("int", self.execute(commit)))
            except Exception as error:  # noqa: BLE001 -- an outcome
                outcomes.append(error)
        return outcomes

    @property
    def name(self) -> str:
        """What this kind of backend is called in metrics, traces and logs."""
        return type(self).__name__.removesuffix("Backend").lower()

    def load(self) -> Load:
        """Return how busy it is, without asking the system. A closed one is not."""
        return Load()

    @abstractmethod
    def close(self) -> None:
        """Release what this backend opened. Closing twice is fine."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release what this backend opened, without blocking the event loop."""


def writes_order(row: WriteRow) -> tuple[str, str, int]:
    """Order pending writes as the run applied them (LangGraph's ``writes_sort_key``)."""
    return (row.task_path, row.task_id, row.idx)


def next_epoch(previous: int = 0) -> int:
    """Return an epoch above ``previous`` that this execution has never had.

    Epochs are microseconds since 1970 with 11 random bits below, in 63 bits. An execution that
    was cleared and begun anew thus gets a number that no writer of the old one remembers,
    although no row was left behind to count on from.
    """
    return max(previous + 1, (time.time_ns() // 1000 << 11) | secrets.randbits(11))
