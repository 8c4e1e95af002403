"""Between rows and what they mean: the JSON columns of a checkpoint, and checks of its keys."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import orjson

from langcairn.backends.base import RESERVED, CheckpointRow
from langcairn.checkpoint import Checkpoint
from langcairn.checks import CHECK_KEY, checked_graph, rechecked, row_with_check
from langcairn.codec.nodes import (
    MARK,
    MARK_BYTES,
    NotExact,
    canonical,
    exact_str,
    literal,
    literal_dict,
    stands,
)
from langcairn.codec.reader import parse
from langcairn.errors import AmbiguousCheckpoint, CorruptData, InvalidInput
from langcairn.thread_id import LONGEST, ThreadId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langcairn.codec.nodes import Node
    from langcairn.codec.serde import SafeSerializer

# Together they must fit a B-tree key of PostgreSQL's, which ends at 2,704 bytes. Namespaces of
# LangGraph's grow by some 50 bytes with each level of subgraphs.
_LONGEST = {"namespace": 1400}  # [bytes of UTF-8]
_LONGEST_NAME = LONGEST  # [bytes of UTF-8]


class Draft(NamedTuple):
    """A checkpoint to be saved, before its values are encoded."""

    execution_id: str
    namespace: str
    id: str
    parent_id: str | None
    node_name: str
    state: Any
    metadata: Mapping[str, Any]
    timestamp: datetime
    version: int
    graph: Mapping[str, Any] | None = None
    """What only LangGraph needs; None for a record saved by hand."""
    changed: Mapping[str, Any] | None = None
    """Keys of the state whose values may differ from the parent's; None: all."""
    pushed: Sequence[str] = ()
    """Names of the nodes that `Send` packets in the state start."""


class Loaded(NamedTuple):
    """A checkpoint as it was read."""

    row: CheckpointRow
    state: Any
    metadata: dict[str, Any]
    graph: dict[str, Any]
    writes: list[tuple[str, str, Any]]
    """LangGraph's pending writes: task id, channel, value."""
    epoch: int

    @property
    def rebuilt(self) -> list[str]:
        """The DeltaChannels that the state lacks: only the graph can rebuild their values."""
        counted = self.metadata.get("counters_since_delta_snapshot")
        if not isinstance(counted, dict) or not isinstance(self.state, dict):
            return []
        return sorted(str(name) for name in counted if name not in self.state)


def draft_of(checkpoint: Checkpoint) -> Draft:
    """Return a record that a caller saves by hand, checked.

    Raises:
        InvalidInput: A field can't be stored.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise InvalidInput(f"expected a Checkpoint, not {type(checkpoint).__name__}")
    version = checkpoint.version
    if type(version) is not int or not 0 <= version < 2**31:
        raise InvalidInput(f"version must be an int from 0 to 2147483647, not {version!r}")
    if not isinstance(checkpoint.metadata, dict):
        kind = type(checkpoint.metadata).__name__
        raise InvalidInput(f"metadata must be a dict, not {kind}")
    parent = checkpoint.parent_id
    return Draft(
        valid_execution_id(checkpoint.execution_id),
        valid_name(checkpoint.namespace, "namespace"),
        valid_name(checkpoint.id, "checkpoint id", empty=False),
        None if parent is None else valid_name(parent, "parent_id", empty=False),
        valid_name(checkpoint.node_name, "node_name"),
        checkpoint.state,
        checkpoint.metadata,
        utc(checkpoint.timestamp),
        version,
        checkpoint.graph,
    )


def valid_execution_id(value: object) -> str:
    """Return a thread or execution id as it is stored.

    Integers, UUIDs and `ThreadId` stand for their text, so a service may use ``7`` here and ``"7"``
    there.

    Raises:
        InvalidInput: It is empty, too long, of another type, reserved, or has characters that not
            every backend can keep. (Dropping them, as other savers do, makes two threads one.)
    """
    if type(value) is int or isinstance(value, (UUID, ThreadId)):
        value = str(value)
    if value == RESERVED:
        raise InvalidInput(f"thread_id (execution_id) {value!r} is reserved; choose another name")
    return valid_name(value, "thread_id (execution_id)", empty=False)


def valid_name(value: object, what: str, *, empty: bool = True) -> str:
    """Return a part of a key if every backend can store it.

    Raises:
        InvalidInput: It can't be stored; the message says why.
    """
    if type(value) is str and (is_usual(value) or (empty and not value)):
        return value
    text = valid_text(value, what)
    if not text and not empty:
        raise InvalidInput(f"{what} is empty; give every run a name of its own")
    size, longest = len(text.encode()), _LONGEST.get(what, _LONGEST_NAME)
    if size > longest:
        raise InvalidInput(f"{what} has {size} bytes; {longest} is the most: {text!r:.80}…")
    return text


def is_usual(name: str) -> bool:
    """Tell at a glance that every backend can store a name, as nearly every one is stored."""
    return 0 < len(name) <= 100 and name.isascii() and "\0" not in name


def valid_text(value: object, what: str) -> str:
    """Return a string if every backend can store it in a column.

    Raises:
        InvalidInput: It can't be stored; the message says why.
    """
    if type(value) is str and is_usual(value):
        return value
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a string, not {type(value).__name__}: {value!r:.80}")
    if "\0" in value:
        raise InvalidInput(f"{what} {value!r:.80} has a NUL character, which not every store keeps")
    if not exact_str(value):
        raise InvalidInput(f"{what} {value!r:.80} has half a surrogate pair in it")
    return value


def state_node(nodes: dict[str, Node], *, ordered: bool) -> Node:
    """Return what the state column says for a dict whose values are encoded.

    Args:
        nodes: The nodes of the values, as they stand in an object.
        ordered: Keep the order of the keys also where a database would sort them.
    """
    if MARK in nodes:
        return {MARK: ["d", [list(nodes), list(nodes.values())]]}
    return literal_dict(nodes) if ordered else nodes


def graph_json(graph: Mapping[str, Any], serde: SafeSerializer) -> bytes:
    """Return the graph column for the parts of a LangGraph checkpoint that aren't its state.

    Raises:
        Unserializable: A value can't be stored.
    """
    if CHECK_KEY in graph:
        raise InvalidInput(f"the checkpoint has a key {CHECK_KEY!r}, which is reserved")
    fields = dict(graph)
    for key in graph.keys() - _VERSIONS:
        fields[key] = _inline_field(key, graph[key], "checkpoint", serde)
    try:
        return orjson.dumps(fields)
    except TypeError as error:
        raise InvalidInput(f"the checkpoint's channel versions can't be stored: {error}") from error


_VERSIONS = frozenset(("channel_versions", "versions_seen", "updated_channels"))


def _metadata_json(metadata: Mapping[str, Any], serde: SafeSerializer) -> bytes:
    nodes = _inline_fields(metadata, "metadata", serde)
    try:
        return canonical(nodes)
    except CorruptData as error:
        raise InvalidInput("the metadata nests too deep to be stored as JSON") from error


def _inline_fields(fields: Mapping[str, Any], what: str, serde: SafeSerializer) -> dict[str, Node]:
    return {
        key: value if _is_plain(key) and stands(value) else _inline_field(key, value, what, serde)
        for key, value in fields.items()
    }


@lru_cache(maxsize=4096, typed=True)  # the same few names come in every put
def _is_plain(key: object) -> bool:
    return type(key) is str and is_usual(key) and key != MARK


def _inline_field(key: str, value: Any, what: str, serde: SafeSerializer) -> Node:
    if type(key) is not str or not is_usual(key):
        valid_name(key, f"a key of the {what}")
    if key == MARK:
        raise InvalidInput(f"the {what} has a key {MARK!r}, which is reserved")
    if stands(value):
        return value
    try:
        return literal(value)
    except (NotExact, RecursionError):
        data = serde.dumps(value, path=f"{what}[{key!r}]")
        return {MARK: ["m", b64encode(data).decode()]}


def fields_from_json(data: bytes, serde: SafeSerializer, what: str) -> dict[str, Any]:
    """Return the content of a metadata or graph column.

    Raises:
        CorruptData: It isn't what we write, nor plain JSON.
    """
    fields = parse(data, what)
    if type(fields) is not dict:
        raise CorruptData(f"{what} is damaged: it isn't a JSON object")
    if MARK_BYTES not in data:
        return fields
    return {
        # Versions are stored as they are: a channel may well be named like a marker.
        key: value if key in _VERSIONS else _from_inline(value, serde, what)
        for key, value in fields.items()
    }


def _from_inline(node: Node, serde: SafeSerializer, what: str) -> Any:
    if type(node) is list:
        return [_from_inline(member, serde, what) for member in node]
    if type(node) is not dict:
        return node
    marker = node.get(MARK)
    if marker is None:
        return {key: _from_inline(member, serde, what) for key, member in node.items()}
    try:
        match marker:
            case ["m", str(text)]:
                return serde.loads(b64decode(text, validate=True))
            case ["o", *keys] if len(keys) == len(node) - 1:
                return {key: _from_inline(node[key], serde, what) for key in keys}
    except (ValueError, KeyError) as error:
        raise CorruptData(f"{what} is damaged: {error}") from error
    raise CorruptData(f"{what} is damaged: {str(marker)[:80]}")


def row_of(draft: Draft, state: Node, serde: SafeSerializer) -> CheckpointRow:
    """Return the row of a checkpoint whose state is encoded.

    Args:
        draft: The checkpoint.
        state: What the state column is to say.
        serde: What serializes metadata and LangGraph's fields. Neither refers to a chunk, so
            that metadata can be searched.

    Raises:
        Unserializable: A value of the metadata or of LangGraph's fields can't be stored.
    """
    columns = (
        draft.execution_id,
        draft.namespace,
        draft.id,
        draft.parent_id,
        draft.node_name,
        canonical(state),
        _metadata_json(draft.metadata, serde),
        draft.timestamp,
        draft.version,
    )
    return row_with_check(columns, b"{}" if draft.graph is None else graph_json(draft.graph, serde))


def with_metadata(
    row: CheckpointRow, metadata: Mapping[str, Any], serde: SafeSerializer, **others: Any
) -> CheckpointRow:
    """Return a row with other metadata.

    Args:
        row: The row.
        metadata: Its metadata from now on.
        serde: How to serialize them.
        **others: What else shall be different; columns of JSON can't.

    Raises:
        CorruptData: A column isn't what was written.
        Unserializable: A value of the metadata can't be stored.
    """
    graph = checked_graph(row)
    stored = _metadata_json(metadata, serde)
    return rechecked(row._replace(**others, metadata=stored, graph=graph))


def utc(timestamp: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken for UTC.

    Raises:
        InvalidInput: It is no time.
    """
    if not isinstance(timestamp, datetime):
        raise InvalidInput(f"a time must be a datetime, not {type(timestamp).__name__}")
    if timestamp.tzinfo is None:
        return timestamp.replace(tzinfo=UTC)
    try:
        return timestamp.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(f"{timestamp} can't be said in UTC: {error}") from error


def only_one(rows: Sequence[CheckpointRow]) -> None:
    """Check that an id means one checkpoint.

    Raises:
        AmbiguousCheckpoint: It means several.
    """
    if len(rows) > 1:
        places = " and ".join(f"{row.execution_id!r} (namespace {row.namespace!r})" for row in rows)
        raise AmbiguousCheckpoint(
            f"checkpoint {rows[0].id!r} is in the executions {places}, for one; say which is "
            "meant with execution_id=… and namespace=…"
        )


def place(row: CheckpointRow) -> str:
    """Name a checkpoint for an error message."""
    inside = f" (namespace {row.namespace!r})" if row.namespace else ""
    return f"checkpoint {row.id!r} of execution {row.execution_id!r}{inside}"
