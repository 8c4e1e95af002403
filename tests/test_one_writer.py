"""One writer for an execution: over processes, with an owner stopped, and clocks that jump."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langcairn import (
    Checkpoint,
    CheckpointSaver,
    CheckpointStore,
    ConcurrentWriter,
    FileCheckpointStore,
    LeaseHeld,
    LeaseLost,
    MemoryCheckpointStore,
    SqliteCheckpointStore,
    open_store,
)
from langcairn.backends import conditions
from langcairn.testing.checkpoints import put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

LIMIT = 60  # [s]
CONFIG: Any = {"configurable": {"thread_id": "t"}}
TURNS, WORKERS = 6, 3

# Nothing of the parent's threads and connections is in such a child.
processes = multiprocessing.get_context("spawn")


@pytest.fixture(params=["sqlite", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"sqlite": "sqlite:///", "file": "file://"}[request.param] + f"{tmp_path}/store"


# Processes


class State(TypedDict):
    done: Annotated[list[str], lambda old, new: old + new]


def counter(saver: CheckpointSaver) -> Any:
    builder = StateGraph(State)
    builder.add_node("work", lambda _: {"done": [f"{os.getpid()}"]})
    builder.add_node("rest", lambda _: {"done": ["rest"]})
    builder.add_edge(START, "work")
    builder.add_edge("work", "rest")
    builder.add_edge("rest", END)
    return builder.compile(checkpointer=saver)


def race(url: str, pipe: Connection) -> None:
    """Run the graph some times, and begin anew where another run was faster."""
    refused = 0
    with open_store(url) as store:
        graph = counter(CheckpointSaver(store, single_writer=True))
        pipe.send("ready")
        pipe.recv()
        for _ in range(TURNS):
            while True:
                try:
                    graph.invoke({"done": ["turn"]}, CONFIG)
                    break
                except ConcurrentWriter:
                    refused += 1
    pipe.send(refused)


def test_processes_that_race_make_no_fork(url: str) -> None:
    pipes, children = [], []
    for _ in range(WORKERS):
        ours, theirs = processes.Pipe()
        children.append(processes.Process(target=race, args=(url, theirs)))
        pipes.append(ours)
        children[-1].start()
        theirs.close()  # so that its end shows
    for message in (None, "go"):
        for pipe in pipes:
            if message is None:
                assert receive(pipe) == "ready"
            else:
                pipe.send(message)
    refused = sum(receive(pipe) for pipe in pipes)
    for child in children:
        child.join(LIMIT)
        assert child.exitcode == 0
    with open_store(url) as store:
        found = store.list("t")
        parents = [one.parent_id for one in found]
        assert len(set(parents)) == len(parents)  # no two checkpoints continue the same one
        assert [one.id for one in found[1:]] == parents[:-1]
        done = found[0].state["done"]
        assert done.count("rest") >= TURNS * WORKERS
        # A run that was refused may have left its input behind, for the next one to go on from.
        assert TURNS * WORKERS <= done.count("turn") <= TURNS * WORKERS + refused


def receive(pipe: Connection) -> Any:
    assert pipe.poll(LIMIT), "the child said nothing"
    return pipe.recv()


def own(url: str, pipe: Connection) -> None:
    """Write under a lease, and once more when told so."""
    with open_store(url) as store, store.lease("t", ttl=0.5) as lease:
        store.save(Checkpoint(id="1", execution_id="t", state={"by": "first"}))
        pipe.send(lease.token)
        pipe.recv()
        for act in (
            lambda: store.save(Checkpoint(id="3", execution_id="t", state={"by": "first"})),
            lambda: store.delete("1", execution_id="t"),
            lambda: put(CheckpointSaver(store), 9, {"a": 1}, thread="t"),
        ):
            try:
                pipe.send(act())
            except LeaseLost as error:
                pipe.send(type(error).__name__)


def test_an_owner_that_was_stopped_cannot_write(url: str) -> None:
    ours, theirs = processes.Pipe()
    child = processes.Process(target=own, args=(url, theirs))
    child.start()
    theirs.close()
    token = receive(ours)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    try:
        with open_store(url) as store:
            taken = taken_over(store)
            try:
                assert taken.token > token
                store.save(Checkpoint(id="2", execution_id="t", state={"by": "second"}))
                ours.send("go on")
                os.kill(child.pid, signal.SIGCONT)
                assert [receive(ours) for _ in range(3)] == ["LeaseLost"] * 3
            finally:
                taken.release()
            child.join(LIMIT)
            assert child.exitcode == 0
            assert [one.id for one in store.list("t")] == ["2", "1"]
    finally:
        child.kill()


def taken_over(store: CheckpointStore) -> Any:
    end = time.monotonic() + LIMIT
    while True:
        try:
            return store.lease("t", ttl=60).acquire()
        except LeaseHeld:
            assert time.monotonic() < end
            time.sleep(0.02)


# Clocks of this machine, which the server's backends don't go by


@pytest.fixture(params=["memory", "sqlite", "file"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[CheckpointStore]]:
    """Two stores on the same data."""
    if request.param == "memory":
        backend = MemoryCheckpointStore().backend
        stores = [CheckpointStore(backend) for _ in range(2)]
    elif request.param == "sqlite":
        stores = [SqliteCheckpointStore(tmp_path / "db") for _ in range(2)]
    else:
        stores = [FileCheckpointStore(tmp_path / "store") for _ in range(2)]
    with closing(stores[0]), closing(stores[1]):
        yield stores


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """What sets the machine's clock forward by some seconds, or back."""
    clock, offset = conditions.clock, 0

    def jump(seconds: float) -> None:
        nonlocal offset
        offset += round(seconds * 1_000_000)

    monkeypatch.setattr(conditions, "clock", lambda: clock() + offset)
    return jump


def save(store: CheckpointStore, id: str) -> None:
    store.save(Checkpoint(id=id, execution_id="t", state={}))


@pytest.mark.parametrize("seconds", [61.0, 86_400.0 * 365, -90.0, -86_400.0 * 365])
def test_a_clock_that_jumps_lets_another_one_take_over(
    opened: list[CheckpointStore], jump: Callable[[float], None], seconds: float
) -> None:
    one, two = opened
    with one.lease("t", ttl=60) as first:
        save(one, "a")
        jump(seconds)
        save(one, "b")  # nobody has taken it over
        with two.lease("t", ttl=60) as second:
            assert second.token > first.token
            save(two, "c")
            jump(-seconds)
            with pytest.raises(LeaseLost):
                save(one, "d")
            save(two, "e")
    assert [found.id for found in one.list("t")] == ["e", "c", "b", "a"]


def test_a_clock_that_is_set_right_changes_nothing(
    opened: list[CheckpointStore], jump: Callable[[float], None]
) -> None:
    one, two = opened
    with one.lease("t", ttl=60):
        for seconds in (-1.0, -20.0, 2.5, 40.0):
            jump(seconds)
            with pytest.raises(LeaseHeld):
                save(two, "a")
            with pytest.raises(LeaseHeld):
                two.lease("t").acquire()
            save(one, "b")


def test_tokens_grow_even_if_time_goes_back(
    opened: list[CheckpointStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened
    first = one.lease("t", ttl=60).acquire()
    token = first.token
    first.release()
    monkeypatch.setattr("langcairn.backends.base.time.time_ns", lambda: 1_000_000_000)
    with two.lease("t", ttl=60) as second:
        assert second.token > token
