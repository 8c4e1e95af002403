"""What a process remembers about executions, so that a put costs what changed.

Everything here can be dropped at any time; then the next put looks at the whole state again.
An `ExecutionCache` is shared between threads without a lock: each field is only replaced or
added to in single steps that the interpreter makes atomic, and what is lost in a race is only a
shortcut.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import orjson

from langcairn.codec.nodes import MARK
from langcairn.codec.reader import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import ChunkId
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


class ExecutionCache:
    """What is known about one execution as of one epoch.

    Attributes:
        epoch: The epoch for which the rest holds; None until the execution is seen in storage.
        known: Ids of chunks that are stored.
        versions: (namespace, channel) to its last stored value; its chunks are in ``known``.
        written: The same for the last stored pending write.
        heads: Namespace to the checkpoint last put or loaded.
        content: Opened chunks. They hold in any epoch: an id never gets other content.
        size: The bytes that all this holds, about.
    """

    __slots__ = ("content", "epoch", "heads", "known", "size", "versions", "written")

    def __init__(self, epoch: int | None = None) -> None:
        self.epoch = epoch
        self.known: set[ChunkId] = set()
        self.versions: dict[tuple[str, str], Encoded] = {}
        self.written: dict[tuple[str, str], Encoded] = {}
        self.heads: dict[str, Head] = {}
        self.content = Content()
        self.size = 0


# An execution that holds no content yet still takes some room.
_EMPTY = 2000  # [bytes]


class Caches:
    """The caches of the executions used last, within a budget of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # [bytes]
        self._total = 0  # [bytes]
        self._lock = threading.Lock()
        self._by_execution: OrderedDict[str, ExecutionCache] = OrderedDict()

    def get(self, execution_id: str) -> ExecutionCache:
        """Return the cache of an execution, a new one if there is none."""
        with self._lock:
            cache = self._by_execution.get(execution_id)
            if cache is None:
                return self._replace(execution_id, ExecutionCache())
            self._by_execution.move_to_end(execution_id)
            return cache

    def at(self, execution_id: str, epoch: int) -> ExecutionCache:
        """Return the cache of an execution for an epoch that was just read from storage."""
        cache = self.get(execution_id)
        if cache.epoch == epoch:
            return cache
        if cache.epoch is None and not cache.known:
            cache.epoch = epoch
            return cache
        fresh = ExecutionCache(epoch)
        fresh.content, fresh.size = cache.content, cache.size
        with self._lock:
            return self._replace(execution_id, fresh)

    def drop(self, execution_id: str) -> None:
        """Forget an execution."""
        with self._lock:
            self._forget(execution_id)

    def grow(self, cache: ExecutionCache, count: int) -> None:
        """Note that a cache holds more bytes; forget those used longest ago if it's too much."""
        if not count:
            return
        with self._lock:
            cache.size += count
            self._total += count
            while self._total > self._limit and self._by_execution:
                self._forget(next(iter(self._by_execution)))

    def _replace(self, execution_id: str, cache: ExecutionCache) -> ExecutionCache:
        self._forget(execution_id)
        cache.size += _EMPTY
        self._total += cache.size
        self._by_execution[execution_id] = cache
        return cache

    def _forget(self, execution_id: str) -> None:
        cache = self._by_execution.pop(execution_id, None)
        if cache is not None:
            self._total -= cache.size
