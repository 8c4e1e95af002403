"""What is inside a value: its members in a fixed order, so that a path of numbers finds one."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from enum import Enum
from itertools import islice
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from langcairn.codec.standins import StandIn
from langcairn.errors import InvalidInput

Path = tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Members:
    """A value that has others inside."""

    kind: str
    """``list``, ``dict``, or the name of a class."""
    count: int
    part: Callable[[int, int], list[tuple[str, Any]]]
    """Returns the members from one position up to another, with their labels."""
    named: bool
    """Whether the labels are names rather than positions."""


def members_of(value: Any) -> Members | None:
    """Return what is inside a value; None if it is to be shown as one piece."""
    if value is None or isinstance(value, (str, bytes, bytearray, Enum)):
        return None
    fields = _fields_of(value)
    kind = value.type_name if isinstance(value, StandIn) else type(value).__name__
    if fields is not None:
        return Members(kind, len(fields), _entries(fields), named=True)
    if isinstance(value, Mapping):
        return Members(kind, len(value), _entries(value), named=True)
    if isinstance(value, (list, tuple, deque)):
        return Members(kind, len(value), _elements(value), named=False)
    if isinstance(value, Set):
        # Sets have no order of their own, and a path must find the same member again.
        return Members(kind, len(value), _elements(sorted(value, key=repr)), named=False)
    return None


def _fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of an object that has some; None for other values."""
    kind = type(value)
    if isinstance(value, tuple):
        names = getattr(kind, "_fields", None)
        return None if names is None else dict(zip(names, value, strict=False))
    if isinstance(value, StandIn):
        return {**{str(n): one for n, one in enumerate(value.arguments)}, **value.fields}
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name, None) for name in names}
    if kind.__module__.startswith("langgraph."):  # Send, for one
        names = [name for name in getattr(kind, "__slots__", ()) if hasattr(value, name)]
        return {name: getattr(value, name) for name in names} or None
    return None


def is_conversation(value: Any) -> bool:
    """Tell whether a value is a list of messages."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(element, BaseMessage) for element in value)
    )


def is_internal(name: Any) -> bool:
    """Tell whether a channel is LangGraph's own."""
    return isinstance(name, str) and name.startswith(("__", "branch:to:"))


def at(value: Any, path: Sequence[int]) -> Any:
    """Return what is at a path in a value.

    Raises:
        InvalidInput: There is nothing, or no longer.
    """
    for position in path:
        members = members_of(value)
        if members is None or not 0 <= position < members.count:
            raise InvalidInput(
                "there is nothing (any more) at this place of the state; go back to the checkpoint "
                "and load it again"
            )
        value = members.part(position, position + 1)[0][1]
    return value


def _entries(value: Mapping[Any, Any]) -> Callable[[int, int], list[tuple[str, Any]]]:
    def part(start: int, stop: int) -> list[tuple[str, Any]]:
        entries = islice(value.items(), start, stop)
        return [(key if isinstance(key, str) else repr(key), member) for key, member in entries]

    return part


def _elements(value: Sequence[Any]) -> Callable[[int, int], list[tuple[str, Any]]]:
    def part(start: int, stop: int) -> list[tuple[str, Any]]:
        elements = islice(value, start, stop)
        return [(str(position), member) for position, member in enumerate(elements, start)]

    return part
