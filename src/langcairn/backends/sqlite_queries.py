"""The requests as SQLite answers them: SQL in, rows and bytes out, inside a given transaction."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import (
    AcquireLease,
    CheckpointRow,
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Move,
    ReleaseLease,
    Remove,
    RenewLease,
    Rewrite,
    Survey,
    Surveyed,
    Sweep,
    Transaction,
    WriteRow,
    next_epoch,
    writes_order,
)
from langcairn.backends.conditions import (
    NO_LEASE,
    Deadline,
    acquired,
    check_commit,
    check_fence,
    ended,
    is_valid,
    renewed,
)
from langcairn.backends.measures import Measure, MeasureExecutions, Ping
from langcairn.backends.sqlite_measures import Measures
from langcairn.errors import CorruptData, StaleEpoch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from langcairn.backends.sqlite_schema import Tables

# The inner query needs nothing but an index, also where it has to sort: 10 of the 5,000 checkpoints
# of an execution take 1 ms like this, and 10 ms if whole rows are sorted.
#
# TEXT is read as a BLOB where bytes are wanted: SQLite holds UTF-8, and decoding it only to encode
# it again would cost more than reading it.
# Each row comes once for each of its writes: one statement reads one state of the database, where
# several would need a transaction around them, which takes longer than the rows do.
_FIND = """
SELECT c.execution_id, c.namespace, c.id, c.parent_id, c.node_name,
    CAST(c.state AS BLOB), CAST(c.metadata AS BLOB), c.timestamp, c.version,
    CAST(c.graph AS BLOB), COALESCE(e.epoch, 0), w.namespace, w.checkpoint_id, w.task_id, w.idx,
    w.task_path, w.channel, CAST(w.value AS BLOB)
FROM (SELECT c.rowid AS found FROM {checkpoints} AS c WHERE {conditions}
    ORDER BY c.id DESC, c.execution_id DESC, c.namespace DESC LIMIT :limit)
CROSS JOIN {checkpoints} AS c ON c.rowid = found
LEFT JOIN {executions} AS e ON e.execution_id = c.execution_id
LEFT JOIN {writes} AS w ON :with_writes AND w.execution = e.number
    AND w.namespace = c.namespace AND w.checkpoint_id = c.id
"""

_KEY = itemgetter(2, 0, 1)  # in the order of the answer

_CONDITIONS = {
    "execution_id": "c.execution_id = :execution_id",
    "namespace": "c.namespace = :namespace",
    "id": "c.id = :id",
    "before_id": "c.id < :before_id",
    "after": """
        (c.id, c.execution_id, c.namespace) < (:after_id, :after_execution, :after_namespace)""",
    "since": "c.timestamp >= :since",
    "until": "c.timestamp < :until",
    # Never too strict. What JSON can't say exactly is equally inexact on both sides; an object may
    # stand for a value of another kind, such as an enum's member; and a row whose metadata is
    # damaged passes, so that the store can say which one it is.
    "metadata": """CASE
        WHEN NOT json_valid(c.metadata) THEN TRUE
        WHEN json_type(c.metadata) <> 'object' THEN TRUE
        ELSE NOT EXISTS (SELECT 1 FROM json_each(:metadata) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM json_each(c.metadata) AS present
            WHERE present.key = wanted.key
                AND (present.atom IS wanted.atom OR present.type = 'object')))
        END""",
}

_SQL = {
    "all writes": """
        SELECT namespace, checkpoint_id, task_id, idx, task_path, channel, CAST(value AS BLOB)
        FROM {writes}
        WHERE execution = (SELECT number FROM {executions} WHERE execution_id = ?)""",
    # A list as JSON: SQLite's limit on variables could be as low as 999.
    "chunks": """
        SELECT id, CAST(data AS BLOB) FROM {chunks}
        WHERE execution = (SELECT number FROM {executions} WHERE execution_id = ?)
            AND id IN (SELECT value FROM json_each(?))""",
    "keys": "SELECT namespace, id FROM {checkpoints} WHERE execution_id = ?",
    # What belongs to no execution, and so would never be read. A checkpoint without the columns of
    # ours was inserted with SQL, which is fine.
    "strays": """
        SELECT 'a checkpoint is of the unknown execution ' || quote(execution_id)
        FROM {checkpoints} WHERE graph <> '{{}}'
            AND execution_id NOT IN (SELECT execution_id FROM {executions})
        UNION SELECT 'a chunk is of the unknown execution number ' || execution
        FROM {chunks} WHERE execution NOT IN (SELECT number FROM {executions})
        UNION SELECT 'a pending write is of the unknown execution number ' || execution
        FROM {writes} WHERE execution NOT IN (SELECT number FROM {executions})""",
    "old chunks": """
        SELECT id FROM {chunks}
        WHERE execution = (SELECT number FROM {executions} WHERE execution_id = ?)
            AND epoch < ?""",
    "executions": """
        SELECT execution_id FROM {executions} WHERE execution_id > :after
        ORDER BY execution_id LIMIT :limit""",
    # Not one statement with "OR :before IS NULL": that would look at every id up to the last one.
    "executions before": """
        SELECT execution_id FROM {executions}
        WHERE execution_id > :after AND execution_id < :before
        ORDER BY execution_id LIMIT :limit""",
    "execution": """
        SELECT number, epoch, lease_token, lease_owner, lease_until, lease_ttl FROM {executions}
        WHERE execution_id = ?""",
    "add execution": "INSERT INTO {executions} (execution_id, epoch) VALUES (?, ?)",
    "set epoch": "UPDATE {executions} SET epoch = ? WHERE number = ?",
    "set lease": """
        UPDATE {executions} SET lease_token = ?, lease_owner = ?, lease_until = ?, lease_ttl = ?
        WHERE number = ?""",
    "version of": """
        SELECT version FROM {checkpoints} WHERE id = ? AND execution_id = ? AND namespace = ?""",
    "newest": "SELECT max(id) FROM {checkpoints} WHERE execution_id = ? AND namespace = ?",
    "put checkpoint": """
        INSERT INTO {checkpoints} (execution_id, namespace, id, parent_id, node_name, state,
            metadata, timestamp, version, graph) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id, execution_id, namespace) DO NOTHING""",
    "state of": """
        SELECT CAST(state AS BLOB) FROM {checkpoints}
        WHERE id = :2 AND execution_id = :0 AND namespace = :1""",
    "replace checkpoint": """
        UPDATE {checkpoints} SET parent_id = :3, node_name = :4, state = :5, metadata = :6,
            timestamp = :7, version = :8, graph = :9
        WHERE id = :2 AND execution_id = :0 AND namespace = :1""",
    "put chunk": """
        INSERT INTO {chunks} (execution, id, epoch, data) VALUES (?, ?, ?, ?)
        ON CONFLICT (execution, id) DO UPDATE SET epoch = excluded.epoch
            WHERE epoch < excluded.epoch""",
    "put write": """
        INSERT INTO {writes} (execution, namespace, checkpoint_id, task_id, idx, task_path,
            channel, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (execution, namespace, checkpoint_id, task_id, idx) DO NOTHING""",
    "value of": """
        SELECT CAST(value AS BLOB) FROM {writes} WHERE execution = :0 AND namespace = :1
            AND checkpoint_id = :2 AND task_id = :3 AND idx = :4""",
    "replace write": """
        UPDATE {writes} SET task_path = :5, channel = :6, value = :7 WHERE execution = :0
            AND namespace = :1 AND checkpoint_id = :2 AND task_id = :3 AND idx = :4""",
    "any checkpoint": "SELECT 1 FROM {checkpoints} WHERE execution_id = ? LIMIT 1",
    "any write": "SELECT 1 FROM {writes} WHERE execution = ? LIMIT 1",
    "remove checkpoint": """
        DELETE FROM {checkpoints} WHERE execution_id = ? AND namespace = ? AND id = ?""",
    "remove writes": """
        DELETE FROM {writes} WHERE execution = ? AND namespace = ? AND checkpoint_id = ?""",
    "sweep": """
        DELETE FROM {chunks} WHERE execution = ? AND epoch < ?
            AND id IN (SELECT value FROM json_each(?))""",
    "rewrite chunk": "UPDATE {chunks} SET data = ? WHERE execution = ? AND id = ?",
    "move chunk": """
        UPDATE {chunks} SET data = ? WHERE execution = ? AND id = ? AND data = ?""",
    "rewrite checkpoint": """
        UPDATE {checkpoints} SET state = ?, metadata = ?, graph = ?
        WHERE execution_id = ? AND namespace = ? AND id = ?
            AND state = ? AND metadata = ? AND graph = ?""",
    "rewrite write": """
        UPDATE {writes} SET value = ? WHERE execution = ? AND namespace = ? AND checkpoint_id = ?
            AND task_id = ? AND idx = ? AND value = ?""",
    "clear checkpoints": "DELETE FROM {checkpoints} WHERE execution_id = ?",
    "clear writes": "DELETE FROM {writes} WHERE execution = ?",
    "clear chunks": "DELETE FROM {chunks} WHERE execution = ?",
    "clear execution": "DELETE FROM {executions} WHERE number = ?",
}


class Queries:
    """Answers requests on the tables of one store, in any connection to its file.

    Attributes:
        writers: For each type of request that changes something, the function that answers it. It
            must be called within a transaction.
        readers: For each other type, the function that answers it.
    """

    def __init__(self, tables: Tables) -> None:
        self._sql = {name: tables.sql(text) for name, text in _SQL.items()}
        self._tables = tables
        self._find_by_shape: dict[tuple[str, ...], str] = {}
        measures = Measures(tables)
        self.writers: dict[type, Callable[[sqlite3.Connection, Any], object]] = {
            Commit: self._commit,
            Remove: self._remove,
            Sweep: self._sweep,
            Rewrite: self._rewrite,
            Move: self._move,
            Clear: self._clear,
            Transaction: self._transaction,
            AcquireLease: self._acquire,
            RenewLease: self._renew,
            ReleaseLease: self._release,
        }
        self.readers: dict[type, Callable[[sqlite3.Connection, Any], object]] = {
            FindCheckpoints: self._find_checkpoints,
            FindWrites: self._find_writes,
            FetchChunks: self._fetch_chunks,
            FindOldChunks: self._find_old_chunks,
            FindExecutions: self._find_executions,
            Ping: measures.ping,
            Measure: measures.all,
            MeasureExecutions: measures.by_execution,
            Survey: self._survey,
        }

    def _execution(
        self, connection: sqlite3.Connection, execution_id: str
    ) -> tuple[int, int, Deadline]:
        """Return number, epoch and lease of an execution; the numbers are 0 if there is none."""
        row = connection.execute(self._sql["execution"], (execution_id,)).fetchone()
        return (0, 0, NO_LEASE) if row is None else (row[0], row[1], Deadline._make(row[2:]))

    def _transaction(self, connection: sqlite3.Connection, transaction: Transaction) -> list[int]:
        return [self._commit(connection, commit) for commit in transaction.commits]

    def _commit(self, connection: sqlite3.Connection, commit: Commit) -> int:
        sql = self._sql
        number, epoch, lease = self._execution(connection, commit.execution_id)
        expired = check_fence(commit.execution_id, lease.now(), commit.fence)
        if commit.epoch is not None and (not number or commit.epoch != epoch):
            raise StaleEpoch(f"execution {commit.execution_id!r} has left epoch {commit.epoch}")
        if commit.is_conditional:
            check_commit(commit, _Stored(connection, sql, commit.execution_id))
        if not number:
            number, epoch = self._add(connection, commit.execution_id)
        if expired:
            self._end_lease(connection, number, lease)
        if commit.removals:
            epoch = self._remove_rows(
                connection, commit.execution_id, number, epoch, commit.removals
            )
        replaced = [self._put(connection, row) for row in commit.checkpoints]
        replaced += [self._put_write(connection, number, write) for write in commit.writes]
        if any(replaced):
            epoch = next_epoch(epoch)
            connection.execute(sql["set epoch"], (epoch, number))
        if commit.chunks:
            connection.executemany(
                sql["put chunk"], [(number, chunk, epoch, data) for chunk, data in commit.chunks]
            )
        return epoch

    def _put(self, connection: sqlite3.Connection, row: CheckpointRow) -> bool:
        """Store a checkpoint. Returns whether it replaced another state."""
        columns = _columns(row)
        if connection.execute(self._sql["put checkpoint"], columns).rowcount:
            return False
        values = {str(place): column for place, column in enumerate(columns)}
        (state,) = connection.execute(self._sql["state of"], values).fetchone()
        connection.execute(self._sql["replace checkpoint"], values)
        return bool(state != row.state)

    def _put_write(self, connection: sqlite3.Connection, number: int, write: WriteRow) -> bool:
        """Store a write. Returns whether it replaced another value."""
        columns = (number, *write[1:7], write.value.decode())
        if connection.execute(self._sql["put write"], columns).rowcount or write.idx >= 0:
            return False
        values = {str(place): column for place, column in enumerate(columns)}
        (value,) = connection.execute(self._sql["value of"], values).fetchone()
        connection.execute(self._sql["replace write"], values)
        return bool(value != write.value)

    def _add(self, connection: sqlite3.Connection, execution_id: str) -> tuple[int, int]:
        """Add an execution. Returns its number and epoch."""
        epoch = next_epoch()
        added = connection.execute(self._sql["add execution"], (execution_id, epoch))
        return added.lastrowid or 0, epoch

    def _remove(self, connection: sqlite3.Connection, remove: Remove) -> int | None:
        sql = self._sql
        number, epoch, lease = self._execution(connection, remove.execution_id)
        expired = check_fence(remove.execution_id, lease.now(), remove.fence)
        if not number:
            # Rows that someone inserted with SQL have no execution yet.
            there = connection.execute(sql["any checkpoint"], (remove.execution_id,)).fetchone()
            if there is None:
                return None
            number, epoch = self._add(connection, remove.execution_id)
        if expired:
            self._end_lease(connection, number, lease)
        return self._remove_rows(connection, remove.execution_id, number, epoch, remove.checkpoints)

    def _remove_rows(
        self,
        connection: sqlite3.Connection,
        execution_id: str,
        number: int,
        epoch: int,
        keys: Sequence[tuple[str, str]],
    ) -> int:
        """Remove checkpoints and their writes. Returns the new epoch."""
        sql = self._sql
        connection.executemany(sql["remove checkpoint"], [(execution_id, *key) for key in keys])
        connection.executemany(sql["remove writes"], [(number, *key) for key in keys])
        epoch = next_epoch(epoch)
        connection.execute(sql["set epoch"], (epoch, number))
        return epoch

    def _sweep(self, connection: sqlite3.Connection, sweep: Sweep) -> bool:
        number, epoch, _ = self._execution(connection, sweep.execution_id)
        if not number or epoch != sweep.epoch:
            return False
        connection.execute(self._sql["sweep"], (number, epoch, json.dumps(list(sweep.chunks))))
        return True

    def _rewrite(self, connection: sqlite3.Connection, rewrite: Rewrite) -> None:
        number, _, _ = self._execution(connection, rewrite.execution_id)
        connection.executemany(
            self._sql["rewrite chunk"], [(data, number, id) for id, data in rewrite.chunks]
        )
        connection.executemany(
            self._sql["rewrite checkpoint"],
            [(*_json(new), *old[:3], *_json(old)) for old, new in rewrite.checkpoints],
        )
        connection.executemany(
            self._sql["rewrite write"],
            [(new[7].decode(), number, *old[1:5], old[7].decode()) for old, new in rewrite.writes],
        )

    def _move(self, connection: sqlite3.Connection, move: Move) -> bool:
        number, epoch, _ = self._execution(connection, move.execution_id)
        if not number or epoch != move.epoch:
            return False
        connection.executemany(
            self._sql["move chunk"], [(new, number, id, old) for id, old, new in move.chunks]
        )
        return True

    def _clear(self, connection: sqlite3.Connection, clear: Clear) -> bool:
        sql = self._sql
        number, epoch, lease = self._execution(connection, clear.execution_id)
        check_fence(clear.execution_id, lease.now(), clear.fence)
        if clear.only_empty and (
            clear.fence is not None
            or connection.execute(sql["any checkpoint"], (clear.execution_id,)).fetchone()
            or connection.execute(sql["any write"], (number,)).fetchone()
        ):
            return False
        removed = connection.execute(sql["clear checkpoints"], (clear.execution_id,)).rowcount
        if number:
            for part in ("clear writes", "clear chunks"):
                connection.execute(sql[part], (number,))
            if clear.fence is None:
                connection.execute(sql["clear execution"], (number,))
            else:
                connection.execute(sql["set epoch"], (next_epoch(epoch), number))
        return number != 0 or removed > 0

    def _acquire(self, connection: sqlite3.Connection, request: AcquireLease) -> int:
        number, _, stored = self._execution(connection, request.execution_id)
        lease = acquired(stored.now(), request)
        if not number:
            number, _ = self._add(connection, request.execution_id)
        connection.execute(self._sql["set lease"], (*Deadline.of(lease), number))
        return lease.token

    def _renew(self, connection: sqlite3.Connection, request: RenewLease) -> None:
        number, _, stored = self._execution(connection, request.execution_id)
        lease = renewed(stored.now(), request)
        connection.execute(self._sql["set lease"], (*Deadline.of(lease), number))

    def _release(self, connection: sqlite3.Connection, request: ReleaseLease) -> bool:
        number, _, lease = self._execution(connection, request.execution_id)
        if not is_valid(lease.now(), request.token):
            return False
        self._end_lease(connection, number, lease)
        return True

    def _end_lease(self, connection: sqlite3.Connection, number: int, lease: Deadline) -> None:
        over = Deadline.of(ended(lease.now()))
        connection.execute(self._sql["set lease"], (*over, number))

    def _find_checkpoints(
        self, connection: sqlite3.Connection, find: FindCheckpoints
    ) -> list[FoundCheckpoint]:
        values: dict[str, object] = {
            "execution_id": find.execution_id,
            "namespace": find.namespace,
            "id": find.id,
            "before_id": find.before_id,
            "after": find.after,
            "since": _time_text(find.since) if find.since else None,
            "until": _time_text(find.until) if find.until else None,
            "metadata": json.dumps(dict(find.metadata)) if find.metadata else None,
        }
        shape = tuple(name for name, value in values.items() if value is not None)
        values["limit"] = -1 if find.limit is None else find.limit
        values["with_writes"] = find.with_writes
        if find.after is not None:
            values["after_id"], values["after_execution"], values["after_namespace"] = find.after
            del values["after"]
        rows = connection.execute(self._find_sql(shape), values).fetchall()
        # Here, as SQLite would sort even a single row through a temporary table.
        try:
            rows.sort(key=_KEY, reverse=True)
        except TypeError as error:
            raise CorruptData("the key of a checkpoint has damaged columns") from error
        found = []
        for _, group in groupby(rows, key=_KEY):
            same = list(group)
            row = same[0]
            writes = [_write(row[0], one[11:]) for one in same if one[11] is not None]
            writes.sort(key=writes_order)
            found.append(FoundCheckpoint(_checkpoint(row[:10]), writes, row[10]))
        return found

    def _find_sql(self, shape: tuple[str, ...]) -> str:
        """Return the statement for this combination of conditions."""
        sql = self._find_by_shape.get(shape)
        if sql is None:
            conditions = " AND ".join(_CONDITIONS[name] for name in shape) or "TRUE"
            sql = self._tables.sql(_FIND.replace("{conditions}", conditions))
            self._find_by_shape[shape] = sql
        return sql

    def _find_writes(self, connection: sqlite3.Connection, find: FindWrites) -> list[WriteRow]:
        rows = connection.execute(self._sql["all writes"], (find.execution_id,)).fetchall()
        return [_write(find.execution_id, row) for row in rows]

    def _fetch_chunks(
        self, connection: sqlite3.Connection, fetch: FetchChunks
    ) -> dict[ChunkId, bytes]:
        values = (fetch.execution_id, json.dumps(list(fetch.ids)))
        return dict(connection.execute(self._sql["chunks"], values).fetchall())

    def _find_old_chunks(
        self, connection: sqlite3.Connection, find: FindOldChunks
    ) -> list[ChunkId]:
        rows = connection.execute(self._sql["old chunks"], find).fetchall()
        return [chunk for (chunk,) in rows]

    def _find_executions(self, connection: sqlite3.Connection, find: FindExecutions) -> list[str]:
        sql = self._sql["executions" if find.before is None else "executions before"]
        limit = -1 if find.limit is None else max(find.limit, 0)
        values = {"after": find.after, "before": find.before, "limit": limit}
        rows = connection.execute(sql, values).fetchall()
        return [execution_id for (execution_id,) in rows]

    def _survey(self, connection: sqlite3.Connection, survey: Survey) -> Surveyed:
        sql = self._sql
        if survey.execution_id is not None:
            rows = connection.execute(sql["keys"], (survey.execution_id,)).fetchall()
            return Surveyed([], [key for key in rows if tuple(map(type, key)) == (str, str)], [])
        executions = connection.execute(sql["executions"], {"after": "", "limit": -1}).fetchall()
        problems: list[tuple[str]] = []
        if survey.deep:
            problems = connection.execute("PRAGMA integrity_check").fetchall()
            problems += connection.execute(sql["strays"]).fetchall()
        return Surveyed(
            [execution_id for (execution_id,) in executions],
            [],
            [problem for (problem,) in problems if problem != "ok"],
        )


def _json(row: CheckpointRow) -> tuple[str, str, str]:
    return row.state.decode(), row.metadata.decode(), row.graph.decode()


class _Stored:
    """What is stored of an execution before a commit."""

    def __init__(
        self, connection: sqlite3.Connection, sql: Mapping[str, str], execution_id: str
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._execution_id = execution_id

    def version(self, namespace: str, id: str) -> int | None:
        key = (id, self._execution_id, namespace)
        row = self._connection.execute(self._sql["version of"], key).fetchone()
        return None if row is None else row[0]

    def newest(self, namespace: str) -> str | None:
        key = (self._execution_id, namespace)
        row = self._connection.execute(self._sql["newest"], key).fetchone()
        return row[0]  # type: ignore[no-any-return]  # a text, or NULL

    def holds(self, row: CheckpointRow) -> bool:  # noqa: ARG002 -- as in Stored
        return False  # no commit comes again: what isn't acknowledged here wasn't made


def _columns(row: CheckpointRow) -> tuple[object, ...]:
    """Turn a row into column values, in the order of its fields."""
    return (
        *row[:5],
        row.state.decode(),
        row.metadata.decode(),
        _time_text(row.timestamp),
        row.version,
        row.graph.decode(),
    )


def _time_text(time: datetime) -> str:
    """Write a time as SQLite's own ``datetime()`` does, in UTC, but always with microseconds.

    Such texts sort by time.
    """
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _checkpoint(columns: tuple[Any, ...]) -> CheckpointRow:
    """Turn column values into a row."""
    execution_id, _, id = columns[:3]
    if tuple(map(type, columns)) not in _CHECKPOINT_TYPES:
        raise CorruptData(f"checkpoint {id!r} of {execution_id!r} has damaged columns")
    try:
        timestamp = datetime.fromisoformat(columns[7])
    except ValueError as error:
        raise CorruptData(
            f"checkpoint {id!r} of {execution_id!r} has the timestamp {columns[7]!r}"
        ) from error
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)  # as this backend writes it
    else:
        timestamp = timestamp.astimezone(UTC)
    return CheckpointRow._make((*columns[:7], timestamp, *columns[8:]))


def _write(execution_id: str, columns: tuple[Any, ...]) -> WriteRow:
    """Turn column values into a row."""
    if tuple(map(type, columns)) != _WRITE_TYPES:
        raise CorruptData(f"a write to checkpoint {columns[1]!r} of {execution_id!r} is damaged")
    return WriteRow(execution_id, *columns)


# SQLite lets a column hold any type, and a flipped bit can turn one into another.
_CHECKPOINT_TYPES = tuple(
    (str, str, str, parent, str, bytes, bytes, str, int, bytes) for parent in (str, type(None))
)
_WRITE_TYPES = (str, str, str, int, str, str, bytes)
