"""The stored form of a value: nodes, the JSON that stands in a row or a page.

A node is one of

==================================  ==========================================================
JSON scalar, array or object        the value itself; members of arrays and objects are nodes
``{"$cairn": ["c", id]}``           the value of a chunk
``{"$cairn": ["n", id]}``           the node in a page chunk (one too large to stand here)
``{"$cairn": ["m", base64]}``       a small value as msgpack
``{"$cairn": ["u", base64]}``       a small value by the user's own serializer
``{"$cairn": ["s", node]}``         LangGraph's ``_DeltaSnapshot`` of a value
``{"$cairn": ["l", tail…]}``        a list, as a tree
``{"$cairn": ["d", tail…]}``        a dict with str keys, as a tree
``{…, "$cairn": ["o", key…]}``      an object whose keys come in this order
==================================  ==========================================================

**Trees.** Sixteen elements make a page of level 0, sixteen pages of level k one of level k + 1.
A page is a chunk; what doesn't fill one stays in the node: ``tail 0`` holds the last elements,
``tail 1`` the ids of the last pages of level 0, and so on. So an append rewrites at most fifteen
references per level. *Elements* are a string of chunk ids without separators if all are
chunks, otherwise an array of nodes; those of a dict are ``[keys, elements]``.

**Exactness.** JSON stands for itself only where PostgreSQL's jsonb keeps it exactly: no NUL or
lone surrogate, integers of 64 bits, floats in positional notation. Rows are written with sorted
keys, and jsonb sorts them by length first, hence ``"o"`` where another order was meant. An object
of the user's that has a key ``$cairn`` is stored as a tree, whose keys are never taken for markers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "$cairn"
# Stored JSON without these bytes has no marker in it: it is the value.
MARK_BYTES = b'"$cairn"'
FANOUT = 16
# From here on a value gets a chunk of its own. A reference takes 22 to 40 bytes in a row and a
# chunk some 60 in a database, so smaller values are cheaper in place, even if repeated.
SMALL = 100  # [bytes]
_INT64 = range(-(2**63), 2**63)

Node = Any
"""JSON, or a `Ref` in place of a ``"c"`` marker while a tree is being built."""


class Ref(str):
    """The id of a chunk that holds a value; as a node it stands for a ``"c"`` marker."""

    __slots__ = ()


class NotExact(Exception):
    """The value has no JSON form that comes back the same from every backend."""


def stands(value: Any) -> bool:
    """Tell at a glance whether a value is a small scalar that stands for itself.

    Only a shortcut: `literal` gives the same for what this says yes to.
    """
    kind = type(value)
    if kind is str:
        return len(value) < SMALL - 1 and value.isascii() and "\0" not in value
    return value is None or kind is bool or (kind is int and value in _INT64)


def exact_str(value: str) -> bool:
    """Tell whether a string can stand in JSON."""
    if "\0" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def exact_float(value: float) -> bool:
    """Tell whether a float comes back as the same float, not as an int or another float."""
    if value == 0:
        return str(value) == "0.0"  # jsonb has no -0.0
    text = repr(value)
    return "e" not in text and "n" not in text  # 1e+16 would return as an int; nan and inf not


def literal(value: Any) -> Node:
    """Return plain data as JSON that stands for itself, sharing nothing mutable with it.

    Raises:
        NotExact: There is no such JSON.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        if exact_str(value):
            return value
    elif kind is int:
        if value in _INT64:
            return value
    elif kind is float:
        if exact_float(value):
            return value
    elif kind is list:
        return [literal(member) for member in value]
    elif kind is dict and all(type(key) is str and exact_str(key) for key in value):
        return literal_dict({key: literal(member) for key, member in value.items()})
    raise NotExact


def literal_dict(nodes: dict[str, Node]) -> Node:
    """Return an object that stands for itself, with its order kept if a row would lose it.

    Raises:
        NotExact: A key looks like a marker.
    """
    if MARK in nodes:
        raise NotExact
    keys = list(nodes)
    if len(keys) > 1 and (keys != sorted(keys) or keys != sorted(keys, key=_jsonb_order)):
        return {**nodes, MARK: ["o", *keys]}
    return nodes


def _jsonb_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode()
    return len(encoded), encoded


def canonical(node: Node) -> bytes:
    """Return the JSON of a node in a row: with sorted keys, so that all who write it agree.

    Raises:
        CorruptData: It nests deeper than any that the codec makes.
    """
    try:
        return orjson.dumps(node, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise CorruptData(f"a node is damaged: {error}") from error


def standing(node: Node) -> Node:
    """Return a node as it stands in an array or object: references as markers."""
    return {MARK: ["c", node]} if type(node) is Ref else node


def elements(nodes: Iterable[Node]) -> str | list[Node]:
    """Return the elements of a page or tail: ids in one string if all are references."""
    nodes = list(nodes)
    if all(type(node) is Ref for node in nodes):
        return "".join(nodes)
    return [standing(node) for node in nodes]
