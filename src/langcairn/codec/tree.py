"""From a value to its stored form, at the cost of what changed.

`Encoder.encode` turns a value into an `Encoded`: its node (see `langcairn.codec.nodes`) and what
is needed to encode the next version of the same value quickly. New chunks are collected on the
way; chunks that the last version had are not looked at again.

What has changed is found by content, never by identity: each element of a list is packed anew
(`pack`: 0.1-0.4 µs) and compared with the bytes it was packed to last time. Packing is the
serialization, so equal bytes are equal content; what can't be packed is serialized every time.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import orjson
import ormsgpack
from langgraph.checkpoint.serde.types import (
    _DeltaSnapshot,  # private, but the stored form of a public channel: there is no other name
)

from langcairn.codec.chunks import Kind, Payload, chunk_id
from langcairn.codec.messages import NAMES, fingerprint, fingerprints, pack, unpack
from langcairn.codec.nodes import (
    FANOUT,
    MARK,
    SMALL,
    Node,
    NotExact,
    Ref,
    elements,
    exact_str,
    literal,
    literal_dict,
    standing,
    stands,
)
from langcairn.codec.serde import SafeSerializer
from langcairn.errors import CairnError, Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langcairn.backends.base import ChunkId

# A container of plain data up to here is one chunk; above, its members are looked at singly.
_LEAF = 1024  # [bytes of msgpack]
# A node above this moves to a page of its own, so that rows stay small and it can be compressed.
_NODE = 1024  # [bytes of JSON, estimated]
_REF_WEIGHT = 40
# Containers nested deeper are leaves; this also ends a list that contains itself, which the
# serializer then refuses by name.
_DEPTH = 64


class Encoded:
    """A value in stored form, with what speeds up encoding its next version."""

    __slots__ = ("contents", "fingerprint", "kind", "node", "weight")

    def __init__(
        self,
        kind: type,
        node: Node,
        weight: int,
        fingerprint: bytes | None,
        contents: _Contents | None = None,
    ) -> None:
        self.kind = kind
        self.node = node
        self.weight = weight  # [bytes of JSON, about]
        # Of the very content that was encoded: a message may be changed by another thread while
        # it is being saved (LangGraph sets missing ids). None: it has none.
        self.fingerprint = fingerprint
        self.contents = contents  # set for containers whose members are stored singly

    @property
    def size(self) -> int:
        """The bytes that this keeps in memory, about."""
        own = 100 + len(self.fingerprint or b"")
        return own if self.contents is None else own + self.contents.size


class _Contents:
    """The members of a list or dict: how they were fingerprinted, and what they became."""

    __slots__ = ("items", "keys", "levels", "opaque", "packs", "size", "types")

    def __init__(
        self,
        keys: list[str] | None,
        types: list[type],
        packs: list[bytes | None],
        items: list[Encoded],
        levels: list[list[ChunkId]],
        size: int,
    ) -> None:
        self.keys = keys  # None for a list
        self.types = types
        self.packs = packs
        self.opaque = None in packs  # some member has no fingerprint
        self.items = items
        self.levels = levels  # ids of the full pages, level by level
        self.size = size  # [bytes kept in memory, about]

    def by_content(self) -> dict[tuple[type, bytes | None], Encoded]:
        """Return the members that have a fingerprint, by it."""
        return {
            (kind, packed): item
            for kind, packed, item in zip(self.types, self.packs, self.items, strict=True)
            if packed is not None
        }


class Encoder:
    """Encodes the values of one commit and collects their chunks.

    Attributes:
        chunks: The content of every chunk that was made, by id. Chunks that came with an old
            `Encoded` are not among them.
    """

    def __init__(
        self, serde: SerializerProtocol, namer: Callable[[Payload], ChunkId] = chunk_id
    ) -> None:
        self._name = namer
        self._safe = serde if isinstance(serde, SafeSerializer) else None
        self._serde = serde
        self.chunks: dict[ChunkId, Payload] = {}

    def encode(
        self, value: Any, old: Encoded | None, path: str, also: Encoded | None = None
    ) -> Encoded:
        """Encode a value that stands by itself.

        Args:
            value: The value.
            old: The last version of it, if its chunks are all stored. Any other value's would
                do as well; it only saves less.
            path: Where the value comes from, for error messages.
            also: Another stored value that this one may be equal to.

        Raises:
            Unserializable: With the path of what can't be serialized.
        """
        packed = pack(value)
        if packed is not None:
            seen = fingerprint(type(value), packed)
            for same in (old, also):
                if same is not None and seen == same.fingerprint and type(value) is same.kind:
                    return same
        return self._encode(value, packed, old, path, 0)

    def _encode(  # noqa: PLR0911 -- one way for each kind of value
        self, value: Any, packed: bytes | None, old: Encoded | None, path: str, depth: int
    ) -> Encoded:
        kind = type(value)
        if depth < _DEPTH:
            if kind is _DeltaSnapshot:
                inner = self._encode(value.value, pack(value.value), None, path, depth + 1)
                node = {MARK: ["s", standing(inner.node)]}
                return Encoded(kind, node, inner.weight + 16, None)
            before = None if old is None else old.contents
            if (packed is None or len(packed) > _LEAF) and self._divisible(value, before):
                return self._container(value, packed, before, path, depth)
        if self._safe is None:
            return self._custom(value, packed, path)
        if kind is bytearray and depth == 0:
            # As LangGraph has it: only inside other values a bytearray comes back as bytes.
            return self._chunk(kind, Payload(Kind.BYTEARRAY, bytes(value)), packed)
        if packed is not None:
            return self._plain(value, packed)
        data = self._safe.dumps(value, path=path)
        if len(data) > SMALL:
            return self._chunk(kind, Payload(Kind.MSGPACK, data), None)
        return self._small(kind, "m", data, None)

    def _divisible(self, value: Any, before: _Contents | None) -> bool:
        """Tell whether a value's members may be stored singly."""
        if type(value) is list:
            return True
        if type(value) is not dict or self._safe is None:
            return False  # a serializer of the user's may encrypt: keys must not show
        keys = list(value)  # in one step: another thread may be adding some
        if not {str}.issuperset(map(type, keys)):
            return False
        return (before is not None and before.keys == keys) or all(map(exact_str, keys))

    # Leaves

    def _plain(self, value: Any, packed: bytes) -> Encoded:
        """Encode plain data or a message, given what `pack` made of it."""
        kind = type(value)
        if kind in NAMES:
            return self._chunk(kind, Payload(Kind.MESSAGE, packed), packed)
        if len(packed) > SMALL:
            return self._chunk(kind, Payload(Kind.MSGPACK, packed), packed)
        try:
            # From what was packed, not from the value: another thread may be changing that.
            content = value if stands(value) else unpack(packed)
            return Encoded(kind, literal(content), len(packed) + 2, packed)
        except NotExact:
            return self._small(kind, "m", packed, packed)

    def _custom(self, value: Any, packed: bytes | None, path: str) -> Encoded:
        try:
            tag, data = self._serde.dumps_typed(value)
        except CairnError:
            raise
        except Exception as error:
            raise Unserializable(path, type(value).__qualname__, str(error)) from error
        typed = ormsgpack.packb([tag, bytes(data)])
        if len(typed) > SMALL:
            return self._chunk(type(value), Payload(Kind.CUSTOM, typed), packed)
        return self._small(type(value), "u", typed, packed)

    def _small(self, kind: type, tag: str, data: bytes, packed: bytes | None) -> Encoded:
        node = {MARK: [tag, b64encode(data).decode()]}
        return Encoded(kind, node, 20 + len(data) * 4 // 3, packed)

    def _chunk(self, kind: type, payload: Payload, packed: bytes | None) -> Encoded:
        seen = fingerprint(kind, packed)
        return Encoded(kind, Ref(self._store(payload)), _REF_WEIGHT, seen)

    def _store(self, payload: Payload) -> ChunkId:
        id = self._name(payload)
        self.chunks[id] = payload
        return id

    # Containers

    def _container(
        self, value: Any, packed: bytes | None, before: _Contents | None, path: str, depth: int
    ) -> Encoded:
        # Copied in one step each: another thread may be adding to it.
        keys: list[str] | None = None
        members: Sequence[Any] = list(value.items() if type(value) is dict else value)
        if type(value) is dict:
            keys, members = [key for key, _ in members], [member for _, member in members]
        if before is not None and (before.keys is None) != (keys is None):
            before = None
        old_items = [] if before is None else before.items
        packs = fingerprints(members)
        types = list(map(type, members))
        changed = _changed(before, keys, types, packs)
        # Elements that only moved (a trimmed history) are found by content. Hashing it all takes
        # as long as encoding a few, so it must have been more than a few.
        several = sum(i < len(old_items) for i in changed[: FANOUT + 1]) > FANOUT
        moved = before.by_content() if before is not None and several else {}
        items: list[Any] = old_items[: len(packs)] + [None] * (len(packs) - len(old_items))
        for i in changed:
            item = moved.get((types[i], packs[i]))
            if item is None:
                last = old_items[i] if i < len(old_items) else None
                step = i if keys is None else keys[i]
                item = self._encode(
                    members[i], pack(members[i]), last, f"{path}[{step!r}]", depth + 1
                )
                packs[i] = item.fingerprint
            items[i] = item
        if keys is not None and len(keys) <= FANOUT and MARK not in keys:
            node = literal_dict(
                {key: standing(item.node) for key, item in zip(keys, items, strict=True)}
            )
            weight = sum(item.weight for item in items) + 2 * sum(map(len, keys))
            levels: list[list[ChunkId]] = []
        else:
            levels = self._levels(keys, items, before, changed)
            node, weight = _tree(keys, items, levels)
        if weight > _NODE:
            node, weight = self._apart(node), _REF_WEIGHT
        size = 150 * (len(packs) - len(old_items)) + sum(len(packs[i] or b"") for i in changed)
        if before is not None:
            gone = [before.packs[i] for i in changed if i < len(old_items)]
            gone += before.packs[len(packs) :]
            size += before.size - sum(len(packed or b"") for packed in gone)
        contents = _Contents(keys, types, packs, items, levels, size)
        # Its members were packed after it was: unless it is still the same, it is another thread's
        # doing, and what it was then stands for none of this.
        still = packed if packed is not None and packed == pack(value) else None
        return Encoded(type(value), node, weight, still, contents)

    def _apart(self, node: Node) -> Node:
        return {MARK: ["n", self._store(Payload(Kind.PAGE, orjson.dumps(node)))]}

    def _levels(
        self,
        keys: list[str] | None,
        items: list[Encoded],
        before: _Contents | None,
        changed: Iterable[int],
    ) -> list[list[ChunkId]]:
        """Return the ids of all full pages, making those whose content is new."""
        levels: list[list[ChunkId]] = []
        dirty = {i // FANOUT for i in changed}
        count = len(items) // FANOUT
        below: list[ChunkId] = []
        while count:
            level = len(levels)
            old = before.levels[level] if before is not None and level < len(before.levels) else []
            ids: list[Any] = old[:count] + [None] * (count - len(old))
            made = {page for page in dirty if page < count} | set(range(len(old), count))
            for page in made:
                first, last = page * FANOUT, (page + 1) * FANOUT
                content = "".join(below[first:last]) if level else _page(keys, items, first, last)
                ids[page] = self._store(Payload(Kind.PAGE, orjson.dumps(content)))
            levels.append(ids)
            below = ids
            dirty = {page // FANOUT for page in made}
            count //= FANOUT
        return levels


def _tree(
    keys: list[str] | None, items: list[Encoded], levels: list[list[ChunkId]]
) -> tuple[Node, int]:
    """Return the node of a tree and its weight."""
    start = len(items) - len(items) % FANOUT
    tails = [_page(keys, items, start, len(items))]
    tails.extend("".join(ids[len(ids) - len(ids) % FANOUT :]) for ids in levels)
    weight = sum(item.weight for item in items[start:]) + sum(map(len, tails[1:])) + 16
    return {MARK: ["l" if keys is None else "d", *tails]}, weight


def _page(keys: list[str] | None, items: list[Encoded], first: int, last: int) -> Any:
    content = elements(item.node for item in items[first:last])
    return content if keys is None else [keys[first:last], content]


def _changed(
    before: _Contents | None,
    keys: list[str] | None,
    types: list[type],
    packs: list[bytes | None],
) -> list[int]:
    """Return, ascending, the places at which a member isn't known to be as before."""
    if before is None:
        return list(range(len(packs)))
    shared = min(len(packs), len(before.packs))
    appended = list(range(shared, len(packs)))
    if (
        not before.opaque  # None == None, but says nothing about the values
        and packs[:shared] == before.packs[:shared]
        and types[:shared] == before.types[:shared]
        and (keys is None or keys[:shared] == before.keys[:shared])  # type: ignore[index]  # both dicts
    ):
        return appended
    return [
        i
        for i in range(shared)
        if packs[i] is None
        or packs[i] != before.packs[i]
        or types[i] is not before.types[i]
        or (keys is not None and keys[i] != before.keys[i])  # type: ignore[index]  # both dicts
    ] + appended
