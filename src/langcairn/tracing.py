"""Spans for OpenTelemetry (extra ``tracing``).

::

    from langcairn.tracing import trace

    trace(store)  # with the global tracer provider, or one of yours

Each operation is a span, ``langcairn.put`` and so on, inside whichever span is current. It holds
ids, counts and times, and never a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn.observing import Observer

try:
    from opentelemetry import context
    from opentelemetry import trace as otel
except ImportError as error:
    raise ImportError(
        "langcairn.tracing needs opentelemetry-api; install langcairn[tracing]"
    ) from error

if TYPE_CHECKING:
    from langcairn.observing import Observation
    from langcairn.store import CheckpointStore


def trace(
    store: CheckpointStore, tracer_provider: otel.TracerProvider | None = None
) -> StoreTraces:
    """Make a span of each of a store's operations, from now on.

    Args:
        store: The store; for a saver, its ``store``.
        tracer_provider: What makes the spans; None: the global one.

    Returns:
        What makes them; its ``remove`` ends it.
    """
    return StoreTraces(store, otel.get_tracer("langcairn", tracer_provider=tracer_provider))


class StoreTraces(Observer):
    """Makes spans of the operations of one store."""

    def __init__(self, store: CheckpointStore, tracer: otel.Tracer) -> None:
        self._store = store
        self._tracer = tracer
        store.observers.add(self)

    def remove(self) -> None:
        """Make no more spans."""
        self._store.observers.discard(self)

    @override
    def began(self, observation: Observation) -> None:
        span = self._tracer.start_span(
            f"langcairn.{observation.operation}",
            kind=otel.SpanKind.CLIENT,
            attributes={"langcairn.backend": observation.backend},
        )
        # Current, so that what the driver does is seen inside of it, if that makes spans too.
        token = context.attach(otel.set_span_in_context(span))
        notes = observation.notes = observation.notes or {}
        notes[self] = (span, token)

    @override
    def answered(self, observation: Observation, request: object, seconds: float) -> None:
        if observation.notes is not None and self in observation.notes:
            span, _ = observation.notes[self]
            span.add_event(type(request).__name__, {"langcairn.seconds": seconds})

    @override
    def ended(self, observation: Observation) -> None:
        if observation.notes is None or self not in observation.notes:
            return  # it began before we came
        span, token = observation.notes.pop(self)
        context.detach(token)
        facts: dict[str, Any] = {
            "langcairn.execution_id": observation.execution_id,
            "langcairn.checkpoint_id": observation.checkpoint_id,
            "langcairn.outcome": observation.outcome,
            "langcairn.requests": observation.requests,
            "langcairn.sent_bytes": observation.sent,
            "langcairn.received_bytes": observation.received,
            "langcairn.retries": observation.retries,
            "langcairn.epochs_refused": observation.refused,
        }
        span.set_attributes({name: fact for name, fact in facts.items() if fact is not None})
        if observation.outcome != "ok":
            span.set_status(otel.StatusCode.ERROR, observation.outcome)
        span.end()
