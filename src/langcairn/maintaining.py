"""What a store does about what it keeps: `CheckpointStore.maintain`, and erasing users."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langcairn import erasing, upkeep
from langcairn.backends.retry import seconds as in_seconds
from langcairn.errors import InvalidInput
from langcairn.operating import Operating
from langcairn.records import valid_text
from langcairn.retention import Retention, retentions
from langcairn.thread_id import ThreadId, part_of
from langcairn.upkeep import Orders

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta
    from uuid import UUID

    from langcairn.erasing import ErasureReport
    from langcairn.operations import Operation
    from langcairn.upkeep import MaintenanceReport, Progress


class Maintainable(Operating):
    """The methods of a store that remove what isn't to be kept.

    Attributes:
        retention: What is kept, if a call of `maintain` doesn't say otherwise.
    """

    retention: tuple[Retention, ...]

    def maintain(
        self,
        retention: Retention | Iterable[Retention] | None = None,
        *,
        dry_run: bool = False,
        garbage: bool = True,
        after: str | ThreadId = "",
        limit: int | None = None,
        seconds: timedelta | float | None = None,
        progress: Progress = None,
    ) -> MaintenanceReport:
        """Remove what isn't to be kept, and what crashes have left.

        Of each execution, in ascending order of their ids: checkpoints that its `Retention`
        doesn't keep; pending writes whose checkpoint will never come; chunks that nothing refers
        to; at last the execution itself, if nothing of it is left. Graphs may run meanwhile, in
        any process, and several may maintain. An execution that somebody has a lease on is left as
        it is. What is wrong with one execution doesn't keep the others from being maintained.

        Args:
            retention: What to keep. Of several, the first whose pattern fits an execution counts
                for it; where none does, everything is kept. None: as the store's option
                ``retention`` says.
            dry_run: Whether to remove nothing, and only say what would go.
            garbage: Whether to look for what crashes have left. For that every checkpoint is
                read, though not all of its content.
            after: Only executions behind this id: ``next`` of a report that a limit has ended.
            limit: The most executions to look at.
            seconds: After which time to begin no further execution, as a timedelta or in seconds.
            progress: Called after each execution with what was done.

        Raises:
            InvalidInput: An argument can't be used as it is.
            StoreError: The storage failed; what was done until then is done. A note on the error
                says where to go on.
        """
        return self.run(
            self._maintain(retention, dry_run, garbage, after, limit, seconds, progress)
        )

    async def amaintain(
        self,
        retention: Retention | Iterable[Retention] | None = None,
        *,
        dry_run: bool = False,
        garbage: bool = True,
        after: str | ThreadId = "",
        limit: int | None = None,
        seconds: timedelta | float | None = None,
        progress: Progress = None,
    ) -> MaintenanceReport:
        """Do as `maintain`."""
        return await self.arun(
            self._maintain(retention, dry_run, garbage, after, limit, seconds, progress)
        )

    def clear_old_checkpoints(
        self,
        age: timedelta | float,
        *,
        keep_latest: bool = True,
        threads: str = "*",
        dry_run: bool = False,
    ) -> MaintenanceReport:
        """Remove checkpoints by their age; `maintain` with only that to do.

        Args:
            age: How old a checkpoint may be, by its timestamp, as a timedelta or in seconds.
            keep_latest: Whether the newest of each namespace stays, however old. False: an
                execution whose newest checkpoint is older goes whole.
            threads: Only of executions whose id fits this pattern, as of `fnmatch`.
            dry_run: Whether to remove nothing, and only say what would go.

        Raises:
            InvalidInput: An argument can't be used as it is.
        """
        rule = Retention(max_age=age, keep_latest=keep_latest, threads=threads)
        return self.maintain(rule, dry_run=dry_run, garbage=False)

    async def aclear_old_checkpoints(
        self,
        age: timedelta | float,
        *,
        keep_latest: bool = True,
        threads: str = "*",
        dry_run: bool = False,
    ) -> MaintenanceReport:
        """Do as `clear_old_checkpoints`."""
        rule = Retention(max_age=age, keep_latest=keep_latest, threads=threads)
        return await self.amaintain(rule, dry_run=dry_run, garbage=False)

    def erase_user(self, user_id: str | int | UUID) -> ErasureReport:
        """Remove all executions whose `ThreadId` names a user, and see that nothing is left.

        Backups may still have them: `backup_contains` looks into one. What files and databases
        keep of what was removed until they reuse the space, docs/retention.md says.

        Args:
            user_id: The user. An int or UUID stands for its text.

        Raises:
            InvalidInput: It is no user id.
            LeaseHeld: Somebody has a lease on some of them; all others are erased.
            StoreUnavailable: They come again and again: something is still writing them.
            CorruptData: The storage has something of theirs although it was removed.
        """
        return self.run(self._erasing(user_id))

    async def aerase_user(self, user_id: str | int | UUID) -> ErasureReport:
        """Do as `erase_user`."""
        return await self.arun(self._erasing(user_id))

    def _erasing(self, user_id: str | int | UUID) -> Operation[ErasureReport]:
        tiered = self.tiered()
        left = None if tiered is None else tiered.objects_left
        return erasing.erase_user(self.codec, part_of(user_id, "user_id"), left)

    def _maintain(
        self,
        retention: Retention | Iterable[Retention] | None,
        dry_run: bool,
        garbage: bool,
        after: str | ThreadId,
        limit: int | None,
        seconds: timedelta | float | None,
        progress: Progress,
    ) -> Operation[MaintenanceReport]:
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidInput(f"limit={limit!r}: a number of executions, or None")
        rules = self.retention if retention is None else retentions(retention)
        return upkeep.maintain(
            self.codec,
            Orders(rules, datetime.now(UTC), dry_run, garbage),
            after=valid_text(str(after) if isinstance(after, ThreadId) else after, "after"),
            limit=limit,
            seconds=None if seconds is None else in_seconds(seconds, "seconds"),
            progress=progress,
        )
