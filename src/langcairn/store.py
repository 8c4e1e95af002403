"""`CheckpointStore`: records in, records out, the same on every backend."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, TypeVar

from langcairn import executions, maintenance, operations
from langcairn.backends.base import FindCheckpoints
from langcairn.branching import Branching
from langcairn.checkpoint import Checkpoint
from langcairn.closing import Closing
from langcairn.compressing import Compressing, Lookout
from langcairn.dictionaries import load, seen
from langcairn.errors import CheckpointNotFound
from langcairn.executions import Wanted
from langcairn.leases import Lease, Leases
from langcairn.maintaining import Maintainable
from langcairn.measuring import Measurable
from langcairn.objects import TieredBackend
from langcairn.observing import HOUSEKEEPING, Observers
from langcairn.options import assembled
from langcairn.queries import by_id
from langcairn.records import Draft, draft_of, only_one, utc, valid_execution_id
from langcairn.retention import retentions
from langcairn.rewriting import Rewriting
from langcairn.running import arun, run
from langcairn.security.guard import GuardedBackend
from langcairn.slow import DEFAULT_SLOW, threshold, warn_of_slow
from langcairn.transactions import Transaction, expectation
from langcairn.watching import name_of, observed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from typing_extensions import Unpack

    from langcairn.backends.base import Backend, Commit, Request
    from langcairn.operations import Codec, Operation
    from langcairn.options import StoreOptions
    from langcairn.records import Loaded
    from langcairn.security.guard import Policy, Who
    from langcairn.thread_id import ThreadId

T = TypeVar("T")
# Inside the class, `list` is a method.
_Checkpoints = list[Checkpoint]
_Ids = list[str]


class CheckpointStore(Branching, Compressing, Maintainable, Measurable, Rewriting, Closing):
    """Checkpoints of any number of executions, for any number of threads and tasks at once.

    Every method has an async twin with the prefix ``a``. A store is a context manager, sync and
    async; leaving it closes it.

    Attributes:
        backend: Where it stores.
        codec: How it stores, and what it remembers.
        observers: Who is told about every operation, see `Observer`; ``add`` adds one.
        retention: What `maintain` keeps if it isn't told otherwise; the first that fits counts.

    Raises, from every method:
        StoreUnavailable: The storage can't be reached or is busy.
        StoreMisconfigured: It won't work until a setting is changed.
        StoreClosed: The store was closed.
    """

    def __init__(self, backend: Backend, **options: Unpack[StoreOptions]) -> None:
        """Put a store on a backend, which it then owns.

        Args:
            backend: Where to store.
            **options: As in `StoreOptions`.

        Raises:
            ImportError: cryptography is not installed.
            InvalidInput: An argument can't be used as it is.
            StoreMisconfigured: The variable or file with the keys isn't there.
        """
        self._name = backend.name
        self.retention = retentions(options.get("retention"))
        self._slow = threshold(options.get("slow_operation", DEFAULT_SLOW))
        self.backend, self.codec = assembled(backend, options)
        self.observers = Observers()
        self._leases = Leases()
        self._lookout = Lookout(eager=bool(options.get("dictionary")))

    # Running operations

    def execute(self, request: Request) -> object:
        """Answer a request as those above a backend are to see it; see `dictionaries.seen`.

        It gets the token of the lease that the store has on its execution, if it has one.
        """
        request = self._leases.fenced(request)
        steps = seen(self.codec.format, request)
        execute = self.backend.execute
        return execute(request) if steps is None else run(execute, steps)[0]

    async def aexecute(self, request: Request) -> object:
        """Do as `execute`, without blocking the event loop."""
        request = self._leases.fenced(request)
        steps = seen(self.codec.format, request)
        aexecute = self.backend.aexecute
        return await aexecute(request) if steps is None else (await arun(aexecute, steps))[0]

    def run(self, operation: Operation[T], backend: Backend | None = None) -> T:
        """Run an operation to its end, blocking; if not on the store's backend, on another one."""
        self._look_out()
        begin = time.monotonic()
        result, last = run((backend or self).execute, self._watched(operation))
        self._note_time(operation, last, time.monotonic() - begin)
        return result

    async def arun(self, operation: Operation[T], backend: Backend | None = None) -> T:
        """Do as `run`, without blocking the event loop."""
        if self._lookout.is_due(self.codec.format):
            with self._lookout:
                await arun(self.backend.aexecute, load(self.codec.format))
        begin = time.monotonic()
        result, last = await arun((backend or self).aexecute, self._watched(operation))
        self._note_time(operation, last, time.monotonic() - begin)
        return result

    def commit_all(self, commits: Sequence[Commit]) -> Sequence[int | Exception]:
        """Make commits to different executions, together if the backend can.

        See `Backend.execute_all`.
        """
        self._look_out()
        return self.backend.execute_all(self._leases.all_fenced(commits))

    def _look_out(self) -> None:
        """Look for dictionaries, if it is time."""
        if self._lookout.is_due(self.codec.format):
            with self._lookout:
                run(self.backend.execute, load(self.codec.format))

    def _watched(self, operation: Operation[T]) -> Operation[T]:
        if not self.observers.present:
            return operation
        return observed(operation, self._name, self.observers)

    def _note_time(self, operation: Operation[Any], last: Request | None, took: float) -> None:
        if took > self._slow and (name := name_of(operation)) not in HOUSEKEEPING:
            warn_of_slow(self._name, name, last, took)

    # Saving

    def save(self, checkpoint: Checkpoint, *, expected_version: int | None = None) -> None:
        """Save a checkpoint; one with the same key is replaced.

        Args:
            checkpoint: The checkpoint, with the version that it shall have.
            expected_version: The version that must be stored now; 0: there must be no such
                checkpoint yet; None: whatever is stored, the last save wins.

        Raises:
            VersionConflict: Another version is stored; nothing was saved.
            InvalidInput: A field can't be stored; nothing was saved.
            Unserializable: Likewise for a value in the state or metadata; says which.
            LeaseHeld: Someone else has a lease on the execution; nothing was saved.
            LeaseLost: This store's lease on the execution is lost; nothing was saved.
        """
        self.run(_save(self.codec, checkpoint, expected_version))

    async def asave(self, checkpoint: Checkpoint, *, expected_version: int | None = None) -> None:
        """Do as `save`."""
        await self.arun(_save(self.codec, checkpoint, expected_version))

    def save_many(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Save checkpoints, those of one execution all or none.

        Raises:
            InvalidInput: As `save`; then nothing of that execution was saved.
        """
        for drafts in _by_execution(checkpoints):
            self.run(operations.save(self.codec, drafts))

    async def asave_many(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Do as `save_many`."""
        for drafts in _by_execution(checkpoints):
            await self.arun(operations.save(self.codec, drafts))

    # Reading

    def load(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> Checkpoint:
        """Return the checkpoint with this id.

        Args:
            checkpoint_id: Its id.
            execution_id: Its execution, if several may have a checkpoint with this id (as
                copies of a thread do).
            namespace: Its namespace, likewise.

        Raises:
            CheckpointNotFound: There is none.
            AmbiguousCheckpoint: There are several.
            CorruptData: It is damaged.
        """
        query = by_id(checkpoint_id, execution_id, namespace)
        return _only(self.run(operations.find(self.codec, query)), checkpoint_id)

    async def aload(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> Checkpoint:
        """Do as `load`."""
        query = by_id(checkpoint_id, execution_id, namespace)
        return _only(await self.arun(operations.find(self.codec, query)), checkpoint_id)

    def list(
        self,
        execution_id: str,
        *,
        namespace: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> _Checkpoints:
        """Return the checkpoints of an execution, the newest first; an empty list for none.

        Args:
            execution_id: The execution; for LangGraph the thread id.
            namespace: Only those of this namespace; None for all, subgraphs included.
            since: Only those taken at this time or later.
            until: Only those taken before this time.
            limit: The most to return.

        Raises:
            CorruptData: One of them is damaged.
        """
        query = _all(execution_id, namespace, since, until)
        return [_record(loaded) for loaded in self.pages(query, {}, limit)]

    async def alist(
        self,
        execution_id: str,
        *,
        namespace: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> _Checkpoints:
        """Do as `list`."""
        query = _all(execution_id, namespace, since, until)
        return [_record(loaded) async for loaded in self.apages(query, {}, limit)]

    def pages(
        self,
        query: FindCheckpoints,
        where: dict[str, Any],
        limit: int | None,
        codec: Codec | None = None,
    ) -> Iterator[Loaded]:
        """Yield the checkpoints that a query finds, reading a page at a time.

        Between pages nothing is held open: the consumer may use the store as it likes.

        Args:
            query: What to find.
            where: What their metadata must hold, exactly.
            limit: The most to yield.
            codec: How to decode, if not as the store does.
        """
        codec = codec or self.codec
        while limit is None or limit > 0:
            loaded, following = self.run(operations.find_page(codec, query, where, limit))
            yield from loaded
            if following is None:
                return
            query = following
            limit = None if limit is None else limit - len(loaded)

    async def apages(
        self,
        query: FindCheckpoints,
        where: dict[str, Any],
        limit: int | None,
        codec: Codec | None = None,
    ) -> AsyncIterator[Loaded]:
        """Do as `pages`."""
        codec = codec or self.codec
        while limit is None or limit > 0:
            page = operations.find_page(codec, query, where, limit)
            loaded, following = await self.arun(page)
            for one in loaded:
                yield one
            if following is None:
                return
            query = following
            limit = None if limit is None else limit - len(loaded)

    def executions(
        self,
        *,
        user_id: str | int | UUID | None = None,
        session_type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | ThreadId = "",
        limit: int | None = None,
    ) -> _Ids:
        """Return the ids of the executions, in ascending order.

        One whose last checkpoint was deleted stays until it is cleared. With any of the first four
        arguments, only those whose id is a `langcairn.ThreadId` are meant. They are in the order of
        user, session type and time, and found by an index (docs/thread-ids.md says at what cost).

        Args:
            user_id: Only threads of this user. An int or UUID stands for its text.
            session_type: Only threads of this session type.
            since: Only threads made at this time or later.
            until: Only threads made before this time.
            after: Only executions whose id sorts behind this one, for reading on after a page.
            limit: The most to return.

        Raises:
            InvalidInput: An argument is no user id, session type, time or text.
        """
        wanted = Wanted.of(user_id, session_type, since, until)
        return self.run(executions.find_executions(wanted, after, limit))

    async def aexecutions(
        self,
        *,
        user_id: str | int | UUID | None = None,
        session_type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | ThreadId = "",
        limit: int | None = None,
    ) -> _Ids:
        """Do as `executions`."""
        wanted = Wanted.of(user_id, session_type, since, until)
        return await self.arun(executions.find_executions(wanted, after, limit))

    # Deleting

    def delete(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> bool:
        """Delete the checkpoint with this id, with its pending writes. False if there was none.

        Raises:
            AmbiguousCheckpoint: There are several; nothing was deleted.
        """
        query = by_id(checkpoint_id, execution_id, namespace)
        return self.run(maintenance.delete(self.codec, query))

    async def adelete(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> bool:
        """Do as `delete`."""
        query = by_id(checkpoint_id, execution_id, namespace)
        return await self.arun(maintenance.delete(self.codec, query))

    def clear(self, execution_id: str) -> bool:
        """Delete everything of an execution. False if there was nothing."""
        return self.run(maintenance.clear(self.codec, valid_execution_id(execution_id)))

    async def aclear(self, execution_id: str) -> bool:
        """Do as `clear`."""
        return await self.arun(maintenance.clear(self.codec, valid_execution_id(execution_id)))

    # Who may do what

    def guard(self, policy: Policy, who: Who) -> CheckpointStore:
        """Return this store as somebody may use it. It shares all but that, and isn't closed.

        Args:
            policy: What is allowed: `own_executions`, `read_only`, `matching`, or a function of who
                asks, the `Action` and the execution id that returns True or False.
            who: Who asks: a name, a `ContextVar` that holds it, or a function that returns it.

        Raises:
            InvalidInput: They are none of these.
        """
        guarded = copy.copy(self)
        guarded.backend = GuardedBackend(self.backend, policy, who)
        return guarded

    # One writer

    def transaction(self) -> Transaction:
        """Return a block, ``with`` or ``async with``, whose saves and deletes are all or nothing.

        They are made when the block ends; if an exception leaves it, nothing is. What is read in
        between is as before the block. See `Transaction`.
        """
        return Transaction(self)

    def lease(
        self, execution_id: str, ttl: timedelta | float = 30.0, *, owner: str | None = None
    ) -> Lease:
        """Return a lease, for ``with`` or ``async with``: within, nobody else may write.

        What this store commits to the execution then carries the lease's fencing token, whatever
        thread or task it comes from, also through a saver on this store. Commits of others are
        refused with `LeaseHeld`. See `Lease`.

        Args:
            execution_id: The execution; for LangGraph the thread id.
            ttl: After which time the lease may be taken over if it isn't renewed, as a timedelta
                or in seconds. It is renewed in the background, three times as often.
            owner: Who this is, for the messages of others; by default host and process.

        Raises:
            InvalidInput: An argument can't be used.
        """
        return Lease(self, self._leases, valid_execution_id(execution_id), ttl, owner)

    def alease(
        self, execution_id: str, ttl: timedelta | float = 30.0, *, owner: str | None = None
    ) -> Lease:
        """Do as `lease`; both serve ``async with``."""
        return self.lease(execution_id, ttl, owner=owner)

    def tiered(self) -> TieredBackend | None:
        """Return the backend that has the object storage; None if there is none."""
        backend: Any = self.backend
        while backend is not None and not isinstance(backend, TieredBackend):
            backend = getattr(backend, "inner", None)
        return backend

    # Closing

    def close(self) -> None:
        """Release connections and files. Closing twice is fine."""
        self.backend.close()

    async def aclose(self) -> None:
        """Do as `close`."""
        await self.backend.aclose()


def _save(codec: Codec, checkpoint: Checkpoint, expected_version: int | None) -> Operation[None]:
    draft = draft_of(checkpoint)
    expected = expectation(draft.namespace, draft.id, expected_version)
    return operations.save(codec, [draft], expected=expected)


def _by_execution(checkpoints: Iterable[Checkpoint]) -> Iterable[list[Draft]]:
    drafts: dict[str, list[Draft]] = {}
    for draft in map(draft_of, checkpoints):
        drafts.setdefault(draft.execution_id, []).append(draft)
    return drafts.values()


def _all(
    execution_id: str, namespace: str | None, since: datetime | None, until: datetime | None
) -> FindCheckpoints:
    return FindCheckpoints(
        valid_execution_id(execution_id),
        namespace,
        since=None if since is None else utc(since),
        until=None if until is None else utc(until),
        with_writes=False,
    )


def _only(found: list[Loaded], checkpoint_id: str) -> Checkpoint:
    if not found:
        raise CheckpointNotFound(f"there is no checkpoint {checkpoint_id!r} in this store")
    only_one([loaded.row for loaded in found])
    return _record(found[0])


def _record(loaded: Loaded) -> Checkpoint:
    row = loaded.row
    return Checkpoint(
        id=row.id,
        execution_id=row.execution_id,
        namespace=row.namespace,
        parent_id=row.parent_id,
        node_name=row.node_name,
        state=loaded.state,
        metadata=loaded.metadata,
        timestamp=row.timestamp,
        version=row.version,
        graph=loaded.graph or None,
    )
