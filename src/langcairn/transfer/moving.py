"""`migrate`: from one store or saver to another, every checkpoint compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.checkpoint.base import BaseCheckpointSaver

from langcairn.backends.base import Survey, Surveyed
from langcairn.errors import CairnError, InvalidInput, StoreClosed, StoreError
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.opening import open_store
from langcairn.store import CheckpointStore
from langcairn.transfer.backups import chosen_executions
from langcairn.transfer.copying import copy_execution
from langcairn.transfer.encoding import FromRecords, FromSaver, FromStore, into_saver, into_store
from langcairn.transfer.langgraphgo import LangGraphGo
from langcairn.transfer.lost_types import WatchingSerializer, watched
from langcairn.transfer.placing import learn_dictionaries
from langcairn.transfer.reading import count_executions, next_executions
from langcairn.transfer.reports import Counts, Finding, Meter
from langcairn.transfer.running import Ask, At, Steps, Work, arun, run
from langcairn.transfer.savers import config_of, places_of, size_of, threads_in
from langcairn.transfer.verifying import examine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.transfer.encoding import Items
    from langcairn.transfer.reports import OnProgress

Side = CheckpointStore | BaseCheckpointSaver[Any]
OnMoved = Callable[[str], None]


@dataclass
class MigrationReport(Counts):
    """What was moved.

    Attributes:
        skipped: How many checkpoints the target had already, equal.
        compared: How many were read back from the target and compared.
        bytes_before: What the source stores, its database's overhead aside; None if it can't be
            known. [bytes]
        bytes_after: What the target stores of that, likewise. [bytes]
    """

    skipped: int = 0
    compared: int = 0
    bytes_before: int | None = None
    bytes_after: int | None = None


def migrate(
    source: Side | LangGraphGo | str,
    target: Side | str,
    *,
    executions: Sequence[str] | None = None,
    on_moved: OnMoved | None = None,
    progress: OnProgress = None,
) -> MigrationReport:
    """Copy checkpoints and pending writes from one store or saver to another.

    Each checkpoint is read back from the target and compared, types included. What differs, or
    can't be stored, is reported, and the rest moved. The source is not changed. What the target has
    already and is equal is skipped, so that an interrupted migration can be repeated; what else the
    target has stays.

    Between two stores with langcairn's own serializer, rows and chunks are copied as they are.
    LangGraph's savers don't tell the paths of tasks: pending writes keep their order without.

    Args:
        source: A store or its URL, any LangGraph saver, or `LangGraphGo` for its tables.
        target: A store or its URL, or any LangGraph saver.
        executions: Only these (threads, to LangGraph).
        on_moved: Called with the id of each execution that was moved without a finding; see
            `DualWriteSaver`.
        progress: Called after each execution.

    Raises:
        InvalidInput: An argument can't be used as it is, or the saver serves only coroutines.
        StoreError: A store can't be used. What was moved until then is whole.
    """
    return run(migration_steps(source, target, executions, on_moved, progress))


async def amigrate(
    source: Side | LangGraphGo | str,
    target: Side | str,
    *,
    executions: Sequence[str] | None = None,
    on_moved: OnMoved | None = None,
    progress: OnProgress = None,
) -> MigrationReport:
    """Do as `migrate`; also for savers that serve only coroutines."""
    return await arun(migration_steps(source, target, executions, on_moved, progress))


def migration_steps(
    source: Side | LangGraphGo | str,
    target: Side | str,
    executions: Sequence[str] | None,
    on_moved: OnMoved | None,
    progress: OnProgress,
) -> Steps[MigrationReport]:
    """Take the steps of `migrate`."""
    chosen = chosen_executions(executions)
    opened: list[CheckpointStore] = []
    try:
        origin = source if isinstance(source, LangGraphGo) else _side(source, opened)
        job = _Job(origin, _side(target, opened), chosen, on_moved)
        if job.source is job.target:
            raise InvalidInput("source and target are the same store")
        if isinstance(job.source, BaseCheckpointSaver):
            job.source = watched(job.source)
        yield from job.do(progress)
        return job.report
    finally:
        for store in opened:
            store.close()


def _side(side: Any, opened: list[CheckpointStore]) -> Side:
    if isinstance(side, str):
        store = open_store(side)
        opened.append(store)
        return store
    if isinstance(side, CheckpointSaver):
        return side.store
    if isinstance(side, CheckpointStore | BaseCheckpointSaver):
        return side
    raise InvalidInput(
        f"expected a store, a saver or a store's URL to migrate, not {type(side).__name__}"
    )


class _Part(NamedTuple):
    """One execution as it is to be moved."""

    execution_id: str
    namespaces: Sequence[str]


class _Job:
    """One migration while it is under way."""

    def __init__(
        self,
        source: Side | LangGraphGo,
        target: Side,
        chosen: list[str] | None,
        on_moved: OnMoved | None,
    ) -> None:
        self.source = source
        self.target = target
        self.chosen = chosen
        self.on_moved = on_moved
        self.report = MigrationReport()

    def do(self, progress: OnProgress) -> Steps[None]:
        """Move everything."""
        source, report = self.source, self.report
        if isinstance(self.target, CheckpointStore):
            yield from learn_dictionaries(self.target)
        if isinstance(source, CheckpointStore):
            report.bytes_before = 0
            yield from self._from_store(source, progress)
        elif isinstance(source, LangGraphGo):
            ids = self.chosen
            if ids is None:
                ids = yield Work(source.executions)
            yield from self._all([_Part(id, ()) for id in ids], progress)
        else:
            report.bytes_before = yield from size_of(source)
            places = yield from places_of(source, self.chosen)
            spaces: dict[str, list[str]] = {thread: [] for thread in threads_in(places)}
            for thread, namespace in places:
                spaces[thread].append(namespace)
            yield from self._all([_Part(id, spaces[id]) for id in spaces], progress)
        if not isinstance(self.target, CheckpointStore):
            report.bytes_after = yield from size_of(self.target)

    def _all(self, parts: list[_Part], progress: OnProgress) -> Steps[None]:
        meter = Meter(self.report, progress, len(parts))
        for part in parts:
            yield from self._one(part)
            meter.tick(part.execution_id)

    def _from_store(self, source: CheckpointStore, progress: OnProgress) -> Steps[None]:
        if self.chosen is not None:
            yield from self._all([_Part(id, ()) for id in self.chosen], progress)
            return
        meter = Meter(self.report, progress, (yield from count_executions(source)))
        after = ""
        while ids := (yield from next_executions(source, after)):
            for execution_id in ids:
                yield from self._one(_Part(execution_id, ()))
                meter.tick(execution_id)
            after = ids[-1]

    def _one(self, part: _Part) -> Steps[None]:
        """Move one execution; what is wrong with it is a finding."""
        report = self.report
        before = len(report.findings)
        try:
            size = yield from self._move(part)
            self._note_lost_types(part.execution_id)
            yield from self._count(part.execution_id, size)
        except (StoreError, StoreClosed):
            raise
        except CairnError as error:
            report.findings.append(
                Finding(part.execution_id, None, None, str(error), "some of it", repairable=False)
            )
        report.executions += 1
        if len(report.findings) == before and self.on_moved is not None:
            self.on_moved(part.execution_id)

    def _note_lost_types(self, execution_id: str) -> None:
        """Report what the source gave as plain data because it couldn't rebuild it."""
        serde = getattr(self.source, "serde", None)
        if isinstance(serde, WatchingSerializer) and serde.lost:
            what = (
                f"values of {', '.join(sorted(serde.lost))} couldn't be rebuilt here and were "
                "moved as plain data: delete the thread in the target, and migrate it again where "
                "these can be imported and are allowed"
            )
            self.report.findings.append(
                Finding(execution_id, None, None, what, "their types", repairable=False)
            )
            serde.lost.clear()

    def _move(self, part: _Part) -> Steps[int | None]:
        """Move one execution. Returns the bytes that were read; None if they weren't counted."""
        source, target, execution_id = self.source, self.target, part.execution_id
        if (
            isinstance(source, CheckpointStore)
            and isinstance(target, CheckpointStore)
            and source.codec.inline
            and target.codec.inline
        ):
            return (yield from copy_execution(source, target, execution_id, self.report))
        items = yield from self._items(part)
        for one in items:
            if isinstance(target, CheckpointStore):
                yield from into_store(one, target, execution_id, self.report)
            else:
                yield from into_saver(one, target, self.report)
        yield from self._forget_if_deleted(part)
        return None

    def _items(self, part: _Part) -> Steps[list[Items]]:
        """Return what gives the checkpoints of an execution, a page at a time."""
        source, execution_id = self.source, part.execution_id
        if isinstance(source, CheckpointStore):
            surveyed: Surveyed = yield At(source, Survey(execution_id))
            spaces = sorted({namespace for namespace, _ in surveyed.checkpoints})
            return [FromStore(source, execution_id, namespace) for namespace in spaces]
        if isinstance(source, LangGraphGo):
            return [FromRecords(partial(source.records, execution_id))]
        return [FromSaver(source, (execution_id, namespace)) for namespace in part.namespaces]

    def _forget_if_deleted(self, part: _Part) -> Steps[None]:
        """Delete what was copied of a thread that was deleted meanwhile."""
        source, execution_id = self.source, part.execution_id
        if not part.namespaces or not isinstance(source, BaseCheckpointSaver):
            return
        left = yield Ask(source, "list", (config_of(execution_id),), {"limit": 1})
        if not left:
            saver = self.target
            if isinstance(saver, CheckpointStore):
                saver = CheckpointSaver(saver)
            yield Ask(saver, "delete_thread", (execution_id,))

    def _count(self, execution_id: str, size: int | None) -> Steps[None]:
        """Count the bytes of an execution, for which all that the target has is read once more."""
        report = self.report
        if isinstance(self.source, CheckpointStore):
            if size is None:
                size = (yield from examine(self.source, execution_id)).bytes
            report.bytes_before = (report.bytes_before or 0) + size
        if isinstance(self.target, CheckpointStore):
            examined = yield from examine(self.target, execution_id)
            report.findings += examined.findings
            report.bytes_after = (report.bytes_after or 0) + examined.bytes
