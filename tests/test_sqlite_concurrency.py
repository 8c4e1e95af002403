"""The SQLite backend: threads, tasks and transactions at the same time, and the end of them."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, cast

import pytest
from tests.sqlite_rows import WAIT, chunk, fetch, find, ids, put, row, write

from langcairn.backends.base import (
    Clear,
    Commit,
    FindCheckpoints,
    FindExecutions,
    FoundCheckpoint,
    Remove,
)
from langcairn.backends.sqlite import SqliteBackend
from langcairn.errors import (
    InvalidInput,
    StaleEpoch,
    StoreClosed,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.backends.base import Request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(path)) as backend:
        yield backend


class TestManyAtOnce:
    def test_sixteen_threads(self, backend: SqliteBackend) -> None:
        def worker(thread: int) -> None:
            execution_id = f"t{thread % 4}"
            for n in range(30):
                put(backend, row(f"{thread:02}-{n:02}", execution_id))
                assert ids(find(backend, execution_id, id=f"{thread:02}-{n:02}"))

        with ThreadPoolExecutor(16) as pool:
            for future in [pool.submit(worker, thread) for thread in range(16)]:
                future.result(WAIT)
        assert len(find(backend)) == 16 * 30
        assert len({found.epoch for found in find(backend)}) == 4

    def test_one_of_a_batch_fails_alone(self, backend: SqliteBackend) -> None:
        epoch = put(backend, row("1"))
        requests: list[Request] = [
            Commit("e", epoch, [chunk("c")], [row("2")]),
            Commit("e", 1, [chunk("d")], [row("3")]),
            Commit("f", None, (), [row("1", "f"), row("2", "f", version=2**70)]),
            Commit("g", None, (), [row("1", "g", node_name=None)]),
            Clear("missing"),
            Remove("e", [("", "1")]),
            Commit("e", epoch, (), [row("4")]),
        ]
        answers = backend._write(requests)
        kinds = [answer if isinstance(answer, bool | int) else type(answer) for answer in answers]
        new = kinds[5]
        assert kinds == [epoch, StaleEpoch, InvalidInput, InvalidInput, False, new, StaleEpoch]
        assert ids(find(backend)) == ["2"]
        assert fetch(backend, "c", "d") == {"c": b"ccc"}
        assert backend.execute(FindExecutions()) == ["e"]

    def test_waiting_commits_share_a_transaction(self, backend: SqliteBackend) -> None:
        put(backend, row("0"))
        changes: list[str] = []
        with backend._writer_lock, ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(put, backend, row(str(n))) for n in range(1, 9)]
            deadline = time.monotonic() + WAIT
            while backend.load().queued < 8:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            assert backend._writer is not None
            backend._writer.set_trace_callback(changes.append)
            backend._writer_lock.release()
            try:
                assert len({future.result(WAIT) for future in futures}) == 1
            finally:
                backend._writer_lock.acquire()
        assert changes.count("COMMIT") <= 2
        assert len(find(backend)) == 9

    def test_a_reader_sees_one_state(self, backend: SqliteBackend) -> None:
        """Rows, writes and epoch belong together, while another thread changes all three."""
        stop = threading.Event()

        def writer() -> None:
            while not stop.is_set():
                rows, writes = [row("1"), row("2")], [write("1", "t", 0), write("2", "t", 0)]
                backend.execute(Commit("e", None, (), rows, writes))
                backend.execute(Clear("e"))

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(writer)
            try:
                for _ in range(300):
                    found = find(backend, "e")
                    assert len(found) in (0, 2)
                    assert [len(f.writes) for f in found] == [1] * len(found)
                    assert len({f.epoch for f in found}) <= 1
            finally:
                stop.set()
            future.result(WAIT)

    async def test_tasks(self, backend: SqliteBackend) -> None:
        async def task(n: int) -> None:
            await backend.aexecute(Commit(f"t{n}", None, (), [row("1", f"t{n}")]))
            found = await backend.aexecute(FindCheckpoints(f"t{n}"))
            assert ids(cast("list[FoundCheckpoint]", found)) == ["1"]

        async with asyncio.timeout(WAIT):
            await asyncio.gather(*(task(n) for n in range(50)))
        # A blocking call in the event loop's own thread, with others under way.
        under_way = asyncio.ensure_future(backend.aexecute(Commit("t0", None)))
        put(backend, row("2"))
        await under_way
        assert len(find(backend)) == 51

    async def test_errors_reach_tasks(self, backend: SqliteBackend) -> None:
        with pytest.raises(StaleEpoch):
            await backend.aexecute(Commit("e", 1))

    async def test_a_cancelled_task_leaves_nothing_half_done(self, backend: SqliteBackend) -> None:
        put(backend, row("0"))
        chance = random.Random(3)
        done = set()
        for n in range(1, 60):
            commit = Commit("e", None, [chunk(str(n))], [row(str(n))], [write(str(n), "t", 0)])
            task = asyncio.ensure_future(backend.aexecute(commit))
            await asyncio.sleep(chance.choice((0, 0, 0.0002, 0.0005)))
            task.cancel()
            if not isinstance(
                (await asyncio.gather(task, return_exceptions=True))[0], BaseException
            ):
                done.add(str(n))
        async with asyncio.timeout(WAIT):
            await backend.aexecute(Commit("f", None))  # behind all that have begun
        kept = {f.row.id for f in find(backend) if f.writes}
        assert done <= kept
        assert kept == {found.row.id for found in find(backend)} - {"0"}
        assert set(fetch(backend, *map(str, range(60)))) == kept
        assert not backend.load().queued

    async def test_a_task_cancelled_before_its_turn_commits_nothing(
        self, backend: SqliteBackend
    ) -> None:
        put(backend, row("0"))
        with backend._writer_lock:
            first = asyncio.ensure_future(backend.aexecute(Commit("e", None, (), [row("1")])))
            while not backend._commits._batch:  # noqa: ASYNC110 -- set by a thread
                await asyncio.sleep(0.001)
            second = asyncio.ensure_future(backend.aexecute(Commit("e", None, (), [row("2")])))
            await asyncio.sleep(0.01)
            for task in (first, second):
                task.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
        async with asyncio.timeout(WAIT):
            await backend.aexecute(Commit("f", None))
        assert ids(find(backend)) == ["1", "0"], "what had begun is complete, the other not there"


class TestClose:
    def test_closed_is_closed(self, backend: SqliteBackend, path: Path) -> None:
        put(backend, row("1"))
        find(backend)
        assert path.with_name("test.db-wal").exists()
        backend.close()
        backend.close()
        for request in (FindCheckpoints(), Commit("e", None), Clear("e"), FindExecutions()):
            with pytest.raises(StoreClosed):
                backend.execute(request)
        assert [file.name for file in path.parent.iterdir()] == ["test.db"], "the log is gone"

    async def test_aclose(self, backend: SqliteBackend) -> None:
        await backend.aexecute(Commit("e", None))
        await backend.aclose()
        await backend.aclose()
        for request in (FindCheckpoints(), Commit("e", None)):
            with pytest.raises(StoreClosed):
                await backend.aexecute(request)

    def test_within_a_commit_it_is_refused(
        self, backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a signal handler might attempt it; waiting for the commit would be for ever."""
        monkeypatch.setattr(backend, "_answer", lambda *_: backend.close())
        with pytest.raises(StoreUnavailable, match="of the same thread"):
            put(backend, row("1"))
        monkeypatch.undo()
        put(backend, row("1"))
        assert ids(find(backend)) == ["1"]

    def test_unused(self, path: Path) -> None:
        SqliteBackend(path).close()
        assert not path.exists()

    async def test_while_others_work(self, path: Path) -> None:
        """Each call is answered or refused; none hangs, and no connection stays open."""
        backend = SqliteBackend(path)
        answered = threading.Event()

        def worker(thread: int) -> int:
            for n in range(10_000):
                try:
                    put(backend, row(str(n), f"t{thread}"))
                    find(backend, f"t{thread}", "", limit=1)
                except StoreClosed:
                    return n
                answered.set()
            raise AssertionError("never closed")

        async def task() -> None:
            for _ in range(10_000):
                await backend.aexecute(Commit("task", None))
                await backend.aexecute(FindCheckpoints("task"))

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(worker, thread) for thread in range(4)]
            tasks = [asyncio.ensure_future(task()) for _ in range(4)]
            assert await asyncio.to_thread(answered.wait, WAIT)
            async with asyncio.timeout(WAIT):
                await backend.aclose()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    assert isinstance(outcome, StoreClosed)
            counts = [future.result(WAIT) for future in futures]
        assert not path.with_name("test.db-wal").exists()
        with closing(SqliteBackend(path)) as again:
            for thread, count in enumerate(counts):
                assert len(find(again, f"t{thread}")) >= count
