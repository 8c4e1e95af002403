"""How executions are found by the parts of their `ThreadId`: in ranges of the ids of all.

Ids are in the order of their texts: by user, then session type, then time. Where conditions leave
gaps between what is wanted (the newest threads of each session type, one session type of each
user), the scan looks up the next place that may hold one, and doesn't read what lies between. So it
costs what it finds and a request or two for each gap, however many threads are in there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langcairn.backends.base import FindExecutions
from langcairn.errors import InvalidInput
from langcairn.records import utc, valid_text
from langcairn.thread_id import BEHIND, ThreadId, part_of, prefix_of, time_text

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime
    from uuid import UUID

    from langcairn.backends.base import Request

# Few at first: behind a gap there may be just one. Ten thousand ids are about a megabyte.
_FEW = 32  # [ids in a page]
_GROWTH = 8
_MOST = 10_000  # [ids in a page]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which executions are wanted; conditions that are None are not applied.

    With any of them, only those whose id is a `ThreadId`.
    """

    user_id: str | None = None
    session_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(
        cls,
        user_id: str | int | UUID | None,
        session_type: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Wanted:
        """Return the conditions that a caller gave.

        Raises:
            InvalidInput: One of them is no user id, session type or time.
        """
        return cls(
            None if user_id is None else part_of(user_id, "user_id"),
            None if session_type is None else part_of(session_type, "session_type"),
            None if since is None else utc(since),
            None if until is None else utc(until),
        )

    def ends(self) -> tuple[str, str | None]:
        """Return ends of a range that holds everything wanted, exclusive both."""
        if self.user_id is None:
            return "", None
        if self.session_type is None:
            prefix = prefix_of(self.user_id)
            return prefix, _behind(prefix)
        return self._ends_of(prefix_of(self.user_id, self.session_type))

    def next_place(self, id: str) -> str | None:
        """Return None if an execution in that range is wanted, else up to where none is.

        Args:
            id: An execution's.
        """
        if self == _ALL:
            return None
        try:
            found = ThreadId.parse(id)
        except InvalidInput:
            return id
        first, last = self._ends_of(
            prefix_of(found.user_id, self.session_type or found.session_type)
        )
        if id < first:
            return first
        if id < last:
            return None
        # The wanted session type of this user lies before, or all that is wanted of this one does.
        only_of = None if self.session_type is not None else found.session_type
        return _behind(prefix_of(found.user_id, only_of))

    def _ends_of(self, prefix: str) -> tuple[str, str]:
        """Return the ends of what is wanted of one session type of a user."""
        return (
            prefix if self.since is None else prefix + time_text(self.since),
            _behind(prefix) if self.until is None else prefix + time_text(self.until),
        )


_ALL = Wanted()


def find_executions(
    wanted: Wanted, after: str | ThreadId, limit: int | None
) -> Generator[Request, list[str], list[str]]:
    """Return the ids of the executions that are wanted, in ascending order.

    They are read in pages, so one that begins or is cleared meanwhile may be in it or not.

    Args:
        wanted: The conditions.
        after: Only those behind this id; ``""`` for all.
        limit: The most to return.

    Raises:
        InvalidInput: ``after`` is no text that could be an id.
    """
    place, before = wanted.ends()
    place = max(place, valid_text(str(after) if isinstance(after, ThreadId) else after, "after"))
    found: list[str] = []
    size = _MOST if wanted == _ALL else _FEW
    while (limit is None or len(found) < limit) and (before is None or place < before):
        count = size if limit is None else min(size, limit - len(found))
        ids = yield FindExecutions(place, count, before)
        for id in ids:
            if id <= place:
                continue  # in a gap that an id before it showed
            skipped_to = wanted.next_place(id)
            if skipped_to is None:
                found.append(id)
            place = skipped_to or id
        if len(ids) < count:
            break
        size = min(size * _GROWTH, _MOST) if place == ids[-1] else _FEW
    return found


def _behind(prefix: str) -> str:
    return prefix[:-1] + BEHIND
