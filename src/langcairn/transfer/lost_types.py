"""Which types of a LangGraph saver's values came back as plain data.

LangGraph's serializer gives what it can't rebuild as the plain data that it was made of: where a
module can't be imported, or an allow-list leaves it out. Moved so, the type would be gone.
"""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any

import ormsgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

_NUMPY = 6  # the one extension that names no class
_OPTIONS = ormsgpack.OPT_NON_STR_KEYS


class WatchingSerializer(JsonPlusSerializer):
    """A serializer as another one is, which notes the types that it gives as plain data.

    Attributes:
        lost: Their names.
    """

    def __init__(self, inner: JsonPlusSerializer) -> None:
        self.__dict__.update(inner.__dict__)
        self.lost: set[str] = set()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Load a value."""
        value = super().loads_typed(data)
        if data[0] == "msgpack" and (stored := _types_in(data[1])):
            here = self._types_of(value, stored)
            self.lost |= {
                f"{module}.{name}"
                for module, name in stored - here
                if _moved_to(module, name) not in here
            }
        return value

    def _types_of(self, value: Any, otherwise: set[tuple[str, str]]) -> set[tuple[str, str]]:
        try:
            kind, data = self.dumps_typed(value)
        except (TypeError, ValueError):  # the target refuses it, too, and says why
            return otherwise
        return _types_in(data) if kind == "msgpack" else otherwise


def watched(saver: BaseCheckpointSaver[Any]) -> BaseCheckpointSaver[Any]:
    """Return a saver on the same storage that notes lost types, or the same if it can't."""
    if type(saver.serde) is not JsonPlusSerializer:
        return saver
    twin = copy.copy(saver)  # as LangGraph does for its allow-list
    twin.serde = WatchingSerializer(saver.serde)
    return twin


def _types_in(data: bytes) -> set[tuple[str, str]]:
    """Return module and name of the classes that LangGraph's msgpack names."""
    found: set[tuple[str, str]] = set()

    def note(code: int, data: bytes) -> None:
        if code == _NUMPY:
            return
        inner = ormsgpack.unpackb(data, ext_hook=note, option=_OPTIONS)
        if isinstance(inner, list) and len(inner) > 1:
            found.add((str(inner[0]), str(inner[1])))

    try:
        ormsgpack.unpackb(data, ext_hook=note, option=_OPTIONS)
    except ValueError:
        return set()  # whoever loads it says what is wrong with it
    return found


def _moved_to(module: str, name: str) -> tuple[str, str] | None:
    """Return the present module and name of a class; None if it isn't loaded."""
    found = getattr(sys.modules.get(module), name, None)
    if found is None:
        return None
    return (str(getattr(found, "__module__", module)), str(getattr(found, "__name__", name)))
