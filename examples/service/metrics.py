"""What the service counts; langcairn counts what the store does in the same registry."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# 0.3 and 0.5 are thresholds of the alerts, which a bucket must end at to be seen.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30)  # [s]


class Metrics:
    """The service's metrics, in a registry of the app's own.

    Attributes:
        registry: Where they are.
        runs: Runs that ended, by status.
        going: Runs that go on.
        requests: Requests answered, by method, route and status.
        seconds: How long it took until an answer began, by route. (A stream lasts as its run.)
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.runs = Counter("service_runs", "Runs that ended", ["status"], registry=self.registry)
        self.going = Gauge("service_runs_going", "Runs that go on", registry=self.registry)
        self.requests = Counter(
            "service_requests",
            "Requests that were answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "service_request_seconds",
            "How long it took until an answer began",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )


class MetricsMiddleware:
    """Counts requests and takes their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.seconds.labels(_route(scope)).observe(perf_counter() - begin)
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            self._metrics.requests.labels(scope["method"], _route(scope), status).inc()


def _route(scope: Scope) -> str:
    """Return the route, never the path: that would be a metric for each thread."""
    route = scope.get("route")
    return getattr(route, "path", "none")


def metrics_router(metrics: Metrics) -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.get("/metrics")
    async def read() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
