"""Everything that takes more than one request, written once for blocking and async callers.

Each operation is a generator that yields requests for the backend and is sent the answers; what
it returns is the result. `langcairn.store` runs them over either side of a backend.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson
from langgraph.checkpoint.base import WRITES_IDX_MAP

from langcairn.backends.base import (
    CheckpointRow,
    ChunkId,
    Commit,
    Expected,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FoundCheckpoint,
    Newest,
    Position,
    Request,
    WriteRow,
)
from langcairn.cache import Caches, ExecutionCache, Head, Place
from langcairn.checks import checked_graph, checked_write, write_row
from langcairn.codec.nodes import MARK_BYTES, exact_str, standing, stands
from langcairn.codec.reader import ChunkMissing, Reader, parse, references
from langcairn.codec.serde import SafeSerializer
from langcairn.codec.tree import Encoded, Encoder
from langcairn.errors import CorruptData, MissingChunks, StaleEpoch, StoreUnavailable
from langcairn.observing import about
from langcairn.records import (
    Draft,
    Loaded,
    fields_from_json,
    place,
    row_of,
    state_node,
    valid_name,
    valid_text,
)

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.codec.nodes import Node

T = TypeVar("T")
Operation = Generator[Request, Any, T]

# A list is read in pages, so that no cursor stays open while its consumer thinks, and not many
# whole states are held at once.
PAGE = 32  # [checkpoints]
# Values nest at most 64 containers deep, each a tree of a few levels.
_DEEPEST = 1000  # [rounds of fetching]
# One for a stale cache, the others for clean-ups that come in between again and again.
ATTEMPTS = 10


class Codec:
    """A serializer, and the caches of what it encoded and decoded.

    Attributes:
        serde: What serializes the values in states and pending writes.
        plain: What serializes metadata and LangGraph's own fields, which stay searchable also
            with a serializer of the user's.
        caches: What is remembered about executions.
        format: How chunks are stored.
    """

    def __init__(
        self, serde: SerializerProtocol | None, caches: Caches, format: ChunkFormat
    ) -> None:
        self.serde = serde or SafeSerializer()
        self.plain = self.serde if isinstance(self.serde, SafeSerializer) else SafeSerializer()
        self.caches = caches
        self.format = format
        # A serializer of the user's may encrypt: then nothing may stand in plain text.
        self.inline = isinstance(self.serde, SafeSerializer)

    def with_serde(self, serde: SerializerProtocol) -> Codec:
        """Return one that shares all but the serializer."""
        return Codec(serde, self.caches, self.format)


class CommitBuilder:
    """The rows, chunks and cache entries of one commit while it is put together."""

    def __init__(self, codec: Codec, execution_id: str) -> None:
        self.codec = codec
        self.execution_id = execution_id
        self.cache = codec.caches.get(execution_id)
        self.witnesses: frozenset[ChunkId] = frozenset()
        self.encoder = Encoder(codec.serde, codec.format.namer(execution_id))
        self.checkpoints: list[CheckpointRow] = []
        self.writes: list[WriteRow] = []
        self.removals: Sequence[tuple[str, str]] = ()
        self.values: dict[Place, Encoded] = {}
        self.heads: dict[str, Head] = {}

    def add(self, draft: Draft) -> None:
        """Encode a checkpoint."""
        state = draft.state
        plain = self.codec.plain
        # In one step: another thread may be adding to it.
        fields = dict(state) if type(state) is dict else {}
        if type(state) is not dict or not all(map(_is_channel, fields)):
            node = self._value(Place(draft.namespace, ""), state, "state")
            self.checkpoints.append(row_of(draft, node, plain))
            return
        head = self.cache.heads.get(draft.namespace)
        inherited: dict[str, Node] = {}
        changed = fields if draft.changed is None else draft.changed
        if head is not None and head.id == draft.parent_id and not changed.keys() >= fields.keys():
            inherited = head.nodes()
        inline = self.codec.inline
        nodes: dict[str, Node] = {}
        for key, value in fields.items():
            if inline and stands(value):
                nodes[key] = value
            elif key in inherited and key not in changed:
                nodes[key] = inherited[key]
            else:
                nodes[key] = self._value(Place(draft.namespace, key), value, f"state[{key!r}]")
        row = row_of(draft, state_node(nodes, ordered=draft.graph is None), plain)
        self.heads[draft.namespace] = Head(draft.id, row.state, draft.pushed)
        self.checkpoints.append(row)

    def written(self, namespace: str, channel: str, value: Any) -> bytes:
        """Return the value of a pending write as it is stored."""
        if self.codec.inline and stands(value):
            return orjson.dumps(value)
        # A dict that is written is often the channel's, changed; a list is what to append.
        place = Place(namespace, channel)
        old = self.cache.values.get(place) if type(value) is dict else None
        encoded = self.encoder.encode(value, old, f"write to {channel!r}")
        self.values[place._replace(written=True)] = encoded
        return _dumps(encoded.node)

    def _value(self, place: Place, value: Any, path: str) -> Node:
        known = self.cache.values
        old = self.values.get(place) or known.get(place)
        encoded = self.encoder.encode(value, old, path, known.get(place._replace(written=True)))
        self.values[place] = encoded
        return standing(encoded.node)

    def request(self, expected: Sequence[Expected] = (), newest: Sequence[Newest] = ()) -> Commit:
        """Return the commit, with the chunks that are needed."""
        chunks = self._new_chunks() if self.encoder.chunks else ()
        self.witnesses = self.cache.witnesses  # after what they stand for was looked up
        return Commit(
            self.execution_id,
            self.cache.epoch,
            chunks,
            self.checkpoints,
            self.writes,
            self.removals,
            expected=expected,
            newest=newest,
            witnesses=() if self.cache.epoch is None else tuple(self.witnesses),
        )

    def _new_chunks(self) -> Sequence[tuple[ChunkId, bytes]]:
        known, seal = self.cache.known, self.codec.format.seal
        new = [item for item in self.encoder.chunks.items() if item[0] not in known]
        return [(id, seal(payload)) for id, payload in new]

    def commit(
        self, expected: Sequence[Expected] = (), newest: Sequence[Newest] = ()
    ) -> Operation[bool]:
        """Commit with the chunks that are needed. False: the cache was stale and is dropped."""
        cache, caches = self.cache, self.codec.caches
        request = self.request(expected, newest)
        try:
            epoch: int = yield request
        except StaleEpoch:
            caches.drop(self.execution_id)
            return False
        if request.epoch not in (None, epoch):
            # Something was replaced: what else the cache says is stored may be swept now.
            caches.drop(self.execution_id)
            return True
        if request.chunks or self.values:
            opened = self.encoder.chunks
            caches.publish(
                self.execution_id,
                cache,
                epoch,
                chunks=[id for id, _ in request.chunks],
                values=self.values,
                heads=self.heads,
                witnesses=[id for id, _ in request.chunks[-1:]],
                instead_of=self.witnesses if request.chunks else frozenset(),
                # Opened already: the next run of a thread reads what this one has just written.
                grown=sum(cache.content.keep(id, opened[id]) for id, _ in request.chunks)
                + 100 * len(request.chunks),
            )
        elif self.heads:
            caches.publish(self.execution_id, cache, epoch, heads=self.heads)
        return True


def save(
    codec: Codec,
    drafts: Sequence[Draft],
    *,
    expected: Sequence[Expected] = (),
    newest: Sequence[Newest] = (),
) -> Operation[None]:
    """Save checkpoints of one execution, all or none.

    Args:
        codec: How to store values.
        drafts: The checkpoints.
        expected: Which versions are to be stored before.
        newest: Which checkpoints are to be the newest before.

    Raises:
        Unserializable: A value can't be stored; nothing was.
        VersionConflict: A version is another; nothing was stored.
        ConcurrentWriter: The newest checkpoint is another; nothing was stored.
    """
    execution_id = drafts[0].execution_id
    about(execution_id, drafts[-1].id)
    for _ in range(ATTEMPTS):
        builder = CommitBuilder(codec, execution_id)
        for draft in drafts:
            builder.add(draft)
        if (yield from builder.commit(expected, newest)):
            return
    raise too_busy(execution_id)


def save_writes(
    codec: Codec,
    key: tuple[str, str, str],
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
) -> Operation[None]:
    """Save pending writes of one task, all or none.

    Args:
        codec: How to store values.
        key: Execution id, namespace and checkpoint id.
        writes: Pairs of channel and value.
        task_id: The task that made them.
        task_path: Where the task stands among those of its super-step.

    Raises:
        Unserializable: A value can't be stored; nothing was.
    """
    about(key[0], key[2])
    valid_name(task_id, "task_id")
    valid_text(task_path, "task_path")
    for _ in range(ATTEMPTS):
        builder = CommitBuilder(codec, key[0])
        for number, (channel, value) in enumerate(writes):
            valid_text(channel, "the channel of a write")
            idx = WRITES_IDX_MAP.get(channel, number)
            stored = builder.written(key[1], channel, value)
            columns = (*key, task_id, idx, task_path, channel)
            builder.writes.append(write_row(columns, stored))
        if (yield from builder.commit()):
            return
    raise too_busy(key[0])


class Written(NamedTuple):
    """Pending writes of one task."""

    key: tuple[str, str]
    """Namespace and checkpoint id."""
    task_id: str
    task_path: str
    writes: Sequence[tuple[int, str, Any]]
    """Index, channel, value."""


def save_whole(
    codec: Codec, drafts: Sequence[Draft], written: Sequence[Written], *, instead: bool = False
) -> Operation[None]:
    """Save checkpoints of one execution with their pending writes, all or none.

    Args:
        codec: How to store values.
        drafts: The checkpoints.
        written: Their pending writes.
        instead: Let them have no other pending writes than these.

    Raises:
        InvalidInput: A name can't be stored; nothing was.
        Unserializable: A value can't be stored; nothing was.
    """
    execution_id = drafts[0].execution_id
    for _ in range(ATTEMPTS):
        builder = CommitBuilder(codec, execution_id)
        if instead:
            builder.removals = [(draft.namespace, draft.id) for draft in drafts]
        for draft in drafts:
            builder.add(draft)
        for (namespace, id), task_id, task_path, writes in written:
            valid_name(task_id, "task_id")
            for idx, channel, value in writes:
                valid_text(channel, "the channel of a write")
                stored = builder.written(namespace, channel, value)
                columns = (execution_id, namespace, id, task_id, idx, task_path, channel)
                builder.writes.append(write_row(columns, stored))
        if (yield from builder.commit()):
            return
    raise too_busy(execution_id)


def find(codec: Codec, query: FindCheckpoints) -> Operation[list[Loaded]]:
    """Find checkpoints and decode them.

    Raises:
        CorruptData: One of them, or a chunk that it needs, is damaged or missing.
    """
    found: list[FoundCheckpoint] = yield query
    _check_asked(query, found)
    return (yield from _decode_all(codec, found))


def _check_asked(query: FindCheckpoints, found: Sequence[FoundCheckpoint]) -> None:
    """Check that rows have the keys that were asked for: a damaged index finds other rows.

    Raises:
        CorruptData: One has another key.
    """
    for row, _, _ in found:
        if (
            query.execution_id not in (None, row.execution_id)
            or query.namespace not in (None, row.namespace)
            or query.id not in (None, row.id)
        ):
            raise CorruptData(
                f"{place(row)} was found in place of another one: an index is damaged. "
                "No state was returned."
            )


def remember(codec: Codec, loaded: Loaded, pushed: Sequence[str]) -> None:
    """Let the next put in a namespace take over from this checkpoint what didn't change."""
    row = loaded.row
    cache = codec.caches.at(row.execution_id, loaded.epoch)
    known = cache.heads.get(row.namespace)
    if known is None or known.id != row.id or known.state != row.state:
        heads = {row.namespace: Head(row.id, row.state, pushed)}
        codec.caches.publish(row.execution_id, cache, loaded.epoch, heads=heads)


def find_page(
    codec: Codec,
    query: FindCheckpoints,
    where: dict[str, Any],
    limit: int | None,
) -> Operation[tuple[list[Loaded], FindCheckpoints | None]]:
    """Decode one page of a list of any length.

    Args:
        codec: How to decode.
        query: What to list; its ``limit`` is set here.
        where: What the metadata must hold at the top level, exactly.
        limit: The most to return, at least 1; None: a page.

    Returns:
        The checkpoints, and the query for those behind them; None when there are no more.
    """
    size = PAGE if limit is None else min(PAGE, limit)
    hint = {k: v for k, v in where.items() if type(v) in (str, int, bool)} or None
    found: list[FoundCheckpoint] = yield query._replace(limit=size, metadata=hint)
    _check_asked(query, found)
    matching = [one for one in found if not where or _matches(codec, one.row, where)]
    loaded = yield from _decode_all(codec, matching)
    if len(found) < size:
        return loaded, None
    last = found[-1].row
    return loaded, query._replace(after=Position(last.id, last.execution_id, last.namespace))


def _matches(codec: Codec, row: CheckpointRow, where: dict[str, Any]) -> bool:
    metadata = fields_from_json(row.metadata, codec.plain, f"the metadata of {place(row)}")
    return all(metadata.get(key) == value for key, value in where.items())


def _decode_all(codec: Codec, found: Sequence[FoundCheckpoint]) -> Operation[list[Loaded]]:
    """Decode checkpoints, but those that were removed since they were found."""
    loaded: list[Loaded] = []
    for element in found:
        one = yield from _decode(codec, element)
        if one is not None:
            loaded.append(one)
    return loaded


def _decode(codec: Codec, found: FoundCheckpoint) -> Operation[Loaded | None]:
    """Decode a checkpoint; None if it was removed since it was found."""
    row = found.row
    try:
        stored = [row.state, *map(checked_write, found.writes)]
        built = [parse(data, "the state or a pending write") for data in stored]
        graph = checked_graph(row)
        if MARK_BYTES in b"".join(stored):
            built = yield from decode_parts(codec, found, built)
        return Loaded(
            row,
            built[0],
            fields_from_json(row.metadata, codec.plain, "the metadata"),
            fields_from_json(graph, codec.plain, "the graph column"),
            [(w.task_id, w.channel, v) for w, v in zip(found.writes, built[1:], strict=True)],
            found.epoch,
        )
    except MissingChunks:
        query = FindCheckpoints(row.execution_id, row.namespace, row.id)
        again: list[FoundCheckpoint] = yield query
        if not again:
            return None
        if again[0] == found:
            raise
        return (yield from _decode(codec, again[0]))
    except CorruptData as error:
        error.add_note(f"while loading {place(row)}")
        raise


def decode_parts(
    codec: Codec, found: FoundCheckpoint, nodes: Sequence[Node]
) -> Operation[list[Any]]:
    """Return the values of nodes that stand in a checkpoint or in its writes.

    Raises:
        MissingChunks: A chunk that they need isn't stored.
        CorruptData: A node or a chunk is damaged.
    """
    row = found.row
    cache = codec.caches.at(row.execution_id, found.epoch)
    reader = Reader(cache.content, codec.serde)
    try:
        return [reader.build(node) for node in nodes]
    except ChunkMissing:
        yield from _fill(codec, found, cache, nodes)
        return [reader.build_complete(node) for node in nodes]


def _fill(
    codec: Codec, found: FoundCheckpoint, cache: ExecutionCache, nodes: Sequence[Node]
) -> Operation[None]:
    """Fetch the chunks that nodes need, all of a level at once."""
    row = found.row
    reader = Reader(cache.content, codec.serde)
    asked: set[ChunkId] = set()
    for _ in range(_DEEPEST):
        missing = reader.missing(nodes)
        if not missing:
            return
        if again := missing & asked:
            raise CorruptData(f"chunk {min(again)} is not of the kind that its place needs")
        asked |= missing
        chunks: dict[ChunkId, bytes] = yield FetchChunks(row.execution_id, sorted(missing))
        grown = sum(cache.content.add(id, sealed) for id, sealed in chunks.items())
        codec.caches.publish(
            row.execution_id,
            cache,
            found.epoch,
            chunks=chunks,
            # Whatever is in a page was stored before it.
            witnesses=set().union(*references(nodes, {})),
            grown=grown,
        )
        if lacking := missing - chunks.keys():
            raise MissingChunks(
                f"{place(row)} refers to chunk {min(lacking)}, which is not stored: the data was "
                "damaged, or removed by something other than langcairn. No state was returned."
            )
    raise CorruptData(f"{place(row)} has pages within pages without end: it is forged")


def executions(query: FindExecutions) -> Operation[list[str]]:
    """Find the ids of executions."""
    ids: list[str] = yield query
    return ids


def too_busy(execution_id: str) -> StoreUnavailable:
    """Return the error for a put that clean-ups overtook every time."""
    return StoreUnavailable(
        f"execution {execution_id!r} was cleaned up {ATTEMPTS} times while a put to it was "
        "under way; nothing was saved, try again"
    )


@lru_cache(maxsize=4096, typed=True)  # the same few names come in every put
def _is_channel(key: object) -> bool:
    return type(key) is str and exact_str(key)


def _dumps(node: Node) -> bytes:
    return orjson.dumps(standing(node))
