"""Content in objects beside a database: moving, crashes, races, damage, clean-up."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from langchain_core.messages import HumanMessage

from langcairn import (
    AccessDenied,
    Checkpoint,
    CorruptData,
    InvalidInput,
    MissingChunks,
    Moved,
    ObjectStorage,
    StoreMisconfigured,
    backup,
    generate_key,
    open_store,
    repair,
    restore,
    verify,
)
from langcairn.backends.base import (
    ChunkId,
    Commit,
    FetchChunks,
    FindOldChunks,
    Move,
    Remove,
    Rewrite,
)
from langcairn.codec.chunks import POINTER
from langcairn.objects import TieredBackend
from langcairn.objects import moving as objects
from langcairn.objects.packs import parse_pointer
from langcairn.objects.requests import (
    Below,
    GetRanges,
)
from langcairn.objects.sweeping import sweep
from langcairn.running import run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from langcairn import CheckpointStore

EAGER: dict[str, Any] = {"after": 0, "every": None, "least_bytes": 0, "grace": 0}
CANARY = "the canary sings in the mine"


class Place:
    """A SQLite file and a folder of objects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "objects"
        self._opened: list[CheckpointStore] = []

    def open(
        self, name: str = "agent", store: dict[str, Any] | None = None, **settings: Any
    ) -> Any:
        objects = ObjectStorage(url=f"file://{self.folder}", **{**EAGER, **settings})
        url = f"sqlite:///{self.path}/{name}.db?synchronous=OFF"
        opened = open_store(url, objects=objects, **(store or {}))
        self._opened.append(opened)
        return opened

    def packs(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def store(place: Place) -> CheckpointStore:
    return cast("CheckpointStore", place.open())


def text(length: int = 300) -> str:
    return secrets.token_hex(length)


def messages(count: int, start: int = 0) -> list[HumanMessage]:
    return [HumanMessage(f"{n} {text()}", id=str(n)) for n in range(start, start + count)]


def save(store: CheckpointStore, id: str, state: Any, execution_id: str = "thread") -> None:
    store.save(
        Checkpoint(id=id, execution_id=execution_id, node_name="n", state=state, metadata={})
    )


def load(place: Place, id: str, execution_id: str = "thread", **options: Any) -> Any:
    """Read with nothing in any cache."""
    return place.open(**options).load(id, execution_id=execution_id).state


def tiers(store: Any) -> TieredBackend:
    backend = store.backend
    while not isinstance(backend, TieredBackend):
        backend = backend.inner
    return backend


def raw(store: CheckpointStore, execution_id: str = "thread") -> dict[ChunkId, bytes]:
    """Return the chunks as they stand in the database."""
    below = tiers(store).inner
    ids = cast("list[ChunkId]", below.execute(FindOldChunks(execution_id, 2**63 - 1)))
    return cast("dict[ChunkId, bytes]", below.execute(FetchChunks(execution_id, ids)))


def moved(store: CheckpointStore, execution_id: str = "thread") -> set[ChunkId]:
    chunks = raw(store, execution_id)
    return {id for id, data in chunks.items() if data.startswith(POINTER)}


def steps(store: CheckpointStore, execution_id: str | None = None) -> Generator[Any, Any, Moved]:
    """Return a move, to be run step by step."""
    return cast("Generator[Any, Any, Moved]", store._moving(execution_id, None))


def advance(
    store: CheckpointStore, operation: Any, until: Callable[[Any], bool] = lambda _: False
) -> Any:
    """Run an operation until it makes a certain request, which is returned unanswered."""
    request = next(operation)
    while not until(request):
        request = operation.send(store.backend.execute(request))
    return request


def proceed(store: CheckpointStore, operation: Any, request: Any) -> Any:
    """Answer a request that an operation waits with, and run it to its end."""

    def rest() -> Any:
        nonlocal request
        while True:
            try:
                request = operation.send((yield request))
            except StopIteration as stop:
                return stop.value

    return run(store.backend.execute, rest())[0]


# Moving


def test_content_moves_and_reads_the_same(place: Place, store: CheckpointStore) -> None:
    state = {"messages": messages(40), "small": "x" * 120, "n": 1}
    save(store, "c1", state)
    done = store.move_to_objects()
    assert (done.executions, done.packs, done.chunks) == (1, 1, 40)
    assert len(moved(store)) == 40
    assert load(place, "c1") == state
    assert store.move_to_objects().chunks == 0
    assert store.executions() == ["thread"]
    save(store, "c2", {**state, "n": 2})
    assert load(place, "c2") == {**state, "n": 2}


async def test_content_moves_and_reads_the_same_async(place: Place) -> None:
    async with place.open() as store:
        state = {"messages": messages(40)}
        save(store, "c1", state)
        assert (await store.amove_to_objects()).chunks == 40
        assert (await store.amove_to_objects("thread")).chunks == 0
    async with place.open() as store:
        assert (await store.aload("c1")).state == state
        await store.aclear("thread")
    assert place.packs() == []


def test_what_is_young_or_small_stays(place: Place) -> None:
    store = place.open(after=timedelta(hours=1), larger=30_000)
    old = datetime.now(UTC) - timedelta(hours=2)
    state = {"old": text(2000), "tiny": "t" * 110}
    store.save(
        Checkpoint(id="c1", execution_id="t", node_name="", state=state, metadata={}, timestamp=old)
    )
    save(store, "c2", {**state, "young": text(3000), "large": text(40_000)}, "t")
    assert store.move_to_objects().chunks == 2  # old and large
    sizes = sorted(len(data) for data in raw(store, "t").values() if not data.startswith(POINTER))
    assert len(sizes) == 2
    assert sizes[0] < 256 < 3000 < sizes[1]


def test_an_execution_with_little_gets_no_pack(place: Place) -> None:
    store = place.open(least_bytes=64 << 10)
    save(store, "c1", {"messages": messages(20)})
    assert store.move_to_objects() == Moved(executions=1)
    save(store, "c2", {"messages": messages(200)})
    assert store.move_to_objects().chunks == 220


def test_pages_stay_so_that_pruning_needs_no_objects(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"messages": (all := messages(300))})
    save(store, "c2", {"messages": all[:200]})
    store.move_to_objects()
    place.folder.rename(place.path / "away")
    fresh = place.open()
    fresh.delete("c1")
    save(fresh, "c3", {"messages": messages(3)})
    (place.path / "away").rename(place.folder)
    assert load(place, "c2") == {"messages": all[:200]}


def test_a_conversation_of_days_is_read_in_three_requests(place: Place) -> None:
    all = messages(800)
    for end in range(50, 850, 50):
        store = place.open()
        save(store, f"c{end}", {"messages": all[:end]})
        assert store.move_to_objects("thread").chunks == 50
        store = place.open()
        assert store.load(f"c{end}").state["messages"] == all[:end]
        counts = tiers(store).objects.counts
        # Also what is needed only when pages were read was in what was read along.
        assert 1 <= counts["get"] == len(place.packs()) <= 3
        assert counts["list"] == counts["put"] == 0
    # And without caches of values, from what was read along.
    before = dict(counts)
    store.codec.caches.drop("thread")
    assert store.load("c800").state["messages"] == all
    assert dict(counts) == before


def test_packs_have_about_the_size_asked_for(place: Place) -> None:
    store = place.open(pack_bytes=20_000)
    state = {"messages": messages(100)}
    save(store, "c1", state)
    done = store.move_to_objects()
    sizes = [path.stat().st_size for path in place.packs()]
    assert done.packs == len(sizes) > 2
    assert all(20_000 <= size < 22_000 for size in sorted(sizes)[1:])
    assert load(place, "c1") == state


def test_rotating_keys_reaches_what_was_moved(place: Place) -> None:
    first, second = generate_key(), generate_key()
    encrypted = {"encryption": lambda: _keys(first)}
    state = {"messages": [*messages(20), HumanMessage(CANARY * 20, id="c")]}
    store = place.open(store=encrypted)
    save(store, "c1", state)
    store.move_to_objects()
    assert moved(store)
    (pack,) = place.packs()
    assert b"canary" not in pack.read_bytes()
    both = place.open(store={"encryption": lambda: _keys(second, first)})
    assert both.rotate_keys() > 20
    assert both.move_to_objects().chunks >= 20
    fresh = place.open(store={"encryption": lambda: _keys(second)})
    assert fresh.load("c1").state == state


def _keys(*keys: str) -> list[bytes]:
    return [b64decode(key) for key in keys]


# Crashes and races


def test_a_crash_between_any_two_steps_loses_nothing(place: Place, store: CheckpointStore) -> None:
    expected: dict[str, Any] = {}
    crashes = 0
    all = messages(30)
    save(store, "first", {"messages": all})
    store.move_to_objects()
    while True:
        # Something to move, to merge and to remove in each attempt.
        all = [*all[1:], *messages(2, start=1000 + crashes)]
        id = f"c{crashes:03}"
        save(store, id, {"messages": all})
        expected[id] = {"messages": all}
        if len(expected) > 3:
            gone = min(expected)
            store.delete(gone)
            del expected[gone]
        operation = steps(store)
        try:
            request = next(operation)
            for _ in range(crashes):
                request = operation.send(store.backend.execute(request))
        except StopIteration:
            break
        operation.close()  # as if the process had died here
        crashes += 1
        if crashes % 5 == 0:
            for one, state in expected.items():
                assert load(place, one) == state
    assert crashes > 20
    store.move_to_objects()
    for one, state in expected.items():
        assert load(place, one) == state
    packs = {path.name for path in place.packs()}
    pointers = [parse_pointer(id, d) for id, d in raw(store).items() if d.startswith(POINTER)]
    assert packs == {pointer.pack.hex() for pointer in pointers}


def test_an_upload_that_was_cut_off_is_removed(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"messages": messages(5)})
    store.move_to_objects()
    (pack,) = place.packs()
    unfinished = pack.with_name("0" * 32 + ".part")
    unfinished.write_bytes(b"CAIRN")
    stray = pack.parents[1] / ("0" * 32) / ("0" * 32 + ".part")
    stray.parent.mkdir()
    stray.write_bytes(b"CAI")
    assert store.move_to_objects().removed == 2
    assert place.packs() == [pack]


def test_a_sweep_during_a_move(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", state := {"messages": messages(20)})
    operation = steps(store, "thread")
    request = advance(store, operation, lambda r: _is_below(r, Move))
    assert len(place.packs()) == 1
    sweeper = place.open()
    assert sweeper.move_to_objects("thread").removed == 1
    proceed(store, operation, request)
    assert load(place, "c1") == state
    store.move_to_objects()
    assert load(place, "c1") == state
    assert len(place.packs()) == 1


def test_a_move_during_a_sweep(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", state := {"messages": messages(20)})
    mover = steps(store, "thread")
    unlinked = advance(store, mover, lambda r: _is_below(r, Move))
    other = place.open()
    (pack,) = place.packs()
    at = objects.Place("here", bytes.fromhex(pack.parts[-3]), "thread")
    sweeper = sweep(tiers(other).settings, at)
    # It has seen the pack, and that no pointer is to it.
    fence = advance(other, sweeper, lambda r: isinstance(r, Remove))
    proceed(store, mover, unlinked)
    assert len(moved(store)) == 20
    assert proceed(other, sweeper, fence).removed == 0
    assert load(place, "c1") == state


def test_what_is_being_moved_is_left_alone_for_a_while(place: Place) -> None:
    store = place.open()
    save(store, "c1", state := {"messages": messages(20)})
    operation = steps(store, "thread")
    request = advance(store, operation, lambda r: _is_below(r, Move))
    patient = place.open(grace=3600)
    assert patient.move_to_objects("thread").removed == 0
    proceed(store, operation, request)
    assert len(moved(store)) == 20
    assert load(place, "c1") == state


def _is_below(request: Any, kind: type) -> bool:
    return isinstance(request, Below) and isinstance(request.request, kind)


def test_a_thread_that_is_cleared_and_begun_anew_during_a_move(
    place: Place, store: CheckpointStore
) -> None:
    save(store, "c1", state := {"messages": messages(20)})
    operation = steps(store, "thread")
    request = advance(store, operation, lambda r: _is_below(r, Move))
    other = place.open()
    other.clear("thread")
    assert place.packs() == []
    save(other, "c1", state)  # the very same chunks
    proceed(store, operation, request)
    assert moved(store) == set()
    assert load(place, "c1") == state


def test_keys_that_are_rotated_during_a_move_stay_rotated(
    place: Place, store: CheckpointStore
) -> None:
    save(store, "c1", {"messages": messages(3)})
    operation = steps(store, "thread")
    request = advance(store, operation, lambda r: _is_below(r, Move))
    one = min(raw(store))
    tiers(store).execute(Rewrite("thread", [(one, b"\x01\x00rewritten")]))
    proceed(store, operation, request)
    assert raw(store)[one] == b"\x01\x00rewritten"


def test_a_reader_that_packs_were_merged_under(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"messages": messages(5)})
    store.move_to_objects()
    ids = sorted(moved(store))
    reader = tiers(place.open())
    operation = reader._operations[FetchChunks](FetchChunks("thread", ids))
    request = next(operation)
    answer = reader._step(request)
    for n in range(3):  # so many packs that they are merged
        save(store, f"d{n}", {"messages": messages(5)})
        store.move_to_objects()
    request = operation.send(answer)
    assert isinstance(request, GetRanges)

    def rest() -> Any:
        nonlocal request
        while True:
            try:
                request = operation.send((yield request))
            except StopIteration as stop:
                return stop.value

    found, _ = run(reader._step, rest())
    assert sorted(found) == ids


def test_packs_of_another_store_are_not_touched(place: Place, store: CheckpointStore) -> None:
    other = place.open("other")
    for one, length in ((store, 10), (other, 20)):
        save(one, "c1", {"messages": messages(length)})
        one.move_to_objects()
    assert len(place.packs()) == 2
    assert other.clear("thread")
    assert store.move_to_objects().removed == 0
    assert len(load(place, "c1")["messages"]) == 10
    assert len(place.packs()) == 1


# Deleting


def test_deleting_reaches_the_packs(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"canary": CANARY * 40 + text()})
    save(store, "c2", state := {"messages": messages(10)})
    assert store.move_to_objects().packs == 1
    store.delete("c1")
    assert store.move_to_objects() == Moved(executions=1)  # more than half of it is live
    save(store, "c3", {"messages": state["messages"][:2]})
    store.delete("c2")
    done = store.move_to_objects()
    assert (done.packs, done.removed) == (1, 1)
    assert len(moved(store)) == 2
    store.delete("c3")
    assert store.move_to_objects().removed == 1
    assert place.packs() == []


def test_clearing_leaves_no_object(place: Place, store: CheckpointStore) -> None:
    for thread in ("a", "b"):
        save(store, "c1", {"canary": f"{CANARY} {thread} {text()}"}, thread)
    store.move_to_objects()
    assert len(place.packs()) == 2
    store.clear("a")
    assert len(place.packs()) == 1
    assert not any(f"{CANARY} a".encode() in path.read_bytes() for path in place.packs())
    assert CANARY in load(place, "c1", "b")["canary"]


def test_what_a_clear_could_not_reach_is_removed_later(
    place: Place, store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    save(store, "c1", {"canary": CANARY + text()})
    store.move_to_objects()
    away = place.path / "away"
    place.folder.rename(away)
    place.folder.write_text("not a folder: every request fails")
    assert store.clear("thread")
    assert "still there until the next sweep" in caplog.text
    place.folder.unlink()
    away.rename(place.folder)
    assert len(place.packs()) == 1
    assert store.move_to_objects().removed == 1
    assert place.packs() == []


def test_a_folder_of_something_else_is_left(
    place: Place, store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    save(store, "c1", {"messages": messages(3)})
    store.move_to_objects()
    (pack,) = place.packs()
    foreign = pack.parents[1] / "foreign" / "file"
    foreign.parent.mkdir()
    foreign.write_text("something else " * 100)
    copied = pack.parents[1] / ("1" * 32) / pack.name
    copied.parent.mkdir()
    shutil.copy(pack, copied)
    assert store.move_to_objects().removed == 0
    assert foreign.exists()
    assert copied.exists()
    assert "nothing that langcairn knows" in caplog.text


# Damage and bad input


def test_a_pack_that_is_gone(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"messages": messages(5)})
    store.move_to_objects()
    (pack,) = place.packs()
    pack.unlink()
    with pytest.raises(MissingChunks, match=rf"moved to pack \S*{pack.name} of the folder"):
        load(place, "c1")
    assert store.move_to_objects().failed == 0
    save(store, "c2", {"n": 1})  # saving goes on


@pytest.mark.parametrize("kept", [0, 10, 1000])
def test_a_pack_that_is_cut(place: Place, store: CheckpointStore, kept: int) -> None:
    save(store, "c1", {"messages": messages(5)})
    store.move_to_objects()
    (pack,) = place.packs()
    pack.write_bytes(pack.read_bytes()[:kept])
    with pytest.raises(CorruptData, match=rf"{pack.name} of .* is cut: it has {kept:,} bytes"):
        load(place, "c1")


def test_changed_bytes_are_found_wherever_they_are(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"text": text()})
    store.move_to_objects()
    (pack,) = place.packs()
    data = pack.read_bytes()
    start = min(p.offset for p in (parse_pointer(i, d) for i, d in raw(store).items()))
    fetch = FetchChunks("thread", sorted(moved(store)))
    reader = place.open(cache_bytes=0).backend
    for at in range(start, len(data)):
        pack.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        with pytest.raises(CorruptData, match="is damaged in pack"):
            reader.execute(fetch)
    pack.write_bytes(data)
    assert load(place, "c1")


def test_a_damaged_pointer(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"text": text(), "other": text()})
    store.move_to_objects()
    one, two = moved(store)
    stored = raw(store)
    for data, message in (
        (stored[one][:-1], "pointer of chunk .* is damaged"),
        (b"\xcf\x09" + stored[one][2:], "newer langcairn"),
        (stored[two], "is damaged in pack"),  # of another chunk
    ):
        tiers(store).inner.execute(Rewrite("thread", [(one, data)]))
        with pytest.raises(CorruptData, match=message):
            load(place, "c1")
    tiers(store).inner.execute(Rewrite("thread", [(one, stored[one][:5])]))
    assert store.move_to_objects().failed == 1


def test_the_folder_is_gone(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"messages": messages(5)})
    store.move_to_objects()
    shutil.rmtree(place.folder)
    with pytest.raises(StoreMisconfigured, match="isn't there"):
        load(place, "c1")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (7, "a URL or an ObjectStorage"),
        ("bucket", "it is a URL"),
        ("memory:", "can't be kept at a memory: URL"),
        ("s3:///nothing", "can't be used"),
        ("file:relative", "absolute/path"),
        ("https://example.com/x", "no known object storage"),
        ({"url": "file:///x", "after": -1}, "after=-1"),
        ({"url": "file:///x", "after": "1 day"}, "after='1 day'"),
        ({"url": "file:///x", "every": 0}, "every=0"),
        ({"url": "file:///x", "larger": 1.5}, r"larger=1\.5"),
        ({"url": "file:///x", "pack_bytes": 0}, "pack_bytes=0"),
        ({"url": "file:///x", "pack_bytes": 2 << 30}, "at most 1 GiB"),
        ({"url": "file:///x", "options": {"region": "x"}}, "no option 'region'"),
        ({"url": "s3://b/x", "options": {"colour": "red"}}, "colour"),
    ],
)
def test_settings_that_cannot_be(objects: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        open_store(
            "memory:", objects=ObjectStorage(**objects) if isinstance(objects, dict) else objects
        )


def test_only_a_store_with_objects_moves(tmp_path: Path, store: CheckpointStore) -> None:
    with open_store("memory:") as plain, pytest.raises(InvalidInput, match="no object storage"):
        plain.move_to_objects()
    guarded = store.guard(lambda *_: True, "somebody")
    with pytest.raises(AccessDenied):
        guarded.move_to_objects()


def test_secrets_are_not_shown() -> None:
    settings = ObjectStorage(url="s3://b/x", options={"secret_access_key": "hush"})
    assert "hush" not in repr(settings)


# In the background


def test_content_moves_in_the_background(place: Place) -> None:
    store = place.open(every=0.05, larger=1000, after=3600, least_bytes=64 << 10)
    save(store, "c1", state := {"large": text(2000), "small": text(100)})
    wait_until(lambda: len(moved(store)) == 1)
    save(store, "c2", state | {"next": text(3000)})
    wait_until(lambda: len(moved(store)) == 2)
    assert load(place, "c1", every=None) == state
    background = tiers(store)._background
    assert background is not None
    thread = background._thread
    assert thread is not None
    store.close()
    assert not thread.is_alive()


def test_old_content_moves_in_the_background(place: Place) -> None:
    store = place.open(every=0.05)
    save(store, "c1", {"messages": messages(10)})
    wait_until(lambda: len(moved(store)) == 10)
    background = tiers(store)._background
    assert background is not None
    wait_until(lambda: not background._touched)


def test_little_by_little_makes_a_pack_in_the_background(place: Place) -> None:
    store = place.open(every=3600, least_bytes=20_000)
    background = tiers(store)._background
    assert background is not None
    # A young one, so that the execution isn't done with.
    ahead = datetime.now(UTC) + timedelta(days=1)
    young = Checkpoint(
        id="young", execution_id="thread", node_name="", state={}, metadata={}, timestamp=ahead
    )
    store.save(young)
    counts = []
    for n in range(8):
        save(store, f"c{n}", {"messages": messages(10)})  # each time others
        background.round()
        counts.append(len(moved(store)))
    assert counts[0] == 0
    assert counts[-1] in (50, 60, 70, 80)
    assert all(count % 10 == 0 for count in counts)
    assert 1 <= len(place.packs()) <= 3
    assert list(background._touched) == ["thread"]


def test_commits_made_together_are_noted(place: Place) -> None:
    store = place.open(every=3600)
    commits = [Commit(id, None, [(ChunkId("x" * 22), b"\x01\x00x")]) for id in ("a", "b")]
    assert len(store.commit_all(commits)) == 2
    background = tiers(store)._background
    assert background is not None
    assert list(background._touched) == ["a", "b"]


async def test_an_async_store_moves_in_the_background(place: Place) -> None:
    store = place.open(every=0.05)
    async with store:
        await store.asave(
            Checkpoint(
                id="c", execution_id="thread", node_name="", state={"t": text(900)}, metadata={}
            )
        )
        wait_until(lambda: len(moved(store)) == 1)


def test_a_failed_round_is_repeated(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.folder.write_text("in the way")
    store = place.open(every=0.05)
    save(store, "c1", {"messages": messages(10)})
    wait_until(lambda: "stays in the database for now" in caplog.text)
    place.folder.unlink()
    wait_until(lambda: len(moved(store)) == 10)


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happened():
            return
        time.sleep(0.02)
    raise AssertionError("it didn't happen within 20 s")


_FORKING = """
import os, sys, time
from langcairn import Checkpoint, ObjectStorage, open_store

url, folder = sys.argv[1:]
objects = ObjectStorage(url=folder, after=0, every=0.05, least_bytes=0)
store = open_store(url, objects=objects)

def save(thread):
    state = {"t": os.urandom(900)}
    store.save(Checkpoint(id="c", execution_id=thread, node_name="", state=state, metadata={}))

save("parent")
pid = os.fork()
save("child" if pid == 0 else "other")
below = store.backend.inner
from langcairn.backends.base import FetchChunks, FindOldChunks

def moved(thread):
    ids = below.execute(FindOldChunks(thread, 2**63 - 1))
    return all(d[:1] == bytes([0xCF]) for d in below.execute(FetchChunks(thread, ids)).values())

deadline = time.monotonic() + 20
while not moved("child" if pid == 0 else "other"):
    assert time.monotonic() < deadline
    time.sleep(0.02)
store.close()
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_process_moves_on(place: Place) -> None:
    url = f"sqlite:///{place.path}/fork.db"
    subprocess.run(
        [sys.executable, "-c", _FORKING, url, f"file://{place.folder}"], check=True, timeout=60
    )
    assert len(place.packs()) == 3


# Beside what else a store does


def test_a_lease_of_another_one_is_respected(place: Place, store: CheckpointStore) -> None:
    save(store, "c1", {"messages": messages(10)})
    store.move_to_objects()
    store.delete("c1")
    other = place.open()
    with other.lease("thread"):
        save(other, "c2", state := {"messages": messages(10)})
        assert store.move_to_objects().removed == 0
        other.move_to_objects("thread")
        assert len(place.packs()) == 1  # whose lease it is may remove
    store.move_to_objects()
    assert load(place, "c2") == state


def test_clearing_under_a_lease_leaves_no_object(place: Place, store: CheckpointStore) -> None:
    with store.lease("thread"):
        save(store, "c1", {"canary": CANARY + text()})
        store.move_to_objects()
        assert len(place.packs()) == 1
        store.clear("thread")
        assert place.packs() == []


def test_what_a_transaction_stores_is_noted(place: Place) -> None:
    store = place.open(every=3600)
    with store.transaction() as transaction:
        for thread in ("a", "b"):
            transaction.save(
                Checkpoint(id="c", execution_id=thread, node_name="", state={}, metadata={})
            )
    background = tiers(store)._background
    assert background is not None
    assert sorted(background._touched) == ["a", "b"]


def test_backups_and_checks_see_what_was_moved(place: Place, store: CheckpointStore) -> None:
    state = {"messages": messages(20)}
    for thread in ("a", "b"):
        save(store, "c1", state, thread)
    before = store.stats()
    store.move_to_objects()
    after = store.stats()
    assert (after.executions, after.checkpoints) == (before.executions, before.checkpoints)
    assert not verify(store).findings
    backup(store, place.path / "backup")
    with open_store("memory:") as target:
        restore(place.path / "backup", target)
        assert target.executions() == ["a", "b"]
        assert target.load("c1", execution_id="b").state == state
    place.packs()[0].unlink()
    (finding,) = {one.execution_id for one in verify(place.open()).findings}
    assert finding in ("a", "b")


def test_repair_without_objects_drops_nothing(
    place: Place, store: CheckpointStore, tmp_path: Path
) -> None:
    said = text()
    save(store, "c1", {"said": said})
    store.move_to_objects()
    with open_store(f"sqlite:///{tmp_path}/agent.db") as without:
        assert "objects=" in verify(without).findings[0].what
        with pytest.raises(StoreMisconfigured, match="objects="):
            repair(without, tmp_path / "before.cairn")
    assert load(place, "c1") == {"said": said}
