"""Values as they are shown: whole, in order, bounded, and found again by their path."""

from __future__ import annotations

import enum
import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langgraph.types import Interrupt, Send
from pydantic import BaseModel, SecretStr
from tests.viewer_client import Page, viewing

from langcairn import Checkpoint, InvalidInput, MemoryCheckpointStore
from langcairn.viewer import text as words
from langcairn.viewer.members import at, members_of
from langcairn.viewer.rendering import Renderer

PLACE = {"id": "t", "ns": "", "at": "1", "of": "state"}


def shown(value: Any, budget: int = 150_000) -> Page:
    """Return a value as a page shows it."""
    return Page(str(Renderer(PLACE, budget).value(value)))


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Address:
    street: str
    number: int


class Person(BaseModel):
    name: str
    password: SecretStr


class Colour(enum.Enum):
    RED = 1


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (None, ["None"]),
        (True, ["True"]),
        (12.5, ["12.5"]),
        (float("nan"), ["nan"]),
        (10**400, ["1" + "0" * 400]),
        ("", []),
        ("two\nlines", ["two\nlines"]),
        (b"\x00\xff", ["bytes, 2 B", "00 ff"]),
        ({"a": {"b": [1, {"c": None}]}}, ["dict1", "a", "b", "c", "None"]),
        ({1: 2, (3, 4): 5}, ["1", "(3, 4)"]),
        ({"b", "a"}, ["set2"]),
        (frozenset(), ["frozenset0"]),
        ((1, "x"), ["tuple2", "x"]),
        (deque([7]), ["deque1", "7"]),
        (Point(1, 2), ["Point2", "x", "y"]),
        (Address("Way", 3), ["Address2", "street", "Way"]),
        (Person(name="Ada", password=SecretStr("hidden")), ["Person2", "Ada", "*****"]),
        (Document("text", metadata={"page": 3}), ["Document", "page_content", "text", "page"]),
        (Send("node", {"a": 1}), ["Send", "node", "a"]),
        (Interrupt("why?"), ["Interrupt", "why?"]),
        (Colour.RED, ["<Colour.RED: 1>"]),
        (UUID(int=5), ["00000000-0000-0000-0000-000000000005"]),
        (Decimal("1.10"), ["1.10"]),
        (timedelta(days=1), ["datetime.timedelta(days=1)"]),
        (Unreadable(), ["<Unreadable without a readable form: RuntimeError>"]),
    ],
)
def test_kinds(value: Any, texts: list[str]) -> None:
    page = shown(value)
    for text in texts:
        assert text in page.text, text
    assert "hidden" not in page.text


def test_long_text_in_pieces() -> None:
    whole = "".join(f"{n:06} " for n in range(30_000))
    page = shown(whole)
    assert "000213" in page.text
    assert "000215" not in page.text
    seen = page.text.split("Show")[0]
    while "/value" in "".join(page.links):
        start = int(page.links[-1].split("start=")[1])
        page = Page(str(Renderer(PLACE).part(whole, (), start)))
        seen += page.text.split("Show")[0]
    assert seen == whole


def test_long_list_in_pieces() -> None:
    page = shown(list(range(1000, 1173)))
    seen: list[str] = []
    while True:
        seen += re.findall(r'v num">(\d+)<', page.html)
        if not page.links:
            break
        page = Page(
            str(
                Renderer(PLACE).part(
                    list(range(1000, 1173)), (), int(page.links[-1].split("start=")[1])
                )
            )
        )
    assert seen == [str(n) for n in range(1000, 1173)]


def test_deep_trees_open_level_by_level() -> None:
    value: Any = "bottom"
    for _ in range(60):
        value = {"down": value}
    path: tuple[int, ...] = ()
    for _ in range(60):
        page = Page(str(Renderer(PLACE).part(at(value, path), path, None)))
        if "bottom" in page.text:
            break
        path = tuple(map(int, re.findall(r"path=([\d.]+)", page.links[-1])[0].split(".")))
    assert "bottom" in page.text
    assert len(path) > 50


def test_what_a_page_shows_is_bounded() -> None:
    value = {f"k{n}": ["x" * 1000] * 1000 for n in range(1000)}
    assert len(shown(value).html) < 500_000


_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20)
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.text(max_size=8), inner, max_size=6),
        st.tuples(inner, inner),
    ),
    max_leaves=40,
)


@settings(max_examples=25)
@given(_VALUES, st.sampled_from([0, 30, 150_000]))
def test_any_value_makes_a_whole_page(value: Any, budget: int) -> None:
    page = shown(value, budget)
    page.html.encode()  # half a surrogate pair could not be sent
    for link in page.links:
        inner = re.search(r"path=([\d.]*)", link)
        assert inner is not None
        path = tuple(map(int, filter(None, inner[1].split("."))))
        start = re.search(r"start=(\d+)", link)
        Page(str(Renderer(PLACE).part(at(value, path), path, int(start[1]) if start else None)))


@given(_VALUES)
def test_every_member_is_at_its_path(value: Any) -> None:
    def visit(inner: Any, path: tuple[int, ...]) -> None:
        assert at(value, path) is inner
        members = members_of(inner)
        if members is not None:
            parts = members.part(0, members.count)
            assert len(parts) == members.count
            for position, (_, member) in enumerate(parts):
                visit(member, (*path, position))

    visit(value, ())


@pytest.mark.parametrize("path", [(5,), (0, 0), (1, 0, 0)])
def test_no_such_path(path: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="nothing"):
        at([1, {"a": 2}], path)


async def test_a_state_of_50_megabytes() -> None:
    state = {
        "text": "line\n" * 6_000_000,
        "rows": [{"n": n, "s": "x" * 980} for n in range(20_000)],
    }
    async with MemoryCheckpointStore(cache_bytes=0) as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state=state))
        await store.asave(Checkpoint(execution_id="t", id="2", parent_id="1", state={"text": "x"}))
        page = await client.page("/thread?id=t&at=1")
        assert len(page.html) < 200_000
        assert "30.0 million characters more" in page.text
        last = await client.page("/value?id=t&at=1&path=1&start=19990", viewer_part="part")
        assert "19999" in last.text
        changes = await client.page("/thread?id=t&at=2&tab=changes")
        assert len(changes.html) < 200_000


@pytest.mark.parametrize(
    ("bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (5e15, "5.0 PB"),
        (5e18, "5000 PB"),
    ],
)
def test_sizes(bytes: float, text: str) -> None:
    assert words.size(bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-9, "just now"),
        (4, "just now"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3600, "1 h ago"),
        (86_400 * 2, "2 d ago"),
        (86_400 * 31, "1 month ago"),
        (86_400 * 90, "3 months ago"),
        (86_400 * 366, "1 year ago"),
        (86_400 * 800, "2 years ago"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert words.ago(now - timedelta(seconds=seconds), now) == text
