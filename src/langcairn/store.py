"""`CheckpointStore`: records in, records out, the same on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from langcairn import maintenance, operations
from langcairn.backends.base import FindCheckpoints, FindExecutions
from langcairn.cache import Caches
from langcairn.checkpoint import Checkpoint
from langcairn.closing import Closing
from langcairn.errors import CheckpointNotFound, InvalidInput
from langcairn.leases import Lease, Leases
from langcairn.operations import Codec
from langcairn.records import Draft, draft_of, only_one, utc, valid_execution_id, valid_name
from langcairn.transactions import Transaction, expectation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from datetime import datetime, timedelta

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langcairn.backends.base import Backend
    from langcairn.operations import Operation
    from langcairn.records import Loaded

T = TypeVar("T")
# Inside the class, `list` is a method.
_Checkpoints = list[Checkpoint]
_Ids = list[str]

DEFAULT_CACHE_BYTES = 64 * 2**20


class CheckpointStore(Closing):
    """Checkpoints of any number of executions, for any number of threads and tasks at once.

    Every method has an async twin with the prefix ``a``. A store is a context manager, sync and
    async; leaving it closes it.

    Raises, from every method:
        StoreUnavailable: The storage can't be reached or is busy.
        StoreMisconfigured: It won't work until a setting is changed.
        StoreClosed: The store was closed.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        serde: SerializerProtocol | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        """Put a store on a backend, which it then owns.

        Args:
            backend: Where to store.
            serde: How to serialize values; by default LangGraph's msgpack, loaded safely.
            cache_bytes: How much to remember about executions used last [bytes, about].
        """
        if cache_bytes < 0:
            raise InvalidInput(f"cache_bytes must not be negative: {cache_bytes}")
        self.backend = backend
        self.codec = Codec(serde, Caches(cache_bytes))
        self._leases = Leases()

    # Running operations

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end, blocking."""
        try:
            request = next(operation)
            while True:
                try:
                    answer = self.backend.execute(self._leases.fenced(request))
                except BaseException as error:  # noqa: BLE001 -- handed to the operation, which may handle it
                    request = operation.throw(error)
                else:
                    request = operation.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # what the generator returns

    async def arun(self, operation: Operation[T]) -> T:
        """Run an operation to its end without blocking the event loop."""
        try:
            request = next(operation)
            while True:
                try:
                    answer = await self.backend.aexecute(self._leases.fenced(request))
                except BaseException as error:  # noqa: BLE001 -- as in run
                    request = operation.throw(error)
                else:
                    request = operation.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # what the generator returns

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
        query = _one(checkpoint_id, execution_id, namespace)
        return _only(self.run(operations.find(self.codec, query)), checkpoint_id)

    async def aload(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> Checkpoint:
        """Do as `load`."""
        query = _one(checkpoint_id, execution_id, namespace)
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

    def executions(self, *, after: str = "", limit: int | None = None) -> _Ids:
        """Return the ids of the executions, in ascending order, behind ``after``.

        One whose last checkpoint was deleted stays until it is cleared.
        """
        return self.backend.execute(FindExecutions(after, limit))  # type: ignore[return-value]  # see FindExecutions

    async def aexecutions(self, *, after: str = "", limit: int | None = None) -> _Ids:
        """Do as `executions`."""
        return await self.backend.aexecute(FindExecutions(after, limit))  # type: ignore[return-value]  # as above

    # Deleting

    def delete(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> bool:
        """Delete the checkpoint with this id, with its pending writes. False if there was none.

        Raises:
            AmbiguousCheckpoint: There are several; nothing was deleted.
        """
        query = _one(checkpoint_id, execution_id, namespace)
        return self.run(maintenance.delete(self.codec, query))

    async def adelete(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> bool:
        """Do as `delete`."""
        query = _one(checkpoint_id, execution_id, namespace)
        return await self.arun(maintenance.delete(self.codec, query))

    def clear(self, execution_id: str) -> bool:
        """Delete everything of an execution. False if there was nothing."""
        return self.run(maintenance.clear(self.codec, valid_execution_id(execution_id)))

    async def aclear(self, execution_id: str) -> bool:
        """Do as `clear`."""
        return await self.arun(maintenance.clear(self.codec, valid_execution_id(execution_id)))

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


def _one(checkpoint_id: str, execution_id: str | None, namespace: str | None) -> FindCheckpoints:
    return FindCheckpoints(
        execution_id=None if execution_id is None else valid_execution_id(execution_id),
        namespace=namespace,
        id=valid_name(checkpoint_id, "checkpoint id"),
        limit=2,
        with_writes=False,
    )


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
