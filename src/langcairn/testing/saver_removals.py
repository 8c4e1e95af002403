"""What a saver removes and copies, and that nothing is left behind or torn."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import operator
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langcairn.errors import InvalidInput
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.checkpoints import (
    checkpoint_id,
    config_of,
    facts_of,
    numbers_of,
    put,
    values_of,
)
from langcairn.testing.fixtures import Calling, Fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage


def _text(number: int) -> str:
    return f"{number:>400}"


def _history(count: int) -> list[str]:
    return [_text(i) for i in range(count)]


def _concatenate(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return reduce(operator.add, writes, state)


class _Delta(TypedDict):
    log: Annotated[list[str], DeltaChannel(_concatenate, snapshot_frequency=4)]
    rare: Annotated[list[str], DeltaChannel(_concatenate, snapshot_frequency=1000)]
    n: int


def _delta_builder() -> StateGraph[_Delta]:
    def step(state: _Delta) -> dict[str, Any]:
        n = state["n"]
        return {"log": [_text(n)], "rare": [f"rare {n}"], "n": n + 1}

    builder = StateGraph(_Delta)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: END if state["n"] % 3 == 0 else "step")
    return builder


class SaverRemovals(Fixtures):
    """Tests of delete_thread, delete_for_runs, prune and copy_thread."""

    def _fill(self, saver: Caller, thread: object, namespaces: Sequence[str] = ("",)) -> None:
        for namespace in namespaces:
            for number in range(1, 6):
                config = put(
                    saver,
                    number,
                    {
                        "log": _history(number * 10),
                        "n": number,
                        "who": [str(thread), namespace] * 9,
                    },
                    thread=thread,
                    namespace=namespace,
                    parent=number - 1 or None,
                    changed=["log", "n", *(["who"] if number == 1 else [])],
                    run_id=f"run {number % 2}",
                )
                saver.put_writes(config, [("log", [_text(-number)]), ("n", 1)], f"task {number}")

    def _assert_whole(self, reader: Caller, storage: Storage, thread: str) -> None:
        for one in reader.list({"configurable": {"thread_id": thread}}):
            values, number = one.checkpoint["channel_values"], one.metadata["step"]
            assert values["log"] == _history(number * 10)
            assert one.pending_writes[0][2] == [_text(-number)]
        assert audit(storage, thread) == CLEAN

    def test_delete_thread(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        for thread in ("a", "b"):
            self._fill(saver, thread, ["", "child"])
        saver.delete_thread("a")
        saver.delete_thread("nobody")
        for reader in (saver, another()):
            assert reader.get_tuple(config_of("a")) is None
            assert reader.get_tuple(config_of("a", "child")) is None
            assert len(list(reader.list(None))) == 10
        assert storage.chunks("a") == {}
        self._assert_whole(another(), storage, "b")
        self._fill(saver, "a")
        self._assert_whole(another(), storage, "a")

    def test_keep_latest(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        for thread in ("a", "b", "c"):
            self._fill(saver, thread, ["", "child", "child|x"])
        before = [facts_of(saver.get_tuple(config_of("a", ns))) for ns in ("", "child", "child|x")]
        saver.prune(["a", "b", "nobody"])
        saver.prune([])
        for reader in (saver, another()):
            found = list(reader.list({"configurable": {"thread_id": "a"}}))
            assert sorted(map(repr, map(facts_of, found))) == sorted(map(repr, before))
            assert len(list(reader.list({"configurable": {"thread_id": "b"}}))) == 3
            assert len(list(reader.list({"configurable": {"thread_id": "c"}}))) == 15
        for thread in ("a", "b", "c"):
            self._assert_whole(another(), storage, thread)

    def test_goes_on_after_keep_latest(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        self._fill(saver, "a")
        elsewhere = another()
        assert values_of(elsewhere, config_of("a"))["n"] == 5  # warms its cache
        saver.prune(["a"])
        for number, writer in ((6, elsewhere), (7, saver), (8, another())):
            values = {"log": _history(number * 10), "n": number, "who": ["a", ""] * 9}
            put(writer, number, values, thread="a", parent=number - 1, changed=["log", "n"])
            for reader in (saver, elsewhere, another()):
                assert values_of(reader, config_of("a")) == values
        saver.prune(["a"])
        assert audit(storage, "a") == CLEAN

    def test_prune_delete(self, saver: Caller, storage: Storage) -> None:
        self._fill(saver, "a", ["", "child"])
        self._fill(saver, "b")
        saver.prune(["a", "nobody"], strategy="delete")
        assert list(saver.list({"configurable": {"thread_id": "a"}})) == []
        assert storage.chunks("a") == {}
        self._assert_whole(saver, storage, "b")

    def test_an_unknown_strategy_removes_nothing(self, saver: Caller) -> None:
        self._fill(saver, "a")
        with pytest.raises(InvalidInput, match="newest"):
            saver.prune(["a"], strategy="newest")
        assert len(list(saver.list(None))) == 5

    def test_delete_for_runs(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        for thread in ("a", "b"):
            self._fill(saver, thread, ["", "child"])
        put(saver, 9, {"log": _history(90)}, thread="c", run_id="run 1")
        put(saver, 9, {"log": _history(90)}, thread="d", run_id="another")
        put(saver, 9, {"log": _history(90)}, thread="e", other="run 1")
        saver.delete_for_runs([])
        saver.delete_for_runs(["nobody's"])
        saver.delete_for_runs(["run 1", "nobody's"])
        for reader in (saver, another()):
            left = [
                (one.config["configurable"]["thread_id"], one.metadata["step"])
                for one in reader.list(None)
            ]
            assert sorted(left) == sorted(
                [(t, n) for t in "ab" for n in (2, 4) for _ in range(2)] + [("d", 9), ("e", 9)]
            )
            assert reader.get_tuple(config_of("c")) is None
        for thread in ("a", "b"):
            self._assert_whole(another(), storage, thread)
        for thread in ("c", "d", "e"):
            assert audit(storage, thread) == CLEAN

    def test_copy_thread(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        self._fill(saver, "a", ["", "child"])
        saver.copy_thread("a", "b")
        saver.copy_thread("nobody", "c")
        assert saver.get_tuple(config_of("c")) is None
        for reader in (saver, another()):
            sides = [
                [
                    repr(facts_of(one)).replace(f"'{thread}'", "")
                    for one in reader.list({"configurable": {"thread_id": thread}})
                ]
                for thread in ("a", "b")
            ]
            assert len(sides[0]) == 10
            assert [s.replace("'a'", "") for s in sides[0]] == [
                s.replace("'a'", "") for s in sides[1]
            ]
        saver.delete_thread("a")
        self._assert_whole(another(), storage, "b")
        values = {"log": _history(60), "n": 6, "who": ["x"]}
        put(saver, 6, values, thread="b", parent=5)
        assert values_of(another(), config_of("b")) == values

    def test_copy_onto_an_existing_thread(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        self._fill(saver, "a")
        saver.copy_thread("a", "b")
        put(saver, 6, {"log": _history(60), "n": 6}, thread="b", parent=5)
        put(saver, 7, {"log": _history(70), "n": 7}, thread="a", parent=5)
        put(saver, 1, {"log": _history(3)}, thread="b", namespace="own")
        saver.copy_thread("a", "b")
        for reader in (saver, another()):
            assert numbers_of(list(reader.list(config_of("b")))) == [7, 6, 5, 4, 3, 2, 1]
            assert values_of(reader, config_of("b", id=checkpoint_id(6)))["n"] == 6
            assert values_of(reader, config_of("b", id=checkpoint_id(7)))["log"] == _history(70)
            assert values_of(reader, config_of("b", "own")) == {"log": _history(3)}
            writes = reader.get_tuple(config_of("b", id=checkpoint_id(5))).pending_writes
            assert [value for _, _, value in writes] == [[_text(-5)], 1]
        assert audit(storage, "b").dangling == set()
        saver.prune(["b"])
        assert audit(storage, "b") == CLEAN

    def test_copying_a_thread_onto_itself_is_refused_or_harmless(self, saver: Caller) -> None:
        self._fill(saver, "a")
        with suppress(InvalidInput):
            saver.copy_thread("a", "a")
        assert numbers_of(list(saver.list(config_of("a")))) == [5, 4, 3, 2, 1]

    # Graphs with delta channels

    @pytest.mark.parametrize("turns", [1, 2, 3, 4, 5])
    def test_keep_latest_keeps_what_delta_channels_need(
        self,
        saver: Caller,
        another: Callable[[], Caller],
        storage: Storage,
        calling: Calling,
        turns: int,
    ) -> None:
        config = config_of("thread")
        graph = calling(_delta_builder().compile(checkpointer=saver.target))
        for _ in range(turns):
            graph.invoke({"n": graph.get_state(config).values.get("n", 0)}, config)
        before = graph.get_state(config)
        assert before.values["log"] == _history(turns * 3)
        assert before.values["rare"] == [f"rare {n}" for n in range(turns * 3)]
        graph.invoke({"n": before.values["n"]}, config)
        expected = graph.get_state(config).values
        saver.prune(["thread"])
        assert audit(storage, "thread") == CLEAN
        for reader in (saver, another()):
            pruned = calling(_delta_builder().compile(checkpointer=reader.target))
            assert pruned.get_state(config).values == expected
        graph.invoke({"n": expected["n"]}, config)
        assert graph.get_state(config).values["log"] == _history(turns * 3 + 6)

    def test_a_copy_has_its_delta_channels(
        self, saver: Caller, another: Callable[[], Caller], calling: Calling
    ) -> None:
        graph = calling(_delta_builder().compile(checkpointer=saver.target))
        graph.invoke({"n": 1}, config_of("a"))
        graph.invoke({"n": 4}, config_of("a"))
        expected = graph.get_state(config_of("a")).values
        saver.copy_thread("a", "b")
        saver.delete_thread("a")
        for reader in (saver, another()):
            copied = calling(_delta_builder().compile(checkpointer=reader.target))
            assert copied.get_state(config_of("b")).values == expected
