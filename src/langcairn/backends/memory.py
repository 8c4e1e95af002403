"""Everything in this process' memory: for tests, and for runs that may be lost with it."""

from __future__ import annotations

import platform
import threading
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn.backends.base import (
    AcquireLease,
    Backend,
    CheckpointRow,
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Move,
    ReleaseLease,
    Remove,
    RenewLease,
    Rewrite,
    Survey,
    Surveyed,
    Sweep,
    Transaction,
    WriteRow,
    next_epoch,
    writes_order,
)
from langcairn.backends.conditions import (
    NO_LEASE,
    Deadline,
    acquired,
    check_commit,
    check_fence,
    ended,
    is_valid,
    renewed,
)
from langcairn.backends.measures import (
    Measure,
    Measured,
    MeasureExecutions,
    Ping,
    Server,
    Stored,
)
from langcairn.errors import StaleEpoch, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from langcairn.backends.base import Request

_Key = tuple[str, str]
"""Namespace and checkpoint id."""


class _Execution:
    """The rows and chunks of one execution."""

    __slots__ = ("checkpoints", "chunks", "epoch", "lease", "order", "writes")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.lease = NO_LEASE
        self.checkpoints: dict[_Key, CheckpointRow] = {}
        self.order: dict[str, list[str]] = {}  # namespace to checkpoint ids, ascending
        self.writes: dict[_Key, dict[tuple[str, int], WriteRow]] = {}
        self.chunks: dict[ChunkId, tuple[int, bytes]] = {}  # epoch of the last commit, data


class _SortedIds:
    """Ids of executions, which are put in order when somebody asks: adding one costs no search."""

    def __init__(self) -> None:
        self._sorted: list[str] = []
        self._fresh: set[str] = set()

    def add(self, id: str) -> None:
        """Add an id that isn't there."""
        self._fresh.add(id)

    def remove(self, id: str) -> None:
        """Remove an id that is there."""
        if id in self._fresh:
            self._fresh.remove(id)
        else:
            del self._sorted[bisect_left(self._sorted, id)]

    def between(self, query: FindExecutions) -> list[str]:
        """Return those in a range."""
        ids = self._sorted
        if self._fresh:
            ids += sorted(self._fresh)
            ids.sort()  # two runs, which it merges
            self._fresh.clear()
        start = bisect_right(ids, query.after)
        end = len(ids) if query.before is None else bisect_left(ids, query.before)
        return ids[start : end if query.limit is None else min(end, start + max(query.limit, 0))]


class MemoryBackend(Backend):
    """Rows and chunks in dicts, one set per execution.

    All operations are short and none waits, so one lock around each is enough, and the event
    loop's thread may do them itself.
    """

    def __init__(self) -> None:
        self._executions: dict[str, _Execution] = {}
        self._ids = _SortedIds()  # of the executions
        self._by_id: dict[str, set[_Key]] = {}  # checkpoint id to (execution_id, namespace)
        self._lock = threading.Lock()
        self._closed = False
        self._handlers: dict[type, Callable[[Any], object]] = {
            Commit: self._commit,
            FindCheckpoints: self._find,
            FindWrites: self._find_writes,
            FetchChunks: self._fetch,
            FindExecutions: self._find_executions,
            Remove: self._remove,
            FindOldChunks: self._old_chunks,
            Sweep: self._sweep,
            Rewrite: self._rewrite,
            Survey: self._survey,
            Move: self._move,
            Clear: self._clear,
            Ping: lambda _: Server("memory", platform.python_version(), writable=True),
            Measure: self._measure,
            MeasureExecutions: self._measure_executions,
            Transaction: self._transaction,
            AcquireLease: self._acquire,
            RenewLease: self._renew,
            ReleaseLease: self._release,
        }

    @override
    def execute(self, request: Request) -> object:
        handler = self._handlers[type(request)]
        with self._lock:
            if self._closed:
                raise StoreClosed("this store is closed; open a new one")
            return handler(request)

    @override
    async def aexecute(self, request: Request) -> object:
        return self.execute(request)

    @override
    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._executions.clear()
            self._ids = _SortedIds()
            self._by_id.clear()

    @override
    async def aclose(self) -> None:
        self.close()

    def stored_bytes(self) -> int:
        """Return the bytes of all rows and chunks with their keys, without Python's overhead."""
        with self._lock:
            return sum(
                sum(_row_bytes(row) for row in execution.checkpoints.values())
                + sum(
                    _row_bytes(row) for rows in execution.writes.values() for row in rows.values()
                )
                + sum(len(id) + len(data) for id, (_, data) in execution.chunks.items())
                for execution in self._executions.values()
            )

    def _commit(self, commit: Commit) -> int:
        self._check(commit)
        return self._store(commit)

    def _transaction(self, transaction: Transaction) -> list[int]:
        for commit in transaction.commits:
            self._check(commit)
        return [self._store(commit) for commit in transaction.commits]

    def _check(self, commit: Commit) -> None:
        """Refuse a commit whose conditions aren't met."""
        execution = self._executions.get(commit.execution_id)
        lease = NO_LEASE if execution is None else execution.lease
        check_fence(commit.execution_id, lease.now(), commit.fence)
        if commit.epoch is not None and (execution is None or commit.epoch != execution.epoch):
            raise StaleEpoch(f"execution {commit.execution_id!r} has left epoch {commit.epoch}")
        if commit.is_conditional:
            check_commit(commit, _Stored(execution))

    def _store(self, commit: Commit) -> int:
        """Make a commit that was checked."""
        execution = self._executions.get(commit.execution_id)
        if execution is None:
            execution = self._executions[commit.execution_id] = _Execution(next_epoch())
            self._ids.add(commit.execution_id)
        if commit.fence is None and execution.lease.owner is not None:
            execution.lease = Deadline.of(ended(execution.lease.now()))  # it had expired
        if commit.removals:
            self._remove_rows(commit.execution_id, execution, commit.removals)
        replaced = [self._put(execution, row) for row in commit.checkpoints]
        replaced += [self._put_write(execution, write) for write in commit.writes]
        if any(replaced):
            execution.epoch = next_epoch(execution.epoch)
        epoch, chunks = execution.epoch, execution.chunks
        for id, data in commit.chunks:
            stored = chunks.get(id)
            chunks[id] = (epoch, data if stored is None else stored[1])
        return epoch

    def _put_write(self, execution: _Execution, write: WriteRow) -> bool:
        """Store a write. Returns whether it replaced another value."""
        rows = execution.writes.setdefault((write.namespace, write.checkpoint_id), {})
        stored = rows.setdefault((write.task_id, write.idx), write)
        if write.idx < 0:
            rows[write.task_id, write.idx] = write
        return write.idx < 0 and stored.value != write.value

    def _put(self, execution: _Execution, row: CheckpointRow) -> bool:
        """Store a checkpoint. Returns whether it replaced another state."""
        key = (row.namespace, row.id)
        stored = execution.checkpoints.get(key)
        if stored is None:
            order = execution.order.setdefault(row.namespace, [])
            if not order or order[-1] < row.id:
                order.append(row.id)
            else:
                insort(order, row.id)
            self._by_id.setdefault(row.id, set()).add((row.execution_id, row.namespace))
        execution.checkpoints[key] = row
        return stored is not None and stored.state != row.state

    def _find(self, query: FindCheckpoints) -> list[FoundCheckpoint]:
        found: list[FoundCheckpoint] = []
        if query.limit is not None and query.limit <= 0:
            return found
        for row, execution in self._candidates(query):
            writes: list[WriteRow] = []
            if query.with_writes:
                rows = execution.writes.get((row.namespace, row.id))
                if rows:
                    writes = sorted(rows.values(), key=writes_order)
            found.append(FoundCheckpoint(row, writes, execution.epoch))
            if len(found) == query.limit:
                break
        return found

    def _candidates(self, query: FindCheckpoints) -> Iterator[tuple[CheckpointRow, _Execution]]:
        """Yield the checkpoints that a query means, newest first."""
        keys = self._keys(query)
        since, until = query.since, query.until
        if query.after is not None:
            keys = ((id, e, ns) for id, e, ns in keys if (id, e, ns) < tuple(query.after))
        for id, execution_id, namespace in keys:
            execution = self._executions[execution_id]
            row = execution.checkpoints[namespace, id]
            if (
                (query.before_id is None or id < query.before_id)
                and (since is None or row.timestamp >= since)
                and (until is None or row.timestamp < until)
            ):
                yield row, execution

    def _keys(self, query: FindCheckpoints) -> Iterator[tuple[str, str, str]]:
        """Yield (id, execution_id, namespace) of what may match, descending."""
        if query.id is not None:
            yield from sorted(
                (
                    (query.id, execution_id, namespace)
                    for execution_id, namespace in self._by_id.get(query.id, ())
                    if query.execution_id in (None, execution_id)
                    and query.namespace in (None, namespace)
                ),
                reverse=True,
            )
            return
        if query.execution_id is not None and query.namespace is not None:
            execution = self._executions.get(query.execution_id)
            ids = execution.order.get(query.namespace, []) if execution else []
            end = len(ids) if query.before_id is None else bisect_left(ids, query.before_id)
            for i in range(end - 1, -1, -1):
                yield ids[i], query.execution_id, query.namespace
            return
        wanted = self._executions if query.execution_id is None else [query.execution_id]
        yield from sorted(
            (
                (id, execution_id, namespace)
                for execution_id in wanted
                if execution_id in self._executions
                for namespace, ids in self._executions[execution_id].order.items()
                if query.namespace in (None, namespace)
                for id in ids
            ),
            reverse=True,
        )

    def _find_writes(self, query: FindWrites) -> list[WriteRow]:
        execution = self._executions.get(query.execution_id)
        if execution is None:
            return []
        return [row for rows in execution.writes.values() for row in rows.values()]

    def _fetch(self, query: FetchChunks) -> dict[ChunkId, bytes]:
        execution = self._executions.get(query.execution_id)
        if execution is None:
            return {}
        chunks = execution.chunks
        return {id: chunks[id][1] for id in query.ids if id in chunks}

    def _find_executions(self, query: FindExecutions) -> list[str]:
        return self._ids.between(query)

    def _survey(self, survey: Survey) -> Surveyed:
        if survey.execution_id is None:
            return Surveyed(sorted(self._executions), [], [])
        execution = self._executions.get(survey.execution_id)
        return Surveyed([], list(execution.checkpoints) if execution else [], [])

    def _remove(self, request: Remove) -> int | None:
        execution = self._executions.get(request.execution_id)
        if execution is None:
            check_fence(request.execution_id, NO_LEASE.now(), request.fence)
            return None
        if check_fence(request.execution_id, execution.lease.now(), request.fence):
            execution.lease = Deadline.of(ended(execution.lease.now()))
        self._remove_rows(request.execution_id, execution, request.checkpoints)
        return execution.epoch

    def _remove_rows(self, execution_id: str, execution: _Execution, keys: Sequence[_Key]) -> None:
        for key in keys:
            namespace, id = key
            execution.writes.pop(key, None)
            if execution.checkpoints.pop(key, None) is not None:
                order = execution.order[namespace]
                del order[bisect_left(order, id)]
                self._forget(id, execution_id, namespace)
        execution.epoch = next_epoch(execution.epoch)

    def _forget(self, id: str, execution_id: str, namespace: str) -> None:
        places = self._by_id[id]
        places.discard((execution_id, namespace))
        if not places:
            del self._by_id[id]

    def _old_chunks(self, query: FindOldChunks) -> list[ChunkId]:
        execution = self._executions.get(query.execution_id)
        if execution is None:
            return []
        return [id for id, (epoch, _) in execution.chunks.items() if epoch < query.epoch]

    def _sweep(self, request: Sweep) -> bool:
        execution = self._executions.get(request.execution_id)
        if execution is None or execution.epoch != request.epoch:
            return False
        for id in request.chunks:
            stored = execution.chunks.get(id)
            if stored is not None and stored[0] < request.epoch:
                del execution.chunks[id]
        return True

    def _rewrite(self, request: Rewrite) -> None:
        execution = self._executions.get(request.execution_id)
        if execution is None:
            return
        for id, data in request.chunks:
            if id in execution.chunks:
                execution.chunks[id] = (execution.chunks[id][0], data)
        for old, new in request.checkpoints:
            key = (old.namespace, old.id)
            if execution.checkpoints.get(key) == old:
                execution.checkpoints[key] = new
        for before, after in request.writes:
            rows = execution.writes.get((before.namespace, before.checkpoint_id), {})
            if rows.get((before.task_id, before.idx)) == before:
                rows[before.task_id, before.idx] = after

    def _move(self, request: Move) -> bool:
        execution = self._executions.get(request.execution_id)
        if execution is None or execution.epoch != request.epoch:
            return False
        for id, old, new in request.chunks:
            epoch, stored = execution.chunks.get(id, (0, None))
            if stored == old:
                execution.chunks[id] = (epoch, new)
        return True

    def _clear(self, request: Clear) -> bool:
        id = request.execution_id
        execution = self._executions.get(id)
        check_fence(id, (NO_LEASE if execution is None else execution.lease).now(), request.fence)
        if execution is None:
            return False
        if request.only_empty and (
            request.fence is not None or execution.checkpoints or any(execution.writes.values())
        ):
            return False
        for namespace, checkpoint_id in execution.checkpoints:
            self._forget(checkpoint_id, id, namespace)
        del self._executions[id]
        if request.fence is None:
            self._ids.remove(id)
        else:
            self._executions[id] = emptied = _Execution(next_epoch(execution.epoch))
            emptied.lease = execution.lease
        return True

    def _acquire(self, request: AcquireLease) -> int:
        execution = self._executions.get(request.execution_id)
        lease = acquired((NO_LEASE if execution is None else execution.lease).now(), request)
        if execution is None:
            execution = self._executions[request.execution_id] = _Execution(next_epoch())
            self._ids.add(request.execution_id)
        execution.lease = Deadline.of(lease)
        return lease.token

    def _renew(self, request: RenewLease) -> None:
        execution = self._executions.get(request.execution_id)
        lease = renewed((NO_LEASE if execution is None else execution.lease).now(), request)
        if execution is not None:
            execution.lease = Deadline.of(lease)

    def _release(self, request: ReleaseLease) -> bool:
        execution = self._executions.get(request.execution_id)
        if execution is None or not is_valid(execution.lease.now(), request.token):
            return False
        execution.lease = Deadline.of(ended(execution.lease.now()))
        return True

    def _measure(self, _: Measure) -> Measured:
        return Measured(len(self._executions), _stored(self._executions.values()))

    def _measure_executions(self, request: MeasureExecutions) -> list[tuple[str, Stored]]:
        wanted = self._executions.keys() if request.ids is None else set(request.ids)
        ids = sorted(id for id in wanted if id > request.after and id in self._executions)
        limit = len(ids) if request.limit is None else max(request.limit, 0)
        return [(id, _stored([self._executions[id]])) for id in ids[:limit]]


def _stored(executions: Collection[_Execution]) -> Stored:
    """Return how much executions hold, together."""
    rows = [row for execution in executions for row in execution.checkpoints.values()]
    writes = [
        row
        for execution in executions
        for rows in execution.writes.values()
        for row in rows.values()
    ]
    chunks = [data for execution in executions for _, data in execution.chunks.values()]
    times = [row.timestamp for row in rows]
    return Stored(
        len(rows),
        len(writes),
        len(chunks),
        sum(len(row.state) + len(row.metadata) + len(row.graph) for row in rows)
        + sum(len(row.value) for row in writes)
        + sum(map(len, chunks)),
        min(times, default=None),
        max(times, default=None),
    )


class _Stored:
    """What is stored of an execution before a commit."""

    def __init__(self, execution: _Execution | None) -> None:
        self._execution = execution or _Execution(0)

    def version(self, namespace: str, id: str) -> int | None:
        row = self._execution.checkpoints.get((namespace, id))
        return None if row is None else row.version

    def newest(self, namespace: str) -> str | None:
        ids = self._execution.order.get(namespace)
        return ids[-1] if ids else None

    def holds(self, row: CheckpointRow) -> bool:
        return self._execution.checkpoints.get((row.namespace, row.id)) == row


def _row_bytes(row: tuple[object, ...]) -> int:
    return sum(
        len(field) if isinstance(field, (str, bytes)) else 8 for field in row if field is not None
    )
