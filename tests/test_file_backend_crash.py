"""The file backend when its process ends, or the system refuses, at any call that changes files."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import traceback
from contextlib import closing, contextmanager
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import pytest
from tests.sqlite_rows import fetch, find, ids, put, row, write

from langcairn.backends.base import (
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    Remove,
    Sweep,
    Transaction,
)
from langcairn.backends.file import FileBackend, system
from langcairn.backends.file import directory as directory_module
from langcairn.backends.file import log as log_module
from langcairn.errors import CairnError, StoreError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langcairn.backends.base import Request

CALLS = [
    (os, "pwrite"),
    (os, "ftruncate"),
    (os, "fdatasync"),
    (system, "sync_directory"),
    (directory_module, "sync_directory"),
    (Path, "mkdir"),
    (Path, "hardlink_to"),
    (Path, "unlink"),
    (Path, "replace"),
    (Path, "rename"),
]
"""Everything through which the backend changes files."""


@contextmanager
def nth_call(
    monkeypatch: pytest.MonkeyPatch, limit: int, do: Callable[[], None]
) -> Iterator[Callable[[], bool]]:
    """Do something instead of a certain call that changes a file.

    Yields:
        What tells whether it came to that call.
    """
    count = 0

    def counted(call: Any) -> Any:
        def wrapper(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == limit:
                do()
            return call(*args, **options)

        return wrapper

    with monkeypatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield lambda: count >= limit


EXPECTED: list[tuple[str, str]] = [
    ("", ""),
    ("0", ""),
    ("0", "0"),
    ("01", "0"),
    ("012", "0"),
    ("0123", "0"),
    ("23", "0"),
    ("23", "0"),
    ("234", "0"),
    ("234", ""),
    ("234", "5"),
    ("2346", "56"),
    ("2346", ""),
    ("3467", "7"),
    ("34678", "8"),
]
"""The checkpoints of a and b before the story, and after each of its steps."""
COMPACTED = 7


def story(backend: FileBackend, acknowledge: Callable[[], None]) -> None:
    """Let two executions come into being, shrink until they are compacted, and go."""

    def step(request: Request) -> Any:
        answer = backend.execute(request)
        acknowledge()
        return answer

    step(Commit("a", None, [big(0)], [row("0", "a")]))
    step(Commit("b", None, [big(0)], [row("0", "b")]))
    for n in (1, 2, 3):
        step(Commit("a", None, [big(n)], [row(str(n), "a")]))
    epoch = step(Remove("a", [("", "0"), ("", "1")]))
    assert step(Sweep("a", epoch, [big(n)[0] for n in (0, 1)])) is True
    step(Commit("a", epoch, [big(4)], [row("4", "a")]))
    step(Clear("b"))
    step(Commit("b", None, [big(5)], [row("5", "b")]))
    step(both("6"))
    step(Clear("b"))
    step(both("7", a=[("", "2")]))
    step(both("8", b=[("", "7")]))


def both(n: str, **removals: Sequence[tuple[str, str]]) -> Transaction:
    """Return a transaction that adds a checkpoint to both executions."""
    return Transaction(
        [
            Commit(name, None, [big(int(n))], [row(n, name)], removals=removals.get(name, ()))
            for name in ("b", "a")
        ]
    )


def big(n: int) -> tuple[ChunkId, bytes]:
    return ChunkId(f"chunk {n}"), bytes([n]) * 20_000


def check(directory: Path, acknowledged: int) -> None:
    """See that what was acknowledged holds, and perhaps the step after it, but no part of one."""
    with closing(FileBackend(directory, fsync=False)) as backend:
        found = tuple("".join(sorted(ids(find(backend, name)))) for name in ("a", "b"))
        assert found in EXPECTED[acknowledged : acknowledged + 2]
        names = [name for name, present in zip(("a", "b"), found, strict=True) if present]
        assert backend.execute(FindExecutions()) == names
        for name, present in zip(("a", "b"), found, strict=True):
            chunks = dict(big(int(n)) for n in present)
            assert backend.execute(FetchChunks(name, list(chunks))) == chunks
            # And it goes on from there.
            backend.execute(Commit(name, None, [big(9)], [row("9", name)]))
            assert ids(find(backend, name, "", limit=1)) == ["9"]


@pytest.fixture(autouse=True)
def compact_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langcairn.backends.file.log._WORTH_COMPACTING", 10_000)


def test_the_story_compacts(tmp_path: Path) -> None:
    """Else the tests with it would miss what they are for."""
    files: list[os.stat_result] = []
    with closing(FileBackend(tmp_path / "store")) as backend:
        story(
            backend, lambda: files.extend(p.stat() for p in (tmp_path / "store/logs").glob("a-*"))
        )
    before, after = files[COMPACTED - 2], files[COMPACTED - 1]
    assert after.st_size < before.st_size
    assert after.st_ino != before.st_ino


def test_killed_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in range(1, 300):
        directory = tmp_path / "store"
        acknowledged, completed = run_until(limit, directory, monkeypatch)
        check(directory, acknowledged)
        shutil.rmtree(directory)
        if completed:
            assert limit > 40
            return
    raise AssertionError("the story never came to an end")


def run_until(limit: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bool]:
    """Run the story in a process that is killed at a call.

    Returns:
        How many steps it acknowledged, and whether it came to its end.
    """
    directory.mkdir()
    reading, writing = os.pipe()

    def work() -> None:
        os.close(reading)
        with (
            nth_call(monkeypatch, limit, lambda: os.kill(os.getpid(), signal.SIGKILL)),
            closing(FileBackend(directory)) as backend,
        ):
            story(backend, lambda: acknowledge(writing))

    pid = forked(work)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        acknowledged = len(pipe.read())
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL)
    return acknowledged, status == 0


def acknowledge(pipe: int) -> None:
    os.write(pipe, b".")


def forked(work: Callable[[], None]) -> int:
    """Do something in a child process, and return its number."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:  # noqa: BLE001 -- a child must not go on with the parent's tests
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_refused_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """An error says what it is, and everything goes on afterwards."""

    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    for limit in range(1, 300):
        directory = tmp_path / f"store {limit}"
        with failing_story(monkeypatch, limit, directory, refuse) as (backend, acknowledged, error):
            if acknowledged is None:
                assert limit > 40
                return
            # Compaction is given up in silence.
            assert error is not None or acknowledged == len(EXPECTED) - 1
            assert isinstance(
                error, (NoneType, StoreFull if number == errno.ENOSPC else StoreError)
            )
            check(directory, acknowledged)
            put(backend, row("after"))
            assert ids(find(backend, "e")) == ["after"]
    raise AssertionError("the story never came to an end")


@contextmanager
def failing_story(
    monkeypatch: pytest.MonkeyPatch, limit: int, directory: Path, fail: Callable[[], None]
) -> Iterator[tuple[FileBackend, int | None, BaseException | None]]:
    """Run the story with a call that fails.

    Yields:
        The backend, how many steps were acknowledged (None: it came to its end before that call),
        and the error.
    """
    directory.mkdir()
    acknowledged: list[None] = []
    error = None
    with closing(FileBackend(directory)) as backend:
        with nth_call(monkeypatch, limit, fail) as reached:
            try:
                story(backend, lambda: acknowledged.append(None))
            except (CairnError, _Interrupt) as raised:
                error = raised
        yield backend, len(acknowledged) if reached() else None, error


class _Interrupt(BaseException):
    """As KeyboardInterrupt, which pytest would take for the user's."""


def test_interrupted_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise _Interrupt

    for limit in range(1, 300):
        directory = tmp_path / f"store {limit}"
        with failing_story(monkeypatch, limit, directory, interrupt) as (backend, acknowledged, _):
            if acknowledged is None:
                assert limit > 40
                return
            check(directory, acknowledged)  # no lock is left behind that keeps it out
            put(backend, row("99", "a"))
            assert ids(find(backend, "a", "", limit=1)) == ["99"]
    raise AssertionError("the story never came to an end")


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The system writes as much as fits, and then refuses: the half-written commit is cut."""

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with closing(FileBackend(tmp_path / "store")) as backend:
            limit(100_001)
            kept, full = set(), 0
            for n in range(100):
                try:
                    backend.execute(
                        Commit("e", None, [(ChunkId(f"{n}"), bytes(3000))], [row(f"{n}")])
                    )
                    kept.add(f"{n}")
                except StoreFull:
                    full += 1
            assert full > 50
            assert len(kept) > 30
            assert set(ids(find(backend, "e"))) == kept
            assert len(fetch(backend, *map(str, range(100)))) == len(kept)
            limit(102_000)
            large, small = Commit("e", None, [big(1)]), Commit("e", None, (), [row("small")])
            answers = backend._write([large, small])
            assert isinstance(answers[0], StoreFull)
            assert isinstance(answers[1], int)

    assert os.waitpid(forked(work), 0)[1] == 0
    with closing(FileBackend(tmp_path / "store")) as backend:
        assert ids(find(backend, "e"))[0] == "small"
        assert not fetch(backend, "chunk 1")


def test_decisions_that_are_needed_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left when a process dies behind the decision counts, and is tidied up in the end."""
    directory = tmp_path / "store"
    (directory / "logs").mkdir(parents=True)

    def work() -> None:
        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        with closing(FileBackend(directory)) as backend:
            put(backend, row("0", "a"))
            monkeypatch.setattr(directory_module.Decision, "forget", die)
            append, count = log_module.Log.append, 0

            def counted(log: log_module.Log, entries: Any, blobs: Any) -> None:
                nonlocal count
                count += 1
                if count == 3:  # behind those that prepare
                    die()
                append(log, entries, blobs)

            monkeypatch.setattr(log_module.Log, "append", counted)
            backend.execute(both("1"))

    assert os.waitpid(forked(work), 0)[1] == signal.SIGKILL
    (decision,) = (directory / "transactions").iterdir()
    young = directory / "transactions" / "not-ours"
    young.write_text("something")
    for path in (decision, young):
        os.utime(path, (1, 1))
    for name, expected in (("a", ["1", "0"]), ("b", ["1"])):
        with closing(FileBackend(directory)) as backend:
            put(backend, row("x", "new " + name))  # it tidies up
            assert decision.exists()
            assert ids(find(backend, name)) == expected
            put(backend, row("2", name))
    with closing(FileBackend(directory)) as backend:
        put(backend, row("y", "newer"))
        assert not decision.exists()
        assert young.exists()
        assert [ids(find(backend, name)) for name in "ab"] == [["2", "1", "0"], ["2", "1"]]


def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    with closing(FileBackend(directory)) as backend:
        put(backend, row("0"))
    left = directory / "unfinished" / "e-0123.4567.cairn"
    young = directory / "unfinished" / "e-0123.4568.cairn"
    for path in (left, young):
        path.write_bytes(b"half a log")
    os.utime(left, (1, 1))
    with closing(FileBackend(directory)) as backend:
        put(backend, row("0", "other"))
    assert list((directory / "unfinished").iterdir()) == [young]


def test_compaction_keeps_everything(tmp_path: Path) -> None:
    with closing(FileBackend(tmp_path / "store", fsync=False)) as backend:
        epoch: Any = None
        for n in range(30):
            chunks = [(ChunkId(f"{n} {i}"), bytes([n]) * 1000) for i in range(4)]
            writes = [write(str(n), "t", i) for i in range(2)]
            backend.execute(
                Commit("e", None, chunks, [row(f"{n:02}", namespace="n" * (n % 2))], writes)
            )
            if n % 3 == 2:
                epoch = backend.execute(Remove("e", [("n" * (n % 2), f"{n:02}"), ("", str(n))]))
        before = everything(backend)
        old_chunks: Any = backend.execute(FindOldChunks("e", epoch))
        gone = [id for id in old_chunks if int(id.split()[0]) % 3]
        (path,) = (tmp_path / "store/logs").iterdir()
        inode = path.stat().st_ino
        with closing(FileBackend(tmp_path / "store")) as reader:
            assert everything(reader) == before
            assert backend.execute(Sweep("e", epoch, gone)) is True
            assert path.stat().st_ino != inode
            assert path.stat().st_size < 100_000
            expected = (*before[:2], set(before[2]) - set(gone), before[3])
            for one in (reader, backend):
                found = everything(one)
                assert (*found[:2], set(found[2]), found[3]) == expected
                # Chunks keep the epochs in which they were committed.
                still_old: Any = one.execute(FindOldChunks("e", epoch))
                assert set(still_old) == set(old_chunks) - set(gone)


def everything(backend: FileBackend) -> Any:
    chunks = [ChunkId(f"{n} {i}") for n in range(30) for i in range(4)]
    return (
        find(backend),
        sorted(backend.execute(FindWrites("e"))),  # type: ignore[call-overload]
        backend.execute(FetchChunks("e", chunks)),
        backend.execute(FindExecutions()),
    )
