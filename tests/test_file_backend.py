"""The file backend: names, paths, rights, other processes, and questions to all executions."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import settings
from tests.file_storage import FileStorage
from tests.sqlite_rows import chunk, fetch, find, ids, put, row, write
from tests.test_file_backend_crash import forked

from langcairn.backends.base import (
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    Position,
    Remove,
    Sweep,
)
from langcairn.backends.file import FileBackend, catalog, logs, system
from langcairn.backends.file.directory import Directory
from langcairn.backends.file.system import Descriptor, try_lock
from langcairn.errors import (
    InvalidInput,
    StaleEpoch,
    StoreClosed,
    StoreMisconfigured,
    StoreUnavailable,
)
from langcairn.testing import SaverMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langcairn.backends.base import Request
    from langcairn.testing import Storage


class FileMachine(SaverMachine):
    def make_storage(self) -> Storage:
        self.directory = tempfile.TemporaryDirectory()
        return FileStorage(Path(self.directory.name) / "machine")

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


TestFileMachine = FileMachine.TestCase
TestFileMachine.settings = settings(max_examples=max(settings().max_examples // 4, 1))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def backend(directory: Path) -> Iterator[FileBackend]:
    with closing(FileBackend(directory)) as backend:
        yield backend


def executions(backend: FileBackend) -> list[str]:
    return cast("list[str]", backend.execute(FindExecutions()))


class TestNames:
    HOSTILE = (
        "../../etc/passwd", "/etc/passwd", "..", ".", "-rf", "a/b", "a\\b", "con", "NUL.txt", "a b",
        "\xe9", "e\u0301", "thread", "Thread", "THREAD", "x" * 512, "x" * 511 + "y", "🪨" * 128,
        "*?[a]", "\n", "a.", "a", "{e}", "%2e%2e", "~",
    )  # fmt: skip

    def test_of_hostile_executions(self, backend: FileBackend, directory: Path) -> None:
        for name in self.HOSTILE:
            put(backend, row("1", name, state=name.encode()))
        assert sorted(executions(backend)) == sorted(self.HOSTILE)
        for name in self.HOSTILE:
            (found,) = find(backend, name)
            assert (found.row.execution_id, found.row.state) == (name, name.encode())
        logs = list((directory / "logs").iterdir())
        assert len({path.name.lower() for path in logs}) == len(self.HOSTILE)
        for path in logs:
            assert path.is_file()
            assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
            assert len(path.name) < 100
        assert {path.name for path in directory.iterdir()} == {"logs", "unfinished"}

    def test_show_the_execution_to_people(self) -> None:
        name = Directory(Path("d"), fsync=False).path_of("User 7/Chat_2").name
        assert name.startswith("user-7-chat-2-")

    def test_of_clears(self, backend: FileBackend, directory: Path) -> None:
        put(backend, row("1"))
        assert backend.execute(Clear("e")) is True
        assert [*(directory / "logs").iterdir(), *(directory / "unfinished").iterdir()] == []


class TestPaths:
    @pytest.mark.parametrize("path", ["", "a\0b"])
    def test_no_directory(self, path: str) -> None:
        with pytest.raises(InvalidInput, match="can't be a directory"):
            FileBackend(path)

    @pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1"])
    def test_no_duration(self, timeout: Any) -> None:
        with pytest.raises(InvalidInput, match="busy_timeout"):
            FileBackend("x", busy_timeout=timeout)

    def test_a_missing_parent(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "missing" / "store", "there is no directory")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        self.refused(tmp_path / "file", "not a directory")
        self.refused(tmp_path / "file" / "store", r"no directory|Not a directory")

    def test_a_link_to_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        self.refused(tmp_path / "link", "not a directory")

    def refused(self, path: Path, message: str) -> None:
        with closing(FileBackend(path)) as backend:
            requests: list[Request] = [
                FindCheckpoints(), FindCheckpoints("e"), FindCheckpoints(id="c"), FindExecutions(),
                Commit("e", None), Commit("e", None), Clear("e"),
            ]  # fmt: skip
            for request in requests:
                with pytest.raises(StoreMisconfigured, match=message) as caught:
                    backend.execute(request)
                assert str(path) in str(caught.value)

    def test_a_store_that_is_not_there_yet_is_empty(
        self, backend: FileBackend, directory: Path
    ) -> None:
        assert find(backend) == find(backend, "e") == find(backend, id="1") == []
        assert executions(backend) == []
        assert backend.execute(Clear("e")) is False
        assert not directory.exists()

    def test_a_relative_path_survives_chdir(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        with closing(FileBackend("store")) as backend:
            monkeypatch.chdir("elsewhere")
            put(backend, row("1"))
        assert (tmp_path / "store").is_dir()

    def test_removed_while_open(self, backend: FileBackend, directory: Path) -> None:
        put(backend, row("1"))
        shutil.rmtree(directory)
        assert find(backend) == find(backend, "e") == []
        put(backend, row("2"))
        assert ids(find(backend)) == ["2"]


class TestRights:
    """In a process of another user: no mode keeps root from anything."""

    @pytest.fixture
    def shared(self) -> Iterator[Path]:
        """A directory that another user may enter, as pytest's own are not."""
        directory = Path(tempfile.mkdtemp(prefix="langcairn-"))
        directory.chmod(0o777)
        yield directory
        for path in directory.rglob("*"):
            path.chmod(0o777)
        shutil.rmtree(directory)

    def as_another(self, work: Callable[[], None]) -> None:
        def drop_and_work() -> None:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()

        assert os.waitpid(forked(drop_and_work), 0)[1] == 0

    @pytest.mark.parametrize("torn", [False, True])
    def test_what_is_read_only_can_be_read(self, shared: Path, *, torn: bool) -> None:
        path = shared / "store"
        with closing(FileBackend(path)) as backend:
            backend.execute(Commit("e", None, [chunk("c")], [row("1")], [write("1", "t", 0)]))
        if torn:
            (log,) = (path / "logs").iterdir()
            content = log.read_bytes().rstrip(b"\0")
            log.write_bytes(content + b"CF\x01")
        for one in (path, *path.rglob("*")):
            one.chmod(0o555 if one.is_dir() else 0o444)

        def work() -> None:
            with closing(FileBackend(path)) as backend:
                for _ in range(2):
                    assert ids(find(backend, "e")) == ids(find(backend, id="1")) == ["1"]
                    assert find(backend)[0].writes
                    assert fetch(backend, "c")
                    requests: list[Request] = [
                        Commit("e", None, (), [row("2")]), Commit("f", None), Remove("e", []),
                        Clear("e"),
                    ]  # fmt: skip
                    for request in requests:
                        with pytest.raises(StoreMisconfigured, match="denied"):
                            backend.execute(request)

        self.as_another(work)

    def test_what_must_not_be_read(self, shared: Path) -> None:
        path = shared / "store"
        with closing(FileBackend(path)) as backend:
            put(backend, row("1"))
        path.chmod(0o000)

        def work() -> None:
            with closing(FileBackend(path)) as backend:
                for request in (FindCheckpoints(), FindCheckpoints("e"), Commit("e", None)):
                    with pytest.raises(StoreMisconfigured, match="denied"):
                        backend.execute(request)

        self.as_another(work)

    def test_where_nothing_may_be_made(self, shared: Path) -> None:
        shared.chmod(0o555)

        def work() -> None:
            with closing(FileBackend(shared / "store")) as backend:
                assert find(backend) == []
                with pytest.raises(StoreMisconfigured, match="denied"):
                    put(backend, row("1"))

        self.as_another(work)


class TestProcesses:
    def test_a_log_made_at_the_same_time(self, directory: Path) -> None:
        def work(n: int) -> None:
            with closing(FileBackend(directory)) as backend:
                for k in range(12):
                    put(backend, row(f"{n}-{k}", f"e{k}"))

        together(work, 6)
        with closing(FileBackend(directory)) as backend:
            for k in range(12):
                assert set(ids(find(backend, f"e{k}"))) == {f"{n}-{k}" for n in range(6)}
        assert list((directory / "unfinished").iterdir()) == []

    def test_writing_to_one_execution(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While one process removes, so that commits are refused and the log is compacted."""
        monkeypatch.setattr("langcairn.backends.file.log._WORTH_COMPACTING", 30_000)

        def work(n: int) -> None:
            epoch: Any = None
            with closing(FileBackend(directory, fsync=False)) as backend:
                for k in range(80):
                    name = f"{n}-{k}"
                    commit = Commit("e", epoch, [chunk(name * 200)], [row(name)])
                    try:
                        epoch = backend.execute(commit)
                    except StaleEpoch:
                        epoch = backend.execute(commit._replace(epoch=None))
                    if n == 0 and k % 10 == 9:
                        epoch = backend.execute(Remove("e", [("", name)]))
                        backend.execute(Sweep("e", epoch, [chunk(name * 200)[0]]))
                    if k % 20 == 19:
                        backend.execute(Clear(f"other {n}"))
                    put(backend, row(name, f"other {n}"))
                    found = backend.execute(FetchChunks("e", [chunk(name * 200)[0]]))
                    assert found or (n == 0 and k % 10 == 9)

        together(work, 4)
        removed = {f"0-{k}" for k in range(9, 80, 10)}
        expected = {f"{n}-{k}" for n in range(4) for k in range(80)}
        with closing(FileBackend(directory)) as backend:
            assert set(ids(find(backend, "e"))) == expected - removed
            names = [name * 200 for name in expected]
            assert set(fetch(backend, *names)) == {name * 200 for name in expected - removed}

    def test_clearing_at_the_same_time(self, directory: Path) -> None:
        def work(n: int) -> None:
            with closing(FileBackend(directory, fsync=False)) as backend:
                for k in range(60):
                    if n % 2:
                        backend.execute(Clear("e"))
                    else:
                        epoch: Any = backend.execute(Commit("e", None, [chunk("c")], [row(f"{k}")]))
                        with_chunk = backend.execute(FetchChunks("e", [ChunkId("c")]))
                        assert with_chunk in ({}, dict([chunk("c")]))
                        try:
                            backend.execute(Commit("e", epoch, (), [row(f"{k}")]))
                        except StaleEpoch:
                            continue

        together(work, 4)

    def test_a_lock_that_is_not_given_back(self, directory: Path) -> None:
        with closing(FileBackend(directory, busy_timeout=0.05)) as backend:
            put(backend, row("1"))
            file = Descriptor.of(next((directory / "logs").iterdir()))
            assert try_lock(file)
            for request in (Commit("e", None, (), [row("2")]), Remove("e", []), Clear("e")):
                with pytest.raises(StoreUnavailable, match="another process"):
                    backend.execute(request)
            assert ids(find(backend, "e")) == ["1"]  # readers don't wait
            put(backend, row("1", "other"))
            file.close()
            put(backend, row("2"))
            assert ids(find(backend, "e")) == ["2", "1"]

    def test_a_child_uses_nothing_of_its_parents(self, directory: Path) -> None:
        with closing(FileBackend(directory)) as backend:
            put(backend, row("parent"))
            log = backend._logs._open.popitem()[1]
            backend._logs._keep(log)
            fd = log.file.fd
            with log.lock, system.locked(log.file, 0):

                def work() -> None:
                    assert log.file.fd == -1
                    with pytest.raises(OSError, match="Bad file descriptor"):
                        os.fstat(fd)
                    backend._logs._busy_timeout = 0.01
                    assert ids(find(backend, "e")) == ["parent"]
                    with pytest.raises(StoreUnavailable):  # the parent holds the lock
                        put(backend, row("child"))
                    put(backend, row("child", "other"))
                    asyncio.run(backend.aexecute(Commit("other", None, (), [row("2", "other")])))
                    backend.close()

                assert os.waitpid(forked(work), 0)[1] == 0
            put(backend, row("parent again"))
            assert ids(find(backend, "other")) == ["child", "2"]
            assert len(find(backend, "e")) == 2


def together(work: Callable[[int], None], count: int) -> None:
    """Do something in several processes that begin at the same time; all must succeed."""
    gate, go = os.pipe()

    def wait_and_work(n: int) -> Callable[[], None]:
        def run() -> None:
            os.close(go)
            os.read(gate, 1)
            work(n)

        return run

    pids = [forked(wait_and_work(n)) for n in range(count)]
    os.close(go)
    os.close(gate)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * count


class TestThreads:
    def test_commits_to_one_execution_share_a_sync(
        self, backend: FileBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, row("0"))
        syncs, gate = [], threading.Event()
        fdatasync = os.fdatasync

        def slow(fd: int) -> None:
            syncs.append(fd)
            gate.wait(20)
            fdatasync(fd)

        monkeypatch.setattr(os, "fdatasync", slow)
        threads = [threading.Thread(target=put, args=(backend, row(f"{n}"))) for n in range(1, 20)]
        for thread in threads:
            thread.start()
        while not syncs or backend.load().queued < 19:
            pass
        gate.set()
        for thread in threads:
            thread.join(20)
        assert len(syncs) == 2
        assert len(find(backend, "e")) == 20

    def test_commits_to_several_run_side_by_side(
        self, backend: FileBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = [f"e{n}" for n in range(4)]
        while len({hash(name) % 64 for name in names}) < 4:
            names = [name + "x" for name in names]
        for name in names:
            put(backend, row("0", name))
        together = threading.Barrier(4)
        monkeypatch.setattr(os, "fdatasync", lambda _: together.wait(20))
        threads = [threading.Thread(target=put, args=(backend, row("1", name))) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not together.broken
        assert len(find(backend)) == 8

    async def test_tasks(self, backend: FileBackend) -> None:
        commits = [
            backend.aexecute(Commit(f"e{n % 5}", None, [chunk(f"{n}")], [row(f"{n}", f"e{n % 5}")]))
            for n in range(60)
        ]
        await asyncio.gather(*commits)
        found = cast("list[Any]", await backend.aexecute(FindCheckpoints()))
        assert len(found) == 60

    def test_one_that_fails_fails_alone(self, backend: FileBackend) -> None:
        epoch = put(backend, row("0"))
        bad = Commit("e", None, (), [row("1", version=2**70)])
        stale = Commit("e", epoch + 1, (), [row("2")])
        answers = backend._write([Commit("e", epoch, (), [row("3")]), bad, stale,
                                  Commit("e", None, (), [row("4")])])  # fmt: skip
        assert answers[0] == answers[3] == epoch
        assert isinstance(answers[1], InvalidInput)
        assert isinstance(answers[2], StaleEpoch)
        assert ids(find(backend, "e")) == ["4", "3", "0"]

    def test_requests_of_one_batch_see_each_other(self, backend: FileBackend) -> None:
        answers: Any = backend._write([
            Commit("e", None, [chunk("a")], [row("1")], [write("1", "t", 0)]),
            Commit("e", None, [chunk("a"), chunk("b")], (), [write("1", "t", 0, b"2")]),
            Remove("e", [("", "1")]),
            Commit("e", None, [chunk("b")], [row("2")]),
            Clear("other"),
            Clear("e"),
            Clear("e"),
            Commit("e", None, (), [row("3")]),
        ])  # fmt: skip
        assert answers[0] == answers[1] < answers[2] == answers[3] < answers[7]
        assert answers[4:7] == [False, True, False]
        assert ids(find(backend, "e")) == ["3"]
        assert fetch(backend, "a", "b") == {}

    def test_after_close(self, directory: Path) -> None:
        backend = FileBackend(directory)
        put(backend, row("1"))
        backend.close()
        backend.close()
        for request in (FindCheckpoints(), Commit("e", None)):
            with pytest.raises(StoreClosed):
                backend.execute(request)

    def test_closing_within_a_commit_is_refused(
        self, backend: FileBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a signal handler might attempt it; waiting for the commit would be for ever."""
        put(backend, row("0"))
        monkeypatch.setattr(os, "fdatasync", lambda _: backend.close())
        with pytest.raises(StoreUnavailable, match="of the same thread"):
            put(backend, row("1"))
        monkeypatch.undo()
        put(backend, row("2"))
        assert "2" in ids(find(backend, "e"))


class TestAllExecutions:
    @pytest.fixture
    def many(self, backend: FileBackend) -> FileBackend:
        for n in range(30):
            rows = [row(f"{k}-{n}", f"e{n}") for k in range(3)] + [row("same", f"e{n}")] * (n < 3)
            backend.execute(Commit(f"e{n}", None, (), rows))
        return backend

    def test_by_id(self, many: FileBackend) -> None:
        for _ in range(2):
            assert [one.row.execution_id for one in find(many, id="2-7")] == ["e7"]
            assert [one.row.execution_id for one in find(many, id="same")] == ["e2", "e1", "e0"]
            assert len(find(many, id="same", limit=2)) == 2
            assert find(many, id="missing") == []

    def test_only_what_changed_is_looked_at_again(
        self, many: FileBackend, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for path in (directory / "logs").iterdir():
            os.utime(path, (1, 1))
        find(many, id="missing")
        looked: list[Path] = []
        reading = logs.Logs.reading

        def noted(logs: logs.Logs, path: Path) -> Any:
            looked.append(path)
            return reading(logs, path)

        monkeypatch.setattr(logs.Logs, "reading", noted)
        find(many, id="missing")
        assert looked == []
        assert ids(find(many, id="2-7")) == ["2-7"]
        assert len(looked) == 1
        with closing(FileBackend(directory)) as other:
            put(other, row("new", "e5"))
            other.execute(Remove("e7", [("", "2-7")]))
            other.execute(Clear("e8"))
        looked.clear()
        assert ids(find(many, id="new")) == ["new"]
        assert find(many, id="2-7") == find(many, id="2-8") == []
        assert len({path.name[:3] for path in looked}) == 2

    def test_a_change_within_a_tick_of_the_clock(
        self, many: FileBackend, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file's time may stay the same; so what was just written is always looked at."""
        monkeypatch.setattr(catalog, "_TICK", 600 * 10**9)
        assert find(many, id="new") == []
        (path,) = (p for p in (directory / "logs").iterdir() if p.name.startswith("e5-"))
        before = path.stat()
        put(many, row("new", "e5"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        assert ids(find(many, id="new")) == ["new"]

    def test_more_logs_than_stay_open(
        self, many: FileBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many._logs.forget_all()
        monkeypatch.setattr(logs, "_MOST_OPEN", 4)
        assert len(find(many)) == 93
        assert len(many._logs._open) == 4
        monkeypatch.setattr(logs, "_MOST_INDEXED", 8)
        for n in range(30):
            put(many, row("z", f"e{n}"))
        assert len(many._logs._open) <= 3  # the newest isn't read yet when it is counted
        assert len(find(many, id="z")) == 30

    def test_pages(self, many: FileBackend) -> None:
        everything = find(many)
        after, found = None, []
        while page := find(many, after=after, limit=7):
            found += page
            last = page[-1].row
            after = Position(last.id, last.execution_id, last.namespace)
        assert found == everything


def test_descriptors_are_closed(directory: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    with closing(FileBackend(directory)) as backend:
        for n in range(20):
            put(backend, row("1", f"e{n}"))
        for n in range(0, 20, 2):
            backend.execute(Clear(f"e{n}"))
        find(backend)
        backend.execute(FindWrites("e1"))
        backend.execute(FindOldChunks("e1", 1))
        assert count() > before
    assert count() == before
