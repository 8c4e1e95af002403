"""`CheckpointSaver`: LangGraph's checkpointer over any `CheckpointStore`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self, cast

from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from langcairn import maintenance, operations
from langcairn.backends.base import FindCheckpoints, Newest
from langcairn.closing import Closing
from langcairn.errors import InvalidInput
from langcairn.langgraph.delta import delta_history
from langcairn.langgraph.translation import (
    config_of,
    draft_of,
    pushed_by,
    tuple_of,
    version_number,
)
from langcairn.opening import open_store
from langcairn.records import Draft, valid_execution_id, valid_name
from langcairn.store import CheckpointStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langcairn.operations import Codec
    from langcairn.records import Loaded

NODE_NAME = "__langcairn_node_name"
"""Names the nodes of a checkpoint in the config of a put, if they are known already."""
# In configs: the checkpoint that a run or an update was told to continue. It isn't kept as
# metadata, since it begins with two underscores.
_CHOSEN = "__langcairn_chosen"
# LangGraph's own, in the configs of subgraphs while their parent replays an older checkpoint.
_REPLAY = "__pregel_replay_state"


class CheckpointSaver(BaseCheckpointSaver[int], Closing):
    """Keeps the checkpoints of LangGraph graphs in a `CheckpointStore`.

    One object serves sync and async callers, any number of threads and tasks at once::

        graph = builder.compile(checkpointer=CheckpointSaver("sqlite:///agent.db"))

    What each method does is LangGraph's contract, see `BaseCheckpointSaver`. Thread ids may be
    strings, integers and UUIDs, which stand for their text.

    Attributes:
        store: The store that it stands on; what graphs save is seen there as records.
    """

    def __init__(
        self,
        store: CheckpointStore | str,
        *,
        serde: SerializerProtocol | None = None,
        single_writer: bool = False,
    ) -> None:
        """Stand on a store.

        Args:
            store: A store, or the URL of one, which is then opened, and closed with the saver.
            serde: How to serialize values, in a store that the saver opens.
            single_writer: Whether to refuse a put whose parent isn't the newest checkpoint of its
                thread and namespace any more, because another run has put one meanwhile. Forks
                that are asked for stay possible: runs and updates from a ``checkpoint_id``.

        Raises:
            InvalidInput: There is no such store; or ``serde`` is given for an open store, which
                has a serializer already.
        """
        self._owned = isinstance(store, str)
        if isinstance(store, str):
            self.store = open_store(store, serde=serde)
        elif not isinstance(store, CheckpointStore):
            raise InvalidInput(f"expected a store or its URL, not {type(store).__name__}")
        elif serde is not None:
            raise InvalidInput("a store has its own serializer: give `serde` to the store instead")
        else:
            self.store = store
        self.single_writer = single_writer
        super().__init__(serde=self.store.codec.serde)

    @property
    def _codec(self) -> Codec:
        # LangGraph's with_allowlist makes a shallow copy and gives it another serializer.
        if self.serde is self.store.codec.serde:
            return self.store.codec
        return self.store.codec.with_serde(self.serde)

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a config names, or the newest of its thread and namespace."""
        found = self.store.run(operations.find(self._codec, _query(config)))
        return self._remembered(found[0], config) if found else None

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do as `get_tuple`."""
        found = await self.store.arun(operations.find(self._codec, _query(config)))
        return self._remembered(found[0], config) if found else None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, the newest first. Nothing is held open between two of them."""
        query = _list_query(config, before)
        for loaded in self.store.pages(query, filter or {}, limit, self._codec):
            yield self._tuple(loaded, config, chosen=True)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Do as `list`."""
        query = _list_query(config, before)
        async for loaded in self.store.apages(query, filter or {}, limit, self._codec):
            yield self._tuple(loaded, config, chosen=True)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what each `DeltaChannel` is to be rebuilt from."""
        return self.store.run(delta_history(self._codec, _query(config), channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do as `get_delta_channel_history`."""
        return await self.store.arun(delta_history(self._codec, _query(config), channels))

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; returns when it is as durable as the store promises.

        Raises:
            Unserializable: A value can't be stored; nothing of the put was kept.
            ConcurrentWriter: Another run has put a checkpoint meanwhile (with ``single_writer``).
            LeaseHeld: Someone else has a lease on the thread.
            LeaseLost: The store's lease on the thread is lost.
        """
        draft = self._draft(config, checkpoint, metadata, new_versions)
        newest = self._newest(config, metadata, draft)
        self.store.run(operations.save(self._codec, [draft], newest=newest))
        return config_of(config, draft.namespace, draft.id)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do as `put`."""
        draft = self._draft(config, checkpoint, metadata, new_versions)
        newest = self._newest(config, metadata, draft)
        await self.store.arun(operations.save(self._codec, [draft], newest=newest))
        return config_of(config, draft.namespace, draft.id)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store the pending writes of a task, all or none.

        Raises:
            Unserializable: A value can't be stored; nothing of the call was kept.
        """
        key = _writes_key(config)
        self.store.run(operations.save_writes(self._codec, key, writes, task_id, task_path))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do as `put_writes`."""
        key = _writes_key(config)
        await self.store.arun(operations.save_writes(self._codec, key, writes, task_id, task_path))

    # Removing and copying

    def delete_thread(self, thread_id: str) -> None:
        """Delete everything of a thread."""
        self.store.clear(thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """Do as `delete_thread`."""
        await self.store.aclear(thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata has one of these run ids, with their writes."""
        self.store.run(maintenance.delete_for_runs(self._codec, run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do as `delete_for_runs`."""
        await self.store.arun(maintenance.delete_for_runs(self._codec, run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread to another one."""
        source, target = valid_execution_id(source_thread_id), valid_execution_id(target_thread_id)
        self.store.run(maintenance.copy(self._codec, source, target))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do as `copy_thread`."""
        source, target = valid_execution_id(source_thread_id), valid_execution_id(target_thread_id)
        await self.store.arun(maintenance.copy(self._codec, source, target))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all checkpoints of threads, or all but the newest of each namespace.

        ``keep_latest`` also keeps the ancestors that a `DeltaChannel` is still rebuilt from.

        Args:
            thread_ids: The threads.
            strategy: ``"keep_latest"`` or ``"delete"``.
        """
        for thread_id in _threads(thread_ids, strategy):
            self.store.run(maintenance.prune(self._codec, thread_id, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do as `prune`."""
        for thread_id in _threads(thread_ids, strategy):
            await self.store.arun(maintenance.prune(self._codec, thread_id, strategy))

    # Versions and serializers

    def get_next_version(self, current: Any, channel: None = None) -> Any:  # noqa: ARG002 -- LangGraph passes it
        """Return the channel version after ``current``.

        Versions are integers: chunks are found by content, so, unlike in LangGraph's savers,
        nothing has to tell the same version on two forks apart. A thread that another saver
        began with string versions (``"00…07.0.123"``) continues with such strings, because
        LangGraph compares the versions of all channels with each other.
        """
        if current is None:
            return 1
        if isinstance(current, str):
            try:
                return f"{version_number(current) + 1:032}.{0:016}"
            except ValueError as error:
                raise InvalidInput(f"channel version {current!r} has no number to go on") from error
        return current + 1

    def with_allowlist(self, extra_allowlist: Any) -> Self:
        """Return a saver on the same store that builds no other types of the user's than these."""
        clone = copy.copy(self)
        clone.serde = super().with_allowlist(extra_allowlist).serde
        clone._owned = False  # noqa: SLF001 -- a copy of ourselves; closing it must not close the store
        return clone

    # Closing

    def close(self) -> None:
        """Close the store, if the saver opened it."""
        if self._owned:
            self.store.close()

    async def aclose(self) -> None:
        """Do as `close`."""
        if self._owned:
            await self.store.aclose()

    def _remembered(self, loaded: Loaded, config: RunnableConfig) -> CheckpointTuple:
        """Return a checkpoint that a run is likely to continue."""
        operations.remember(self._codec, loaded, pushed_by(loaded.state))
        return self._tuple(loaded, config, chosen=bool(get_checkpoint_id(config)))

    def _tuple(
        self, loaded: Loaded, config: RunnableConfig | None, *, chosen: bool
    ) -> CheckpointTuple:
        """Return a checkpoint to LangGraph.

        Args:
            loaded: The checkpoint.
            config: The one that was given.
            chosen: Whether somebody wants this very checkpoint, and not the newest one.
        """
        found = tuple_of(loaded, config)
        if chosen and self.single_writer:
            # LangGraph passes what stands here on to the put that continues the checkpoint.
            found.config["configurable"][_CHOSEN] = loaded.row.id
        return found

    def _newest(
        self, config: RunnableConfig, metadata: CheckpointMetadata, draft: Draft
    ) -> Sequence[Newest]:
        """Return what must be the newest checkpoint when another one is put."""
        if not self.single_writer or _is_fork(config, metadata, draft.parent_id):
            return ()
        return (Newest(draft.namespace, draft.parent_id, draft.id),)

    def _draft(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Draft:
        execution_id, namespace = thread_of(config)
        parent = get_checkpoint_id(config)
        facts = cast("dict[str, Any]", get_checkpoint_metadata(config, metadata))
        head = self.store.codec.caches.head(execution_id, namespace)
        before = head.pushed if head is not None and head.id == parent else ()
        place = (execution_id, namespace, parent)
        draft = draft_of(place, checkpoint, facts, new_versions, before)
        name = config["configurable"].get(NODE_NAME)
        return draft._replace(node_name=name) if name else draft


def _is_fork(config: RunnableConfig, metadata: CheckpointMetadata, parent_id: str | None) -> bool:
    """Tell whether somebody has asked for a put that leaves the newest checkpoint aside."""
    if metadata.get("source") == "fork":
        return True
    configurable = config["configurable"]
    if parent_id is None:
        # A subgraph within a replay of its parent, from before the subgraph first ran.
        return _REPLAY in configurable
    return configurable.get(_CHOSEN) == parent_id


def thread_of(config: RunnableConfig | None) -> tuple[str, str]:
    """Return the thread and the namespace that a config names.

    Raises:
        InvalidInput: It names no thread, or one that can't be stored.
    """
    configurable = (config or {}).get("configurable") or {}
    if "thread_id" not in configurable:
        raise InvalidInput(
            "the config names no thread; pass config={'configurable': {'thread_id': '…'}}"
        )
    return (
        valid_execution_id(configurable["thread_id"]),
        valid_name(configurable.get("checkpoint_ns") or "", "checkpoint_ns"),
    )


def _threads(thread_ids: Sequence[str], strategy: str) -> list[str]:
    maintenance.check_strategy(strategy)
    if isinstance(thread_ids, str):
        raise InvalidInput(f"expected a list of thread ids, not the string {thread_ids!r:.80}")
    return [valid_execution_id(thread_id) for thread_id in thread_ids]


def _query(config: RunnableConfig) -> FindCheckpoints:
    execution_id, namespace = thread_of(config)
    return FindCheckpoints(execution_id, namespace, get_checkpoint_id(config) or None, limit=1)


def _list_query(config: RunnableConfig | None, before: RunnableConfig | None) -> FindCheckpoints:
    query = FindCheckpoints(before_id=get_checkpoint_id(before) if before else None)
    if config is None:
        return query
    execution_id, namespace = thread_of(config)
    given = config["configurable"].get("checkpoint_ns")
    return query._replace(
        execution_id=execution_id,
        namespace=None if given is None else namespace,
        id=get_checkpoint_id(config) or None,
    )


def _writes_key(config: RunnableConfig) -> tuple[str, str, str]:
    checkpoint_id = get_checkpoint_id(config)
    return (*thread_of(config), valid_name(checkpoint_id, "checkpoint_id", empty=False))
