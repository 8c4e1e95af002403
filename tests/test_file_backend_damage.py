"""The file backend on logs that a crash cut off, or that something damaged.

The rule: what was acknowledged comes back exactly, or there is an error that names file and
offset. Never another state.
"""

from __future__ import annotations

import random
import re
import shutil
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sqlite_rows import chunk, find, ids, put, row, write

from langcairn import CheckpointSaver
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
from langcairn.backends.file import FileBackend, layout
from langcairn.backends.file.directory import Directory
from langcairn.backends.file.index import Index
from langcairn.backends.file.layout import (
    FRAME_HEADER_BYTES,
    CommitEntry,
    Damaged,
    RemoveEntry,
    SweepEntry,
)
from langcairn.backends.file.log import Log, _Window
from langcairn.errors import CorruptData, StoreMisconfigured
from langcairn.store import CheckpointStore
from langcairn.testing.checkpoints import checkpoint_id, config_of
from langcairn.testing.checkpoints import put as put_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langcairn.backends.base import Request

READS: list[Request] = [
    FindCheckpoints("e"),
    FindCheckpoints("e", "", limit=1),
    *(FindCheckpoints(id=f"c{n}", with_writes=False) for n in range(6)),
    FindCheckpoints(),
    FindWrites("e"),
    *(FetchChunks("e", [ChunkId(f"chunk {n}")]) for n in range(6)),
    FindExecutions(),
    FindOldChunks("e", 2**62),
]


class Step(NamedTuple):
    """What is to be seen after a commit, and where the log ended then."""

    end: int
    answers: list[Any]


def open_store(directory: Path, **options: Any) -> CheckpointStore:
    return CheckpointStore(FileBackend(directory, fsync=False, **options))


def path_of(directory: Path) -> Path:
    return Directory(directory, fsync=False).path_of("e")


def answers(directory: Path, requests: Sequence[Request] = READS) -> list[Any]:
    """Return the answers of a new backend, with CorruptData in the place of those refused."""
    with closing(FileBackend(directory, fsync=False)) as backend:
        return [answer(backend, request) for request in requests]


def answer(backend: FileBackend, request: Request) -> Any:
    try:
        found = backend.execute(request)
    except CorruptData as error:
        where = re.search(r"logs/e-[0-9a-f]{32}\.cairn, offset \d+: ", str(error))
        return CorruptData if where else error
    if isinstance(found, list):
        return sorted(map(repr, found))
    return found


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step]]:
    """A small log of all kinds of entries, and what was to be seen on the way."""
    directory = tmp_path_factory.mktemp("history") / "store"
    steps = []
    with closing(FileBackend(directory, fsync=False)) as backend:

        def step(request: Request) -> Any:
            result = backend.execute(request)
            log = Log.open(path_of(directory))
            assert log.catch_up()
            steps.append(Step(log.end, answers(directory)))
            return result

        step(Commit("e", None, [chunk("chunk 0")], [row("c0")], [write("c0", "t", 0)]))
        step(Commit("e", None, [chunk("chunk 1")], [row("c1", state=b'{"x":1}')]))
        step(Commit("e", None, [chunk("chunk 2"), chunk("chunk 3")], [row("c2"), row("c3")]))
        epoch = step(Remove("e", [("", "c1"), ("", "c2")]))
        step(Commit("e", epoch, [chunk("chunk 0")], [row("c4")], [write("c4", "t", 0, b"[2]")]))
        step(Sweep("e", epoch, [ChunkId("chunk 1"), ChunkId("chunk 2")]))
        step(Commit("e", epoch, [chunk("chunk 5")], [row("c5"), row("c0", version=2)]))
    return directory, steps


@pytest.fixture
def copied(history: tuple[Path, list[Step]], tmp_path: Path) -> Path:
    shutil.copytree(history[0], tmp_path / "store")
    return tmp_path / "store"


class TestCutOff:
    """A crash leaves the beginning of what was being written, or some sectors of it."""

    def test_at_every_byte(self, history: tuple[Path, list[Step]], copied: Path) -> None:
        steps, path = history[1], path_of(copied)
        whole = path.read_bytes()
        for size in range(steps[0].end, steps[-1].end + 40):
            expected = max(step for step in steps if step.end <= size)
            # Files grow in advance: what wasn't written is missing, or zero.
            for content in (whole[:size], whole[:size] + bytes(len(whole) - size)):
                path.write_bytes(content)
                assert answers(copied) == expected.answers, size
                if size % 7 == 0:
                    assert_takes_a_commit(copied)

    def test_in_the_first_frame(self, history: tuple[Path, list[Step]], copied: Path) -> None:
        """No crash does this: a log gets its name when its first frame is synced."""
        path, first = path_of(copied), history[1][0].end
        whole = path.read_bytes()
        for size in range(first):
            path.write_bytes(whole[:size])
            found = answers(copied)
            assert set(map(repr, found)) <= {repr(CorruptData), "[]", "{}", repr(["'e'"])}

    def test_any_sectors(self, history: tuple[Path, list[Step]], copied: Path) -> None:
        """A disk writes the sectors of an unsynced frame in any order, or some not at all."""
        chance, path = random.Random(7), path_of(copied)
        before = history[1][-1]
        with closing(FileBackend(copied, fsync=False)) as backend:
            chunks = [(ChunkId(f"new {n}"), chance.randbytes(700)) for n in range(6)]
            backend.execute(Commit("e", None, chunks, [row("new")]))
        log = Log.open(path)
        log.catch_up()
        whole, end = path.read_bytes(), log.end
        after = answers(copied)
        sectors = range(before.end // 512, -(-end // 512))
        assert len(sectors) > 8
        for _ in range(150):
            torn = bytearray(whole[: random.Random(7).choice([len(whole), end])])
            lost = {n for n in sectors if chance.random() < 0.4} or {chance.choice(sectors)}
            for n in lost:
                start, stop = max(before.end, n * 512), min(end, (n + 1) * 512)
                torn[start:stop] = bytes(stop - start)
            path.write_bytes(torn)
            assert answers(copied) == before.answers
            assert_takes_a_commit(copied)
        path.write_bytes(whole)
        assert answers(copied) == after

    def test_the_rest_of_a_longer_frame_is_cut_before_a_shorter_one(self, copied: Path) -> None:
        path = path_of(copied)
        with closing(FileBackend(copied, fsync=False)) as backend:
            backend.execute(Commit("e", None, [(ChunkId("long"), bytes(range(256)) * 20)]))
            log = Log.open(path)
            log.catch_up()
        content = bytearray(path.read_bytes())
        content[log.end - 600 : log.end - 500] = bytes(100)  # not a sector: in the frame's index
        content[log.end - 1] = 0
        path.write_bytes(content)
        assert_takes_a_commit(copied)
        assert answers(copied)[0] != CorruptData

    def test_a_reader_leaves_it(self, copied: Path, history: tuple[Path, list[Step]]) -> None:
        path, steps = path_of(copied), history[1]
        content = path.read_bytes()[: steps[-1].end - 5]
        path.write_bytes(content)
        with closing(FileBackend(copied)) as reader, closing(FileBackend(copied)) as writer:
            for _ in range(3):
                assert [answer(reader, request) for request in READS] == steps[-2].answers
                assert path.read_bytes() == content
            put(writer, row("next"))
            assert ids(find(reader, "e"))[0] == "next"

    def test_a_retried_commit_of_the_same_size_is_noticed(self, copied: Path) -> None:
        """Its frame begins with the same bytes as the torn one that a reader knows."""
        path = path_of(copied)
        log = Log.open(path)
        log.catch_up()
        before = path.read_bytes()
        with closing(FileBackend(copied)) as writer:
            put(writer, row("next"))
        whole = path.read_bytes()
        torn = bytearray(whole)
        torn[log.end + 40 :] = bytes(len(whole) - log.end - 40)
        path.write_bytes(torn)
        with closing(FileBackend(copied)) as reader:
            assert "next" not in ids(find(reader, "e"))
            for content in (before, whole):
                with path.open("r+b") as file:
                    file.write(content)
                assert ("next" in ids(find(reader, "e"))) is (content == whole)


def assert_takes_a_commit(directory: Path) -> None:
    """Commit, and see that nothing else has changed."""
    before = answers(directory)
    with closing(FileBackend(directory, fsync=False)) as backend:
        put(backend, row("z"))
    with closing(FileBackend(directory, fsync=False)) as backend:
        assert ids(find(backend, "e", "", limit=1)) == ["z"]
    after = answers(directory)
    assert [one for one in after[0] if "id='z'" not in one] == before[0]
    assert after[2:8] == before[2:8]
    assert after[9:] == before[9:]


def dead(path: Path) -> set[int]:
    """Return the offsets of content that was removed or replaced."""
    log = Log.open(path)
    window = _Window(log.file)
    offsets: set[int] = set()
    start = log.header.size
    while (found := log._frame_at(window, start)) is not None:
        frame, _ = found
        offsets.update(range(frame.data_at, frame.index_at))
        start = frame.end
    log.catch_up()
    spans = [
        *(stored.span for stored in log.index.chunks.values()),
        *(stored.span for stored in log.index.checkpoints()),
        *(stored.span for stored in log.index.writes()),
    ]
    for span in spans:
        offsets.difference_update(range(span.offset, span.offset + span.size))
    return offsets


class TestFlips:
    def test_of_every_byte(self, history: tuple[Path, list[Step]], copied: Path) -> None:
        end, path = history[1][-1].end, path_of(copied)
        whole = path.read_bytes()
        chunks = [ChunkId(f"chunk {n}") for n in (0, 3, 5)]
        requests: list[Request] = [FindCheckpoints("e"), FetchChunks("e", chunks), FindWrites("e")]
        expected = answers(copied, requests)
        harmless, unnoticed = dead(path), set()
        for offset in [*range(end), *range(end, len(whole), 37)]:
            for mask in (0x01, 0xFF) if offset % 5 else (0x80, 0x55):
                damaged = bytearray(whole)
                damaged[offset] ^= mask
                path.write_bytes(damaged)
                found = answers(copied, requests)
                for one, right in zip(found, expected, strict=True):
                    assert one == right or one is CorruptData, (offset, mask)
                if offset < end and CorruptData not in found:
                    unnoticed.add(offset)
        assert unnoticed == harmless

    def test_then_writing(self, history: tuple[Path, list[Step]], copied: Path) -> None:
        """A commit is refused, or goes well; the damage stays where it is."""
        steps, path = history[1], path_of(copied)
        whole = path.read_bytes()
        for offset in range(0, len(whole), 41):
            damaged = bytearray(whole)
            damaged[offset] ^= 0x10
            path.write_bytes(damaged)
            with closing(FileBackend(copied, fsync=False)) as backend:
                try:
                    put(backend, row("z"))
                except CorruptData:
                    assert path.read_bytes() == damaged
                    continue
            for one, right in list(zip(answers(copied), steps[-1].answers, strict=True))[2:8]:
                assert one == right or one is CorruptData, offset

    def test_what_lies_before_can_be_salvaged(self, copied: Path) -> None:
        states = {n: {"log": [f"{i} {'x' * 200}" for i in range(n)]} for n in range(1, 6)}
        path = Directory(copied, fsync=False).path_of("t")
        with open_store(copied) as store:
            saver = CheckpointSaver(store)
            for n, state in states.items():
                put_state(saver, n, state, thread="t", parent=n - 1 or None)
                if n == 3:
                    end = Log.open(path)
                    end.catch_up()
        flip(path, end.end + 1)
        with open_store(copied) as store:
            saver = CheckpointSaver(store)
            # Which one is newest can't be known, nor whether an old one was replaced or removed.
            for attempt in (
                lambda: saver.get_tuple(config_of("t")),
                lambda: store.list("t"),
                lambda: store.load(checkpoint_id(1)),
                lambda: store.load(checkpoint_id(1), execution_id="t"),
                lambda: put_state(saver, 9, {}, thread="t"),
                lambda: saver.prune(["t"]),
            ):
                with pytest.raises(CorruptData, match=f"{path.name}, offset {end.end}"):
                    attempt()
        with open_store(copied, salvage=True) as store:
            assert [one.state for one in store.list("t")] == [states[n] for n in (3, 2, 1)]
            assert store.load(checkpoint_id(2)).state == states[2]
            with pytest.raises(CorruptData):
                put_state(CheckpointSaver(store), 9, {}, thread="t")
            CheckpointSaver(store).copy_thread("t", "rescued")
        with open_store(copied) as store:
            assert len(store.list("rescued")) == 3
            assert store.clear("t")
            put_state(CheckpointSaver(store), 9, {"n": 1}, thread="t")
            assert [one.state for one in store.list("t")] == [{"n": 1}]

    def test_under_an_open_backend(self, copied: Path) -> None:
        with closing(FileBackend(copied)) as backend:
            assert ids(find(backend, "e"))
            flip(path_of(copied), Log.open(path_of(copied)).header.size + FRAME_HEADER_BYTES + 12)
            with pytest.raises(CorruptData, match="offset"):
                backend.execute(FetchChunks("e", [ChunkId(f"chunk {n}") for n in range(6)]))

    def test_other_executions_are_not_affected(self, copied: Path) -> None:
        with closing(FileBackend(copied)) as backend:
            put(backend, row("c9", "other"))
            flip(path_of(copied), 3)
            assert ids(find(backend, "other")) == ["c9"]
            assert ids(find(backend, id="c9")) == ["c9"]
            put(backend, row("c8", "other"))
            for request in (FindExecutions(), FindCheckpoints(), FindCheckpoints(id="c0")):
                with pytest.raises(CorruptData, match="offset 0"):
                    backend.execute(request)
            assert backend.execute(Clear("e")) is True
            assert backend.execute(FindExecutions()) == ["other"]


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


class TestForeignFiles:
    def test_a_later_version(self, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = path_of(copied)
        before = path.read_bytes()
        monkeypatch.setattr(layout, "VERSION", 2)
        log_id = bytes(layout.LOG_ID_BYTES)
        header = layout.pack_log_header("e", log_id)
        monkeypatch.undo()
        path.write_bytes(header + before[len(header) :])
        with closing(FileBackend(copied)) as backend:
            for request in [*READS[:1], FindExecutions(), Commit("e", None), Remove("e", [])]:
                with pytest.raises(StoreMisconfigured, match=r"version 2.*update langcairn"):
                    backend.execute(request)

    def test_the_log_of_another_execution(self, copied: Path) -> None:
        other = Directory(copied, fsync=False).path_of("other")
        shutil.copy(path_of(copied), other)
        with closing(FileBackend(copied)) as backend:
            for request in (FindCheckpoints("other"), Commit("other", None), FindCheckpoints()):
                with pytest.raises(CorruptData, match="another execution, 'e'"):
                    backend.execute(request)

    def test_frames_of_another_log(self, copied: Path, history: tuple[Path, list[Step]]) -> None:
        """A frame says nothing where it wasn't written."""
        steps, path = history[1], path_of(copied)
        content = path.read_bytes()
        frame = content[steps[-2].end : steps[-1].end]
        path.write_bytes(content[: steps[-1].end] + frame)
        assert set(map(repr, answers(copied))) >= {repr(CorruptData)}

    @pytest.mark.parametrize("content", [b"", b"some text\n" * 100, bytes(5000)])
    def test_no_log(self, copied: Path, content: bytes) -> None:
        path_of(copied).write_bytes(content)
        with closing(FileBackend(copied)) as backend:
            for request in (FindCheckpoints("e"), Commit("e", None), FindExecutions()):
                with pytest.raises(CorruptData, match=r"logs/e-.*offset 0"):
                    backend.execute(request)
        assert path_of(copied).read_bytes() == content

    def test_other_files_are_left_alone(self, copied: Path) -> None:
        (copied / "logs" / "README").write_text("x")
        (copied / "unfinished" / "notes.txt").write_text("x")
        with closing(FileBackend(copied)) as backend:
            assert backend.execute(FindExecutions()) == ["e"]
            put(backend, row("c1", "new"))
        assert (copied / "unfinished" / "notes.txt").exists()


LOG_ID = bytes(range(16))
ENTRIES: list[layout.Entry] = [
    CommitEntry(1, ["a"], [("b", 9)], [("", "c", 5, 10)], [("", "c", "t", -1, 8)]),
    RemoveEntry(2, [("", "c")]),
    SweepEntry(["a", "b"]),
]
BLOBS = [bytes(9), bytes(10), bytes(8)]


class TestFormat:
    def test_frames_come_back(self) -> None:
        frame = layout.pack_frame(LOG_ID, 100, ENTRIES, BLOBS)
        header = layout.parse_frame_header(LOG_ID, 100, frame[:FRAME_HEADER_BYTES])
        assert header is not None
        assert header.end == 100 + len(frame)
        index = frame[header.index_at - 100 :]
        entries = layout.parse_index(LOG_ID, header, index)
        assert repr(entries).replace("[", "(").replace("]", ")") == repr(ENTRIES).replace(
            "[", "("
        ).replace("]", ")")

    @given(st.binary(max_size=200))
    def test_any_bytes_give_a_value_or_the_documented_error(self, data: bytes) -> None:
        with suppress(Damaged, StoreMisconfigured):
            layout.parse_log_header(data)
        assert layout.parse_frame_header(LOG_ID, 0, data[:FRAME_HEADER_BYTES]) is None
        for parse in (
            layout.unseal,
            lambda content: layout.parse_checkpoint("e", "", "c", 0, content),
            lambda content: layout.parse_write("e", ("", "c", "t", 0), content),
        ):
            with suppress(Damaged):
                parse(data)

    @given(st.data())
    def test_any_index_with_a_right_check(self, data: st.DataObject) -> None:
        """Checks keep out accidents, not people: what these write is refused or understood."""
        plain = st.recursive(
            st.none() | st.integers(-3, 12) | st.text(max_size=3) | st.binary(max_size=3),
            lambda inner: st.lists(inner, max_size=5),
            max_leaves=20,
        )
        content = data.draw(st.lists(st.lists(plain, min_size=1, max_size=6), max_size=4) | plain)
        index = layout._packed(content)
        check = layout._placed_check(LOG_ID, 0, index)
        frame = layout.Frame(0, data.draw(st.integers(0, 30)), len(index))
        with suppress(Damaged):
            entries = layout.parse_index(LOG_ID, frame, index + check + b"end\n")
            assert entries is not None
            Index().apply(entries, 0)
