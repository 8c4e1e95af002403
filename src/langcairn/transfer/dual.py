"""`DualWriteSaver`: two savers at once, for the time of a move."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
    )

_logger = logging.getLogger(__name__)


class DualWriteSaver(BaseCheckpointSaver[Any]):
    """Writes to an old saver and to a new one, so that graphs run on while `migrate` copies.

    The old saver decides: what it refuses isn't written. An error of the new one is logged, told to
    ``on_error``, and makes its thread one that isn't moved (any more): `migrate` it again. A
    thread is read from the old saver until it is moved::

        dual = DualWriteSaver(old, new)
        graph = builder.compile(checkpointer=dual)
        migrate(old, new, on_moved=dual.mark_moved)

    Attributes:
        old: The saver to leave.
        new: The saver to move to.
        moved: The threads that are read from the new saver.
    """

    def __init__(
        self,
        old: BaseCheckpointSaver[Any],
        new: BaseCheckpointSaver[Any],
        *,
        on_error: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        """Stand on two savers, which the caller closes.

        Args:
            old: The saver to leave.
            new: The saver to move to.
            on_error: Called with a thread id and an error of the new saver.

        Raises:
            InvalidInput: They aren't two savers.
        """
        for saver in (old, new):
            if not isinstance(saver, BaseCheckpointSaver):
                raise InvalidInput(f"expected a saver, not {type(saver).__name__}")
        super().__init__(serde=old.serde)
        self.old = old
        self.new = new
        self.moved: set[str] = set()
        self._on_error = on_error
        self._failures: dict[str, int] = {}
        self._lock = threading.Lock()

    def mark_moved(self, thread_id: str) -> None:
        """Read a thread from the new saver from now on, unless a write to it has failed there."""
        with self._lock:
            if thread_id not in self._failures:
                self.moved.add(thread_id)

    def retry(self, thread_id: str) -> None:
        """Forget that writes of a thread have failed: call it before `migrate` copies it again."""
        with self._lock:
            self._failures.pop(thread_id, None)

    @property
    def failed(self) -> frozenset[str]:
        """The threads of which writes have failed in the new saver."""
        return frozenset(self._failures)

    def _failed(self, thread_id: str, error: Exception) -> None:
        with self._lock:
            self._failures[thread_id] = self._failures.get(thread_id, 0) + 1
            self.moved.discard(thread_id)
        _logger.error("thread %r was not written to the new saver: %s", thread_id, error)
        if self._on_error is not None:
            self._on_error(thread_id, error)

    def _reader(self, config: RunnableConfig | None) -> BaseCheckpointSaver[Any]:
        # A list of all threads is complete only in the old one.
        return self.new if config is not None and _thread(config) in self.moved else self.old

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, from the saver that its thread is read from."""
        return self._reader(config).get_tuple(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do as `get_tuple`."""
        return await self._reader(config).aget_tuple(config)

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, from the saver that their thread is read from."""
        return self._reader(config).list(config, **options)

    async def alist(
        self, config: RunnableConfig | None, **options: Any
    ) -> AsyncIterator[CheckpointTuple]:
        """Do as `list`."""
        async for one in self._reader(config).alist(config, **options):
            yield one

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what each `DeltaChannel` is to be rebuilt from."""
        return self._reader(config).get_delta_channel_history(config=config, channels=channels)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do as `get_delta_channel_history`."""
        reader = self._reader(config)
        return await reader.aget_delta_channel_history(config=config, channels=channels)

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint in both."""
        stored = self.old.put(config, checkpoint, metadata, new_versions)
        try:
            self.new.put(config, checkpoint, metadata, new_versions)
        except Exception as error:  # noqa: BLE001 -- told to whoever watches; the run goes on
            self._failed(_thread(config), error)
        return stored

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do as `put`."""
        stored = await self.old.aput(config, checkpoint, metadata, new_versions)
        try:
            await self.new.aput(config, checkpoint, metadata, new_versions)
        except Exception as error:  # noqa: BLE001 -- as in put
            self._failed(_thread(config), error)
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store the pending writes of a task in both."""
        self.old.put_writes(config, writes, task_id, task_path)
        try:
            self.new.put_writes(config, writes, task_id, task_path)
        except Exception as error:  # noqa: BLE001 -- as in put
            self._failed(_thread(config), error)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do as `put_writes`."""
        await self.old.aput_writes(config, writes, task_id, task_path)
        try:
            await self.new.aput_writes(config, writes, task_id, task_path)
        except Exception as error:  # noqa: BLE001 -- as in put
            self._failed(_thread(config), error)

    def delete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread in both."""
        self.old.delete_thread(thread_id)
        try:
            self.new.delete_thread(thread_id)
        except Exception as error:  # noqa: BLE001 -- as in put
            self._failed(thread_id, error)

    async def adelete_thread(self, thread_id: str) -> None:
        """Do as `delete_thread`."""
        await self.old.adelete_thread(thread_id)
        try:
            await self.new.adelete_thread(thread_id)
        except Exception as error:  # noqa: BLE001 -- as in put
            self._failed(thread_id, error)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Prune threads in both. While `migrate` is under way, it may copy what is pruned here."""
        self.old.prune(thread_ids, strategy=strategy)
        for thread_id in thread_ids:
            try:
                self.new.prune([thread_id], strategy=strategy)
            except Exception as error:  # noqa: BLE001 -- as in put
                self._failed(thread_id, error)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do as `prune`."""
        await self.old.aprune(thread_ids, strategy=strategy)
        for thread_id in thread_ids:
            try:
                await self.new.aprune([thread_id], strategy=strategy)
            except Exception as error:  # noqa: BLE001 -- as in put
                self._failed(thread_id, error)

    def get_next_version(self, current: Any, channel: None = None) -> Any:
        """Return the channel version after ``current``, as the old saver counts."""
        return self.old.get_next_version(current, channel)


def _thread(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])
