"""`WriteBehind`: what was accepted is stored as it was, in order, or reported."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from langchain_core.messages import AIMessage, HumanMessage
from tests.gated_backend import GatedBackend

from langcairn import (
    Checkpoint,
    CheckpointNotFound,
    CheckpointSaver,
    CheckpointStore,
    CorruptData,
    InvalidInput,
    MemoryCheckpointStore,
    SavesFailed,
    SqliteCheckpointStore,
    StoreClosed,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
    Unserializable,
    WriteBehind,
)
from langcairn.backends.base import FindCheckpoints
from langcairn.records import draft_of
from langcairn.write_sessions import Session, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from langcairn.backends.base import Commit

_BOUND = 30.0  # [s] for what should take far less


@pytest.fixture
def backend() -> GatedBackend:
    return GatedBackend()


@pytest.fixture
def store(backend: GatedBackend) -> Iterator[CheckpointStore]:
    with CheckpointStore(backend) as store:
        yield store


def record(number: int, execution_id: str = "run", **fields: Any) -> Checkpoint:
    """Return the n-th checkpoint of a conversation."""
    messages = [HumanMessage(f"{i}: " + "word " * 100, id=str(i)) for i in range(number + 1)]
    state = {"messages": messages, "step": number, "notes": {"n": list(range(number * 40))}}
    return Checkpoint(
        **{"id": f"{number:04}", "execution_id": execution_id, "state": state, **fields}
    )


def ids(store: CheckpointStore, execution_id: str = "run") -> list[str]:
    return [one.id for one in reversed(store.list(execution_id))]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _BOUND
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# What was accepted is stored as it was


def test_saves_are_stored(store: CheckpointStore) -> None:
    kept = [record(n, f"run {n % 3}") for n in range(60)]
    with WriteBehind(store) as behind:
        for checkpoint in kept:
            behind.save(checkpoint)
        behind.flush()
        assert behind.pending == 0
        for checkpoint in kept:
            assert store.load(checkpoint.id) == checkpoint


async def test_saves_of_tasks_are_stored(store: CheckpointStore) -> None:
    async with WriteBehind(store, max_pending=4) as behind:
        await asyncio.gather(*(behind.asave(record(n, f"run {n % 3}")) for n in range(40)))
        await behind.aflush()
        assert sum(len(store.list(f"run {i}")) for i in range(3)) == 40


def test_encrypted(backend: GatedBackend) -> None:
    with CheckpointStore(backend, encryption=bytes(32)) as store, WriteBehind(store) as behind:
        for n in range(5):
            behind.save(record(n))
        behind.flush()
        backend.failing = refusing("0005", CorruptData("no"))
        behind.save(record(5))
        with pytest.raises(SavesFailed) as raised:
            behind.flush()
        assert raised.value.failures[0][0].state == record(5).state
        behind.save(record(6))
        behind.flush()
        assert ids(store) == ["0000", "0001", "0002", "0003", "0004", "0006"]
        assert store.load("0006").state == record(6).state
        (found,) = cast("Any", backend.execute(FindCheckpoints("run", id="0004")))
        assert b"step" not in found.row.state


def test_one_in_front_of_a_cold_cache(store: CheckpointStore) -> None:
    store.save(record(3))
    with WriteBehind(store) as behind:
        behind.save(record(4))
        behind.flush()
        store.save(record(5))
    assert ids(store) == ["0003", "0004", "0005"]
    for n in (3, 4, 5):
        assert store.load(f"{n:04}").state == record(n).state


def test_later_changes_do_not_show(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.gate.clear()
    checkpoint = record(2, metadata={"tags": ["a"]})
    with WriteBehind(store) as behind:
        behind.save(checkpoint)
        expected = record(2, metadata={"tags": ["a"]}, timestamp=checkpoint.timestamp)
        checkpoint.state["messages"][0].content = "changed"
        checkpoint.state["messages"].append(AIMessage("more"))
        checkpoint.state["notes"]["n"].append("more")
        checkpoint.metadata["tags"].append("b")
        checkpoint.node_name = "other"
        backend.gate.set()
        behind.flush()
        assert store.load("0002") == expected


def test_what_cannot_be_stored_is_refused_at_once(store: CheckpointStore) -> None:
    with WriteBehind(store) as behind:
        behind.save(record(0))
        bad = record(1)
        bad.state["lock"] = threading.Lock()
        with pytest.raises(Unserializable, match="lock"):
            behind.save(bad)
        with pytest.raises(InvalidInput, match="version"):
            behind.save(record(1, version=-1))
        behind.save(record(2))
        behind.flush()
        assert ids(store) == ["0000", "0002"]
        assert store.load("0002").state == record(2).state


@pytest.mark.parametrize("batch_size", [1, 50])
def test_the_last_save_of_a_key_wins(
    store: CheckpointStore, backend: GatedBackend, batch_size: int
) -> None:
    backend.gate.clear()
    with WriteBehind(store, batch_size=batch_size) as behind:
        for n in (0, 7, 3, 5):
            behind.save(record(n, id="same"))
        behind.save(record(7, id="next"))  # with the chunks of one that was replaced
        backend.gate.set()
        behind.flush()
        assert store.load("same").state == record(5).state
        assert store.load("next").state == record(7).state
        assert len(store.list("run")) == 2


def test_saves_share_batches(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.gate.clear()
    with WriteBehind(store, batch_size=50) as behind:
        behind.save(record(0))
        assert backend.held.wait(_BOUND)
        for n in range(1, 121):
            behind.save(Checkpoint(execution_id=f"run {n % 30}", state={"n": n}))
        backend.gate.set()
    assert backend.batches == [1, 50, 50, 20]


def test_memory_is_bounded(store: CheckpointStore) -> None:
    sessions = Sessions(store.codec, 300_000)
    with WriteBehind(store, cache_bytes=300_000) as behind:
        behind._queue._sessions = sessions
        for n in range(60):
            behind.save(record(n % 20, f"run {n % 7}", id=str(n)))
            assert sessions._total <= 300_000
            assert sessions._total == sum(s.size for s in sessions._by_execution.values())
        behind.flush()
        for n in range(60):
            assert store.load(str(n)).state == record(n % 20).state


def test_a_session_that_holds_old_content_is_replaced(
    store: CheckpointStore, backend: GatedBackend
) -> None:
    backend.gate.clear()
    with WriteBehind(store) as behind:
        seen = set()
        for n in range(30):
            behind.save(
                Checkpoint(id=str(n), execution_id="run", state={"blob": bytes([n]) * 200_000})
            )
            seen.add(behind._queue._sessions._by_execution["run"])
        assert 3 < len(seen) < 15
        backend.gate.set()
        behind.flush()
        assert all(store.load(str(n)).state["blob"][0] == n for n in range(30))


def test_after_a_replacement_a_commit_depends_on_nothing(store: CheckpointStore) -> None:
    def commit(number: int) -> Commit:
        return session.commit([session.encode(draft_of(record(number)))])

    session = Session(store.codec, "run")
    first = commit(20)
    session.committed(first, 1)
    second = commit(21)
    assert second.epoch == 1
    assert len(second.chunks) < len(first.chunks) / 2
    # Another epoch than expected: what was replaced may be swept, by one who knows that epoch.
    session.committed(second, 2)
    third = commit(22)
    assert third.epoch is None
    assert len(third.chunks) > len(first.chunks)


# Room


def test_a_full_queue_waits(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.gate.clear()
    with WriteBehind(store, max_pending=3) as behind, ThreadPoolExecutor() as pool:
        for n in range(3):
            behind.save(record(n))
        with pytest.raises(StoreUnavailable, match="3 saves are still pending after"):
            behind.save(record(3), timeout=0.01)
        waiting = pool.submit(behind.save, record(4))
        until(lambda: behind._queue._waiting)
        assert behind.pending == 3
        backend.gate.set()
        waiting.result(_BOUND)
    assert ids(store) == ["0000", "0001", "0002", "0004"]


def test_bytes_are_bounded_too(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.gate.clear()
    with WriteBehind(store, max_pending_bytes=1000) as behind:
        behind.save(record(5))  # there is always room for one
        with pytest.raises(StoreUnavailable, match="1 saves"):
            behind.save(record(6), timeout=timedelta(0))
        backend.gate.set()
        behind.save(record(7))
    assert ids(store) == ["0005", "0007"]


async def test_a_full_queue_does_not_block_the_loop(
    store: CheckpointStore, backend: GatedBackend
) -> None:
    backend.gate.clear()
    async with WriteBehind(store, max_pending=1) as behind:
        await behind.asave(record(0))
        with pytest.raises(StoreUnavailable, match="not accepted"):
            await behind.asave(record(1), timeout=0.01)
        with pytest.raises(StoreUnavailable, match="They go on"):
            await behind.aflush(timeout=0.01)
        cancelled = asyncio.create_task(behind.asave(record(2)))
        waiting = asyncio.create_task(behind.asave(record(3)))
        await asyncio.sleep(0)
        assert len(behind._queue._waiting) == 2
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        backend.gate.set()
        await asyncio.wait_for(waiting, _BOUND)
    assert ids(store) == ["0000", "0003"]


def test_flush_waits_for_what_was_accepted_before(
    store: CheckpointStore, backend: GatedBackend
) -> None:
    backend.gate.clear()
    with WriteBehind(store, batch_size=1) as behind, ThreadPoolExecutor() as pool:
        behind.save(record(0))
        assert backend.held.wait(_BOUND)
        flushed = pool.submit(behind.flush)
        until(lambda: behind._queue._waiting)
        behind.save(record(1))
        backend.failing = lambda row: backend.gate.clear() if row.id == "0000" else None
        backend.gate.set()
        flushed.result(_BOUND)  # though the second is held up now
        assert behind.pending == 1
        backend.gate.set()


# Failures


def refusing(bad: str, error: Exception) -> Callable[[Any], Exception | None]:
    return lambda row: error if row.id == bad else None


@pytest.mark.parametrize("batch_size", [1, 50])
def test_one_that_fails_fails_alone(
    store: CheckpointStore, backend: GatedBackend, batch_size: int
) -> None:
    told: list[tuple[Checkpoint, Exception]] = []
    error = StoreMisconfigured("not here")
    backend.failing = refusing("0002", error)
    backend.gate.clear()
    behind = WriteBehind(
        store, batch_size=batch_size, on_error=lambda *failure: told.append(failure)
    )
    bad = record(2, node_name="answer", metadata={"by": "test"})
    for checkpoint in (record(0), record(1), bad, record(3), record(4, "other")):
        behind.save(checkpoint)
    backend.gate.set()
    with pytest.raises(SavesFailed, match=r"'0002' of execution 'run'.*not here") as raised:
        behind.flush()
    assert raised.value.failures == told == [(bad, error)]
    assert raised.value.__cause__ is error
    behind.save(record(4))
    behind.close()
    assert ids(store) == ["0000", "0001", "0003", "0004"]
    for checkpoint in store.list("run"):
        # They have content in common with the one that failed.
        assert checkpoint.state == record(int(checkpoint.id)).state
    assert ids(store, "other") == ["0004"]


def test_one_that_makes_the_whole_batch_fail(
    store: CheckpointStore, backend: GatedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = backend.execute_all

    def poisoned(commits: Any) -> Any:
        if any(row.id == "0001" for commit in commits for row in commit.checkpoints):
            raise ValueError("a driver's own error")
        return inner(commits)

    monkeypatch.setattr(backend, "execute_all", poisoned)
    behind = WriteBehind(store)
    for n in range(4):
        behind.save(record(n, f"run {n}"))
    with pytest.raises(SavesFailed, match="'0001'") as raised:
        behind.close()
    assert len(raised.value.failures) == 1
    assert [ids(store, f"run {n}") for n in range(4)] == [["0000"], [], ["0002"], ["0003"]]


def test_the_next_caller_is_told(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.failing = refusing("0000", CorruptData("no"))
    with WriteBehind(store) as behind:
        behind.save(record(0))
        until(lambda: behind.pending == 0)
        with pytest.raises(SavesFailed, match="This save was not begun"):
            behind.save(record(1))
        behind.save(record(2))
    assert ids(store) == ["0002"]


def test_a_failed_save_can_be_repeated(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.failing = refusing("0001", StoreMisconfigured("not yet"))
    with WriteBehind(store) as behind:
        behind.save(record(0))
        behind.save(record(1))
        with pytest.raises(SavesFailed) as raised:
            behind.flush()
        backend.failing = lambda _row: None
        for checkpoint, _ in raised.value.failures:
            behind.save(checkpoint)
    assert store.load("0001").state == record(1).state


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreFull("full")])
def test_what_passes_is_tried_again(
    store: CheckpointStore, backend: GatedBackend, error: Exception
) -> None:
    backend.outage = error
    with WriteBehind(store) as behind:
        for n in range(5):
            behind.save(record(n))
        until(lambda: len(backend.batches) >= 3)
        assert behind.pending == 5
        backend.outage = None
    assert ids(store) == ["0000", "0001", "0002", "0003", "0004"]


def test_what_does_not_pass_is_reported(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.outage = StoreUnavailable("away")
    behind = WriteBehind(store, retry_for=0.2, batch_size=2)
    for n in range(9):
        behind.save(record(n))
    with pytest.raises(SavesFailed, match="and 8 more") as raised:
        behind.close()
    assert [checkpoint.id for checkpoint, _ in raised.value.failures] == [
        f"{n:04}" for n in range(9)
    ]
    assert all(c.state == record(n).state for n, (c, _) in enumerate(raised.value.failures))
    behind.close()  # it has been said


def test_an_outage_of_one_execution_spares_the_others(
    store: CheckpointStore, backend: GatedBackend
) -> None:
    backend.failing = lambda row: StoreUnavailable("lost") if row.execution_id == "lost" else None
    behind = WriteBehind(store, retry_for=0.3)
    behind.save(record(0, "lost"))
    for n in range(5):
        behind.save(record(n))
    until(lambda: behind.pending <= 1)
    with pytest.raises(SavesFailed, match="execution 'lost'"):
        behind.close()
    assert len(ids(store)) == 5


@pytest.mark.parametrize("own", [ValueError("oops"), SystemExit(3)])
def test_a_callback_that_fails_ends_nothing(
    store: CheckpointStore, backend: GatedBackend, own: BaseException
) -> None:
    def fail(_checkpoint: Checkpoint, _error: Exception) -> None:
        raise own

    backend.failing = refusing("0000", CorruptData("no"))
    behind = WriteBehind(store, on_error=fail)
    behind.save(record(0))
    with pytest.raises(SavesFailed) as raised:
        behind.flush()
    ((_, error),) = raised.value.failures
    assert repr(own) in error.__notes__[0]
    behind.save(record(1))
    behind.close()
    assert ids(store) == ["0001"]


def test_a_callback_cannot_wait_for_its_queue(
    store: CheckpointStore, backend: GatedBackend
) -> None:
    refused: list[Exception] = []

    def flush(_checkpoint: Checkpoint, _error: Exception) -> None:
        for call in (behind.flush, behind.close):
            with pytest.raises(StoreUnavailable, match="on_error") as raised:
                call()
            refused.append(raised.value)

    backend.failing = refusing("0000", CorruptData("no"))
    behind = WriteBehind(store, on_error=flush)
    behind.save(record(0))
    with pytest.raises(SavesFailed):
        behind.close()
    assert len(refused) == 2


def test_an_interrupted_save_leaves_nothing_half_done(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WriteBehind(store) as behind:
        add = behind._queue._add

        def interrupted(_save: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(behind._queue, "_add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            behind.save(record(5))
        monkeypatch.setattr(behind._queue, "_add", add)
        behind.save(record(6))  # has nearly all of its content in common with the other
        behind.flush()
        assert store.load("0006").state == record(6).state


# Beside other writers


def test_cleared_meanwhile(store: CheckpointStore, backend: GatedBackend) -> None:
    with WriteBehind(store) as behind:
        behind.save(record(20))
        behind.flush()
        store.clear("run")
        behind.save(record(21))
        behind.flush()
        assert store.load("0021").state == record(21).state
        backend.gate.clear()
        behind.save(record(22))
        store.clear("run")
        store.save(record(1))
        backend.gate.set()
        behind.save(record(23))
        behind.flush()
        assert ids(store) == ["0001", "0022", "0023"]
        assert store.load("0022").state == record(22).state
        assert store.load("0023").state == record(23).state


class Mixed(RuleBasedStateMachine):
    """Saves behind and saves directly, replacements and removals, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryCheckpointStore()
        self.behind = WriteBehind(self.store, batch_size=3, cache_bytes=200_000)
        self.model: dict[str, dict[str, Any]] = {}
        self.state: dict[str, Any] = {"list": [], "dict": {}}

    @rule(text=st.sampled_from("abc"), drop=st.booleans())
    def grow(self, text: str, drop: bool) -> None:
        members = self.state["list"][1:] if drop else self.state["list"]
        self.state = {
            "list": [*members, HumanMessage(text * 300)],
            "dict": {**self.state["dict"], text: [text * 700, len(members)]},
        }

    @rule(id=st.sampled_from("123456"), direct=st.booleans())
    def save(self, id: str, direct: bool) -> None:
        if direct:
            self.behind.flush()  # what is saved after it is newer
        saver: Any = self.store if direct else self.behind
        saver.save(Checkpoint(id=id, execution_id="run", state=self.state))
        self.model[id] = self.state

    @rule()
    def mutate(self) -> None:
        self.behind.flush()
        self.state = {key: value.copy() for key, value in self.state.items()}
        if self.state["list"]:
            self.state["list"][0] = AIMessage("changed" * 50)

    @rule(id=st.sampled_from("123456"), flush=st.booleans())
    def delete(self, id: str, flush: bool) -> None:
        if not flush and self.behind.pending:
            return  # whether the save or the removal comes last would be luck
        self.behind.flush()
        assert self.store.delete(id) == (self.model.pop(id, None) is not None)

    @rule()
    def clear(self) -> None:
        self.behind.flush()
        self.store.clear("run")
        self.model.clear()

    @rule()
    def compare(self) -> None:
        self.behind.flush()
        assert {c.id: c.state for c in self.store.list("run")} == self.model

    def teardown(self) -> None:
        self.behind.close()
        assert {c.id: c.state for c in self.store.list("run")} == self.model


@pytest.mark.timeout(400)
def test_mixed_with_direct_saves_and_removals() -> None:
    run_state_machine_as_test(Mixed, settings=settings())


# The end


def test_closed(store: CheckpointStore) -> None:
    behind = WriteBehind(store)
    behind.save(record(0))
    behind.close()
    behind.close()
    with pytest.raises(StoreClosed):
        behind.save(record(1))
    assert ids(store) == ["0000"]  # the store is open still
    until(lambda: not _threads())


def test_closing_lets_nobody_wait(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.gate.clear()
    behind = WriteBehind(store, max_pending=1)
    behind.save(record(0))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(behind.save, record(1))
        until(lambda: behind._queue._waiting)
        closed = pool.submit(behind.close)
        with pytest.raises(StoreClosed):
            waiting.result(_BOUND)
        backend.gate.set()
        closed.result(_BOUND)
    assert ids(store) == ["0000"]


def test_a_closed_store_is_reported(tmp_path: Path) -> None:
    store = SqliteCheckpointStore(tmp_path / "closed.db")
    behind = WriteBehind(store)
    store.close()
    behind.save(record(0))
    with pytest.raises(SavesFailed, match="StoreClosed"):
        behind.close()


def test_one_that_is_dropped_still_stores(store: CheckpointStore, backend: GatedBackend) -> None:
    backend.gate.clear()
    behind = WriteBehind(store)
    behind.save(record(0))
    gone = weakref.ref(behind)
    del behind
    gc.collect()
    assert gone() is None
    backend.gate.set()
    until(lambda: not _threads())
    assert ids(store) == ["0000"]


def _threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "langcairn-write-behind"]


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_pending": 0}, "max_pending must be a whole number, 1 or more, not 0"),
        ({"max_pending": 2.0}, "not 2.0"),
        ({"max_pending_bytes": -1}, "max_pending_bytes"),
        ({"batch_size": True}, "batch_size"),
        ({"cache_bytes": -1}, "0 or more"),
        ({"retry_for": -1}, "retry_for must not be negative"),
        ({"retry_for": float("inf")}, "infinite"),
        ({"retry_for": "1"}, "retry_for"),
        ({"on_error": "print"}, "on_error must be a function"),
    ],
)
def test_bad_options(store: CheckpointStore, options: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        WriteBehind(store, **options)


def test_bad_arguments(store: CheckpointStore) -> None:
    bad: Any = "sqlite:///x.db"
    with pytest.raises(InvalidInput, match="expected an open store, not str"):
        WriteBehind(bad)
    with WriteBehind(store) as behind:
        wrong: Any = {"state": 1}
        with pytest.raises(InvalidInput, match="expected a Checkpoint"):
            behind.save(wrong)
        behind.save(record(0))
        with pytest.raises(InvalidInput, match="timeout"):
            behind.flush(timeout=-1)
        no_store: Any = behind
        with pytest.raises(InvalidInput, match="not WriteBehind"):
            CheckpointSaver(no_store)
        with pytest.raises(CheckpointNotFound):
            store.load("unknown")
