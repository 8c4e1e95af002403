"""Which characters are seen as they are: text of others must not steer a terminal, or deceive."""

from __future__ import annotations

import re

# Arabic, Indic scripts and emoji are joined by them; they show nothing else.
_JOINERS = "\u200c\u200d"
# Letters to Unicode, but empty: two names that differ only in them look alike.
_FILLERS = "\u115f\u1160\u3164\uffa0"

_FILLER = re.compile(f"[{_FILLERS}]")


def is_visible(text: str) -> bool:
    """Tell whether every character of a text is seen as what it is, or as a blank.

    Control characters and marks that turn the direction of writing aren't, nor are half surrogate
    pairs, private and unassigned characters, and letters that show nothing.
    """
    return text.isprintable() and not _FILLER.search(text)


def stays(character: str) -> bool:
    """Tell whether a character may stand among others as it is."""
    return character in _JOINERS or is_visible(character)
