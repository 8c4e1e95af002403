"""The reading half of the serializer: from ext payloads to objects, without running anything else.

Stored bytes may be forged. They name a module and a class; what they can reach by that is limited
to data types (see `TypePolicy`). The constructor, the ``__post_init__`` and the validators of
such a type do run, with arguments from the data: they are the application's own code and were
written to take such values. Who trusts fewer of them passes an allowlist.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import logging
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import ormsgpack

# Private, but it is the one list of what LangGraph's strict mode builds; a copy would age.
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES

# Private, but it is what DeltaChannel hands to a checkpointer.
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import Item
from langgraph.types import Send
from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr

from langcairn.errors import CorruptData, InvalidInput, UnsafeType

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

# LangGraph's ext codes.
SINGLE: Final = 0
POSITIONAL: Final = 1
KEYWORD: Final = 2
METHOD: Final = 3
PYDANTIC_V1: Final = 4
PYDANTIC_V2: Final = 5
NUMPY: Final = 6
DELTA_SNAPSHOT: Final = 7
# Ours, far from LangGraph's, whose reader gives None for them.
SURROGATES: Final = 100
"""A string with lone surrogates: UTF-8 with ``surrogatepass``."""
SURROGATE_KEYS: Final = 101
"""A dict with such keys: an array of ``{key: value}`` and of ``[key, value]`` for such keys."""

ADDRESSES: Final = (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
SECRETS: Final = (SecretStr, SecretBytes, Secret)

MAX_NESTING: Final = 2000
"""How deep ext values in their fourth level and below may go on nesting.

ormsgpack needs about 600 bytes of stack for a level of containers and 1600 for an ext, allows
1024 levels of containers inside each ext, and counts no further: forged bytes of a few kB can
overrun 8 MB of stack, which kills the process."""

_ITEMS = {SINGLE: 3, POSITIONAL: 3, KEYWORD: 3, METHOD: 4, PYDANTIC_V1: 3, PYDANTIC_V2: 4}
_CALLED_WITH_ONE = (Enum, set, frozenset, deque, UUID, Decimal, ZoneInfo, *ADDRESSES, *SECRETS)
_CALLED_WITH_POSITIONS = (Path, timedelta, date, timezone, Send)
_CALLED_WITH_NAMES = (time, BaseModel, Item)
# What these refuse can't have been written by a serializer: their constructors don't change.
_STABLE = frozenset({UUID, Decimal, timedelta, date, datetime, time, timezone, *ADDRESSES})
# Kinds of dtype whose bytes are the value. Anything else is pointers (O, T) or loses its names (V).
_DTYPE = re.compile(r"[<>|=][biufcSUVmM]\d*(\[\w{1,16}\])?")

_raised = threading.local()
_MAX_WARNED = 1000
_warned: set[tuple[str, str]] = set()


def note_raised(error: BaseException) -> None:
    """Keep an error for `take_raised`: ormsgpack drops what its callbacks raise, even Ctrl-C."""
    _raised.error = error


def take_raised() -> BaseException | None:
    """Return and forget the error that a callback raised in this thread, if one did."""
    error: BaseException | None = getattr(_raised, "error", None)
    _raised.error = None
    return error


def warn_once(module: str, name: str, message: str) -> None:
    """Log a warning about a class, once, and for a limited number of classes."""
    # The limit keeps classes that are made on the fly from filling memory and log.
    if (module, name) not in _warned and len(_warned) < _MAX_WARNED:
        _warned.add((module, name))
        logger.warning("%s.%s %s", module, name, message)


class TypePolicy:
    """Which classes loading builds.

    Always: LangGraph's safe types. Those given as ``allowed``. And, unless ``only_allowed``, the
    data types of modules that are already loaded: pydantic models, dataclasses, enums, named
    tuples, pydantic's secrets, and subclasses of the standard library's values.
    """

    def __init__(
        self, allowed: Iterable[type | tuple[str, ...]] = (), *, only_allowed: bool = False
    ) -> None:
        self.only_allowed = only_allowed
        self._allowed: dict[tuple[str, str], type | None] = {}
        self._allow(allowed)

    def _allow(self, types: Iterable[type | tuple[str, ...]]) -> None:
        for entry in types:
            if isinstance(entry, type):
                self._allowed[entry.__module__, entry.__name__] = entry
            elif len(entry) == 2 and all(isinstance(part, str) for part in entry):
                self._allowed.setdefault((entry[0], entry[1]), None)
            else:
                raise InvalidInput(
                    f"allowed types are classes or pairs (module, name), not {entry!r}"
                )

    def with_allowed(self, extra: Iterable[type | tuple[str, ...]]) -> TypePolicy:
        """Return a policy that also allows ``extra``, and nothing that isn't allowed."""
        policy = TypePolicy(only_allowed=True)
        policy._allowed.update(self._allowed)
        policy._allow(extra)
        return policy

    def find(self, module: str, name: str) -> type | None:
        """Return the class that the names lead to, allowed or not. Imports only safe types."""
        if (module, name) in SAFE_MSGPACK_TYPES:
            return _safe_type(module, name)
        allowed = self._allowed.get((module, name))
        return _loaded_class(module, name) if allowed is None else allowed

    def resolve(self, code: int, module: str, name: str) -> type:
        """Return the class that the names lead to, to be called as the ext code says.

        Raises:
            UnsafeType: There is none, or it must not be called.
        """
        cls = self.find(module, name)
        label = f"{module}.{name}"[:200]  # forged names may be long
        if cls is None:
            if module not in sys.modules:
                raise UnsafeType(
                    f"stored data needs {label}, whose module is not loaded, and loading never "
                    "imports: import the module first, or pass the class in allowed_types"
                )
            raise UnsafeType(f"stored data needs {label}, but that module defines no such class")
        if (module, name) in self._allowed:
            return cls
        if self.only_allowed and (module, name) not in SAFE_MSGPACK_TYPES:
            raise UnsafeType(f"{label} is not among the allowed types: add it to allowed_types")
        if not _is_data_type(cls, code):
            raise UnsafeType(
                f"{label} is not a data type (or was not stored as one), so loading won't call "
                "it: if that is safe, add it to allowed_types"
            )
        return cls


@functools.cache
def _safe_type(module: str, name: str) -> type | None:
    # Python 3.13 alone says pathlib._local where the others say pathlib.
    imported = importlib.import_module(module.removesuffix("._local"))
    found = getattr(imported, name, None)
    return found if isinstance(found, type) else None


def _loaded_class(module: str, name: str) -> type | None:
    # Neither attribute access nor isinstance: a module's __getattr__, importlib's LazyLoader and
    # proxies with a __class__ property would run code or import here.
    try:
        found = object.__getattribute__(sys.modules[module], "__dict__").get(name)
    except (KeyError, AttributeError):
        return None
    if not issubclass(type(found), type):
        return None
    # An alias (`from subprocess import Popen`) is no way in.
    same = found.__module__ == module and found.__name__ == name
    return found if same else None


@functools.lru_cache(maxsize=1024)
def _is_data_type(cls: type, code: int) -> bool:
    if code == SINGLE:
        return issubclass(cls, (*_CALLED_WITH_ONE, *v1_types("SecretStr", "SecretBytes")))
    if code == METHOD:
        return cls is datetime
    if code == POSITIONAL:
        return issubclass(cls, _CALLED_WITH_POSITIONS) or dataclasses.is_dataclass(cls)
    # An Enum must not be called with names: that makes new classes.
    return not issubclass(cls, Enum) and (
        issubclass(cls, (*_CALLED_WITH_NAMES, *v1_types("BaseModel")))
        or dataclasses.is_dataclass(cls)
        or is_named_tuple(cls)
    )


def v1_types(*names: str) -> tuple[type, ...]:
    """Return classes of pydantic's v1 interface, or () while nothing has imported it."""
    # Importing it would warn on Python 3.14, which it doesn't support.
    found = (_loaded_class(f"pydantic.v1.{m}", n) for m in ("main", "types") for n in names)
    return tuple(cls for cls in found if cls is not None)


def is_named_tuple(cls: type) -> bool:
    """Whether the class was made by ``namedtuple`` or ``NamedTuple``."""
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_make")


class Reviver:
    """Unpacks LangGraph's msgpack under a `TypePolicy`.

    Attributes:
        unpack: Turns bytes into the value; raises `CorruptData` and nothing else.
    """

    def __init__(self, policy: TypePolicy) -> None:
        self._policy = policy
        self._builders: dict[int, Callable[[int, bytes, _Unpack], Any]] = {
            **dict.fromkeys(_ITEMS, self._named),
            NUMPY: _numpy,
            DELTA_SNAPSHOT: lambda _code, data, unpack: _DeltaSnapshot(unpack(data)),
            SURROGATES: lambda _code, data, _unpack: data.decode("utf-8", "surrogatepass"),
            SURROGATE_KEYS: _surrogate_keys,
        }
        deep = self._level(None)

        def checked(data: bytes) -> Any:
            if too_deep(data):
                raise CorruptData("stored data is nested too deeply")
            return deep(data)

        self.unpack = self._level(self._level(self._level(checked)))

    def _level(self, deeper: _Unpack | None) -> _Unpack:
        """Return an unpack function that leaves the payloads of exts to ``deeper``."""

        def hook(code: int, data: bytes) -> Any:
            try:
                return self._builders.get(code, _unknown)(code, data, deeper or unpack)
            except BaseException as error:
                note_raised(error)
                raise

        def unpack(data: bytes) -> Any:
            try:
                return ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)
            except Exception as error:  # noqa: BLE001 -- translated: forged bytes raise anything
                cause = take_raised() or error
                if isinstance(cause, CorruptData | MemoryError) or not isinstance(cause, Exception):
                    raise cause from cause.__cause__
                raise CorruptData(f"stored data can't be decoded: {cause}") from cause

        return unpack

    def _named(self, code: int, data: bytes, unpack: _Unpack) -> Any:
        """Build what is stored as module, name, payload and perhaps the name of a method."""
        parts = unpack(data)
        if type(parts) is not list or len(parts) != _ITEMS[code]:
            raise CorruptData(f"stored data has an ext {code} of the wrong shape")
        module, name, payload = parts[:3]
        if type(module) is not str or type(name) is not str:
            raise CorruptData(f"stored data has an ext {code} that names no class")
        if code == METHOD:
            if (module, name, parts[3]) != ("datetime", "datetime", "fromisoformat"):
                raise UnsafeType(f"stored data wants to call a method of {module}.{name}"[:200])
            return _stable(datetime.fromisoformat, payload)
        if type(payload) is not _ARGUMENTS.get(code, type(payload)):
            raise CorruptData(f"stored data has no arguments for {module}.{name}"[:200])
        if (code, module, name) == (POSITIONAL, "re", "compile"):
            return _stable(re.compile, *payload)
        cls = self._policy.resolve(code, module, name)
        if cls in _STABLE:
            return _stable(_CONSTRUCT[code], cls, payload)
        try:
            return _CONSTRUCT[code](cls, payload)
        except (RecursionError, MemoryError, CorruptData):
            raise  # these don't say that the class has changed
        except Exception as error:  # noqa: BLE001 -- a constructor may raise anything
            # As LangGraph does: the class has changed since, and its data is better than nothing.
            warn_once(
                module, name, f"could not be rebuilt ({type(error).__name__}): plain data instead"
            )
            return payload


_Unpack = Callable[[bytes], Any]
_ARGUMENTS: Final = {POSITIONAL: list, KEYWORD: dict}


def _call_with_one(cls: type[Any], argument: Any) -> Any:
    if issubclass(cls, set | frozenset | deque):
        if type(argument) is not list:
            raise CorruptData("stored data has a collection of the wrong shape")
        # Elements of a set that are lists by now were tuples.
        return cls(argument if issubclass(cls, deque) else map(hashable, argument))
    try:
        return cls(argument)
    except ValueError:
        tuples = hashable(argument)  # an enum whose member's value is a tuple
        if tuples is argument:
            raise
        return cls(tuples)


def _call_with_positions(cls: type[Any], arguments: list[Any]) -> Any:
    if cls is Send and len(arguments) == 3:
        return Send(arguments[0], arguments[1], timeout=arguments[2])
    return cls(*arguments)


def _call_with_names(cls: type[Any], arguments: dict[str, Any]) -> Any:
    return cls(**arguments)


def _validate(cls: Any, fields: Any) -> Any:
    """Build a pydantic model, without validation if it refuses what it once let pass."""
    if issubclass(cls, RootModel):
        return cls(fields)
    try:
        return cls(**fields)
    except (RecursionError, MemoryError):
        raise
    except Exception:
        # The first is the name in v2. LangGraph does the same.
        construct = getattr(cls, "model_construct", None) or getattr(cls, "construct", None)
        if construct is None:
            raise
        return construct(**fields)


_CONSTRUCT: Final[dict[int, Callable[[type[Any], Any], Any]]] = {
    SINGLE: _call_with_one,
    POSITIONAL: _call_with_positions,
    KEYWORD: _call_with_names,
    PYDANTIC_V1: _validate,
    PYDANTIC_V2: _validate,
}


def _unknown(code: int, _data: bytes, _unpack: _Unpack) -> Any:
    raise CorruptData(f"stored data has an unknown ext code, {code}")


def _stable(build: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return build(*arguments)
    except Exception as error:
        raise CorruptData(f"stored data holds an impossible value: {error}") from error


def _numpy(_code: int, data: bytes, unpack: _Unpack) -> np.ndarray[Any, Any]:
    parts = unpack(data)
    if type(parts) is not list or len(parts) != 4:
        raise CorruptData("stored data has an array of the wrong shape")
    dtype, shape, order, buffer = parts
    if type(dtype) is not str or not _DTYPE.fullmatch(dtype) or type(buffer) is not bytes:
        raise CorruptData("stored data has an array of an unknown dtype")
    try:
        import numpy as np  # noqa: PLC0415 -- not a dependency; only who stores arrays has it
    except ImportError as error:
        raise CorruptData("stored data holds a numpy array: install numpy to load it") from error
    try:
        array: np.ndarray[Any, Any] = (
            np.frombuffer(buffer, np.dtype(dtype)) if buffer else (np.empty(0, np.dtype(dtype)))
        )
        # The copy is the caller's to change; a view of the buffer would be read-only.
        return array.reshape(shape, order=order).copy(order=order)
    except Exception as error:
        raise CorruptData(f"stored data holds an impossible array: {error}") from error


def _surrogate_keys(_code: int, data: bytes, unpack: _Unpack) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for entry in unpack(data):
        if type(entry) is dict:
            result.update(entry)
        else:
            key, value = entry
            result[hashable(key)] = value
    return result


def hashable(value: Any) -> Any:
    """Return tuples for lists: where only hashable values can stand, a list was a tuple."""
    return tuple(map(hashable, value)) if type(value) is list else value


def too_deep(data: bytes) -> bool:
    """Whether msgpack, and the msgpack in its exts, nests deeper than `MAX_NESTING`."""
    if len(data) <= MAX_NESTING:  # a level costs at least a byte
        return False
    # Each entry: how many values are still to come, and where they end if not at the last.
    stack: list[list[int]] = [[1, len(data)]]
    position = 0
    with contextlib.suppress(IndexError):  # cut short: the decoder will say so
        while stack:
            left, end = stack[-1]
            if not left:
                stack.pop()
                position = max(position, end)
                continue
            stack[-1][0] -= 1
            kind, size, position = _read_header(data, position)
            if kind == _CONTAINER:
                stack.append([size, 0])
            elif kind == _EXT:
                code, position = data[position], position + 1
                if code in _PACKED_EXTS:
                    stack.append([1, position + size])
                else:
                    position += size
            else:
                position += size
            if len(stack) > MAX_NESTING:
                return True
    return False


_PACKED_EXTS = frozenset(range(8)) | {SURROGATE_KEYS}
_SCALAR, _CONTAINER, _EXT = range(3)
# Tag of msgpack to (kind, bytes of length field, values or bytes per unit of length, constant).
_HEADERS: Final[list[tuple[int, int, int, int]]] = [
    *[(_SCALAR, 0, 0, 0)] * 128,
    *[(_CONTAINER, 0, 0, 2 * n) for n in range(16)],
    *[(_CONTAINER, 0, 0, n) for n in range(16)],
    *[(_SCALAR, 0, 0, n) for n in range(32)],
    *[(_SCALAR, 0, 0, 0)] * 4,
    *[(_SCALAR, n, 1, 0) for n in (1, 2, 4)],
    *[(_EXT, n, 1, 0) for n in (1, 2, 4)],
    *[(_SCALAR, 0, 0, n) for n in (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)],
    *[(_EXT, 0, 0, n) for n in (1, 2, 4, 8, 16)],
    *[(_SCALAR, n, 1, 0) for n in (1, 2, 4)],
    *[(_CONTAINER, n, 1, 0) for n in (2, 4)],
    *[(_CONTAINER, n, 2, 0) for n in (2, 4)],
    *[(_SCALAR, 0, 0, 0)] * 32,
]


def _read_header(data: bytes, position: int) -> tuple[int, int, int]:
    kind, width, factor, constant = _HEADERS[data[position]]
    start = position + 1
    length = int.from_bytes(data[start : start + width], "big")
    return kind, factor * length + constant, start + width
