"""`repair`: drop what is unreadable, so that the rest can be used again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langcairn.backends.base import Commit, Remove
from langcairn.errors import CorruptData, StaleEpoch, StoreMisconfigured, StoreUnavailable
from langcairn.maintenance import sweep
from langcairn.objects.naming import was_moved
from langcairn.transfer.backups import BackupReport, backup_steps
from langcairn.transfer.references import unharmed
from langcairn.transfer.reports import Counts
from langcairn.transfer.running import At, Steps, arun, on, run
from langcairn.transfer.verifying import examine, verify_steps

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from langcairn.store import CheckpointStore
    from langcairn.transfer.reports import OnProgress

_logger = logging.getLogger(__name__)


@dataclass
class RepairReport(Counts):
    """What was repaired; the counts are of what was dropped.

    Attributes:
        backup: What was backed up before; None if nothing was wrong.
    """

    backup: BackupReport | None = field(default=None)


def repair(
    store: CheckpointStore,
    backup_path: str | os.PathLike[str],
    *,
    executions: Sequence[str] | None = None,
    progress: OnProgress = None,
) -> RepairReport:
    """Drop checkpoints and pending writes that can't be read, after a backup of everything.

    Nothing else is touched. A checkpoint of which only pending writes are lost stays without them.
    What is dropped was lost before, unless an older backup has it: see `restore`. Nothing should
    write to the executions meanwhile.

    Args:
        store: The store.
        backup_path: Where to write the backup. It isn't made if nothing is wrong.
        executions: Look only at these.
        progress: Called after each execution of the backup.

    Raises:
        InvalidInput: An argument can't be used as it is.
        StoreMisconfigured: Content of the store was moved to object storage, and the store was
            opened without ``objects=``.
        StoreError: The backup can't be written, or the store can't be reached.
    """
    return run(_repair(store, backup_path, executions, progress))


async def arepair(
    store: CheckpointStore,
    backup_path: str | os.PathLike[str],
    *,
    executions: Sequence[str] | None = None,
    progress: OnProgress = None,
) -> RepairReport:
    """Do as `repair`."""
    return await arun(_repair(store, backup_path, executions, progress))


def _repair(
    store: CheckpointStore,
    backup_path: str | os.PathLike[str],
    executions: Sequence[str] | None,
    progress: OnProgress,
) -> Steps[RepairReport]:
    report = RepairReport()
    verified = yield from verify_steps(store, executions, None)
    report.findings = verified.findings
    damaged = sorted({finding.execution_id for finding in verified.findings if finding.repairable})
    if damaged:
        yield from _refuse_without_objects(store)
        report.backup = yield from backup_steps(store, backup_path, None, None, progress)
    for execution_id in damaged:
        yield from _repair_execution(store, execution_id, report)
    return report


def _refuse_without_objects(store: CheckpointStore) -> Steps[None]:
    """Refuse a store whose moved content would pass for lost."""
    if store.tiered() is None and (yield from on(store, was_moved())):
        raise StoreMisconfigured(
            "content of this store was moved to object storage, which isn't damage: open the store "
            "with objects=… to repair it"
        )


def _repair_execution(
    store: CheckpointStore, execution_id: str, report: RepairReport
) -> Steps[None]:
    examined = yield from examine(store, execution_id)
    keys = {
        (finding.namespace, finding.checkpoint_id)
        for finding in examined.findings
        if finding.repairable
        and finding.namespace is not None
        and finding.checkpoint_id is not None
    }
    rows, writes = unharmed(examined.sound, examined.bad, examined.pages)
    kept = [row for row in rows if (row.namespace, row.id) in keys]
    kept_writes = [w for w in writes if (w.namespace, w.checkpoint_id) in keys]
    epoch: int | None = yield At(store, Remove(execution_id, sorted(keys)))
    store.codec.caches.drop(execution_id)
    if epoch is None:
        return  # it was deleted meanwhile
    if kept or kept_writes:
        try:
            yield At(store, Commit(execution_id, epoch, (), kept, kept_writes))
        except StaleEpoch:
            raise StoreUnavailable(
                f"execution {execution_id!r} was cleaned up while it was repaired, so "
                f"{len(kept)} checkpoints of which pending writes were lost are gone from the "
                "store; they are in the backup: restore it with existing='replace'"
            ) from None
    report.executions += 1
    report.checkpoints += len(keys) - len({(row.namespace, row.id) for row in kept})
    report.writes += len(examined.snapshot.writes) - len(writes)
    try:
        yield from on(store, sweep(store.codec, execution_id, epoch))
    except CorruptData as error:
        # Something else is still unreadable, so what it refers to must stay.
        _logger.warning("space of execution %r was not freed: %s", execution_id, error)
