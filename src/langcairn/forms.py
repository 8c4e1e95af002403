"""The form of a value: what has to come back, types included, as plain data to compare.

``==`` would take True for 1, 0.0 for -0.0, a StrEnum for its string, a subclass for its base, and
NaN for another value than itself.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Send
from pydantic import BaseModel, SecretBytes, SecretStr

if TYPE_CHECKING:
    from collections.abc import Callable

Form = Any
"""Tuples, strings and None."""


_SIMPLE = frozenset({int, float, bool, bytes, type(None)})


def form(value: object, text: Callable[[str], str] = lambda text: text) -> Form:
    """Return the form of a value.

    Args:
        value: The value.
        text: Applied to each string in it, as to give ids that differ from run to run a name.
    """
    kind = type(value)
    if kind is str:
        return "str", text(value)  # type: ignore[arg-type]  # a str
    if kind in _SIMPLE:  # as below, but most values are one
        return kind.__name__, repr(value), "None", 0
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return name, *_content(value, lambda part: form(part, text), text)


def _content(  # noqa: C901, PLR0911 -- one way for each type
    value: Any, inner: Callable[[object], Form], text: Callable[[str], str]
) -> tuple[Form, ...]:
    if type(value) is str:
        return (text(value),)
    if isinstance(value, Enum):
        return (value.name,)
    if isinstance(value, dict):
        return tuple((inner(key), inner(item)) for key, item in value.items())
    if isinstance(value, BaseModel):
        private = value.__pydantic_private__
        return (
            inner(value.__dict__),
            inner(value.__pydantic_extra__ or {}),
            inner(private or {}),
        )
    if isinstance(value, SecretStr | SecretBytes):
        return (inner(value.get_secret_value()),)
    if dataclasses.is_dataclass(value) or isinstance(value, Send):
        return tuple((key, inner(item)) for key, item in _fields(value).items())
    if isinstance(value, set | frozenset):
        return tuple(sorted(map(repr, map(inner, value))))
    if isinstance(value, deque):
        return (value.maxlen, *map(inner, value))
    if isinstance(value, list | tuple):
        return tuple(map(inner, value))
    if isinstance(value, _DeltaSnapshot):
        return (inner(value.value),)
    if hasattr(value, "dtype"):
        return (str(value.dtype), value.shape, value.flags.f_contiguous, value.tobytes().hex())
    if hasattr(value, "__fields__"):  # a model of pydantic's v1 interface
        return (inner(dict(value)),)
    return (repr(value), str(getattr(value, "tzinfo", None)), getattr(value, "fold", 0))


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, Send):
        return {"node": value.node, "arg": value.arg, "timeout": getattr(value, "timeout", None)}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


class Names:
    """Names for ids that differ from run to run, in the order in which they appear."""

    _ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Replace the UUIDs and 32-digit hashes in a text."""
        return self._ID.sub(
            lambda found: self._names.setdefault(found[0], f"<id {len(self._names)}>"), text
        )
