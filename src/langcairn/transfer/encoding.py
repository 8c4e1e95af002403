"""Checkpoints on their way between two forms: decoded from one side, encoded for the other."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from langcairn import operations
from langcairn.backends.base import CheckpointRow, FindCheckpoints, Survey, Surveyed
from langcairn.errors import CorruptData, InvalidInput
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.langgraph.translation import draft_of, pushed_by, tuple_of
from langcairn.records import Draft, Loaded, utc, valid_execution_id, valid_name
from langcairn.transfer.redis_saver import RedisPages, is_redis
from langcairn.transfer.reports import Finding
from langcairn.transfer.running import Ask, At, Steps, Work, on
from langcairn.transfer.savers import (
    Pages,
    Place,
    config_of,
    facts_of,
    get_id,
    id_of,
    put_whole,
    same,
    writes_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

    from langcairn.checkpoint import Checkpoint
    from langcairn.store import CheckpointStore
    from langcairn.transfer.moving import MigrationReport


_ATTEMPTS = 5  # as each is thwarted only by a pending write that came just then


class Item(NamedTuple):
    """One checkpoint."""

    tuple: CheckpointTuple
    """As LangGraph sees it."""
    draft: Draft
    """As a store of ours saves it."""


class Items(Protocol):
    """Checkpoints of one thread and namespace."""

    def next(self) -> Steps[list[Item]]:
        """Return the next ones; an empty list at the end."""

    def again(self, item: Item) -> Steps[CheckpointTuple | None]:
        """Return one of them as it is now; None if it was removed."""


# Where checkpoints come from


class FromSaver:
    """Checkpoints of a LangGraph saver, the newest first.

    The last one of a page waits for the next page: the names of nodes that `Send` started are
    in its parent.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], place: Place) -> None:
        self._pages = RedisPages(saver, place) if is_redis(saver) else Pages(saver, place)
        self._place = (valid_execution_id(place[0]), valid_name(place[1], "checkpoint_ns"))
        self._waiting: list[CheckpointTuple] = []

    def next(self) -> Steps[list[Item]]:
        """Return the next ones; an empty list at the end."""
        while True:
            page = yield from self._pages.next()
            found = self._waiting + page
            self._waiting = found[-1:] if page else []
            if ready := found[:-1] if page else found:
                following = [*found[1:], None]
                return [self._item(*pair) for pair in zip(ready, following, strict=False)]
            if not page:
                return []

    def again(self, item: Item) -> Steps[CheckpointTuple | None]:
        """Return one of them as it is now; None if it was removed."""
        return (yield from self._pages.again(item.draft.id))

    def _item(self, one: CheckpointTuple, following: CheckpointTuple | None) -> Item:
        parent = get_id(one.parent_config) or None
        pushed: Sequence[str] = ()
        if following is not None and id_of(following) == parent:
            pushed = pushed_by(following.checkpoint["channel_values"])
        place = (*self._place, parent)
        return Item(one, draft_of(place, one.checkpoint, facts_of(one), None, pushed))


class FromStore:
    """Checkpoints of a store of ours, the newest first."""

    def __init__(self, store: CheckpointStore, execution_id: str, namespace: str) -> None:
        self._store = store
        self._query: FindCheckpoints | None = FindCheckpoints(execution_id, namespace)

    def next(self) -> Steps[list[Item]]:
        """Return the next ones; an empty list at the end."""
        if self._query is None:
            return []
        page = operations.find_page(self._store.codec, self._query, {}, None)
        loaded, self._query = yield from on(self._store, page)
        return [Item(tuple_of(one, None), _draft(one)) for one in loaded]

    def again(self, item: Item) -> Steps[CheckpointTuple | None]:
        """Return one of them as it is now; None if it was removed."""
        draft = item.draft
        query = FindCheckpoints(draft.execution_id, draft.namespace, draft.id)
        found = yield from on(self._store, operations.find(self._store.codec, query))
        return tuple_of(found[0], None) if found else None


class FromRecords:
    """Checkpoints that LangGraphGo wrote."""

    def __init__(self, read: Callable[[str], list[Checkpoint]]) -> None:
        self._read = read
        self._after = ""

    def next(self) -> Steps[list[Item]]:
        """Return the next ones; an empty list at the end."""
        page: list[Checkpoint] = yield Work(lambda: self._read(self._after))
        if page:
            self._after = page[-1].id
        return [_of_record(record) for record in page]

    def again(self, item: Item) -> Steps[CheckpointTuple | None]:
        """Return it as it was: nobody changes them any more."""
        return item.tuple
        yield  # makes it a generator


def _of_record(record: Checkpoint) -> Item:
    draft = Draft(
        valid_execution_id(record.execution_id),
        "",
        valid_name(record.id, "checkpoint id", empty=False),
        None,
        valid_name(record.node_name, "node_name"),
        record.state,
        record.metadata,
        utc(record.timestamp),
        record.version,
    )
    return Item(tuple_of(_loaded(draft), None), draft)


def _loaded(draft: Draft) -> Loaded:
    row = CheckpointRow(*draft[:5], b"", b"", draft.timestamp.astimezone(UTC), draft.version, b"{}")
    return Loaded(row, draft.state, dict(draft.metadata), {}, [], 0)


def _draft(loaded: Loaded) -> Draft:
    row = loaded.row
    return Draft(
        *row[:5],
        loaded.state,
        loaded.metadata,
        row.timestamp,
        row.version,
        loaded.graph or None,
    )


# Where they go


def into_store(
    items: Items, store: CheckpointStore, execution_id: str, report: MigrationReport
) -> Steps[None]:
    """Save checkpoints that a store doesn't have yet, and compare all of them."""
    reader = CheckpointSaver(store)
    execution_id = valid_execution_id(execution_id)
    surveyed: Surveyed = yield At(store, Survey(execution_id))
    there = set(surveyed.checkpoints)
    while page := (yield from items.next()):
        new = [item for item in page if (item.draft.namespace, item.draft.id) not in there]
        known = [item for item in page if (item.draft.namespace, item.draft.id) in there]
        for item in known:
            if (yield from _difference(item, reader)) is None:
                report.skipped += 1
                report.compared += 1
            else:
                yield from _mend(items, item, store, reader, report)
        for item in (yield from _save(store, new, report)):
            yield from _compare(item, reader, report)


def _mend(
    items: Items,
    item: Item,
    store: CheckpointStore,
    reader: CheckpointSaver,
    report: MigrationReport,
) -> Steps[None]:
    """Save a checkpoint instead of another form of it, which the store has.

    Who writes to both meanwhile may have added a pending write to that one since the source was
    read. So it is read again afterwards: what isn't in it then is written to the store later.
    """
    for _ in range(_ATTEMPTS):
        if not (yield from _save(store, [item], report, instead=True)):
            return
        found = yield from items.again(item)
        if found is None:
            return
        item = item._replace(tuple=found)
        if (yield from _difference(item, reader)) is None:
            break
    yield from _compare(item, reader, report)


def _save(
    store: CheckpointStore, items: list[Item], report: MigrationReport, *, instead: bool = False
) -> Steps[list[Item]]:
    """Save checkpoints in one commit, or each by itself if one of them can't be saved.

    Args:
        store: Where.
        items: The checkpoints.
        report: Where they are counted.
        instead: Let them have no other pending writes than theirs.

    Returns:
        Those that were saved.
    """
    if not items:
        return []
    drafts = [item.draft for item in items]
    written = [one for item in items for one in writes_of(item.tuple)]
    try:
        save = operations.save_whole(store.codec, drafts, written, instead=instead)
        yield from on(store, save)
    except InvalidInput as error:
        if len(items) == 1:
            report.findings.append(_finding(drafts[0], str(error)))
            return []
        saved = []
        for item in items:
            saved += yield from _save(store, [item], report, instead=instead)
        return saved
    report.checkpoints += len(items)
    report.writes += sum(len(one.writes) for one in written)
    return items


def into_saver(
    items: Items, saver: BaseCheckpointSaver[Any], report: MigrationReport
) -> Steps[None]:
    """Put checkpoints that a saver doesn't have yet, and compare all of them."""
    while page := (yield from items.next()):
        for item in page:
            if (yield from _difference(item, saver)) is None:
                report.skipped += 1
                report.compared += 1
                continue
            yield from put_whole(saver, item.tuple)
            report.checkpoints += 1
            report.writes += len(item.tuple.pending_writes or ())
            yield from _compare(item, saver, report)


def _difference(item: Item, saver: BaseCheckpointSaver[Any]) -> Steps[str | None]:
    draft = item.draft
    config = config_of(draft.execution_id, draft.namespace, draft.id)
    try:
        other: CheckpointTuple | None = yield Ask(saver, "get_tuple", (config,))
    except CorruptData as error:
        return str(error)
    return same(item.tuple, other)


def _compare(item: Item, saver: BaseCheckpointSaver[Any], report: MigrationReport) -> Steps[None]:
    report.compared += 1
    difference = yield from _difference(item, saver)
    if difference is not None:
        what = f"the target gives back another checkpoint: {difference}"
        report.findings.append(_finding(item.draft, what))


def _finding(draft: Draft, what: str) -> Finding:
    lost = "this checkpoint, in the target"
    return Finding(draft.execution_id, draft.namespace, draft.id, what, lost, repairable=False)
