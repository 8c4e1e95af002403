"""Metrics for Prometheus (extra ``metrics``).

::

    from langcairn.metrics import instrument

    instrument(store)  # into prometheus_client's own registry, or one of yours

What is counted says nothing about any execution: ids would be labels without number.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

from langcairn.errors import InvalidInput
from langcairn.observing import Observer

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.core import GaugeMetricFamily
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
_BUCKETS = (
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
)  # fmt: skip  # [s]
_WAITS = ("queue", "connect", "lock", "pause")


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
    return StoreMetrics(store, _families(registry or REGISTRY), backend or store.backend.name)


class StoreMetrics(Observer):
    """Counts the operations of one store."""

    def __init__(self, store: CheckpointStore, families: _Families, backend: str) -> None:
        if backend in families.loads.stores:
            raise InvalidInput(
                f"these metrics have a store named {backend!r} already; give another backend=…"
            )
        self._store = store
        self._families = families
        self._backend = backend
        self._by_kind: dict[tuple[str, str], _Children] = {}
        self._retries = families.retries.labels(backend)
        self._conflicts = families.conflicts.labels(backend)
        self._refused = families.refused.labels(backend)
        self._waits = {cause: families.waits.labels(backend, cause) for cause in _WAITS}
        families.loads.stores[backend] = store
        store.observers = (*store.observers, self)

    def remove(self) -> None:
        """Count no more. What was counted stays."""
        self._store.observers = tuple(one for one in self._store.observers if one is not self)
        self._families.loads.stores.pop(self._backend, None)

    @override
    def ended(self, observation: Observation) -> None:
        kind = (observation.operation, observation.outcome)
        children = self._by_kind.get(kind)
        if children is None:
            children = self._by_kind[kind] = self._families.children(self._backend, *kind)
        children.operations.inc()
        children.seconds.observe(observation.seconds)
        children.requests.inc(observation.requests)
        if observation.sent:
            children.sent.inc(observation.sent)
        if observation.received:
            children.received.inc(observation.received)
        phases = observation.phases
        if len(phases) > 1:  # more than the requests themselves
            for cause in _WAITS:
                if cause in phases:
                    self._waits[cause].inc(phases[cause])
        if observation.retries:
            self._retries.inc(observation.retries)
        if observation.refused:
            self._refused.inc(observation.refused)
        if observation.outcome.endswith("conflict"):
            self._conflicts.inc()

    @override
    def checked(self, backend: str, health: object | None) -> None:
        self._families.up.labels(self._backend).set(health is not None)

    @override
    def measured(self, backend: str, stats: object) -> None:
        for name, gauge in self._families.figures.items():
            value: float | None = getattr(stats, name)
            if value is not None:
                gauge.labels(self._backend).set(value)


class _Children(NamedTuple):
    """The metrics of operations of one kind, found once."""

    operations: Counter
    seconds: Histogram
    requests: Counter
    sent: Counter
    received: Counter


class _Families:
    """All metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"langcairn_{name}", help, ("backend", *labels), registry=registry)

        def gauge(name: str, help: str) -> Gauge:
            return Gauge(
                f"langcairn_{name}",
                help,
                ("backend",),
                registry=registry,
                multiprocess_mode="mostrecent",
            )

        self.operations = counter("operations", "Operations", "operation", "outcome")
        self.seconds = Histogram(
            "langcairn_operation_seconds",
            "How long operations took",
            ("backend", "operation"),
            registry=registry,
            buckets=_BUCKETS,
        )
        self.requests = counter("requests", "Requests to the backend", "operation")
        self.sent = counter("sent_bytes", "Rows and chunks given to the backend", "operation")
        self.received = counter("received_bytes", "Rows and chunks that came from it", "operation")
        self.waits = counter("waiting_seconds", "What operations waited for", "cause")
        self.retries = counter("retries", "Requests that were tried again after a fault")
        self.conflicts = counter("conflicts", "Saves refused because of another version")
        self.refused = counter("epochs_refused", "Commits refused for a stale epoch and repeated")
        self.up = gauge("up", "Whether the last round of a monitor could use the store")
        self.figures = {
            "executions": gauge("executions", "Executions, as a monitor found them"),
            "checkpoints": gauge("checkpoints", "Checkpoints"),
            "writes": gauge("pending_writes", "Pending writes"),
            "chunks": gauge("chunks", "Chunks"),
            "stored_bytes": gauge("stored_bytes", "What rows and chunks take"),
            "disk_bytes": gauge("disk_bytes", "What the store takes, indexes included"),
            "free_bytes": gauge("free_bytes", "What is left for it"),
            "total_bytes": gauge("capacity_bytes", "How much that was, all in all"),
            "sharing_ratio": gauge("sharing_ratio", "Size of the states to what is stored"),
        }
        self.loads = _Loads()
        registry.register(self.loads)

    def children(self, backend: str, operation: str, outcome: str) -> _Children:
        """Return what counts operations of one kind."""
        return _Children(
            self.operations.labels(backend, operation, outcome),
            self.seconds.labels(backend, operation),
            self.requests.labels(backend, operation),
            self.sent.labels(backend, operation),
            self.received.labels(backend, operation),
        )


class _Loads(Collector):
    """Asks stores how busy they are whenever the metrics are read."""

    def __init__(self) -> None:
        # Weakly: metrics keep no store alive.
        self.stores: weakref.WeakValueDictionary[str, CheckpointStore] = (
            weakref.WeakValueDictionary()
        )

    @override
    def collect(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily(
            "langcairn_queue_depth", "Requests that wait in this process", labels=["backend"]
        )
        pool = GaugeMetricFamily(
            "langcairn_pool_connections", "Connections", labels=["backend", "state"]
        )
        limit = GaugeMetricFamily(
            "langcairn_pool_limit", "The most connections that there may be", labels=["backend"]
        )
        for backend, store in sorted(self.stores.items()):
            load = store.backend.load()
            queue.add_metric([backend], load.queued)
            if load.connections is not None and load.in_use is not None:
                pool.add_metric([backend, "in use"], load.in_use)
                pool.add_metric([backend, "idle"], load.connections - load.in_use)
            if load.limit is not None:
                limit.add_metric([backend], load.limit)
        yield from (queue, pool, limit)

    def describe(self) -> Iterable[Metric]:
        """Name the metrics, so that registering doesn't collect."""
        return _Loads().collect()


_by_registry: weakref.WeakKeyDictionary[Any, _Families] = weakref.WeakKeyDictionary()


def _families(registry: CollectorRegistry) -> _Families:
    families = _by_registry.get(registry)
    if families is None:
        families = _by_registry[registry] = _Families(registry)
    return families
