"""Many callers at once: threads, tasks, event loops, processes; group commit and cancellation."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.sqlite_rows import chunk, find, ids, put, row, write
from tests.valkey_server import PATIENCE, ValkeyCluster, ValkeyServer, wait_until

from langcairn.backends.base import Commit, FetchChunks, FindCheckpoints, FindExecutions, Remove
from langcairn.backends.redis import RedisBackend, links
from langcairn.errors import StaleEpoch, StoreClosed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def backend(server: ValkeyServer) -> Iterator[RedisBackend]:
    server.ask("FLUSHALL")
    backend = RedisBackend(server.url)
    yield backend
    backend.close()


# Group commit


def test_threads_share_pipelines_and_fail_alone(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = put(backend, row("c"))
    sizes: list[int] = []
    everyone_waits = threading.Event()
    send = links.Link.send

    def slow_once(link: links.Link, commands: Any) -> Any:
        sizes.append(len(commands))
        everyone_waits.wait(PATIENCE)
        return send(link, commands)

    monkeypatch.setattr(links.Link, "send", slow_once)
    with ThreadPoolExecutor(20) as pool:
        good = [pool.submit(put, backend, row(f"c{i}"), epoch=epoch) for i in range(10)]
        bad = [pool.submit(put, backend, row(f"d{i}"), epoch=epoch + 1) for i in range(10)]
        wait_until(lambda: backend.load().queued == 20)
        everyone_waits.set()
        assert {future.result(PATIENCE) for future in good} == {epoch}
        for future in bad:
            with pytest.raises(StaleEpoch):
                future.result(PATIENCE)
    assert len(sizes) == 2
    assert sizes[1] == 2 * 19  # a note and a commit of each
    assert ids(find(backend, "e")) == [*(f"c{i}" for i in range(9, -1, -1)), "c"]


def test_tasks_share_pipelines_and_fail_alone(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = put(backend, row("c"))
    sizes: list[int] = []
    send = links.AsyncLink.send

    async def noting(link: links.AsyncLink, commands: Any) -> Any:
        sizes.append(len(commands))
        return await send(link, commands)

    monkeypatch.setattr(links.AsyncLink, "send", noting)

    async def crowd() -> list[Any]:
        commits = [Commit("e", epoch + (i % 2), [chunk(f"{i}")], [row(f"c{i}")]) for i in range(50)]
        return await asyncio.gather(*map(backend.aexecute, commits), return_exceptions=True)

    answers = asyncio.run(crowd())
    assert answers[::2] == [epoch] * 25
    assert all(isinstance(answer, StaleEpoch) for answer in answers[1::2])
    assert len(sizes) <= 2
    assert len(find(backend, "e")) == 26


def test_threads_and_tasks_on_all_kinds_of_requests(backend: RedisBackend) -> None:
    def work(number: int) -> None:
        epoch: Any = None
        for i in range(30):
            rows = [row(f"c{number}-{i:02}")]
            try:
                epoch = put(backend, *rows, epoch=epoch)
            except StaleEpoch:
                epoch = put(backend, *rows)
            assert ids(find(backend, "e", "", rows[0].id)) == [rows[0].id]
            if i % 10 == 9:
                backend.execute(Remove("e", [("", f"c{number}-{i - 5:02}")]))

    async def awork(number: int) -> None:
        for i in range(30):
            name = f"a{number}-{i:02}"
            await backend.aexecute(
                Commit("e", None, [chunk(name)], [row(name)], [write(name, "t", 0)])
            )
            found: Any = await backend.aexecute(FindCheckpoints(id=name))
            assert [len(one.writes) for one in found] == [1]

    async def crowd() -> None:
        await asyncio.gather(*map(awork, range(10)))

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(6)]
        working += [pool.submit(lambda: asyncio.run(crowd())) for _ in range(2)]
        for future in working:
            future.result(PATIENCE)
    assert len(find(backend, "e")) == 6 * 27 + 300


# Cancellation


def test_cancelled_tasks_leave_nothing_half_done(server: ValkeyServer) -> None:
    server.ask("FLUSHALL")
    backend = RedisBackend(server.url, max_connections=3)
    choose = random.Random(1)

    async def one(i: int) -> None:
        name = f"e{i % 7}"
        await backend.aexecute(Commit(name, None, [chunk(f"{i}")], [row(f"c{i}", name)]))
        found: Any = await backend.aexecute(FindCheckpoints(name, "", f"c{i}"))
        assert ids(found) == [f"c{i}"]

    async def crowd() -> int:
        cancelled = 0
        for start in range(0, 400, 40):
            tasks = [asyncio.create_task(one(i)) for i in range(start, start + 40)]
            for _ in range(choose.randrange(40)):
                await asyncio.sleep(0)
            for task in choose.sample(tasks, 20):
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError)
                cancelled += result is not None
        # Every connection still answers what it is asked.
        for found in await asyncio.gather(
            *(backend.aexecute(FindCheckpoints(f"e{i}")) for i in range(7))
        ):
            for element in found:  # type: ignore[attr-defined]  # a list
                number = element.row.id.removeprefix("c")
                fetched: Any = await backend.aexecute(
                    FetchChunks(element.row.execution_id, [chunk(number)[0]])
                )
                assert fetched == dict([chunk(number)])
        return cancelled

    assert asyncio.run(crowd()) > 50
    gc.collect()
    backend.close()


def test_a_commit_that_is_not_sent_yet_is_never_sent(backend: RedisBackend) -> None:
    async def cancel() -> None:
        await backend.aexecute(FindExecutions())
        task = asyncio.create_task(backend.aexecute(Commit("e", None, (), [row("c1")])))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert backend.execute(FindExecutions()) == []


# Event loops, closing


def test_event_loops_one_after_another_and_at_once(backend: RedisBackend) -> None:
    async def use(i: int) -> list[str]:
        await backend.aexecute(Commit("e", None, (), [row(f"c{i}")]))
        found: Any = await backend.aexecute(FindCheckpoints("e", "", f"c{i}"))
        return ids(found)

    for i in range(5):
        assert asyncio.run(use(i)) == [f"c{i}"]
    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(lambda i: asyncio.run(use(i)), range(12))):
            assert found == [f"c{i}"]
    gc.collect()
    assert len(backend._sides) <= 12


def test_connections_are_closed(server: ValkeyServer) -> None:
    def connections() -> int:
        clients: Any = server.ask("CLIENT", "LIST")
        return len(clients)

    alone = connections()

    async def use(backend: RedisBackend, close: bool) -> None:
        await asyncio.gather(*(backend.aexecute(FindExecutions()) for _ in range(5)))
        if close:
            await backend.aclose()
            with pytest.raises(StoreClosed):
                await backend.aexecute(FindExecutions())
            await backend.aclose()

    for close in (True, False):
        backend = RedisBackend(server.url)
        backend.execute(FindExecutions())
        asyncio.run(use(backend, close))
        gc.collect()
        backend.close()
        backend.close()
        with pytest.raises(StoreClosed):
            backend.execute(FindExecutions())
        wait_until(lambda: connections() == alone)


def test_closing_while_a_loop_runs(server: ValkeyServer) -> None:
    backend = RedisBackend(server.url)
    used, closed = threading.Event(), threading.Event()

    async def use() -> None:
        await backend.aexecute(FindExecutions())
        used.set()
        await asyncio.to_thread(closed.wait, PATIENCE)
        with pytest.raises(StoreClosed):
            await backend.aexecute(FindExecutions())

    with ThreadPoolExecutor(1) as pool:
        using = pool.submit(lambda: asyncio.run(use()))
        assert used.wait(PATIENCE)
        backend.close()
        closed.set()
        using.result(PATIENCE)
    gc.collect()


def test_closing_inside_a_coroutine(server: ValkeyServer) -> None:
    async def use() -> None:
        backend = RedisBackend(server.url)
        await backend.aexecute(FindExecutions())
        backend.close()

    asyncio.run(use())
    gc.collect()


def test_closing_while_a_loop_stands_still(server: ValkeyServer) -> None:
    for runs_again in (True, False):
        with asyncio.Runner() as runner:
            backend = RedisBackend(server.url)
            runner.run(backend.aexecute(FindExecutions()))
            backend.close()
            del backend
            gc.collect()
            if runs_again:
                runner.run(asyncio.sleep(0))
    gc.collect()


def test_more_threads_than_connections(server: ValkeyServer) -> None:
    server.ask("FLUSHALL")
    backend = RedisBackend(server.url, max_connections=2)
    put(backend, row("c1"))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: ids(find(backend, "e")), range(200)))
    assert found == [["c1"]] * 200
    backend.close()


# Processes


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_process_may_go_on(backend: RedisBackend) -> None:
    put(backend, row("c1"))
    leading = backend._commits._leading
    with leading:  # as if another thread were just committing
        child = multiprocessing.get_context("fork").Process(target=_child, args=(backend,))
        child.start()
        child.join(PATIENCE)
    assert child.exitcode == 0
    put(backend, row("c3"))
    assert ids(find(backend, "e")) == ["c3", "c2", "c1"]
    child.close()


def _child(backend: RedisBackend) -> None:
    put(backend, row("c2"))
    assert ids(find(backend, "e")) == ["c2", "c1"]
    backend.close()


# A cluster that loses a node


def test_a_node_that_dies_stops_only_what_is_on_it() -> None:
    with ValkeyCluster(
        cluster_require_full_coverage="no", appendonly="yes", appendfsync="always"
    ) as cluster:
        backend = RedisBackend(cluster.url, deadline=0.2, socket_connect_timeout=0.5)
        for i in range(30):
            put(backend, row("c", f"e{i}"))
        dead = cluster.servers[1]
        with cluster.client() as client:
            keys = {f"e{i}": f"langgraph:execution:{{e{i}}}:checkpoints" for i in range(30)}
            lost = {e for e, k in keys.items() if client.get_node_from_key(k).port == dead.port}
        dead.kill()

        async def afind(execution_id: str) -> list[str]:
            found: Any = await backend.aexecute(FindCheckpoints(execution_id))
            return ids(found)

        for name in keys:
            if name in lost:
                with pytest.raises(StoreUnavailable):
                    find(backend, name)
            else:
                assert ids(find(backend, name)) == ["c"]
        assert asyncio.run(afind(min(keys.keys() - lost))) == ["c"]
        with pytest.raises(StoreUnavailable):
            asyncio.run(afind(min(lost)))
        dead.start()
        patient = RedisBackend(cluster.url, deadline=PATIENCE)
        assert [ids(find(patient, name)) for name in keys] == [["c"]] * 30
        put(patient, row("c1", min(lost)))
        patient.close()
        backend.close()
