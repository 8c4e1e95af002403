"""What a process remembers about executions, so that a put costs what changed.

Everything here can be dropped at any time; then the next put looks at the whole state again.
Wrong entries would be fatal: a commit leaves out the chunks that the cache says are stored. So
entries are published only after the commit that stored them, by `Caches.publish`, under a lock and
only into a cache of the very epoch of that commit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from langcairn.codec.nodes import MARK, standing
from langcairn.codec.reader import Content, references

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from langcairn.backends.base import ChunkId
    from langcairn.codec.chunks import ChunkFormat
    from langcairn.codec.nodes import Node
    from langcairn.codec.tree import Encoded


class Head(NamedTuple):
    """The checkpoint last put or loaded in a namespace, from which its child takes over."""

    id: str
    state: bytes
    """Its state column."""
    pushed: Sequence[str]
    """Names of the nodes that its `Send` packets start."""

    def nodes(self) -> dict[str, Node]:
        """Return the nodes of its channels; an empty dict if its state has none."""
        fields = orjson.loads(self.state)
        return {} if type(fields) is not dict or MARK in fields else fields


class Place(NamedTuple):
    """Where a value belongs."""

    namespace: str
    channel: str
    written: bool = False
    """It is a pending write's, not a state's."""


class ExecutionCache:
    """What is known about one execution as of one epoch.

    Attributes:
        epoch: The epoch for which the rest holds, which never changes; None until the execution
            is seen in storage.
        known: Ids of chunks that are stored.
        witnesses: Chunks that were stored last, so that all of ``known`` is there if they are: a
            server that loses what it acknowledged loses the end of its history.
        values: The last stored value of each place; its chunks are in ``known``.
        heads: Namespace to the checkpoint last put or loaded.
        content: Opened chunks. They hold in any epoch: an id never gets other content.
        size: The bytes that all this holds, about.
    """

    __slots__ = ("content", "epoch", "heads", "known", "size", "values", "witnesses")

    def __init__(self, format: ChunkFormat, epoch: int | None = None) -> None:
        self.epoch = epoch
        self.known: set[ChunkId] = set()
        self.witnesses: frozenset[ChunkId] = frozenset()
        self.values: OrderedDict[Place, Encoded] = OrderedDict()
        self.heads: OrderedDict[str, Head] = OrderedDict()
        self.content = Content(format)
        self.size = _EMPTY


# An execution that holds no content yet still takes some room.
_EMPTY = 2000  # [bytes]
# Each call of a subgraph has a namespace of its own, most of which are never written to again.
_MOST_NAMESPACES = 64
_MOST_VALUES = 512
_MOST_WITNESSES = 256
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Caches:
    """The caches of the executions used last, within a budget of bytes.

    Args:
        limit: The budget [bytes].
        format: How chunks are stored.
    """

    def __init__(self, limit: int, format: ChunkFormat) -> None:
        self._limit = limit
        self._format = format
        self._total = 0  # [bytes]
        self._lock = threading.Lock()
        self._by_execution: OrderedDict[str, ExecutionCache] = OrderedDict()

    def get(self, execution_id: str) -> ExecutionCache:
        """Return the cache of an execution, a new one if there is none."""
        with self._lock:
            cache = self._by_execution.get(execution_id)
            if cache is None:
                return self._replace(execution_id, ExecutionCache(self._format))
            self._by_execution.move_to_end(execution_id)
            return cache

    def head(self, execution_id: str, namespace: str) -> Head | None:
        """Return the checkpoint last put or loaded in a namespace, if it is remembered."""
        cache = self._by_execution.get(execution_id)
        return None if cache is None else cache.heads.get(namespace)

    def at(self, execution_id: str, epoch: int) -> ExecutionCache:
        """Return the cache of an execution for an epoch that was just read from storage."""
        known = self._by_execution.get(execution_id)
        if known is not None and known.epoch == epoch:
            return known  # as for nearly every read; its turn to be forgotten is set by puts
        cache = self.get(execution_id)
        with self._lock:
            if cache.epoch is None:
                cache.epoch = epoch
            if cache.epoch == epoch:
                return cache
            fresh = ExecutionCache(self._format, epoch)
            fresh.content, fresh.size = cache.content, cache.size
            return self._replace(execution_id, fresh)

    def drop(self, execution_id: str) -> None:
        """Forget an execution."""
        with self._lock:
            self._forget(execution_id)

    def publish(
        self,
        execution_id: str,
        cache: ExecutionCache,
        epoch: int,
        *,
        chunks: Iterable[ChunkId] = (),
        values: Mapping[Place, Encoded] = _NOTHING,
        heads: Mapping[str, Head] = _NOTHING,
        witnesses: Collection[ChunkId] = (),
        instead_of: AbstractSet[ChunkId] = frozenset(),
        grown: int = 0,
    ) -> None:
        """Add what is stored as of an epoch; nothing if the cache is of another.

        Args:
            execution_id: The execution.
            cache: Its cache, from when the work began.
            epoch: The epoch in which the entries were stored or seen.
            chunks: Chunks that are stored.
            values: The last values of places.
            heads: The last checkpoints of namespaces.
            witnesses: Those of what was stored or seen.
            instead_of: Witnesses for which the new ones stand, too.
            grown: How many bytes its content has grown by.
        """
        with self._lock:
            if cache.epoch is None:
                cache.epoch = epoch
            if cache.epoch != epoch:
                return
            cache.known.update(chunks)
            if instead_of or witnesses:
                cache.witnesses = (cache.witnesses - instead_of).union(witnesses)
            if len(cache.witnesses) > _MOST_WITNESSES:
                # Of many checkpoints that were read. The next put stores everything once more.
                self._forget(execution_id)
                return
            for place, value in values.items():
                grown += value.size - _size(cache.values.pop(place, None))
                cache.values[place] = value
            for namespace, head in heads.items():
                cache.heads[namespace] = head
                cache.heads.move_to_end(namespace)
            while len(cache.values) > _MOST_VALUES:
                grown -= cache.values.popitem(last=False)[1].size
            while len(cache.heads) > _MOST_NAMESPACES:
                cache.heads.popitem(last=False)
            if self._by_execution.get(execution_id) is cache:
                cache.size += grown
                self._total += grown
                self._trim()

    def peek(self, execution_id: str) -> ExecutionCache | None:
        """Return the cache of an execution, if it is remembered."""
        with self._lock:
            return self._by_execution.get(execution_id)

    def carry_over(
        self,
        execution_id: str,
        before: ExecutionCache,
        epoch: int,
        live: AbstractSet[ChunkId],
        states: AbstractSet[bytes],
    ) -> None:
        """Remember in a new epoch what a removal has left of an execution.

        Within an epoch rows are only added: whatever drops one raises the epoch. So a chunk that
        rows referred to in ``epoch`` is referred to as long as the epoch stands, no sweep of it
        counts it as garbage, and a commit in it needn't carry the chunk; a commit after it is
        refused.

        Args:
            execution_id: The execution.
            before: Its cache, from before the removal.
            epoch: The epoch that the removal began.
            live: All chunks that rows refer to, as read after the removal.
            states: The state columns of these rows.
        """
        with self._lock:
            now = self._by_execution.get(execution_id)
            if now is not None and now.epoch is not None and now.epoch != epoch:
                return  # somebody removed more since, and this process has seen it
            known = before.known & live
            values = {place: value for place, value in before.values.items() if _lives(value, live)}
            heads = {name: head for name, head in before.heads.items() if head.state in states}
            share = len(known) / (len(before.known) or 1)
            grown = int(share * max(before.size - _EMPTY - sum(map(_size, values.values())), 0))
            content = before.content.only(live)
        cache = self.at(execution_id, epoch)
        cache.content.pages.update(content.pages)
        cache.content.leaves.update(content.leaves)
        self.publish(
            execution_id, cache, epoch, chunks=known, values=values, heads=heads, grown=grown
        )

    def _trim(self) -> None:
        while self._total > self._limit and self._by_execution:
            self._forget(next(iter(self._by_execution)))

    def _replace(self, execution_id: str, cache: ExecutionCache) -> ExecutionCache:
        self._forget(execution_id)
        self._by_execution[execution_id] = cache
        self._total += cache.size
        self._trim()
        return cache

    def _forget(self, execution_id: str) -> None:
        cache = self._by_execution.pop(execution_id, None)
        if cache is not None:
            self._total -= cache.size


def _lives(value: Encoded, live: AbstractSet[ChunkId]) -> bool:
    """Tell whether all chunks of a value are among those that rows refer to."""
    # What live pages refer to is live, too, so they needn't be opened.
    pages, values = references([standing(value.node)], {})
    return pages <= live and values <= live


def _size(value: Encoded | None) -> int:
    return 0 if value is None else value.size
