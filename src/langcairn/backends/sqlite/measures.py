"""How much is in an SQLite file, and whether it can be used."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langcairn.backends.measures import Measured, Server, Stored
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from langcairn.backends.measures import Measure, MeasureExecutions, Ping
    from langcairn.backends.sqlite.schema import Tables

# The length of a BLOB stands in its row: chunks are counted without being read.
_BY_EXECUTION = """
WITH page AS (
    SELECT number, execution_id FROM {executions} WHERE execution_id > :after
        AND (:ids IS NULL OR execution_id IN (SELECT value FROM json_each(:ids)))
    ORDER BY execution_id LIMIT :limit),
c AS (
    SELECT number, count(*) AS n, min(timestamp) AS oldest, max(timestamp) AS newest,
        sum(length(CAST(state AS BLOB)) + length(CAST(metadata AS BLOB))
            + length(CAST(graph AS BLOB))) AS size
    FROM page JOIN {checkpoints} USING (execution_id) GROUP BY number),
w AS (
    SELECT number, count(*) AS n, sum(length(CAST(value AS BLOB))) AS size
    FROM page JOIN {writes} ON execution = number GROUP BY number),
k AS (
    SELECT number, count(*) AS n, sum(length(data)) AS size
    FROM page JOIN {chunks} ON execution = number GROUP BY number)
SELECT execution_id, coalesce(c.n, 0), coalesce(w.n, 0), coalesce(k.n, 0),
    coalesce(c.size, 0) + coalesce(w.size, 0) + coalesce(k.size, 0), c.oldest, c.newest
FROM page LEFT JOIN c USING (number) LEFT JOIN w USING (number) LEFT JOIN k USING (number)
ORDER BY execution_id"""

_ALL = """
SELECT (SELECT count(*) FROM {executions}), c.n, w.n, k.n, c.size + w.size + k.size, oldest, newest
FROM (
    SELECT count(*) AS n, min(timestamp) AS oldest, max(timestamp) AS newest,
        coalesce(sum(length(CAST(state AS BLOB)) + length(CAST(metadata AS BLOB))
            + length(CAST(graph AS BLOB))), 0) AS size FROM {checkpoints}) AS c,
(SELECT count(*) AS n, coalesce(sum(length(CAST(value AS BLOB))), 0) AS size FROM {writes}) AS w,
(SELECT count(*) AS n, coalesce(sum(length(data)), 0) AS size FROM {chunks}) AS k"""


class Measures:
    """Answers requests about the tables of one store as a whole.

    Args:
        tables: Their names.
    """

    def __init__(self, tables: Tables) -> None:
        self._by_execution, self._all = tables.sql(_BY_EXECUTION), tables.sql(_ALL)
        self._look = tables.sql("SELECT 1 FROM {executions} LIMIT 1")

    def ping(self, connection: sqlite3.Connection, _: Ping) -> Server:
        """Read from the file."""
        connection.execute(self._look).fetchone()
        file = _file(connection)
        writable = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
        return Server("SQLite", sqlite3.sqlite_version, writable)

    def all(self, connection: sqlite3.Connection, _: Measure) -> Measured:
        """Measure everything. ``disk_bytes`` counts other tables in the file, too."""
        executions, *columns = connection.execute(self._all).fetchone()
        file = _file(connection)
        parts = (file.with_name(file.name + end) for end in ("", "-wal", "-shm"))
        usage = shutil.disk_usage(file.parent)
        return Measured(
            executions,
            _stored(columns),
            sum(part.stat().st_size for part in parts if part.exists()),
            usage.free,
            usage.total,
        )

    def by_execution(
        self, connection: sqlite3.Connection, request: MeasureExecutions
    ) -> list[tuple[str, Stored]]:
        """Measure executions one by one."""
        values = {
            "after": request.after,
            "ids": None if request.ids is None else json.dumps(list(request.ids)),
            "limit": -1 if request.limit is None else max(request.limit, 0),
        }
        rows = connection.execute(self._by_execution, values).fetchall()
        return [(execution_id, _stored(columns)) for execution_id, *columns in rows]


def _stored(columns: list[Any]) -> Stored:
    checkpoints, writes, chunks, size, oldest, newest = columns
    return Stored(checkpoints, writes, chunks, size, _time(oldest), _time(newest))


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise CorruptData(f"a checkpoint has the timestamp {text!r}") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _file(connection: sqlite3.Connection) -> Path:
    (_, _, file) = connection.execute("PRAGMA database_list").fetchone()
    return Path(file)
