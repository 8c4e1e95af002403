"""Requests of several clients, their steps in any order: nothing acknowledged is ever missed.

Plans yield a step at a time, so every order in which the steps of several clients can reach a
server can be played, one after another.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sqlite_rows import row
from tests.valkey_server import ValkeyServer

from langcairn.backends.base import (
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    Remove,
    Request,
    Sweep,
)
from langcairn.backends.redis.keys import Keys
from langcairn.backends.redis.plans import Plans
from langcairn.errors import StaleEpoch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import redis

    from langcairn.backends.redis.commands import Command, Plan

KEYS = Keys("langgraph:")
PLANS = Plans(KEYS, 0, renew_on_read=False)
EXPIRING = Plans(KEYS, 3_600_000, renew_on_read=True)


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with ValkeyServer() as server, server.client() as client:
        yield client


class Process:
    """A client process that does one thing after another, a command at a time.

    Attributes:
        epochs: Those it knows, by execution.
        done: Whether it has nothing more to do.
    """

    def __init__(
        self, client: redis.Redis, plans: Plans, requests: list[Request], *, sweeps: bool = True
    ) -> None:
        self._client = client
        self._plans = plans
        self._requests = requests
        self._sweeps = sweeps
        self._steps = self._work()
        self.epochs: dict[str, int] = {}
        self.done = False

    def go_on(self) -> None:
        """Do one step."""
        try:
            next(self._steps)
        except StopIteration:
            self.done = True

    def _work(self) -> Generator[None]:
        for request in self._requests:
            if isinstance(request, Commit):
                # As the store does it: a commit that is refused is repeated in full.
                known = self.epochs.get(request.execution_id)
                try:
                    epoch = yield from self._answer(request._replace(epoch=known))
                except StaleEpoch:
                    epoch = yield from self._answer(request)
                self.epochs[request.execution_id] = epoch
            elif isinstance(request, Remove):
                newer = yield from self._answer(request)
                if newer is not None and self._sweeps:
                    yield from self._sweep(request.execution_id, newer)
            else:
                yield from self._answer(request)

    def _sweep(self, execution_id: str, epoch: int) -> Generator[None]:
        """Sweep what no row refers to; here a checkpoint refers to the chunk of its name."""
        found = yield from self._answer(FindCheckpoints(execution_id))
        live = {one.row.id for one in found}
        old = yield from self._answer(FindOldChunks(execution_id, epoch))
        garbage = [id for id in old if id not in live]
        yield from self._answer(Sweep(execution_id, epoch, garbage))

    def _answer(self, request: Request) -> Generator[None, None, Any]:
        plan = self._plans.make(request)
        try:
            step = next(plan)
            while True:
                replies = []
                for command in step.commands:
                    replies.append(send(self._client, command))
                    yield  # in a cluster, another client may be faster with the next one
                step = plan.send(replies)
        except StopIteration as stop:
            return stop.value


def send(client: redis.Redis, command: Command) -> Any:
    return client.execute_command(*(command.full or command.words))  # type: ignore[no-untyped-call]  # redis-py's types have gaps


def answer(client: redis.Redis, request: Request) -> Any:
    plan: Plan = PLANS.make(request)
    try:
        step = next(plan)
        while True:
            step = plan.send([send(client, command) for command in step.commands])
    except StopIteration as stop:
        return stop.value


def commit(execution_id: str, id: str, namespace: str = "") -> Commit:
    chunks = [(ChunkId(id), id.encode())]
    return Commit(execution_id, None, chunks, [row(id, execution_id, namespace)])


def check(client: redis.Redis) -> None:
    """Check that everything that is stored is found in every way, and is whole."""
    stored = []
    for execution_id in ("e", "f"):
        found = answer(client, FindCheckpoints(execution_id))
        stored += [(one.row.id, execution_id, one.row.namespace) for one in found]
        for one in found:
            wanted = ChunkId(one.row.id)
            assert answer(client, FetchChunks(execution_id, [wanted])), "a dangling reference"
    for id in ("c1", "c2"):
        assert places(client, id=id) == sorted((p for p in stored if p[0] == id), reverse=True)
    assert places(client) == sorted(stored, reverse=True)
    there = [e for e in ("e", "f") if client.exists(KEYS.execution(e))]
    assert answer(client, FindExecutions()) == there


def places(client: redis.Redis, **query: Any) -> list[tuple[str, str, str]]:
    found = answer(client, FindCheckpoints(**query))
    return [(one.row.id, one.row.execution_id, one.row.namespace) for one in found]


@pytest.mark.parametrize("knows_epoch", [False, True])
@pytest.mark.parametrize(
    "removal", [Remove("e", [("", "c1")]), Clear("e")], ids=["remove", "clear"]
)
def test_a_removal_and_a_commit_in_every_order(
    client: redis.Redis, removal: Request, knows_epoch: bool
) -> None:
    """What is removed is committed again, a command of the one between any two of the other."""

    def start() -> list[Process]:
        client.flushall()
        epoch = answer(client, commit("e", "c1"))
        again = Process(client, PLANS, [commit("e", "c1")])
        again.epochs = {"e": epoch} if knows_epoch else {}
        return [again, Process(client, PLANS, [removal], sweeps=False)]

    sizes = [alone(process) for process in start()]
    assert min(sizes) > 2
    for turns in combinations(range(sum(sizes)), sizes[0]):
        if sum(after - before > 1 for before, after in pairwise(turns)) > 2:
            continue  # three pieces are enough for every known race, and take half the time
        first, second = start()
        for number in range(sum(sizes)):
            (first if number in turns else second).go_on()
        for process in (first, second):
            alone(process)
        check(client)


def alone(process: Process) -> int:
    """Let a process finish. Returns how many commands that took."""
    count = 0
    while not process.done:
        process.go_on()
        count += 1
    return count


names = st.sampled_from(["c1", "c2"])
executions = st.sampled_from(["e", "f"])


requests: st.SearchStrategy[Any] = st.one_of(
    st.builds(commit, executions, names, st.sampled_from(["", "n"])),
    st.builds(lambda e, name: Remove(e, [("", name)]), executions, names),
    st.builds(lambda e: Remove(e, [("", "c1"), ("n", "c1"), ("", "c2")]), executions),
    executions.map(Clear),
    st.just(FindExecutions()),
)


@given(
    work=st.lists(st.lists(requests, min_size=1, max_size=3), min_size=2, max_size=3),
    bursts=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 8)), max_size=20),
    expiring=st.booleans(),
)
def test_steps_in_any_order(
    client: redis.Redis, work: list[list[Request]], bursts: list[tuple[int, int]], expiring: bool
) -> None:
    client.flushall()
    plans = EXPIRING if expiring else PLANS
    processes = [Process(client, plans, requests) for requests in work]
    for number, length in bursts:
        for _ in range(length):
            processes[number % len(processes)].go_on()
    for process in processes:
        while not process.done:
            process.go_on()
    check(client)
