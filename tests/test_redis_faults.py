"""Faults: a server that dies, stalls, is full, is a replica, or loses what it was given."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from redis import exceptions
from tests.ports import HOST
from tests.proxy import Proxy
from tests.sqlite_rows import chunk, fetch, find, ids, put, row
from tests.valkey_server import PATIENCE, ValkeyServer, wait_until

from langcairn.backends.base import (
    AcquireLease,
    ChunkId,
    Clear,
    Commit,
    Expected,
    FindCheckpoints,
    FindExecutions,
    Remove,
    Sweep,
    Transaction,
)
from langcairn.backends.redis import RedisBackend, links
from langcairn.backends.redis.faults import translation
from langcairn.checkpoint import Checkpoint
from langcairn.errors import (
    CheckpointNotFound,
    InvalidInput,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)
from langcairn.store import CheckpointStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.base import Request


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(busy_reply_threshold="50") as server:
        yield server


@pytest.fixture
def backend(server: ValkeyServer) -> Iterator[RedisBackend]:
    server.ask("FLUSHALL")
    backend = RedisBackend(server.url)
    yield backend
    backend.close()


@pytest.fixture
def hasty(server: ValkeyServer) -> Iterator[RedisBackend]:
    """A backend that gives up soon."""
    server.ask("FLUSHALL")
    backend = RedisBackend(server.url, socket_timeout=0.1, socket_connect_timeout=0.1, deadline=0.2)
    yield backend
    backend.close()


def run_async(backend: RedisBackend, *requests: Any) -> list[Any]:
    """Make requests in an event loop of their own."""

    async def ask() -> list[Any]:
        return [await backend.aexecute(request) for request in requests]

    return asyncio.run(ask())


# Connections


def test_connections_that_are_killed(server: ValkeyServer, backend: RedisBackend) -> None:
    stop = threading.Event()

    def kill() -> None:
        with server.client() as client:
            while not stop.wait(0.01):
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def put_all(start: int) -> None:
        for i in range(start, start + 100):
            await backend.aexecute(Commit("e", None, [chunk(f"{i}")], [row(f"c{i}")]))
            assert await backend.aexecute(FindCheckpoints("e", "", f"c{i}"))

    with ThreadPoolExecutor(3) as pool:
        killing = pool.submit(kill)
        loop = pool.submit(lambda: asyncio.run(put_all(1000)))
        for i in range(200):
            put(backend, row(f"c{i}"))
            assert find(backend, "e", "", f"c{i}")
        loop.result(PATIENCE)
        stop.set()
        killing.result(PATIENCE)
    assert len(find(backend, "e")) == 300


def test_a_server_that_stalls(server: ValkeyServer, hasty: RedisBackend) -> None:
    put(hasty, row("c1"))
    run_async(hasty, FindExecutions())
    with server.frozen():
        for request in (FindCheckpoints("e"), Commit("e", None, (), [row("c2")]), Clear("e")):
            with pytest.raises(StoreUnavailable):
                hasty.execute(request)
            with pytest.raises(StoreUnavailable):
                run_async(hasty, request)
    assert {*ids(find(hasty, "e"))} <= {"c1", "c2"}  # a Clear may have arrived after all
    put(hasty, row("c3"))
    assert run_async(hasty, FindCheckpoints("e", limit=1))[0][0].row.id == "c3"


def test_a_server_that_comes_back_in_time(server: ValkeyServer) -> None:
    server.ask("FLUSHALL")
    backend = RedisBackend(server.url, socket_timeout=0.1, deadline=PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        with server.frozen():
            putting = pool.submit(put, backend, row("c1"))
            with pytest.raises(TimeoutError):
                putting.result(0.3)
        putting.result(PATIENCE)
    assert ids(find(backend, "e")) == ["c1"]
    backend.close()


@pytest.mark.parametrize("side", ["sync", "async"])
@pytest.mark.parametrize(
    ("request_", "left"),
    [
        (Commit("e", None, [chunk("a")], [row("c3")]), ["c3", "c2", "c1"]),
        (Remove("e", [("", "c1")]), ["c2"]),
        (Clear("e"), []),
        (
            Commit(
                "e",
                None,
                [chunk("a")],
                [row("c3")],
                removals=[("", "c1")],
                expected=[Expected("", "c3", None), Expected("", "c1", 1)],
            ),
            ["c3", "c2"],
        ),
        (
            Transaction(
                [Commit("e", None, (), [row("c2", version=5)], expected=[Expected("", "c2", 1)])]
            ),
            ["c2", "c1"],
        ),
        (AcquireLease("e", "owner", 0.001), ["c2", "c1"]),
    ],
    ids=["commit", "remove", "clear", "conditions", "transaction", "lease"],
)
def test_any_reply_may_be_lost(
    server: ValkeyServer, losing: Losing, side: str, request_: Request, left: list[str]
) -> None:
    """Whether it was done is not known; it is done again, and nothing is missed or left behind."""
    losses = 0
    while losing.lost == losses:
        server.ask("FLUSHALL")
        backend = RedisBackend(server.url)
        put(backend, row("c1"), row("c2"))
        losing.after, losses = losses, losses + 1
        if side == "sync":
            backend.execute(request_)
        else:
            run_async(backend, request_)
        losing.after = None
        assert ids(find(backend, "e")) == left
        for id in ("c1", "c2", "c3"):
            assert ids(find(backend, id=id)) == [id] * left.count(id)
            assert server.ask("EXISTS", f"langgraph:checkpoint:{id}") == left.count(id)
        assert backend.execute(FindExecutions()) == (["e"] if left else [])
        backend.close()
    assert losing.lost >= 2


class Losing:
    """Loses the reply to what is sent after so many others.

    Attributes:
        after: How many; None: nothing is lost.
        lost: How often something was lost.
    """

    def __init__(self) -> None:
        self.after: int | None = None
        self.lost = 0

    def now(self) -> None:
        if self.after is not None:
            self.after -= 1
            if self.after == -1:
                self.lost += 1
                raise exceptions.ConnectionError("the reply was lost")


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Losing:
    losing = Losing()
    send, asend = links.Link.send, links.AsyncLink.send

    def lossy(link: links.Link, commands: Any) -> Any:
        replies = send(link, commands)
        losing.now()
        return replies

    async def alossy(link: links.AsyncLink, commands: Any) -> Any:
        replies = await asend(link, commands)
        losing.now()
        return replies

    monkeypatch.setattr(links.Link, "send", lossy)
    monkeypatch.setattr(links.AsyncLink, "send", alossy)
    return losing


def test_links_that_are_cut_at_any_moment(server: ValkeyServer, backend: RedisBackend) -> None:
    with Proxy(server.port) as proxy, ThreadPoolExecutor(2) as pool:
        proxy.delay(0.001)
        far = RedisBackend(f"{HOST}:{proxy.port}", deadline=PATIENCE)

        async def put_all() -> None:
            for i in range(20):
                await far.aexecute(Commit("e", None, [chunk(f"{i}")], [row(f"a{i}")]))
                assert await far.aexecute(FindCheckpoints(id=f"a{i}"))

        def put_more() -> None:
            for i in range(20):
                put(far, row(f"s{i}"))
                assert find(far, id=f"s{i}")

        working = [pool.submit(lambda: asyncio.run(put_all())), pool.submit(put_more)]
        choose = random.Random(3)
        while not all(work.done() for work in working):
            threading.Event().wait(choose.uniform(0, 0.1))
            proxy.cut()
        for work in working:
            work.result(PATIENCE)
        far.close()
    assert len(find(backend, "e")) == 40


def test_a_server_that_refuses_for_a_while(server: ValkeyServer, backend: RedisBackend) -> None:
    put(backend, row("c1"))
    with Proxy(server.port) as proxy, ThreadPoolExecutor(1) as pool:
        address = f"{HOST}:{proxy.port}"
        far, hasty = RedisBackend(address, deadline=PATIENCE), RedisBackend(address, deadline=0)
        assert ids(find(hasty, "e")) == ["c1"]
        proxy.refuse()
        proxy.cut()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                find(hasty, "e")
        finding = pool.submit(find, far, "e")
        with pytest.raises(TimeoutError):
            finding.result(0.1)
        proxy.accept()
        assert ids(finding.result(PATIENCE)) == ["c1"]
        far.close()
        hasty.close()


# What survives a crash of the server


@pytest.mark.parametrize("wait_aof", [False, True])
def test_a_server_that_is_killed_under_load(wait_aof: bool) -> None:  # noqa: C901 -- one story
    fsync = "everysec" if wait_aof else "always"
    with ValkeyServer(appendonly="yes", appendfsync=fsync) as server:
        backend = RedisBackend(server.url, wait_aof=wait_aof, deadline=PATIENCE)
        acknowledged: list[tuple[str, str]] = []
        stop = threading.Event()

        def put_all(execution_id: str) -> None:
            epoch: Any = None
            for i in range(10_000):
                if stop.is_set():
                    return
                commit = Commit(execution_id, epoch, [chunk(f"{i}")], [row(f"c{i}", execution_id)])
                epoch = backend.execute(commit)
                acknowledged.append((execution_id, f"c{i}"))

        async def aput_all(execution_id: str) -> None:
            for i in range(10_000):
                if stop.is_set():
                    return
                commit = Commit(execution_id, None, [chunk(f"{i}")], [row(f"c{i}", execution_id)])
                await backend.aexecute(commit)
                acknowledged.append((execution_id, f"c{i}"))

        async def crowd() -> None:
            await asyncio.gather(*(aput_all(f"a{i}") for i in range(10)))

        with ThreadPoolExecutor(5) as pool:
            working = [pool.submit(put_all, f"s{i}") for i in range(4)]
            working.append(pool.submit(lambda: asyncio.run(crowd())))
            for _ in range(3):
                had = len(acknowledged)
                wait_until(lambda had=had: len(acknowledged) > had + 20)
                server.kill()
                server.start()
            had = len(acknowledged)
            wait_until(lambda: len(acknowledged) > had + 20)
            stop.set()
            for work in working:
                work.result(PATIENCE)
        for execution_id in {execution_id for execution_id, _ in acknowledged}:
            there = set(ids(find(backend, execution_id)))
            wanted = {id for e, id in acknowledged if e == execution_id}
            assert wanted <= there
        for execution_id, id in random.sample(acknowledged, 50):
            assert execution_id in [one.row.execution_id for one in find(backend, id=id)]
        known: Any = backend.execute(FindExecutions())
        assert set(known) == {execution_id for execution_id, _ in acknowledged}
        backend.close()


def test_waiting_for_the_disk(server: ValkeyServer) -> None:
    backend = RedisBackend(server.url, wait_aof=True, deadline=0)
    with pytest.raises(StoreMisconfigured, match="appendonly"):
        put(backend, row("c1"))
    backend.close()
    with ValkeyServer(appendonly="yes", appendfsync="no") as careless:
        backend = RedisBackend(careless.url, wait_aof=True, socket_timeout=1, deadline=0)
        commit = Commit("e", None, (), [row("c1")])
        with pytest.raises(StoreUnavailable, match="not on disk"):
            backend.execute(commit)
        with pytest.raises(StoreUnavailable, match="not on disk"):
            run_async(backend, commit)
        careless.ask("CONFIG", "SET", "appendfsync", "always")
        backend.execute(commit)
        run_async(backend, commit)
        assert ids(find(backend, "e")) == ["c1"]
        backend.close()


# Memory


def test_a_server_that_is_full(server: ValkeyServer, backend: RedisBackend) -> None:
    info: Any = server.ask("INFO", "memory")
    server.ask("CONFIG", "SET", "maxmemory", info["used_memory"] + 3_000_000)
    try:
        stored, epoch = _fill(backend)
        assert stored
        server.ask("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreFull, match="maxmemory"):
            run_async(backend, Commit("e", epoch, [chunk("more")], [row("more")]))
        assert ids(find(backend, "e")) == [f"c{i:03}" for i in range(stored - 1, -1, -1)]
        assert set(fetch(backend, "k0", "more")) == {"k0"}
        assert find(backend, id="more") == []
        # Room can be made although there is none.
        keys = [("", f"c{i:03}") for i in range(stored // 2)]
        newer: Any = backend.execute(Remove("e", keys))
        assert newer > epoch
        garbage = [ChunkId(f"k{i}") for i in range(stored // 2)]
        assert backend.execute(Sweep("e", newer, garbage)) is True
        server.ask("CONFIG", "SET", "maxmemory", info["used_memory"] + 3_000_000)
        put(backend, row("more"), epoch=newer)
        server.ask("CONFIG", "SET", "maxmemory", 1)
        assert backend.execute(Clear("e")) is True
    finally:
        server.ask("CONFIG", "SET", "maxmemory", 0)


def _fill(backend: RedisBackend) -> tuple[int, Any]:
    """Put until there is no more room. Returns how much there is, and the epoch."""
    epoch: Any = None
    for i in range(1000):
        data = random.randbytes(100_000)
        try:
            commit = Commit("e", epoch, [(ChunkId(f"k{i}"), data)], [row(f"c{i:03}")])
            epoch = backend.execute(commit)
        except StoreFull:
            return i, epoch
    raise AssertionError("there is still room")


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_evicts(server: ValkeyServer) -> None:
    """What it has evicted is gone as a whole; what it still has is as it was put."""
    server.ask("FLUSHALL")
    info: Any = server.ask("INFO", "memory")
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    server.ask("CONFIG", "SET", "maxmemory", info["used_memory"] + 2_000_000)
    try:
        states = {}
        with CheckpointStore(RedisBackend(server.url)) as store:
            for i in range(120):
                name = f"e{i % 20}"
                state = {"i": i, "text": random.randbytes(40_000).hex(), "list": ["a" * 200] * 50}
                states[f"c{i}"] = state
                store.save(Checkpoint(id=f"c{i}", execution_id=name, state=state))
        found = 0
        with CheckpointStore(RedisBackend(server.url)) as store:
            for i in range(120):
                try:
                    loaded = store.load(f"c{i}", execution_id=f"e{i % 20}")
                except CheckpointNotFound:
                    continue
                assert loaded.state == states[f"c{i}"]
                found += 1
        assert 0 < found < 120
    finally:
        server.ask("CONFIG", "SET", "maxmemory", 0)
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


# Replicas and busy servers


def test_a_replica_that_becomes_the_primary(server: ValkeyServer, backend: RedisBackend) -> None:
    put(backend, row("c1"))
    impatient = RedisBackend(server.url, deadline=0.1)
    server.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        assert ids(find(backend, "e")) == ["c1"]
        with pytest.raises(StoreUnavailable, match="replica"):
            put(impatient, row("c2"))
        with pytest.raises(StoreUnavailable, match="replica"):
            run_async(impatient, Commit("e", None, (), [row("c2")]))
        with ThreadPoolExecutor(2) as pool:
            putting = pool.submit(put, backend, row("c3"))
            aputting = pool.submit(run_async, backend, Commit("e", None, (), [row("c4")]))
            with pytest.raises(TimeoutError):
                putting.result(0.2)
            server.ask("REPLICAOF", "NO", "ONE")
            putting.result(PATIENCE)
            aputting.result(PATIENCE)
    finally:
        server.ask("REPLICAOF", "NO", "ONE")
        impatient.close()
    assert ids(find(backend, "e")) == ["c4", "c3", "c1"]


def test_a_server_that_is_busy(server: ValkeyServer, backend: RedisBackend) -> None:
    put(backend, row("c1"))

    def loop() -> None:
        with server.client(socket_timeout=None) as client, pytest.raises(exceptions.ResponseError):
            client.execute_command("EVAL", "while true do end", 0)

    with ThreadPoolExecutor(2) as pool:
        looping = pool.submit(loop)
        wait_until(lambda: _is_busy(server))
        putting = pool.submit(put, backend, row("c2"))
        with pytest.raises(TimeoutError):
            putting.result(0.2)
        server.ask("SCRIPT", "KILL")
        looping.result(PATIENCE)
        putting.result(PATIENCE)
    assert ids(find(backend, "e")) == ["c2", "c1"]


def _is_busy(server: ValkeyServer) -> bool:
    try:
        server.ask("PING")
    except exceptions.ResponseError as error:
        return "BUSY" in str(error)
    return False


# What servers and redis-py say


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.AuthenticationError("invalid username-password pair"), StoreMisconfigured),
        (exceptions.NoPermissionError("this user has no permissions"), StoreMisconfigured),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailable),
        (exceptions.MasterDownError("Link with MASTER is down"), StoreUnavailable),
        (exceptions.ClusterDownError("The cluster is down"), StoreUnavailable),
        (exceptions.TryAgainError("Multiple keys request during rehashing"), StoreUnavailable),
        (exceptions.MaxConnectionsError("Too many connections"), StoreUnavailable),
        (exceptions.RedisClusterException("Redis Cluster cannot be connected"), StoreUnavailable),
        (exceptions.SlotNotCoveredError("Slot 7 not covered by the cluster"), StoreUnavailable),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas"), StoreUnavailable),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file"), StoreUnavailable),
        (exceptions.ResponseError("unknown command 'WAITAOF'"), StoreMisconfigured),
        (exceptions.ResponseError("DB index is out of range"), StoreMisconfigured),
        (exceptions.ResponseError("Protocol error: invalid bulk length"), InvalidInput),
        (exceptions.DataError("Invalid input of type"), InvalidInput),
        (ConnectionResetError("reset"), StoreUnavailable),
        (exceptions.ResponseError("what nobody expects"), StoreError),
        # As Redis 6.2 reports what failed inside of a script.
        (exceptions.ResponseError(
            "Error running script (call to f_1): @user_script:25: -OOM command not allowed"
            " when used memory > 'maxmemory'."), StoreFull),
        (exceptions.ResponseError(
            "Error running script (call to f_1): @user_script:25: -READONLY You can't write"
            " against a read only replica."), StoreUnavailable),
        (exceptions.ResponseError(
            "Error running script (call to f_1): @user_script:25: -NOPERM this user has no"
            " permissions to run the 'zadd' command"), StoreMisconfigured),
    ],
)  # fmt: skip
def test_translations(error: Exception, kind: type[Exception]) -> None:
    translated = translation(error, "Redis h:1")
    assert type(translated) is kind
    assert translated.__cause__ is error
    assert str(translated).startswith("Redis h:1: ")
