"""`ThreadId`: ids of threads that say whose they are, what for, and since when.

The text of one is its parts with ``~`` between them, as in
``ada@example.com~chat~20260131T120000.250000Z~7d0f3a9be1c2465f``. In user and session type, every
byte of UTF-8 but letters, digits, ``@``, ``.``, ``_`` and ``-`` is written as ``=`` and two
hexadecimal digits, so ``~`` stands nowhere else. What follows from that:

- The threads of a user are one range of the ids of all executions, within it those of a session
  type are one, and within that they are in the order of time. No other user's are between them.
- Two ids are never the same text, and no text means two ids.
- It is ASCII that needs no escaping in a URL's path, a header or a log, whoever chose the user id.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, total_ordering
from uuid import UUID

from langcairn.errors import InvalidInput

LONGEST = 400  # [bytes of UTF-8] of the id of any execution, see langcairn.records
BEHIND = "\x7f"
"""In place of the ``~`` that ends a prefix: what sorts behind all ids that begin with it."""

_BETWEEN = "~"
_UNIQUE_BYTES = 8
_LONGEST_PREFIX = LONGEST - len("20260131T120000.250000Z~7d0f3a9be1c2465f")

_PART = "(?:[A-Za-z0-9@._-]|=[0-9A-F]{2})+"
_TEXT = re.compile(rf"({_PART})~({_PART})~([0-9]{{8}}T[0-9]{{6}}\.[0-9]{{6}})Z~([0-9a-f]{{16}})")
_UNIQUE = re.compile("[0-9a-f]{16}")
_UNSAFE = re.compile(rb"[^A-Za-z0-9@._-]")
_ESCAPE = re.compile(rb"=(..)")


@total_ordering
@dataclass(frozen=True, slots=True)
class ThreadId:
    """The id of a thread of a user. ``str()`` of it is what LangGraph takes as ``thread_id``.

    Ids are values: equal if all parts are, hashable, and ordered by time. (Their texts sort by user
    and session type first.) They are made by `new` and read by `parse`.

    Attributes:
        user_id: Whose thread it is; any text that isn't empty, and is yours to define.
        session_type: What it is for; likewise.
        created: When it was made; aware, in UTC, to the microsecond.
        unique: 64 random bits, as 16 hexadecimal digits. Two ids are the same only if they agree on
            them, the user and the microsecond.

    Raises:
        InvalidInput: A part can't be one, or all together are too long for an id.
    """

    user_id: str
    session_type: str
    created: datetime
    unique: str

    def __post_init__(self) -> None:
        if type(self.user_id) is not str or type(self.session_type) is not str:
            raise InvalidInput(
                f"user_id and session_type of a ThreadId are strings, not {self.user_id!r:.80} and "
                f"{self.session_type!r:.80}; ThreadId.new() also takes an int or UUID"
            )
        _check_parts(self.user_id, self.session_type)
        if not isinstance(self.created, datetime) or self.created.tzinfo is None:
            raise InvalidInput(f"created must be a datetime with a time zone, not {self.created!r}")
        if self.created.tzinfo is not UTC:
            object.__setattr__(self, "created", _in_utc(self.created))
        if not isinstance(self.unique, str) or not _UNIQUE.fullmatch(self.unique):
            raise InvalidInput(
                f"unique must be 16 hexadecimal digits, not {self.unique!r:.80}; "
                "ThreadId.new() makes one"
            )

    @classmethod
    def new(cls, user_id: str | int | UUID, session_type: str = "default") -> ThreadId:
        """Make an id that nobody has, in any thread or process.

        Args:
            user_id: Whose thread it will be. An int or UUID stands for its text.
            session_type: What for.

        Raises:
            InvalidInput: One of them is empty, no text, or too long.
        """
        unique = secrets.token_hex(_UNIQUE_BYTES)  # of the kernel: forks and threads share none
        user = part_of(user_id, "user_id")
        return cls(user, part_of(session_type, "session_type"), datetime.now(UTC), unique)

    @classmethod
    def parse(cls, text: str) -> ThreadId:
        """Return the id that a text is.

        Raises:
            InvalidInput: It isn't the text of one, exactly as ``str()`` writes it.
        """
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            user_id, session_type, created, unique = found.groups()
            try:
                thread_id = cls(
                    _unescaped(user_id),
                    _unescaped(session_type),
                    datetime.fromisoformat(created).replace(tzinfo=UTC),
                    unique,
                )
            except ValueError:  # no such day, no UTF-8, too long
                thread_id = None
            # Another spelling, as with =41 for A, would be another key for the same thread.
            if thread_id is not None and str(thread_id) == text:
                return thread_id
        raise InvalidInput(
            f"{text!r:.80} is no ThreadId; one reads like "
            "'ada@example.com~chat~20260131T120000.250000Z~7d0f3a9be1c2465f', and str() of a "
            "ThreadId writes it"
        )

    def __str__(self) -> str:
        prefix = prefix_of(self.user_id, self.session_type)
        return f"{prefix}{time_text(self.created)}Z{_BETWEEN}{self.unique}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, ThreadId):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[datetime, str, str, str]:
        return self.created, self.user_id, self.session_type, self.unique


def part_of(value: object, what: str) -> str:
    """Return a user id or session type as text; an int or UUID stands for its text.

    Raises:
        InvalidInput: It is empty, of another type, or not Unicode.
    """
    if type(value) is int or isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a string, not {type(value).__name__}: {value!r:.80}")
    value = str.__str__(value)  # str() of an enum's member, which may well be a str, is its name
    if not value:
        raise InvalidInput(f"{what} is empty; a thread needs a name for it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{what} {value!r:.80} has half a surrogate pair in it") from error
    return value


@lru_cache(4096)
def prefix_of(user_id: str, session_type: str | None = None) -> str:
    """Return what the ids of a user, or of one of his session types, begin with, and no others."""
    prefix = _escaped(user_id) + _BETWEEN
    return prefix if session_type is None else prefix + _escaped(session_type) + _BETWEEN


def time_text(time: datetime) -> str:
    """Return a time (aware, UTC) as it stands in an id. Such texts sort by time."""
    text = time.replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.replace("-", "").replace(":", "")


@lru_cache(4096)
def _check_parts(user_id: str, session_type: str) -> None:
    part_of(user_id, "user_id")
    part_of(session_type, "session_type")
    size = len(prefix_of(user_id, session_type))
    if size > _LONGEST_PREFIX:
        raise InvalidInput(
            f"user_id and session_type take {size} bytes in a thread id; {_LONGEST_PREFIX} "
            "is the most (of characters other than letters, digits and @._- each byte of UTF-8 "
            f"takes 3): {user_id!r:.80}, {session_type!r:.80}. Use a shorter name or a hash of it"
        )


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(f"{time} can't be said in UTC: {error}") from error


def _escaped(part: str) -> str:
    return _UNSAFE.sub(lambda byte: b"=%02X" % byte[0][0], part.encode()).decode()


def _unescaped(part: str) -> str:
    return _ESCAPE.sub(lambda code: bytes.fromhex(code[1].decode()), part.encode()).decode()
