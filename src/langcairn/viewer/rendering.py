"""Values as HTML: trees that unfold, texts whose rest is loaded on demand, conversations.

A page shows at most so many characters of a state, whatever its size. What is over comes as links
to `/value`, which answers with the part that was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from markupsafe import Markup

from langcairn.viewer import text as words
from langcairn.viewer.members import Members, Path, is_conversation, members_of
from langcairn.viewer.messages import Conversation

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUDGET = 150_000  # [characters of values on a page]
_LEAF = 1500  # [characters of one text, before its rest is folded]
_TEASER = 120  # [characters of one text when the page is full]
_PIECE = 60_000  # [characters of a text that are loaded at a time]
_MEMBERS = 50  # [members shown at a time]
_DEPTH = 4  # [levels rendered at once; deeper ones are loaded when they are opened]
_OPEN = 12  # [members up to which a tree is unfolded at first]
_MESSAGES = 30  # [messages shown at a time]


class Renderer:
    """Renders values that stand at one place: a state, pending writes, metadata.

    Args:
        where: The parameters of `/value` that name the place.
        budget: How many characters to show at most [characters].
    """

    def __init__(self, where: Mapping[str, str], budget: int = _BUDGET) -> None:
        self._where = dict(where)
        self._left = budget

    def value(self, value: Any, path: Path = (), depth: int = 0) -> Markup:
        """Return a value as HTML.

        Args:
            value: The value.
            path: Where it is, from the place of this renderer.
            depth: How deep in the tree that is shown.
        """
        if is_conversation(value):
            return self._messages(value, path, depth)
        members = members_of(value)
        if members is None:
            return self._leaf(value, path)
        return self._tree(members, path, depth)

    def part(self, value: Any, path: Path, start: int | None) -> Markup:
        """Return the part of a value from a position on, as it is loaded on demand."""
        if isinstance(value, (str, bytes, bytearray)):
            return self._piece(_text(value), path, start or 0)
        if is_conversation(value):
            stop = len(value) if start is None else min(max(start, 0), len(value))
            return self._conversation(value, path, stop)
        members = members_of(value)
        if members is None:
            return self._piece(_text(value), path, start or 0)
        return self._rows(members, path, start or 0, 0)

    # Leaves

    def _leaf(self, value: Any, path: Path) -> Markup:
        kind = _kind(value)
        whole = _text(value)
        most = _LEAF if self._left > 0 else _TEASER
        shown = whole[:most]
        self._left -= len(shown)
        body = Markup('<span class="v {}">{}</span>').format(kind, words.showable(shown))
        if "\n" in shown or len(whole) > 160:
            body = Markup('<pre class="v {} block">{}</pre>').format(kind, words.showable(shown))
        if len(whole) > most:
            body += self._more(path, most, f"{_amount(len(whole) - most)} more")
        if isinstance(value, (bytes, bytearray)):
            return Markup('<span class="note">{}</span> {}').format(
                f"bytes, {words.size(len(value))}", body
            )
        return body

    def _piece(self, whole: str, path: Path, start: int) -> Markup:
        stop = start + _PIECE
        body = Markup('<pre class="v block">{}</pre>').format(words.showable(whole[start:stop]))
        if len(whole) > stop:
            body += self._more(path, stop, f"{_amount(len(whole) - stop)} more")
        return body

    # Trees

    def _tree(self, members: Members, path: Path, depth: int) -> Markup:
        head = Markup(
            '<span class="kind">{}</span><span class="count">{}</span><span class="peek">{}</span>'
        ).format(members.kind, words.number(members.count), self._peek(members))
        if not members.count:
            return Markup('<span class="empty-tree">{}</span>').format(head)
        if depth >= _DEPTH or self._left <= 0:
            return Markup(
                '<details class="tree" data-load="{0}"><summary>{1}</summary>'
                '<a class="more" href="{0}">Open</a></details>'
            ).format(self.url(path), head)
        is_open = depth == 0 or (depth < 3 and members.count <= _OPEN)
        rows = self._rows(members, path, 0, depth)
        return Markup('<details class="tree"{}><summary>{}</summary>{}</details>').format(
            Markup(" open") if is_open else "", head, rows
        )

    def _rows(self, members: Members, path: Path, start: int, depth: int) -> Markup:
        stop = start + _MEMBERS
        rows = [
            Markup(
                '<div class="row{}"><span class="key">{}</span><div class="val">{}</div></div>'
            ).format(
                "" if members.named else " position",
                words.showable(words.short(label, 200)),
                self.value(member, (*path, position), depth + 1),
            )
            for position, (label, member) in enumerate(members.part(start, stop), start)
        ]
        if members.count > stop:
            rest = f"{words.number(members.count - stop)} more"
            rows.append(self._more(path, stop, rest))
        return Markup('<div class="rows">{}</div>').format(Markup().join(rows))

    def _peek(self, members: Members) -> str:
        """Return what a folded tree shows of its content."""
        few = members.part(0, 4)
        if members.named:
            shown = ", ".join(label for label, _ in few)
        else:
            shown = ", ".join(_brief(member) for _, member in few)
        return words.showable(words.short(shown, 90)) + ("…" if members.count > 4 else "")

    # Conversations

    def _messages(self, value: list[Any], path: Path, depth: int) -> Markup:
        if depth >= _DEPTH or self._left <= 0:
            return Markup(
                '<details class="tree" data-load="{0}"><summary><span class="kind">conversation'
                '</span><span class="count">{1}</span></summary>'
                '<a class="more" href="{0}">Open</a></details>'
            ).format(self.url(path), words.number(len(value)))
        return self._conversation(value, path, len(value))

    def _conversation(self, value: list[Any], path: Path, stop: int) -> Markup:
        start = max(stop - _MESSAGES, 0)
        earlier = Markup()
        if start:
            earlier = self._more(path, start, f"{words.count(start, 'earlier message')}")
        body = Conversation(self, path).messages(value[start:stop], start)
        return Markup('{}<ol class="conversation">{}</ol>').format(earlier, body)

    def content(self, value: str, path: Path) -> Markup:
        """Return the text of a message."""
        most = 4 * _LEAF if self._left > 0 else _TEASER
        shown = value[:most]
        self._left -= len(shown)
        body = Markup('<div class="said v">{}</div>').format(words.showable(shown))
        if len(value) > most:
            body += self._more(path, most, f"{_amount(len(value) - most)} more")
        return body

    # Links

    def url(self, path: Path, start: int | None = None) -> str:
        """Return where the rest of a value is to be had."""
        query = {**self._where, "path": ".".join(map(str, path))}
        if start is not None:
            query["start"] = str(start)
        return "/value?" + urlencode(query)

    def _more(self, path: Path, start: int, what: str) -> Markup:
        return Markup('<a class="more" data-more href="{}">{}</a>').format(
            self.url(path, start), f"Show {what}"
        )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.hex(" ", 1) if len(value) <= 4096 else value[:4096].hex(" ", 1) + " …"
    if value is None:
        return "None"
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 -- a class of the user's; its state is still shown
        return f"<{type(value).__name__} without a readable form: {type(error).__name__}>"


def _brief(value: Any) -> str:
    members = members_of(value)
    if members is not None:
        return f"{members.kind}({members.count})"
    return _text(value)[:40] if not isinstance(value, str) else repr(value[:40])


def _kind(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "bool"
        case int() | float():
            return "num"
        case str():
            return "str"
        case _:
            return "other"


def _amount(characters: int) -> str:
    if characters < 10_000:
        return words.count(characters, "character")
    return (
        words.size(characters).replace("B", "characters")
        if characters < 1e6
        else (f"{characters / 1e6:.1f} million characters")
    )
