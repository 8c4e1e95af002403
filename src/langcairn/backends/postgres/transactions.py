"""Commits with conditions, and of several executions, in an explicit transaction.

A statement sees what was committed before it began. So the rows of the executions are locked first,
in a statement of their own: what is read after that stays as it is until the transaction ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from psycopg.types.numeric import Int8

from langcairn.backends.base import next_epoch
from langcairn.backends.conditions import check_commit, check_fence
from langcairn.backends.postgres.drafts import CHECKPOINT_TYPES, Draft
from langcairn.backends.postgres.leases import end_lease, in_transaction, lock
from langcairn.backends.postgres.values import TEXT, Statement, array, scalar
from langcairn.errors import StaleEpoch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langcairn.backends.base import CheckpointRow, Commit
    from langcairn.backends.conditions import Lease
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Plan

_FOUND = """
SELECT 1, number, version::text
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (namespace, id, number)
JOIN {checkpoints} AS c ON c.execution_id = $4 AND c.namespace = asked.namespace AND c.id = asked.id
UNION ALL
SELECT 2, number, (
    SELECT max(c.id) FROM {checkpoints} AS c
    WHERE c.execution_id = $4 AND c.namespace = asked.namespace)
FROM unnest($3::text[]) WITH ORDINALITY AS asked (namespace, number)"""

# But for LangGraph's own part, which has no equality.
_HOLDS = """
SELECT EXISTS (SELECT FROM {checkpoints}
    WHERE execution_id = $1 AND namespace = $2::text AND id = $3::text
        AND parent_id IS NOT DISTINCT FROM $4::text AND node_name = $5::text
        AND state = $6::jsonb AND metadata = $7::jsonb AND timestamp = $8::timestamptz
        AND version = $9::integer)"""

_RAISE_EPOCH = """
UPDATE {executions} SET epoch = greatest(epoch + 1, $2) WHERE execution_id = $1 RETURNING epoch"""

_REMOVE = """
WITH gone AS (SELECT * FROM unnest($2::text[], $3::text[]) AS gone (namespace, id)),
removed AS (
    DELETE FROM {checkpoints} AS c USING gone
    WHERE c.execution_id = $1 AND c.namespace = gone.namespace AND c.id = gone.id
)
DELETE FROM {writes} AS w USING gone
WHERE w.execution_id = $1 AND w.namespace = gone.namespace AND w.checkpoint_id = gone.id"""


def commit_in_transaction(
    tables: Tables, commits: Sequence[Commit], divided: Callable[[Commit], Iterable[Commit]]
) -> Plan[list[int]]:
    """Make commits to different executions, all of them or none.

    Args:
        tables: Where.
        commits: The commits.
        divided: Divides a commit into those that a statement can make.

    Returns:
        The epochs of the executions.
    """
    return (yield from in_transaction(_commit_all(tables, commits, divided)))


def _commit_all(
    tables: Tables, commits: Sequence[Commit], divided: Callable[[Commit], Iterable[Commit]]
) -> Plan[list[int]]:
    locked = yield from lock(tables, [commit.execution_id for commit in commits])
    epochs = []
    for commit in commits:
        epoch, lease = locked[commit.execution_id]
        yield from _check(tables, commit, epoch, lease)
        if commit.removals:
            epoch = yield from remove(tables, commit.execution_id, commit.removals)
        bare = commit._replace(removals=(), expected=(), newest=())
        for part in divided(bare):
            draft = Draft([part._replace(epoch=epoch)])
            outcomes = draft.outcomes((yield draft.statement(tables)))
            outcome = outcomes[commit.execution_id]
            if isinstance(outcome, Exception):
                raise outcome  # a witness is missing; all else was compared after the lock
            epoch = outcome
        epochs.append(epoch)
    return epochs


def _check(tables: Tables, commit: Commit, epoch: int, lease: Lease) -> Plan[None]:
    """Refuse a commit whose conditions aren't met."""
    id = commit.execution_id
    if check_fence(id, lease, commit.fence):
        yield end_lease(tables, id)
    if commit.epoch is not None and commit.epoch != epoch:
        raise StaleEpoch(f"execution {id!r} has left epoch {commit.epoch}")
    if commit.expected or commit.newest:
        check_commit(commit, (yield from _Found.read(tables, commit)))


def remove(tables: Tables, execution_id: str, keys: Sequence[tuple[str, str]]) -> Plan[int]:
    """Remove checkpoints of an execution whose row is locked, and raise its epoch.

    Returns:
        The new epoch.
    """
    ((epoch,),) = yield Statement(tables.sql(_RAISE_EPOCH), [execution_id, Int8(next_epoch())])
    namespaces, ids = zip(*keys, strict=True) if keys else ((), ())
    parameters = [execution_id, array(TEXT, namespaces), array(TEXT, ids)]
    yield Statement(tables.sql(_REMOVE), parameters)
    return cast("int", epoch)


class _Found:
    """What is stored of an execution before a commit."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], int] = {}
        self._newest: dict[str, str | None] = {}
        self._held: set[CheckpointRow] = set()

    @classmethod
    def read(cls, tables: Tables, commit: Commit) -> Plan[_Found]:
        """Read what the conditions of a commit are about."""
        found = cls()
        keys = [(namespace, id) for namespace, id, _ in commit.expected]
        namespaces = [newest.namespace for newest in commit.newest]
        columns = [*(zip(*keys, strict=True) if keys else ((), ())), namespaces]
        parameters = [*(array(TEXT, column) for column in columns), commit.execution_id]
        for kind, number, value in (yield Statement(tables.sql(_FOUND), parameters)):
            if kind == 1:
                found._versions[keys[number - 1]] = int(value)
            else:
                found._newest[namespaces[number - 1]] = value
        if commit.again:
            for row in commit.checkpoints:
                values = map(scalar, CHECKPOINT_TYPES[1:9], row[1:9])
                ((held,),) = yield Statement(tables.sql(_HOLDS), [row.execution_id, *values])
                if held:
                    found._held.add(row)
        return found

    def version(self, namespace: str, id: str) -> int | None:
        return self._versions.get((namespace, id))

    def newest(self, namespace: str) -> str | None:
        return self._newest[namespace]

    def holds(self, row: CheckpointRow) -> bool:
        return row in self._held
