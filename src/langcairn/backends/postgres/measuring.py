"""How much is in the tables, and whether they can be used.

Tables are read from end to end to count them, without their large values. Above a certain size that
would take longer than a request may; then PostgreSQL's own estimates must do.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg.types.numeric import Int8

from langcairn.backends.measures import Measured, Server, Stored
from langcairn.backends.postgres.values import TEXT, Statement, array
from langcairn.errors import StoreMisconfigured

if TYPE_CHECKING:
    from langcairn.backends.measures import Measure, MeasureExecutions, Ping
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Plan

MOST_TO_COUNT = 1 << 29
"""Tables with their indexes up to here are counted, larger ones estimated. [bytes]"""

_PING = """
SELECT current_setting('server_version'),
    NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::boolean
    AND (SELECT bool_and(has_table_privilege(name::regclass, privilege))
        FROM unnest($1::text[]) AS name,
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege)"""

# One row for each table, partitions together: what it takes with its indexes, and how many rows it
# has, about. Of a table without partitions, pg_partition_tree() says nothing.
_SIZES = """
SELECT name, sum(pg_total_relation_size(part.relid))::bigint,
    sum(greatest(class.reltuples, 0))::bigint
FROM unnest($1::text[]) AS name,
LATERAL (SELECT name::regclass UNION SELECT relid FROM pg_partition_tree(name::regclass))
    AS part (relid)
JOIN pg_class AS class ON class.oid = part.relid
WHERE class.relkind = 'r'
GROUP BY name"""

# pg_column_size() and octet_length() of a value that is stored out of line don't fetch it.
_ROW = "pg_column_size(state) + pg_column_size(metadata) + pg_column_size(graph)"

_COUNT = """
SELECT (SELECT count(*) FROM {executions}), c.n, w.n, k.n, (c.size + w.size + k.size)::bigint,
    oldest, newest
FROM (SELECT count(*) AS n, coalesce(sum({row}), 0)::bigint AS size, min(timestamp) AS oldest,
    max(timestamp) AS newest FROM {checkpoints}) AS c,
(SELECT count(*) AS n, coalesce(sum(pg_column_size(value)), 0)::bigint AS size FROM {writes}) AS w,
(SELECT count(*) AS n, coalesce(sum(octet_length(data)), 0)::bigint AS size FROM {chunks}) AS k"""

# By the index on ids, which for LangGraph's are in the order of time.
_ENDS = """
SELECT (SELECT timestamp FROM {checkpoints} ORDER BY id LIMIT 1),
    (SELECT timestamp FROM {checkpoints} ORDER BY id DESC LIMIT 1)"""

# PostgreSQL can't tell how large its disk is, so whoever runs it may.
_ROOM = """
SELECT capacity, CASE WHEN capacity <> '' THEN pg_database_size(current_database()) END
FROM current_setting('langcairn.capacity', true) AS capacity"""

# As pg_size_bytes() reads sizes.
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(|b|bytes|kb|mb|gb|tb|pb)", re.IGNORECASE)
_POWERS = {"kb": 1, "mb": 2, "gb": 3, "tb": 4, "pb": 5}

_BY_EXECUTION = """
WITH page AS MATERIALIZED (
    SELECT execution_id FROM {executions} WHERE execution_id > $1
        AND ($2::text[] IS NULL OR execution_id = ANY ($2::text[]))
    ORDER BY execution_id LIMIT $3::bigint)
SELECT page.execution_id, c.n, w.n, k.n, (c.size + w.size + k.size)::bigint, c.oldest, c.newest
FROM page,
LATERAL (SELECT count(*) AS n, coalesce(sum({row}), 0)::bigint AS size, min(timestamp) AS oldest,
    max(timestamp) AS newest FROM {checkpoints} AS t WHERE t.execution_id = page.execution_id) AS c,
LATERAL (SELECT count(*) AS n, coalesce(sum(pg_column_size(value)), 0)::bigint AS size
    FROM {writes} AS t WHERE t.execution_id = page.execution_id) AS w,
LATERAL (SELECT count(*) AS n, coalesce(sum(octet_length(data)), 0)::bigint AS size
    FROM {chunks} AS t WHERE t.execution_id = page.execution_id) AS k
ORDER BY page.execution_id"""


def ping(tables: Tables, _: Ping) -> Plan[Server]:
    """Ask the server for its version and our rights."""
    ((version, writable),) = yield Statement(_PING, [array(TEXT, tables[:4])])
    return Server("PostgreSQL", version.split()[0], bool(writable))


def measure(tables: Tables, _: Measure) -> Plan[Measured]:
    """Measure everything.

    Raises:
        StoreMisconfigured: What the database says of its capacity can't be read.
    """
    sizes = yield Statement(_SIZES, [array(TEXT, tables[:4])])
    disk = sum(size for _, size, _ in sizes)
    free, capacity = yield from _room()
    if disk <= MOST_TO_COUNT:
        ((executions, *columns),) = yield Statement(tables.sql(_COUNT, row=_ROW))
        return Measured(executions, _stored(columns), disk, free, capacity)
    rows = {name: count for name, _, count in sizes}
    ((oldest, newest),) = yield Statement(tables.sql(_ENDS))
    stored = Stored(
        rows[tables.checkpoints],
        rows[tables.writes],
        rows[tables.chunks],
        disk,
        _utc(oldest),
        _utc(newest),
    )
    estimated = frozenset({"executions", *Stored._fields})
    return Measured(rows[tables.executions], stored, disk, free, capacity, estimated)


def _room() -> Plan[tuple[int | None, int | None]]:
    """Return how much is left for the database, and how much that was, if it says so."""
    ((said, used),) = yield Statement(_ROOM)
    if not said:
        return None, None
    found = _SIZE.fullmatch(said.strip())
    if found is None:
        raise StoreMisconfigured(
            f"the database's setting langcairn.capacity is {said!r}, which is no size: write 500GB"
        )
    capacity = int(float(found[1]) * 1024 ** _POWERS.get(found[2].lower(), 0))
    return max(capacity - used, 0), capacity


def by_execution(tables: Tables, request: MeasureExecutions) -> Plan[list[tuple[str, Stored]]]:
    """Measure executions one by one."""
    ids = None if request.ids is None else array(TEXT, request.ids)
    limit = None if request.limit is None else Int8(max(request.limit, 0))
    sql = tables.sql(_BY_EXECUTION, row=_ROW)
    rows = yield Statement(sql, [request.after, ids, limit])
    return [(execution_id, _stored(columns)) for execution_id, *columns in rows]


def _stored(columns: list[Any]) -> Stored:
    checkpoints, writes, chunks, size, oldest, newest = columns
    return Stored(checkpoints, writes, chunks, size, _utc(oldest), _utc(newest))


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)
