"""From stored form back to values.

`Reader.build` makes a value from its node and the chunks in a `Content`. Chunks that it lacks are
named by `Reader.missing`, level by level, so that whoever does the I/O fetches them in batches.
Everything here reads data that anyone with access to the storage may have written: whatever is
not as `langcairn.codec.nodes` says is a `CorruptData`.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

import orjson
import ormsgpack
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import (
    _DeltaSnapshot,  # private, but the stored form of a public channel: there is no other name
)

from langcairn.backends.base import ChunkId
from langcairn.codec.chunks import ID_LENGTH, ChunkFormat, Kind, Payload, encrypted
from langcairn.codec.messages import MessageTemplate
from langcairn.codec.nodes import MARK, Node
from langcairn.codec.serde import SafeSerializer
from langcairn.errors import CairnError, CorruptData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from langgraph.checkpoint.serde.base import SerializerProtocol

# Forged pages that refer to each other could ask for any number.
_MOST_MEMBERS = 5_000_000
_MSGPACK_STR = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))


class ChunkMissing(LookupError):
    """A chunk that a value needs has not been fetched yet."""


class _Chunks(dict["ChunkId", Any]):
    def __missing__(self, id: ChunkId) -> Any:
        raise ChunkMissing(id)


class Content:
    """Opened chunks of one execution, ready to be made into values.

    Args:
        format: How they are stored.

    Attributes:
        pages: Parsed page chunks.
        leaves: Messages as templates, strings as they are, all else as bytes with their kind:
            whoever gets a value gets objects of his own.
    """

    __slots__ = ("_format", "leaves", "pages")

    def __init__(self, format: ChunkFormat) -> None:
        self._format = format
        self.pages: dict[ChunkId, Node] = _Chunks()
        self.leaves: dict[ChunkId, MessageTemplate | str | Payload] = _Chunks()

    def only(self, ids: AbstractSet[ChunkId]) -> Content:
        """Return what is opened of these chunks."""
        content = Content(self._format)
        # Lists, made in one step: another thread may be opening more.
        content.pages.update((id, page) for id, page in list(self.pages.items()) if id in ids)
        content.leaves.update((id, leaf) for id, leaf in list(self.leaves.items()) if id in ids)
        return content

    def add(self, id: ChunkId, sealed: bytes) -> int:
        """Open a stored chunk and keep it. Returns the bytes that this takes, about.

        Raises:
            CorruptData: It isn't what was stored under this id.
        """
        return self.keep(id, self._format.unseal(id, sealed))

    def keep(self, id: ChunkId, payload: Payload) -> int:
        """Keep an opened chunk. Returns the bytes that this takes, about.

        Raises:
            CorruptData: It is not of the form that its kind has.
        """
        kind, data = payload
        if kind is Kind.PAGE:
            self.pages[id] = _page(parse(data, f"page {id}"))
        elif kind is Kind.MESSAGE:
            self.leaves[id] = MessageTemplate(data)
        elif kind is Kind.MSGPACK and data and data[0] in _MSGPACK_STR:
            self.leaves[id] = _string(id, data)
        else:
            self.leaves[id] = Payload(kind, data)
        return len(data) + 200


class Reader:
    """Makes values from nodes, with one serializer and the chunks of one execution."""

    def __init__(self, content: Content, serde: SerializerProtocol) -> None:
        self._content = content
        self._serde = serde
        self._safe = serde if isinstance(serde, SafeSerializer) else SafeSerializer()
        # Plain text among what should be encrypted was not put there by us.
        self._sealed = isinstance(serde, EncryptedSerializer)
        self._built = 0
        self._top: Node = None

    def missing(self, nodes: Iterable[Node]) -> set[ChunkId]:
        """Return the chunks that these nodes need next and that the content lacks.

        Pages that were lacking hide what they refer to: ask again after adding them, until
        nothing is missing.

        Raises:
            CorruptData: A node is malformed.
        """
        content = self._content
        pages, values = references(nodes, content.pages)
        return (pages - content.pages.keys()) | (values - content.leaves.keys())

    def build(self, node: Node) -> Any:
        """Return the value of a node.

        Raises:
            ChunkMissing: `missing` says which.
            CorruptData: The node or a chunk is malformed.
            UnsafeType: A type in it must not be constructed.
        """
        self._top = node
        try:
            return self._build(node)
        except (CairnError, ChunkMissing):
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise CorruptData(f"a stored node is malformed: {error}") from error

    def build_complete(self, node: Node) -> Any:
        """Return the value of a node for which nothing is missing.

        Raises:
            CorruptData: As `build`; also if a chunk is of another kind than its place needs.
        """
        try:
            return self.build(node)
        except ChunkMissing as error:
            raise CorruptData(f"chunk {error} is not of the kind that its place needs") from error

    def _build(self, node: Node) -> Any:  # noqa: C901, PLR0911 -- one case for each form of a node
        kind = type(node)
        marker = node.get(MARK) if kind is dict else None
        if marker is None:
            if self._sealed and node is not self._top:
                raise CorruptData("a value is in plain text where everything should be encrypted")
            if kind is list:
                return [self._build(member) for member in self._counted(node)]
            if kind is dict:
                return {key: self._build(member) for key, member in self._counted(node).items()}
            return node
        match marker:
            case ["c", str(id)]:
                return self._leaf(ChunkId(id))
            case ["n", str(id)]:
                return self._build(self._content.pages[ChunkId(id)])
            case ["m", str(text)]:
                return self._safe.loads(b64decode(text, validate=True))
            case ["u", str(text)]:
                return self._custom(b64decode(text, validate=True))
            case ["s", inner]:
                return _DeltaSnapshot(self._build(inner))
            case ["l", *tails]:
                return [value for page in self._leading(tails) for value in self._values(page)]
            case ["d", *tails]:
                return {
                    key: value
                    for keys, page in self._leading(tails)
                    for key, value in zip(keys, self._values(page), strict=True)
                }
            case ["o", *keys] if len(keys) == len(node) - 1:
                return {key: self._build(_member(node, key)) for key in keys}
        raise _unknown(marker)

    def _counted(self, members: Any) -> Any:
        """Count members that are about to be made, as pages that repeat can say very many."""
        self._built += len(members)
        if self._built > _MOST_MEMBERS:
            raise CorruptData(f"a state has over {_MOST_MEMBERS:,} members; none that was put has")
        return members

    def _leading(self, tails: list[Any]) -> Iterator[Any]:
        """Yield the pages of a tree's elements from first to last."""
        for level in range(len(tails) - 1, 0, -1):
            yield from self._expanded(tails[level], level)
        yield tails[0]

    def _expanded(self, ids: Any, level: int) -> Iterator[Any]:
        for id in split(ids):
            page = self._content.pages[id]
            if level == 1:
                yield page
            else:
                yield from self._expanded(page, level - 1)

    def _values(self, page: Any) -> list[Any]:
        if type(page) is str:
            page = split(page)
        self._counted(page)
        if type(page) is Ids:
            leaves = self._content.leaves
            return [
                leaf.make()
                if type(leaf := leaves[id]) is MessageTemplate and not self._sealed
                else self._leaf(id)
                for id in page
            ]
        return [self._build(node) for node in page]

    def _leaf(self, id: ChunkId) -> Any:
        leaf = self._content.leaves[id]
        if self._sealed and not (isinstance(leaf, Payload) and leaf.kind is Kind.CUSTOM):
            raise CorruptData("a chunk is in plain text where everything should be encrypted")
        if isinstance(leaf, MessageTemplate):
            return leaf.make()
        if isinstance(leaf, str):
            return leaf
        kind, data = leaf
        if kind is Kind.MSGPACK:
            return self._safe.loads(data)
        if kind is Kind.BYTEARRAY:
            return bytearray(data)
        return self._custom(data)

    def _custom(self, typed: bytes) -> Any:
        tag, data = ormsgpack.unpackb(typed)
        if self._sealed and "+" not in tag:
            raise CorruptData("a value is not encrypted where everything should be")
        try:
            return self._serde.loads_typed((tag, data))
        except CairnError:
            raise
        except Exception as error:
            raise CorruptData(f"the serializer can't load what is stored: {error}") from error


def references(
    nodes: Iterable[Node], pages: Mapping[ChunkId, Node]
) -> tuple[set[ChunkId], set[ChunkId]]:
    """Return the pages and the values that nodes refer to, as far as it can be seen.

    Pages that are not in ``pages`` are returned, but can't be looked into.

    Raises:
        CorruptData: A node is malformed.
    """
    values: set[ChunkId] = set()
    walk = _Walk(pages, values)
    _look_into(list(nodes), walk)
    return walk.pages, values


def _look_into(node: Node, walk: _Walk) -> None:
    stack: list[Node] = [node]
    try:
        while stack:
            node = stack.pop()
            if type(node) is list:
                stack.extend(node)
            elif type(node) is dict:
                stack.extend(walk.enter(node))
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptData(f"a stored node is malformed: {error}") from error


class ReadOrder:
    """The values that nodes refer to, each once, those together that are read together.

    Args:
        pages: Opened pages; all that the nodes refer to must be there when they are added.
    """

    def __init__(self, pages: Mapping[ChunkId, Node]) -> None:
        self.values = _InOrder()
        self._walk = _Walk(pages, self.values)

    def add(self, node: Node) -> None:
        """Add what a node refers to and none before it did.

        Raises:
            CorruptData: It is malformed.
        """
        _look_into(node, self._walk)


class _InOrder(dict["ChunkId", None]):
    """Ids in the order in which they were added, in the place of a set."""

    def add(self, id: ChunkId) -> None:
        self[id] = None

    def update(self, ids: Iterable[ChunkId]) -> None:  # type: ignore[override]  # as a set's
        super().update(dict.fromkeys(ids))


class _Walk:
    """Collects references from one node after the other."""

    def __init__(self, opened: Mapping[ChunkId, Node], values: set[ChunkId] | _InOrder) -> None:
        self._opened = opened
        self._seen: set[tuple[ChunkId, int]] = set()
        self.pages: set[ChunkId] = set()
        self.values = values

    def enter(self, node: dict[str, Node]) -> Iterable[Node]:
        """Note what an object refers to. Returns the nodes inside it."""
        marker = node.get(MARK)
        match marker:
            case None | ["o", *_]:
                return [member for key, member in node.items() if key != MARK]
            case ["c", str(id)]:
                self.values.add(ChunkId(id))
            case ["n", str(id)]:
                return self._open([ChunkId(id)])
            case ["s", inner]:
                return [inner]
            case ["l", *tails]:
                return self._elements(tails)
            case ["d", *tails]:
                return self._elements([tails[0][1], *tails[1:]], keyed=True)
            case ["m" | "u", _]:
                pass
            case _:
                raise _unknown(marker)
        return ()

    def _open(self, ids: Iterable[ChunkId], role: int = 0) -> list[Node]:
        """Note pages. Returns the content of those not yet looked into in this role."""
        opened = []
        for id in ids:
            self.pages.add(id)
            if (id, role) not in self._seen and id in self._opened:
                # Checkpoints share most of their pages: each is walked once, not once for each.
                self._seen.add((id, role))
                opened.append(self._opened[id])
        return opened

    def _elements(self, tails: list[Any], *, keyed: bool = False) -> list[Node]:
        """Note what a tree refers to. Returns those of its elements that are nodes."""
        pages = [tails[0]]
        for height, tail in enumerate(tails[1:], start=1):
            level = self._open(split(tail), height)
            for lower in range(height - 1, 0, -1):
                level = self._open([id for ids in level for id in split(ids)], lower)
            pages.extend(page[1] if keyed else page for page in level)
        nodes: list[Node] = []
        for page in pages:
            if type(page) is str or type(page) is Ids:
                self.values.update(split(page))
            else:
                nodes.extend(page)
        return nodes


class Ids(list["ChunkId"]):
    """Chunk ids that stood in a page: elements that are all references."""

    __slots__ = ()


def split(ids: Any) -> Ids:
    """Return the chunk ids that stand in a string without separators.

    Raises:
        CorruptData: They don't.
    """
    if type(ids) is Ids:
        return ids
    if type(ids) is not str or len(ids) % ID_LENGTH:
        raise CorruptData("a stored list of chunk ids is cut or damaged")
    return Ids(ids[i : i + ID_LENGTH] for i in range(0, len(ids), ID_LENGTH))  # type: ignore[misc]  # NewType of str


def _page(content: Any) -> Any:
    """Return the content of a page with its ids split: it is looked at several times."""
    if type(content) is str:
        return split(content)
    if type(content) is list and len(content) == 2 and type(content[1]) is str:
        return [content[0], split(content[1])]
    return content


def parse(data: bytes, what: str) -> Any:
    """Return stored JSON, parsed.

    Raises:
        CorruptData: It isn't JSON; the message begins with ``what``.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptData(f"{what} is damaged: it isn't JSON ({error})") from error


def _unknown(marker: Any) -> CorruptData:
    if type(marker) is list and marker[:1] == ["e"]:
        return encrypted("a state or a pending write")
    return CorruptData(f"a stored node has an unknown form: {str(marker)[:80]}")


def _member(node: dict[str, Node], key: Any) -> Node:
    if key == MARK or key not in node:
        raise CorruptData("a stored object lacks a key that its order names")
    return node[key]


def _string(id: ChunkId, data: bytes) -> str:
    try:
        value = ormsgpack.unpackb(data)
    except ValueError as error:
        raise CorruptData(f"chunk {id} holds no valid string") from error
    if type(value) is not str:
        raise CorruptData(f"chunk {id} holds no valid string")
    return value
