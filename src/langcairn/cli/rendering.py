"""Values of a state as text to be read: messages as a conversation, the rest as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from langchain_core.messages import BaseMessage
from langgraph.types import Interrupt
from rich.text import Text

from langcairn.cli.escaping import escaped, json_escaped
from langcairn.cli.plain import plain
from langcairn.cli.printing import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDED = 800  # [characters of a text that are shown]
_MEMBERS = 20  # [members of a list or dict that are shown]
_DEEPEST = 6  # [levels that are shown]
_ROLES = {"human": "cyan", "ai": "green", "tool": "magenta", "system": "yellow"}


def rendered(value: Any, *, full: bool) -> Iterator[Text]:
    """Yield the lines of a value.

    Args:
        value: A channel's.
        full: Fold nothing.
    """
    messages = value if isinstance(value, list) else [value]
    if messages and all(isinstance(one, BaseMessage) for one in messages):
        shown = messages if full else messages[-_MEMBERS:]
        if len(shown) < len(messages):
            yield _dim(f"… {len(messages) - len(shown)} earlier messages (--full)")
        for message in shown:
            yield from _message(message, full=full)
        return
    yield from _tree(plain(value), "", full=full)


def one_line(value: Any, most: int) -> str:
    """Return a value as one line of at most so many characters, safe to print."""
    text, escape = _text_of(value)
    return escape(short(text, most))


def two_lines(before: Any, after: Any, most: int) -> tuple[str, str]:
    """Return two values as `one_line` does, but from where they begin to differ, or a bit before.

    What long texts begin with is mostly the same, and the change would be behind the cut.
    """
    (old, escape_old), (new, escape_new) = _text_of(before), _text_of(after)
    start = 0
    if max(len(old), len(new)) > most:
        start = max(0, _common(old, new) - most // 3)
    mark = "…" if start else ""
    return (
        mark + escape_old(short(old[start:], most)),
        mark + escape_new(short(new[start:], most)),
    )


def _common(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    same, most = 0, min(len(one), len(other))
    while same < most:  # by halves: texts may have millions of characters
        half = (same + most + 1) // 2
        if one[same:half] == other[same:half]:
            same = half
        else:
            most = half - 1
    return same


def _text_of(value: Any) -> tuple[str, Callable[[str], str]]:
    """Return a value as text, and what makes it safe to print."""
    if isinstance(value, BaseMessage):
        value = f"{value.type}: {content_of(value)}"
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], Interrupt):
        value = value[0]
    if isinstance(value, Interrupt):
        value = value.value
    if isinstance(value, str):
        return value, escaped
    data = plain(value)
    text = data if isinstance(data, str) else orjson.dumps(data, default=str).decode()
    return text, json_escaped


def content_of(message: BaseMessage) -> str:
    """Return what a message says, with its tool calls."""
    content = message.content
    if isinstance(content, str):
        parts = [content] if content else []
    else:
        parts = [_block(block) for block in content]
    for call in getattr(message, "tool_calls", None) or ():
        parts.append(f"→ {call.get('name')}({orjson.dumps(plain(call.get('args'))).decode()})")
    return "\n".join(parts)


def _block(block: Any) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, dict) and isinstance(block.get("text"), str):
        return str(block["text"])
    return f"[{block.get('type', 'block')}]" if isinstance(block, dict) else "[block]"


def _message(message: BaseMessage, *, full: bool) -> Iterator[Text]:
    name = f" {message.name}" if message.name else ""
    head = Text(escaped(f"{message.type}{name}"), f"bold {_ROLES.get(message.type, 'blue')}")
    if message.id:
        head.append(escaped(f"  {message.id}"), "dim")
    yield head
    yield from _long(content_of(message), "  ", full=full)


def _tree(value: Any, indent: str, *, full: bool, level: int = 0) -> Iterator[Text]:
    if isinstance(value, dict) and value:
        pairs = [(escaped(str(key)), member) for key, member in value.items()]
    elif isinstance(value, list) and value:
        pairs = [(f"[{number}]", member) for number, member in enumerate(value)]
    else:
        yield from _leaf(value, indent, full=full)
        return
    if level >= _DEEPEST and not full:
        yield _dim(f"{indent}… {len(pairs)} more inside (--full)")
        return
    for key, member in pairs if full else pairs[:_MEMBERS]:
        if isinstance(member, (dict, list)) and member:
            yield Text(f"{indent}{key}", "bold")
            yield from _tree(member, f"{indent}  ", full=full, level=level + 1)
            continue
        first, *others = list(_leaf(member, "", full=full)) or [Text()]
        yield Text.assemble((f"{indent}{key}", "bold"), ": ", first)
        yield from (Text(f"{indent}  ") + line for line in others)
    if len(pairs) > _MEMBERS and not full:
        yield _dim(f"{indent}… {len(pairs) - _MEMBERS} more (--full)")


def _leaf(value: Any, indent: str, *, full: bool) -> Iterator[Text]:
    if isinstance(value, str):
        yield from _long(value, indent, full=full)
    else:
        yield Text(f"{indent}{json_escaped(orjson.dumps(value).decode())}", "cyan")


def _long(text: str, indent: str, *, full: bool) -> Iterator[Text]:
    shown = text if full else text[:_FOLDED]
    for line in escaped(shown, lines=True).split("\n"):
        yield Text(f"{indent}{line}")
    if len(shown) < len(text):
        yield _dim(f"{indent}… {len(text) - len(shown):,} more characters (--full)")


def _dim(text: str) -> Text:
    return Text(text, "dim")
