"""Serving, and its end: a signal, runs that come to theirs, and then connections."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from typing_extensions import override

from examples.service.app import create_app
from examples.service.settings import BadSetting, Settings
from langcairn import CairnError
from langcairn.logs import JsonFormatter

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine
    from types import FrameType

    from examples.service.running import Runs
    from examples.service.storage import Storage


class Server(uvicorn.Server):
    """uvicorn, but that runs come to their end, and are told apart from the end of the process.

    On SIGTERM the service isn't ready any more and begins no runs, but still answers: to probes,
    and to those whose runs go on. Then uvicorn closes connections. A second signal ends at once.
    """

    def __init__(self, config: uvicorn.Config, runs: Runs) -> None:
        super().__init__(config)
        self._runs = runs

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own, which raises the signal again at the end: this end is no failure.
        self.force_exit = self.should_exit
        self.should_exit = True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._runs.draining = True
        drained = asyncio.create_task(self._runs.drain())
        while not drained.done() and not self.force_exit:
            await asyncio.wait({drained}, timeout=0.1)
        await super().shutdown(sockets)


async def serve(settings: Settings, storage: Storage | None = None) -> None:
    """Serve until a signal comes."""
    app = create_app(settings, storage)
    _collect_seldom()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        ws="none",
        access_log=False,  # the metrics count requests, the proxy in front logs them
        log_config=None,
        server_header=False,
        # The network of trusted proxies is ours to check: uvicorn would put the address that a
        # header names in the place of the one that connected.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    await Server(config, app.state.runs).serve()


def _collect_seldom() -> None:
    """Let Python look for cyclic garbage less often.

    A run makes thousands of objects that live for a moment. Looking through them after every 700,
    and now and then through all modules as well, takes a fifth of the service's CPU time.
    """
    gc.collect()
    gc.freeze()  # what was imported stays
    gc.set_threshold(20_000, 20, 50)


def run(service: Coroutine[Any, Any, None]) -> None:
    """Run a service to its end, on uvloop if it is installed."""
    factory = uvicorn.Config("", loop="auto", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(service)


def main() -> int:
    """Serve as the environment says."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        run(serve(Settings.from_environment(os.environ)))
    except (BadSetting, CairnError) as error:
        print(f"can't serve: {error}", file=sys.stderr)
        return 2
    return 0
