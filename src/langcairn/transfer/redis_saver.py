"""Reading langgraph-checkpoint-redis, which has no way of reading that gives everything.

Its `list` gives messages as the dicts that they were stored as, doesn't heed ``before``, takes the
namespace ``""`` for any, and ends after 10,000. Its `get_tuple` leaves pending writes out. So names
come from its index, checkpoints from `get_tuple`, and their writes from `list`. (0.5.2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import WRITES_IDX_MAP

from langcairn.transfer.running import Ask, Look, Steps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

    Saver = BaseCheckpointSaver[Any]

_PAGE = 16  # [checkpoints held at a time; each is a whole state]


def is_redis(saver: object) -> bool:
    """Tell whether a saver is one of langgraph-checkpoint-redis, or a class of somebody's of it."""
    return any(one.__module__.startswith("langgraph.checkpoint.redis") for one in type(saver).mro())


def places_in(saver: Saver, threads: Iterable[str] | None) -> Steps[set[tuple[str, str]]]:
    """Return the threads and namespaces of all checkpoints, or of those of some threads."""
    found: set[tuple[str, str]] = set()
    for thread in [None] if threads is None else threads:
        names = yield from _names(saver, thread)
        found |= {(thread, namespace) for thread, namespace, _ in names}
    return found


class RedisPages:
    """The checkpoints of a thread and namespace, the newest first, a page at a time."""

    def __init__(self, saver: Saver, place: tuple[str, str]) -> None:
        self._saver = saver
        self._place = place
        self._ids: list[str] | None = None

    def next(self) -> Steps[list[CheckpointTuple]]:
        """Return the next ones; an empty list at the end."""
        if self._ids is None:
            names = yield from _names(self._saver, self._place[0])
            self._ids = sorted(id for *place, id in names if tuple(place) == self._place)
        page: list[CheckpointTuple] = []
        while self._ids and len(page) < _PAGE:
            page += yield from self._one(self._ids.pop())
        return page

    def again(self, id: str) -> Steps[CheckpointTuple | None]:
        """Return one of them as it is now; None if it was removed."""
        return next(iter((yield from self._one(id))), None)

    def _one(self, id: str) -> Steps[list[CheckpointTuple]]:
        thread, namespace = self._place
        config: RunnableConfig = {
            "configurable": {
                "thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": id
            }
        }  # fmt: skip
        one: CheckpointTuple | None = yield Ask(self._saver, "get_tuple", (config,))
        if one is None:
            return []  # expired, or deleted, meanwhile
        listed: list[CheckpointTuple] = yield Ask(self._saver, "list", (config,))
        writes = [write for other in listed if _is_at(other, namespace, id)
                  for write in other.pending_writes or ()]  # fmt: skip
        # In the order of other savers; the index has them as they came.
        writes.sort(key=lambda write: (write[0], WRITES_IDX_MAP.get(write[1], 0)))
        return [one._replace(pending_writes=writes)]


def _is_at(one: CheckpointTuple, namespace: str, id: str) -> bool:
    # A ShallowRedisSaver lists all namespaces, and "" by the name that stands for it.
    found = one.config["configurable"].get("checkpoint_ns")
    return found in (namespace, namespace or "__empty__") and one.checkpoint["id"] == id


def _names(saver: Saver, thread: str | None) -> Steps[set[tuple[str, str, str]]]:
    """Return thread, namespace and id of all checkpoints, or of those of a thread."""
    from langgraph.checkpoint.redis.util import (  # noqa: PLC0415 -- it is there if a saver of it is
        from_storage_safe_id,
        from_storage_safe_str,
        to_storage_safe_id,
    )
    from redisvl.query import FilterQuery  # type: ignore[import-untyped] # noqa: PLC0415 -- likewise
    from redisvl.query.filter import Tag  # type: ignore[import-untyped] # noqa: PLC0415 -- likewise

    query = FilterQuery(
        None if thread is None else Tag("thread_id") == to_storage_safe_id(thread),
        return_fields=["thread_id", "checkpoint_ns", "checkpoint_id"],
        sort_by=("checkpoint_id", "DESC"),
    )
    # As long as it takes: after half a second the server would pass what it has found for all.
    query.timeout(0)
    rows: list[dict[str, str]] = yield Look(saver, query)
    return {
        (
            from_storage_safe_id(row["thread_id"]),
            from_storage_safe_str(row["checkpoint_ns"]),
            from_storage_safe_id(row["checkpoint_id"]),
        )
        for row in rows
    }
