"""Which checkpoints of an execution stay: `Retention`, and keeping only the newest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from langcairn.backends.base import CheckpointRow, FindCheckpoints, FindWrites, WriteRow
from langcairn.backends.retry import seconds
from langcairn.errors import InvalidInput
from langcairn.keeping import Plan
from langcairn.maintenance import Key, metadata_of, read_rows, remove
from langcairn.records import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langcairn.operations import Codec, Operation


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that the other rules would remove, as ``Retention(keep=…)`` is asked about it.

    Attributes:
        execution_id: The execution; for LangGraph the thread id.
        namespace: LangGraph's ``checkpoint_ns``; ``""`` for the graph itself.
        id: Its id.
        parent_id: The checkpoint that it continues; None: none.
        node_name: The node that ran.
        metadata: Its metadata.
        timestamp: When it was taken; aware, in UTC.
        version: Its version.
    """

    execution_id: str
    namespace: str
    id: str
    parent_id: str | None
    node_name: str
    metadata: dict[str, Any]
    timestamp: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of executions; a checkpoint that breaks any of the rules goes.

    Without a rule everything stays. What kept checkpoints need stays with them, see
    docs/retention.md: what a `DeltaChannel` is rebuilt from, what waits in an interrupt, the
    subgraphs of a kept step.

    Attributes:
        max_checkpoints: How many checkpoints of each namespace stay, the newest.
        max_age: How old a checkpoint may be, by its timestamp, as a timedelta or in seconds.
        max_bytes: How much an execution may take, as `CheckpointStore.execution_stats` says it
            [bytes]. Its oldest checkpoints go until it is below that; the newest of each namespace
            stays in any case.
        keep_latest: Whether the newest checkpoint of each namespace stays, however old. False: an
            execution whose newest checkpoint is older than ``max_age`` goes whole, also if it waits
            in an interrupt.
        keep: Is asked about each checkpoint that may go; what it returns True for, stays. If it
            raises, nothing of that execution goes, and the report has the error.
        threads: For which executions this is: a pattern as of `fnmatch`, with upper and lower case
            told apart. Of several rules, the first that is for an execution counts.
        idle: If given, this is only for executions that have had no new checkpoint for so long, as
            a timedelta or in seconds.

    Raises:
        InvalidInput: A rule can't be used as it is.
    """

    max_checkpoints: int | None = None
    max_age: timedelta | float | None = None
    max_bytes: int | None = None
    keep_latest: bool = True
    keep: Callable[[Candidate], bool] | None = None
    threads: str = "*"
    idle: timedelta | float | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_checkpoints", 1), ("max_bytes", 0)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise InvalidInput(f"{name}={value!r}: a number of {least} or more")
        if self.max_age is not None:
            seconds(self.max_age, "max_age")
        elif not self.keep_latest:
            raise InvalidInput("keep_latest=False says what max_age does: give one")
        if self.idle is not None:
            seconds(self.idle, "idle")
        if self.keep is not None and not callable(self.keep):
            raise InvalidInput(f"keep must be callable, not {type(self.keep).__name__}")
        if not isinstance(self.threads, str) or not self.threads:
            raise InvalidInput(f"threads={self.threads!r}: a pattern such as 'team-*'")

    def oldest(self, now: datetime) -> datetime | None:
        """Return the time from which on checkpoints are young enough; None: all are."""
        return None if self.max_age is None else _ago(now, self.max_age)

    def fits(self, execution_id: str, newest: datetime | None, now: datetime) -> bool:
        """Return whether this is for an execution, whose newest checkpoint was taken at a time."""
        if not fnmatchcase(execution_id, self.threads):
            return False
        return self.idle is None or (newest is not None and newest < _ago(now, self.idle))


def _ago(now: datetime, span: timedelta | float) -> datetime:
    try:
        return now - timedelta(seconds=seconds(span, "span"))
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def retentions(given: Retention | Iterable[Retention] | None) -> tuple[Retention, ...]:
    """Return rules as a tuple.

    Raises:
        InvalidInput: One of them is no `Retention`.
    """
    if given is None:
        return ()
    try:
        rules = (given,) if isinstance(given, Retention) else tuple(given)
    except TypeError as error:
        raise InvalidInput(f"expected a Retention or a list of them, not {given!r:.80}") from error
    for rule in rules:
        if not isinstance(rule, Retention):
            raise InvalidInput(f"expected a Retention, not {type(rule).__name__}: {rule!r:.80}")
    return rules


def rule_for(
    rules: Iterable[Retention], execution_id: str, rows: Sequence[CheckpointRow], now: datetime
) -> Retention | None:
    """Return the first rule that is for an execution with these checkpoints."""
    newest = max((row.timestamp for row in rows), default=None)
    return next((one for one in rules if one.fits(execution_id, newest, now)), None)


class Going(NamedTuple):
    """What goes of an execution."""

    first: list[Key]
    """What goes in any case, the newest first, so that at any moment what is left is whole."""
    last: list[Key]
    """What goes, after that, only if nothing newer has come: the rest of an execution."""


def going(
    codec: Codec,
    plan: Plan,
    rule: Retention,
    now: datetime,
    size_of: Callable[[set[Key]], float] | None = None,
) -> Going:
    """Return what a rule removes.

    Args:
        codec: How to read metadata.
        plan: The execution.
        rule: The rule.
        now: The time by which checkpoints are old.
        size_of: What the execution would take with only these checkpoints [bytes]; not smaller for
            more of them. None: ``max_bytes`` is no matter here.

    Raises:
        CorruptData: The metadata of a row is damaged.
    """
    oldest = rule.oldest(now)
    most = len(plan.by_key) if rule.max_checkpoints is None else rule.max_checkpoints

    def newest(number: int, _: CheckpointRow) -> bool:
        return number == 0

    def wanted(number: int, row: CheckpointRow) -> bool:
        young = oldest is None or row.timestamp >= oldest
        return number == 0 or (number < most and young)

    kept = plan.kept(wanted)
    protected: set[Key] = set()
    is_over = not rule.keep_latest and all(_is_older(row, oldest) for row in plan.by_key.values())
    if rule.keep is not None:
        asked = [key for key in plan.by_key if is_over or size_of or key not in kept]
        protected = {key for key in asked if _keeps(rule.keep, codec, plan.by_key[key])}
        if protected:
            kept = plan.kept(wanted, protected)
    if is_over and not protected:
        last = plan.kept(newest)
        return Going([key for key in plan.by_key if key not in last], sorted(last))
    if size_of is not None and rule.max_bytes is not None and size_of(kept) > rule.max_bytes:
        kept = _within(plan, kept, protected, rule.max_bytes, size_of)
    return Going([key for key in plan.by_key if key not in kept], [])


def _is_older(row: CheckpointRow, oldest: datetime | None) -> bool:
    return oldest is not None and row.timestamp < oldest


def _within(
    plan: Plan,
    kept: set[Key],
    protected: set[Key],
    most: int,
    size_of: Callable[[set[Key]], float],
) -> set[Key]:
    """Return as many of the newest checkpoints as take no more than ``most``."""
    # The newest first, over all namespaces.
    order = [key for key in plan.by_key if key in kept]

    def first(count: int) -> set[Key]:
        chosen = set(order[:count])
        return plan.kept(
            lambda number, row: number == 0 or (row.namespace, row.id) in chosen, protected
        )

    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if size_of(first(middle)) <= most:
            low = middle
        else:
            high = middle - 1
    return first(low)


def _keeps(keep: Callable[[Candidate], bool], codec: Codec, row: CheckpointRow) -> bool:
    candidate = Candidate(
        row.execution_id,
        row.namespace,
        row.id,
        row.parent_id,
        row.node_name,
        metadata_of(codec, row),
        row.timestamp,
        row.version,
    )
    try:
        return bool(keep(candidate))
    except Exception as error:
        raise InvalidInput(f"keep= failed for {place(row)}: {error!r}") from error


# Keeping the newest, after puts


def slack(keep: int) -> int:
    """Return how many checkpoints may be there beyond those to keep before a clean-up is due.

    A clean-up looks at all rows of an execution, so it is made once for many puts.
    """
    return max(keep // 2, 10)


def count(execution_id: str, limit: int) -> Operation[int]:
    """Return how many checkpoints an execution has, at most ``limit``."""
    found: Sequence[object] = yield FindCheckpoints(execution_id, limit=limit, with_writes=False)
    return len(found)


def keep_newest(codec: Codec, execution_id: str, keep: int) -> Operation[int]:
    """Remove all but the newest checkpoints of each namespace, and what these need (see `Plan`).

    Args:
        codec: How to read metadata, and whose caches to keep right.
        execution_id: The execution.
        keep: How many of each namespace to keep, at least 1.

    Returns:
        How many checkpoints were removed.

    Raises:
        CorruptData: A row is damaged; nothing was removed.
    """
    surplus, orphans = yield from surplus_of(codec, execution_id, keep)
    if surplus or orphans:
        yield from remove(codec, execution_id, [*surplus, *orphans])
    return len(surplus)


def surplus_of(
    codec: Codec, execution_id: str, keep: int
) -> Operation[tuple[list[Key], list[Key]]]:
    """Return what `keep_newest` would remove.

    Returns:
        The keys of checkpoints, and of those that don't exist but have pending writes.

    Raises:
        CorruptData: A row is damaged.
    """
    rows = yield from read_rows(FindCheckpoints(execution_id, with_writes=False))
    writes: list[WriteRow] = yield FindWrites(execution_id)
    plan = Plan(codec, rows, writes)
    kept = plan.kept(lambda number, _: number < keep)
    surplus = [key for key in plan.by_key if key not in kept]
    return surplus, plan.orphans
