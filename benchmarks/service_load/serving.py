"""The service as it is loaded: one process, on the saver that an environment variable names.

Run by `Service`: ``python -m benchmarks.service_load.serving``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Self

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from tests.ports import hold_port, number_of

from benchmarks.results import ROOT
from benchmarks.service_load.client import HOST, Client, request
from benchmarks.service_load.sampling import Sampler
from examples.service.serving import run, serve
from examples.service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from langgraph.checkpoint.base import BaseCheckpointSaver

ONE_WRITER = {
    "langcairn": "lease",
    "langcairn check": "check",
    "langcairn process": "process",
}
"""Ours, and how each keeps a thread to one writer, see `Settings.one_writer`."""

SAVERS = (*ONE_WRITER, "official", "memory")
"""AsyncPostgresSaver and InMemorySaver: there only the process itself keeps runs apart."""

_SAVER = "SERVICE_LOAD_SAVER"
_PROFILE = "SERVICE_LOAD_PROFILE"
_POOL = 20  # [connections] for the official saver
_START_SECONDS = 60  # [s] that a process may take to begin, on a machine that is busy
_STOP_SECONDS = 60


class OtherStorage:
    """Another saver in the same service, without what only langcairn has: guard and lease."""

    def __init__(self, saver: BaseCheckpointSaver[Any], stack: AsyncExitStack) -> None:
        self.saver = saver
        self._stack = stack

    def writing(self, thread_id: str) -> AbstractAsyncContextManager[object]:  # noqa: ARG002 -- Storage's
        return nullcontext()

    async def threads(self, limit: int, after: str) -> list[str]:
        raise NotImplementedError("other savers can't list the threads of a user")

    async def delete(self, thread_id: str) -> bool:
        await self.saver.adelete_thread(thread_id)
        return True

    async def check(self) -> None:
        await self.saver.aget_tuple({"configurable": {"thread_id": "none"}})

    async def close(self) -> None:
        await self._stack.aclose()


async def _serve(saver: str) -> None:
    settings = Settings.from_environment(os.environ)
    stack = AsyncExitStack()
    if saver.startswith("langcairn"):
        await serve(settings)
    elif saver == "memory":
        await serve(settings, OtherStorage(InMemorySaver(), stack))
    else:
        # What LangGraph's documentation asks of connections for its saver.
        connection = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        options: dict[str, Any] = {"min_size": _POOL, "max_size": _POOL, "kwargs": connection}
        pool = AsyncConnectionPool(
            settings.store,
            open=False,
            timeout=settings.store_deadline,
            **options,
        )
        await stack.enter_async_context(pool)
        await serve(settings, OtherStorage(AsyncPostgresSaver(pool), stack))


def prepare(saver: str, store: str) -> None:
    """Make the tables of a saver that doesn't make them itself."""
    if saver == "official":
        with PostgresSaver.from_conn_string(store) as official:
            official.setup()


class Service:
    """A process of the service, as its parent has it.

    Args:
        saver: One of `SAVERS`.
        store: URL of the database.
        profile: File for a profile of its CPU time, or none.
        settings: More variables of its environment.
        wrap: Words before its command. What they run must become the service: no child of theirs.
    """

    def __init__(
        self,
        saver: str,
        store: str,
        profile: str = "",
        settings: dict[str, str] | None = None,
        wrap: Sequence[str] = (),
    ) -> None:
        self._holder = hold_port()
        self.port = number_of(self._holder)
        self.client = Client(self.port)
        environment = {
            **os.environ,
            "LANGCAIRN_STORE": store,
            "SERVICE_PORT": str(self.port),
            "SERVICE_USER_HEADER": "x-user",
            "SERVICE_TRUSTED_PROXIES": HOST,
            "SERVICE_ONE_WRITER": ONE_WRITER.get(saver, "process"),
            _SAVER: saver,
            _PROFILE: profile,
            **(settings or {}),
        }
        self._process = subprocess.Popen(
            [*wrap, sys.executable, "-m", "benchmarks.service_load.serving"],
            env=environment,
            cwd=ROOT,
        )
        self.pid = self._process.pid

    async def __aenter__(self) -> Self:
        try:
            await self._ready()
        except BaseException:
            self._process.kill()
            self._holder.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        finally:
            self._process.kill()
            self._holder.close()
        if code != 0 and error is None:
            raise RuntimeError(f"the service ended with {code}")

    async def _ready(self) -> None:
        asked = request("GET", "/ready", {})
        for _ in range(_START_SECONDS * 10):
            if self._process.poll() is not None:
                raise RuntimeError(f"the service did not start: {self._process.returncode}")
            try:
                status, _ = await self.client.ask(asked)
            except OSError:
                status = 0
            if status == 200:
                return
            await asyncio.sleep(0.1)
        raise RuntimeError("the service is not ready")


def main() -> None:
    """Serve until SIGTERM."""
    with Sampler(os.environ.get(_PROFILE, "")):
        run(_serve(os.environ[_SAVER]))


if __name__ == "__main__":
    main()
