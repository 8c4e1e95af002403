"""A saver that holds checkpoints back, and saves the newest of each thread at an interval."""

from __future__ import annotations

import copy
import logging
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)

from langcairn import checkpoint as records
from langcairn import operations
from langcairn.backends.base import FindCheckpoints
from langcairn.backends.memory import MemoryBackend
from langcairn.closing import Closing
from langcairn.errors import CairnError, StoreClosed
from langcairn.langgraph.merging import Merge, newer, place_of
from langcairn.langgraph.saver import NODE_NAME, CheckpointSaver, thread_of
from langcairn.langgraph.shelf import Batch, Flush, Held, Saving, Shelf, WritesCall
from langcairn.langgraph.translation import tuple_of
from langcairn.store import CheckpointStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
    from datetime import timedelta

    from langchain_core.runnables import RunnableConfig

    from langcairn.records import Loaded

# Inside the class, `list` is a method.
Checkpoints = list[records.Checkpoint]
Threads = list[str]

_logger = logging.getLogger(__name__)

_INTERRUPT = "__interrupt__"


class IntervalSaver(BaseCheckpointSaver[int], Closing):
    """Puts checkpoints through another saver, at most once in an interval for each thread.

    What is put in between is held in memory, the newest checkpoint of each namespace with its
    pending writes; of graphs with a `DeltaChannel` all, because they are rebuilt from each other.
    It is saved when the interval is over (by a thread in the background), when a node is
    interrupted, on `flush` and on `close`. Nobody tells a saver that a run has ended:
    `CheckpointableRunnable` calls `flush` then. A process that is killed loses what it held back.

    Everything that is read through it includes what is held back.

    Attributes:
        inner: The saver that it saves through.
        interval: The longest time to hold a checkpoint back.
    """

    def __init__(self, inner: CheckpointSaver, interval: timedelta) -> None:
        """Put checkpoints through a saver, which is closed with this one."""
        super().__init__(serde=inner.serde)
        self.inner = inner
        self.store = inner.store
        self.interval = interval
        self._shelf = Shelf()
        self._memory = CheckpointSaver(
            CheckpointStore(MemoryBackend(), serde=inner.store.codec.serde)
        )
        self._timer: list[threading.Thread] = []  # at most one; shared with our copies

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Hold a checkpoint back.

        Raises:
            Unserializable: A value can't be stored; nothing of the put was kept.
        """
        config = self._hold(config, checkpoint, metadata, new_versions)
        if not self.interval:
            self.flush(thread_of(config)[0])
        return config

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do as `put`."""
        config = self._hold(config, checkpoint, metadata, new_versions)
        if not self.interval:
            await self.aflush(thread_of(config)[0])
        return config

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Hold back the pending writes of a task; an interrupt saves the thread at once.

        Writes to a checkpoint that is saved already are saved at once, too.
        """
        if not self._hold_writes(config, writes, task_id, task_path):
            self.inner.put_writes(config, writes, task_id, task_path)
        if _interrupts(writes) or not self.interval:
            self.flush(thread_of(config)[0])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do as `put_writes`."""
        if not self._hold_writes(config, writes, task_id, task_path):
            await self.inner.aput_writes(config, writes, task_id, task_path)
        if _interrupts(writes) or not self.interval:
            await self.aflush(thread_of(config)[0])

    def _hold(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        execution_id, namespace = thread_of(config)
        parents = metadata.get("parents") or {}
        caller = max(parents.items(), key=lambda item: len(item[0])) if parents else None
        held = Held(
            namespace,
            checkpoint["id"],
            get_checkpoint_id(config) or None,
            dict(new_versions),
            caller,
        )
        with self._shelf.lock:
            saved = self._memory.put(config, checkpoint, metadata, new_versions)
            self._shelf.add(
                execution_id,
                held,
                # Without an interval none is skipped, also if its flush still waits for another.
                needs_parent=not self.interval
                or bool(metadata.get("counters_since_delta_snapshot")),
            )
            if self.interval and not self._timer:
                self._timer.append(
                    threading.Thread(target=self._keep_time, name="langcairn-interval", daemon=True)
                )
                self._timer[0].start()
        return saved

    def _hold_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> bool:
        """Hold writes back, if their checkpoint is. Returns whether it is."""
        execution_id, namespace = thread_of(config)
        with self._shelf.lock:
            held = self._shelf.find(execution_id, namespace, get_checkpoint_id(config) or "")
            if held is None:
                return False
            self._memory.put_writes(config, writes, task_id, task_path)
            stored = [(channel, self.serde.dumps_typed(value)) for channel, value in writes]
            held.calls.append(WritesCall(stored, task_id, task_path))
            return True

    # Saving

    def flush(self, thread_id: str | None = None) -> None:
        """Save what is held back, of a thread or of all; returns when it is stored.

        Raises:
            StoreError: It could not be saved; it is still held back.
        """
        saving: Saving | None = None
        for thread in self._wanted(thread_id):
            try:
                self._flush_one(thread)
            except Saving as error:
                saving = error  # this one can't be waited for, all others can
        if saving is not None:
            raise saving

    async def aflush(self, thread_id: str | None = None) -> None:
        """Do as `flush`."""
        for thread in self._wanted(thread_id):
            with closing(self._batches(thread)) as batches:
                for batch in batches:
                    if isinstance(batch, Flush):
                        await batch.await_end()
                        continue
                    for method, arguments in self._steps(batch):
                        await getattr(self.inner, f"a{method}")(*arguments)
                    batch.flush.saved = True

    def _flush_one(self, thread: str, *, waiting: bool = True) -> None:
        """Save what is held back of a thread; unless waiting, leave it to a flush of others."""
        with closing(self._batches(thread)) as batches:
            for batch in batches:
                if isinstance(batch, Flush):
                    if not waiting:
                        return
                    batch.wait()
                    continue
                for method, arguments in self._steps(batch):
                    getattr(self.inner, method)(*arguments)
                batch.flush.saved = True

    def _wanted(self, thread_id: str | None) -> Threads:
        with self._shelf.lock:
            return self._shelf.executions() if thread_id is None else [str(thread_id)]

    def _batches(self, thread: str) -> Generator[Batch | Flush, None, None]:
        """Yield what is to be saved, and before it the flushes that have to end."""
        taken: Batch | Flush | None = None
        while not isinstance(taken, Batch):
            try:
                with self._shelf.lock:
                    taken = self._shelf.take(thread)
                if taken is None:
                    return
                yield taken
            finally:
                if isinstance(taken, Batch):
                    self._release(taken)

    def _steps(self, batch: Batch) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the calls that save a batch: a method of the inner saver and its arguments.

        A checkpoint comes before its writes, and both before what continues it: a
        `DeltaChannel` in the later one is rebuilt from them.
        """
        for held, calls in batch.held:
            loaded = self._find(batch.execution_id, held)
            if loaded is None:
                continue  # the thread was deleted meanwhile
            found = tuple_of(loaded, None)
            configurable = {
                "thread_id": batch.execution_id,
                "checkpoint_ns": held.namespace,
                # Derived when it was put, from the steps before it, which are skipped.
                NODE_NAME: loaded.row.node_name,
            }
            if held.parent_id is not None:
                configurable["checkpoint_id"] = held.parent_id
            config = {"configurable": configurable}
            yield "put", (config, found.checkpoint, found.metadata, held.versions)
            for call in held.calls[:calls]:
                writes = [
                    (channel, self.serde.loads_typed(value)) for channel, value in call.writes
                ]
                yield "put_writes", (found.config, writes, call.task_id, call.task_path)

    def _release(self, batch: Batch) -> None:
        with self._shelf.lock:
            if self._shelf.release(batch):
                self._memory.delete_thread(batch.execution_id)

    def _keep_time(self) -> None:
        """Save each thread when its interval is over, until nothing is held back."""
        interval = self.interval.total_seconds()
        try:
            while (due := self._wait(interval)) is not None:
                for thread in due:
                    self._flush_late(thread)
        except BaseException:
            with self._shelf.lock:
                self._timer.clear()  # the next put starts another
            raise

    def _wait(self, interval: float) -> Threads | None:
        """Wait until a thread's interval may be over. None: nothing is held back, and we end."""
        with self._shelf.lock:
            if not self._shelf.executions():
                self._timer.clear()  # under the lock: the next put starts another
                return None
            deadlines = self._shelf.deadlines(interval)
            now = time.monotonic()
            due = [thread for thread, deadline in deadlines.items() if deadline <= now]
            if not due:
                self._shelf.changed.wait(min(deadlines.values(), default=now + interval) - now)
            return due

    def _flush_late(self, thread: str) -> None:
        try:
            # Waiting for a flush of others here would keep all other threads waiting, too.
            self._flush_one(thread, waiting=False)
        except StoreClosed:
            _logger.error(  # noqa: TRY400 -- the traceback tells nothing
                "checkpoints of %r are lost: the store was closed before they were saved; "
                "close the runnable, or its saver, before the store",
                thread,
            )
            self._drop(thread)
        except CairnError as error:
            # Still held back: it is tried again after an interval, and by the flush at the end of
            # the run, which then raises.
            _logger.warning("checkpoints of %r are not saved yet: %s", thread, error)

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a config names, or the newest, held back or stored."""
        held = self._held_tuple(config)
        if held is not None and get_checkpoint_id(config):
            return held
        return newer(held, self.inner.get_tuple(config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do as `get_tuple`."""
        held = self._held_tuple(config)
        if held is not None and get_checkpoint_id(config):
            return held
        return newer(held, await self.inner.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, held back or stored, the newest first."""
        merge = Merge(self._held_list(config, filter, before), limit)
        for one in self.inner.list(config, filter=filter, before=before, limit=limit):
            yield from merge.up_to(one)
        yield from merge.rest()

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Do as `list`."""
        merge = Merge(self._held_list(config, filter, before), limit)
        async for one in self.inner.alist(config, filter=filter, before=before, limit=limit):
            for merged in merge.up_to(one):
                yield merged
        for merged in merge.rest():
            yield merged

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what each `DeltaChannel` is to be rebuilt from."""
        if self._holds(config):
            return super().get_delta_channel_history(config=config, channels=channels)
        return self.inner.get_delta_channel_history(config=config, channels=channels)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do as `get_delta_channel_history`."""
        if self._holds(config):
            return await super().aget_delta_channel_history(config=config, channels=channels)
        return await self.inner.aget_delta_channel_history(config=config, channels=channels)

    def _holds(self, config: RunnableConfig) -> bool:
        with self._shelf.lock:
            return bool(self._shelf.all(thread_of(config)[0]))

    def _held_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        execution_id, namespace = thread_of(config)
        with self._shelf.lock:
            held = self._shelf.find(execution_id, namespace, get_checkpoint_id(config) or None)
            return None if held is None else self._tuple(execution_id, held, config)

    def _held_list(
        self,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
    ) -> Iterator[CheckpointTuple]:
        with self._shelf.lock:
            listed = [
                place_of(one) for one in self._memory.list(config, filter=filter, before=before)
            ]
            shelved = ((thread, self._shelf.find(thread, ns, id)) for id, thread, ns in listed)
            found = [self._tuple(thread, held, config) for thread, held in shelved if held]
        return (one for one in found if one is not None)

    def _tuple(
        self, execution_id: str, held: Held, config: RunnableConfig | None
    ) -> CheckpointTuple | None:
        loaded = self._find(execution_id, held)
        if loaded is None:
            return None
        found = tuple_of(loaded, config)
        parent: RunnableConfig | None = None
        if held.parent_id is not None:
            parent = {
                "configurable": {**found.config["configurable"], "checkpoint_id": held.parent_id}
            }
        return found._replace(parent_config=parent)

    def _find(self, execution_id: str, held: Held) -> Loaded | None:
        codec = self._memory.store.codec.with_serde(self.serde)
        query = FindCheckpoints(execution_id, held.namespace, held.id)
        with self._shelf.lock:
            found = self._memory.store.run(operations.find(codec, query))
        return found[0] if found else None

    def held_records(self, execution_id: str) -> Checkpoints:
        """Return what is held back of a thread as records, the newest first."""
        with self._shelf.lock:
            held = {(one.namespace, one.id): one for one in self._shelf.all(execution_id)}
            return [
                replace(record, parent_id=held[record.namespace, record.id].parent_id)
                for record in self._memory.store.list(execution_id)
                if (record.namespace, record.id) in held
            ]

    # Removing, copying, closing

    def delete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread."""
        with self._shelf.lock:
            if flush := self._shelf.flush_of(str(thread_id)):
                flush.check()  # before anything is forgotten
            self._drop(thread_id)
        if flush:
            flush.wait()  # what it still stores is to be deleted, too
        self.inner.delete_thread(thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """Do as `delete_thread`."""
        if flush := self._drop(thread_id):
            await flush.await_end()
        await self.inner.adelete_thread(thread_id)

    def _drop(self, thread_id: str) -> Flush | None:
        """Forget what is held back of a thread. Returns the flush of it that is under way."""
        with self._shelf.lock:
            self._shelf.drop([str(thread_id)])
            self._memory.delete_thread(thread_id)
            return self._shelf.flush_of(str(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Save what is held back, and do as `CheckpointSaver.delete_for_runs`."""
        self.flush()
        self.inner.delete_for_runs(run_ids)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do as `delete_for_runs`."""
        await self.aflush()
        await self.inner.adelete_for_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Save what is held back, and do as `CheckpointSaver.copy_thread`."""
        self.flush()
        self.inner.copy_thread(source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do as `copy_thread`."""
        await self.aflush()
        await self.inner.acopy_thread(source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Save what is held back, and do as `CheckpointSaver.prune`."""
        self.flush()
        self.inner.prune(thread_ids, strategy=strategy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do as `prune`."""
        await self.aflush()
        await self.inner.aprune(thread_ids, strategy=strategy)

    def get_next_version(self, current: Any, channel: None = None) -> Any:
        """Do as `CheckpointSaver.get_next_version`."""
        return self.inner.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Any) -> Self:
        """Return a saver that shares what is held back, and builds no other types than these."""
        clone = copy.copy(self)
        clone.inner = self.inner.with_allowlist(extra_allowlist)
        clone.serde = clone.inner.serde
        return clone

    def close(self) -> None:
        """Save what is held back, and close the saver below.

        Raises:
            StoreUnavailable: The same thread is just saving: all stays open.
        """
        try:
            self.flush()
        except Saving:
            raise
        except BaseException:
            self.inner.close()
            raise
        self.inner.close()

    async def aclose(self) -> None:
        """Do as `close`."""
        try:
            await self.aflush()
        finally:
            await self.inner.aclose()


def _interrupts(writes: Sequence[tuple[str, Any]]) -> bool:
    return any(channel == _INTERRUPT for channel, _ in writes)
