"""PostgreSQL through faults: servers that go and come back, links that end or stall, refusals."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from tests.postgres_server import PostgresServer
from tests.proxy import Proxy

from langcairn.backends.base import (
    AcquireLease,
    CheckpointRow,
    ChunkId,
    Commit,
    Expected,
    FindCheckpoints,
    FindExecutions,
    Transaction,
)
from langcairn.backends.postgres import PostgresBackend
from langcairn.errors import (
    CorruptData,
    InvalidInput,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
    VersionConflict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TIME = datetime(2024, 2, 29, tzinfo=UTC)
_BOUND = 30  # [s] for what should take far less


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
            connection.execute("CREATE ROLE shunned LOGIN")
            connection.execute("CREATE ROLE limited LOGIN SUPERUSER")
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the name of an empty database."""
    name = f"db_{abs(hash(request.node.name))}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield name
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def direct(server: PostgresServer, database: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection beside the backend."""
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        yield connection


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def backend(server: PostgresServer, database: str, proxy: Proxy) -> Iterator[PostgresBackend]:
    """Yield a backend behind the proxy, with its tables made."""
    backend = PostgresBackend(server.url(database, port=proxy.port), deadline=_BOUND)
    backend.execute(commit("begin"))
    yield backend
    backend.close()


def commit(name: str, execution_id: str = "run", **fields: Any) -> Commit:
    row = CheckpointRow(execution_id, "", name, None, "", b"{}", b"{}", _TIME, 1, b"{}")
    return Commit(execution_id, None, (), [row._replace(**fields)])


def ids(backend: PostgresBackend, execution_id: str = "run") -> set[str]:
    found: Any = backend.execute(FindCheckpoints(execution_id))
    return {one.row.id for one in found}


@contextmanager
def impatient(server: PostgresServer, database: str, port: int = 0) -> Iterator[PostgresBackend]:
    """Yield a backend that gives up soon."""
    url = server.url(database, port=port)
    backend = PostgresBackend(url, deadline=0.6, timeout=0.4, pool_max_conns=2)
    try:
        yield backend
    finally:
        backend.close()


# Outages that pass


def test_server_killed_and_restarted_under_load(server: PostgresServer, database: str) -> None:
    backend = PostgresBackend(server.url(database), deadline=_BOUND)
    acknowledged: list[str] = []
    over = threading.Event()

    def put(thread: int) -> None:
        number = 0
        while not over.is_set():
            backend.execute(commit(f"{thread}-{number}", f"run{thread % 2}"))
            acknowledged.append(f"{thread}-{number}")
            number += 1

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(put, thread) for thread in range(4)]
        try:
            for stop in (server.kill, server.stop):
                wait_for_more(acknowledged)
                stop()
                server.start()
            wait_for_more(acknowledged)
        finally:
            over.set()
        for future in futures:
            future.result(_BOUND)
    assert set(acknowledged) <= ids(backend, "run0") | ids(backend, "run1")
    backend.close()


async def test_server_restarted_under_tasks(server: PostgresServer, database: str) -> None:
    backend = PostgresBackend(server.url(database), deadline=_BOUND)
    acknowledged: list[str] = []

    async def put(task: int) -> None:
        for number in range(20):
            await backend.aexecute(commit(f"{task}-{number}", f"run{task}"))
            acknowledged.append(f"{task}-{number}")
            await asyncio.sleep(0.01)

    async def restart() -> None:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.start)

    async with asyncio.timeout(_BOUND):
        await asyncio.gather(restart(), *(put(task) for task in range(8)))
    found = set().union(*[ids(backend, f"run{task}") for task in range(8)])
    assert len(acknowledged) == 160
    assert set(acknowledged) <= found
    await backend.aclose()


@pytest.mark.parametrize("way", ["cut", "terminate"])
def test_idle_connections_that_ended_are_replaced(
    backend: PostgresBackend, proxy: Proxy, direct: psycopg.Connection[Any], way: str
) -> None:
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(backend.execute, [commit(f"a{i}", f"run{i}") for i in range(20)]))
    if way == "cut":
        proxy.cut()
    else:
        direct.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    assert ids(backend, "run1") >= {"a1"}
    backend.execute(commit("b"))
    assert "b" in ids(backend)


async def test_idle_connections_of_a_loop_that_ended_are_replaced(
    backend: PostgresBackend, proxy: Proxy
) -> None:
    await asyncio.gather(*(backend.aexecute(commit(f"a{i}", f"run{i}")) for i in range(20)))
    await asyncio.to_thread(proxy.cut)
    await backend.aexecute(commit("b"))
    found: Any = await backend.aexecute(FindCheckpoints("run", "", limit=1))
    assert found[0].row.id == "begin"


def test_a_lost_answer_is_asked_for_again(backend: PostgresBackend, proxy: Proxy) -> None:
    """Whether the commit was made is open; making it again does no harm."""
    proxy.stall(to_server=False)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(backend.execute, commit("a"))
        wait_until(lambda: not future.running() or proxy.held > 0)
        proxy.cut()
        proxy.resume()
        assert isinstance(future.result(_BOUND), int)
    assert ids(backend) == {"begin", "a"}


@pytest.mark.parametrize("side", ["sync", "async"])
async def test_commits_with_conditions_may_be_made_again(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """What the first attempt stored is no conflict; what another one stored is."""
    run, arun, lost = PostgresBackend._run, PostgresBackend._arun, 0

    def loses() -> None:
        nonlocal lost
        if lost == 0:
            lost = 1
            raise StoreUnavailable("the answer was lost")

    def lossy(self: PostgresBackend, plan: Any, expires: float) -> Any:
        answer = run(self, plan, expires)
        loses()
        return answer

    async def alossy(self: PostgresBackend, plan: Any, expires: float) -> Any:
        answer = await arun(self, plan, expires)
        loses()
        return answer

    async def ask(request: Any) -> Any:
        nonlocal lost
        lost = 0
        with monkeypatch.context() as patch:
            patch.setattr(PostgresBackend, "_run", lossy)
            patch.setattr(PostgresBackend, "_arun", alossy)
            answer = await (
                asyncio.to_thread(backend.execute, request)
                if side == "sync"
                else backend.aexecute(request)
            )
        assert lost == 1
        return answer

    new = commit("a")._replace(
        removals=[("", "begin")], expected=[Expected("", "a", None), Expected("", "begin", 1)]
    )
    await ask(new)
    assert ids(backend) == {"a"}
    (mine,) = new.checkpoints
    changed = mine._replace(version=2)
    await ask(Transaction([Commit("run", None, (), [changed], expected=[Expected("", "a", 1)])]))
    token = await ask(AcquireLease("run", "owner", 60))
    assert await ask(AcquireLease("run", "owner", 60)) == token
    # The same expectation again is a conflict, if it isn't the same attempt.
    for request in (new, Transaction([new])):
        with pytest.raises(VersionConflict):
            backend.execute(
                request._replace(fence=token)
                if isinstance(request, Commit)
                else Transaction([new._replace(fence=token)])
            )


def test_a_refusing_server_is_waited_for(backend: PostgresBackend, proxy: Proxy) -> None:
    proxy.refuse()
    proxy.cut()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(backend.execute, commit("a"))
        with pytest.raises(TimeoutError):
            future.result(0.3)
        proxy.accept()
        future.result(_BOUND)
    assert "a" in ids(backend)


@pytest.mark.parametrize("state", ["40P01", "40001", "57014", "55P03"])
def test_conflicts_are_tried_again(
    backend: PostgresBackend, direct: psycopg.Connection[Any], state: str
) -> None:
    fail(direct, state, times=2)
    backend.execute(commit("a"))
    assert "a" in ids(backend)
    assert direct.execute("SELECT nextval('failures')").fetchone() == (4,)


def test_too_many_connections_are_waited_for(server: PostgresServer, database: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("ALTER ROLE limited NOSUPERUSER CONNECTION LIMIT 1")
        admin.execute(
            sql.SQL("GRANT ALL ON DATABASE {} TO limited").format(sql.Identifier(database))
        )
        other = psycopg.connect(server.url(database, user="limited"))
        backend = PostgresBackend(
            server.url(database, user="limited"), schema="mine", deadline=_BOUND
        )
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(backend.execute, commit("a"))
            with pytest.raises(TimeoutError):
                future.result(0.3)
            other.close()
            future.result(_BOUND)
        backend.close()


# Outages that don't pass in time


@pytest.mark.parametrize("request_", [commit("a"), FindCheckpoints("run"), FindExecutions()])
async def test_a_stalled_link_ends_at_the_deadline(
    server: PostgresServer, database: str, proxy: Proxy, request_: Any
) -> None:
    with impatient(server, database, proxy.port) as backend:
        backend.execute(commit("begin"))
        await backend.aexecute(commit("begin"))
        proxy.stall()
        async with asyncio.timeout(_BOUND):
            # Both sides wait at once, each on connections of its own.
            gave_up = await asyncio.gather(
                asyncio.to_thread(backend.execute, request_),
                backend.aexecute(request_),
                return_exceptions=True,
            )
        assert [type(error) for error in gave_up] == [StoreUnavailable] * 2, gave_up
        assert all("gave up after" in str(error) for error in gave_up), gave_up
        proxy.resume()
        proxy.cut()
        # What came too late is not taken for the answer to something else.
        assert ids(backend) >= {"begin"}
        await backend.aexecute(commit("b"))
        assert "b" in ids(backend)
        await backend.aclose()


async def test_an_outage_is_never_not_found(
    server: PostgresServer, database: str, proxy: Proxy
) -> None:
    with impatient(server, database, proxy.port) as backend:
        backend.execute(commit("begin"))
        proxy.refuse()
        proxy.cut()
        for request in (FindCheckpoints("run"), FindExecutions(), commit("a")):
            with pytest.raises(StoreUnavailable):
                backend.execute(request)
            with pytest.raises(StoreUnavailable):
                await backend.aexecute(request)
        await backend.aclose()


def test_a_slow_link_only_takes_longer(backend: PostgresBackend, proxy: Proxy) -> None:
    proxy.delay(0.05)
    backend.execute(commit("a", state=b'{"x": "%s"}' % (b"y" * 300_000)))
    assert ids(backend) == {"begin", "a"}


def test_locks_of_others_end_at_the_deadline(
    server: PostgresServer, database: str, direct: psycopg.Connection[Any]
) -> None:
    with impatient(server, database) as backend:
        backend.execute(commit("begin"))
        with direct.transaction():
            direct.execute("SELECT * FROM checkpoint_executions FOR UPDATE")
            with pytest.raises(StoreUnavailable):
                backend.execute(commit("a"))
        backend.execute(commit("b"))
        assert ids(backend) >= {"begin", "b"}


async def test_cancelled_tasks_leave_nothing_behind(
    backend: PostgresBackend, direct: psycopg.Connection[Any]
) -> None:
    await backend.aexecute(commit("begin"))
    with direct.transaction():
        direct.execute("LOCK checkpoints, checkpoint_executions IN ACCESS EXCLUSIVE MODE")
        tasks = [asyncio.create_task(backend.aexecute(commit(f"a{i}"))) for i in range(5)]
        tasks += [asyncio.create_task(backend.aexecute(FindExecutions())) for _ in range(5)]
        await asyncio.sleep(0.2)
        late = asyncio.create_task(backend.aexecute(commit("late")))
        await asyncio.sleep(0)
        for task in (*tasks, late):
            task.cancel()
        results = await asyncio.gather(*tasks, late, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
    async with asyncio.timeout(_BOUND):
        await asyncio.gather(*(backend.aexecute(commit(f"b{i}", f"run{i}")) for i in range(30)))
    await backend.aclose()
    # What had begun was completed; what had not never began.
    assert not any(
        row[0] for row in direct.execute("SELECT id = 'late' FROM checkpoints").fetchall()
    )


# Errors that don't pass


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://locked:wrong@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgresql://locked@127.0.0.1:{port}/postgres", "no password supplied"),
        ("postgresql://shunned@127.0.0.1:{port}/postgres", "pg_hba.conf"),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", 'role "nobody" does not exist'),
        ("postgresql://postgres@127.0.0.1:{port}/nowhere", 'database "nowhere" does not exist'),
        ("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=require", "SSL"),
        ("postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=nonsense", "sslmode"),
    ],
)
async def test_wrong_settings_are_said_at_once(
    server: PostgresServer, url: str, message: str
) -> None:
    # With this deadline, a repetition would run into the test's own limit.
    backend = PostgresBackend(url.format(port=server.port), deadline=3600)
    with pytest.raises(StoreMisconfigured, match=message):
        backend.execute(FindCheckpoints("run"))
    with pytest.raises(StoreMisconfigured, match=message):
        await backend.aexecute(commit("a"))
    await backend.aclose()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", StoreFull),
        ("XX001", CorruptData),
        ("42501", StoreMisconfigured),
        ("23514", InvalidInput),
        ("XX000", StoreError),
    ],
)
def test_lasting_errors_are_said_at_once(
    backend: PostgresBackend,
    direct: psycopg.Connection[Any],
    state: str,
    kind: type[Exception],
) -> None:
    fail(direct, state, times=1)
    with pytest.raises(kind, match="on purpose"):
        backend.execute(commit("a"))
    assert ids(backend) == {"begin"}
    backend.execute(commit("a"))


def test_dropped_tables_are_no_empty_store(
    backend: PostgresBackend, direct: psycopg.Connection[Any]
) -> None:
    direct.execute("DROP TABLE checkpoints")
    with pytest.raises(StoreMisconfigured, match="checkpoints"):
        ids(backend)


def test_what_is_too_large_is_named(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langcairn.backends.postgres.drafts._LARGEST_MESSAGE", 10_000)
    with pytest.raises(InvalidInput, match="state of checkpoint 'big'"):
        backend.execute(commit("big", state=b'{"x": "%s"}' % (b"y" * 10_000)))
    chunk = (ChunkId("c" * 22), b"z" * 10_000)
    with pytest.raises(InvalidInput, match="chunk cccc"):
        backend.execute(commit("big")._replace(chunks=[chunk]))


def fail(direct: psycopg.Connection[Any], state: str, times: int) -> None:
    """Let the next inserts into checkpoints fail with an SQLSTATE."""
    direct.execute("CREATE SEQUENCE failures")
    direct.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('failures') <= {times} THEN"
        f" RAISE EXCEPTION 'on purpose' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$"
    )
    direct.execute(
        "CREATE TRIGGER fail BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION fail()"
    )


def wait_for_more(acknowledged: list[str]) -> None:
    """Wait until some more commits are made."""
    before = len(acknowledged)
    wait_until(lambda: len(acknowledged) > before + 20)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens soon."""
    reached = threading.Event()
    for _ in range(_BOUND * 100):
        if condition():
            return
        reached.wait(0.01)
    raise TimeoutError("it did not happen")
