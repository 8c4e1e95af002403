"""The profiler sees each operation, and where its time goes."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from tests.postgres_server import PostgresServer

from langcairn import (
    Checkpoint,
    CheckpointSaver,
    CheckpointStore,
    InvalidInput,
    PostgresCheckpointStore,
    Profiler,
    SqliteCheckpointStore,
    StoreUnavailable,
    Unserializable,
    open_store,
)
from langcairn.backends.base import Commit
from langcairn.backends.memory import MemoryBackend
from langcairn.profiler import _PROBES, PHASES
from langcairn.testing.checkpoints import config_of, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.backends.base import Request
    from langcairn.profiler import OperationProfile


def functions() -> list[Any]:
    return [getattr(probe.owner, probe.name) for probe in _PROBES]


def history(length: int) -> dict[str, Any]:
    text = "many words of one message " * 100
    return {
        "messages": [HumanMessage(f"{number} {text}", id=str(number)) for number in range(length)]
    }


def check(profile: OperationProfile, count: int) -> None:
    assert len(profile.seconds) == count
    assert profile.phases.keys() <= set(PHASES)
    assert all(seconds >= 0 for seconds in profile.phases.values())
    assert sum(profile.phases.values()) == pytest.approx(sum(profile.seconds), rel=0.05)


def test_operations_of_a_saver(tmp_path: Path) -> None:
    with CheckpointSaver(f"sqlite:///{tmp_path}/a.db") as saver:
        put(saver, 0, history(1))
        with Profiler(saver.store) as profiler:
            for number in range(1, 6):
                config = put(saver, number, history(number + 1), parent=number - 1)
                saver.put_writes(config, [("messages", "x" * 500)], "task")
            saver.store.codec.caches.drop("thread")
            saver.get_tuple(config)
            list(saver.list(config_of("thread")))
            saver.delete_thread("thread")
        put(saver, 9, history(1))
    profiles = profiler.profiles()
    assert profiles.keys() == {"put", "put_writes", "get", "list", "clear"}
    for operation, count in (("put", 5), ("put_writes", 5), ("get", 1), ("list", 1), ("clear", 1)):
        check(profiles[operation], count)
        assert profiles[operation].failed == 0
    assert {"serialize", "hash", "compress", "commit"} <= profiles["put"].phases.keys()
    assert {"read", "decompress", "deserialize"} <= profiles["get"].phases.keys()
    assert profiles["put"].requests == 5
    assert profiles["put"].sent > 0 == profiles["put"].received
    assert profiles["get"].received > 0 == profiles["get"].sent
    assert profiles["put"].percentile(0.5) <= profiles["put"].percentile(0.99)
    report = profiler.report().splitlines()
    assert report[0].split()[:3] == ["operation", "count", "failed"]
    assert len(report) == 1 + 5 + 3 + 5
    assert any(line.startswith("put ") and " 5 " in line for line in report)


def test_nothing_stays_in_place() -> None:
    before = functions()
    store = open_store("memory:")
    with Profiler(store) as outer, Profiler(store) as inner:
        with pytest.raises(InvalidInput, match="already"):
            outer.__enter__()
        assert all(a is not b for a, b in zip(before, functions(), strict=True))
        store.executions()
    assert functions() == before
    assert not store.observers.present
    assert list(inner.profiles()) == ["executions"]
    assert Profiler(store).report() == "No operation was seen."


def test_encryption_is_told_from_serializing() -> None:
    class Cipher:
        def __init__(self) -> None:
            self._aead = AESGCM(AESGCM.generate_key(128))

        def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
            nonce = os.urandom(12)
            return "aesgcm", nonce + self._aead.encrypt(nonce, plaintext, None)

        def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
            return self._aead.decrypt(ciphertext[:12], ciphertext[12:], None)

    saver = CheckpointSaver(open_store("memory:", serde=EncryptedSerializer(Cipher())))
    with Profiler(saver.store) as profiler:
        config = put(saver, 1, history(3))
        saver.get_tuple(config)
    profiles = profiler.profiles()
    assert {"serialize", "encrypt", "hash"} <= profiles["put"].phases.keys()
    assert {"decrypt", "deserialize"} <= profiles["get"].phases.keys()


def test_failures_are_counted() -> None:
    store = open_store("memory:")
    with Profiler(store) as profiler:
        with pytest.raises(Unserializable):
            store.save(Checkpoint(id="c", execution_id="e", state={"x": lambda: None}))
        store.save(Checkpoint(id="c", execution_id="e", state={}))
        store.close()
        with pytest.raises(Exception, match="closed"):
            store.load("c")
    assert profiler.profiles()["put"].failed == 1
    assert len(profiler.profiles()["put"].seconds) == 2
    assert profiler.profiles()["get"].failed == 1


def test_refused_epochs_are_counted() -> None:
    backend = MemoryBackend()
    one, other = CheckpointStore(backend), CheckpointStore(backend)
    one.save(Checkpoint(id="a", execution_id="e", state={}))
    other.clear("e")
    with Profiler(one) as profiler:
        one.save(Checkpoint(id="b", execution_id="e", state={}))
    assert profiler.profiles()["put"].refused == 1
    assert profiler.profiles()["put"].requests == 2


def test_waiting_in_the_queue_is_everyones(tmp_path: Path) -> None:
    """Whoever leads a batch, each operation in it is told how long it waited."""
    with SqliteCheckpointStore(tmp_path / "a.db") as store, Profiler(store) as profiler:
        store.save(Checkpoint(id="first", execution_id="e", state={}))
        begin = threading.Barrier(4)

        def work(number: int) -> None:
            begin.wait(10)
            for step in range(10):
                store.save(Checkpoint(id=f"{number}-{step}", execution_id=f"e{number}", state={}))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    check(profiler.profiles()["put"], 41)
    assert profiler.profiles()["put"].phases["queue"] > 0


async def test_tasks_at_once(tmp_path: Path) -> None:
    async with SqliteCheckpointStore(tmp_path / "a.db") as store:
        with Profiler(store) as profiler:
            await asyncio.gather(
                *(
                    store.asave(Checkpoint(id=str(n), execution_id=f"e{n}", state=history(2)))
                    for n in range(20)
                )
            )
            await store.aload("3")
    check(profiler.profiles()["put"], 20)
    assert {"queue", "commit", "hash"} <= profiler.profiles()["put"].phases.keys()
    assert {"queue", "read"} <= profiler.profiles()["get"].phases.keys()


async def test_cancelled_operations_end() -> None:
    class Stuck(MemoryBackend):
        async def aexecute(self, request: Request) -> object:
            await asyncio.sleep(60)
            return None

    store = CheckpointStore(Stuck())
    with Profiler(store) as profiler:
        task = asyncio.create_task(store.aload("c"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert profiler.profiles()["get"].failed == 1


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


async def test_waiting_for_a_connection(server: PostgresServer) -> None:
    async with PostgresCheckpointStore(server.url(), pool_max_conns=1) as store:
        await store.asave(Checkpoint(id="first", execution_id="e", state={}))
        store.save(Checkpoint(id="second", execution_id="e", state={}))
        with Profiler(store) as profiler:
            await asyncio.gather(
                *(
                    store.asave(Checkpoint(id=str(n), execution_id=f"e{n}", state=history(2)))
                    for n in range(20)
                )
            )
            store.save(Checkpoint(id="x", execution_id="e", state=history(3)))
    check(profiler.profiles()["put"], 21)
    assert {"queue", "connect", "commit"} <= profiler.profiles()["put"].phases.keys()
    # One connection, lent and back: pools count.
    load = store.backend.load()
    assert (load.queued, load.in_use) == (0, 0)


def test_retries_are_counted() -> None:
    from langcairn.backends.retry import Retry

    class Flaky(MemoryBackend):
        def __init__(self) -> None:
            super().__init__()
            self.faults = 2

        def execute(self, request: Request) -> object:
            return Retry(10).call(lambda _: self._answer(request))

        def _answer(self, request: Request) -> object:
            if isinstance(request, Commit) and self.faults:
                self.faults -= 1
                raise StoreUnavailable("away for a moment")
            return super().execute(request)

    store = CheckpointStore(Flaky())
    with Profiler(store) as profiler:
        store.save(Checkpoint(id="c", execution_id="e", state={}))
    profile = profiler.profiles()["put"]
    assert (profile.retries, profile.failed, profile.requests) == (2, 0, 1)
    assert profile.phases["pause"] > 0.02
