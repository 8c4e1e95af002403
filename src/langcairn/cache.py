"""What a process remembers about executions, so that a put costs what changed.

Everything here can be dropped at any time; then the next put looks at the whole state again.
Objects are shared between threads without locks: each field is only replaced or added to in
single steps that the interpreter makes atomic, and what is lost in a race is only a shortcut.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from langcairn.codec.reader import Content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langcairn.backends.base import ChunkId
    from langcairn.codec.nodes import Node
    from langcairn.codec.tree import Encoded


class Head(NamedTuple):
    """The checkpoint last put in a namespace, for what its child takes over from it."""

    id: str
    nodes: Mapping[str, Node]
    """Channel to the node of its value."""
    pushed: Sequence[str]
    """Names of the nodes that its `Send` packets start."""


class ExecutionCache:
    """What is known about one execution as of one epoch.

    Attributes:
        epoch: The epoch for which the rest holds; None until the execution is seen in storage.
        known: Ids of chunks that are stored.
        versions: (namespace, channel) to its last stored version; all its chunks are in ``known``.
        heads: Namespace to the checkpoint last put.
        content: Opened chunks. They hold in any epoch: an id never gets other content.
    """

    __slots__ = ("_size", "content", "epoch", "heads", "known", "versions")

    def __init__(self, epoch: int | None = None, content: Content | None = None) -> None:
        self.epoch = epoch
        self.known: set[ChunkId] = set()
        self.versions: dict[tuple[str, str], Encoded] = {}
        self.heads: dict[str, Head] = {}
        self.content = content or Content()
        self._size = 0

    def grow(self, count: int) -> None:
        """Note that ``count`` more bytes are held."""
        self._size += count

    @property
    def size(self) -> int:
        """The bytes held, about."""
        return self._size + self.content.size


class Caches:
    """The caches of the executions used last, within a budget of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # [bytes]
        self._lock = threading.Lock()
        self._by_execution: OrderedDict[str, ExecutionCache] = OrderedDict()

    def get(self, execution_id: str) -> ExecutionCache:
        """Return the cache of an execution, a new one if there is none."""
        with self._lock:
            cache = self._by_execution.get(execution_id)
            if cache is None:
                cache = self._by_execution[execution_id] = ExecutionCache()
            else:
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
        fresh = ExecutionCache(epoch, cache.content)
        with self._lock:
            self._by_execution[execution_id] = fresh
        return fresh

    def drop(self, execution_id: str) -> None:
        """Forget an execution."""
        with self._lock:
            self._by_execution.pop(execution_id, None)

    def trim(self) -> None:
        """Forget the executions used longest ago until the rest fits the budget."""
        with self._lock:
            total = sum(cache.size for cache in self._by_execution.values())
            while total > self._limit and self._by_execution:
                _, cache = self._by_execution.popitem(last=False)
                total -= cache.size
