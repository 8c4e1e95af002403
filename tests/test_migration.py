"""`migrate` and `DualWriteSaver`: in, out, between, live, again, and from LangGraphGo."""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise, product
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import psycopg
import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from tests.flips import fill, loaded
from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

from langcairn import (
    CheckpointSaver,
    CorruptData,
    DualWriteSaver,
    InvalidInput,
    LangGraphGo,
    StoreMisconfigured,
    amigrate,
    migrate,
    open_store,
    verify,
)
from langcairn.forms import form
from langcairn.testing import MemoryStorage
from langcairn.testing.checkpoints import checkpoint_id, config_of, facts_of, put, values_of
from langcairn.testing.values import SMALL_SAMPLES
from langcairn.transfer.savers import equal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langgraph.graph.state import CompiledStateGraph


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    n: int


def graph_on(saver: BaseCheckpointSaver[Any]) -> CompiledStateGraph[Any]:
    """Compile a graph that answers, sends, and asks a person, with a subgraph in it."""
    inner = StateGraph(State)
    inner.add_node("think", lambda state: {"n": state["n"] + 1})
    inner.add_edge(START, "think")

    def ask(state: State) -> dict[str, Any]:
        answer = interrupt("go on?")
        return {"messages": [HumanMessage(f"answer {answer}", id=f"a{state['n']}")]}

    builder = StateGraph(State)
    builder.add_node("inner", inner.compile(checkpointer=True))
    builder.add_node("work", lambda state: {"messages": [HumanMessage("x" * 300, id=f"w{state}")]})
    builder.add_node("ask", ask)
    builder.add_edge(START, "inner")
    builder.add_conditional_edges("inner", lambda _: [Send("work", n) for n in range(3)], ["work"])
    builder.add_edge("work", "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


def converse(saver: BaseCheckpointSaver[Any], thread: str, *, turns: int = 2) -> None:
    """Run the graph until it waits for a person, some times."""
    graph = graph_on(saver)
    config: Any = {"configurable": {"thread_id": thread}}
    for turn in range(turns):
        given = {"messages": [HumanMessage(f"hello {turn}", id=f"h{turn}")], "n": turn}
        graph.invoke(given, config)
        if turn < turns - 1:
            graph.invoke(Command(resume=turn), config)


def facts(saver: BaseCheckpointSaver[Any]) -> list[str]:
    """Return all checkpoints of a saver, to be compared."""
    return sorted(repr(facts_of(one)) for one in saver.list(None))


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


class TestSavers:
    def test_in_and_out(self, tmp_path: Path) -> None:
        with SqliteSaver.from_conn_string(str(tmp_path / "old.db")) as old:
            for thread in ("one", "two"):
                converse(old, thread)
            expected = facts(old)
            with open_store(f"sqlite:///{tmp_path}/new.db", synchronous="OFF") as store:
                report = migrate(old, store)
                assert report.ok, report.findings
                assert report.checkpoints == report.compared == len(expected)
                assert report.writes == sum(len(one.pending_writes or ()) for one in old.list(None))
                assert (report.bytes_before or 0) > (report.bytes_after or 0) > 0
                moved = CheckpointSaver(store)
                assert facts(moved) == expected
                assert verify(store).ok
                for target in (InMemorySaver(), CheckpointSaver("memory:")):
                    assert migrate(store, target).ok
                    assert facts(target) == expected
                # The run goes on where it waited for a person.
                config: Any = {"configurable": {"thread_id": "one"}}
                answers = [
                    graph_on(saver).invoke(Command(resume="yes"), config) for saver in (old, moved)
                ]
                assert answers[0] == answers[1]
                assert len(answers[0]["messages"]) > 5
                assert {r.node_name for r in store.list("one", namespace="")} >= {"ask", "work"}

    def test_again(self) -> None:
        old, store = InMemorySaver(), open_store("memory:")
        converse(old, "one")
        first = migrate(old, store)
        again = migrate(old, store)
        assert (again.checkpoints, again.skipped) == (0, first.checkpoints)
        put(old, 1, {"n": 1}, thread="two")
        put(CheckpointSaver(store), 9, {"mine": 1}, thread="two")
        assert migrate(old, store).checkpoints == 1
        assert len(store.list("two")) == 2  # what else the target has stays
        put(old, 1, {"n": "another"}, thread="two")
        report = migrate(old, store, executions=["two"])
        assert (report.executions, report.checkpoints, report.ok) == (1, 1, True)
        back = CheckpointSaver(store).get_tuple(config_of("two", "", checkpoint_id(1)))
        assert back is not None
        assert back.checkpoint["channel_values"] == {"n": "another"}

    def test_postgres(self, postgres: PostgresServer) -> None:
        with PostgresSaver.from_conn_string(postgres.url()) as old:
            old.setup()
            converse(old, "one")
            expected = facts(old)
            store = open_store("memory:")
            report = migrate(old, store)
            assert report.ok, report.findings
            assert report.bytes_before
            assert facts(CheckpointSaver(store)) == expected
            old.delete_thread("one")
            assert migrate(store, old).ok
            assert facts(old) == expected

    async def test_savers_for_coroutines(self, tmp_path: Path, postgres: PostgresServer) -> None:
        source = InMemorySaver()
        converse(source, "one")
        expected = facts(source)
        async with (
            AsyncSqliteSaver.from_conn_string(str(tmp_path / "a.db")) as lite,
            AsyncPostgresSaver.from_conn_string(postgres.url()) as large,
        ):
            await large.setup()
            await large.adelete_thread("one")
            for target in (lite, large):
                report = await amigrate(source, target)
                assert report.ok, report.findings
                assert report.bytes_after
                store = open_store("memory:")
                assert (await amigrate(target, store)).ok
                # All that came by way of the target is equal to what the source has.
                again = await amigrate(source, store)
                assert (again.checkpoints, again.skipped) == (0, len(expected))
            with pytest.raises(InvalidInput, match="amigrate"):
                migrate(lite, store)
        with SqliteSaver.from_conn_string(str(tmp_path / "a.db")) as blocking:
            assert (await amigrate(blocking, open_store("memory:"))).ok

    def test_a_saver_of_another_make(self) -> None:
        class Other(BaseCheckpointSaver[str]):
            """Lists everything, and nothing else."""

            def list(self, config: Any, **options: Any) -> Iterator[CheckpointTuple]:
                yield from inner.list(config, **options)

        inner = InMemorySaver()
        converse(inner, "one")
        store = open_store("memory:")
        report = migrate(Other(), store)
        assert (report.ok, report.bytes_before) == (True, None)
        assert facts(CheckpointSaver(store)) == facts(inner)

    def test_what_cannot_be_stored_is_reported(self) -> None:
        class Unknown:
            pass

        old = InMemorySaver()
        for number in range(1, 4):
            put(old, number, {"n": number})

        class Odd(BaseCheckpointSaver[str]):
            """Gives back one value that nothing can serialize."""

            def list(self, config: Any, **options: Any) -> Iterator[CheckpointTuple]:
                for one in old.list(config, **options):
                    if one.checkpoint["channel_values"] == {"n": 2}:
                        one.checkpoint["channel_values"] = {"n": Unknown()}
                    yield one

        store = open_store("memory:")
        report = migrate(Odd(), store)
        assert (report.checkpoints, len(report.findings)) == (2, 1)
        assert "Unknown is not serializable" in str(report.findings[0])
        assert len(store.list("thread")) == 2

    def test_a_difference_is_found(self) -> None:
        old = InMemorySaver()
        put(old, 1, {"flag": True})

        class Careless(InMemorySaver):
            def put(self, config: Any, checkpoint: Any, *rest: Any) -> Any:
                values = {"flag": 1}  # equal, to ==
                changed: Any = {**checkpoint, "channel_values": values}
                return super().put(config, changed, *rest)

        report = migrate(old, Careless())
        assert "its channel_values differ at 'flag'" in str(report.findings[0])
        assert not report.ok

    def test_bad_arguments(self) -> None:
        store = open_store("memory:")
        with pytest.raises(InvalidInput, match="the same store"):
            migrate(store, CheckpointSaver(store))
        with pytest.raises(InvalidInput, match="not int"):
            migrate(1, store)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(InvalidInput, match="no store has the URL"):
            migrate("ftp://x", store)


def test_equality_is_that_of_forms() -> None:
    """The fast comparison says what the slow one does."""
    samples = [make() for make in SMALL_SAMPLES.values()]
    again = [make() for make in SMALL_SAMPLES.values()]
    for left, right in product(samples, again):
        assert equal(left, right) == (form(left) == form(right)), (left, right)


class TestStores:
    def test_between_backends(self, tmp_path: Path, postgres: PostgresServer) -> None:
        with ValkeyServer() as valkey, open_store(postgres.url(), schema="ours") as postgresql:
            sides: list[Any] = [
                f"sqlite:///{tmp_path}/a.db?synchronous=OFF",
                f"file://{tmp_path}/logs?fsync=false",
                postgresql,
                valkey.url,
            ]
            with open_store(f"sqlite:///{tmp_path}/a.db") as store:
                fill(store)
                expected = loaded(store)
            for source, target in pairwise(sides):
                report = migrate(source, target)
                assert (report.checkpoints, report.writes, report.compared) == (7, 6, 7)
                assert report.ok
                assert report.bytes_before
                again = migrate(source, target)
                assert (again.checkpoints, again.skipped, again.ok) == (0, 7, True)
            assert loaded(postgresql) == expected
            with open_store(valkey.url) as store:
                assert loaded(store) == expected

    def test_another_serializer(self) -> None:
        source = open_store("memory:")
        fill(source)
        expected = loaded(source)
        target = open_store("memory:", serde=EncryptedSerializer(_Xor()))
        report = migrate(source, target)
        assert report.ok, report.findings
        assert loaded(target) == expected
        assert target.load("r1") == source.load("r1")

    def test_damage_in_the_source(self) -> None:
        with MemoryStorage() as storage:
            store = storage.open()
            fill(store)
            id = min(storage.chunks("thread-a"))
            storage.drop_chunk("thread-a", id)
            target = open_store("memory:")
            report = migrate(storage.open(), target)
            assert {finding.execution_id for finding in report.findings} == {"thread-a"}
            assert verify(target).ok
            assert target.executions() == ["record", "thread-a", "thread-b"]


class _Xor:
    """A cipher that a test can do without a library for."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "xor", bytes(byte ^ 0x55 for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "xor"
        return self.encrypt(ciphertext)[1]


class TestLive:
    def test_a_graph_runs_on(self, tmp_path: Path) -> None:
        with SqliteSaver.from_conn_string(str(tmp_path / "old.db")) as old:
            store = open_store("memory:")
            new = CheckpointSaver(store)
            for number in range(4):
                converse(old, f"t{number}")
            dual = DualWriteSaver(old, new)
            errors: list[Exception] = []

            def work() -> None:
                try:
                    for number in range(6):
                        converse(dual, f"t{number}", turns=3)
                except Exception as error:  # noqa: BLE001 -- shown at the end
                    errors.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            reports = [migrate(old, new, on_moved=dual.mark_moved) for _ in range(3)]
            thread.join(60)
            assert not errors
            assert not dual.failed
            assert reports[0].checkpoints > 0
            final = migrate(old, new, on_moved=dual.mark_moved)
            assert final.ok, final.findings
            assert dual.moved == {f"t{number}" for number in range(6)}
            assert facts(new) == facts(old)
            config: Any = {"configurable": {"thread_id": "t5"}}
            assert graph_on(dual).invoke(Command(resume=1), config)["messages"]
            assert facts(new) == facts(old)

    @pytest.mark.parametrize("writes", [[("n", 5)], [("__resume__", 1), ("n", 5), ("m", [6])]])
    def test_a_write_that_was_moved_and_comes_again(self, writes: list[Any]) -> None:
        """As whoever writes to both does when `migrate` has just read the first of them."""
        old, new = InMemorySaver(), CheckpointSaver("memory:")
        put(old, 1, {"n": 1})
        config = config_of("thread", "", checkpoint_id(1))
        old.put_writes(config, writes, "t")
        assert migrate(old, new).ok
        new.put_writes(config, writes, "t")
        assert facts(new) == facts(old)

    def test_writes_that_differ_are_those_of_the_source_afterwards(self) -> None:
        old, new = InMemorySaver(), CheckpointSaver("memory:")
        put(old, 1, {"n": 1})
        put(old, 2, {"n": 2}, parent=1)
        config = config_of("thread", "", checkpoint_id(1))
        old.put_writes(config, [("n", 5)], "t")
        assert migrate(old, new).ok
        new.put_writes(config, [("a", 1), ("n", 5)], "t")  # numbered otherwise: stored twice
        new.put_writes(config, [("n", 7)], "u")  # of nobody
        assert facts(new) != facts(old)
        report = migrate(old, new)
        assert report.ok, report.findings
        assert (report.checkpoints, report.skipped) == (1, 1)
        assert facts(new) == facts(old)
        new.close()

    def test_a_write_that_comes_while_a_checkpoint_is_replaced_is_kept(self) -> None:
        new = CheckpointSaver("memory:")
        config = config_of("thread", "", checkpoint_id(1))

        class Busy(InMemorySaver):
            """Somebody writes to both savers just after it was listed for the first time."""

            listed = False

            def list(self, *args: Any, **options: Any) -> Any:
                found = list(super().list(*args, **options))
                if found and not self.listed:
                    self.listed = True
                    self.put_writes(config, [("n", 6)], "v")
                    new.put_writes(config, [("n", 6)], "v")
                yield from found

        old = Busy()
        put(old, 1, {"n": 1})
        old.put_writes(config, [("n", 5)], "t")
        put(new, 1, {"n": 1})  # without the write: a difference
        report = migrate(old, new)
        assert report.ok, report.findings
        assert facts(new) == facts(old)
        assert "6" in str(facts(new))
        new.close()

    async def test_an_error_of_the_new_saver(self, caplog: pytest.LogCaptureFixture) -> None:
        old, store = InMemorySaver(), open_store("memory:")
        told: list[str] = []
        dual = DualWriteSaver(
            old, CheckpointSaver(store), on_error=lambda thread, error: told.append(thread)
        )
        put(dual, 1, {"n": 1})
        dual.mark_moved("thread")
        assert dual.get_tuple(config_of("thread")) is not None
        store.close()
        put(dual, 2, {"n": 2}, parent=1)  # the run goes on
        dual.put_writes(config_of("thread", "", checkpoint_id(2)), [("n", 1)], "t")
        assert told == ["thread", "thread"]
        assert dual.failed == {"thread"}
        assert values_of(dual, config_of("thread")) == {"n": 2}  # from the old one again
        assert "was not written to the new saver" in caplog.text
        dual.mark_moved("thread")
        assert dual.moved == set()
        fresh = CheckpointSaver("memory:")
        dual.new = fresh
        dual.retry("thread")
        assert (await amigrate(old, fresh, on_moved=dual.mark_moved)).ok
        assert dual.moved == {"thread"}
        found = await dual.aget_tuple(config_of("thread"))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"n": 2}
        await dual.adelete_thread("thread")
        assert [
            await dual.aget_tuple(config_of("thread")),
            fresh.get_tuple(config_of("thread")),
        ] == [None, None]

    async def test_pruning(self) -> None:
        old, new = CheckpointSaver("memory:"), CheckpointSaver("memory:")
        dual = DualWriteSaver(old, new)
        for number in range(1, 6):
            put(dual, number, {"n": number}, parent=number - 1 or None)
        dual.prune(["thread"])
        assert [len(list(saver.list(None))) for saver in (old, new)] == [1, 1]
        await dual.aprune(["thread"], strategy="delete")
        assert [len(list(saver.list(None))) for saver in (old, new)] == [0, 0]

    def test_needs_two_savers(self) -> None:
        with pytest.raises(InvalidInput, match="expected a saver"):
            DualWriteSaver(InMemorySaver(), open_store("memory:"))  # type: ignore[arg-type]  # on purpose


_GO_ROWS = [
    (
        "cp-1", "exec-1", "plan", '{"n": 1, "deep": {"list": [1.5, null]}}',
        '{"execution_id": "exec-1"}', 1,
    ),
    ("cp-2", "exec-1", "act", '"only text"', None, 2),
    ("cp-3", "exec-2", "plan", '{"ünicode": "日本"}', "{}", 1),
]  # fmt: skip
_GO_TIMES = {
    "cp-1": ("2024-05-06 07:08:09.123456789+02:00", datetime(2024, 5, 6, 5, 8, 9, 123456, UTC)),
    "cp-2": (
        "2024-05-06 07:08:10.5 +0000 UTC m=+0.000012",
        datetime(2024, 5, 6, 7, 8, 10, 500000, UTC),
    ),
    "cp-3": ("2024-05-06T07:08:11Z", datetime(2024, 5, 6, 7, 8, 11, 0, UTC)),
}


class TestLangGraphGo:
    def _check(self, source: LangGraphGo) -> None:
        store = open_store("memory:")
        report = migrate(source, store)
        assert report.ok, report.findings
        assert (report.executions, report.checkpoints) == (2, 3)
        assert store.executions() == ["exec-1", "exec-2"]
        first = store.load("cp-1")
        assert first.state == {"n": 1, "deep": {"list": [1.5, None]}}
        assert (first.node_name, first.version) == ("plan", 1)
        assert first.metadata == {"execution_id": "exec-1"}
        assert [r.timestamp for r in store.list("exec-1")] == [
            _GO_TIMES["cp-2"][1], _GO_TIMES["cp-1"][1],
        ]  # fmt: skip
        assert store.load("cp-2").state == "only text"
        assert store.load("cp-3").state == {"ünicode": "日本"}
        assert migrate(source, store).skipped == 3
        assert migrate(source, store, executions=["exec-2"]).skipped == 1

    def test_sqlite(self, tmp_path: Path) -> None:
        path = tmp_path / "go #1.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TABLE trail (id TEXT PRIMARY KEY, execution_id TEXT NOT NULL, node_name"
                " TEXT NOT NULL, state TEXT NOT NULL, metadata TEXT, timestamp DATETIME NOT NULL,"
                " version INTEGER NOT NULL)"
            )
            connection.executemany(
                "INSERT INTO trail VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*row[:5], _GO_TIMES[row[0]][0], row[5]) for row in _GO_ROWS],
            )
        url = "sqlite:////" + str(path).lstrip("/").replace(" ", "%20").replace("#", "%23")
        self._check(LangGraphGo(url, table_name="trail"))
        with pytest.raises(StoreMisconfigured, match="no such table"):
            migrate(LangGraphGo(url), open_store("memory:"))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE trail SET state = '{' WHERE id = 'cp-2'")
        report = migrate(LangGraphGo(url, table_name="trail"), open_store("memory:"))
        assert "'cp-2' of execution 'exec-1'" in str(report.findings[0])
        assert report.executions == 2
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE trail SET state = '1', timestamp = 'noon'")
        with pytest.raises(CorruptData, match="timestamp 'noon'"):
            LangGraphGo(url, table_name="trail").records("exec-1")

    def test_postgresql(self, postgres: PostgresServer) -> None:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS go_checkpoints")
            connection.execute(
                "CREATE TABLE go_checkpoints (id TEXT PRIMARY KEY, execution_id TEXT NOT NULL,"
                " node_name TEXT NOT NULL, state JSONB NOT NULL, metadata JSONB, timestamp"
                " TIMESTAMPTZ NOT NULL, version INTEGER NOT NULL)"
            )
            for row in _GO_ROWS:
                connection.execute(
                    "INSERT INTO go_checkpoints VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (*row[:5], _GO_TIMES[row[0]][1], row[5]),
                )
        url = postgres.url()
        url += ("&" if "?" in url else "?") + "pool_max_conns=3"
        self._check(LangGraphGo(url, table_name="go_checkpoints"))

    def test_redis(self) -> None:
        with ValkeyServer() as valkey, valkey.client() as client:
            for id, execution, node, state, metadata, version in _GO_ROWS:
                fields = {
                    "id": id, "node_name": node, "state": json.loads(state),
                    "metadata": json.loads(metadata) if metadata else None,
                    "timestamp": _GO_TIMES[id][0], "version": version,
                }  # fmt: skip
                client.set(f"go:checkpoint:{id}", json.dumps(fields))
                client.sadd(f"go:execution:{execution}:checkpoints", id)
            client.sadd("go:execution:exec-1:checkpoints", "expired")
            self._check(LangGraphGo(valkey.url, prefix="go:"))

    def test_other_urls(self) -> None:
        with pytest.raises(InvalidInput, match="its file store keeps nothing"):
            LangGraphGo("file:///x")


def test_types_that_the_source_gives_as_plain_data_are_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_types.py").write_text(
        "from dataclasses import dataclass\nfrom pydantic import BaseModel\n\n"
        "@dataclass\nclass Order:\n    id: int\n\nclass Customer(BaseModel):\n    name: str\n"
    )
    source = InMemorySaver()
    with monkeypatch.context() as there:
        there.syspath_prepend(tmp_path)
        types = importlib.import_module("shop_types")
        for thread, value in (
            ("order", [types.Order(1)]),
            ("customer", {"deep": types.Customer(name="Ada")}),
            ("plain", [HumanMessage("hi", id="1")]),
        ):
            put(source, 1, {"a": value}, thread=thread)
        with open_store("memory:") as target:
            assert migrate(source, target).ok
    monkeypatch.delitem(sys.modules, "shop_types")
    importlib.invalidate_caches()

    serde = source.serde
    with open_store("memory:") as target:
        moved: list[str] = []
        report = migrate(source, target, on_moved=moved.append)
    found = {finding.execution_id: finding.what for finding in report.findings}
    assert sorted(found) == ["customer", "order"]
    assert "shop_types.Order" in found["order"]
    assert "shop_types.Customer" in found["customer"]
    assert moved == ["plain"]
    assert source.serde is serde
