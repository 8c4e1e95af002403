"""Conditions, leases and transactions: every backend answers any story as memory does."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

from langcairn.backends.base import (
    AcquireLease,
    Clear,
    Commit,
    Expected,
    FindCheckpoints,
    FindExecutions,
    FindWrites,
    Newest,
    ReleaseLease,
    Remove,
    RenewLease,
    Transaction,
)
from langcairn.backends.file import FileBackend
from langcairn.backends.memory import MemoryBackend
from langcairn.backends.postgres import PostgresBackend
from langcairn.backends.redis import RedisBackend
from langcairn.backends.sqlite import SqliteBackend
from langcairn.errors import ConcurrentWriter, Conflict, LeaseHeld, StaleEpoch, VersionConflict
from langcairn.testing.rows import row, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langcairn.backends.base import Backend

EXECUTIONS, NAMESPACES, IDS = ("one", "two"), ("", "sub"), ("a", "b", "c")


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Backend]]:
    directory = tmp_path_factory.mktemp("conditions")
    with ExitStack() as stack:
        valkey = stack.enter_context(ValkeyServer())
        postgres = PostgresServer()
        stack.callback(postgres.remove)
        made: dict[str, Backend] = {
            "sqlite": SqliteBackend(directory / "db", synchronous="OFF"),
            "file": FileBackend(directory / "files", fsync=False),
            "redis": RedisBackend(valkey.url),
            "postgres": PostgresBackend(postgres.start().url()),
        }
        for backend in made.values():
            stack.callback(backend.close)
        yield made


class Step(NamedTuple):
    """A request, with what is known only when it is made as numbers."""

    request: Any
    fences: tuple[int | None, ...] = ()
    """Which of the tokens given so far each commit shows; None: none."""
    epochs: tuple[int | None, ...] = ()
    """Likewise which of the execution's epochs it states."""


executions = st.sampled_from(EXECUTIONS)
keys = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(IDS))
rarely = st.sampled_from([None, None, 0, 1])
numbers = st.tuples(rarely, rarely)


@st.composite
def commits(draw: st.DrawFn, execution_id: str | None = None) -> Commit:
    execution_id = execution_id or draw(executions)
    namespace, id = draw(keys)
    version = st.none() | st.integers(0, 2)
    expected = {
        place: Expected(*place, draw(version)) for place in draw(st.lists(keys, max_size=1))
    }
    parents = st.sampled_from([None, *IDS])
    return Commit(
        execution_id,
        None,
        (),
        [row(id, execution_id, namespace=namespace, version=draw(st.integers(0, 2)))]
        * draw(st.integers(0, 1)),
        [write("t", 0, execution_id=execution_id, namespace=namespace, checkpoint_id=id)]
        * draw(st.integers(0, 1)),
        removals=draw(st.lists(keys, max_size=1)),
        expected=list(expected.values()),
        newest=[Newest(namespace, draw(parents), id)] * draw(st.sampled_from([0, 0, 1])),
    )


leases = st.one_of(
    st.builds(lambda e, o: AcquireLease(e, o, 60), executions, st.sampled_from(["x", "y"])),
    st.builds(lambda e: RenewLease(e, 0, 60), executions),
    st.builds(lambda e: ReleaseLease(e, 0), executions),
)
steps = st.one_of(
    st.builds(Step, commits(), numbers, numbers),
    st.builds(
        lambda one, two, fences: Step(Transaction([two, one]), fences, (None, None)),
        commits("one"), commits("two"), numbers,
    ),
    st.builds(Step, leases, numbers, numbers),
    st.builds(lambda e, key, f: Step(Remove(e, [key]), f), executions, keys, numbers),
    st.builds(lambda e, f: Step(Clear(e), f), executions, numbers),
)  # fmt: skip


class Teller:
    """Makes requests of a backend, and notes what can be compared of the outcomes."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tokens: list[int] = []
        self._epochs: dict[str, list[int]] = {id: [] for id in EXECUTIONS}

    def tell(self, step: Step) -> object:
        request = self._made(step)
        try:
            answer: Any = self._backend.execute(request)
        except VersionConflict as error:
            return type(error), error.expected, error.found
        except ConcurrentWriter as error:
            return type(error), error.parent_id, error.newest_id
        except LeaseHeld as error:
            return type(error), error.owner
        except (Conflict, StaleEpoch) as error:
            return type(error)
        if isinstance(request, AcquireLease):
            self._tokens.append(answer)
            return self._tokens.index(answer)
        if isinstance(request, Commit):
            return self._epoch(request.execution_id, answer)
        if isinstance(request, Transaction):
            return [
                self._epoch(commit.execution_id, epoch)
                for commit, epoch in zip(request.commits, answer, strict=True)
            ]
        return answer is None if isinstance(request, Remove) else answer

    def _epoch(self, execution_id: str, epoch: int) -> int:
        """Return the number of an epoch: which of those seen it is."""
        seen = self._epochs[execution_id]
        if epoch not in seen:
            seen.append(epoch)
        return seen.index(epoch)

    def _made(self, step: Step) -> Any:
        request = step.request
        if isinstance(request, Transaction):
            made = [
                commit._replace(fence=self._token(fence))
                for commit, fence in zip(request.commits, step.fences, strict=True)
            ]
            return Transaction(made)
        if isinstance(request, Commit):
            seen, number = self._epochs[request.execution_id], step.epochs[0]
            epoch = seen[-1 - number] if number is not None and number < len(seen) else None
            return request._replace(fence=self._token(step.fences[0]), epoch=epoch)
        if isinstance(request, (RenewLease, ReleaseLease)):
            return request._replace(token=self._token(step.fences[0]) or 1)
        if isinstance(request, AcquireLease):
            return request
        return request._replace(fence=self._token(step.fences[0]))

    def _token(self, number: int | None) -> int | None:
        if number is None:
            return None
        return self._tokens[-1 - number] if number < len(self._tokens) else 1

    def all(self) -> object:
        """Return all that is stored."""
        ask: Any = self._backend.execute
        found = [
            (one.row.execution_id, one.row.namespace, one.row.id, one.row.version, len(one.writes))
            for one in ask(FindCheckpoints())
        ]
        return ask(FindExecutions()), found, [len(ask(FindWrites(id))) for id in EXECUTIONS]


def forget(backend: Backend) -> None:
    """Clear a backend, whoever has leases."""
    for id in EXECUTIONS:
        try:
            backend.execute(Clear(id))
        except LeaseHeld as error:
            token: Any = backend.execute(AcquireLease(id, error.owner, 60))
            backend.execute(ReleaseLease(id, token))
            backend.execute(Clear(id))


@settings(max_examples=100)
@given(st.lists(steps, min_size=1, max_size=14))
def test_backends_agree(backends: Mapping[str, Backend], story: list[Step]) -> None:
    memory = Teller(MemoryBackend())
    expected = [memory.tell(step) for step in story]
    for name, backend in backends.items():
        forget(backend)
        teller = Teller(backend)
        for step, outcome in zip(story, expected, strict=True):
            assert teller.tell(step) == outcome, (name, step)
        assert teller.all() == memory.all(), name
