"""The requests as SQLite answers them: SQL in, rows and bytes out, inside a given transaction."""

from __future__ import annotations

import json
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
from langcairn.backends.sqlite.measures import Measures
from langcairn.backends.sqlite.statements import CONDITIONS, FIND, SQL
from langcairn.backends.sqlite.values import (
    checkpoint_of,
    columns_of,
    json_columns,
    time_text,
    write_of,
)
from langcairn.errors import CorruptData, StaleEpoch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from langcairn.backends.sqlite.schema import Tables


_KEY = itemgetter(2, 0, 1)  # of a row of `FIND`, in the order of the answer


class Queries:
    """Answers requests on the tables of one store, in any connection to its file.

    Attributes:
        writers: For each type of request that changes something, the function that answers it. It
            must be called within a transaction.
        readers: For each other type, the function that answers it.
    """

    def __init__(self, tables: Tables) -> None:
        self._sql = {name: tables.sql(text) for name, text in SQL.items()}
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
        columns = columns_of(row)
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
            [
                (*json_columns(new), *old[:3], *json_columns(old))
                for old, new in rewrite.checkpoints
            ],
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
            "since": time_text(find.since) if find.since else None,
            "until": time_text(find.until) if find.until else None,
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
            writes = [write_of(row[0], one[11:]) for one in same if one[11] is not None]
            writes.sort(key=writes_order)
            found.append(FoundCheckpoint(checkpoint_of(row[:10]), writes, row[10]))
        return found

    def _find_sql(self, shape: tuple[str, ...]) -> str:
        """Return the statement for this combination of conditions."""
        sql = self._find_by_shape.get(shape)
        if sql is None:
            conditions = " AND ".join(CONDITIONS[name] for name in shape) or "TRUE"
            sql = self._tables.sql(FIND.replace("{conditions}", conditions))
            self._find_by_shape[shape] = sql
        return sql

    def _find_writes(self, connection: sqlite3.Connection, find: FindWrites) -> list[WriteRow]:
        rows = connection.execute(self._sql["all writes"], (find.execution_id,)).fetchall()
        return [write_of(find.execution_id, row) for row in rows]

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
