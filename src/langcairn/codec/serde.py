"""Values to bytes and back: LangGraph's msgpack format, strict when writing, safe when reading.

LangGraph's `JsonPlusSerializer` reads what is written here and the reverse; the differences are
listed at `SafeSerializer`. The reading half is in `langcairn.codec.revive`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import reprlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack

# Private, but the one place where LangGraph says whether it runs in strict mode.
from langgraph.checkpoint.serde import _msgpack as langgraph_policy
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

# Private, but it is what DeltaChannel hands to a checkpointer.
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import Item
from langgraph.types import Send
from pydantic import BaseModel

from langcairn.codec.revive import (
    ADDRESSES,
    DELTA_SNAPSHOT,
    KEYWORD,
    METHOD,
    NUMPY,
    POSITIONAL,
    PYDANTIC_V1,
    PYDANTIC_V2,
    SECRETS,
    SINGLE,
    SURROGATE_KEYS,
    SURROGATES,
    Reviver,
    TypePolicy,
    is_named_tuple,
    note_raised,
    take_raised,
    too_deep,
    v1_types,
    warn_once,
)
from langcairn.errors import CorruptData, UnsafeType, Unserializable

if TYPE_CHECKING:
    import numpy as np

_Pack = Callable[[Any], bytes]
_Payload = Callable[[Any], Any]
_Encode = Callable[[Any, _Pack], Any]
"""From an object and the way to pack its payload to what ormsgpack shall write in its place."""

_OPTIONS: Final = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_MAX_KNOWN: Final = 4096
"""How many classes are remembered; those made on the fly must not fill memory."""
_MAX_STEPS: Final = 100
"""How far down a failure is followed; a chain that is too deep to be packed has no end to find."""


class SafeSerializer(JsonPlusSerializer):
    """LangGraph's serializer without pickle, without imports, and without silent changes.

    The format is LangGraph's, and values come back as they do from `JsonPlusSerializer`, but:

    - Loading builds data types only (`langcairn.codec.revive.TypePolicy` has the list), never
      imports a module for them, and raises `UnsafeType` instead of returning plain data.
    - A value that could not be loaded again is refused when it is saved, with its path.
    - Lone surrogates in strings survive (LangGraph's reader sees None for such strings).
    - Sets of tuples, enums whose value is a tuple, and root models come back as what they were;
      arrays come back writable; arrays whose dtype would be lost are refused.

    A class that can't be found by its module and name (one made in a function, a nested one) is
    stored as plain data from the start, with one warning. So is what its constructor no longer
    accepts when it is loaded.

    Args:
        allowed_types: Classes, or pairs of module and name, that loading may call whatever they
            are. Their modules still have to be loaded.
        only_allowed: Build nothing but LangGraph's safe types and ``allowed_types``. By default,
            this follows LangGraph's strict mode (``LANGGRAPH_STRICT_MSGPACK``).
    """

    def __init__(
        self,
        *,
        allowed_types: Iterable[type | tuple[str, ...]] = (),
        only_allowed: bool | None = None,
    ) -> None:
        super().__init__(allowed_msgpack_modules=None)
        if only_allowed is None:
            only_allowed = langgraph_policy.STRICT_MSGPACK_ENABLED
        self._use(TypePolicy(allowed_types, only_allowed=only_allowed))

    def _use(self, policy: TypePolicy) -> None:
        self._policy = policy
        self._pack = _Packer(policy).pack
        self._unpack = Reviver(policy).unpack

    def with_msgpack_allowlist(
        self, extra_allowlist: Iterable[tuple[str, ...] | type]
    ) -> SafeSerializer:
        """Return a serializer that builds only safe types, those allowed here, and these.

        LangGraph calls this in its strict mode with the types of a graph's state.
        """
        derived = copy.copy(self)
        derived._use(self._policy.with_allowed(extra_allowlist))  # noqa: SLF001 -- it is one of us
        return derived

    def dumps(self, obj: Any, *, path: str = "") -> bytes:
        """Return a value as msgpack.

        Args:
            obj: The value.
            path: What the value is called in errors, as in ``state['messages']``.

        Raises:
            Unserializable: Something in it can't be stored. The error has its path.
        """
        try:
            return self._pack(obj)
        except MemoryError:
            raise
        except Exception as error:
            raise _unserializable(self._pack, obj, path, error) from error

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return a value as a pair of format name and bytes, as LangGraph's savers store it.

        Raises:
            Unserializable: As `dumps`.
        """
        if obj is None:
            return "null", b""
        if isinstance(obj, bytes):
            return "bytes", obj
        if isinstance(obj, bytearray):
            return "bytearray", bytes(obj)
        return "msgpack", self.dumps(obj)

    def loads(self, data: bytes) -> Any:
        """Return the value of what `dumps` or LangGraph wrote.

        Raises:
            CorruptData: The bytes are not what a serializer writes.
            UnsafeType: They name a class that must not be built here.
        """
        return self._unpack(data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value of a pair from `dumps_typed`, ours or LangGraph's.

        Raises:
            CorruptData: As `loads`, or the format is unknown.
            UnsafeType: As `loads`; and for pickle, and JSON that asks for constructors.
        """
        kind, content = data
        if kind == "msgpack":
            return self._unpack(content)
        if kind == "null":
            return None
        if kind == "bytes":
            return content
        if kind == "bytearray":
            return bytearray(content)
        if kind == "json":
            return _load_json(content)
        if kind == "pickle":
            raise UnsafeType("stored data is a pickle, which would run code: it is never loaded")
        raise CorruptData(f"stored data has the unknown format {kind!r}")


def _load_json(content: bytes) -> Any:
    try:
        return json.loads(content, object_hook=_refuse_constructor)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"stored data is no JSON: {error}") from error


def _refuse_constructor(value: dict[str, Any]) -> dict[str, Any]:
    if {"lc", "type", "id"} <= value.keys():
        raise UnsafeType("stored JSON asks for a constructor: only plain JSON is loaded")
    return value


# --- the writing half


class _Packer:
    """Packs values whose classes a `TypePolicy` will build again.

    Attributes:
        pack: Turns a value into bytes, or raises whatever went wrong.
    """

    def __init__(self, policy: TypePolicy) -> None:
        self._policy = policy
        self._known: dict[type, _Encode] = {}
        deep = self._level(None)

        def checked(value: Any) -> bytes:
            data = deep(value)
            if too_deep(data):  # loading would refuse it
                raise RecursionError
            return data

        self.pack = self._level(self._level(self._level(checked)))

    def _level(self, deeper: _Pack | None) -> _Pack:
        """Return a pack function that leaves the payloads of exts to ``deeper``."""
        known = self._known

        def default(obj: Any) -> Any:
            try:
                encode = known.get(type(obj)) or self._encoder(obj)
                return encode(obj, deeper or pack)
            except BaseException as error:
                note_raised(error)
                raise

        def pack(value: Any) -> bytes:
            try:
                return ormsgpack.packb(value, default, _OPTIONS)
            except ormsgpack.MsgpackEncodeError:
                cause = take_raised()
                if cause is not None:
                    raise cause from cause.__cause__
                # Only now are strings looked at: a search before each call would cost everyone.
                escaped = _escape_surrogates(value)
                if escaped is value:
                    raise
            return pack(escaped)

        return pack

    def _encoder(self, obj: Any) -> _Encode:
        """Find out how objects of a class are written, and remember it."""
        cls = type(obj)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        encode = _unnamed(cls)
        if encode is None:
            code, payload = _rule(obj)
            module, name, label = cls.__module__, cls.__name__, cls.__qualname__
            found = self._policy.find(module, name)
            lost = found is None or found.__qualname__ != label
            # A subclass of datetime would be rebuilt by calling a method of it: never done.
            if lost or (code == METHOD and cls is not datetime):
                warn_once(module, label, "can't be rebuilt by its name: it is stored as plain data")
                return lambda obj, _pack: _escape_surrogates(payload(obj))
            self._policy.resolve(code, module, name)
            encode = _named(code, module, name, payload)
        self._known[cls] = encode
        return encode


def _named(code: int, module: str, name: str, payload: _Payload) -> _Encode:
    """Write an array of module, name, payload and, with some codes, the name of a method."""
    method = _METHODS.get(code)
    tail = b"" if method is None else ormsgpack.packb(method)
    head = b"\x93" if method is None else b"\x94"
    head += ormsgpack.packb(module) + ormsgpack.packb(name)

    def encode(obj: Any, pack: _Pack) -> ormsgpack.Ext:
        return ormsgpack.Ext(code, head + pack(payload(obj)) + tail)

    return encode


_METHODS: Final = {METHOD: "fromisoformat", PYDANTIC_V2: "model_validate_json"}


def _unnamed(cls: type) -> _Encode | None:
    """Return how to write what is not stored under the name of its class, or None."""
    if issubclass(cls, _DeltaSnapshot):
        return lambda obj, pack: ormsgpack.Ext(DELTA_SNAPSHOT, pack(obj.value))
    if cls is _KeyedBySurrogates:
        return lambda obj, pack: ormsgpack.Ext(SURROGATE_KEYS, pack(obj.entries))
    if issubclass(cls, re.Pattern):
        return _named(POSITIONAL, "re", "compile", lambda obj: (obj.pattern, obj.flags))
    if issubclass(cls, BaseException) and not dataclasses.is_dataclass(cls):
        return lambda obj, _pack: _escape_surrogates(repr(obj))
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.ndarray):
        return _encode_array
    return None


def _encode_array(array: np.ndarray[Any, Any], pack: _Pack) -> ormsgpack.Ext:
    import numpy as np  # noqa: PLC0415 -- not a dependency; here it is loaded already

    dtype = array.dtype
    if dtype.hasobject or np.dtype(dtype.str) != dtype:
        raise TypeError(f"arrays of dtype {dtype} don't come back as they are")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return ormsgpack.Ext(NUMPY, pack((dtype.str, array.shape, order, array.tobytes(order="A"))))


def _rule(obj: Any) -> tuple[int, _Payload]:
    """Return the ext code and the payload function for what is stored under its class's name."""
    cls = type(obj)
    for bases, code, payload in (*_RULES, *_v1_rules()):
        if issubclass(cls, bases):
            return code, payload
    if dataclasses.is_dataclass(cls):
        # Not asdict, which would copy all values and turn nested dataclasses into dicts.
        names = tuple(field.name for field in dataclasses.fields(cls))
        return KEYWORD, lambda obj: {name: getattr(obj, name) for name in names}
    # What LangGraph takes by the look of it. Asked of the class: a Mock has every attribute.
    for method, code in _LOOKS:
        if callable(getattr(cls, method, None)):
            return code, methodcaller(method)
    if hasattr(obj, "node") and hasattr(obj, "arg"):
        return POSITIONAL, _send_arguments
    raise TypeError("there is no way to serialize this type")


def _v1_rules() -> Iterator[tuple[type | tuple[type, ...], int, _Payload]]:
    yield v1_types("BaseModel"), PYDANTIC_V1, methodcaller("dict")
    yield v1_types("SecretStr", "SecretBytes"), SINGLE, methodcaller("get_secret_value")


def _send_arguments(send: Any) -> tuple[Any, ...]:
    timeout = getattr(send, "timeout", None)
    return (send.node, send.arg) if timeout is None else (send.node, send.arg, timeout)


def _time_fields(value: time) -> dict[str, Any]:
    names = ("hour", "minute", "second", "microsecond", "tzinfo", "fold")
    return {name: getattr(value, name) for name in names}


# The first match counts: an enum whose members are dates is an enum, a datetime is a date.
_RULES: Final[tuple[tuple[type | tuple[type, ...], int, _Payload], ...]] = (
    (Enum, SINGLE, attrgetter("value")),
    (BaseModel, PYDANTIC_V2, methodcaller("model_dump")),
    (SECRETS, SINGLE, methodcaller("get_secret_value")),
    (Item, PYDANTIC_V1, methodcaller("dict")),
    (Path, POSITIONAL, attrgetter("parts")),
    (UUID, SINGLE, attrgetter("hex")),
    (Decimal, SINGLE, str),
    ((set, frozenset, deque), SINGLE, tuple),
    (ADDRESSES, SINGLE, str),
    (datetime, METHOD, methodcaller("isoformat")),
    (timedelta, POSITIONAL, attrgetter("days", "seconds", "microseconds")),
    (date, POSITIONAL, attrgetter("year", "month", "day")),
    (time, KEYWORD, _time_fields),
    (timezone, POSITIONAL, methodcaller("__getinitargs__")),
    (ZoneInfo, SINGLE, attrgetter("key")),
    (Send, POSITIONAL, _send_arguments),
)
_LOOKS: Final = (
    ("model_dump", PYDANTIC_V2),
    ("get_secret_value", SINGLE),
    ("dict", PYDANTIC_V1),
    ("_asdict", KEYWORD),
)


def _escape_surrogates(value: Any) -> Any:
    """Return the value with strings that have lone surrogates in exts; itself, if it has none."""
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return ormsgpack.Ext(SURROGATES, value.encode("utf-8", "surrogatepass"))
        return value
    if isinstance(value, dict):
        return _escape_dict(value)
    if isinstance(value, list) or type(value) is tuple:
        escaped = [_escape_surrogates(item) for item in value]
        changed = any(new is not old for new, old in zip(escaped, value, strict=True))
        return escaped if changed else value
    return value


def _escape_dict(value: dict[Any, Any]) -> Any:
    keys = [_escape_surrogates(key) for key in value]
    values = [_escape_surrogates(item) for item in value.values()]
    plain_keys = all(new is old for new, old in zip(keys, value, strict=True))
    if plain_keys and all(new is old for new, old in zip(values, value.values(), strict=True)):
        return value
    if plain_keys:
        return dict(zip(keys, values, strict=True))
    return _KeyedBySurrogates(
        [
            {old: item} if new is old else [new, item]
            for old, new, item in zip(value, keys, values, strict=True)
        ]
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _KeyedBySurrogates:
    """A dict that msgpack has no form for; it exists only while it is written."""

    entries: list[Any]


# --- where a value is that can't be stored


def _unserializable(pack: _Pack, value: Any, path: str, error: Exception) -> Unserializable:
    """Follow the failure down to the innermost value that can't be packed by itself."""
    above = [value]
    for _ in range(_MAX_STEPS):
        found = _culprit(pack, value)
        if found is None:
            break
        step, value, error = found
        path += step
        if any(value is ancestor for ancestor in above):
            return _report(path, value, "it contains itself")
        above.append(value)
    for key in value if isinstance(value, dict) else ():
        if _failure(pack, {key: None}) is not None:
            reason = _reason(key, TypeError("a dict can't be stored with keys of this type"))
            return _report(f"{path} key {_label(key)}", key, reason)
    return _report(path, value, _reason(value, error))


def _culprit(pack: _Pack, value: Any) -> tuple[str, Any, Exception] | None:
    """Return the first part of a value that can't be packed: its step, itself, and the error."""
    try:
        for step, child in _children(pack, value):
            error = _failure(pack, child)
            if error is not None:
                return step, child, error
    except Exception:  # noqa: BLE001 -- a value that can't be looked into is the culprit itself
        return None
    return None


def _failure(pack: _Pack, value: Any) -> Exception | None:
    try:
        pack(value)
    except Exception as error:  # noqa: BLE001 -- whatever a user's class raises is the answer
        return error
    return None


def _children(pack: _Pack, value: Any) -> Iterable[tuple[str, Any]]:
    """Return what a value contains, each with its step in a path."""
    if isinstance(value, dict):
        return ((f"[{_label(key)}]", item) for key, item in value.items())
    if isinstance(value, (BaseModel, Item, *v1_types("BaseModel"))):
        return _model_children(pack, value)
    if isinstance(value, list | set | frozenset | deque) or type(value) is tuple:
        return ((f"[{index}]", item) for index, item in enumerate(value))
    names: Iterable[str] = ()
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
    elif isinstance(value, Enum):
        names = ("value",)
    elif isinstance(value, Send):
        names = ("node", "arg", "timeout")
    elif is_named_tuple(type(value)):
        names = value._fields
    return ((f".{name}", getattr(value, name)) for name in names)


def _model_children(pack: _Pack, model: Any) -> Iterator[tuple[str, Any]]:
    try:
        fields = _rule(model)[1](model)
    except Exception:  # noqa: BLE001 -- pydantic refuses cycles here; they are found by the fields
        fields = vars(model)
    for name, dumped in fields.items():
        # What is packed is the dump, but the field itself has the better path and type.
        field = getattr(model, name, dumped)
        yield f".{name}", field if _failure(pack, dumped) and _failure(pack, field) else dumped


def _label(key: object) -> str:
    plain = isinstance(key, str | bytes | int | float | None)
    return reprlib.repr(key) if plain else f"<{type(key).__name__}>"


def _reason(value: Any, error: Exception) -> str:
    if isinstance(error, RecursionError) or "ecursion limit" in str(error):
        return "it is nested too deeply"
    if isinstance(value, int):
        return "integers must fit into 64 bits"
    return str(error) or type(error).__name__


def _report(path: str, value: Any, reason: str) -> Unserializable:
    cls = type(value)
    name = (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )
    if len(path) > 300:
        path = f"{path[:140]}…{path[-140:]}"
    return Unserializable(path or "value", name, reason)
