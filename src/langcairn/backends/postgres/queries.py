"""All requests but commits, as PostgreSQL answers them.

What reads is one statement, and so sees one snapshot. What removes locks the execution's row first,
in a statement of its own, because only a statement that begins after the lock sees everything that
the commit before it stored.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any

import orjson
from psycopg.types.numeric import Int8

from langcairn.backends.base import (
    AcquireLease,
    CheckpointRow,
    ChunkId,
    Clear,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    ReleaseLease,
    Remove,
    RenewLease,
    Rewrite,
    Survey,
    Surveyed,
    Sweep,
    WriteRow,
    writes_order,
)
from langcairn.backends.conditions import Lease, check_fence
from langcairn.backends.measures import Measure, MeasureExecutions, Ping
from langcairn.backends.postgres import measuring
from langcairn.backends.postgres.leases import (
    LEASE,
    acquire,
    end_lease,
    in_transaction,
    lease_of,
    release,
    renew,
)
from langcairn.backends.postgres.transactions import remove
from langcairn.backends.postgres.values import BYTEA, INTEGER, JSONB, TEXT, Statement, array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Plan, Rows

COLUMNS = """c.execution_id, c.namespace, c.id, c.parent_id, c.node_name, c.state::text,
    c.metadata::text, c.timestamp, c.version, c.graph::text, coalesce(e.epoch, 0)"""
"""What `found` takes, before the writes."""

WRITES_OF = """(
    SELECT json_agg(json_build_array(task_id, idx, task_path, channel, value::text))::text
    FROM {writes} AS w WHERE w.execution_id = c.execution_id AND w.namespace = c.namespace
        AND w.checkpoint_id = c.id)"""

# Rows are turned into text after LIMIT has chosen them.
_FIND = """
SELECT {columns}, {writes_of}
FROM (SELECT * FROM {checkpoints} AS c {where}
    ORDER BY c.id DESC, c.execution_id DESC, c.namespace DESC LIMIT {limit}) AS c
LEFT JOIN {executions} AS e ON e.execution_id = c.execution_id
ORDER BY c.id DESC, c.execution_id DESC, c.namespace DESC"""

_FIND_WRITES = """
SELECT execution_id, namespace, checkpoint_id, task_id, idx, task_path, channel, value::text
FROM {writes} WHERE execution_id = $1"""

_FETCH = "SELECT id, data FROM {chunks} WHERE execution_id = $1 AND id = ANY ($2::text[])"

_EXECUTIONS = """
SELECT execution_id FROM {executions} WHERE execution_id > $1 {before}
ORDER BY execution_id LIMIT $2::bigint"""

_OLD_CHUNKS = "SELECT id FROM {chunks} WHERE execution_id = $1 AND epoch < $2"

_KEYS = "SELECT namespace, id FROM {checkpoints} WHERE execution_id = $1"

# What belongs to no execution, and so would never be read. A checkpoint without the columns of ours
# was inserted with SQL, which is fine.
_STRAYS = """
SELECT DISTINCT 'a ' || kind || ' is of the unknown execution ' || quote_literal(execution_id)
FROM (
    SELECT 'checkpoint' AS kind, execution_id FROM {checkpoints} WHERE graph::text <> '{{}}'
    UNION ALL SELECT 'chunk', execution_id FROM {chunks}
    UNION ALL SELECT 'pending write', execution_id FROM {writes}) AS part
WHERE NOT EXISTS (SELECT FROM {executions} AS e WHERE e.execution_id = part.execution_id)"""

_LOCK = f"""
SELECT {LEASE} FROM {{executions}} WHERE execution_id = $1 FOR NO KEY UPDATE"""  # noqa: S608 -- a constant

# The epoch is compared again with the row as it is when it is locked, and so is that of each chunk
# when it is deleted: here one statement is enough.
_SWEEP = """
WITH locked AS MATERIALIZED (
    SELECT epoch FROM {executions} WHERE execution_id = $1 AND epoch = $2 FOR NO KEY UPDATE
), swept AS (
    DELETE FROM {chunks} WHERE execution_id = $1 AND epoch < $2 AND id = ANY ($3::text[])
        AND EXISTS (SELECT FROM locked)
)
SELECT EXISTS (SELECT FROM locked)"""

# A row that was replaced meanwhile is compared once more as it is when it is locked.
_REWRITE = """
WITH chunks AS (
    UPDATE {chunks} AS c SET data = new.data
    FROM unnest($2::text[], $3::bytea[]) AS new (id, data)
    WHERE c.execution_id = $1 AND c.id = new.id
), checkpoints AS (
    UPDATE {checkpoints} AS c
    SET state = new.state, metadata = new.metadata, graph = new.graph::json
    FROM unnest($4::text[], $5::text[], $6::jsonb[], $7::jsonb[], $8::text[], $9::jsonb[],
        $10::jsonb[], $11::text[]) AS new (namespace, id, old_state, old_metadata, old_graph,
        state, metadata, graph)
    WHERE c.execution_id = $1 AND c.namespace = new.namespace AND c.id = new.id
        AND c.state = new.old_state AND c.metadata = new.old_metadata
        AND c.graph::text = new.old_graph
)
UPDATE {writes} AS w SET value = new.value::json
FROM unnest($12::text[], $13::text[], $14::text[], $15::integer[], $16::text[], $17::text[])
    AS new (namespace, checkpoint_id, task_id, idx, old, value)
WHERE w.execution_id = $1 AND w.namespace = new.namespace
    AND w.checkpoint_id = new.checkpoint_id AND w.task_id = new.task_id AND w.idx = new.idx
    AND w.value::text = new.old"""

# An execution that isn't there is added, so that whoever adds it at the same time waits.
_LOCK_FOR_CLEAR = f"""
INSERT INTO {{executions}} AS e (execution_id, epoch) VALUES ($1, 0)
ON CONFLICT (execution_id) DO UPDATE SET epoch = e.epoch + 1 RETURNING epoch, {LEASE}"""  # noqa: S608 -- a constant

_CLEAR = """
WITH checkpoints AS (DELETE FROM {checkpoints} WHERE execution_id = $1 RETURNING 1),
writes AS (DELETE FROM {writes} WHERE execution_id = $1 RETURNING 1),
chunks AS (DELETE FROM {chunks} WHERE execution_id = $1 RETURNING 1),
execution AS (DELETE FROM {executions} WHERE execution_id = $1 AND NOT $2::boolean)
SELECT EXISTS (SELECT FROM checkpoints) OR EXISTS (SELECT FROM writes)
    OR EXISTS (SELECT FROM chunks)"""


def answer(tables: Tables, request: object) -> Plan[object]:
    """Answer any request but a commit; the types of the answers stand at the requests."""
    return _ANSWERS[type(request)](tables, request)


def _find(tables: Tables, find: FindCheckpoints) -> Plan[list[FoundCheckpoint]]:
    rows = yield _find_statement(tables, find)
    return [found(row) for row in rows]


def _find_statement(tables: Tables, find: FindCheckpoints) -> Statement:
    conditions: list[str] = []
    parameters: list[object] = []
    for condition, value in (
        ("c.execution_id = $", find.execution_id),
        ("c.namespace = $", find.namespace),
        ("c.id = $", find.id),
        ("c.id < $", find.before_id),
        ("c.timestamp >= $", find.since),
        ("c.timestamp < $", find.until),
        ("c.metadata @> $", _hint(find.metadata)),
    ):
        if value is not None:
            parameters.append(value)
            conditions.append(f"{condition}{len(parameters)}")
    if find.after is not None:
        used = len(parameters)
        parameters += find.after
        conditions.append(
            f"(c.id, c.execution_id, c.namespace) < (${used + 1}, ${used + 2}, ${used + 3})"
        )
    parameters.append(None if find.limit is None else Int8(max(find.limit, 0)))
    sql = tables.sql(
        _FIND,
        columns=COLUMNS,
        writes_of=tables.sql(WRITES_OF) if find.with_writes else "NULL",
        where=f"WHERE {' AND '.join(conditions)}" if conditions else "",
        limit=f"${len(parameters)}::bigint",
    )
    return Statement(sql, parameters)


def _hint(metadata: Mapping[str, str | int | bool] | None) -> str | None:
    """Return what the metadata must contain, as far as JSON can say it exactly."""
    exact = {key: value for key, value in (metadata or {}).items() if _exact(key) and _exact(value)}
    return json.dumps(exact) if exact else None


def _exact(value: str | int) -> bool:
    if isinstance(value, str):
        return "\0" not in value and value == value.encode(errors="replace").decode()
    # 0 and 1 also equal booleans and -0.0; larger numbers may be stored in another form.
    return 1 < abs(value) < 10**15


def found(columns: Sequence[Any]) -> FoundCheckpoint:
    """Return a checkpoint from its columns, the last of which are its writes as JSON."""
    (execution_id, namespace, id, parent_id, node_name, state, metadata, timestamp, version, graph,
     epoch, writes) = columns  # fmt: skip
    row = CheckpointRow(
        execution_id,
        namespace,
        id,
        parent_id,
        node_name,
        state.encode(),
        metadata.encode(),
        timestamp.astimezone(UTC),
        version,
        graph.encode(),
    )
    pending = [
        WriteRow(execution_id, namespace, id, task_id, idx, task_path, channel, value.encode())
        for task_id, idx, task_path, channel, value in orjson.loads(writes or b"[]")
    ]
    return FoundCheckpoint(row, sorted(pending, key=writes_order), epoch)


def _find_writes(tables: Tables, find: FindWrites) -> Plan[list[WriteRow]]:
    rows = yield Statement(tables.sql(_FIND_WRITES), [find.execution_id])
    return [WriteRow(*(*key, value.encode())) for *key, value in rows]


def _fetch(tables: Tables, fetch: FetchChunks) -> Plan[dict[ChunkId, bytes]]:
    rows = yield Statement(tables.sql(_FETCH), [fetch.execution_id, array(TEXT, fetch.ids)])
    return dict(rows)


def _find_executions(tables: Tables, find: FindExecutions) -> Plan[list[str]]:
    parameters = [find.after, None if find.limit is None else Int8(max(find.limit, 0))]
    before = ""
    if find.before is not None:
        before = "AND execution_id < $3"
        parameters.append(find.before)
    rows = yield Statement(tables.sql(_EXECUTIONS, before=before), parameters)
    return _first_column(rows)


def _old_chunks(tables: Tables, find: FindOldChunks) -> Plan[list[ChunkId]]:
    rows = yield Statement(tables.sql(_OLD_CHUNKS), [find.execution_id, Int8(find.epoch)])
    return _first_column(rows)


def _survey(tables: Tables, survey: Survey) -> Plan[Surveyed]:
    if survey.execution_id is not None:
        keys = yield Statement(tables.sql(_KEYS), [survey.execution_id])
        return Surveyed([], [(namespace, id) for namespace, id in keys], [])
    executions = yield Statement(tables.sql(_EXECUTIONS, before=""), ["", None])
    strays: Rows = []
    if survey.deep:
        strays = yield Statement(tables.sql(_STRAYS))
    return Surveyed(_first_column(executions), [], _first_column(strays))


def _first_column(rows: Rows) -> list[Any]:
    return [value for (value,) in rows]


def _remove(tables: Tables, request: Remove) -> Plan[int | None]:
    id = request.execution_id
    rows = yield Statement(tables.sql(_LOCK), [id])
    expired = check_fence(id, lease_of(rows[0]) if rows else Lease(), request.fence)
    if not rows:
        return None
    if expired:
        yield end_lease(tables, id)
    return (yield from remove(tables, id, request.checkpoints))


def _sweep(tables: Tables, sweep: Sweep) -> Plan[bool]:
    parameters = [sweep.execution_id, Int8(sweep.epoch), array(TEXT, sweep.chunks)]
    rows = yield Statement(tables.sql(_SWEEP), parameters)
    return bool(rows[0][0])


def _rewrite(tables: Tables, rewrite: Rewrite) -> Plan[None]:
    rows, writes = rewrite.checkpoints, rewrite.writes
    yield Statement(
        tables.sql(_REWRITE),
        [
            rewrite.execution_id,
            array(TEXT, [id for id, _ in rewrite.chunks]),
            array(BYTEA, [data for _, data in rewrite.chunks]),
            array(TEXT, [old.namespace for old, _ in rows]),
            array(TEXT, [old.id for old, _ in rows]),
            array(JSONB, [old.state for old, _ in rows]),
            array(JSONB, [old.metadata for old, _ in rows]),
            array(TEXT, [old.graph.decode() for old, _ in rows]),
            array(JSONB, [new.state for _, new in rows]),
            array(JSONB, [new.metadata for _, new in rows]),
            array(TEXT, [new.graph.decode() for _, new in rows]),
            array(TEXT, [old.namespace for old, _ in writes]),
            array(TEXT, [old.checkpoint_id for old, _ in writes]),
            array(TEXT, [old.task_id for old, _ in writes]),
            array(INTEGER, [old.idx for old, _ in writes]),
            array(TEXT, [old.value.decode() for old, _ in writes]),
            array(TEXT, [new.value.decode() for _, new in writes]),
        ],
    )


def _clear(tables: Tables, clear: Clear) -> Plan[bool]:
    id, fence = clear.execution_id, clear.fence
    ((epoch, *lease),) = yield Statement(tables.sql(_LOCK_FOR_CLEAR), [id])
    check_fence(id, lease_of(lease), fence)
    ((existed,),) = yield Statement(tables.sql(_CLEAR), [id, fence is not None])
    return bool(epoch or existed)


_ANSWERS: dict[type, Callable[[Tables, Any], Plan[Any]]] = {
    FindCheckpoints: _find,
    FindWrites: _find_writes,
    FetchChunks: _fetch,
    FindExecutions: _find_executions,
    Remove: lambda tables, request: in_transaction(_remove(tables, request)),
    FindOldChunks: _old_chunks,
    Sweep: _sweep,
    Rewrite: _rewrite,
    Survey: _survey,
    Ping: measuring.ping,
    Measure: measuring.measure,
    MeasureExecutions: measuring.by_execution,
    Clear: lambda tables, request: in_transaction(_clear(tables, request)),
    AcquireLease: acquire,
    RenewLease: renew,
    ReleaseLease: release,
}
