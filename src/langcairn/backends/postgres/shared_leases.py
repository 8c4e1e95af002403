"""Leases that are asked for and given back at the same time share a statement, as commits do.

A service takes a lease for each of its runs. Nearly always nobody has the lease on the execution,
which one statement can find out and answer by itself. Where somebody has one, or had one that has
expired, a transaction decides by the rules that all backends share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from langcairn.backends.base import AcquireLease, ReleaseLease, next_epoch
from langcairn.backends.conditions import MICROSECONDS
from langcairn.backends.postgres.leases import acquire, release
from langcairn.backends.postgres.values import BIGINT, TEXT, Statement, array
from langcairn.errors import CairnError, StoreMisconfigured, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Plan

Shared = AcquireLease | ReleaseLease

# ON CONFLICT sees the newest row and waits for it; the rows are taken in the order of their ids,
# like everywhere, so that two statements never wait for each other.
_ACQUIRE = """
INSERT INTO {executions} AS e
    (execution_id, epoch, lease_token, lease_ttl, lease_until, lease_owner)
SELECT execution_id, fresh, fresh, ttl, clock_timestamp() + ttl * interval '1 microsecond', owner
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[])
    AS asked (execution_id, fresh, ttl, owner)
ORDER BY execution_id COLLATE "C"
ON CONFLICT (execution_id) DO UPDATE SET
    lease_token = greatest(e.lease_token + 1, excluded.lease_token),
    lease_ttl = excluded.lease_ttl, lease_owner = excluded.lease_owner,
    lease_until = clock_timestamp() + excluded.lease_ttl * interval '1 microsecond'
WHERE e.lease_owner IS NULL
RETURNING execution_id, lease_token"""

_RELEASE = """
WITH locked AS MATERIALIZED (
    SELECT execution_id, lease_token, lease_owner FROM {executions}
    WHERE execution_id = ANY ($1::text[]) ORDER BY execution_id FOR NO KEY UPDATE
)
UPDATE {executions} AS e SET lease_owner = NULL
FROM locked JOIN unnest($1::text[], $2::bigint[]) AS asked (execution_id, token)
    ON asked.execution_id = locked.execution_id AND asked.token = locked.lease_token
WHERE e.execution_id = locked.execution_id AND locked.lease_owner IS NOT NULL
RETURNING e.execution_id, true"""


def can_share(request: object) -> TypeGuard[Shared]:
    """Tell whether a request is of a kind that can share a statement with others of its kind."""
    return type(request) is AcquireLease or type(request) is ReleaseLease


def lease_all(tables: Tables, requests: Sequence[Shared]) -> Plan[list[object]]:
    """Answer requests that `can_share`, each with an outcome of its own, in their order."""
    outcomes: dict[int, object] = {}
    for kind, together in _KINDS:
        # Of several for one execution the statement would answer any.
        first = {one.execution_id: i for i, one in reversed([*enumerate(requests)])
                 if type(one) is kind}  # fmt: skip
        if first:
            try:
                answers = yield from together(tables, [requests[i] for i in first.values()])
            except (StoreUnavailable, StoreMisconfigured):
                raise
            except CairnError:
                continue  # because of one of them: the others are answered below
            outcomes.update({first[id]: answer for id, answer in answers.items()})
    for i, one in enumerate(requests):
        if i not in outcomes:
            outcomes[i] = yield from _alone(tables, one)
    return [outcomes[i] for i in range(len(requests))]


def _alone(tables: Tables, request: Shared) -> Plan[object]:
    try:
        if isinstance(request, AcquireLease):
            return (yield from acquire(tables, request))
        return (yield from release(tables, request))
    except (StoreUnavailable, StoreMisconfigured):
        raise
    except CairnError as error:
        return error


def _acquire(tables: Tables, requests: Sequence[AcquireLease]) -> Plan[dict[str, object]]:
    """Give the leases that nobody has. Returns the tokens by execution."""
    parameters = [
        array(TEXT, [one.execution_id for one in requests]),
        array(BIGINT, [next_epoch() for _ in requests]),
        array(BIGINT, [round(one.ttl * MICROSECONDS) for one in requests]),
        array(TEXT, [one.owner for one in requests]),
    ]
    return dict((yield Statement(tables.sql(_ACQUIRE), parameters)))


def _release(tables: Tables, requests: Sequence[ReleaseLease]) -> Plan[dict[str, object]]:
    """Take back the leases that are valid. Returns True by execution."""
    ids = array(TEXT, [one.execution_id for one in requests])
    tokens = array(BIGINT, [one.token for one in requests])
    return dict((yield Statement(tables.sql(_RELEASE), [ids, tokens])))


# Given back first: so who waits for a lease in the same moment gets it.
_KINDS: tuple[tuple[type, Callable[[Tables, Any], Plan[dict[str, object]]]], ...] = (
    (ReleaseLease, _release),
    (AcquireLease, _acquire),
)
