"""Leases as PostgreSQL keeps them: in the execution's row, by the server's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.types.numeric import Int8

from langcairn.backends.base import next_epoch
from langcairn.backends.conditions import MICROSECONDS, Lease, acquired, lost
from langcairn.backends.postgres.values import BIGINT, TEXT, Statement, array
from langcairn.errors import CairnError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import AcquireLease, ReleaseLease, RenewLease
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Plan

T = TypeVar("T")

# Whatever the server's default is: here a statement must see what was committed before it began.
_BEGIN, _COMMIT = Statement("BEGIN ISOLATION LEVEL READ COMMITTED"), Statement("COMMIT")
_ROLLBACK = Statement("ROLLBACK")

LEASE = """lease_token, lease_owner, lease_ttl,
    coalesce(extract(epoch FROM lease_until - clock_timestamp()) * 1000000, 0)::bigint"""
"""The columns that `lease_of` takes, as of the moment in which the row is locked."""

_LOCK = f"""
SELECT execution_id, epoch, {LEASE} FROM {{executions}} WHERE execution_id = ANY ($1::text[])
ORDER BY execution_id FOR NO KEY UPDATE"""  # noqa: S608 -- a constant

_ADD = """
INSERT INTO {executions} (execution_id, epoch)
SELECT * FROM unnest($1::text[], $2::bigint[]) AS asked (execution_id, epoch)
ORDER BY execution_id COLLATE "C" ON CONFLICT DO NOTHING"""

_UNTIL = "clock_timestamp() + $3 * interval '1 microsecond'"

_ACQUIRE = f"""
UPDATE {{executions}} SET lease_token = $2, lease_ttl = $3, lease_until = {_UNTIL}, lease_owner = $4
WHERE execution_id = $1"""  # noqa: S608 -- a constant

_RENEW = f"""
UPDATE {{executions}} SET lease_ttl = $3, lease_until = {_UNTIL}
WHERE execution_id = $1 AND lease_token = $2 AND lease_owner IS NOT NULL RETURNING 1"""  # noqa: S608 -- a constant

_RELEASE = """
UPDATE {executions} SET lease_owner = NULL
WHERE execution_id = $1 AND lease_token = $2 AND lease_owner IS NOT NULL RETURNING 1"""

_END = "UPDATE {executions} SET lease_owner = NULL WHERE execution_id = $1"


def lease_of(columns: Sequence[Any]) -> Lease:
    """Return the lease that the columns `LEASE` hold."""
    token, owner, ttl, left = columns
    return Lease(token, owner, left, ttl)


def end_lease(tables: Tables, execution_id: str) -> Statement:
    """Return the statement that ends a lease, in a transaction that has locked the row."""
    return Statement(tables.sql(_END), [execution_id])


def in_transaction(plan: Plan[T]) -> Plan[T]:
    """Run a plan in a transaction, which is given up if it fails."""
    yield _BEGIN
    try:
        answer = yield from plan
    except StoreUnavailable:
        raise  # the connection may be gone; if not, it isn't used again
    except CairnError:
        yield _ROLLBACK
        raise
    yield _COMMIT
    return answer


def lock(tables: Tables, execution_ids: Sequence[str]) -> Plan[dict[str, tuple[int, Lease]]]:
    """Lock executions in the order of their ids, and add those that aren't there.

    Returns:
        Epoch and lease of each.
    """
    while True:
        rows = yield Statement(tables.sql(_LOCK), [array(TEXT, execution_ids)])
        found = {id: (epoch, lease_of(columns)) for id, epoch, *columns in rows}
        new = [id for id in execution_ids if id not in found]
        if not new:
            return found
        epochs = array(BIGINT, [next_epoch() for _ in new])
        yield Statement(tables.sql(_ADD), [array(TEXT, new), epochs])


def acquire(tables: Tables, request: AcquireLease) -> Plan[int]:
    """Give a lease to an owner."""
    return (yield from in_transaction(_acquire(tables, request)))


def _acquire(tables: Tables, request: AcquireLease) -> Plan[int]:
    id = request.execution_id
    found = yield from lock(tables, [id])
    lease = acquired(found[id][1], request)
    yield Statement(tables.sql(_ACQUIRE), [id, Int8(lease.token), Int8(lease.ttl), request.owner])
    return lease.token


def renew(tables: Tables, request: RenewLease) -> Plan[None]:
    """Let a lease last longer."""
    ttl = round(request.ttl * MICROSECONDS)
    parameters = [request.execution_id, Int8(request.token), Int8(ttl)]
    rows = yield Statement(tables.sql(_RENEW), parameters)
    if not rows:
        raise lost(request.execution_id, request.token)


def release(tables: Tables, request: ReleaseLease) -> Plan[bool]:
    """Take a lease back."""
    parameters = [request.execution_id, Int8(request.token)]
    rows = yield Statement(tables.sql(_RELEASE), parameters)
    return bool(rows)
