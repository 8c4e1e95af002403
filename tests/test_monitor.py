"""The monitor calls when something is wrong, once, and again when it is over."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from langcairn import (
    Alert,
    Checkpoint,
    CheckpointStore,
    InvalidInput,
    Monitor,
    Observation,
    StoreClosed,
    StoreUnavailable,
    Thresholds,
    open_store,
)
from langcairn.backends.measures import Load, Measure, Measured, Ping, Server, Stored
from langcairn.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from langcairn.backends.base import Request


class Patient(MemoryBackend):
    """A backend whose condition tests decide about."""

    def __init__(self) -> None:
        super().__init__()
        self.away = self.read_only = False
        self.measured = Measured(0, Stored(), None, 500, 1000)
        self.busy = Load()

    def execute(self, request: Request) -> object:
        if self.away:
            raise StoreUnavailable("the server has gone away")
        answer = super().execute(request)  # also tells whether it is closed
        if isinstance(request, Ping):
            return Server("patient", "1", writable=not self.read_only)
        return self.measured if isinstance(request, Measure) else answer

    def load(self) -> Load:
        return self.busy


@pytest.fixture
def backend() -> Patient:
    return Patient()


@pytest.fixture
def store(backend: Patient) -> CheckpointStore:
    return CheckpointStore(backend)


def names(alerts: list[Alert]) -> list[str]:
    return [f"{alert.level} {alert.name}{' over' if alert.resolved else ''}" for alert in alerts]


def seen(operation: str, seconds: float, outcome: str = "ok") -> Observation:
    observation = Observation(operation, "patient")
    observation.seconds, observation.outcome = seconds, outcome
    return observation


def test_unavailable(store: CheckpointStore, backend: Patient) -> None:
    heard: list[Alert] = []
    monitor = Monitor(store, on_alert=heard.append)
    assert monitor.check() == []
    backend.away = True
    assert names(monitor.check()) == ["P0 unavailable"]
    assert monitor.check() == []
    assert names(monitor.active) == ["P0 unavailable"]
    assert "gone away" in monitor.active[0].message
    backend.away = False
    assert names(monitor.check()) == ["P0 unavailable over"]
    assert names(heard) == ["P0 unavailable", "P0 unavailable over"]
    assert monitor.active == []


def test_resources(store: CheckpointStore, backend: Patient) -> None:
    monitor = Monitor(store, on_alert=print, thresholds=Thresholds(queued=5))
    backend.read_only = True
    backend.measured = Measured(0, Stored(), None, 50, 1000)
    backend.busy = Load(6, 10, 10, 10)
    alerts = monitor.check()
    assert names(alerts) == ["P0 read-only", "P2 space", "P2 queue", "P2 pool"]
    space = alerts[1]
    assert space.value == pytest.approx(0.95)
    assert space.threshold == 0.9
    # What can't be looked at isn't over.
    backend.away = True
    assert names(monitor.check()) == ["P0 unavailable"]
    backend.away = backend.read_only = False
    backend.busy = Load(0, 10, 1, 10)
    assert sorted(names(monitor.check())) == [
        "P0 read-only over", "P0 unavailable over", "P2 pool over", "P2 queue over",
    ]  # fmt: skip
    assert names(monitor.active) == ["P2 space"]


def test_faults_and_slow_operations(store: CheckpointStore) -> None:
    monitor = Monitor(store, on_alert=print, stats=False)
    for number in range(1000):
        monitor.ended(seen("get", 0.01, "corrupt_data" if number < 2 else "ok"))
    assert names(monitor.check()) == ["P1 failures"]
    assert monitor.active[0].value == pytest.approx(0.998)
    for _ in range(1000):
        monitor.ended(seen("put", 0.01, "unserializable"))  # the caller's fault, not the store's
    assert names(monitor.check()) == ["P1 failures over"]
    for _ in range(20):
        monitor.ended(seen("put", 1.5))
    found = names(monitor.check())
    assert sorted(found) == ["P1 slow", "P1 slow:put", "P1 slower:put"]


def test_slower_than_before(store: CheckpointStore) -> None:
    monitor = Monitor(store, on_alert=print, stats=False)
    for seconds, expected in (
        (0.010, []),
        (0.011, []),
        (0.0125, []),  # the mean before is 10.5 ms
        (0.0140, ["P1 slower:get"]),
        (0.0110, ["P1 slower:get over"]),
    ):
        for _ in range(30):
            monitor.ended(seen("get", seconds))
            monitor.ended(seen("list", 0.02))
        for _ in range(5):
            monitor.ended(seen("clear", seconds**2))  # too few to say anything
        assert names(monitor.check()) == expected


def test_the_past_takes_little_room(store: CheckpointStore) -> None:
    monitor = Monitor(store, on_alert=print, stats=False)
    for _ in range(50):
        monitor.ended(seen("get", 0.01))
        assert monitor.check() == []
    assert len(monitor._pace._past) == 1
    for _ in range(30):
        monitor.ended(seen("get", 0.02))
    assert names(monitor.check()) == ["P1 slower:get"]


def test_housekeeping_may_take_its_time(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(store, on_alert=print, stats=False)
    for _ in range(50):
        monitor.ended(seen("stats", 60))
    assert monitor.check() == []
    CheckpointStore(store.backend, slow_operation=0).stats()
    assert not caplog.records


def test_nothing_to_compare_with(store: CheckpointStore) -> None:
    monitor = Monitor(store, on_alert=print, stats=False, baseline=0)
    for seconds in (0.01, 0.02, 0.04):
        for _ in range(30):
            monitor.ended(seen("get", seconds))
        assert monitor.check() == []


def test_damage(store: CheckpointStore, backend: Patient) -> None:
    store.save(Checkpoint(id="c", execution_id="e", state={"text": "x" * 3000}))
    execution: Any = backend._executions["e"]
    execution.chunks.clear()
    monitor = Monitor(store, on_alert=print, logical=True)
    for id in list(execution.checkpoints):
        execution.checkpoints[id] = execution.checkpoints[id]._replace(state=b"{")
    assert names(monitor.check()) == ["P1 unmeasured"]


def test_runs_in_a_thread(
    store: CheckpointStore, backend: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Alert] = []
    rounds = threading.Semaphore(0)

    def hear(alert: Alert) -> None:
        heard.append(alert)
        rounds.release()
        raise RuntimeError("a callback that fails")

    backend.away = True
    with Monitor(store, every=0.005, on_alert=hear) as monitor:
        assert rounds.acquire(timeout=30)
        backend.away = False
        assert rounds.acquire(timeout=30)
        assert monitor in store.observers.present
        with pytest.raises(InvalidInput, match="already"):
            monitor.__enter__()
    assert not store.observers.present
    assert names(heard) == ["P0 unavailable", "P0 unavailable over"]
    assert "a callback that fails" in caplog.text
    assert not [one for one in threading.enumerate() if one.name == "langcairn-monitor"]


def test_an_unexpected_error_ends_nothing(
    store: CheckpointStore, backend: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = threading.Semaphore(0)

    def load() -> Load:
        rounds.release()
        raise RuntimeError("no load")

    backend.load = load  # type: ignore[method-assign]  # what nobody expects
    with Monitor(store, every=0.005, on_alert=print):
        for _ in range(3):
            assert rounds.acquire(timeout=30)
    assert "a round of the monitor failed" in caplog.text


async def test_runs_in_a_task(store: CheckpointStore, backend: Patient) -> None:
    heard: asyncio.Queue[Alert] = asyncio.Queue()

    async def hear(alert: Alert) -> None:
        await heard.put(alert)

    backend.away = True
    async with asyncio.timeout(30), Monitor(store, every=0.005, on_alert=hear) as monitor:
        assert (await heard.get()).name == "unavailable"
        backend.away = False
        assert (await heard.get()).resolved
        assert monitor.active == []
    assert not store.observers.present


def test_ends_with_the_store(store: CheckpointStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    monitor = Monitor(store, every=0.005, on_alert=print)
    with monitor:
        store.close()
        assert monitor._thread is not None
        monitor._thread.join(30)
        assert not monitor._thread.is_alive()
    with pytest.raises(StoreClosed):
        monitor.check()
    assert not caplog.records


def test_bad_arguments() -> None:
    store = open_store("memory:")
    with pytest.raises(InvalidInput, match="every"):
        Monitor(store, every=0, on_alert=print)
    with pytest.raises(InvalidInput, match="on_alert"):
        Monitor(store, on_alert="mail me")  # type: ignore[arg-type]  # a mistake
