"""Reads that wait at the same time share a statement, as commits do.

With many runs in one process, most of their reads are of two kinds: the newest checkpoint of an
execution and namespace, and chunks of an execution. A statement that answers 20 of a kind costs
little more than one that answers a single one, and 20 wake-ups of client and server become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from langcairn.backends.base import FetchChunks, FindCheckpoints
from langcairn.backends.postgres.queries import COLUMNS, WRITES_OF, answer, found
from langcairn.backends.postgres.values import INTEGER, TEXT, Statement, array
from langcairn.errors import CairnError, StoreMisconfigured, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.backends.base import FoundCheckpoint
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Plan

Shared = FindCheckpoints | FetchChunks
Answer = object

_NEWEST = """
SELECT number, {columns}, {writes_of}
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (execution_id, namespace, number)
CROSS JOIN LATERAL (
    SELECT * FROM {checkpoints} AS c
    WHERE c.execution_id = asked.execution_id AND c.namespace = asked.namespace
    ORDER BY c.id DESC LIMIT 1) AS c
LEFT JOIN {executions} AS e ON e.execution_id = c.execution_id"""

_FETCH = """
SELECT number, c.id, c.data
FROM unnest($1::int[], $2::text[], $3::text[]) AS asked (number, execution_id, id)
JOIN {chunks} AS c ON c.execution_id = asked.execution_id AND c.id = asked.id"""


def can_share(request: object) -> TypeGuard[Shared]:
    """Tell whether a request is of a kind that can share a statement with others of its kind."""
    if type(request) is FetchChunks:
        return True
    return (
        type(request) is FindCheckpoints
        and request.execution_id is not None
        and request.namespace is not None
        and request == FindCheckpoints(request.execution_id, request.namespace, limit=1)
    )


def read_all(tables: Tables, requests: Sequence[Shared]) -> Plan[list[Answer | Exception]]:
    """Answer requests that `can_share`, each with an outcome of its own, in their order."""
    outcomes: list[Answer | Exception] = [None] * len(requests)
    for kind, read in _KINDS:
        places = [i for i, request in enumerate(requests) if type(request) is kind]
        if places:
            answers = yield from _read_together(tables, [requests[i] for i in places], read)
            for place, one in zip(places, answers, strict=True):
                outcomes[place] = one
    return outcomes


def _read_together(
    tables: Tables,
    requests: Sequence[Any],
    read: Callable[[Tables, Sequence[Any]], Plan[list[Any]]],
) -> Plan[list[Answer | Exception]]:
    """Answer requests with one statement, or one by one if it fails because of one of them."""
    if len(requests) > 1:
        try:
            return (yield from read(tables, requests))
        except (StoreUnavailable, StoreMisconfigured):
            raise
        except (CairnError, UnicodeEncodeError):
            pass
    outcomes: list[Answer | Exception] = []
    for request in requests:
        try:
            outcomes.append((yield from answer(tables, request)))
        except (StoreUnavailable, StoreMisconfigured):
            raise
        except CairnError as error:
            outcomes.append(error)
    return outcomes


def _newest(tables: Tables, finds: Sequence[FindCheckpoints]) -> Plan[list[list[FoundCheckpoint]]]:
    sql = tables.sql(_NEWEST, columns=COLUMNS, writes_of=tables.sql(WRITES_OF))
    executions = [find.execution_id for find in finds]
    namespaces = [find.namespace for find in finds]
    rows = yield Statement(sql, [array(TEXT, executions), array(TEXT, namespaces)])
    answers: list[list[FoundCheckpoint]] = [[] for _ in finds]
    for number, *columns in rows:
        answers[number - 1].append(found(columns))
    return answers


def _fetch(tables: Tables, fetches: Sequence[FetchChunks]) -> Plan[list[dict[str, bytes]]]:
    wanted = [
        (number, fetch.execution_id, id) for number, fetch in enumerate(fetches) for id in fetch.ids
    ]
    numbers, executions, ids = zip(*wanted, strict=True) if wanted else ((), (), ())
    parameters = [array(INTEGER, numbers), array(TEXT, executions), array(TEXT, ids)]
    rows = yield Statement(tables.sql(_FETCH), parameters)
    answers: list[dict[str, bytes]] = [{} for _ in fetches]
    for number, id, data in rows:
        answers[number][id] = data
    return answers


_KINDS: tuple[tuple[type, Callable[[Tables, Sequence[Any]], Plan[list[Any]]]], ...] = (
    (FindCheckpoints, _newest),
    (FetchChunks, _fetch),
)
