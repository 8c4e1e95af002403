"""The SQLite backend on bad paths, damaged files and full disks, and between processes.

Scripts run in a process of their own, which forks if it needs several: that imports only once.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from tests.sqlite_rows import chunk, fetch, find, ids, put, row, write

from langcairn.backends.base import (
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    Remove,
    Sweep,
)
from langcairn.backends.sqlite import SqliteBackend
from langcairn.errors import (
    CairnError,
    CorruptData,
    InvalidInput,
    StoreFull,
    StoreMisconfigured,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.base import Request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


class TestPaths:
    @pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
    def test_no_file(self, path: str) -> None:
        with pytest.raises(InvalidInput, match=r"memory:|NUL"):
            SqliteBackend(path)

    def test_a_missing_directory(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "missing" / "test.db", "there is no directory")

    def test_a_directory(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "is a directory")

    @pytest.mark.parametrize(
        "content", [b"some text\n" * 100, b"xy", os.urandom(8192)], ids=["text", "short", "random"]
    )
    def test_no_database(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.refused(path, "not a database")
        assert path.read_bytes() == content

    def refused(self, path: Path, message: str) -> None:
        with closing(SqliteBackend(path)) as backend:
            requests: list[Request] = [FindCheckpoints(), Commit("e", None)]
            for request in requests:
                with pytest.raises(StoreMisconfigured, match=message) as caught:
                    backend.execute(request)
                assert str(path) in str(caught.value)
                assert isinstance(caught.value.__cause__, sqlite3.Error)

    def test_an_empty_file_is_a_new_database(self, path: Path) -> None:
        path.touch()
        with closing(SqliteBackend(path)) as backend:
            assert find(backend) == []

    @pytest.mark.parametrize("name", ["file:x?mode=memory", "a b%20#?.db", "é😀.db", "-wal"])
    def test_any_file_name(self, tmp_path: Path, name: str) -> None:
        with closing(SqliteBackend(tmp_path / name)) as backend:
            put(backend, row("1"))
        assert [file.name for file in tmp_path.iterdir()] == [name]

    def test_a_relative_path_survives_chdir(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        with closing(SqliteBackend("file:test.db")) as backend:
            monkeypatch.chdir("elsewhere")
            put(backend, row("1"))
            assert ids(find(backend)) == ["1"]
        assert (tmp_path / "file:test.db").exists()


class TestFull:
    @pytest.fixture
    def small(self, path: Path) -> Iterator[SqliteBackend]:
        with closing(SqliteBackend(path)) as backend:
            backend._pragmas.append("max_page_count = 40")
            yield backend

    def test_what_was_acknowledged_stays(self, small: SqliteBackend) -> None:
        kept, full = [], None
        for n in range(100):
            try:
                small.execute(Commit("e", None, [(ChunkId(str(n)), bytes(5000))], [row(f"{n:03}")]))
                kept.append(f"{n:03}")
            except StoreFull as error:
                full = error
        assert full is not None
        assert isinstance(full.__cause__, sqlite3.OperationalError)
        assert kept
        assert ids(find(small)) == sorted(kept, reverse=True)
        assert len(fetch(small, *map(str, range(100)))) == len(kept)
        small.execute(Clear("e"))
        put(small, row("1"))
        assert ids(find(small)) == ["1"]

    def test_a_batch_keeps_what_it_says(self, small: SqliteBackend) -> None:
        requests = [
            Commit(str(n), None, [(ChunkId("c"), bytes(size))], [row("1", str(n))])
            for n, size in enumerate([10, 300_000, 20])
        ]
        try:
            answers = small._write(requests)
        except StoreFull:
            answers = [StoreFull()] * 3
        assert isinstance(answers[1], StoreFull)
        kept = [str(n) for n, answer in enumerate(answers) if not isinstance(answer, StoreFull)]
        assert small.execute(FindExecutions()) == kept
        assert sorted(found.row.execution_id for found in find(small)) == kept


class TestDamage:
    @pytest.fixture
    def sound(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("sound") / "test.db"
        with closing(SqliteBackend(path, synchronous="OFF")) as backend:
            for n in range(60):
                rows, writes = [row(f"{n:03}", state=b"[%d]" % n * 99)], [write(f"{n:03}", "t", 0)]
                backend.execute(Commit("e", None, [chunk(f"{n}" * 300)], rows, writes))
        return path

    def use(self, path: Path) -> set[type[CairnError]]:
        """Do everything with a file; only errors of langcairn may come of it."""
        requests: list[Request] = [
            FindCheckpoints(),
            FindCheckpoints("e", "", limit=1),
            FindCheckpoints(metadata={"a": 1}),
            FindWrites("e"),
            FetchChunks("e", [ChunkId(f"{n}" * 300) for n in range(60)]),
            FindExecutions(),
            FindOldChunks("e", 2**62),
            Commit("e", None, [chunk("new")], [row("new")], [write("new", "t", 0)]),
            Sweep("e", 1, [ChunkId("0" * 300)]),
            Remove("e", [("", f"{n:03}") for n in range(60)]),
            Clear("e"),
        ]
        errors = set()
        with closing(SqliteBackend(path, synchronous="OFF")) as backend:
            for request in requests:
                try:
                    backend.execute(request)
                except CairnError as error:
                    errors.add(type(error))
        return errors

    def test_a_truncated_file(self, sound: Path, path: Path) -> None:
        whole = sound.read_bytes()
        for size in (50, 100, 600, 4096, 5000, len(whole) // 2, len(whole) - 4096):
            path.write_bytes(whole[:size])
            assert self.use(path) & {CorruptData, StoreMisconfigured}, size
            path.unlink()

    def test_flipped_bits(self, sound: Path, path: Path) -> None:
        whole, chance, errors = sound.read_bytes(), random.Random(5), set()
        for _ in range(150):
            damaged = bytearray(whole)
            # Where the structure is: the header, and the head of each page.
            at = chance.choice((chance.randrange(100), chance.randrange(len(whole) // 4096) * 4096))
            for _ in range(3):
                damaged[at + chance.randrange(60)] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            errors |= self.use(path)
            for file in path.parent.iterdir():
                file.unlink()
        assert CorruptData in errors

    def test_damage_under_an_open_backend(self, sound: Path, path: Path) -> None:
        shutil.copy(sound, path)
        with closing(SqliteBackend(path)) as backend:
            put(backend, row("new"))
            os.truncate(path, 8192)
            with pytest.raises(CorruptData):
                find(backend)


def script(code: str, *args: object, timeout: float = 60) -> str:
    """Run a script in a new process and return what it printed."""
    with start(code, *args) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
    assert process.returncode == 0, output
    return output


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREAMBLE + code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    )


PREAMBLE = """
import asyncio, os, sys, threading
from langcairn.backends.base import *
from langcairn.backends.sqlite import SqliteBackend
from langcairn.errors import *
from tests.sqlite_rows import *

def children(work, count):
    "Run work(n) in so many processes at the same time; all must succeed."
    gate, go = os.pipe()
    pids = []
    for n in range(count):
        pid = os.fork()
        if not pid:
            os.close(go)
            os.read(gate, 1)
            work(n)
            sys.stdout.flush()
            os._exit(0)
        pids.append(pid)
    os.close(go)
    assert not any([os.waitpid(pid, 0)[1] for pid in pids])

def drop_privileges():
    if os.getuid() == 0:  # whom no mode keeps from anything
        os.setgid(65534)
        os.setuid(65534)

def refused(kind, *messages):
    "Reading and writing must raise this error."
    for request in (FindCheckpoints(), Commit("e", None)):
        try:
            backend.execute(request)
        except kind as error:
            assert all(message in str(error) for message in messages), error
        else:
            raise AssertionError(request)

path = sys.argv[1]
"""


class TestProcesses:
    def test_making_the_tables_at_the_same_time(self, path: Path) -> None:
        script(
            """
def work(n):
    backend = SqliteBackend(path)
    for k in range(10):
        put(backend, row(f"{n}-{k}", f"e{n}"))
        assert len(find(backend, f"e{n}")) == k + 1
        if k % 3 == 0:
            backend.close()
            backend = SqliteBackend(path)
    backend.close()

children(work, 8)
""",
            path,
        )
        with closing(SqliteBackend(path)) as backend:
            assert len(find(backend)) == 80
            assert len(cast("list[str]", backend.execute(FindExecutions()))) == 8

    def test_writing_to_one_execution(self, path: Path) -> None:
        """With epochs, while one process removes: a stale writer is refused and tries again."""
        script(
            """
def work(n):
    backend = SqliteBackend(path)
    epoch = None
    for k in range(60):
        try:
            epoch = backend.execute(Commit("e", epoch, [chunk(f"{n}-{k}")], [row(f"{n}-{k}")]))
        except StaleEpoch:
            epoch = backend.execute(Commit("e", None, [chunk(f"{n}-{k}")], [row(f"{n}-{k}")]))
        if n == 0 and k % 10 == 9:
            epoch = backend.execute(Remove("e", [("", f"0-{k}")]))
    backend.close()

children(work, 3)
""",
            path,
        )
        with closing(SqliteBackend(path)) as backend:
            removed = {f"0-{k}" for k in range(9, 60, 10)}
            expected = {f"{n}-{k}" for n in range(3) for k in range(60)}
            assert set(ids(find(backend))) == expected - removed
            assert set(fetch(backend, *expected)) == expected

    def test_killed_while_committing(self, path: Path) -> None:
        acknowledged: set[str] = set()
        for life in range(3):
            process = start(
                """
backend = SqliteBackend(path)

def work(n):
    for k in range(10**9):
        name = f"{sys.argv[2]}-{n}-{k}"
        commit = Commit("e", None, [chunk(name)], [row(name)], [write(name, "t", 0)])
        backend.execute(commit)
        os.write(1, name.encode() + b"\\n")

for n in range(4):
    threading.Thread(target=work, args=[n]).start()
""",
                path,
                life,
            )
            with process:
                assert process.stdout is not None
                for _ in range(100):
                    acknowledged.add(process.stdout.readline().strip())
                process.send_signal(signal.SIGKILL)
                acknowledged.update(process.stdout.read().split())
            with closing(SqliteBackend(path)) as backend:
                found = {f.row.id for f in find(backend) if len(f.writes) == 1}
                assert acknowledged <= found
                assert set(ids(find(backend))) == found
                assert set(fetch(backend, *found)) == found
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def test_fork(self, path: Path) -> None:
        """Neither the connections nor the locks and threads of the parent are used in a child."""
        script(
            """
backend = SqliteBackend(path)
put(backend, row("parent"))
find(backend)
asyncio.run(backend.aexecute(Commit("e", None)))
held = threading.Event()
def hold():
    with backend._writer_lock, backend._executor_lock, backend._commits._leading:
        held.set()
        release.wait()
release = threading.Event()
threading.Thread(target=hold).start()
held.wait()

import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point

def work(n):
    put(backend, row(f"child {n}"))
    asyncio.run(backend.aexecute(Commit("e", None, [chunk(f"child {n}")])))
    assert "parent" in ids(find(backend))
    backend.close()

children(work, 3)
release.set()
put(backend, row("parent again"))
assert len(find(backend)) == 5, find(backend)
backend.close()
""",
            path,
        )
        with closing(SqliteBackend(path)) as backend:
            assert len(find(backend)) == 5
        assert [file.name for file in path.parent.iterdir()] == ["test.db"]

    def test_a_parent_that_closes_takes_nothing_from_its_child(self, path: Path) -> None:
        """SQLite in a child must not believe in locks on the file that only the parent has."""
        script(
            """
backend = SqliteBackend(path)
put(backend, row("parent"))
find(backend)
begun, closed = os.pipe(), os.pipe()
child = os.fork()
if not child:
    put(backend, row("before"))
    os.write(begun[1], b".")
    os.read(closed[0], 1)
    put(backend, row("after"))
    os._exit(0)
os.read(begun[0], 1)
backend.close()
os.write(closed[1], b".")
assert not os.waitpid(child, 0)[1]
""",
            path,
        )
        with closing(SqliteBackend(path)) as backend:
            assert set(ids(find(backend))) == {"parent", "before", "after"}

    def test_a_fork_while_others_are_at_work(self, path: Path) -> None:
        """A child inherits no mutex of SQLite's that a thread held, and no lock on the file."""
        script(
            """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the point
backend = SqliteBackend(path)
done = threading.Event()

def busy(name):
    number = 0
    while not done.is_set():
        put(backend, row(f"{name} {number}"))
        find(backend)
        number += 1

threads = [threading.Thread(target=busy, args=(name,)) for name in ("x", "y")]
for thread in threads:
    thread.start()
for turn in range(20):
    child = os.fork()
    if not child:
        put(backend, row(f"child {turn}"))
        assert f"child {turn}" in ids(find(backend))
        os._exit(0)
    assert not os.waitpid(child, 0)[1]
done.set()
for thread in threads:
    thread.join()
assert {f"child {turn}" for turn in range(20)} <= set(ids(find(backend)))
backend.close()
""",
            path,
        )


class TestPermissions:
    @pytest.fixture
    def shared(self) -> Iterator[Path]:
        """A directory that another user may enter, as pytest's own are not."""
        directory = Path(tempfile.mkdtemp(prefix="langcairn-"))
        yield directory
        directory.chmod(0o755)
        shutil.rmtree(directory)

    @pytest.mark.parametrize("directory_mode", [0o777, 0o555])
    def test_a_read_only_file_can_be_read(self, shared: Path, directory_mode: int) -> None:
        path = shared / "test ?.db"
        with closing(SqliteBackend(path)) as backend:
            backend.execute(Commit("e", None, [chunk("c")], [row("1")], [write("1", "t", 0)]))
        path.chmod(0o444)
        shared.chmod(directory_mode)
        script(
            """
drop_privileges()
backend = SqliteBackend(path)
for attempt in range(2):
    assert ids(find(backend)) == ["1"]
    assert find(backend)[0].writes
    assert fetch(backend, "c")
    for request in (Commit("e", None, (), [row("2")]), Remove("e", []), Clear("e")):
        try:
            backend.execute(request)
        except StoreMisconfigured as error:
            assert "readonly" in str(error), error
        else:
            raise AssertionError("written")
backend.close()
""",
            path,
        )

    def test_a_log_in_a_read_only_directory(self, shared: Path) -> None:
        """Without its log the file would be read as it was before the last commits."""
        path = shared / "test.db"
        with closing(SqliteBackend(path)) as backend:
            put(backend, row("1"))
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{shared / 'crashed.db'}{suffix}")
        shared.chmod(0o555)
        script(
            """
drop_privileges()
backend = SqliteBackend(path)
refused(StoreMisconfigured, "crashed.db-wal")
backend.close()
""",
            shared / "crashed.db",
        )

    @pytest.mark.parametrize(("directory_mode", "file_mode"), [(0o755, 0), (0o777, 0), (0, 0o644)])
    def test_no_access(self, shared: Path, directory_mode: int, file_mode: int) -> None:
        path = shared / "test.db"
        with closing(SqliteBackend(path)) as backend:
            put(backend, row("1"))
        path.chmod(file_mode)
        shared.chmod(directory_mode)
        script(
            """
drop_privileges()
backend = SqliteBackend(path)
refused(StoreMisconfigured, path, "ermission")
backend.close()
""",
            path,
        )

    def test_too_many_open_files(self, path: Path) -> None:
        script(
            """
import resource
backend = SqliteBackend(path)
files = [os.open("/", os.O_RDONLY)]
resource.setrlimit(resource.RLIMIT_NOFILE, (files[0] + 1, 4096))
refused(StoreUnavailable, "too many files")
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
put(backend, row("1"))
backend.close()
""",
            path,
        )
