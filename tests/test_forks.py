"""Which branches checkpoints form, and what is different between two states."""

from __future__ import annotations

import dataclasses
import math
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Send

from langcairn import (
    Checkpoint,
    CheckpointNotFound,
    InvalidInput,
    MemoryCheckpointStore,
    Step,
    compare_states,
)
from langcairn.codec.standins import InspectingSerializer
from langcairn.forks import forks_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def step(id: str, parent_id: str | None = None, name: str | None = None) -> Step:
    return Step(id, parent_id, "node", NOW, 1, "loop", name)


def outline(*steps: Step) -> list[tuple[Any, ...]]:
    """Return the branches: name, ids, where it begins, whether it is the newest."""
    return [
        (fork.name, "".join(one.id for one in fork.steps), fork.forked_from, fork.is_newest)
        for fork in forks_of(steps)
    ]


def test_branches() -> None:
    assert outline() == []
    assert outline(step("1")) == [(None, "1", None, True)]
    line = [("1", None), ("2", "1"), ("3", "2"), ("4", "2"), ("5", "4"), ("6", "2"), ("7", "3")]
    assert outline(*(step(*ids) for ids in reversed(line))) == [
        (None, "1237", None, True),
        (None, "45", "2", False),
        (None, "6", "2", False),
    ]


def test_parents_that_were_removed() -> None:
    assert outline(step("5", "4"), step("6", "5"), step("7", "3")) == [
        (None, "56", None, False),
        (None, "7", None, True),
    ]


def test_the_newest_name_counts() -> None:
    assert outline(step("1", None, "old"), step("2", "1", "new"), step("3", "2")) == [
        ("new", "123", None, True)
    ]


@given(st.lists(st.integers(-1, 30), max_size=30))
def test_every_checkpoint_is_in_one_branch(parents: list[int]) -> None:
    """Also where parents are missing, or lie about the order."""
    ids = [f"{number:02}" for number in range(len(parents))]
    steps = [
        step(id, None if parent < 0 else f"{parent:02}")
        for id, parent in zip(ids, parents, strict=True)
    ]
    forks = forks_of(steps)
    assert sorted(one.id for fork in forks for one in fork.steps) == ids
    assert [fork.is_newest for fork in forks].count(True) == bool(ids)


def test_names_in_a_store() -> None:
    store = MemoryCheckpointStore()
    for id, parent in (("1", None), ("2", "1"), ("3", "1")):
        state = {"n": int(id), "long": ["x" * 500]}
        store.save(Checkpoint(id=id, parent_id=parent, execution_id="a", state=state))
    store.name_fork("3", "other", execution_id="a")
    assert [fork.name for fork in store.forks("a")] == [None, "other"]
    assert store.load("3").metadata == {"fork_name": "other"}
    assert store.load("3").state == {"n": 3, "long": ["x" * 500]}
    for bad, message in (
        ("", "empty"),
        ("\0", "NUL"),
        ("x" * 500, "500 bytes"),
        ("other", "already"),
    ):
        with pytest.raises(InvalidInput, match=message):
            store.name_fork("2", bad)
    with pytest.raises(CheckpointNotFound):
        store.name_fork("4", "x")
    assert store.forks("nobody") == []
    (diff,) = store.compare("2", "3").channels
    assert (diff.name, diff.before, diff.after, diff.items) == ("n", 2, 3, ())


async def test_names_for_coroutines() -> None:
    store = MemoryCheckpointStore()
    await store.asave(Checkpoint(id="1", execution_id="a", state=1))
    await store.asave(Checkpoint(id="2", parent_id="1", execution_id="a", state=[2]))
    await store.aname_fork("1", "only")
    (fork,) = await store.aforks("a")
    assert (fork.name, fork.tip.id) == ("only", "2")
    (diff,) = (await store.acompare("1", "2")).channels
    assert (diff.name, diff.before, diff.after) == ("", 1, [2])


# Comparing


def items(before: Any, after: Any) -> list[tuple[Any, str]]:
    diffs = compare_states({"x": before}, {"x": after})
    return [(item.key, item.kind) for diff in diffs for item in diff.items]


def test_channels() -> None:
    diffs = compare_states({"a": 1, "b": 1, "c": 1}, {"b": 1, "c": 2, "d": 1})
    assert [(diff.name, diff.kind) for diff in diffs] == [
        ("a", "removed"),
        ("c", "changed"),
        ("d", "added"),
    ]


def test_messages_are_compared_by_id() -> None:
    first = [HumanMessage("a", id="1"), AIMessage("b", id="2"), HumanMessage("c", id="3")]
    second = [HumanMessage("A", id="1"), HumanMessage("c", id="3"), AIMessage("d", id="4")]
    assert items(first, second) == [("2", "removed"), ("1", "changed"), ("4", "added")]
    assert items(first, [first[1], first[0], first[2]]) == [("2", "moved"), ("1", "moved")]
    assert items([], second[:1]) == [("1", "added")]


def test_lists_are_compared_by_position() -> None:
    assert items([1, 2, 3], [1, 2, 3, 4]) == [(3, "added")]
    assert items([1, 2, 3], [2, 3]) == [(0, "removed")]
    assert items([1, 2, 3], [1, 9, 9, 3]) == [(1, "changed"), (2, "added")]
    assert items([1, 2, 3, 4], [1, 9, 4]) == [(1, "changed"), (2, "removed")]
    assert items([1, 1], [1]) == [(1, "removed")]
    same_ids = [HumanMessage("a", id="1"), HumanMessage("b", id="1")]
    assert items(same_ids, same_ids[:1]) == [(1, "removed")]


def test_dicts_are_compared_by_key() -> None:
    assert items({"a": 1, "b": 2}, {"b": 3, "c": 4}) == [
        ("a", "removed"),
        ("b", "changed"),
        ("c", "added"),
    ]


def test_what_is_the_same() -> None:
    assert not compare_states({"x": [math.nan]}, {"x": [math.nan]})
    assert not compare_states({"x": np.arange(3)}, {"x": np.arange(3)})
    assert compare_states({"x": np.arange(3)}, {"x": np.arange(4)})
    assert compare_states({"x": [1]}, {"x": [True]})
    assert compare_states({"x": 1}, {"x": 1.0})
    nobody = object()
    assert not compare_states({"x": nobody}, {"x": nobody})
    assert compare_states({"x": nobody}, {"x": object()})
    ids = [SimpleNamespace(id=["no text"])]  # an unhashable id
    assert not compare_states({"x": ids}, {"x": ids})
    assert items([*ids, 1], ids) == [(1, "removed")]


def test_values_of_types_that_are_not_loaded() -> None:
    gone: Any = dataclasses.make_dataclass(
        "Gone", ["number", "array"], namespace={"__module__": __name__}
    )

    def load(number: Any) -> Any:
        """Return the value as a process reads it that doesn't know the type."""
        held, serde = gone(number, np.arange(3)), InspectingSerializer()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[__name__], "Gone", gone, raising=False)
            data = serde.dumps({"x": held, "y": [held, Send("node", held)], "z": {"k": held}})
        return serde.loads(data)

    assert not compare_states(load(1), load(1))
    assert not compare_states(load(math.nan), load(math.nan))
    diffs = compare_states(load(1), load(True))
    assert [diff.name for diff in diffs] == ["x", "y", "z"]
    assert [[item.key for item in diff.items] for diff in diffs] == [[], [0, 1], ["k"]]


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_the_items_of_a_list_lead_from_one_to_the_other(
    before: list[int], after: list[int]
) -> None:
    rebuilt = list(before)
    for diff in compare_states({"x": before}, {"x": after}):
        changed = [item for item in diff.items if item.kind == "changed"]
        for item in changed:
            assert rebuilt[item.key] == item.before
            rebuilt[item.key] = item.after
        for item in reversed([item for item in diff.items if item.kind == "removed"]):
            assert rebuilt.pop(item.key) == item.before
        for item in diff.items:
            if item.kind == "added":
                rebuilt.insert(item.key, item.after)
    assert rebuilt == after
