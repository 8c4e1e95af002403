"""The application: what belongs together, put together."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from fastapi import FastAPI

from examples.service.agent import build_agent
from examples.service.answers import answer_errors
from examples.service.health import health_router
from examples.service.identity import Identity, IdentityMiddleware
from examples.service.limits import BodyLimitMiddleware
from examples.service.metrics import Metrics, MetricsMiddleware, metrics_router
from examples.service.running import Runs
from examples.service.runs import runs_router
from examples.service.storage import CairnStorage
from examples.service.threads import threads_router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from examples.service.settings import Settings
    from examples.service.storage import Storage


def create_app(settings: Settings, storage: Storage | None = None) -> FastAPI:
    """Return the application.

    Args:
        settings: How it runs.
        storage: Where threads are kept, if not where the settings say. The app closes it.

    Raises:
        BadSetting: A setting can't be used.
        CairnError: The store can't be opened as the settings say. (That it isn't there yet is no
            error: until it is, the service isn't ready.)
    """
    metrics = Metrics()
    identity = Identity(settings)
    if storage is None:
        storage = CairnStorage(settings, metrics.registry)
    agent = build_agent(storage.saver, settings.model_seconds)
    runs = Runs(agent, storage, settings, metrics)
    metrics.going.set_function(lambda: runs.going)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 -- Starlette passes it
        # The load test's other storages have nothing to watch.
        watching = storage.watching() if isinstance(storage, CairnStorage) else nullcontext()
        try:
            async with watching:
                try:
                    yield
                finally:
                    # A second time after the server's own, or the only one under another server.
                    await runs.drain()
        finally:
            await storage.close()

    app = FastAPI(title="langcairn reference service", lifespan=lifespan)
    app.state.runs = runs
    app.include_router(health_router(runs, storage, settings.ready_seconds))
    app.include_router(metrics_router(metrics))
    app.include_router(threads_router(agent, storage))
    app.include_router(runs_router(runs))
    answer_errors(app)
    app.add_middleware(BodyLimitMiddleware, most=settings.max_body_bytes)
    app.add_middleware(IdentityMiddleware, identity=identity)
    app.add_middleware(MetricsMiddleware, metrics=metrics)  # the outermost: sees refusals, too
    return app
