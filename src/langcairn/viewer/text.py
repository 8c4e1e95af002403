"""Words for people: sizes, times, and text from anywhere made fit to be shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from unicodedata import category

from langcairn.visible import is_visible, stays

# Seen as they are without a closer look.
_PLAIN = re.compile(r"[ -~\n\t]+")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SPANS = (
    (60, 1, "s"),
    (3600, 60, "min"),
    (86_400, 3600, "h"),
    (30 * 86_400, 86_400, "d"),
    (365 * 86_400, 30 * 86_400, "months"),
    (float("inf"), 365 * 86_400, "years"),
)


def showable(text: str) -> str:
    """Return a text in which what can't be seen, or would change how it reads, is written out."""
    # Line feeds and tabs are for the page's layout; the rest is looked at once, then one by one.
    if is_visible(_PLAIN.sub("", text)):
        return text
    return "".join(map(_shown, text))


def _shown(one: str) -> str:
    if one in "\n\t" or stays(one) or category(one) == "Zs":
        return one
    code = ord(one)
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"


def size(bytes: float) -> str:
    """Return a number of bytes as people say it: ``1.2 MB``."""
    amount, unit = float(bytes), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount /= 1000
        unit += 1
    digits = 1 if unit and amount < 99.95 else 0
    return f"{amount:.{digits}f} {_UNITS[unit]}"


def number(value: float) -> str:
    """Return a number with its thousands set apart."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def count(value: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is right."""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def ago(time: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was: ``3 min ago``; a time to come is "now"."""
    if time is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - time).total_seconds()
    if seconds < 5:
        return "just now"
    for end, length, unit in _SPANS:
        if seconds < end:
            amount = int(seconds // length)
            one = amount == 1 and length > 86_400
            return f"{amount} {unit.removesuffix('s') if one else unit} ago"
    raise AssertionError("the last span has no end")


def exactly(time: datetime | None) -> str:
    """Return a time to the millisecond, in UTC."""
    if time is None:
        return ""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03} UTC"


def short(text: str, most: int) -> str:
    """Return the beginning of a text, with an ellipsis if there is more."""
    return text if len(text) <= most else text[: most - 1] + "…"
