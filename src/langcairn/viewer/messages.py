"""A list of messages as a conversation: who said what, which tools were called, what came back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from markupsafe import Markup

from langcairn.viewer import text as words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.viewer.members import Path
    from langcairn.viewer.rendering import Renderer

_ROLES = {
    "human": "Human",
    "ai": "AI",
    "tool": "Tool",
    "system": "System",
    "function": "Function",
    "remove": "Removed",
    "developer": "Developer",
}
_LONG = 500  # [characters of a tool's answer, before it is folded]
_LINES = 8  # [lines, likewise]


class Conversation:
    """Renders messages that stand at a path of a renderer's place."""

    def __init__(self, renderer: Renderer, path: Path) -> None:
        self._renderer = renderer
        self._path = path

    def messages(self, messages: Sequence[BaseMessage], start: int) -> Markup:
        """Return messages as the items of a list, the first of them at a position."""
        items = [self.message(one, (*self._path, n)) for n, one in enumerate(messages, start)]
        return Markup().join(items)

    def message(self, message: BaseMessage, path: Path) -> Markup:
        """Return one message."""
        role = message.type.removesuffix("MessageChunk").lower()
        known = role if role in _ROLES else "other"
        failed = isinstance(message, ToolMessage) and message.status == "error"
        return Markup(
            '<li class="message {0}{1}"><div class="who"><span class="role">{2}</span>'
            "{3}</div>{4}{5}"
            '<details class="raw" data-load="{6}"><summary>all fields</summary>'
            '<a class="more" href="{6}">Open</a></details></li>'
        ).format(
            known,
            " failed" if failed else "",
            _ROLES.get(role, words.showable(words.short(role, 40))),
            self._aside(message, failed=failed),
            self._content(message, path),
            self._calls(message),
            self._renderer.url(path),
        )

    def _aside(self, message: BaseMessage, *, failed: bool) -> Markup:
        notes: list[Markup] = []
        if message.name:
            notes.append(Markup('<span class="name">{}</span>').format(_short(message.name)))
        if failed:
            notes.append(Markup('<span class="badge error">failed</span>'))
        usage = getattr(message, "usage_metadata", None)
        if isinstance(usage, dict) and isinstance(usage.get("total_tokens"), int):
            tokens = words.count(usage["total_tokens"], "token")
            notes.append(Markup('<span class="note">{}</span>').format(tokens))
        if message.id:
            notes.append(
                Markup('<span class="id" title="{}">{}</span>').format(
                    words.showable(str(message.id)), _short(str(message.id), 24)
                )
            )
        return Markup().join(notes)

    def _content(self, message: BaseMessage, path: Path) -> Markup:
        content = message.content
        position = list(message.__dict__).index("content")
        inside = (*path, position)
        if isinstance(content, str):
            return self._said(message, content, inside) if content else Markup()
        blocks = [
            self._block(message, block, (*inside, number)) for number, block in enumerate(content)
        ]
        return Markup().join(blocks)

    def _said(self, message: BaseMessage, text: str, path: Path) -> Markup:
        body = self._renderer.content(text, path)
        if not isinstance(message, ToolMessage):
            return body
        if len(text) <= _LONG and text.count("\n") <= _LINES:
            return body
        first = words.short(" ".join(words.showable(text[:300]).split()), 110)
        return Markup(
            '<details class="long"><summary><span class="first">{}</span>'
            '<span class="note">{}</span></summary>{}</details>'
        ).format(first, words.count(len(text), "character"), body)

    def _block(self, message: BaseMessage, block: Any, path: Path) -> Markup:
        if isinstance(block, str):
            return self._said(message, block, path)
        kind = block.get("type") if isinstance(block, dict) else None
        match kind:
            case "text" if isinstance(block.get("text"), str):
                return self._said(message, block["text"], (*path, list(block).index("text")))
            case "thinking" | "reasoning":
                inner = self._renderer.value(block, path, 2)
                return Markup(
                    '<details class="long"><summary><span class="first">Reasoning</span></summary>'
                    "{}</details>"
                ).format(inner)
            case "tool_use" if getattr(message, "tool_calls", None):
                return Markup()  # shown as a call
            case "image" | "image_url" | "audio" | "video" | "file":
                note = f"{kind.removesuffix('_url')}, {words.size(len(repr(block)))}"
                inner = self._renderer.value(block, path, 3)
                return Markup(
                    '<details class="long"><summary><span class="first">{}</span></summary>{}'
                    "</details>"
                ).format(note, inner)
        return self._renderer.value(block, path, 2)

    def _calls(self, message: BaseMessage) -> Markup:
        if not isinstance(message, AIMessage):
            return Markup()
        calls = [*message.tool_calls, *message.invalid_tool_calls]
        return Markup().join(self._call(dict(call)) for call in calls)

    def _call(self, call: dict[str, Any]) -> Markup:
        arguments = call.get("args")
        if isinstance(arguments, dict):
            shown = [
                Markup('<div class="arg"><span class="key">{}</span>{}</div>').format(
                    _short(str(name)), self._argument(value)
                )
                for name, value in list(arguments.items())[:20]
            ]
            if len(arguments) > 20:
                shown.append(Markup("<div>… {} more</div>").format(len(arguments) - 20))
        else:
            shown = [Markup('<div class="arg">{}</div>').format(self._argument(arguments))]
        error = call.get("error")
        return Markup(
            '<div class="call"><div class="call-name"><svg class="icon" aria-hidden="true">'
            '<use href="/static/icons.svg#tool"/></svg>{}<span class="id">{}</span>{}</div>{}</div>'
        ).format(
            _short(str(call.get("name"))),
            _short(str(call.get("id") or ""), 24),
            Markup('<span class="badge error">{}</span>').format(_short(str(error)))
            if error
            else "",
            Markup().join(shown),
        )

    def _argument(self, value: Any) -> Markup:
        text = value if isinstance(value, str) else repr(value)
        kind = "block" if "\n" in text else ""
        return Markup('<span class="v {}">{}</span>').format(
            kind, words.showable(words.short(text, 2000))
        )


def _short(text: str, most: int = 60) -> str:
    return words.showable(words.short(text, most))
