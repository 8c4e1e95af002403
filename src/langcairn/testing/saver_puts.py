"""What a saver keeps of a put: checkpoints, pending writes, versions, ids."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langcairn.errors import InvalidInput, UnsafeType, Unserializable
from langcairn.forms import form
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.calling import Caller
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import config_of, facts_of, put, values_of
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.models import Address, Colour, Opaque, Person, Plan

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from langcairn.testing.storage import Storage

_LARGE = "x" * 3000
# Thread ids that may be mistaken for something else somewhere below.
_HOSTILE = (
    "../../x", "..", ".", "/", "/etc/passwd", "\\", "a:b", "a", "a:", ":b", "%", "%2F", "*", "?",
    "[a]", "{a}", "'", '"', "`", "'; DROP TABLE checkpoints; --", "a b", " a", "a ", "\n", "\t",
    "A", "🪨", "é", "e\u0301", "$cairn", "None", "7", "07", "7.0", "x" * 300,
    "x" * 500, "x" * 499 + "y", "-", "CON", "a\x7f", "\u202e", "\U0010ffff",
)  # fmt: skip


# What can't be saved, and the steps that lead to the culprit.
_UNSERIALIZABLE: dict[str, tuple[object, Sequence[str]]] = {
    "alone": (Opaque(), ()),
    "in a list": ([1, Opaque()], ("[1]",)),
    "deep": ({"k": [{"deep": Opaque()}], "pad": "x" * 1200}, ("['k']", "[0]", "['deep']")),
    "far": ([*range(300), Opaque()], ("[300]",)),
    "in a dataclass": (Plan("x", [Opaque()]), ("steps", "[0]")),  # type: ignore[list-item]  # on purpose
    "in a model": (Person.model_validate({"fullName": "a", "anything": Opaque()}), ("anything",)),
    "in a message": (
        AIMessage("a", additional_kwargs={"x": Opaque()}), ("additional_kwargs", "['x']"),
    ),
}  # fmt: skip


class SaverPuts(Fixtures):
    """Tests of put, put_writes and get_tuple."""

    def test_parts_of_a_checkpoint_come_back(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        reference = InMemorySaver()
        values = {"messages": [HumanMessage("a", id="1")], "n": 1, "none": None, "": "nameless"}
        for target in (saver, reference):
            put(target, 1, values, run_id="r", tags=["a", {"b": None}], writes={"n": Colour.RED})
            versions = {**dict.fromkeys(values, 1), "n": 2}
            put(target, 2, {**values, "n": 2.5}, parent=1, changed=["n"], versions=versions)
            target.put_writes(put(target, 3, {}, parent=2), [], "task")
            target.put_writes(put(target, 4, values, parent=3), [("n", _LARGE)], "task", "path")
        for number in (1, 2, 3, 4):
            config = config_of("thread", id=f"1f000000-0000-6000-8000-{number:012x}")
            expected = reference.get_tuple(config)
            assert expected is not None
            for reader in (saver, another()):
                found = reader.get_tuple(config)
                assert _without_time(facts_of(found)) == _without_time(facts_of(expected))

    def test_put_returns_the_config_that_finds_it(self, saver: Caller) -> None:
        config = put(saver, 1, {"a": 1}, namespace="child:x")
        assert config["configurable"]["checkpoint_ns"] == "child:x"
        assert saver.get_tuple(config).config == config
        latest = config_of("thread", "child:x")
        assert saver.get_tuple(latest).config == config
        assert latest == config_of("thread", "child:x")  # the caller's own, unchanged

    def test_what_is_not_there_is_none(self, saver: Caller) -> None:
        assert saver.get_tuple(config_of("nobody")) is None
        put(saver, 1, {})
        assert saver.get_tuple(config_of("thread", "other namespace")) is None
        assert saver.get_tuple(config_of("thread", id="no such checkpoint")) is None

    def test_a_config_without_thread_is_refused(self, saver: Caller) -> None:
        with pytest.raises(InvalidInput, match="thread"):
            saver.get_tuple({"configurable": {}})

    def test_values_changed_after_the_put_are_not_stored(self, saver: Caller) -> None:
        message, items = HumanMessage("before", id="1"), ["before", {"deep": ["before"]}]
        config = put(saver, 1, {"messages": [message], "items": items})
        message.content = "after"
        items[1]["deep"].append("after")  # type: ignore[index]  # a dict
        items.clear()
        assert values_of(saver, config) == {
            "messages": [HumanMessage("before", id="1")],
            "items": ["before", {"deep": ["before"]}],
        }

    def test_every_reader_gets_objects_of_its_own(self, saver: Caller) -> None:
        artifact = {"rows": ["r" * 200]}
        values = {
            "messages": [AIMessage("a" * 200, id="1", additional_kwargs=artifact)],
            "d": artifact,
        }
        config = put(saver, 1, values)
        for _ in range(3):
            found = values_of(saver, config)
            assert found == values
            found["messages"][0].content = "changed"
            found["messages"][0].additional_kwargs["rows"].append("changed")
            found["d"]["rows"].append("changed")
            found["messages"].append("changed")

    def test_a_change_in_place_is_a_change(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        message = AIMessage("first", id="1", additional_kwargs={"n": ["x" * 120]})
        messages = [HumanMessage("y" * 300, id="0"), message]
        put(saver, 1, {"messages": messages})
        message.content = "second"
        put(saver, 2, {"messages": messages}, parent=1)
        message.additional_kwargs["n"][0] = "z" * 120
        put(saver, 3, {"messages": messages}, parent=2)
        for reader in (saver, another()):
            last = [values_of(reader, config_of("thread", id=i))["messages"][1] for i in _ids(3)]
            assert [m.content for m in last] == ["first", "second", "second"]
            assert [m.additional_kwargs["n"][0][0] for m in last] == ["x", "x", "z"]

    def test_unchanged_channels_keep_what_they_had(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        big = [f"{i:>150}" for i in range(40)]
        put(saver, 1, {"big": big, "n": 1})
        put(saver, 2, {"big": big, "n": 2}, parent=1, changed=["n"])
        put(another(), 3, {"big": big, "n": 3}, parent=2, changed=["n"])  # knows no parent
        put(saver, 4, {"big": big, "n": 4}, parent=3, changed=["n"])  # not the head it knows
        put(saver, 5, {"big": big, "n": 5}, parent=1, changed=["n"])  # a fork
        for number, id in enumerate(_ids(5), start=1):
            for reader in (saver, another()):
                assert values_of(reader, config_of("thread", id=id)) == {"big": big, "n": number}

    def test_a_channel_may_vanish_and_return(self, saver: Caller) -> None:
        put(saver, 1, {"a": _LARGE, "b": 1})
        put(saver, 2, {"b": 1}, parent=1, changed=[])
        config = put(saver, 3, {"b": 1, "a": "new"}, parent=2, changed=["a"])
        assert values_of(saver, config_of("thread", id=_ids(2)[1])) == {"b": 1}
        assert values_of(saver, config) == {"a": "new", "b": 1}

    def test_a_checkpoint_put_again_is_replaced(self, saver: Caller) -> None:
        put(saver, 1, {"a": _LARGE}, note="first")
        saver.put_writes(config_of("thread", id=_ids(1)[0]), [("a", 1)], "task")
        config = put(saver, 1, {"a": ["second"]}, note="second")
        found = saver.get_tuple(config)
        assert found.checkpoint["channel_values"] == {"a": ["second"]}
        assert found.metadata["note"] == "second"
        assert len(list(saver.list(config_of("thread")))) == 1

    def test_a_child_inherits_from_the_parent_that_another_replaced(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        put(saver, 1, {"a": "old", "b": 1})
        put(another(), 1, {"a": "new", "b": 1})
        values = values_of(saver, config_of("thread"))
        assert values == {"a": "new", "b": 1}
        config = put(saver, 2, {**values, "b": 2}, parent=1, changed=["b"])
        assert values_of(saver, config) == {"a": "new", "b": 2}

    # Pending writes

    def test_writes_come_in_the_order_of_paths_tasks_and_places(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        config = put(saver, 1, {})
        for task, path in (
            ("z", ""),
            ("c", "~__pregel_pull, b"),
            ("b", "~__pregel_pull, c"),
            ("a", ""),
        ):
            saver.put_writes(config, [("x", f"{task}{i}") for i in range(12)], task, path)
        order = [f"{task}{i}" for task in "azcb" for i in range(12)]
        for reader in (saver, another()):
            found = reader.get_tuple(config)
            assert [value for _, _, value in found.pending_writes] == order

    def test_special_writes_replace_and_regular_ones_stay(self, saver: Caller) -> None:
        config = put(saver, 1, {})
        special = ["__error__", "__scheduled__", "__interrupt__", "__resume__"]
        for text in ("first" * 50, "second" * 50):
            saver.put_writes(config, [(channel, text) for channel in ("x", *special, "y")], "task")
        found = {channel: value for _, channel, value in saver.get_tuple(config).pending_writes}
        assert found == {
            "x": "first" * 50,
            "y": "first" * 50,
            **dict.fromkeys(special, "second" * 50),
        }

    def test_writes_equal_those_of_the_reference(self, saver: Caller) -> None:
        calls: list[tuple[list[tuple[str, Any]], str, str]] = [
            ([("x", 1), ("y", {"a": 1}), ("x", 2)], "t1", "p"),
            ([("x", 3), ("z", None)], "t1", "p"),
            ([("__resume__", [1])], "t1", "p"),
            ([("__resume__", [1, 2])], "t1", "p"),
            ([("__error__", ValueError("no"))], "t2", ""),
            ([("__no_writes__", None)], "t3", ""),
            ([("x", HumanMessage("hi", id="1")), ("x", [_LARGE])], "t0", "q"),
        ]
        reference = InMemorySaver()
        found: list[Any] = []
        savers: tuple[Any, ...] = (saver, reference)
        for target in savers:
            config = put(target, 1, {})
            for writes, task, path in calls:
                target.put_writes(config, writes, task, path)
            found.append(form(target.get_tuple(config).pending_writes))
        assert found[0] == found[1]

    def test_writes_may_come_before_their_checkpoint(self, saver: Caller) -> None:
        config = config_of("thread", id=_ids(1)[0])
        saver.put_writes(config, [("x", _LARGE)], "task")
        assert saver.get_tuple(config) is None
        put(saver, 1, {"a": 1})
        assert saver.get_tuple(config).pending_writes == [("task", "x", _LARGE)]

    # What can't be saved

    def test_what_cannot_be_saved_is_named_and_nothing_kept(
        self, saver: Caller, storage: Storage
    ) -> None:
        for thread, (value, steps) in _UNSERIALIZABLE.items():
            with case(thread):
                before = put(saver, 1, {"good": _LARGE}, thread=thread)
                chunks = storage.chunks(thread)
                bad = {"good": "y" * 3000, "bad": value}
                with pytest.raises(Unserializable) as caught:
                    put(saver, 2, bad, thread=thread, parent=1)
                _assert_named(caught.value, steps)
                with pytest.raises(Unserializable) as caught:
                    saver.put_writes(before, [("good", "z" * 3000), ("bad", value)], "task")
                _assert_named(caught.value, steps)
                assert storage.chunks(thread) == chunks
                found = saver.get_tuple(config_of(thread))
                assert found.config == before
                assert found.pending_writes == []
                after = put(saver, 2, {"good": "y" * 3000}, thread=thread, parent=1)
                assert values_of(saver, after) == {"good": "y" * 3000}

    def test_metadata_that_cannot_be_saved_is_named(self, saver: Caller) -> None:
        with pytest.raises(Unserializable, match=r"nested.*Opaque"):
            put(saver, 1, {}, nested=[{"a": Opaque()}])
        assert saver.get_tuple(config_of("thread")) is None

    # Ids

    def test_hostile_ids_are_told_apart(self, saver: Caller) -> None:
        kept = []
        for id in _HOSTILE:
            try:
                put(saver, 1, {"id": id}, thread=id, namespace=id)
            except InvalidInput:
                continue
            kept.append(id)
        assert {"../../x", "a:b", "%", "*", "/", "'", '"', "🪨", "x" * 300} <= set(kept)
        for id in kept:
            assert values_of(saver, config_of(id, id)) == {"id": id}
            assert [one.metadata["step"] for one in saver.list(config_of(id, id))] == [1]
        saver.delete_thread("a")
        saver.delete_thread("%")
        left = {one.checkpoint["channel_values"]["id"] for one in saver.list(None)}
        assert left == set(kept) - {"a", "%"}

    def test_impossible_ids_are_refused(self, saver: Caller) -> None:
        put(saver, 1, {}, thread="a")
        impossible: tuple[Any, ...] = (
            "", "a\0b", "\0", "a\ud800", "x" * 10_000, None, b"a", 1.5, ["a"],
        )  # fmt: skip
        for id in impossible:
            with case(id):
                with pytest.raises(InvalidInput):
                    put(saver, 1, {}, thread=id)
                with pytest.raises(InvalidInput):
                    saver.get_tuple(config_of(id))
                with pytest.raises(InvalidInput):
                    list(saver.list(config_of(id)))
                with pytest.raises(InvalidInput):
                    saver.delete_thread(id)
                assert len(list(saver.list(None))) == 1

    @pytest.mark.parametrize("id", [7, UUID("12345678-1234-5678-1234-567812345678")])
    def test_ints_and_uuids_stand_for_their_text(self, saver: Caller, id: object) -> None:
        config = put(saver, 1, {"a": 1}, thread=id)
        assert config["configurable"]["thread_id"] == id
        assert values_of(saver, config) == {"a": 1}
        assert values_of(saver, config_of(str(id))) == {"a": 1}
        assert len(list(saver.list(config_of(id)))) == 1
        saver.delete_thread(id)
        assert saver.get_tuple(config_of(str(id))) is None

    def test_hostile_channel_names(self, saver: Caller, another: Callable[[], Caller]) -> None:
        names = (*_HOSTILE, "", "$cairn", "a.b", "__pregel_tasks", "x" * 600, "a\0b")
        values = {name: [name, _LARGE] for name in names}
        config = put(saver, 1, values)
        for reader in (saver, another()):
            assert values_of(reader, config) == values
        saver.put_writes(config, [(name, name) for name in _HOSTILE], "🪨", "../*")
        assert {channel for _, channel, _ in saver.get_tuple(config).pending_writes} == set(
            _HOSTILE
        )

    def test_a_channel_name_of_no_valid_text_works_or_is_refused(self, saver: Caller) -> None:
        values = {"\ud800": 1}
        try:
            config = put(saver, 1, values)
        except InvalidInput:
            assert saver.get_tuple(config_of("thread")) is None
        else:
            assert values_of(saver, config) == values

    # Versions

    def test_versions_of_any_saver_go_on_rising(self, storage: Storage) -> None:
        saver = CheckpointSaver(storage.open())
        begins: tuple[Any, ...] = (
            None, 0, 7, 2**40, 0.0, 7.5, f"{1:032}.{0.5:016}", f"{99:032}.{0.123:016}",
        )  # fmt: skip
        for begun in begins:
            version, before = begun, []
            for _ in range(120):
                before.append(version)
                version = saver.get_next_version(version, None)
            before.append(version)
            rising = [v for v in before if v is not None]
            with case(begun):
                assert all(a < b for a, b in pairwise(rising))
                assert begun is None or all(type(v) is type(begun) for v in rising)

    # Allowlists

    def test_an_allowlist_limits_what_is_built(self, storage: Storage, calling: Calling) -> None:
        original = CheckpointSaver(storage.open())
        saver = calling(original)
        config = put(saver, 1, {"allowed": Address(street="x"), "plain": 1})
        other = put(saver, 2, {"refused": [Plan("x")]}, parent=1)
        limited = calling(original.with_allowlist([(Address.__module__, Address.__name__)]))
        assert values_of(limited, config) == {"allowed": Address(street="x"), "plain": 1}
        with pytest.raises(UnsafeType, match="Plan"):
            limited.get_tuple(other)
        assert values_of(saver, other) == {"refused": [Plan("x")]}
        put(limited, 3, {"allowed": Address(street="y")}, parent=2)
        assert values_of(saver, config_of("thread")) == {"allowed": Address(street="y")}
        limited.close()
        assert values_of(saver, config) == {"allowed": Address(street="x"), "plain": 1}


class SaverParity(Fixtures):
    """What one side writes, the other reads."""

    def test_both_sides_see_the_same(
        self, storage: Storage, calling: Calling, runner: asyncio.Runner
    ) -> None:
        target = CheckpointSaver(storage.open())
        writer = calling(target)
        is_sync = writer.put == target.put
        reader = Caller(target, runner if is_sync else None)
        config = put(writer, 1, {"a": [_LARGE], "m": [HumanMessage("x", id="1")]}, note="n")
        writer.put_writes(config, [("a", _LARGE)], "task", "path")
        put(writer, 2, {"a": [_LARGE, 2], "m": []}, parent=1)
        assert facts_of(reader.get_tuple(config)) == facts_of(writer.get_tuple(config))
        listed = [[facts_of(one) for one in side.list(None)] for side in (reader, writer)]
        assert listed[0] == listed[1]
        assert len(listed[0]) == 2
        assert [one.metadata["step"] for one in reader.list(None, filter={"note": "n"})] == [1]
        histories = [
            form(dict(side.get_delta_channel_history(config=config_of("thread"), channels=["a"])))
            for side in (reader, writer)
        ]
        assert histories[0] == histories[1]
        writer.copy_thread("thread", "copy")
        assert len(list(reader.list(config_of("copy")))) == 2
        writer.prune(["thread"])
        assert len(list(reader.list(config_of("thread")))) == 1
        writer.delete_for_runs(["none"])
        writer.delete_thread("thread")
        assert reader.get_tuple(config) is None


def _assert_named(error: Unserializable, steps: Sequence[str]) -> None:
    """Assert that an error says where the culprit is, and what."""
    assert "bad" in error.path
    position = 0
    for step in steps:
        position = error.path.index(step, position) + len(step)
    assert error.type_name.endswith("models.Opaque")
    assert all(part in str(error) for part in ("bad", "Opaque"))


def _ids(count: int) -> list[str]:
    return [f"1f000000-0000-6000-8000-{number:012x}" for number in range(1, count + 1)]


def _without_time(facts: Any) -> Any:
    return [part for part in facts if part[0] != ("str", "ts")]
