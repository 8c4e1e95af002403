"""Probes: whether the process lives, and whether it can serve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from examples.service.answers import explained, json, problem
from langcairn import CairnError

if TYPE_CHECKING:
    from examples.service.running import Runs
    from examples.service.storage import Storage


def health_router(runs: Runs, storage: Storage, ready_seconds: float) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        # Never the store: restarting all processes doesn't bring a database back.
        return json({"status": "alive"})

    @router.get("/ready")
    async def ready() -> Response:
        if runs.draining:
            return problem(503, "draining", f"the service ends; {runs.going} runs still go on")
        try:
            async with asyncio.timeout(ready_seconds):
                await storage.check()
        except TimeoutError:
            return problem(503, "unavailable", f"the store took more than {ready_seconds:g} s")
        except CairnError as error:
            said = explained(error)
            return problem(503, said.code, str(said))
        return json({"status": "ready", "runs": runs.going})

    return router
