"""What a store says about itself: `CheckpointStore.test_connection` and its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn import figures
from langcairn.errors import InvalidInput
from langcairn.operating import Operating
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langcairn.figures import ExecutionStats, Health, Progress, Stats
    from langcairn.operations import Operation


class Measurable(Operating):
    """The methods of a store that say how it is and how much is in it."""

    def test_connection(self) -> Health:
        """Use the storage system once, and say how it went.

        A backend that tries again while its system is away does so here, too.

        Raises:
            StoreUnavailable: The storage can't be reached.
            StoreMisconfigured: It won't work until a setting is changed.
        """
        return self.run(figures.test_connection(self.backend.name))

    async def atest_connection(self) -> Health:
        """Do as `test_connection`."""
        return await self.arun(figures.test_connection(self.backend.name))

    def stats(
        self,
        execution_id: str | None = None,
        *,
        logical: bool = False,
        on_progress: Progress | None = None,
    ) -> Stats:
        """Return how much is in the store, or in one execution of it.

        Args:
            execution_id: The execution; None: the whole store.
            logical: Also say how large the states would be without sharing, and so what sharing
                saves. For this every chunk is read once: it takes as long as reading a backup.
            on_progress: Is then called after each execution with the number of those that were
                read, and of all.

        Raises:
            CorruptData: Something is damaged (with ``logical``).
        """
        return self.run(self._stats(execution_id, logical, on_progress))

    async def astats(
        self,
        execution_id: str | None = None,
        *,
        logical: bool = False,
        on_progress: Progress | None = None,
    ) -> Stats:
        """Do as `stats`."""
        return await self.arun(self._stats(execution_id, logical, on_progress))

    def execution_stats(
        self,
        *,
        after: str = "",
        limit: int | None = None,
        execution_ids: Iterable[str] | None = None,
    ) -> list[ExecutionStats]:
        """Return how much is stored of each of many executions, in ascending order of their ids.

        Args:
            after: Only those behind this id: the last one of the page before.
            limit: The most to return.
            execution_ids: Only these; those that don't exist are left out. None: all.
        """
        return self.run(_execution_stats(after, limit, execution_ids))

    async def aexecution_stats(
        self,
        *,
        after: str = "",
        limit: int | None = None,
        execution_ids: Iterable[str] | None = None,
    ) -> list[ExecutionStats]:
        """Do as `execution_stats`."""
        return await self.arun(_execution_stats(after, limit, execution_ids))

    def _stats(
        self, execution_id: str | None, logical: bool, on_progress: Progress | None
    ) -> Operation[Stats]:
        id = None if execution_id is None else valid_execution_id(execution_id)
        return figures.stats(
            self.codec, self.backend.name, id, logical=logical, on_progress=on_progress
        )


def _execution_stats(
    after: str, limit: int | None, execution_ids: Iterable[str] | None
) -> Operation[list[ExecutionStats]]:
    if isinstance(execution_ids, str):
        raise InvalidInput(f"expected a list of execution ids, not the string {execution_ids!r}")
    ids = None if execution_ids is None else [valid_execution_id(id) for id in execution_ids]
    return figures.execution_stats(after, limit, ids)
