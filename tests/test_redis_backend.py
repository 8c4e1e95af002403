"""What the Redis backend does beyond the contract, on a real Valkey server."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from benchmarks.ideal import ideal_of
from benchmarks.recording import record
from benchmarks.workloads import WORKLOADS
from tests.sqlite_rows import NOON, chunk, fetch, find, ids, put, row, write
from tests.valkey_server import ValkeyServer

from langcairn import CheckpointSaver
from langcairn.backends.base import (
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindExecutions,
    FindWrites,
    Remove,
)
from langcairn.backends.redis import RedisBackend, links, plans, table
from langcairn.backends.redis.keys import Keys
from langcairn.errors import CorruptData, InvalidInput, StaleEpoch, StoreMisconfigured
from langcairn.store import CheckpointStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

KEYS = Keys("langgraph:")
E_KEY = KEYS.execution("e")


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def backend(server: ValkeyServer, client: redis.Redis) -> Iterator[RedisBackend]:
    backend = RedisBackend(server.url)
    yield backend
    backend.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands were sent at a time."""
    sizes: list[int] = []
    send = links.Link.send

    def noting(link: links.Link, commands: Any) -> Any:
        sizes.append(len(commands))
        return send(link, commands)

    monkeypatch.setattr(links.Link, "send", noting)
    return sizes


# Round trips and cost


def test_a_commit_is_one_round_trip(backend: RedisBackend, sent: list[int]) -> None:
    epoch = put(backend, row("c1"))
    sent.clear()
    backend.execute(Commit("e", epoch, [chunk("a")], [row("c2")], [write("c2", "t", 0)]))
    assert sent == [2]
    sent.clear()
    backend.execute(Commit("e", epoch, [chunk("b")], (), [write("c2", "u", 0)]))
    assert sent == [1]


def test_reading_the_newest_is_one_round_trip(backend: RedisBackend, sent: list[int]) -> None:
    put(backend, row("c1"))
    find(backend, "e")  # from now on the server knows the script
    sent.clear()
    assert ids(find(backend, "e", "", limit=1)) == ["c1"]
    assert sent == [1]


def test_scripts_are_sent_to_a_server_that_lost_them(
    backend: RedisBackend, client: redis.Redis
) -> None:
    epoch = put(backend, row("c1"))
    client.script_flush()
    put(backend, row("c2"), epoch=epoch)
    client.script_flush()
    assert ids(find(backend, "e")) == ["c2", "c1"]


def test_a_put_costs_the_same_in_a_large_execution(
    backend: RedisBackend, client: redis.Redis
) -> None:
    def calls_of_a_put(number: int) -> int:
        before = calls(client)
        rows, chunks = [row(f"c{number:05}")], [chunk(f"new {number}")]
        backend.execute(Commit("e", epoch, chunks, rows, [write(rows[0].id, "t", 0)]))
        find(backend, "e", "", limit=1)
        fetch(backend, f"new {number}")
        return calls(client) - before

    epoch = put(backend, row("c00000"))
    calls_of_a_put(1)  # from now on the server knows the scripts
    small = calls_of_a_put(2)
    for start in range(1000, 6000, 1000):
        numbers = range(start, start + 1000)
        writes = [write(f"c{i:05}", "t", 0) for i in numbers]
        rows = [row(f"c{i:05}") for i in numbers]
        backend.execute(Commit("e", epoch, [chunk(f"{i}") for i in numbers], rows, writes))
    assert calls_of_a_put(9999) == small
    assert len(find(backend, "e")) == 5004


def calls(client: redis.Redis) -> int:
    """Count the commands that were executed, those inside scripts included."""
    stats: Any = client.info("commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if "info" not in name)


# Answers that are larger than one


def test_large_answers_come_in_parts(backend: RedisBackend, sent: list[int]) -> None:
    chunks = {ChunkId(f"k{i}"): bytes([i]) * 3_000_000 for i in range(8)}
    large = b'"' + b"x" * 3_000_000 + b'"'
    rows = [row(f"c{i}", state=large) for i in range(8)]
    epoch = put(backend)
    for i in range(8):
        backend.execute(Commit("e", epoch, [(ChunkId(f"k{i}"), bytes([i]) * 3_000_000)], [rows[i]]))
    sent.clear()
    assert backend.execute(FetchChunks("e", [*chunks, ChunkId("none")])) == chunks
    assert len(sent) == 3
    assert [one.row for one in find(backend, "e")] == rows[::-1]
    assert ids(find(backend, "e", limit=7)) == [f"c{i}" for i in range(7, 0, -1)]


def test_more_than_a_page(backend: RedisBackend) -> None:
    names = [f"c{i:04}" for i in range(1203)]
    writes = [write(name, "t", 0) for name in names]
    backend.execute(Commit("e", None, (), [row(name) for name in names], writes))
    put(backend, *[row(name, "other") for name in names[::2]])
    assert ids(find(backend, "e")) == names[::-1]
    assert ids(find(backend, "e", "", limit=701)) == names[:501:-1]
    assert ids(find(backend)) == sorted([*names, *names[::2]], reverse=True)
    assert ids(find(backend, limit=1300))[-1] == find(backend)[1299].row.id
    found: Any = backend.execute(FindWrites("e"))
    assert sorted(one.checkpoint_id for one in found) == names


def test_more_executions_than_a_page(backend: RedisBackend) -> None:
    names = sorted(f"e{i}" for i in range(1100))
    for name in names:
        put(backend, row("c", name))
    assert backend.execute(FindExecutions()) == names
    assert backend.execute(FindExecutions("e5", 7)) == names[names.index("e5") + 1 :][:7]
    assert len(find(backend, id="c")) == 1100
    assert [one.row.execution_id for one in find(backend, limit=3)] == names[:-4:-1]


def test_times_with_a_limit(backend: RedisBackend) -> None:
    rows = [row(f"c{i:04}", timestamp=NOON + timedelta(hours=i)) for i in range(1100)]
    put(backend, *rows)
    until = NOON + timedelta(hours=500)
    assert ids(find(backend, "e", "", until=until, limit=2)) == ["c0499", "c0498"]
    assert ids(find(backend, until=until, limit=2)) == ["c0499", "c0498"]
    since = NOON + timedelta(hours=1098)
    assert ids(find(backend, "e", since=since)) == ["c1099", "c1098"]


# Limits and damage


def test_too_large_for_redis(backend: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_LARGEST_VALUE", 1000)
    monkeypatch.setattr(plans, "_LARGEST_COMMIT", 2000)
    with pytest.raises(InvalidInput, match="1,001 bytes"):
        backend.execute(Commit("e", None, [(ChunkId("a"), b"x" * 1001)]))
    with pytest.raises(InvalidInput, match="at once"):
        backend.execute(Commit("e", None, [(ChunkId(f"{i}"), b"x" * 900) for i in range(3)]))
    assert backend.execute(FindExecutions()) == []


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_names_that_cannot_be_stored(backend: RedisBackend, bad: str) -> None:
    for request in (
        Commit(bad, None),
        Commit("e", None, (), [row(bad)]),
        Commit("e", None, [(ChunkId(bad), b"")]),
        Commit("e", None, (), (), [write("c", bad, 0)]),
        Remove("e", [(bad, "c")]),
        Clear(bad),
    ):
        with pytest.raises(InvalidInput):
            backend.execute(request)
    assert backend.execute(FindExecutions()) == []


@pytest.mark.parametrize(
    "value",
    [b"", b"\xff", b"\x90", b"\x93\xa1a\xa1b\xa1c", b"\x97\xc0\xc0\xc0\xc0\x01\xc0\xc0", b"\x01"],
)
@pytest.mark.parametrize("kind", ["n", "w"])
def test_damaged_members(
    backend: RedisBackend, client: redis.Redis, kind: str, value: bytes
) -> None:
    backend.execute(Commit("e", None, (), [row("c1")], [write("c1", "t", 0)]))
    name = table.name("", "c1") if kind == "n" else table.name("", "c1", "t", "0")
    (member,) = client.zrangebylex(E_KEY, *table.beginning_with(kind.encode() + name))
    client.zrem(E_KEY, member)
    client.zadd(E_KEY, {kind.encode() + name + value: 0})
    with pytest.raises(CorruptData, match="damaged"):
        find(backend, "e")


def test_a_lost_checkpoint_is_corrupt_not_missing(
    backend: RedisBackend, client: redis.Redis
) -> None:
    put(backend, row("c1"), row("c2"))
    client.zremrangebylex(E_KEY, *table.beginning_with(b"n" + table.name("", "c1")))
    with pytest.raises(CorruptData, match="lost"):
        find(backend, "e")
    with pytest.raises(CorruptData, match="lost"):
        find(backend, id="c1")


def test_keys_of_another_program(backend: RedisBackend, client: redis.Redis) -> None:
    client.set(E_KEY, "mine")
    with pytest.raises(StoreMisconfigured, match="another program"):
        put(backend, row("c1"))
    with pytest.raises(StoreMisconfigured, match="another program"):
        find(backend, "e")
    assert client.get(E_KEY) == b"mine"


# What is left behind


def test_nothing_is_left_of_what_was_cleared(backend: RedisBackend, client: redis.Redis) -> None:
    for name in ("e", "f:{}%", "g"):
        rows = [row(f"c{i}", name, namespace=ns) for i in range(5) for ns in ("", "n")]
        backend.execute(Commit(name, None, [chunk("a")], rows))
    backend.execute(Remove("e", [("", "c1"), ("n", "c1"), ("", "c2"), ("", "nothing")]))
    assert client.hkeys(KEYS.checkpoint("c1")) == [b"f:{}%", b"g"]
    assert client.hkeys(KEYS.checkpoint("c2")) == [b"e", b"f:{}%", b"g"]
    assert [one.row.namespace for one in find(backend, "e", id="c2")] == ["n"]
    for name in ("e", "f:{}%", "g"):
        assert backend.execute(Clear(name)) is True
    assert client.keys("*") == []


def test_an_execution_may_begin_anew(backend: RedisBackend) -> None:
    first = put(backend, row("c1"))
    backend.execute(Clear("e"))
    with pytest.raises(StaleEpoch):
        put(backend, row("c2"), epoch=first)
    second = put(backend, row("c3"))
    assert second != first
    assert ids(find(backend, "e")) == ["c3"]
    assert find(backend, id="c1") == find(backend, id="c2") == []
    assert backend.execute(FindExecutions()) == ["e"]


# Several stores on one server


@pytest.mark.parametrize("prefix", ["", "*", "a[b]?:", "\\", "langgraph:checkpoint:", "%3A", "ä:"])
def test_any_prefix(server: ValkeyServer, backend: RedisBackend, prefix: str) -> None:
    other = RedisBackend(server.url, prefix=prefix)
    try:
        put(backend, row("c1"), row("execution:{e}:checkpoints"))
        put(other, row("c1", state=b'"other"'))
        put(other, row("c2", "f"))
        assert ids(find(backend)) == ["execution:{e}:checkpoints", "c1"]
        assert [(one.row.id, one.row.state) for one in find(other, "e")] == [("c1", b'"other"')]
        assert other.execute(FindExecutions()) == ["e", "f"]
        assert other.execute(Clear("e")) is True
        assert ids(find(backend, id="c1")) == ["c1"]
        assert backend.execute(FindExecutions()) == ["e"]
    finally:
        other.close()


@pytest.mark.parametrize("prefix", ["{a}:", "a{", "}", "\0", "\ud800", None, b"a"])
def test_prefixes_that_are_refused(server: ValkeyServer, prefix: Any) -> None:
    with pytest.raises(InvalidInput, match="prefix"):
        RedisBackend(server.url, prefix=prefix)


# Whether the server may evict


def test_eviction_is_warned_of_once(
    server: ValkeyServer, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        backend = RedisBackend(server.url)
        for i in range(3):
            put(backend, row(f"c{i}"))
        backend.close()
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "allkeys-lru" in caplog.text
    caplog.clear()
    backend = RedisBackend(server.url)
    put(backend, row("c"))
    backend.close()
    assert not caplog.records


# Memory


def test_memory_of_a_conversation(
    server: ValkeyServer, backend: RedisBackend, client: redis.Redis
) -> None:
    """All keys together take at most three times the distinct content, compressed."""
    workload = replace(WORKLOADS["agent"], turns=40)
    saver = CheckpointSaver(CheckpointStore(backend))
    recording = record(workload, saver)
    for call in recording.calls:
        call.replay(saver)
    used: Any = sum(client.memory_usage(key, samples=0) for key in client.keys("*"))
    assert used < 3 * ideal_of(recording).one_by_one
