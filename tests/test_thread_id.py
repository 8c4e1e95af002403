"""`ThreadId`: made, read, ordered; and what it costs to find executions by its parts."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from langcairn import CheckpointSaver, InvalidInput, MemoryCheckpointStore, ThreadId
from langcairn.backends.base import Commit, FindExecutions
from langcairn.backends.memory import MemoryBackend
from langcairn.executions import Wanted, find_executions
from langcairn.records import valid_execution_id
from langcairn.thread_id import BEHIND, LONGEST, prefix_of, time_text

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

NOON = datetime(2026, 1, 31, 12, 0, 0, 250000, tzinfo=UTC)
TIME, UNIQUE = "20260131T120000.250000Z", "7d0f3a9be1c2465f"
DOCS = Path(__file__).parents[1] / "docs" / "thread-ids.md"

HOSTILE = [
    "_", "a_b_c", "~", "a~b~c", "=", "=7E", "%7E", "../x", "/etc/passwd", "*", "%", "?", "a b",
    "\0", "\n", "\x7f", "{x}", "a:b", "'; DROP TABLE checkpoints; --", "user|chat", "ünïcødé",
    "用户", "🪨\u200d🪨", "\u202etxt.exe", "مستخدم", "e\u0301", "\u00e9", "\ufeff", "\U0010ffff",
    " ", "-", ".", "..", str(ThreadId("ada", "chat", NOON, UNIQUE)),
]  # fmt: skip

# Mostly characters that mean something somewhere, so that parts often resemble each other.
parts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("ab~=_.7E%/é🪨\0\x7f"), min_size=1, max_size=5),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
)
times = st.datetimes(timezones=st.just(UTC))
uniques = st.from_regex("[0-9a-f]{16}", fullmatch=True)
thread_ids = st.builds(ThreadId, parts, parts, times, uniques)


class TestText:
    def test_is_readable(self) -> None:
        thread_id = ThreadId("ada@example.com", "chat", NOON, UNIQUE)
        text = f"ada@example.com~chat~20260131T120000.250000Z~{UNIQUE}"
        assert str(thread_id) == text
        assert ThreadId.parse(text) == thread_id
        assert str(ThreadId("Zoë_1", "x/y", NOON, UNIQUE)).startswith("Zo=C3=AB_1~x=2Fy~2026")
        shown = f"ThreadId(user_id='ada@example.com', session_type='chat', created={NOON!r}, "
        assert repr(thread_id) == f"{shown}unique='{UNIQUE}')"

    @given(thread_ids)
    def test_comes_back(self, thread_id: ThreadId) -> None:
        text = str(thread_id)
        assert ThreadId.parse(text) == thread_id
        assert valid_execution_id(text) == valid_execution_id(thread_id) == text
        assert text.isascii()
        assert text.isprintable()
        assert quote(text, safe="@=") == text  # as it may stand in a URL's path

    @given(thread_ids, thread_ids)
    def test_sorts_by_user_then_type_then_time(self, one: ThreadId, other: ThreadId) -> None:
        assert (str(one) == str(other)) == (one == other)
        keys = [
            (prefix_of(t.user_id), prefix_of(t.user_id, t.session_type), t.created, t.unique)
            for t in (one, other)
        ]
        assert (str(one) < str(other)) == (keys[0] < keys[1])

    @given(parts, thread_ids)
    def test_the_range_of_a_user_is_exact(self, user: str, thread_id: ThreadId) -> None:
        prefix = prefix_of(user)
        within = prefix < str(thread_id) < prefix[:-1] + BEHIND
        assert within == (thread_id.user_id == user)

    @given(parts, parts, thread_ids)
    def test_the_range_of_a_session_type_is_exact(
        self, user: str, type: str, thread_id: ThreadId
    ) -> None:
        prefix = prefix_of(user, type)
        within = prefix < str(thread_id) < prefix[:-1] + BEHIND
        assert within == ((thread_id.user_id, thread_id.session_type) == (user, type))

    @given(times, times)
    def test_times_sort_as_texts(self, one: datetime, other: datetime) -> None:
        assert (time_text(one) < time_text(other)) == (one < other)

    def test_goes_the_same_way_for_all_that_is_hostile(self) -> None:
        texts = {str(ThreadId(a, b, NOON, UNIQUE)) for a in HOSTILE for b in HOSTILE}
        assert len(texts) == len(HOSTILE) ** 2
        for text in texts:
            assert str(ThreadId.parse(text)) == text


class TestParse:
    @pytest.mark.parametrize(
        "text",
        [
            "", "thread-1", "ada_chat_20260131_7d0f", "~~~", str(UUID(int=1)),
            *(f"{user_and_type}~{TIME}~{UNIQUE}" for user_and_type in (
                "~chat", "ada~", "ada", "a~b~c", "ä~chat", "=41da~chat", "=c3=AB~chat", "=C3~chat",
                "=ED=A0=80~chat", "=~chat", "=F~chat", "=GG~chat", f"{'x' * 400}~chat", "a b~chat",
            )),
            *(f"ada~chat~{time}~{UNIQUE}" for time in (
                "20260231T120000.250000Z", "20260131T240000.000000Z", "20260131T120060.000000Z",
                "00000131T120000.250000Z", "20260131T120000Z", "20260131T120000.250000", "",
                "\u0662\u0660260131T120000.250000Z", "2026-01-31T12:00:00.250000Z",
            )),
            *(f"ada~chat~{TIME}~{unique}" for unique in (
                "", "7d", UNIQUE.upper(), f"{UNIQUE}0", f"{UNIQUE} ", f"{UNIQUE}\n", f"{UNIQUE}~",
            )),
            None, 5, b"ada", ("ada", "chat"),
        ],
        ids=ascii,
    )  # fmt: skip
    def test_refuses_what_is_none(self, text: Any) -> None:
        with pytest.raises(InvalidInput, match="is no ThreadId"):
            ThreadId.parse(text)

    @given(st.text(max_size=80))
    def test_refuses_or_reads_any_text(self, text: str) -> None:
        try:
            thread_id = ThreadId.parse(text)
        except InvalidInput:
            return
        assert str(thread_id) == text

    @given(thread_ids, st.data())
    def test_a_changed_text_is_another_id_or_none(self, thread_id: ThreadId, data: Any) -> None:
        text = str(thread_id)
        at = data.draw(st.integers(0, len(text) - 1))
        changed = text[:at] + data.draw(st.sampled_from("~=a0Z%é")) + text[at + 1 :]
        assume(changed != text)
        with suppress(InvalidInput):
            assert ThreadId.parse(changed) != thread_id


class TestNew:
    def test_has_what_was_given(self) -> None:
        before = datetime.now(UTC)
        thread_id = ThreadId.new("ada", "chat")
        assert (thread_id.user_id, thread_id.session_type) == ("ada", "chat")
        assert before <= thread_id.created <= datetime.now(UTC)
        assert ThreadId.new("ada").session_type == "default"

    def test_takes_what_stands_for_text(self) -> None:
        class Kind(StrEnum):
            CHAT = "chat"

        made = ThreadId.new(7, Kind.CHAT)
        assert (made.user_id, made.session_type) == ("7", "chat")
        assert type(made.session_type) is str
        assert ThreadId.new(UUID(int=7)).user_id == str(UUID(int=7))

    @pytest.mark.parametrize(
        "user_id", ["", None, 1.5, True, b"ada", ["ada"], "a\ud800"], ids=ascii
    )
    def test_refuses_what_is_no_part(self, user_id: Any) -> None:
        with pytest.raises(InvalidInput, match="user_id"):
            ThreadId.new(user_id)
        with pytest.raises(InvalidInput, match="session_type"):
            ThreadId.new("ada", user_id)

    def test_refuses_what_is_too_long(self) -> None:
        rest = len(str(ThreadId("a", "c", NOON, UNIQUE))) - 1
        fits = ThreadId.new("x" * (LONGEST - rest), "c")
        assert len(str(fits)) == LONGEST
        assert valid_execution_id(fits) == str(fits)
        for user_id in ("x" * (LONGEST - rest + 1), "用" * 40, "x" * 10**6):
            with pytest.raises(InvalidInput, match="bytes in a thread id"):
                ThreadId.new(user_id, "c")

    def test_the_parts_given_by_hand_are_checked(self) -> None:
        good: dict[str, Any] = {
            "user_id": "a", "session_type": "c", "created": NOON, "unique": UNIQUE
        }  # fmt: skip
        zone = timezone(timedelta(hours=9))
        assert ThreadId(**{**good, "created": NOON.astimezone(zone)}) == ThreadId(**good)
        beyond = datetime.max.replace(tzinfo=timezone(-timedelta(hours=9)))
        for wrong in (
            {"user_id": 7}, {"user_id": ""}, {"session_type": None}, {"created": "now"},
            {"created": NOON.replace(tzinfo=None)}, {"created": beyond}, {"unique": "x"},
            {"unique": None}, {"unique": UNIQUE + "\n"},
        ):  # fmt: skip
            with pytest.raises(InvalidInput):
                ThreadId(**{**good, **wrong})

    def test_a_million_at_once(self) -> None:
        """Without the help of the clock: as if it had stood still all the time."""
        thread_ids = (ThreadId.new("ada") for _ in range(1_000_000))
        assert len({thread_id.unique for thread_id in thread_ids}) == 1_000_000

    def test_threads_and_forks_make_others(self) -> None:
        made: list[str] = []
        threads = [
            threading.Thread(
                target=lambda: made.extend(ThreadId.new("a").unique for _ in range(2000))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(set(made)) == len(made) == 8000
        program = (
            "import os\nfrom langcairn import ThreadId\nThreadId.new('a')\nchild = os.fork()\n"
            "os.write(1, f'{ThreadId.new(1).unique} '.encode())\nif child: os.waitpid(child, 0)\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        assert len(set(result.stdout.split())) == 2


class TestValue:
    def test_is_ordered_by_time(self) -> None:
        late = ThreadId("a", "a", NOON + timedelta(microseconds=1), UNIQUE)
        early = ThreadId("b", "b", NOON, UNIQUE)
        assert early < late
        assert sorted([late, early]) == [early, late]
        assert sorted([str(late), str(early)]) == [str(late), str(early)]
        assert early <= early < ThreadId("b", "c", NOON, UNIQUE)
        with pytest.raises(TypeError):
            assert early < str(late)

    def test_is_hashable_frozen_and_can_be_pickled(self) -> None:
        thread_id = ThreadId.new("ada")
        assert {thread_id: 1}[ThreadId.parse(str(thread_id))] == 1
        assert pickle.loads(pickle.dumps(thread_id)) == thread_id
        with pytest.raises(FrozenInstanceError):
            thread_id.user_id = "bob"  # type: ignore[misc]  # what must fail
        assert not hasattr(thread_id, "__dict__")


class TestWithLangGraph:
    @pytest.mark.parametrize("form", [str, lambda thread_id: thread_id], ids=["text", "object"])
    def test_a_graph_runs_in_it(self, form: Any) -> None:
        with MemoryCheckpointStore() as store:
            builder = StateGraph(MessagesState)
            builder.add_node("answer", lambda _: {"messages": [AIMessage("hello")]})
            builder.add_edge(START, "answer")
            graph = builder.compile(checkpointer=CheckpointSaver(store))
            thread_id = ThreadId.new("../ada ~", "chat")
            config: RunnableConfig = {"configurable": {"thread_id": form(thread_id)}}
            for count in (2, 4):
                said = graph.invoke({"messages": [HumanMessage("hi")]}, config)
                assert len(said["messages"]) == count
            assert len(list(graph.get_state_history(config))) == 6
            assert store.executions(user_id="../ada ~") == [str(thread_id)]
            assert store.list(str(thread_id))[0].execution_id == str(thread_id)


USERS, TYPES, OLD, NEW = 5, 4, 500, 3
SINCE = NOON + timedelta(hours=OLD)


@pytest.fixture(scope="module")
def crowd() -> MemoryBackend:
    """Return a backend with threads of some users and types: many before `SINCE`, few after it."""
    backend = MemoryBackend()
    for user, type, n in product(range(USERS), range(TYPES), range(OLD + NEW)):
        thread_id = ThreadId(f"u{user}", f"t{type}", NOON + timedelta(hours=n), UNIQUE)
        backend.execute(Commit(str(thread_id), None))
    return backend


class Scan:
    """Finds executions, and counts what it asks for.

    Attributes:
        found: What it found.
        requests: How many requests it took.
        read: How many ids they were answered with.
    """

    def __init__(self, backend: MemoryBackend, limit: int | None = None, **fields: Any) -> None:
        scan = find_executions(Wanted(**fields), "", limit)
        self.requests = self.read = 0
        request: Any = next(scan)
        try:
            while True:
                assert type(request) is FindExecutions
                assert request.limit is not None
                assert request.limit <= 10_000
                answer: Any = backend.execute(request)
                self.requests += 1
                self.read += len(answer)
                request = scan.send(answer)
        except StopIteration as stop:
            self.found: list[str] = stop.value


class TestCosts:
    """What is read for an answer, counted: no more where there are more threads."""

    @pytest.mark.parametrize(
        ("fields", "places"),
        [
            ({"user_id": "u2", "session_type": "t1"}, 1), ({"user_id": "u2"}, TYPES),
            ({"session_type": "t1"}, USERS), ({}, USERS * TYPES),
        ],
    )  # fmt: skip
    def test_of_times(self, crowd: MemoryBackend, fields: Any, places: int) -> None:
        for until, each in ((None, NEW), (SINCE + timedelta(hours=1), 1)):
            scan = Scan(crowd, since=SINCE, until=until, **fields)
            assert len(scan.found) == each * places
            assert scan.requests <= 2 * places + 1
            assert scan.read <= 70 * places

    def test_of_one_range(self, crowd: MemoryBackend) -> None:
        scan = Scan(crowd, user_id="u2", session_type="t1")
        assert len(scan.found) == scan.read == OLD + NEW
        assert scan.requests <= 4
        scan = Scan(crowd, user_id="u2", limit=10)
        assert (len(scan.found), scan.requests, scan.read) == (10, 1, 10)

    def test_of_everything(self, crowd: MemoryBackend) -> None:
        scan = Scan(crowd)
        assert len(scan.found) == scan.read == USERS * TYPES * (OLD + NEW)
        assert scan.requests == 2  # pages

    def test_what_is_too_long_for_an_id_is_just_not_there(self, crowd: MemoryBackend) -> None:
        assert Scan(crowd, session_type="x" * 500).found == []
        assert Scan(crowd, user_id="用" * 200, session_type="c").found == []


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        ["ada@example.com", "chat"], ["ada@example.com", "report"],
    ]  # fmt: skip
    assert all(str(ThreadId.parse(line[-1])) == line[-1] for line in lines)
