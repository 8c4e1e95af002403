"""Text from a store on its way to a terminal: nothing in it may steer the terminal, or deceive."""

from __future__ import annotations

import re
import unicodedata

from langcairn.visible import is_visible, stays

# In a URL: user, password, host.
_PASSWORD = re.compile(r"(://[^\s:/@'\"]*):[^\s'\"]*@")


def without_passwords(text: str) -> str:
    """Return a text with the passwords in its URLs hidden."""
    return _PASSWORD.sub(r"\1:***@", text)


def escaped(text: str, *, lines: bool = False) -> str:
    r"""Return a text in which control characters and their like are written out.

    Escape sequences, carriage returns, marks that turn the direction of writing, and invisible
    characters become ``\x1b``, ``\r``, ``\u202e`` and so on.

    Args:
        text: Any text.
        lines: Leave line feeds as they are, and turn tabs into blanks.
    """
    if is_visible(text):
        return text
    return "".join(_escaped(one, lines) for one in text)


def _escaped(one: str, lines: bool) -> str:
    if stays(one):
        return one
    if lines and one in "\n\t":
        return one if one == "\n" else "    "
    if unicodedata.category(one) == "Zs":
        return " "
    return one.encode("unicode_escape").decode("ascii")


def json_escaped(text: str) -> str:
    r"""Return JSON in which what is no printable character stands as ``\uXXXX``."""
    if is_visible(text):
        return text
    return "".join(one if stays(one) or one == "\n" else _json_escape(one) for one in text)


def _json_escape(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
