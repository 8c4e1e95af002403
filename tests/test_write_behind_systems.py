"""`WriteBehind` over real systems: every backend, crowds, outages, and processes that end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from langchain_core.messages import HumanMessage
from tests.gated_backend import GatedBackend
from tests.postgres_server import PostgresServer
from tests.proxy import Proxy
from tests.test_file_backend_crash import forked
from tests.valkey_server import ValkeyServer

from langcairn import (
    Checkpoint,
    CheckpointStore,
    FileCheckpointStore,
    MemoryCheckpointStore,
    PostgresCheckpointStore,
    RedisCheckpointStore,
    SavesFailed,
    SqliteCheckpointStore,
    StoreUnavailable,
    WriteBehind,
    open_store,
)
from langcairn.backends.sqlite import SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOUND = 60.0  # [s] for what should take far less
_SYSTEMS = ["memory", "sqlite", "file", "postgres", "valkey"]
_SERVERS = ["postgres", "valkey"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    """Yield a store of the system that a test is parametrized with."""
    with _open(request.param, request, tmp_path) as store:
        yield store


@pytest.fixture
def behind_proxy(request: pytest.FixtureRequest) -> Iterator[tuple[CheckpointStore, Proxy]]:
    """Yield a store that gives up soon, and the proxy between it and its server."""
    server = request.getfixturevalue(request.param)
    with Proxy(server.port) as proxy:
        store: CheckpointStore
        if request.param == "postgres":
            table = f"t{abs(hash(request.node.name)) % 10**9}"
            store = PostgresCheckpointStore(
                server.url(port=proxy.port), table, deadline=0.3, timeout=0.3
            )
        else:
            store = RedisCheckpointStore(
                f"127.0.0.1:{proxy.port}",
                prefix=f"{request.node.name}:",
                deadline=0.3,
                socket_timeout=0.3,
                socket_connect_timeout=0.3,
            )
        with store:
            yield store, proxy


def _open(system: str, request: pytest.FixtureRequest, directory: Path) -> CheckpointStore:
    match system:
        case "memory":
            return MemoryCheckpointStore()
        case "sqlite":
            return SqliteCheckpointStore(directory / "behind.db")
        case "file":
            return FileCheckpointStore(directory / "behind")
        case "postgres":
            table = f"t{abs(hash(request.node.name)) % 10**9}"
            return PostgresCheckpointStore(request.getfixturevalue("postgres").url(), table)
    url = request.getfixturevalue("valkey").url
    return RedisCheckpointStore(url, prefix=f"{request.node.name}:")


def record(number: int, execution_id: str = "run") -> Checkpoint:
    """Return the n-th checkpoint of a conversation."""
    messages = [HumanMessage(f"{i}: " + "word " * 60, id=str(i)) for i in range(number + 1)]
    state = {"messages": messages, "step": number}
    return Checkpoint(id=f"{number:04}", execution_id=execution_id, state=state)


def check(store: CheckpointStore, execution_id: str, count: int) -> None:
    """Check that exactly the first checkpoints of a conversation are stored, and complete."""
    found = list(reversed(store.list(execution_id)))
    assert [one.id for one in found] == [f"{n:04}" for n in range(count)]
    assert [one.state for one in found] == [record(n).state for n in range(count)]


# Crowds


@pytest.mark.parametrize("opened", _SYSTEMS, indirect=True)
def test_threads_and_tasks(opened: CheckpointStore) -> None:
    behind = WriteBehind(opened, max_pending=20, batch_size=8)

    def save(name: str) -> None:
        for n in range(12):
            behind.save(record(n, name))
        behind.flush()
        assert len(opened.list(name)) == 12

    async def run() -> None:
        await asyncio.gather(*(asave(f"task {i}") for i in range(4)))

    async def asave(name: str) -> None:
        for n in range(12):
            await behind.asave(record(n, name))
        await behind.aflush()

    with ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(save, f"thread {i}") for i in range(8)]
        futures.append(pool.submit(asyncio.run, run()))
        for future in futures:
            future.result(_BOUND)
    behind.close()
    for name in [*(f"thread {i}" for i in range(8)), *(f"task {i}" for i in range(4))]:
        check(opened, name, 12)


@pytest.mark.parametrize("opened", _SYSTEMS, indirect=True)
def test_removals_meanwhile(opened: CheckpointStore) -> None:
    with WriteBehind(opened) as behind:
        for n in range(6):
            behind.save(record(n))
        behind.flush()
        for n in range(5):
            assert opened.delete(f"{n:04}")
        behind.save(record(0))
        behind.save(record(7))
        behind.flush()
        opened.clear("run")
        for n in range(4):
            behind.save(record(n))
            behind.save(record(n, "other"))
    check(opened, "run", 4)
    check(opened, "other", 4)


# Outages


@pytest.mark.parametrize("behind_proxy", _SERVERS, indirect=True)
def test_an_outage_that_passes(behind_proxy: tuple[CheckpointStore, Proxy]) -> None:
    store, proxy = behind_proxy
    with WriteBehind(store) as behind:
        for n in range(5):
            behind.save(record(n))
        behind.flush()
        proxy.refuse()
        proxy.cut()
        for n in range(5, 25):
            behind.save(record(n))
            behind.save(record(n - 5, "other"))
        with pytest.raises(StoreUnavailable, match="still pending"):
            behind.flush(timeout=1.0)
        assert behind.pending == 40
        proxy.accept()
        behind.flush()
    check(store, "run", 25)
    check(store, "other", 20)


@pytest.mark.parametrize("behind_proxy", _SERVERS, indirect=True)
def test_links_cut_again_and_again(behind_proxy: tuple[CheckpointStore, Proxy]) -> None:
    store, proxy = behind_proxy
    with WriteBehind(store, batch_size=3) as behind:
        for n in range(60):
            behind.save(record(n))
            if n % 6 == 5:
                proxy.cut()
        behind.flush()
    check(store, "run", 60)


@pytest.mark.parametrize("behind_proxy", _SERVERS, indirect=True)
def test_an_outage_that_stays(behind_proxy: tuple[CheckpointStore, Proxy]) -> None:
    store, proxy = behind_proxy
    told: list[str] = []
    behind = WriteBehind(store, retry_for=1.0, on_error=lambda one, _error: told.append(one.id))
    behind.save(record(0))
    behind.flush()
    proxy.stall()
    for n in range(1, 4):
        behind.save(record(n))
    with pytest.raises(SavesFailed) as raised:
        behind.flush()
    failed = [checkpoint for checkpoint, _ in raised.value.failures]
    assert [one.id for one in failed] == told == ["0001", "0002", "0003"]
    proxy.cut()
    proxy.resume()
    for checkpoint in failed:
        behind.save(checkpoint)
    behind.save(record(4))
    behind.close()
    check(store, "run", 5)


def test_a_server_killed_and_started_again(postgres: PostgresServer) -> None:
    with PostgresCheckpointStore(postgres.url(), "killed", deadline=1) as store:
        behind = WriteBehind(store)
        for n in range(40):
            behind.save(record(n))
            if n == 15:
                postgres.kill()
                postgres.start()
        behind.close()
        check(store, "run", 40)


# Processes that end

_PROGRAM = """
import os, sys, threading, time
from langcairn import Checkpoint, SqliteCheckpointStore, WriteBehind
store = SqliteCheckpointStore("exit.db")
behind = WriteBehind(store)
def save(first, last):
    for n in range(first, last):
        behind.save(Checkpoint(id=f"{n:04}", execution_id="run", state={"n": n, "s": str(n) * 200}))
"""


def program(text: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # Python 3.13 warns of what it is left to the end of the process to close.
        [sys.executable, "-W", "error", "-W", "ignore:unclosed database", "-c", _PROGRAM + text],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def stored(directory: Path) -> list[str]:
    with SqliteCheckpointStore(directory / "exit.db") as store:
        return [one.id for one in reversed(store.list("run"))]


@pytest.mark.parametrize(
    "end",
    ["save(0, 300)", "save(0, 300); sys.exit()", "save(0, 300); del behind", "save(0, 300); 1 / 0"],
)
def test_a_normal_end_stores_everything(tmp_path: Path, end: str) -> None:
    process = program(end, tmp_path)
    _, errors = process.communicate(timeout=_BOUND)
    assert process.returncode == (1 if "/" in end else 0)
    assert ("ZeroDivisionError" in errors) if "/" in end else (not errors)
    assert stored(tmp_path) == [f"{n:04}" for n in range(300)]


def test_a_handler_of_sigterm_stores_everything(tmp_path: Path) -> None:
    text = """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
save(0, 300)
print("saved", flush=True)
while True:
    time.sleep(1)
"""
    process = program(text, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    _, errors = process.communicate(timeout=_BOUND)
    assert (process.returncode, errors) == (0, "")
    assert len(stored(tmp_path)) == 300


def test_the_end_with_servers(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
) -> None:
    urls = [postgres.url(), valkey.url, f"file://{tmp_path}"]
    text = f"""
from langcairn import open_store
kept = []  # neither stores nor queues are closed
for url in {urls!r}:
    kept.append(WriteBehind(open_store(url)))
    for n in range(100):
        kept[-1].save(Checkpoint(id=str(n), execution_id=f"at exit {{n % 7}}", state=[n] * 50))
"""
    process = program(text, tmp_path)
    _, errors = process.communicate(timeout=_BOUND)
    assert (process.returncode, errors) == (0, "")
    for url in urls:
        with open_store(url) as store:
            assert sum(len(store.list(f"at exit {n}")) for n in range(7)) == 100


def test_failures_at_the_end_are_printed(tmp_path: Path) -> None:
    process = program("store.close(); save(0, 2)", tmp_path)
    _, errors = process.communicate(timeout=_BOUND)
    assert "SavesFailed" in errors
    assert "'0000'" in errors
    assert stored(tmp_path) == []


def test_a_kill_loses_only_what_was_pending(tmp_path: Path) -> None:
    text = """
for n in range(0, 10**6, 10):
    save(n, n + 10)
    if n % 50 == 0:
        behind.flush()
        print(n + 10, flush=True)
"""
    process = program(text, tmp_path)
    assert process.stdout is not None
    flushed = [int(process.stdout.readline()) for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=_BOUND)
    flushed += [int(line) for line in rest.split()]
    found = stored(tmp_path)
    assert len(found) >= flushed[-1]
    assert found == [f"{n:04}" for n in range(len(found))]  # in their order


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_leaves_the_parents_saves_alone(tmp_path: Path) -> None:
    backend = GatedBackend(SqliteBackend(tmp_path / "fork.db"))
    with CheckpointStore(backend) as store:
        backend.gate.clear()
        behind = WriteBehind(store)
        behind.save(record(0))
        behind.save(record(1))
        assert backend.held.wait(_BOUND)

        def child() -> None:
            assert behind.pending == 0
            backend.gate.set()
            behind.save(record(2, "child"))
            behind.close()
            assert not store.list("run")

        assert os.waitpid(forked(child), 0)[1] == 0
        assert not store.list("run")
        backend.gate.set()
        behind.save(record(2))
        behind.close()
        check(store, "run", 3)
        assert store.load("0002", execution_id="child").state == record(2).state


def test_the_code_in_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "write-behind.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, timeout=_BOUND, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == "500 stored, 0 failed\n"
