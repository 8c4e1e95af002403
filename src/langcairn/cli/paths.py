"""Paths into JSON data: ``messages[-1].content``, ``["a key"].b``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from langcairn.cli.failing import NotThere
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = re.compile(r'\.?([^.\[\]"]+)|\[(-?\d+)\]|\[("(?:[^"\\]|\\.)*")\]')


def at_path(value: Any, path: str) -> Any:
    """Return what is at a path in JSON data.

    Raises:
        InvalidInput: It is no path.
        NotThere: There is nothing; the message says how far the path leads, and what is there.
    """
    passed = ""
    for key, text in _parts(path):
        if isinstance(key, int):
            if not isinstance(value, list) or not -len(value) <= key < len(value):
                raise NotThere(f"{path!r} leads nowhere: {_there(value, passed)}")
        elif not isinstance(value, dict) or key not in value:
            raise NotThere(f"{path!r} leads nowhere: {_there(value, passed)}")
        value = value[key]
        passed += text
    return value


def _parts(path: str) -> Iterator[tuple[int | str, str]]:
    position = 0
    while position < len(path):
        found = _PART.match(path, position)
        if found is None:
            raise InvalidInput(
                f'{path!r} is no path: write messages[-1].content, or ["a key"] for keys with '
                "dots and brackets"
            )
        name, index, quoted = found.groups()
        try:
            key = name or (int(index) if index else orjson.loads(quoted))
        except orjson.JSONDecodeError:
            raise InvalidInput(f"{quoted} in the path {path!r} is no JSON string") from None
        yield key, found[0]
        position = found.end()


def _there(value: Any, passed: str) -> str:
    what = repr(passed) if passed else "the state"
    if isinstance(value, dict):
        keys = ", ".join(list(value)[:20])
        return f"{what} has the keys {keys}" if value else f"{what} is an empty object"
    if isinstance(value, list):
        return f"{what} is a list of {len(value)}"
    return f"{what} is {type(value).__name__}, which has no parts"
