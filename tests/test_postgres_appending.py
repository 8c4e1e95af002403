"""PostgreSQL: the statement of the usual commit does what the general one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.postgres_server import PostgresServer

from langcairn.backends.base import (
    AcquireLease,
    CheckpointRow,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindOldChunks,
    FindWrites,
    ReleaseLease,
    Remove,
    WriteRow,
)
from langcairn.backends.postgres import PostgresBackend, commits
from langcairn.backends.postgres.appending import addition
from langcairn.errors import CairnError
from langcairn.testing.rows import chunk_id, row, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.base import Request
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Statement

_EVERY_EPOCH = 2**62


@pytest.fixture(scope="module")
def backends() -> Iterator[tuple[PostgresBackend, PostgresBackend]]:
    """A backend as it is, and one without the statement."""
    server = PostgresServer()
    try:
        url = server.start().url()
        usual, general = (PostgresBackend(url, name) for name in ("usual", "general"))

        def chosen(tables: Tables, commit: Commit) -> Statement | None:
            return None if "general" in tables.checkpoints else addition(tables, commit)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commits, "addition", chosen)
            yield usual, general
        usual.close()
        general.close()
    finally:
        server.remove()


class Step(NamedTuple):
    """A request, but for the epoch and the token that are known when it is made."""

    request: Request
    epoch: str = "known"
    fence: str = "own"


_ROWS = st.builds(
    lambda number, version: row(f"c{number}", state=b'{"a": %d}' % version, version=version),
    st.integers(1, 4),
    st.integers(0, 2),
)
_WRITES = st.builds(
    lambda task, idx, value: write(f"t{task}", idx, value=b'{"v": %d}' % value),
    st.integers(1, 2),
    st.integers(-2, 2),
    st.integers(0, 2),
)
_CHUNKS = st.builds(lambda number: (chunk_id(number), b"data %d" % number), st.integers(1, 3))
_NOTHING: st.SearchStrategy[list[Any]] = st.just([])


def _commits(chunks: Any, rows: Any, writes: Any) -> st.SearchStrategy[Commit]:
    witnesses = st.one_of(_NOTHING, st.lists(st.integers(1, 3).map(chunk_id), max_size=2))
    return st.builds(Commit, st.just("run"), st.none(), chunks, rows, writes, witnesses=witnesses)


_COMMITS = st.one_of(
    _commits(_NOTHING, st.lists(_ROWS, min_size=1, max_size=1), _NOTHING),
    _commits(_NOTHING, _NOTHING, st.lists(_WRITES, min_size=1, max_size=3)),
    _commits(st.lists(_CHUNKS, min_size=1), st.lists(_ROWS, max_size=2), st.lists(_WRITES)),
)
_STEPS = st.one_of(
    st.builds(
        Step,
        _COMMITS,
        st.sampled_from(["known"] * 4 + ["none", "old"]),
        st.sampled_from(["own"] * 4 + ["none", "wrong"]),
    ),
    st.builds(Step, st.builds(lambda n: Remove("run", [("", f"c{n}")]), st.integers(1, 4))),
    st.just(Step(AcquireLease("run", "me", 3600))),
    st.builds(lambda: Step(ReleaseLease("run", 0))),
)


class _Side:
    """One backend, with what is known of it."""

    def __init__(self, backend: PostgresBackend) -> None:
        self.backend = backend
        self.token: int | None = None
        token: Any = backend.execute(AcquireLease("run", "me", 3600))
        backend.execute(ReleaseLease("run", token))
        backend.execute(Clear("run"))
        self.epoch: Any = self.backend.execute(Commit("run", None, (), [row("c0")]))

    def take(self, step: Step) -> object:
        """Make a step. Returns what must be equal on all sides."""
        request = step.request
        if isinstance(request, Commit):
            epoch = {"known": self.epoch, "none": None, "old": 1}[step.epoch]
            request = request._replace(epoch=epoch)
        if isinstance(request, Commit | Remove):
            fence = {"own": self.token, "none": None, "wrong": 77}[step.fence]
            request = request._replace(fence=fence)
        if isinstance(request, ReleaseLease):
            request = request._replace(token=self.token or 0)
        try:
            answer: Any = self.backend.execute(request)
        except CairnError as error:
            return type(error)
        if isinstance(request, AcquireLease):
            self.token = answer
        elif isinstance(request, ReleaseLease):
            self.token = None
        elif isinstance(request, Commit | Remove):
            raised = answer != self.epoch
            self.epoch = answer
            return raised
        return None

    def stored(self) -> tuple[Any, ...]:
        """Return all rows."""
        found: Any = self.backend.execute(FindCheckpoints("run"))
        written: Any = self.backend.execute(FindWrites("run"))
        ids: Any = self.backend.execute(FindOldChunks("run", _EVERY_EPOCH))
        chunks = self.backend.execute(FetchChunks("run", sorted(ids)))
        return sorted(one.row for one in found), sorted(written), chunks


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_STEPS, max_size=12))
def test_it_does_what_the_general_one_does(
    backends: tuple[PostgresBackend, PostgresBackend], steps: list[Step]
) -> None:
    usual, general = map(_Side, backends)
    for number, step in enumerate(steps):
        assert (number, usual.take(step)) == (number, general.take(step))
    assert usual.stored() == general.stored()


def _is_usual(commit: Commit) -> bool:
    tables = PostgresBackend("")._schema.tables
    return addition(tables, commit) is not None


def test_what_is_usual() -> None:
    rows: list[CheckpointRow] = [row("c1")]
    writes: list[WriteRow] = [write("t", 0), write("t", 1)]
    assert _is_usual(Commit("run", 5, (), rows))
    assert _is_usual(Commit("run", 5, (), (), writes, witnesses=[chunk_id(1)], fence=3))
    for other in (
        Commit("run", None, (), rows),
        Commit("run", 5),
        Commit("run", 5, [(chunk_id(1), b"x")], rows),
        Commit("run", 5, (), [*rows, row("c2")]),
        Commit("run", 5, (), rows, writes),
        Commit("run", 5, (), (), [write("t", -1)]),
        Commit("run", 5, (), [row("c1", state=b"1" * 2**20)]),
        Commit("run", 5, (), [row("c1", node_name="\ud800")]),
    ):
        assert not _is_usual(other), other
