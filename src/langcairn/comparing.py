"""What is different between two states: channel by channel, and message by message."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langgraph.types import Send
from pydantic import BaseModel

from langcairn.codec.serde import SafeSerializer
from langcairn.codec.standins import StandIn
from langcairn.errors import Unserializable

Kind = Literal["added", "removed", "changed", "moved"]

_serde = SafeSerializer()


@dataclass(frozen=True, slots=True)
class ItemDiff:
    """One message, element or entry that is different.

    Attributes:
        key: A message's id, an element's position (in the second state; of removed ones in the
            first), or a dict's key.
        kind: What happened to it; ``moved``: the same message, at another place among the others.
        before: What it was; None for one that was added.
        after: What it is; None for one that was removed.
    """

    key: Any
    kind: Kind
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ChannelDiff:
    """One channel that is different.

    Attributes:
        name: The channel; ``""`` if the states aren't dicts.
        kind: ``added``, ``removed`` or ``changed``.
        before: Its value in the first state; None if it has none.
        after: Its value in the second state, likewise.
        items: For lists and dicts, what in them is different; else empty.
    """

    name: str
    kind: Kind
    before: Any
    after: Any
    items: tuple[ItemDiff, ...] = ()


@dataclass(frozen=True, slots=True)
class StateDiff:
    """The differences of two checkpoints.

    Attributes:
        before_id: The first checkpoint.
        after_id: The second.
        channels: The channels that differ, by name; empty if the states are the same.
    """

    before_id: str
    after_id: str
    channels: tuple[ChannelDiff, ...]

    def __bool__(self) -> bool:
        return bool(self.channels)


def compare_states(before: Any, after: Any) -> tuple[ChannelDiff, ...]:
    """Return what is different between two states.

    Lists whose elements all have ids of their own, as messages do, are compared by id; other
    lists by position, after what they have in common at both ends; dicts by key.
    """
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return () if _same(before, after) else (_changed("", before, after),)
    names = sorted({*before, *after}, key=str)
    diffs = []
    for name in names:
        if name not in before:
            diffs.append(ChannelDiff(str(name), "added", None, after[name]))
        elif name not in after:
            diffs.append(ChannelDiff(str(name), "removed", before[name], None))
        elif not _same(before[name], after[name]):
            diffs.append(_changed(str(name), before[name], after[name]))
    return tuple(diffs)


def _changed(name: str, before: Any, after: Any) -> ChannelDiff:
    items: list[ItemDiff] = []
    if isinstance(before, list) and isinstance(after, list):
        old, new = _by_id(before), _by_id(after)
        items = _lists(before, after) if old is None or new is None else _messages(old, new)
    elif isinstance(before, dict) and isinstance(after, dict):
        items = _entries(before, after)
    return ChannelDiff(name, "changed", before, after, tuple(items))


def _by_id(elements: Sequence[Any]) -> dict[str, Any] | None:
    """Return elements by their ids; None if they don't all have ones of their own."""
    found: dict[str, Any] = {}
    for element in elements:
        id = getattr(element, "id", None)
        if not isinstance(id, str) or id in found:
            return None
        found[id] = element
    return found


def _messages(old: dict[str, Any], new: dict[str, Any]) -> list[ItemDiff]:
    stayed_old = [id for id in old if id in new]
    stayed_new = [id for id in new if id in old]
    moved = {
        new_id for old_id, new_id in zip(stayed_old, stayed_new, strict=True) if old_id != new_id
    }
    items = [ItemDiff(id, "removed", old[id], None) for id in old if id not in new]
    for id, element in new.items():
        if id not in old:
            items.append(ItemDiff(id, "added", None, element))
        elif not _same(old[id], element):
            items.append(ItemDiff(id, "changed", old[id], element))
        elif id in moved:
            items.append(ItemDiff(id, "moved", old[id], element))
    return items


def _lists(before: Sequence[Any], after: Sequence[Any]) -> list[ItemDiff]:
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and _same(before[start], after[start]):
        start += 1
    end = 0
    while end < shorter - start and _same(before[-1 - end], after[-1 - end]):
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    pairs = list(zip(old, new, strict=False))
    items = [
        ItemDiff(start + i, "changed", *pair) for i, pair in enumerate(pairs) if not _same(*pair)
    ]
    rest = start + len(pairs)
    items += [ItemDiff(rest + i, "removed", one, None) for i, one in enumerate(old[len(pairs) :])]
    items += [ItemDiff(rest + i, "added", None, one) for i, one in enumerate(new[len(pairs) :])]
    return items


def _entries(before: dict[Any, Any], after: dict[Any, Any]) -> list[ItemDiff]:
    items = [ItemDiff(key, "removed", before[key], None) for key in before if key not in after]
    for key, value in after.items():
        if key not in before:
            items.append(ItemDiff(key, "added", None, value))
        elif not _same(before[key], value):
            items.append(ItemDiff(key, "changed", before[key], value))
    return items


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values have the same content.

    By their serialized form: ``==`` takes 1 for True, NaN for a change, and gives no bool for
    arrays.
    """
    if _kind(one) != _kind(other):
        return False
    try:
        return _serde.dumps(one) == _serde.dumps(other)
    except Unserializable:  # then there is a stand-in in it, or it is not from a store
        return _same_inside(one, other)


def _kind(value: Any) -> object:
    # Each load makes classes of its own for what it stands in for.
    return value.type_name if isinstance(value, StandIn) else type(value)


def _same_inside(one: Any, other: Any) -> bool:
    members, others = _inside(one), _inside(other)
    if members is None or others is None:
        return bool(one == other)
    return len(members) == len(others) and all(map(_same, members, others))


def _inside(value: Any) -> Sequence[Any] | None:  # noqa: PLR0911 -- one return for each kind
    """Return what a value is made of, in an order of its own; None if that isn't known."""
    if isinstance(value, StandIn):
        return value.arguments, value.fields
    if isinstance(value, Mapping):
        return [part for entry in value.items() for part in entry]
    if isinstance(value, list | tuple | deque):
        return list(value)
    if isinstance(value, Send):
        return value.node, value.arg
    if isinstance(value, BaseModel):
        return vars(value), value.__pydantic_extra__
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return None
