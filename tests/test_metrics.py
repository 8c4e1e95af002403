"""Metrics, spans and logs tell what happened, and nothing of what was stored."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

from langcairn import (
    Checkpoint,
    CheckpointSaver,
    CheckpointStore,
    FileCheckpointStore,
    InvalidInput,
    Monitor,
    Observer,
    SqliteCheckpointStore,
    StoreClosed,
    StoreUnavailable,
    Unserializable,
    open_store,
)
from langcairn.backends.measures import Load
from langcairn.backends.memory import MemoryBackend
from langcairn.logs import JsonFormatter, log_operations
from langcairn.metrics import instrument
from langcairn.testing.checkpoints import checkpoint_id, config_of, put
from langcairn.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.backends.base import Request

SECRET = "only-the-state-knows-this-word"


def scrape(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return samples by name and label values, read from the text that Prometheus gets."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def secretive(saver: Any) -> None:
    """Let a secret pass through everything that a saver stores, also where it fails."""
    state = {"text": SECRET, "long": SECRET * 100, "list": [{"deep": SECRET}] * 3}
    config = put(saver, 1, state, note=SECRET)
    saver.put_writes(config, [("text", SECRET * 50)], "task")
    saver.get_tuple(config)
    list(saver.list(config_of("thread"), filter={"note": SECRET}))
    with pytest.raises(Unserializable):
        put(saver, 2, {"text": SECRET, "bad": (SECRET, object())})


class Away(MemoryBackend):
    """A backend that can be away."""

    away = False

    def execute(self, request: Request) -> object:
        if self.away:
            raise StoreUnavailable("away")
        return super().execute(request)


def test_operations_are_counted() -> None:
    registry = CollectorRegistry()
    backend = Away()
    saver = CheckpointSaver(CheckpointStore(backend))
    instrument(saver.store, registry, backend="mine")
    for number in range(3):
        put(saver, number, {"text": "x" * 5000})
    saver.store.codec.caches.drop("thread")
    saver.get_tuple(config_of("thread"))
    backend.away = True
    with pytest.raises(StoreUnavailable):
        saver.get_tuple(config_of("thread"))
    found = scrape(registry)
    assert found["langcairn_operations_total", "mine", "put", "ok"] == 3
    assert found["langcairn_operations_total", "mine", "get", "ok"] == 1
    assert found["langcairn_operations_total", "mine", "get", "store_unavailable"] == 1
    assert found["langcairn_operation_seconds_count", "mine", "get"] == 2
    assert found["langcairn_operation_seconds_bucket", "mine", "+Inf", "put"] == 3
    assert found["langcairn_operation_seconds_sum", "mine", "put"] > 0
    assert found["langcairn_requests_total", "mine", "put"] == 3
    assert found["langcairn_requests_total", "mine", "get"] == 3
    assert found["langcairn_sent_bytes_total", "mine", "put"] > 100
    assert found["langcairn_received_bytes_total", "mine", "get"] > 20
    assert found["langcairn_queue_depth", "mine"] == 0


def test_figures_come_from_a_monitor() -> None:
    registry = CollectorRegistry()
    backend = Away()
    store = CheckpointStore(backend)
    instrument(store, registry)
    store.save(Checkpoint(id="c", execution_id="e", state={"text": "x" * 5000}))
    monitor = Monitor(store, on_alert=print, logical=True)
    monitor.check()
    found = scrape(registry)
    assert found["langcairn_up", "away"] == 1
    assert found["langcairn_checkpoints", "away"] == 1
    assert found["langcairn_executions", "away"] == 1
    assert found["langcairn_sharing_ratio", "away"] > 1
    assert ("langcairn_free_bytes", "away") not in found
    backend.away = True
    monitor.check()
    assert scrape(registry)["langcairn_up", "away"] == 0


def test_conflicts_retries_and_refused_epochs() -> None:
    from langcairn.backends.retry import Retry
    from langcairn.errors import CairnError

    class VersionConflict(CairnError):
        __module__ = "langcairn.errors"

    class Flaky(MemoryBackend):
        faults = 1
        conflicts = 0

        def execute(self, request: Request) -> object:
            return Retry(10).call(lambda _: self._answer(request))

        def _answer(self, request: Request) -> object:
            if self.faults:
                self.faults -= 1
                raise StoreUnavailable("away for a moment")
            if self.conflicts:
                raise VersionConflict("another version")
            return super().execute(request)

    backend = Flaky()
    one, other = CheckpointStore(backend), CheckpointStore(backend)
    registry = CollectorRegistry()
    instrument(one, registry)
    one.save(Checkpoint(id="a", execution_id="e", state={}))
    other.clear("e")
    one.save(Checkpoint(id="b", execution_id="e", state={}))
    backend.conflicts = 1
    with pytest.raises(VersionConflict):
        one.save(Checkpoint(id="c", execution_id="e", state={}))
    found = scrape(registry)
    assert found["langcairn_retries_total", "flaky"] == 1
    assert found["langcairn_epochs_refused_total", "flaky"] == 1
    assert found["langcairn_conflicts_total", "flaky"] == 1
    assert found["langcairn_operations_total", "flaky", "put", "version_conflict"] == 1
    assert found["langcairn_waiting_seconds_total", "flaky", "pause"] > 0


def test_stores_share_a_registry() -> None:
    registry = CollectorRegistry()
    one, other = open_store("memory:"), open_store("memory:")
    metrics = instrument(one, registry)
    with pytest.raises(InvalidInput, match="backend="):
        instrument(other, registry)
    instrument(other, registry, backend="other")
    one.executions()
    other.executions()
    found = scrape(registry)
    assert found["langcairn_operations_total", "memory", "executions", "ok"] == 1
    assert found["langcairn_operations_total", "other", "executions", "ok"] == 1
    metrics.remove()
    one.executions()
    assert not one.observers.present
    assert ("langcairn_operations_total", "memory", "executions", "ok") not in scrape(registry)
    instrument(one, registry)
    del other
    gc.collect()
    assert ("langcairn_queue_depth", "other") not in scrape(registry)


def test_pool_of_postgres() -> None:
    server = PostgresServer()
    try:
        url = server.start().url()
        registry = CollectorRegistry()
        with open_store(url, pool_max_conns=3) as store:
            instrument(store, registry)
            store.executions()
            found = scrape(registry)
            assert found["langcairn_pool_limit", "postgres"] == 3
            assert found["langcairn_pool_connections", "postgres", "in use"] == 0
            assert found["langcairn_pool_connections", "postgres", "idle"] == 1
            with store.backend._lender.connection(5):  # type: ignore[attr-defined]  # PostgreSQL's
                assert scrape(registry)["langcairn_pool_connections", "postgres", "in use"] == 1
        from psycopg_pool import ConnectionPool

        with (
            ConnectionPool(url, min_size=2, max_size=4, open=True) as pool,
            open_store(url) as other,
        ):
            pool.wait(30)
            from langcairn import PostgresCheckpointStore

            with PostgresCheckpointStore(pool) as mine:
                mine.executions()
                assert mine.backend.load() == Load(0, 2, 0, 4)
            assert other.backend.load() == Load(0, 0, 0, 10)
    finally:
        server.remove()


async def test_pool_of_redis() -> None:
    with ValkeyServer() as server:
        async with open_store(server.url) as store:
            assert store.backend.load() == Load()
            await store.aexecutions()
            await asyncio.to_thread(store.executions)
            load = store.backend.load()
            assert (load.queued, load.in_use) == (0, 0)
            assert load.connections == 2


async def test_tasks_that_wait_are_counted() -> None:
    store = open_store("memory:")
    registry = CollectorRegistry()
    instrument(store, registry)
    await asyncio.gather(
        *(store.asave(Checkpoint(id=str(n), execution_id="e", state={})) for n in range(10))
    )
    assert scrape(registry)["langcairn_operations_total", "memory", "put", "ok"] == 10


def test_requests_that_wait_are_counted(tmp_path: Path) -> None:
    with (
        SqliteCheckpointStore(tmp_path / "a.db") as sqlite,
        FileCheckpointStore(tmp_path / "s") as files,
    ):
        for store in (sqlite, files):
            began, go = threading.Event(), threading.Event()
            backend: Any = store.backend
            write = backend._write

            def slowly(requests: Any, write: Any = write, began: Any = began, go: Any = go) -> Any:
                began.set()
                assert go.wait(30)
                return write(requests)

            queues = getattr(backend._commits, "_queues", [backend._commits])
            for queue in queues:
                queue._run = slowly
            record = Checkpoint(id="c", execution_id="e", state={})
            writer = threading.Thread(target=store.save, args=(record,))
            writer.start()
            assert began.wait(30)
            assert store.backend.load().queued == 1
            go.set()
            writer.join(30)
            assert store.backend.load().queued == 0


def test_without_the_extra() -> None:
    for module, missing, extra in (
        ("metrics", "prometheus_client", "metrics"),
        ("tracing", "opentelemetry", "tracing"),
    ):
        program = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "import langcairn\n"
            f"try: import langcairn.{module}\n"
            "except ImportError as error: print(error)"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        assert f"langcairn[{extra}]" in result.stdout


# Observers


def test_a_broken_observer_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Observer):
        def ended(self, observation: object) -> None:
            raise RuntimeError("observer")

        began = ended

    store = open_store("memory:")
    store.observers.add(Broken())
    store.save(Checkpoint(id="c", execution_id="e", state={}))
    assert store.load("c").state == {}
    assert "Broken.ended failed" in caplog.text
    with pytest.raises(InvalidInput, match="Observer"):
        store.observers.add(print)  # type: ignore[arg-type]  # a mistake
    assert len(caplog.records) == 4


# Traces


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


async def test_spans(spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    provider, exporter = spans
    saver = CheckpointSaver("memory:")
    traces = trace(saver.store, provider)
    with provider.get_tracer("test").start_as_current_span("request") as parent:
        await asyncio.to_thread(secretive, saver)
        await saver.aget_tuple(config_of("thread"))
    saver.store.close()
    with pytest.raises(StoreClosed):
        saver.store.executions()
    traces.remove()
    found = exporter.get_finished_spans()
    assert [span.name for span in found] == [
        "langcairn.put", "langcairn.put_writes", "langcairn.get", "langcairn.list",
        "langcairn.put", "langcairn.get", "request", "langcairn.executions",
    ]  # fmt: skip
    saved = found[0]
    assert saved.attributes is not None
    assert saved.attributes["langcairn.execution_id"] == "thread"
    assert saved.attributes["langcairn.checkpoint_id"] == checkpoint_id(1)
    assert saved.attributes["langcairn.backend"] == "memory"
    assert saved.attributes["langcairn.outcome"] == "ok"
    assert [event.name for event in saved.events] == ["Commit"]
    assert saved.status.status_code is StatusCode.UNSET
    assert found[4].status.status_code is StatusCode.ERROR
    assert found[5].parent is not None
    assert found[5].parent.span_id == parent.get_span_context().span_id
    assert found[-1].attributes is not None
    assert found[-1].attributes["langcairn.outcome"] == "store_closed"
    assert SECRET not in "".join(span.to_json() for span in found)


# Logs


def test_logs_never_hold_a_state(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    saver = CheckpointSaver(open_store("memory:", slow_operation=0))
    log = log_operations(saver.store)
    secretive(saver)
    log.remove()
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    operations = [line for line in lines if line["logger"] == "langcairn.operations"]
    assert [line["operation"] for line in operations] == [
        "put", "put_writes", "get", "list", "put"
    ]  # fmt: skip
    assert operations[0]["execution_id"] == "thread"
    assert operations[0]["checkpoint_id"] == checkpoint_id(1)
    assert operations[-1]["outcome"] == "unserializable"
    assert operations[-1]["checkpoint_id"] == checkpoint_id(2)
    assert {line["level"] for line in operations} == {"DEBUG"}
    slow = [line for line in lines if line["logger"] == "langcairn.slow"]
    assert [line["operation"] for line in slow] == ["put", "put_writes", "get", "list"]
    for line in slow[:2]:
        assert line["execution_id"] == "thread"
        assert line["checkpoint_id"] == checkpoint_id(1)
        assert line["level"] == "WARNING"
    for record in caplog.records:
        assert SECRET not in json.dumps(record.__dict__, default=repr)
        assert SECRET not in JsonFormatter().format(record)


def test_faults_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    backend = Away()
    store = CheckpointStore(backend)
    log_operations(store, logging.INFO)
    backend.away = True
    with pytest.raises(StoreUnavailable):
        store.load("c", execution_id="a\nb")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.__dict__["outcome"] == "store_unavailable"
    assert "\n" not in record.getMessage()
    assert json.loads(JsonFormatter().format(record))["execution_id"] == "a\nb"


def test_slow_operations_are_said(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store("memory:", slow_operation=0)
    store.save(Checkpoint(id="c", execution_id="e", state={}))
    assert "put on memory took" in caplog.text
    caplog.clear()
    quiet = open_store("memory:", slow_operation=None)
    quiet.save(Checkpoint(id="c", execution_id="e", state={}))
    usual = open_store("memory:?slow_operation=600")
    usual.save(Checkpoint(id="c", execution_id="e", state={}))
    assert not caplog.records
    with pytest.raises(InvalidInput, match="slow_operation"):
        open_store("memory:", slow_operation=-1)


async def test_slow_operations_of_tasks(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store("memory:", slow_operation=0)
    await store.asave(Checkpoint(id="c", execution_id="e", state={}))
    assert [record.__dict__["execution_id"] for record in caplog.records] == ["e"]


def test_no_operation_has_a_private_name() -> None:
    store = open_store("memory:")
    registry = CollectorRegistry()
    instrument(store, registry)
    with store.lease("e"):
        store.save(Checkpoint(id="c", execution_id="e", state={}))
    with store.transaction() as tx:
        tx.save(Checkpoint(id="d", execution_id="e", state={}))
    named = {
        sample.labels["operation"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "langcairn_operations_total"
    }
    assert named == {"acquire_lease", "put", "transaction", "release_lease"}
