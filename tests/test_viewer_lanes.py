"""Timelines: every checkpoint has a lane, lanes don't run into each other, also in odd threads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.viewer_client import Page

from langcairn.forks import Step
from langcairn.headers import Header
from langcairn.viewer.lanes import MOST_LANES, lay_out
from langcairn.viewer.timeline import WINDOW, draw

START = datetime(2026, 1, 1, tzinfo=UTC)


def header(number: int, parent: int | None, namespace: str = "", call: int | None = None) -> Header:
    """Return a checkpoint of a thread."""
    at = START + timedelta(seconds=number)
    parent_id = None if parent is None else f"{parent:04}"
    step = Step(f"{number:04}", parent_id, "node", at, number, "loop", None)
    return Header(namespace, step, None if call is None else ("", f"{call:04}"))


def columns(headers: list[Header]) -> dict[str, int]:
    """Return the column of each checkpoint."""
    lanes = lay_out(headers)
    return {key[1]: lane.column for key, lane in lanes.of.items()}


def test_a_line() -> None:
    headers = [header(n, n - 1 if n else None) for n in range(5)][::-1]
    lanes = lay_out(headers)
    assert set(columns(headers).values()) == {0}
    assert (lanes.all[0].top, lanes.all[0].bottom, lanes.all[0].origin) == (0, 4, None)


def test_forks_side_by_side() -> None:
    parents = {0: None, 1: 0, 2: 1, 3: 1, 4: 2, 5: 3, 6: 1}
    headers = [header(n, parents[n]) for n in reversed(parents)]
    assert columns(headers) == dict(
        zip(
            ("0000", "0001", "0002", "0004", "0003", "0005", "0006"),
            (0, 0, 0, 0, 1, 1, 2),
            strict=True,
        )
    )


def test_lanes_are_used_again() -> None:
    # Two calls of a subgraph, one after the other.
    headers = [
        header(6, 3),
        header(5, 4, "sub:2", 3),
        header(4, None, "sub:2", 3),
        header(3, 0),
        header(2, 1, "sub:1", 0),
        header(1, None, "sub:1", 0),
        header(0, None),
    ]
    lanes = lay_out(headers)
    assert [lane.column for lane in lanes.all] == [0, 1, 1]
    assert [lane.origin for lane in lanes.all] == [None, 6, 3]
    assert lanes.subgraphs == {"sub:1", "sub:2"}


@st.composite
def threads(draw: st.DrawFn) -> list[Header]:
    """Draw a thread; parents and calls may be missing, later, or itself."""
    count = draw(st.integers(1, 60))
    made = []
    for number in range(count):
        parent = draw(st.one_of(st.none(), st.just(number - 1), st.integers(0, count)))
        namespace = draw(st.sampled_from(["", "", "", "a:1", "a:2", "a:1|b:1"]))
        call = draw(st.one_of(st.none(), st.integers(0, count))) if namespace else None
        made.append(header(number, parent, namespace, call))
    return made[::-1]


@settings(max_examples=25)
@given(threads())
def test_any_thread_is_drawn(headers: list[Header]) -> None:
    lanes = lay_out(headers)
    assert set(lanes.of) == {one.key for one in headers}
    taken: dict[tuple[int, int], int] = {}
    for number, lane in enumerate(lanes.all):
        assert 0 <= lane.top <= lane.bottom < len(headers)
        assert lane.origin is None or lane.origin > lane.bottom
        assert lane.column < MOST_LANES
        if lane.column < MOST_LANES - 1:
            for row in range(lane.top, lane.bottom + 1):
                assert taken.setdefault((lane.column, row), number) == number
    drawn = draw(headers, {}, 0, headers[0].key, "/thread?start=")
    Page(str(drawn.drawing))
    assert len(drawn.rows) == len(headers)


def test_only_the_window_is_drawn() -> None:
    headers = [header(n, n - 1 if n else None) for n in range(3000)][::-1]
    drawn = draw(headers, {}, 1000, None, "/thread?start=")
    page = Page(str(drawn.drawing))
    assert page.tags["circle"] == WINDOW
    assert page.tags["path"] == 1
    assert (drawn.start, drawn.stop, drawn.total) == (1000, 1100, 3000)
    activity = Page(str(drawn.activity))
    assert 80 <= activity.tags["rect"] <= 90
    assert "here" in activity.classes
    # Every bar leads to the window that its checkpoints are in.
    assert {int(link.split("=")[1]) % WINDOW for link in activity.links} == {0}


def test_thousands_of_branches() -> None:
    headers = [header(n, 0 if n else None) for n in range(2000)][::-1]
    drawn = draw(headers, {}, 0, None, "/thread?start=")
    assert drawn.width < 300
    assert len(drawn.lanes.branches) == 1999
