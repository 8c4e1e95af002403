"""Any value of a state as plain JSON data, for people and programs to read.

What JSON has no form for becomes an object with ``$type`` (the qualified name of the type) or
``$bytes`` (base64). It is for reading: nothing is made from it again.
"""

from __future__ import annotations

import dataclasses
import math
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel

from langcairn.codec.revive import is_named_tuple
from langcairn.codec.standins import StandIn
from langcairn.errors import CorruptData

_LONG = 2**63


def plain(value: Any) -> Any:
    """Return a value as JSON data.

    Raises:
        CorruptData: It is nested too deeply.
    """
    try:
        return _plain(value)
    except RecursionError:
        raise CorruptData("a value is nested too deeply to be shown") from None


def _plain(value: Any) -> Any:  # noqa: PLR0911, C901 -- one return for each kind
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        return text(value)
    if type(value) is int:
        return value if -_LONG <= value < _LONG else str(value)
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return time(value)
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, Enum):
        return {"$type": type_name(value), "value": _plain(value.value)}
    if isinstance(value, tuple) and is_named_tuple(type(value)):
        fields = dict(zip(type(value)._fields, value, strict=True))  # type: ignore[attr-defined]  # it has them
        return {"$type": type_name(value), **_mapping(fields)}
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, (list, tuple, deque)):
        return [_plain(member) for member in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(member) for member in sorted(value, key=repr)]
    return _object(value)


def _object(value: Any) -> Any:
    name = type_name(value)
    if isinstance(value, StandIn):
        content = _mapping(value.fields)
        return {
            "$type": name,
            **content,
            **({"args": _plain(value.arguments)} if value.arguments else {}),
        }
    if isinstance(value, BaseModel):
        return {"$type": name, **_mapping(said(value))}
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return {"$type": name, **_mapping(fields)}
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return {"$type": name, "dtype": str(value.dtype), "data": _plain(value.tolist())}
    return {"$type": name, "text": text(str(value))}


def said(model: BaseModel) -> dict[str, Any]:
    """Return those fields of a model that say something: not those that are as by default."""
    fields = type(model).model_fields
    return {
        key: value
        for key, value in (*vars(model).items(), *(model.__pydantic_extra__ or {}).items())
        if key not in fields or not _is_default(fields[key], value)
    }


def _is_default(field: Any, value: Any) -> bool:
    if value is None or (type(value) in (str, list, dict) and not value):
        return True
    return type(value) is type(field.default) and bool(value == field.default)


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        text(key) if isinstance(key, str) else str(_plain(key)): _plain(member)
        for key, member in value.items()
    }


def text(value: str) -> str:
    """Return a text without lone surrogates, which JSON can't hold."""
    return value.encode("utf-8", "backslashreplace").decode()


def time(value: datetime) -> str:
    """Return a time in UTC as ISO 8601 has it."""
    return (value if value.tzinfo is None else value.astimezone(UTC)).isoformat()


def type_name(value: Any) -> str:
    """Return the qualified name of a value's type; that of a stand-in is what it stands for."""
    if isinstance(value, StandIn):
        return value.type_name
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
