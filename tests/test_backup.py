"""Backups: their round trips, increments, damage, full disks, and stores in use."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flips import THREADS, fill, flipped, loaded, newest, offsets
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage
from tests.redis_storage import RedisStorage
from tests.valkey_server import ValkeyServer

from langcairn import (
    AlreadyThere,
    CairnError,
    CheckpointSaver,
    CorruptData,
    InvalidInput,
    StoreFull,
    StoreMisconfigured,
    abackup,
    arestore,
    backup,
    open_store,
    progress_bar,
    restore,
    verify,
)
from langcairn.testing import MemoryStorage
from langcairn.testing.checkpoints import checkpoint_id, config_of, put, values_of
from langcairn.transfer import backup_format
from langcairn.transfer.backup_files import BackupFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn import CheckpointStore, Progress


@pytest.fixture
def store() -> CheckpointStore:
    store = open_store("memory:")
    fill(store)
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backup.cairn"


def everything(store: CheckpointStore) -> Any:
    return loaded(store), newest(store), store.executions()


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


class TestRoundTrips:
    def test_from_each_backend_to_the_next(
        self, store: CheckpointStore, tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
    ) -> None:
        expected = everything(store)
        with (
            valkey.client() as client,
            RedisStorage(valkey.url, client) as redis,
            PostgresStorage(postgres.url()) as postgresql,
            open_store(f"sqlite:///{tmp_path}/a.db", synchronous="OFF") as sqlite,
            open_store(f"file://{tmp_path}/logs", fsync=False) as files,
        ):
            stores = [store, sqlite, postgresql.open(), redis.open(), files, open_store("memory:")]
            for number, (source, target) in enumerate(pairwise(stores)):
                place = tmp_path / f"{number}.cairn"
                report = backup(source, place)
                assert (report.executions, report.checkpoints, report.writes) == (3, 7, 6)
                assert (report.size, report.ok) == (place.stat().st_size, True)
                back = restore(place, target)
                assert (back.executions, back.checkpoints, back.writes) == (3, 7, 6)
                assert back.ok
                assert everything(target) == expected
                assert verify(target).ok

    async def test_async(self, store: CheckpointStore, path: Path, tmp_path: Path) -> None:
        expected = everything(store)
        report = await abackup(store, path)
        assert report.executions == 3
        async with open_store(f"sqlite:///{tmp_path}/b.db", synchronous="OFF") as target:
            assert (await arestore(path, target)).ok
            assert everything(target) == expected

    def test_some_executions(self, store: CheckpointStore, path: Path) -> None:
        backup(store, path)
        target = open_store("memory:")
        assert restore(path, target, executions=["thread-b"]).executions == 1
        assert target.executions() == ["thread-b"]
        assert backup(store, path, executions=["record", "thread-a"]).executions == 2
        other = open_store("memory:")
        restore(path, other)
        assert other.executions() == ["record", "thread-a"]
        with pytest.raises(InvalidInput, match="has no execution 'thread-b'"):
            restore(path, other, executions=["thread-b"], existing="skip")
        with pytest.raises(InvalidInput, match="list of execution ids"):
            backup(store, path, executions="thread-a")

    def test_progress(self, store: CheckpointStore, path: Path) -> None:
        seen: list[Progress] = []
        backup(store, path, progress=seen.append)
        assert [(p.execution_id, p.done, p.total) for p in seen] == [
            ("record", 1, 3), ("thread-a", 2, 3), ("thread-b", 3, 3),
        ]  # fmt: skip
        assert [p.checkpoints for p in seen] == [1, 4, 7]
        seen.clear()
        restore(path, open_store("memory:"), progress=seen.append)
        assert [(p.done, p.total, p.checkpoints) for p in seen] == [(1, 3, 1), (2, 3, 4), (3, 3, 7)]

    def test_progress_bar(
        self, store: CheckpointStore, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with progress_bar("Monday") as show:
            backup(store, path, progress=show)
        printed = capsys.readouterr().out
        assert "Monday" in printed
        assert "3/3" in printed
        assert "7 checkpoints" in printed

    def test_many_executions(self, path: Path) -> None:
        store = open_store("memory:")
        saver = CheckpointSaver(store)
        for number in range(2500):  # three pages of the index
            put(saver, 1, {"n": number}, thread=f"t{number:05}")
        assert backup(store, path).executions == 2500
        target = open_store("memory:")
        assert restore(path, target, executions=["t01000", "t02499"]).executions == 2
        assert restore(path, target, existing="skip").skipped == 2
        assert len(target.executions()) == 2500
        assert values_of(CheckpointSaver(target), config_of("t01999")) == {"n": 1999}

    @settings(max_examples=15)
    @given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4), data=st.data())
    def test_any_history(self, sizes: list[int], data: st.DataObject) -> None:
        store = open_store("memory:")
        saver = CheckpointSaver(store)
        for thread, size in enumerate(sizes):
            for number in range(1, size):
                length = data.draw(st.integers(0, 3000))
                put(saver, number, {"a": ["x" * length, number] * number}, thread=f"t{thread}")
        with MemoryStorage() as storage:
            target = storage.open()
            place = Path(os.environ.get("TMPDIR", "/tmp")) / f"langcairn-{os.getpid()}.cairn"
            try:
                backup(store, place)
                restore(place, target)
            finally:
                place.unlink(missing_ok=True)
            assert list(CheckpointSaver(target).list(None)) == list(saver.list(None))


class TestExisting:
    def test_refused_before_anything_is_written(self, store: CheckpointStore, path: Path) -> None:
        backup(store, path)
        target = open_store("memory:")
        put(CheckpointSaver(target), 1, {"mine": 1}, thread="thread-b")
        with pytest.raises(AlreadyThere, match="'thread-b'"):
            restore(path, target)
        assert target.executions() == ["thread-b"]
        with pytest.raises(InvalidInput, match="refuse, skip, replace"):
            restore(path, target, existing="merge")  # type: ignore[arg-type]  # on purpose

    def test_skipped(self, store: CheckpointStore, path: Path) -> None:
        backup(store, path)
        target = open_store("memory:")
        put(CheckpointSaver(target), 1, {"mine": 1}, thread="thread-b")
        report = restore(path, target, existing="skip")
        assert (report.executions, report.skipped) == (2, 1)
        assert values_of(CheckpointSaver(target), config_of("thread-b")) == {"mine": 1}

    def test_replaced(self, store: CheckpointStore, path: Path) -> None:
        expected = everything(store)
        backup(store, path)
        saver = CheckpointSaver(store)
        for thread in THREADS:
            put(saver, 9, {"later": ["x" * 200] * 20}, thread=thread)
            saver.put_writes(config_of(thread, "", checkpoint_id(2)), [("n", 8)], "t")
            put(saver, 1, {"n": "another"}, thread=thread)
        assert everything(store) != expected
        assert restore(path, store, existing="replace").ok
        assert everything(store) == expected
        report = verify(store)
        assert (report.ok, report.garbage) == (True, 0)


class TestIncrements:
    def test_only_what_changed(self, store: CheckpointStore, tmp_path: Path) -> None:
        base, second, third = (tmp_path / f"{n}.cairn" for n in (1, 2, 3))
        backup(store, base)
        saver = CheckpointSaver(store)
        saver.put_writes(config_of("thread-a", "", checkpoint_id(1)), [("n", 8)], "t")
        store.clear("record")
        report = backup(store, second, since=base)
        assert (report.executions, report.unchanged, report.gone) == (2, 1, 1)
        assert report.chunks == 0  # only a row is new
        put(saver, 4, {"log": [f"thread-b {i:>110}" for i in range(40)]}, thread="thread-b")
        put(saver, 1, {"n": 1}, thread="new")
        report = backup(store, third, since=second)
        assert (report.executions, report.unchanged, report.gone) == (3, 1, 0)
        expected = everything(store)
        target = open_store("memory:")
        assert restore(third, target).ok
        assert everything(target) == expected
        assert verify(target).ok
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for file in (base, second):
            file.rename(elsewhere / file.name)
        with pytest.raises(InvalidInput, match=r"builds on the backup '2.cairn', which is not"):
            restore(third, open_store("memory:"))
        with pytest.raises(InvalidInput, match="not among the given ones"):
            restore(third, open_store("memory:"), parents=[elsewhere / "1.cairn"])
        target = open_store("memory:")
        restore(third, target, parents=[elsewhere / "1.cairn", elsewhere / "2.cairn"])
        assert everything(target) == expected
        backup(store, second)
        with pytest.raises(InvalidInput, match="another one"):
            restore(third, open_store("memory:"))

    def test_an_execution_that_was_begun_anew(self, store: CheckpointStore, tmp_path: Path) -> None:
        base, second = (tmp_path / f"{n}.cairn" for n in (1, 2))
        backup(store, base)
        store.clear("thread-a")
        put(CheckpointSaver(store), 7, {"n": ["y" * 300]}, thread="thread-a")
        assert backup(store, second, since=base).unchanged == 2
        target = open_store("memory:")
        restore(second, target)
        assert values_of(CheckpointSaver(target), config_of("thread-a")) == {"n": ["y" * 300]}
        assert len(target.list("thread-a")) == 1
        assert verify(target).garbage == 0

    def test_bad_arguments(self, store: CheckpointStore, path: Path) -> None:
        backup(store, path)
        with pytest.raises(InvalidInput, match="can't take the place"):
            backup(store, path, since=path)
        with pytest.raises(InvalidInput, match="don't go together"):
            backup(store, path.with_name("b"), since=path, executions=["thread-a"])
        with pytest.raises(StoreMisconfigured, match="No such file"):
            backup(store, path.with_name("b"), since=path.with_name("c"))


class TestDamage:
    def test_any_byte(self, store: CheckpointStore, path: Path, tmp_path: Path) -> None:
        expected = everything(store)[0]
        backup(store, path)
        data = path.read_bytes()
        for offset in offsets(len(data), 250):
            path.write_bytes(flipped(data, offset))
            target = open_store("memory:")
            try:
                report = restore(path, target)
            except CairnError:
                assert offset < 100  # only at the beginning; all else is reported
                continue
            assert not report.ok, f"byte {offset} was not noticed"
            got = loaded(target)
            assert len({key[0] for key in expected.keys() - got.keys()}) <= 1, offset
            for key, (facts, writes) in got.items():
                assert facts == expected[key][0], f"byte {offset}: another state of {key}"
                assert set(writes) <= set(expected[key][1])
            assert verify(target).ok

    def test_cut_off(self, store: CheckpointStore, path: Path) -> None:
        backup(store, path)
        data = path.read_bytes()
        whole = 0
        for size in offsets(len(data), 60):
            path.write_bytes(data[:size])
            try:
                report = restore(path, open_store("memory:"))
            except CairnError:
                pass
            else:
                assert (report.executions, report.ok) == (3, False)  # only the trailer is lost
            target = open_store("memory:")
            try:
                whole = max(whole, restore(path, target, salvage=True).executions)
            except CairnError:
                assert size < 150
            assert verify(target).ok
        path.write_bytes(data[: len(data) * 9 // 10])
        with pytest.raises(CorruptData, match="cut off"):
            restore(path, open_store("memory:"))
        assert whole >= 2

    def test_newer_version_and_other_files(self, store: CheckpointStore, path: Path) -> None:
        backup(store, path)
        data = path.read_bytes()
        old = backup_format.VERSION
        try:
            backup_format.VERSION = 2
            later = backup_format.pack_prefix(b"\0" * 16)
        finally:
            backup_format.VERSION = old
        path.write_bytes(later + data[len(later) :])
        with pytest.raises(StoreMisconfigured, match=r"version 2.*update langcairn"):
            restore(path, open_store("memory:"))
        path.write_bytes(b"PK\3\4" * 100)
        with pytest.raises(InvalidInput, match="no backup of langcairn"):
            restore(path, open_store("memory:"))
        path.write_bytes(b"")
        with pytest.raises(CorruptData, match="0 bytes"):
            restore(path, open_store("memory:"))
        with pytest.raises(StoreMisconfigured, match="No such file"):
            restore(path.with_name("nothing"), open_store("memory:"))

    def test_a_damaged_store(self, path: Path) -> None:
        with MemoryStorage() as storage:
            store = storage.open()
            fill(store)
            id, data = min(storage.chunks("thread-a").items())
            storage.replace_chunk("thread-a", id, flipped(data, len(data) - 1))
            fresh = storage.open()
            report = backup(fresh, path)
            assert {f.execution_id for f in report.findings} == {"thread-a"}
            assert all(f.checkpoint_id for f in report.findings)
            target = open_store("memory:")
            back = restore(path, target)
            assert {f.execution_id for f in back.findings} == {"thread-a"}
            assert verify(target).ok
            assert target.executions() == ["record", "thread-a", "thread-b"]
            lost = {(f.namespace, f.checkpoint_id) for f in back.findings}
            assert 7 - len(lost) <= back.checkpoints < 7


class TestFullDisks:
    @pytest.mark.parametrize("part", [0.001, 0.3, 0.6, 0.999])
    def test_a_half_written_backup_replaces_nothing(
        self, store: CheckpointStore, path: Path, part: float
    ) -> None:
        saver = CheckpointSaver(store)
        for number in range(4, 30):
            put(saver, number, {"x": os.urandom(30_000)}, thread="thread-a")
        size = backup(store, path).size
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * part), limits[1]))
        try:
            with pytest.raises(StoreFull, match="as before"):
                backup(store, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_a_full_disk_in_a_restore(
        self, store: CheckpointStore, path: Path, tmp_path: Path
    ) -> None:
        saver = CheckpointSaver(store)
        for thread in THREADS:
            for number in range(4, 40):
                put(saver, number, {"x": os.urandom(10_000)}, thread=thread)
        backup(store, path)
        program = textwrap.dedent(f"""
            import resource, signal
            from langcairn import StoreFull, open_store, restore
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = open_store("file://{tmp_path}/logs")
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            try:
                restore({str(path)!r}, store)
            except StoreFull as error:
                print(error, error.__notes__)
        """)
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        assert "'thread-a'; 1 others were restored: repeat with existing='skip'" in result.stdout
        with open_store(f"file://{tmp_path}/logs") as target:
            assert verify(target).ok
            assert restore(path, target, existing="skip").skipped == 1
            assert loaded(target) == loaded(store)

    def test_no_directory(self, store: CheckpointStore, tmp_path: Path) -> None:
        with pytest.raises(StoreMisconfigured, match="No such file"):
            backup(store, tmp_path / "no" / "b.cairn")
        with pytest.raises(StoreMisconfigured, match="is a directory"):
            backup(store, tmp_path)


class TestInUse:
    def test_what_is_put_meanwhile(self, tmp_path: Path) -> None:
        """Each backup of an execution that grows and is pruned is one of its states."""
        with open_store(f"sqlite:///{tmp_path}/a.db", synchronous="OFF") as store:
            saver = CheckpointSaver(store)
            stop = threading.Event()
            errors: list[Exception] = []

            def work() -> None:
                number = 1
                try:
                    while not stop.is_set():
                        log = [f"{i:>110}" for i in range(number % 50)]
                        put(saver, number, {"n": number, "log": log}, parent=number - 1 or None)
                        config = config_of("thread", "", checkpoint_id(number))
                        saver.put_writes(config, [("log", [f"{number:>400}"])], f"task {number}")
                        if number % 7 == 0:
                            saver.prune(["thread"])
                        number += 1
                except Exception as error:  # noqa: BLE001 -- shown at the end
                    errors.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            try:
                for number in range(12):
                    report = backup(store, tmp_path / f"{number}.cairn")
                    target = open_store("memory:")
                    assert restore(tmp_path / f"{number}.cairn", target).ok
                    assert report.ok, report.findings
                    assert verify(target).ok
                    live = verify(store)
                    assert live.ok, live.findings
                    for record in target.list("thread"):
                        assert len(record.state["log"]) == record.state["n"] % 50
            finally:
                stop.set()
                thread.join(30)
            assert not errors

    async def test_the_event_loop_runs_on(self, store: CheckpointStore, path: Path) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        task = asyncio.create_task(tick())
        await abackup(store, path)
        task.cancel()
        assert ticks > 10

    async def test_cancelled(self, store: CheckpointStore, path: Path) -> None:
        task = asyncio.create_task(abackup(store, path))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(path.parent.iterdir()) == []


def test_format_of_an_example(path: Path) -> None:
    """The parts that docs/backup-format.md names are where it says."""
    store = open_store("memory:")
    put(CheckpointSaver(store), 1, {"n": 1, "text": "x" * 200})
    backup(store, path)
    data = path.read_bytes()
    assert data[:12] == b"\x89cairB\r\n\1\0\0\0"
    assert data[32:34] == b"BF"
    assert data[-8:] == b"cairnend"
    with BackupFile(path) as file:
        kinds = [frame.kind for frame in file.frames(32) if frame is not None]
        assert kinds == [1, 2, 3, 4, 6, 7, 8]
        assert int.from_bytes(data[-24:-16], "little") == data.rindex(b"BF")
