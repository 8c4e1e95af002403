"""Reading and writing LangGraph savers of any make: threads, pages of checkpoints, sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import RESUME
from pydantic import BaseModel

from langcairn.errors import InvalidInput
from langcairn.forms import form
from langcairn.operations import Written
from langcairn.transfer.redis_saver import is_redis, places_in
from langcairn.transfer.running import Ask, Steps, Use

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

    Saver = BaseCheckpointSaver[Any]

_PLAIN = frozenset((str, int, bool, bytes, type(None)))
PAGE = 16  # [checkpoints held at a time; each is a whole state]
Place = tuple[str, str]
"""Thread id and namespace."""

_OF_LANGGRAPH = ("langgraph.checkpoint.sqlite", "langgraph.checkpoint.postgres")
_PLACES = "SELECT DISTINCT thread_id, checkpoint_ns FROM checkpoints"
# What the tables' rows hold, without the database's overhead.
_SQLITE_BYTES = """
SELECT (SELECT coalesce(sum(length(checkpoint) + length(metadata)), 0) FROM checkpoints)
    + (SELECT coalesce(sum(length(value)), 0) FROM writes)"""
_POSTGRES_BYTES = """
SELECT (SELECT coalesce(sum(octet_length(checkpoint::text) + octet_length(metadata::text)), 0)
    FROM checkpoints) + (SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_blobs)
    + (SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_writes)"""


def places_of(saver: Saver, threads: list[str] | None) -> Steps[list[Place]]:
    """Return the threads and namespaces that a saver has, in ascending order.

    LangGraph's own savers are asked in SQL, Redis' for its index; any other must list all its
    checkpoints once.
    """
    if isinstance(saver, InMemorySaver):
        found = {(thread, ns) for thread, parts in saver.storage.items() for ns in parts}
    elif _module(saver).startswith(_OF_LANGGRAPH):
        found = set(map(tuple, (yield Use(saver, _PLACES))))
    elif is_redis(saver):
        found = yield from places_in(saver, threads)
    else:
        found = set()
        configs = [None] if threads is None else [config_of(thread) for thread in threads]
        for config in configs:
            found |= yield Use(saver, config)
    wanted = None if threads is None else set(threads)
    return sorted(place for place in found if wanted is None or place[0] in wanted)


def size_of(saver: Saver) -> Steps[int | None]:
    """Return the bytes of what a saver stores, without overhead; None if it can't be known."""
    if isinstance(saver, InMemorySaver):
        stored = [one[:2] for parts in saver.storage.values() for ns in parts.values()
                  for one in ns.values()]  # fmt: skip
        writes = [one[2] for task in saver.writes.values() for one in task.values()]
        typed = [pair for both in stored for pair in both] + [*saver.blobs.values(), *writes]
        return sum(len(data) for _, data in typed)
    for make, sql in (("sqlite", _SQLITE_BYTES), ("postgres", _POSTGRES_BYTES)):
        if _module(saver).startswith(f"langgraph.checkpoint.{make}"):
            ((size,),) = yield Use(saver, sql)
            return int(size)
    return None


def _module(saver: Saver) -> str:
    return type(saver).__module__


def config_of(thread: str, namespace: str | None = None, id: str | None = None) -> RunnableConfig:
    """Return the config that names a thread, a namespace of it, or a checkpoint."""
    configurable = {"thread_id": thread}
    if namespace is not None:
        configurable["checkpoint_ns"] = namespace
    if id is not None:
        configurable["checkpoint_id"] = id
    return {"configurable": configurable}


class Pages:
    """The checkpoints of a thread and namespace, the newest first, a page at a time."""

    def __init__(self, saver: Saver, place: Place) -> None:
        self._saver = saver
        self._config = config_of(*place)
        self._before: RunnableConfig | None = None
        self._over = False

    def next(self) -> Steps[list[CheckpointTuple]]:
        """Return the next ones; an empty list at the end."""
        if self._over:
            return []
        options = {"before": self._before, "limit": PAGE}
        page: list[CheckpointTuple] = yield Ask(self._saver, "list", (self._config,), options)
        self._over = len(page) < PAGE
        if page:
            before = config_of("", None, id_of(page[-1]))
            before["configurable"]["thread_id"] = self._config["configurable"]["thread_id"]
            if self._before is not None and id_of(page[-1]) >= get_id(self._before):
                raise InvalidInput(
                    f"{type(self._saver).__name__} doesn't list checkpoints behind one that is "
                    "given with before=, so it can't be read a page at a time"
                )
            self._before = before
        return page

    def again(self, id: str) -> Steps[CheckpointTuple | None]:
        """Return one of them as it is now; None if it was removed."""
        place = self._config["configurable"]
        config = config_of(place["thread_id"], place.get("checkpoint_ns"), id)
        found: CheckpointTuple | None = yield Ask(self._saver, "get_tuple", (config,))
        return found


def get_id(config: RunnableConfig | None) -> str:
    """Return the id of the checkpoint that a config names; ``""`` for none."""
    return str((config or {}).get("configurable", {}).get("checkpoint_id") or "")


def id_of(one: CheckpointTuple) -> str:
    """Return the id of a checkpoint."""
    return one.checkpoint["id"]


def writes_of(one: CheckpointTuple) -> list[Written]:
    """Return the pending writes of a checkpoint by task, in an order that sorts as they came.

    A saver doesn't tell the path of a task and the numbers of its writes. Their order is kept: by
    numbers within a task, as they were given, and among tasks, where their ids don't sort so, by
    paths that do.
    """
    namespace = str(one.config["configurable"].get("checkpoint_ns") or "")
    tasks: dict[str, list[tuple[int, str, Any]]] = {}
    for task_id, channel, value in one.pending_writes or ():
        writes = tasks.setdefault(task_id, [])
        idx = WRITES_IDX_MAP.get(channel)
        if idx is None:
            # LangGraph counts what a task was resumed with, which comes first. With its own
            # numbers, a write that a `DualWriteSaver` stores, too, is stored once.
            idx = sum(number >= 0 or name == RESUME for number, name, _ in writes)
        writes.append((idx, channel, value))
    by_id = list(tasks) == sorted(tasks)
    return [
        Written((namespace, id_of(one)), task_id, "" if by_id else f"{number:06}", writes)
        for number, (task_id, writes) in enumerate(tasks.items())
    ]


def same(one: CheckpointTuple, other: CheckpointTuple | None) -> str | None:
    """Say in what two checkpoints differ, types included; None if in nothing."""
    if other is None:
        return "it is not there"
    for name, left, right in (
        ("parent", get_id(one.parent_config), get_id(other.parent_config)),
        ("metadata", _sorted(one.metadata), _sorted(other.metadata)),
        ("channel_values", *map(_by_channel, (one, other))),
        *(
            (name, _sorted(one.checkpoint.get(name)), _sorted(other.checkpoint.get(name)))
            for name in sorted({*one.checkpoint, *other.checkpoint} - {"channel_values"})
        ),
        ("pending writes", list(one.pending_writes or ()), list(other.pending_writes or ())),
    ):
        if not equal(left, right):
            return f"its {name} differ" + _which(left, right)
    return None


def equal(left: Any, right: Any) -> bool:
    """Tell whether two values are equal, types included.

    That is, whether their forms are equal; for what states mostly consist of without making them.
    """
    kind = type(left)
    if kind is not type(right):
        return False
    if kind in _PLAIN:
        return bool(left == right)
    if kind is list or kind is tuple:
        return len(left) == len(right) and all(map(equal, left, right))
    if kind is dict:
        return (
            len(left) == len(right)
            and all(map(equal, left, right))
            and all(map(equal, left.values(), right.values()))
        )
    if isinstance(left, BaseModel):
        parts = [(one.__dict__, one.__pydantic_extra__ or {}, one.__pydantic_private__ or {})
                 for one in (left, right)]  # fmt: skip
        return equal(*parts)
    return bool(form(left) == form(right))


def _which(left: Any, right: Any) -> str:
    if not isinstance(left, dict) or not isinstance(right, dict):
        return ""
    keys = [key for key in {**left, **right} if not equal(left.get(key), right.get(key))]
    return f" at {', '.join(map(repr, keys))}" if keys else ""


def _by_channel(one: CheckpointTuple) -> dict[str, Any]:
    """Return the channels in the order of their names, which savers change; values as they are."""
    return dict(sorted(one.checkpoint["channel_values"].items()))


def _sorted(value: Any) -> Any:
    """Return LangGraph's own fields without an order of keys, which jsonb doesn't keep."""
    if type(value) is list:
        return [_sorted(member) for member in value]
    if type(value) is not dict:
        return value
    if not all(type(key) is str for key in value):
        return value
    return {key: _sorted(value[key]) for key in sorted(value)}


def put_whole(saver: Saver, one: CheckpointTuple) -> Steps[None]:
    """Put a checkpoint and its pending writes into a saver."""
    configurable = one.config["configurable"]
    thread, namespace = configurable["thread_id"], configurable.get("checkpoint_ns") or ""
    parent = config_of(thread, namespace, get_id(one.parent_config) or None)
    if "checkpoint_id" not in parent["configurable"]:
        parent["configurable"]["checkpoint_id"] = None
    versions = one.checkpoint["channel_versions"]
    yield Ask(saver, "put", (parent, one.checkpoint, one.metadata, versions))
    config = config_of(thread, namespace, id_of(one))
    for _, task_id, task_path, writes in writes_of(one):
        # Numbers are given by position, special channels have fixed ones: these come last.
        ordered = sorted(writes, key=lambda write: (write[0] < 0, write[0]))
        pairs = [(channel, value) for _, channel, value in ordered]
        special = [pair for pair in pairs if pair[0] in WRITES_IDX_MAP]
        plain = [pair for pair in pairs if pair[0] not in WRITES_IDX_MAP]
        for part in (plain, special):  # savers replace only where all are special
            if part:
                yield Ask(saver, "put_writes", (config, part, task_id, task_path))


def threads_in(places: list[Place]) -> list[str]:
    """Return the threads of places, in ascending order."""
    return list(dict.fromkeys(thread for thread, _ in places))


def facts_of(one: CheckpointTuple) -> dict[str, Any]:
    """Return the metadata of a checkpoint."""
    return cast("dict[str, Any]", dict(one.metadata))
