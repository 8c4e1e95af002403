"""The contract of `CheckpointStore`: records in, records out."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send
from typing_extensions import TypedDict

from langcairn.checkpoint import Checkpoint
from langcairn.errors import (
    AmbiguousCheckpoint,
    CheckpointNotFound,
    InvalidInput,
    StoreClosed,
    Unserializable,
)
from langcairn.forms import form
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import config_of, put, values_of
from langcairn.testing.dictionaries import DictionaryContract
from langcairn.testing.fixtures import Calling
from langcairn.testing.guards import GuardContract
from langcairn.testing.models import Opaque, Person, Plan
from langcairn.testing.secrets import SecretContract
from langcairn.testing.store_conditions import StoreConditions
from langcairn.testing.values import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.calling import Caller
    from langcairn.testing.fixtures import Calling
    from langcairn.testing.storage import Storage

_TIME = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


def record(id: str = "c1", **fields: Any) -> Checkpoint:
    """Return a record."""
    given: dict[str, Any] = {
        "execution_id": "run", "state": {"step": 1, "text": "x" * 300}, "timestamp": _TIME, **fields
    }  # fmt: skip
    return Checkpoint(id=id, **given)


class StoreContract(StoreConditions, GuardContract, SecretContract, DictionaryContract):
    """What every `CheckpointStore` does.

    Needs a fixture ``storage`` that yields a fresh `langcairn.testing.Storage`.
    """

    @pytest.fixture
    def store(self, storage: Storage, calling: Calling) -> Caller:
        """Return an empty store."""
        return calling(storage.open())

    @pytest.fixture
    def fresh(self, storage: Storage, calling: Calling) -> Callable[[], Caller]:
        """Return what opens further stores on the same data."""
        return lambda: calling(storage.open())

    # Records

    def test_every_field_comes_back(self, store: Caller, fresh: Callable[[], Caller]) -> None:
        saved = record(
            node_name="plan, act",
            metadata={"f": 1.5, "tags": ["a", {"b": None}], "user": "ada", "when": _TIME},
            version=7,
            namespace="child:x",
            parent_id="c0",
        )
        store.save(saved)
        for reader in (store, fresh()):
            found = reader.load("c1")
            metadata = dict(sorted(found.metadata.items()))  # a set of facts, in no order
            assert form(replace(found, metadata=metadata)) == form(saved)
            assert reader.list("run") == [saved]

    def test_a_new_record_has_an_id_and_a_time(self, store: Caller) -> None:
        first, second = (Checkpoint(execution_id="run", state={}) for _ in range(2))
        assert first.id < second.id
        store.save_many([second, first])
        assert [one.id for one in store.list("run")] == [second.id, first.id]
        assert store.load(first.id) == first
        assert first.timestamp.tzinfo is not None

    def test_times_are_kept_to_the_microsecond_in_utc(self, store: Caller) -> None:
        zone = timezone(timedelta(hours=5, minutes=30))
        for time in (
            _TIME,
            _TIME.astimezone(zone),
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ):
            store.save(record(timestamp=time))
            found = store.load("c1").timestamp
            assert found == time
            assert found.utcoffset() == timedelta(0)
        store.save(record(timestamp=_TIME.replace(tzinfo=None)))
        assert store.load("c1").timestamp == _TIME

    def test_states_of_any_type(self, store: Caller, fresh: Callable[[], Caller]) -> None:
        for name, make in SAMPLES.items():
            store.save(record(name, state=make()))
        reader = fresh()
        found = {name: form(reader.load(name).state) for name in SAMPLES}
        given = {name: form(make()) for name, make in SAMPLES.items()}
        # Tuples and rare kinds of keys change as they do in LangGraph's own serializer.
        assert {name for name in SAMPLES if found[name] != given[name]} <= {
            "tuple", "empty tuple", "date keys", "enum keys", "rich model", "tool with artifact",
        }  # fmt: skip

    def test_a_state_dict_keeps_its_order(self, store: Caller, fresh: Callable[[], Caller]) -> None:
        state = {"b": 1, "a": 2, "$cairn": 3, "": 4, "Z": 5}
        store.save(record(state=state))
        assert list(fresh().load("c1").state.items()) == list(state.items())

    def test_what_is_saved_again_is_replaced(
        self, store: Caller, fresh: Callable[[], Caller]
    ) -> None:
        store.save(record(state={"a": "x" * 300}, version=1))
        store.save(record(state={"a": "y" * 300}, version=2, metadata={"new": True}))
        for reader in (store, fresh()):
            (found,) = reader.list("run")
            assert (found.state, found.version) == ({"a": "y" * 300}, 2)

    def test_records_are_the_callers_own(self, store: Caller) -> None:
        saved = record(state={"log": ["x" * 200], "m": HumanMessage("y" * 200, id="1")})
        store.save(saved)
        saved.state["log"].append("changed")
        for _ in range(2):
            found = store.load("c1")
            assert found.state == {"log": ["x" * 200], "m": HumanMessage("y" * 200, id="1")}
            found.state["log"].append("changed")
            found.state["m"].content = "changed"
            found.metadata["changed"] = True

    def test_only_what_changed_is_stored(self, store: Caller, storage: Storage) -> None:
        log = [f"{i:>300}" for i in range(200)]
        store.save(record("c000", state={"log": log}))
        before = storage.chunks("run")
        for step in range(1, 6):
            log.append(f"new {step:>300}")
            store.save(record(f"c{step:03}", state={"log": list(log)}))
        after = storage.chunks("run")
        assert before.items() <= after.items()
        added = sum(len(after[id]) for id in after.keys() - before.keys())
        assert added < 5 * 3000
        assert store.load("c005").state == {"log": log}

    # Finding

    def test_list_is_newest_first(self, store: Caller, fresh: Callable[[], Caller]) -> None:
        ids = [f"c{i:03}" for i in range(100)]
        store.save_many([record(id, version=i) for i, id in enumerate(ids)])
        for reader in (store, fresh()):
            assert [one.id for one in reader.list("run")] == ids[::-1]
            assert [one.id for one in reader.list("run", limit=3)] == ids[:-4:-1]
            assert reader.list("run", limit=0) == []
            assert reader.list("nobody") == []

    def test_namespaces(self, store: Caller) -> None:
        for i, namespace in enumerate(("", "child", "child|x", "")):
            store.save(record(f"c{i}", namespace=namespace))
        assert [one.id for one in store.list("run")] == ["c3", "c2", "c1", "c0"]
        assert [one.id for one in store.list("run", namespace="")] == ["c3", "c0"]
        assert [one.id for one in store.list("run", namespace="child")] == ["c1"]

    def test_what_is_not_there(self, store: Caller) -> None:
        with pytest.raises(CheckpointNotFound, match="c1"):
            store.load("c1")
        store.save(record())
        with pytest.raises(CheckpointNotFound):
            store.load("c1", execution_id="other")
        with pytest.raises(CheckpointNotFound):
            store.load("c1", namespace="other")
        assert store.load("c1", execution_id="run", namespace="").id == "c1"
        assert not store.delete("c2")
        assert not store.delete("c1", execution_id="other")
        assert not store.clear("nobody")

    def test_an_id_in_several_places_is_ambiguous(self, store: Caller) -> None:
        for execution, namespace in (("run", ""), ("run", "child"), ("other", "")):
            place = {"execution_id": execution, "namespace": namespace}
            store.save(record(state=place, **place))
        for method in (store.load, store.delete):
            with pytest.raises(AmbiguousCheckpoint, match="run"):
                method("c1")
            with pytest.raises(AmbiguousCheckpoint):
                method("c1", execution_id="run")
        assert store.load("c1", execution_id="other").state["execution_id"] == "other"
        assert store.delete("c1", execution_id="run", namespace="child")
        assert store.load("c1", execution_id="run").state["namespace"] == ""

    def test_executions(self, store: Caller) -> None:
        names = [f"e{i:02}" for i in range(12)]
        store.save_many([record(execution_id=name) for name in reversed(names)])
        assert store.executions() == names
        assert store.executions(after="e03", limit=3) == names[4:7]
        assert store.executions(after="e11") == []
        store.clear("e05")
        assert "e05" not in store.executions()

    # Removing

    def test_delete(self, store: Caller, fresh: Callable[[], Caller], storage: Storage) -> None:
        for i in range(4):
            state = {"shared": "s" * 300, "own": f"{i}" * 300}
            store.save(record(f"c{i}", state=state))
        assert len(storage.chunks("run")) == 5
        assert store.delete("c1")
        assert not fresh().delete("c1")
        assert audit(storage, "run") == CLEAN
        assert len(storage.chunks("run")) == 4
        for reader in (store, fresh()):
            assert [one.id for one in reader.list("run")] == ["c3", "c2", "c0"]
            assert reader.load("c3").state == {"shared": "s" * 300, "own": "3" * 300}
        for id in ("c0", "c2", "c3"):
            store.delete(id)
        assert storage.chunks("run") == {}

    def test_clear(self, store: Caller, fresh: Callable[[], Caller], storage: Storage) -> None:
        store.save_many([record(f"c{i}", execution_id=run) for run in ("run", "b") for i in "12"])
        assert store.clear("run")
        assert not fresh().clear("run")
        assert storage.chunks("run") == {}
        assert len(fresh().list("b")) == 2
        store.save(record("c9"))
        assert [one.id for one in fresh().list("run")] == ["c9"]
        assert fresh().load("c9").state == record().state

    # Bad input

    def test_save_many_is_all_or_nothing(self, store: Caller, storage: Storage) -> None:
        bad = record("c2", state={"deep": [{"x": Opaque()}]})
        with pytest.raises(Unserializable) as caught:
            store.save_many([record("c1"), bad, record("c3")])
        assert "deep" in caught.value.path
        assert store.list("run") == []
        assert storage.chunks("run") == {}
        store.save_many([])
        store.save_many(iter([record("c1"), record("c3")]))
        assert len(store.list("run")) == 2

    def test_what_cannot_be_stored_is_refused(self, store: Caller) -> None:
        impossible: list[dict[str, Any]] = [
            {"execution_id": ""}, {"execution_id": "a\0"}, {"execution_id": "x" * 10_000},
            {"execution_id": "\ud800"}, {"execution_id": None}, {"id": ""}, {"id": "x" * 10_000},
            {"id": 5}, {"namespace": "a\0b"}, {"namespace": None}, {"node_name": "\ud800"},
            {"parent_id": ""}, {"version": "1"}, {"version": -1}, {"version": 2**31},
            {"version": True}, {"metadata": {"a\0": 1}}, {"metadata": {"x": Opaque()}},
            {"state": Opaque()}, {"state": {"a": 2**64}},
        ]  # fmt: skip
        for fields in impossible:
            with case(fields):
                with pytest.raises(InvalidInput):
                    store.save(replace(record(), **fields))
                assert store.executions() == []
        with pytest.raises(InvalidInput):
            store.save({"id": "c1"})

    def test_hostile_ids(self, store: Caller, fresh: Callable[[], Caller]) -> None:
        reader, remover = fresh(), fresh()
        for id in ("../../x", "a:b", "%", "*", "'", '"; DROP', "🪨", "x" * 300):
            with case(id):
                saved = record(id, execution_id=id, namespace=id, node_name=id, parent_id=id)
                store.save(saved)
                store.save(record("other", execution_id=f"{id[:-1]}!"))
                assert reader.load(id) == saved
                assert reader.list(id) == [saved]
                assert remover.clear(id)
                assert [one.id for one in reader.list(f"{id[:-1]}!")] == ["other"]

    # The saver's side

    def test_what_a_graph_saves_is_seen_as_records(self, store: Caller, calling: Calling) -> None:
        class State(TypedDict):
            messages: Annotated[list[AnyMessage], add_messages]
            plan: Plan

        builder = StateGraph(State)
        builder.add_node("plan", lambda _: {"plan": Plan("x", ["a"])})
        builder.add_node("left", lambda _: {"messages": [AIMessage("left", id="1")]})
        builder.add_node("right", lambda _: {"messages": [AIMessage("right", id="2")]})
        builder.add_node("sent", lambda _: {"messages": [AIMessage("sent", id="3")]})
        for edge in ((START, "plan"), ("plan", "left"), ("plan", "right"), ("sent", END)):
            builder.add_edge(*edge)
        builder.add_conditional_edges("right", lambda _: [Send("sent", {})], ["sent"])
        graph = calling(builder.compile(checkpointer=CheckpointSaver(store.target)))
        config = {**config_of("run"), "metadata": {"user": "ada"}}
        graph.invoke({"messages": [HumanMessage("hi", id="0")]}, config)
        records = store.list("run")
        assert [one.node_name for one in records] == [
            "sent", "left, right", "plan", "__start__", "__start__",
        ]  # fmt: skip
        assert [one.version for one in records] == [5, 4, 3, 2, 1]
        assert [one.parent_id for one in records] == [*(one.id for one in records[1:]), None]
        assert all(one.metadata["user"] == "ada" for one in records)
        assert [m.content for m in records[0].state["messages"]] == ["hi", "left", "right", "sent"]
        assert records[0].state["plan"] == Plan("x", ["a"])
        times = [one.timestamp for one in records]
        assert times == sorted(times, reverse=True)

    def test_a_record_saved_by_hand_is_read_by_the_saver(
        self, store: Caller, calling: Calling, storage: Storage
    ) -> None:
        store.save(record("c1", state={"n": 1, "log": ["x" * 300]}, metadata={"step": 4}))
        store.save(record("c2", state=[1, 2], parent_id="c1"))
        saver = calling(CheckpointSaver(storage.open()))
        found = saver.get_tuple(config_of("run", id="c1"))
        assert found.checkpoint["channel_values"] == {"n": 1, "log": ["x" * 300]}
        # With what a graph that continues from it looks for.
        assert found.metadata == {"source": "update", "step": 4, "parents": {}}
        assert found.checkpoint["channel_versions"].keys() == {"n", "log"}
        assert saver.get_tuple(config_of("run")).parent_config == config_of("run", id="c1")
        assert len(list(saver.list(config_of("run")))) == 2

    def test_saver_and_store_write_to_one_execution(
        self, store: Caller, calling: Calling, fresh: Callable[[], Caller]
    ) -> None:
        saver = calling(CheckpointSaver(store.target))
        put(saver, 1, {"a": "x" * 300, "b": 1}, thread="run")
        (first,) = store.list("run")
        store.save(replace(first, state={"a": "edited" * 60, "b": 1}))
        assert values_of(saver, config_of("run")) == {"a": "edited" * 60, "b": 1}
        put(saver, 2, {"a": "edited" * 60, "b": 2}, thread="run", parent=1, changed=["b"])
        for reader in (store, fresh()):
            assert [one.state for one in reader.list("run")] == [
                {"a": "edited" * 60, "b": 2},
                {"a": "edited" * 60, "b": 1},
            ]

    # Caches, closing

    @pytest.mark.parametrize("cache_bytes", [0, 1, 10_000])
    def test_a_small_cache_changes_nothing(
        self, storage: Storage, calling: Calling, cache_bytes: int
    ) -> None:
        store = calling(storage.open(cache_bytes=cache_bytes))
        log: list[Any] = []
        for i in range(30):
            log.append(AIMessage(f"{i}" * 200, id=f"{i}"))
            for run in ("run", "b"):
                store.save(record(f"c{i:03}", execution_id=run, state={"log": log}))
            assert store.load(f"c{i:03}", execution_id="run").state == {"log": log}
        assert [len(one.state["log"]) for one in store.list("b")] == list(range(30, 0, -1))

    def test_a_negative_cache_is_refused(self, storage: Storage) -> None:
        with pytest.raises(InvalidInput):
            storage.open(cache_bytes=-1)

    def test_what_was_saved_survives_closing(
        self, storage: Storage, store: Caller, fresh: Callable[[], Caller]
    ) -> None:
        if storage.url is None:
            pytest.skip("it is lost with its process")
        saved = record(state={"person": Person.model_validate({"fullName": "Ada"}), "t": "x" * 500})
        store.save(saved)
        storage.close()
        assert fresh().load("c1") == saved

    def test_a_closed_store_says_so(self, store: Caller) -> None:
        store.save(record())
        store.close()
        store.close()
        uses: tuple[Callable[[], Any], ...] = (
            lambda: store.save(record("c2")),
            lambda: store.load("c1"),
            lambda: store.list("run"),
            lambda: store.delete("c1"),
            lambda: store.clear("run"),
            store.executions,
        )
        for use in uses:
            with pytest.raises(StoreClosed):
                use()

    def test_stores_and_savers_are_context_managers(self, storage: Storage) -> None:
        with storage.open() as store:
            store.save(record())
        with pytest.raises(StoreClosed):
            store.load("c1")

    def test_stores_and_savers_are_async_context_managers(self, storage: Storage) -> None:
        async def inside() -> None:
            async with storage.open() as store, CheckpointSaver(store) as saver:
                await store.asave(record())
                assert await saver.aget_tuple(config_of("run")) is not None
            with pytest.raises(StoreClosed):
                await store.aload("c1")

        asyncio.run(inside())
