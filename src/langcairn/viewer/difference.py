"""A channel's change as HTML: messages and entries that came, went or are not the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from markupsafe import Markup

from langcairn.viewer import text as words
from langcairn.viewer.members import is_internal, members_of
from langcairn.viewer.messages import Conversation

if TYPE_CHECKING:
    from langcairn.comparing import ChannelDiff, ItemDiff
    from langcairn.viewer.members import Path
    from langcairn.viewer.rendering import Renderer

_ITEMS = 40  # [changed members of one channel that are shown]
_WORDS = 1500  # [words; finding what is common takes the square of them]
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Difference:
    """One channel that differs.

    Attributes:
        name: The channel; ``""`` if the states aren't dicts.
        kind: ``added``, ``removed`` or ``changed``.
        summary: What happened, in a few words.
        items: Pairs of a kind and the HTML of what it happened to.
        more: How many items are not shown.
    """

    name: str
    kind: str
    summary: str
    items: list[tuple[str, str, Markup]]
    more: int

    @property
    def is_internal(self) -> bool:
        """Whether the channel is LangGraph's own."""
        return is_internal(self.name)

    @classmethod
    def of(
        cls, diff: ChannelDiff, before: Any, after: Any, old: Renderer, new: Renderer
    ) -> Difference:
        """Render one.

        Args:
            diff: What is different.
            before: The first state.
            after: The second state.
            old: Renders values of the first state.
            new: Renders values of the second state.
        """
        was, now = _position(before, diff.name), _position(after, diff.name)
        if diff.items:
            rendered: list[tuple[str, str, Markup]] = [
                (item.kind, *_item(item, diff, (was, now), (old, new)))
                for item in diff.items[:_ITEMS]
            ]
            more = max(len(diff.items) - _ITEMS, 0)
            return cls(diff.name, diff.kind, _summary(diff), rendered, more)
        if diff.kind == "changed":
            both = _both(diff.before, diff.after, (was, now), (old, new))
            return cls(diff.name, diff.kind, "", [("changed", "", both)], 0)
        path, renderer = (was, old) if diff.kind == "removed" else (now, new)
        value = diff.before if diff.kind == "removed" else diff.after
        body = renderer.value(value, path, 1)
        return cls(diff.name, diff.kind, "", [(diff.kind, "", body)], 0)


def _summary(diff: ChannelDiff) -> str:
    kinds = [item.kind for item in diff.items]
    return ", ".join(
        f"{words.number(kinds.count(kind))} {kind}"
        for kind in ("added", "changed", "moved", "removed")
        if kind in kinds
    )


def _position(state: Any, name: str) -> Path:
    """Return where a channel is in a state."""
    if not isinstance(state, dict):
        return ()
    return next(((n,) for n, key in enumerate(state) if str(key) == name), ())


def _item(
    item: ItemDiff,
    diff: ChannelDiff,
    places: tuple[Path, Path],
    renderers: tuple[Renderer, Renderer],
) -> tuple[str, Markup]:
    side = 0 if item.kind == "removed" else 1
    whole, value = ((diff.before, item.before), (diff.after, item.after))[side]
    path = (*places[side], _index(whole, item.key, value))
    label = "" if isinstance(value, BaseMessage) else words.short(str(item.key), 120)
    if item.kind == "changed":
        was = (*places[0], _index(diff.before, item.key, item.before))
        return label, _both(item.before, item.after, (was, path), renderers)
    return label, _one(value, path, renderers[side])


def _index(whole: Any, key: Any, value: Any) -> int:
    """Return the position of a member that a comparison named by a key."""
    if isinstance(whole, dict):
        return list(whole).index(key)
    if isinstance(key, int):
        return key
    return next(n for n, element in enumerate(whole) if element is value)


def _one(value: Any, path: Path, renderer: Renderer) -> Markup:
    if isinstance(value, BaseMessage):
        message = Conversation(renderer, path[:-1]).message(value, path)
        return Markup('<ol class="conversation">{}</ol>').format(message)
    return renderer.value(value, path, 1)


def _both(
    before: Any, after: Any, places: tuple[Path, Path], renderers: tuple[Renderer, Renderer]
) -> Markup:
    if members_of(before) is None and members_of(after) is None and _is_short(before, after):
        return Markup(
            '<div class="inline-change"><del>{}</del><span aria-hidden="true">→</span>'
            "<ins>{}</ins></div>"
        ).format(renderers[0].value(before, places[0]), renderers[1].value(after, places[1]))
    texts = [_said(before), _said(after)]
    if None not in texts and texts[0] != texts[1]:
        marked = _marked(str(texts[0]), str(texts[1]))
        if marked is not None:
            return Markup('<div class="textual v">{}</div>').format(marked)
    return Markup('<div class="before">{}</div><div class="after">{}</div>').format(
        _one(before, places[0], renderers[0]), _one(after, places[1], renderers[1])
    )


def _is_short(*values: Any) -> bool:
    """Tell whether values fit a line side by side."""
    return all(
        len(value) < 60 and "\n" not in value if isinstance(value, str) else len(repr(value)) < 60
        for value in values
    )


def _said(value: Any) -> str | None:
    """Return the text of a value, if that is what there is to compare in it."""
    if isinstance(value, str):
        return value
    if isinstance(value, BaseMessage) and isinstance(value.content, str):
        return value.content
    return None


def _marked(before: str, after: str) -> Markup | None:
    """Return one text with what was taken out and put in; None if they are too long."""
    if len(before) + len(after) > 20 * _WORDS:
        return None
    old, new = _WORD.findall(before), _WORD.findall(after)
    if len(old) > _WORDS or len(new) > _WORDS:
        return None
    pieces = []
    for what, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        taken, put = "".join(old[i:j]), "".join(new[k:m])
        if what == "equal":
            pieces.append(Markup("{}").format(words.showable(_shortened(taken))))
            continue
        if taken:
            pieces.append(Markup("<del>{}</del>").format(words.showable(taken)))
        if put:
            pieces.append(Markup("<ins>{}</ins>").format(words.showable(put)))
    return Markup().join(pieces)


def _shortened(text: str) -> str:
    """Leave out the middle of what is the same on both sides."""
    return text if len(text) < 600 else f"{text[:250]} … {text[-250:]}"
