"""Times and spans as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from langcairn.errors import InvalidInput

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def span(text: str) -> timedelta:
    """Return a span of time: 90s, 30m, 12h, 7d, 2w.

    Raises:
        InvalidInput: It is none.
    """
    found = _SPAN.fullmatch(text.strip())
    try:
        if found:
            return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        pass
    raise InvalidInput(f"{text!r} is no span of time: write 90s, 30m, 12h, 7d or 2w")


def moment(text: str | None) -> datetime | None:
    """Return a moment: a date or time, in the zone of this machine if it names none; or a span ago.

    Raises:
        InvalidInput: It is neither.
    """
    if text is None:
        return None
    try:
        if _SPAN.fullmatch(text.strip()):
            return datetime.now(UTC) - span(text)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text!r} is no time: write 2026-01-31, 2026-01-31T12:00, or 7d for seven days ago"
        ) from None
