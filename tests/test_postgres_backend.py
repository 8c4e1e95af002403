"""PostgreSQL: many callers at once, batches, pools, loops, poolers and forks."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage

from langcairn.backends.async_group_commit import AsyncGroupCommit
from langcairn.backends.base import (
    CheckpointRow,
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindWrites,
    Remove,
    Request,
    Sweep,
    WriteRow,
)
from langcairn.backends.memory import MemoryBackend
from langcairn.backends.postgres import PostgresBackend
from langcairn.backends.postgres.queries import _hint
from langcairn.backends.postgres.reads import can_share
from langcairn.errors import InvalidInput, StaleEpoch, StoreClosed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

_TIME = datetime(2024, 2, 29, tzinfo=UTC)
_BOUND = 60  # [s] for what should take far less


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def storage(server: PostgresServer) -> Iterator[PostgresStorage]:
    with PostgresStorage(server.url()) as storage:
        yield storage


@pytest.fixture
def backend(storage: PostgresStorage) -> PostgresBackend:
    backend = storage.backend
    assert isinstance(backend, PostgresBackend)
    return backend


def row(id: str, execution_id: str = "run", **fields: Any) -> CheckpointRow:
    row = CheckpointRow(execution_id, "", id, None, "", b"{}", b"{}", _TIME, 1, b"{}")
    return row._replace(**fields)


def write(idx: int, value: bytes, **fields: Any) -> WriteRow:
    return WriteRow("run", "", "c", "task", idx, "", "channel", value)._replace(**fields)


def chunk(name: object, data: bytes = b"x") -> tuple[ChunkId, bytes]:
    return ChunkId(f"{name:_>22}"), data


def ids(backend: PostgresBackend, execution_id: str = "run") -> set[str]:
    found: Any = backend.execute(FindCheckpoints(execution_id))
    return {one.row.id for one in found}


def at_once(work: Sequence[Any]) -> list[Any]:
    """Call functions in as many threads, and return what they return or raise."""
    with ThreadPoolExecutor(len(work)) as pool:
        futures = [pool.submit(one) for one in work]
        return [future.exception(_BOUND) or future.result() for future in futures]


# Many at once


@pytest.mark.parametrize("executions", [1, 4, 32])
def test_threads_of_several_processes_begin_executions_together(
    storage: PostgresStorage, executions: int
) -> None:
    """Each backend stands for a process; all add the same executions at the same moment."""
    backends = [storage.open().backend for _ in range(4)]

    def put(number: int) -> list[Any]:
        name = f"run{number % executions}"
        return [
            backends[number % 4].execute(
                Commit(
                    name,
                    None,
                    [chunk(f"{number}.{i}"), chunk("same")],
                    [row(f"{number}.{i}", name)],
                )
            )
            for i in range(8)
        ]

    epochs = at_once([lambda n=n: put(n) for n in range(32)])
    for execution in range(executions):
        name = f"run{execution}"
        mine = [n for n in range(32) if n % executions == execution]
        assert len({epoch for n in mine for epoch in epochs[n]}) == 1
        expected = {f"{n}.{i}" for n in mine for i in range(8)}
        assert {
            id for (id,) in storage.ask("SELECT id FROM checkpoints WHERE execution_id = %s", name)
        } == expected
        assert len(storage.chunks(name)) == len(expected) + 1


async def test_tasks_share_statements(backend: PostgresBackend) -> None:
    async with asyncio.timeout(_BOUND):
        await asyncio.gather(
            *(
                backend.aexecute(
                    Commit(
                        f"run{n % 7}", None, [chunk("same"), chunk(n)], [row(f"{n}", f"run{n % 7}")]
                    )
                )
                for n in range(200)
            )
        )
        found = await asyncio.gather(
            *(backend.aexecute(FindCheckpoints(f"run{n % 8}", "", limit=1)) for n in range(50)),
            *(
                backend.aexecute(FetchChunks(f"run{n % 7}", [chunk(n)[0], chunk(999)[0]]))
                for n in range(50)
            ),
        )
    newest = {e: max((f"{n}" for n in range(200) if n % 7 == e), default=None) for e in range(8)}
    for n, one in enumerate(found[:50]):
        assert [f.row.id for f in one] == ([] if newest[n % 8] is None else [newest[n % 8]])  # type: ignore[attr-defined]  # a list
    for n, one in enumerate(found[50:]):
        assert one == dict([chunk(n)])


def test_removals_and_commits_together_leave_nothing_dangling(storage: PostgresStorage) -> None:
    """A commit that succeeds with an epoch finds its known chunk afterwards, unless cleared."""
    backends = [storage.open().backend for _ in range(3)]
    known = chunk("known")

    def commits(backend: Any) -> None:
        epoch = None
        for number in range(60):
            try:
                chunks = [known] if epoch is None else []
                epoch = backend.execute(
                    Commit("run", epoch, chunks, [row(f"{id(backend)}-{number}")])
                )
            except StaleEpoch:
                epoch = None

    def removes(backend: Any) -> None:
        for number in range(40):
            if number % 5 == 4:
                backend.execute(Clear("run"))
                continue
            found = backend.execute(FindCheckpoints("run", limit=3))
            epoch = backend.execute(Remove("run", [("", one.row.id) for one in found]))
            if epoch is not None and not backend.execute(FindCheckpoints("run")):
                backend.execute(Sweep("run", epoch, [known[0]]))

    outcomes = at_once(
        [lambda: commits(backends[0]), lambda: commits(backends[1]), lambda: removes(backends[2])]
    )
    assert outcomes == [None] * 3
    rows = storage.ask("SELECT count(*) FROM checkpoints")[0][0]
    executions = storage.ask("SELECT count(*) FROM checkpoint_executions")[0][0]
    assert (rows == 0) or executions == 1
    if rows:
        assert known[0] in storage.chunks("run")


# Batches


@pytest.mark.parametrize(
    "bad",
    [
        Commit("run", None, (), [row("bad", state=b"{")]),
        Commit("run", None, (), [row("bad", metadata=b'{"a": "\\u0000"}')]),
        Commit("run", None, (), [row("bad", node_name="a\0b")]),
        Commit("run", None, (), [row("bad", node_name="\ud800")]),
        Commit("run", None, (), [row("bad", version=2**31)]),
        Commit("run", None, [chunk("bad")], (), [write(0, b"nonsense")]),
    ],
    ids=["state", "metadata", "nul", "surrogate", "version", "write"],
)
async def test_one_that_fails_fails_alone(backend: PostgresBackend, bad: Commit) -> None:
    good = [Commit("run", None, (), [row(f"c{i}")]) for i in range(6)]
    outcomes = await asyncio.gather(
        *(backend.aexecute(commit) for commit in [*good[:3], bad, *good[3:]]),
        return_exceptions=True,
    )
    assert isinstance(outcomes.pop(3), InvalidInput)
    assert len(set(map(str, outcomes))) == 1
    assert ids(backend) == {f"c{i}" for i in range(6)}
    assert backend.execute(FetchChunks("run", [chunk("bad")[0]])) == {}
    with pytest.raises(InvalidInput):
        backend.execute(bad)


async def test_stale_and_fresh_commits_of_one_execution_together(backend: PostgresBackend) -> None:
    """What only the stale one carries is not stored, and what both carry is."""
    epoch: Any = await backend.aexecute(Commit("run", None))
    newer: Any = await backend.aexecute(Remove("run", []))
    commits = [
        Commit("run", epoch, [chunk("a"), chunk("b")], [row("stale")]),
        Commit("run", newer, [chunk("b")], [row("fresh")]),
        Commit("run", None, [chunk("b"), chunk("c")], [row("full")]),
        Commit("gone", newer, [chunk("a")]),
    ]
    outcomes = await asyncio.gather(*map(backend.aexecute, commits), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StaleEpoch, int, int, StaleEpoch]
    assert ids(backend) == {"fresh", "full"}
    fetched: Any = backend.execute(FetchChunks("run", [chunk(name)[0] for name in "abc"]))
    assert set(fetched) == {chunk("b")[0], chunk("c")[0]}
    assert backend.execute(FindExecutions()) == ["run"]


async def test_equal_keys_in_one_batch(backend: PostgresBackend) -> None:
    await asyncio.gather(
        *(
            backend.aexecute(
                Commit(
                    "run",
                    None,
                    [chunk("a", b"1")],
                    [row("c", version=n)],
                    [write(0, b"%d" % n), write(-1, b"%d" % n)],
                )
            )
            for n in range(5)
        )
    )
    answer: Any = backend.execute(FindCheckpoints("run"))
    (found,) = answer
    assert found.row.version == 4
    assert {w.idx: w.value for w in found.writes} == {0: b"0", -1: b"4"}


def test_a_large_commit_is_made_in_parts(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langcairn.backends.postgres.commits._LARGE", 1000)
    chunks = [chunk(n, b"%d" % n * 300) for n in range(10)]
    epoch: Any = backend.execute(Commit("run", None, chunks, [row("a")], [write(0, b"1")]))
    assert backend.execute(FetchChunks("run", [id for id, _ in chunks])) == dict(chunks)
    assert ids(backend) == {"a"}
    with pytest.raises(StaleEpoch):
        backend.execute(Commit("run", epoch + 1, chunks, [row("b")]))
    with pytest.raises(InvalidInput):
        backend.execute(Commit("run", epoch, chunks, [row("b", state=b"{")]))
    assert ids(backend) == {"a"}


async def test_a_shared_read_fails_alone(backend: PostgresBackend) -> None:
    await backend.aexecute(Commit("run", None, [chunk("a")], [row("c")]))
    reads: list[Request] = [
        FindCheckpoints("run", "", limit=1),
        FindCheckpoints("a\0b", "", limit=1),
        FetchChunks("run", [chunk("a")[0]]),
        FetchChunks("\ud800", [chunk("a")[0]]),
    ]
    assert all(map(can_share, reads))
    answers: Any = await asyncio.gather(*map(backend.aexecute, reads), return_exceptions=True)
    assert [one.row.id for one in answers[0]] == ["c"]
    assert answers[2] == dict([chunk("a")])
    assert [type(answers[i]) for i in (1, 3)] == [InvalidInput] * 2


async def test_shared_reads_equal_lone_ones(backend: PostgresBackend) -> None:
    for n in range(12):
        name = f"run{n % 3}"
        rows = [row(f"c{n}", name, namespace=ns, parent_id="p") for ns in ("", "n")]
        await backend.aexecute(
            Commit(
                name,
                None,
                (),
                rows,
                [write(i, b'"w"', execution_id=name, checkpoint_id=f"c{n}") for i in (1, 0, -1)],
            )
        )
    queries = [FindCheckpoints(f"run{n}", ns, limit=1) for n in range(4) for ns in ("", "n", "?")]
    shared = await asyncio.gather(*map(backend.aexecute, queries))
    assert shared == [backend.execute(query) for query in queries]


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans(), max_size=3))
def test_metadata_is_a_hint_that_excludes_no_match(metadata: dict[str, Any]) -> None:
    """The hint is JSON that PostgreSQL takes, and asks for no more than was asked."""
    hint = json.loads(_hint(metadata) or "{}")
    assert hint.items() <= metadata.items()
    assert not any("\0" in f"{key}{value}" for key, value in hint.items())


# Cancelling, in the queue itself


async def test_group_commit_of_cancelled_tasks() -> None:
    """Cancelled requests that wait are never begun; one that has begun is completed."""
    gate, done = asyncio.Event(), list[int]()

    async def run(batch: Sequence[int]) -> Sequence[int]:
        await gate.wait()
        done.extend(batch)
        return batch

    group = AsyncGroupCommit(run, max_batch=2)
    tasks = [asyncio.create_task(group.submit(n)) for n in range(5)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    tasks[3].cancel()
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [r for r in results if isinstance(r, int)] == [1, 2, 4]
    assert done == [0, 1, 2, 4]
    await group.drain()
    assert await group.submit(9) == 9


async def test_group_commit_fails_each_caller_with_an_error_of_its_own() -> None:
    async def run(batch: Sequence[int]) -> Sequence[int]:
        raise ValueError("all of it")

    group = AsyncGroupCommit(run)
    errors = await asyncio.gather(*(group.submit(n) for n in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["all of it"] * 3
    assert len({id(error) for error in errors}) == 3


# Pools, loops and processes


def test_each_event_loop_has_its_own_connections(
    storage: PostgresStorage, backend: PostgresBackend
) -> None:
    async def use(name: str) -> None:
        await asyncio.gather(*(backend.aexecute(Commit(name, None)) for _ in range(3)))

    for number in range(3):
        asyncio.run(use(f"run{number}"))
    at_once([lambda n=n: asyncio.run(use(f"thread{n}")) for n in range(4)])
    assert len(backend.execute(FindExecutions())) == 7  # type: ignore[arg-type]  # a list
    backend.close()
    assert connections(storage) == 0


async def test_closing(storage: PostgresStorage, backend: PostgresBackend) -> None:
    await asyncio.gather(*(backend.aexecute(Commit("run", None)) for _ in range(5)))
    await backend.aclose()
    await backend.aclose()
    with pytest.raises(StoreClosed):
        await backend.aexecute(FindExecutions())
    with pytest.raises(StoreClosed):
        backend.execute(Commit("run", None))
    assert connections(storage) == 0


@pytest.mark.parametrize("both", [True, False])
async def test_pools_of_the_users(
    server: PostgresServer, storage: PostgresStorage, both: bool
) -> None:
    """They are used, their connections come back as they were, and they are not closed."""
    pool = ConnectionPool(server.url(), min_size=1, max_size=2, open=True)
    async_pool = AsyncConnectionPool(server.url(), min_size=1, max_size=2, open=False)
    await async_pool.open()
    backend = PostgresBackend((pool, async_pool) if both else pool, schema=storage.schema)
    backend.execute(Commit("run", None, (), [row("a")]))
    with pytest.raises(InvalidInput):
        backend.execute(Commit("run", None, (), [row("bad", state=b"{")]))
    if both:
        await asyncio.gather(*(backend.aexecute(Commit(f"run{n}", None)) for n in range(9)))
        with pytest.raises(InvalidInput):
            await backend.aexecute(Commit("run", None, (), [row("bad", state=b"{")]))
        async with async_pool.connection() as connection:
            assert not connection.autocommit
    else:
        with pytest.raises(InvalidInput, match="AsyncConnectionPool"):
            await backend.aexecute(FindExecutions())
    await backend.aclose()
    with pool.connection() as lent:
        assert not lent.autocommit
        assert lent.execute("SELECT 1").fetchone() == (1,)
    pool.close()
    await async_pool.close()


def test_nothing_else_is_a_pool() -> None:
    with pytest.raises(InvalidInput, match="int"):
        PostgresBackend(7)  # type: ignore[arg-type]  # what is tested


def test_a_pooler_in_transaction_mode(server: PostgresServer, storage: PostgresStorage) -> None:
    """Whatever a session remembers is gone after each use, as behind such a pooler."""

    def forget(connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = True
        connection.execute("DISCARD ALL")
        connection.autocommit = False

    with ConnectionPool(server.url(), min_size=1, max_size=2, reset=forget) as pool:
        backend = PostgresBackend(pool, schema=storage.schema, prepare=False)
        for number in range(12):
            backend.execute(
                Commit("run", None, [chunk(number)], [row(f"c{number}")], [write(number, b"1")])
            )
            backend.execute(FindCheckpoints("run", "", limit=1))
            backend.execute(FindWrites("run"))
        assert len(ids(backend)) == 12
        backend.execute(Clear("run"))
        backend.close()


def test_connections_grow_old(storage: PostgresStorage) -> None:
    def sessions(**options: Any) -> set[int]:
        """Return the server's processes that answer three requests, one after the other."""
        backend: Any = storage.open(**options).backend
        seen = set()
        for _ in range(3):
            with backend._lender.connection(_BOUND) as connection:
                seen.add(connection.info.backend_pid)
        return seen

    assert len(sessions()) == 1
    assert len(sessions(pool_max_conn_lifetime=0)) == 3
    assert len(sessions(pool_max_conn_idle_time=0, pool_min_conns=0)) == 3
    assert len(sessions(pool_max_conn_idle_time=0, pool_min_conns=1)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_the_connections_of_its_parent_alone(
    backend: PostgresBackend,
) -> None:
    backend.execute(Commit("parent", None))
    child = os.fork()
    if child == 0:
        try:
            backend.execute(Commit("child", None))
            backend.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert backend.execute(FindExecutions()) == ["child", "parent"]


def connections(storage: PostgresStorage) -> int:
    """Count the backend's connections, and give the server a moment to notice their end."""
    for _ in range(200):
        ((count,),) = storage.ask(
            "SELECT count(*) FROM pg_stat_activity, pg_sleep(0.01)"
            " WHERE application_name = 'langcairn'"
        )
        if not count:
            break
    return int(count)


# The same as in memory


_names = st.sampled_from(["a", "B", "ä", "🪨", "a b"])


@st.composite
def _commits(draw: st.DrawFn) -> Commit:
    execution_id, namespace, id = draw(_names), draw(_names), draw(_names)
    versions = draw(st.lists(st.integers(0, 4), max_size=3))
    states = [json.dumps({"v": version}).encode() for version in versions]
    return Commit(
        execution_id,
        None,
        [chunk(name, name.encode()) for name in draw(st.lists(_names, max_size=3))],
        [
            row(id, execution_id, namespace=namespace, version=version, state=state)
            for version, state in zip(versions, states, strict=True)
        ],
        [
            write(
                version - 2, state, execution_id=execution_id, namespace=namespace, checkpoint_id=id
            )
            for version, state in zip(versions, states, strict=True)
        ],
    )


_requests = st.one_of(
    _commits(),
    st.tuples(_names, st.lists(st.tuples(_names, _names), max_size=2)).map(
        lambda parts: Remove(*parts)
    ),
    _names.map(Clear),
)


@given(st.lists(_requests, max_size=12))
def test_it_answers_as_memory_does(server: PostgresServer, requests: list[Any]) -> None:
    memory = MemoryBackend()
    backend = _shared(server)
    for name in ("a", "B", "ä", "🪨", "a b"):
        backend.execute(Clear(name))
    for request in requests:
        given, expected = backend.execute(request), memory.execute(request)
        assert (
            given == expected
            if isinstance(request, Clear)
            else (given is None) == (expected is None)
        )
    asked: list[Any] = [FindExecutions(), FindCheckpoints()]
    for name in ("a", "B", "ä"):
        asked += [FindWrites(name), FindCheckpoints(name), FindCheckpoints(name, name, limit=1)]
        asked.append(FetchChunks(name, [chunk(c)[0] for c in ("a", "B", "ä", "🪨", "a b")]))
    for request in asked:
        given, expected = backend.execute(request), memory.execute(request)
        assert _comparable(given) == _comparable(expected)


_backends: dict[int, PostgresBackend] = {}


def _shared(server: PostgresServer) -> PostgresBackend:
    """Return the one backend of all examples of a test."""
    if server.port not in _backends:
        _backends[server.port] = PostgresBackend(server.url(), schema="shared")
    return _backends[server.port]


@pytest.fixture(scope="module", autouse=True)
def _close_shared() -> Iterator[None]:
    yield
    for backend in _backends.values():
        backend.close()


def _comparable(answer: Any) -> Any:
    """Leave out what differs: epochs, how JSON is written, and the order of pending writes."""
    if isinstance(answer, list) and answer and hasattr(answer[0], "epoch"):
        return [
            (one.row._replace(state=json.loads(one.row.state)), list(one.writes)) for one in answer
        ]
    if isinstance(answer, list) and answer and hasattr(answer[0], "task_id"):
        return sorted(answer)
    return answer
