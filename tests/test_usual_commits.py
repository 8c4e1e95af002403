"""PostgreSQL and SQLite: the statement of the usual commit does what the general way does."""

from __future__ import annotations

from contextlib import ExitStack
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
    Newest,
    ReleaseLease,
    Remove,
    WriteRow,
)
from langcairn.backends.postgres import PostgresBackend, commits
from langcairn.backends.postgres import appending as postgres
from langcairn.backends.sqlite import SqliteBackend
from langcairn.backends.sqlite import appending as sqlite
from langcairn.backends.sqlite import backend as sqlite_backend
from langcairn.backends.sqlite.schema import tables_of
from langcairn.errors import CairnError
from langcairn.testing.rows import chunk_id, row, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langcairn.backends.base import Backend, Request

_EVERY_EPOCH = 2**62


@pytest.fixture(scope="module", params=["postgres", "sqlite"])
def backends(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Backend, Backend]]:
    """A backend as it is, and one that knows only the general way."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        usual: Backend
        general: Backend
        if request.param == "postgres":
            server = PostgresServer()
            stack.callback(server.remove)
            url = server.start().url()
            usual, general = (PostgresBackend(url, name) for name in ("usual", "general"))
            patch.setattr(commits, "addition", _only_usual(postgres.addition))
        else:
            path = tmp_path_factory.mktemp("appending") / "a.db"
            usual, general = (SqliteBackend(path, name) for name in ("usual", "general"))
            patch.setattr(sqlite_backend, "addition", _only_usual(sqlite.addition))
        stack.callback(usual.close)
        stack.callback(general.close)
        yield usual, general


def _only_usual(addition: Callable[[Any, Commit], Any]) -> Callable[[Any, Commit], Any]:
    """Let the statement be made for the tables of one backend only."""

    def chosen(tables: Any, commit: Commit) -> Any:
        return None if "general" in tables.checkpoints else addition(tables, commit)

    return chosen


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

    def __init__(self, backend: Backend) -> None:
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
    backends: tuple[Backend, Backend], steps: list[Step]
) -> None:
    usual, general = map(_Side, backends)
    for number, step in enumerate(steps):
        assert (number, usual.take(step)) == (number, general.take(step))
    assert usual.stored() == general.stored()


_STATEMENTS: list[Callable[[Commit], Any]] = [
    lambda commit: postgres.addition(PostgresBackend("")._schema.tables, commit),
    lambda commit: sqlite.addition(tables_of("checkpoints"), commit),
]


@pytest.mark.parametrize("addition", _STATEMENTS, ids=["postgres", "sqlite"])
def test_what_is_usual(addition: Callable[[Commit], Any]) -> None:
    rows: list[CheckpointRow] = [row("c1")]
    writes: list[WriteRow] = [write("t", 0), write("t", 1)]
    assert addition(Commit("run", 5, (), rows)) is not None
    assert addition(Commit("run", 5, (), (), writes, witnesses=[chunk_id(1)], fence=3)) is not None
    for other in (
        Commit("run", None, (), rows),
        Commit("run", 5),
        Commit("run", 5, [(chunk_id(1), b"x")], rows),
        Commit("run", 5, (), [*rows, row("c2")]),
        Commit("run", 5, (), rows, writes),
        Commit("run", 5, (), (), [write("t", -1)]),
        Commit("run", 5, (), rows, removals=[("", "c0")]),
        Commit("run", 5, (), rows, newest=[Newest("", None, "c1")]),
    ):
        assert addition(other) is None, other


def test_what_one_statement_of_postgresql_is_not_made_for() -> None:
    for state, name in ((b"1" * 2**20, ""), (b"1", "\ud800")):
        commit = Commit("run", 5, (), [row("c1", state=state, node_name=name)])
        assert _STATEMENTS[0](commit) is None


def test_what_one_statement_of_sqlite_is_not_made_for() -> None:
    writes = [write("t", idx) for idx in range(101)]
    assert _STATEMENTS[1](Commit("run", 5, (), (), writes)) is None
    assert _STATEMENTS[1](Commit("run", 5, (), (), writes[:100])) is not None
