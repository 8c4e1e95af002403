"""Where threads are kept, and who may write to one."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from examples.service.identity import user
from langcairn import Alert, CheckpointSaver, Level, Monitor, open_store, own_executions
from langcairn.metrics import instrument

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from langgraph.checkpoint.base import BaseCheckpointSaver
    from prometheus_client import CollectorRegistry

    from examples.service.settings import Settings

_logger = logging.getLogger(__name__)
_SERVERS = ("postgres", "redis", "valkey")  # stores that can be out of reach for a while


class Storage(Protocol):
    """What the service needs of its storage. The load test has others than `CairnStorage`."""

    @property
    def saver(self) -> BaseCheckpointSaver[Any]:
        """What the graph is compiled with; for the current `user`, nobody else."""
        ...

    def writing(self, thread_id: str) -> AbstractAsyncContextManager[object]:
        """Return a block within which nobody else runs the thread.

        Raises:
            Conflict: From entering it: somebody does.
        """
        ...

    async def threads(self, limit: int, after: str) -> list[str]:
        """Return thread ids of the current user, the oldest first."""
        ...

    async def delete(self, thread_id: str) -> bool:
        """Delete a thread. False if there was nothing."""
        ...

    async def check(self) -> None:
        """Ask the storage for a sign of life.

        Raises:
            StoreError: There is none.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class CairnStorage:
    """langcairn's: guarded for each user, with one writer for a thread.

    Args:
        settings: The store's URL, and how a thread is kept to one writer.
        registry: Where what the store does is counted.
    """

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        options: dict[str, Any] = {"objects": settings.objects}
        if settings.store.startswith(_SERVERS):
            options["deadline"] = settings.store_deadline
        self._store = open_store(settings.store, **options)
        # Only this one is used for requests: every operation is checked against who asks.
        self._guarded = self._store.guard(own_executions, who=user)
        # A lease makes checking needless; on PostgreSQL a checked put is a transaction of its own,
        # where others share a statement with all that wait.
        checked = settings.one_writer == "check"
        self.saver = CheckpointSaver(self._guarded, single_writer=checked)
        self._lease_seconds = settings.lease_seconds if settings.one_writer == "lease" else None
        self._monitor_seconds = settings.monitor_seconds
        instrument(self._store, registry)

    def watching(self) -> AbstractAsyncContextManager[object]:
        """Return a block within which the store's state is measured and what is wrong is logged."""
        if not self._monitor_seconds:
            return nullcontext()
        return Monitor(self._store, every=self._monitor_seconds, on_alert=_log)

    def writing(self, thread_id: str) -> AbstractAsyncContextManager[object]:
        """Return a block within which nobody else runs the thread."""
        if self._lease_seconds is None:
            return nullcontext()
        return self._guarded.alease(thread_id, ttl=self._lease_seconds)

    async def threads(self, limit: int, after: str) -> list[str]:
        """Return thread ids of the current user, the oldest first."""
        return await self._guarded.aexecutions(user_id=user.get(), limit=limit, after=after)

    async def delete(self, thread_id: str) -> bool:
        """Delete a thread. False if there was nothing."""
        return await self._guarded.aclear(thread_id)

    async def check(self) -> None:
        """Ask the store for a sign of life."""
        await self._store.atest_connection()

    async def close(self) -> None:
        """Release connections."""
        await self._store.aclose()


def _log(alert: Alert) -> None:
    level = logging.ERROR if alert.level is Level.P0 else logging.WARNING
    if alert.resolved:
        _logger.info("%s %s is over", alert.level.name, alert.name)
    else:
        _logger.log(level, "%s %s: %s", alert.level.name, alert.name, alert.message)
