"""The contract of finding executions: ranges of a backend, conditions of a store."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from langcairn.backends.base import Clear, Commit, FindExecutions
from langcairn.errors import InvalidInput
from langcairn.testing.cases import case
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.thread_id import ThreadId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langcairn.backends.base import Request
    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage

_NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_TIMES = [_NOON, _NOON + timedelta(microseconds=1), _NOON + _HOUR, _NOON + 24 * _HOUR]

# Each begins with another, or is what an escape or a pattern of some backend would make of it.
_USERS = [
    "user", "user_", "user.x", "userx", "user~", "user~chat", "user=7E", "USER", "user%", "us*r",
    "../user", "user\0", "user\x7f", "üser", "用户", "🪨", "\u202euser", "7",
]  # fmt: skip
_TYPES = ["chat", "chat2", "cha", "default", "chat~", "議"]
_FOREIGN = [
    "user", "user~", "user~chat", "user~chat~", "user~chat~20260131T120000.000000Z~nonsense",
    "user~chat~20269999T120000.000000Z~0123456789abcdef", "user~\x7f", "user\x7f", "user_chat_1",
    "user~chat~20260131T120000.000000Z~0123456789abcdef~1", "~~~", "thread-1", "zzz", "🪨~🪨~🪨",
]  # fmt: skip


def thread(user: str = "user", type: str = "chat", time: datetime = _NOON) -> ThreadId:
    """Return an id."""
    return ThreadId(user, type, time, "0123456789abcdef")


def make(ask: Callable[[Request], Any], ids: Iterable[object]) -> None:
    """Let executions begin."""
    for id in ids:
        ask(Commit(str(id), None))


class ExecutionsContract(Fixtures):
    """How executions are found, on every `Backend` and by every `CheckpointStore`.

    Needs a fixture ``storage`` that yields a fresh `langcairn.testing.Storage`.
    """

    @pytest.fixture
    def ask(self, storage: Storage, calling: Calling) -> Callable[[Request], Any]:
        """Return what makes requests of an empty backend."""
        return calling(storage.backend).execute

    @pytest.fixture
    def store(self, storage: Storage, calling: Calling) -> Caller:
        """Return an empty store."""
        return calling(storage.open())

    # Ranges

    def test_ranges(self, ask: Callable[[Request], Any]) -> None:
        names = ["a", "a!", "a.b", "a~", "a~b", "a\x7f", "ab", "A", "a b", "ä", "🪨", "\uffff", "%"]
        make(ask, names)
        ends = [*names, "", "a~a", "\U0010ffff", "b", "a" * 5000]
        for after, before in product(ends, [*ends, None]):
            within = sorted(n for n in names if n > after and (before is None or n < before))
            assert ask(FindExecutions(after, None, before)) == within
            assert ask(FindExecutions(after, 2, before)) == within[:2]
        assert ask(FindExecutions("a", 0, "b")) == ask(FindExecutions("a", -1, "b")) == []

    def test_ranges_follow_what_begins_and_ends(self, ask: Callable[[Request], Any]) -> None:
        make(ask, "bdf")
        assert ask(FindExecutions("a", None, "e")) == ["b", "d"]
        make(ask, "ca")
        ask(Clear("b"))
        assert ask(FindExecutions("a", None, "e")) == ["c", "d"]
        make(ask, "b")
        ask(Clear("c"))
        assert ask(FindExecutions("a", None, "e")) == ["b", "d"]
        assert ask(FindExecutions()) == ["a", "b", "d", "f"]

    # Thread ids

    def test_each_user_has_his_own(self, store: Caller, ask: Callable[[Request], Any]) -> None:
        threads = [thread(user, type) for user in _USERS for type in _TYPES[:3]]
        make(ask, [*threads, *_FOREIGN])
        for user in _USERS:
            own = sorted(str(t) for t in threads if t.user_id == user)
            assert store.executions(user_id=user) == own
            for type in _TYPES[:3]:
                expected = [str(thread(user, type))]
                assert store.executions(user_id=user, session_type=type) == expected
        assert store.executions(user_id=7) == store.executions(user_id="7")
        for nobody in ("use", "user~chat~", "u", "*", "%", "Üser", "x" * 1000):
            assert store.executions(user_id=nobody) == []
        assert store.executions() == sorted([*map(str, threads), *_FOREIGN])

    def test_every_combination_of_conditions(
        self, store: Caller, ask: Callable[[Request], Any]
    ) -> None:
        threads = [
            thread(user, type, time)
            for user, type, time in product(_USERS[:5], _TYPES, _TIMES)
            if len(user + type) % 5 or time != _NOON  # not everywhere the same
        ]
        make(ask, [*threads, *_FOREIGN])
        since = [None, _NOON - _HOUR, _TIMES[1], _NOON + 2 * _HOUR, _NOON + 48 * _HOUR]
        until = [None, _TIMES[1], _NOON + 2 * _HOUR]
        for user, type, start, end in product([None, "user"], [None, "chat", "x"], since, until):
            given = {"user_id": user, "session_type": type, "since": start, "until": end}
            if not any(given.values()):
                continue
            expected = sorted(
                str(t)
                for t in threads
                if (user in (None, t.user_id) and type in (None, t.session_type))
                and (start is None or t.created >= start)
                and (end is None or t.created < end)
            )
            assert store.executions(**given) == expected
            after = expected[len(expected) // 2] if expected else "user"
            rest = [id for id in expected if id > after]
            assert store.executions(**given, after=after, limit=3) == rest[:3]

    def test_times_of_any_zone(self, store: Caller, ask: Callable[[Request], Any]) -> None:
        make(ask, [thread(time=time) for time in _TIMES])
        there = timezone(timedelta(hours=9))
        one_hour_later = str(thread(time=_TIMES[2]))
        for zone in (UTC, there):
            bounds = [(_TIMES[2] + x * _HOUR).astimezone(zone) for x in (0, 1)]
            assert store.executions(since=bounds[0], until=bounds[1]) == [one_hour_later]
        naive = _TIMES[2].replace(tzinfo=None)  # UTC, as everywhere
        assert store.executions(since=naive, until=naive + _HOUR) == [one_hour_later]

    def test_pages_of_a_user(self, store: Caller, ask: Callable[[Request], Any]) -> None:
        times = [_NOON + n * _HOUR for n in range(300)]
        make(ask, (thread(type=type, time=time) for type in "ab" for time in times))
        everything = store.executions(user_id="user")
        assert len(everything) == 600
        pages: list[str] = []
        while page := store.executions(user_id="user", limit=70, after=pages[-1] if pages else ""):
            pages += page
        assert pages == everything
        newest = store.executions(user_id="user", since=times[-40])
        assert newest == everything[260:300] + everything[560:]
        after = ThreadId.parse(newest[0])
        assert store.executions(user_id="user", since=times[-40], after=after) == newest[1:]

    def test_one_that_was_cleared_is_gone(
        self, store: Caller, ask: Callable[[Request], Any]
    ) -> None:
        first, second = thread(time=_TIMES[0]), thread(time=_TIMES[1])
        make(ask, [first, second])
        assert store.clear(first)  # an id stands for its text
        assert store.executions(user_id="user") == [str(second)]

    def test_bad_conditions(self, store: Caller) -> None:
        bad: list[dict[str, Any]] = [
            {"user_id": ""}, {"user_id": b"user"}, {"user_id": "\ud800"}, {"user_id": True},
            {"session_type": ""}, {"session_type": 1.5}, {"since": "yesterday"}, {"until": 5},
            {"after": None}, {"after": "\0"}, {"after": "\ud800"},
        ]  # fmt: skip
        for given in bad:
            with case(given), pytest.raises(InvalidInput):
                store.executions(**given)

    def test_ids_that_stand_for_their_text(
        self, store: Caller, ask: Callable[[Request], Any]
    ) -> None:
        user = UUID(int=5)
        threads = [ThreadId.new(user), ThreadId.new(12)]
        make(ask, threads)
        assert [store.executions(user_id=id) for id in (user, 12, 1)] == [
            [str(threads[0])], [str(threads[1])], [],
        ]  # fmt: skip
