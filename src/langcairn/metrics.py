"""Metrics for Prometheus (extra ``metrics``).

::

    from langcairn.metrics import instrument

    instrument(store)  # into prometheus_client's own registry, or one of yours

What is counted says nothing about any execution: ids would be labels without number.

Operations are counted in tables of our own, which the registry reads when it is asked:
prometheus_client's own counters and histograms take 7 µs for each operation, these less than 2. The
price is that its mode for several processes behind one address doesn't see them; give each process
an address.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn.errors import InvalidInput
from langcairn.observing import Observer

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "langcairn.metrics needs prometheus_client; install langcairn[metrics]"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from langcairn.observing import Observation
    from langcairn.store import CheckpointStore

# A put into memory takes some 50 µs, one into a database milliseconds; 0.5 and 1 are the seeds'
# thresholds, which a bucket must end at to be seen.
BUCKETS = (
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
)  # fmt: skip  # [s]
_LIMITS = [*map(str, BUCKETS), "+Inf"]
_WAITS = ("queue", "connect", "lock", "pause")
_FIGURES = {
    "executions": ("executions", "Executions, as a monitor found them"),
    "checkpoints": ("checkpoints", "Checkpoints, likewise"),
    "writes": ("pending_writes", "Pending writes"),
    "chunks": ("chunks", "Chunks"),
    "stored_bytes": ("stored_bytes", "What rows and chunks take"),
    "disk_bytes": ("disk_bytes", "What the store takes, indexes included"),
    "free_bytes": ("free_bytes", "What is left for it"),
    "total_bytes": ("capacity_bytes", "How much that was, all in all"),
    "sharing_ratio": ("sharing_ratio", "Size of the states to what is stored"),
}
"""Attributes of `Stats` to names and descriptions of metrics."""


def instrument(
    store: CheckpointStore,
    registry: CollectorRegistry | None = None,
    *,
    backend: str | None = None,
) -> StoreMetrics:
    """Count what a store does, from now on.

    Args:
        store: The store; for a saver, its ``store``.
        registry: Where; None: prometheus_client's own. Several stores may share one.
        backend: What stands in the label of that name; None: the backend's name. Two stores on
            backends of one kind are told apart by it.

    Returns:
        What counts; its ``remove`` ends it.

    Raises:
        InvalidInput: The registry has a store of this name already.
    """
    collector = _collector(registry or REGISTRY)
    return collector.add(StoreMetrics(store, collector, backend or store.backend.name))


class _Kind:
    """What is counted of operations of one name and outcome."""

    __slots__ = ("buckets", "count", "received", "requests", "seconds", "sent")

    def __init__(self) -> None:
        self.count = self.requests = self.sent = self.received = 0
        self.seconds = 0.0
        self.buckets = [0] * len(_LIMITS)


class StoreMetrics(Observer):
    """Counts the operations of one store.

    Attributes:
        backend: What stands in the label of that name.
    """

    def __init__(self, store: CheckpointStore, collector: _Collector, backend: str) -> None:
        self.backend = backend
        # Weakly: metrics keep no store alive.
        self._store = weakref.ref(store)
        self._collector = collector
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._waits = dict.fromkeys(_WAITS, 0.0)
        self._retries = self._conflicts = self._refused = 0
        self._up: bool | None = None
        self._figures: dict[str, float] = {}

    def watch(self) -> None:
        """Begin to count."""
        store = self._store()
        if store is not None:
            store.observers.add(self)

    def remove(self) -> None:
        """Count no more, and take what was counted out of the registry."""
        store = self._store()
        if store is not None:
            store.observers.discard(self)
        self._collector.discard(self)

    @override
    def ended(self, observation: Observation) -> None:
        name = (observation.operation, observation.outcome)
        seconds = observation.seconds
        with self._lock:
            kind = self._kinds.get(name)
            if kind is None:
                kind = self._kinds[name] = _Kind()
            kind.count += 1
            kind.seconds += seconds
            kind.buckets[bisect_left(BUCKETS, seconds)] += 1
            kind.requests += observation.requests
            kind.sent += observation.sent
            kind.received += observation.received
            waits, phases = self._waits, observation.phases
            if len(phases) > 1:  # something beside the requests
                for cause in waits.keys() & phases.keys():
                    waits[cause] += phases[cause]
            self._retries += observation.retries
            self._refused += observation.refused
            if observation.outcome == "version_conflict":
                self._conflicts += 1

    @override
    def checked(self, backend: str, health: object | None) -> None:
        self._up = health is not None

    @override
    def measured(self, backend: str, stats: object) -> None:
        values = {name: getattr(stats, name) for name in _FIGURES}
        self._figures = {name: value for name, value in values.items() if value is not None}

    def report(self, families: _Families) -> None:
        """Add what was counted to metrics that are about to be read."""
        backend = self.backend
        with self._lock:
            by_name: dict[str, _Kind] = {}
            for (operation, outcome), kind in self._kinds.items():
                families.operations.add_metric([backend, operation, outcome], kind.count)
                whole = by_name.setdefault(operation, _Kind())
                for field in ("requests", "seconds", "sent", "received"):
                    setattr(whole, field, getattr(whole, field) + getattr(kind, field))
                whole.buckets = [a + b for a, b in zip(whole.buckets, kind.buckets, strict=True)]
            for cause, seconds in self._waits.items():
                families.waits.add_metric([backend, cause], seconds)
            families.retries.add_metric([backend], self._retries)
            families.conflicts.add_metric([backend], self._conflicts)
            families.refused.add_metric([backend], self._refused)
        for operation, kind in by_name.items():
            counts = accumulate(kind.buckets)
            buckets = [(limit, float(n)) for limit, n in zip(_LIMITS, counts, strict=True)]
            families.seconds.add_metric([backend, operation], buckets, kind.seconds)
            families.requests.add_metric([backend, operation], kind.requests)
            families.sent.add_metric([backend, operation], kind.sent)
            families.received.add_metric([backend, operation], kind.received)
        if self._up is not None:
            families.up.add_metric([backend], self._up)
        for name, value in self._figures.items():
            families.figures[name].add_metric([backend], value)
        self._report_load(families)

    def _report_load(self, families: _Families) -> None:
        store = self._store()
        if store is None:
            return
        load = store.backend.load()
        families.queue.add_metric([self.backend], load.queued)
        if load.connections is not None and load.in_use is not None:
            families.pool.add_metric([self.backend, "in use"], load.in_use)
            families.pool.add_metric([self.backend, "idle"], load.connections - load.in_use)
        if load.limit is not None:
            families.limit.add_metric([self.backend], load.limit)


class _Families:
    """All metrics, as one reading of them gives them."""

    def __init__(self) -> None:
        def counter(name: str, help: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"langcairn_{name}", help, labels=["backend", *labels])

        def gauge(name: str, help: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"langcairn_{name}", help, labels=["backend", *labels])

        self.operations = counter("operations", "Operations", "operation", "outcome")
        self.seconds = HistogramMetricFamily(
            "langcairn_operation_seconds",
            "How long operations took",
            labels=["backend", "operation"],
        )
        self.requests = counter("requests", "Requests to the backend", "operation")
        self.sent = counter("sent_bytes", "Rows and chunks given to the backend", "operation")
        self.received = counter("received_bytes", "Rows and chunks that came from it", "operation")
        self.waits = counter("waiting_seconds", "What operations waited for", "cause")
        self.retries = counter("retries", "Requests that were tried again after a fault")
        self.conflicts = counter("conflicts", "Saves refused because of another version")
        self.refused = counter("epochs_refused", "Commits refused for a stale epoch and repeated")
        self.up = gauge("up", "Whether the last round of a monitor could use the store")
        self.queue = gauge("queue_depth", "Requests that wait in this process")
        self.pool = gauge("pool_connections", "Connections", "state")
        self.limit = gauge("pool_limit", "The most connections that there may be")
        self.figures = {
            attribute: gauge(name, help) for attribute, (name, help) in _FIGURES.items()
        }

    def all(self) -> Iterator[Metric]:
        """Yield them."""
        yield from (
            self.operations, self.seconds, self.requests, self.sent, self.received, self.waits,
            self.retries, self.conflicts, self.refused, self.up, self.queue, self.pool, self.limit,
        )  # fmt: skip
        yield from self.figures.values()


class _Collector(Collector):
    """Gives the metrics of all stores of one registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[str, StoreMetrics] = {}

    def add(self, metrics: StoreMetrics) -> StoreMetrics:
        """Begin to count for a store."""
        with self._lock:
            if metrics.backend in self._stores:
                raise InvalidInput(
                    f"these metrics have a store named {metrics.backend!r} already; give another "
                    "backend=…, or remove() the first"
                )
            metrics.watch()
            self._stores[metrics.backend] = metrics
        return metrics

    def discard(self, metrics: StoreMetrics) -> None:
        """Give the metrics of a store no more."""
        with self._lock:
            if self._stores.get(metrics.backend) is metrics:
                del self._stores[metrics.backend]

    @override
    def collect(self) -> Iterator[Metric]:
        with self._lock:
            stores = list(self._stores.values())
        families = _Families()
        for metrics in stores:
            metrics.report(families)
        yield from families.all()

    def describe(self) -> Iterable[Metric]:
        """Name the metrics, so that registering doesn't collect them."""
        return _Families().all()


_by_registry: weakref.WeakKeyDictionary[Any, _Collector] = weakref.WeakKeyDictionary()


def _collector(registry: CollectorRegistry) -> _Collector:
    collector = _by_registry.get(registry)
    if collector is None:
        collector = _by_registry[registry] = _Collector()
        registry.register(collector)
    return collector
