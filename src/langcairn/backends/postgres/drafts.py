"""The statement that makes commits: its SQL, and its parameters put together from rows."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from langcairn.backends.base import next_epoch
from langcairn.backends.postgres.values import (
    BIGINT,
    BYTEA,
    INTEGER,
    JSON,
    JSONB,
    TEXT,
    TIMESTAMPTZ,
    Statement,
    array,
    scalar,
)
from langcairn.errors import InvalidInput, StaleEpoch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import Commit
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Packed, Rows, Type

Outcome = int | Exception
"""The execution's epoch, or why the commit was refused."""


class Leased(Exception):
    """There is a lease on the execution, and the commit doesn't have its token."""


# The protocol's messages end at 1 GB, with all parameters of a statement in one.
_LARGEST_MESSAGE = 2**30 - 2**16  # [bytes]

# Commits of any number of executions, which are numbered from 1.
_MANY = """
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
        WITH ORDINALITY AS asked (execution_id, epoch, fresh, fence, number)
), locked AS MATERIALIZED (
    SELECT execution_id, epoch, lease_token, lease_owner FROM {executions}
    WHERE execution_id = ANY ($1::text[]) ORDER BY execution_id FOR NO KEY UPDATE
), added AS (
    INSERT INTO {executions} (execution_id, epoch)
    SELECT execution_id, fresh FROM asked
    WHERE epoch IS NULL AND fence = 0 AND execution_id NOT IN (SELECT execution_id FROM locked)
    ORDER BY execution_id
    ON CONFLICT DO NOTHING
    RETURNING execution_id, epoch, lease_token, lease_owner
), present AS MATERIALIZED (
    SELECT number, execution_id, found.epoch, fresh, {lease} = fence AS free,
        (asked.epoch IS NULL OR asked.epoch = found.epoch) AND {lease} = fence AND NOT EXISTS (
            SELECT FROM unnest($5::integer[], $6::text[]) AS witness (of, id)
            WHERE of = number AND NOT EXISTS (SELECT FROM {chunks} AS c
                WHERE c.execution_id = found.execution_id AND c.id = witness.id)) AS ok
    FROM (SELECT * FROM locked UNION ALL SELECT * FROM added) AS found
    JOIN asked USING (execution_id)
)"""
_OF_MANY = "JOIN present USING (number)"

# A commit that has no company, and knows its execution's epoch: the usual case with few callers.
# Here the server does little more than half the work.
_ONE = """
WITH present AS MATERIALIZED (
    SELECT 1 AS number, execution_id, epoch, $3::bigint AS fresh, {lease} = $4::bigint AS free,
        epoch = $2::bigint AND {lease} = $4::bigint AND NOT EXISTS (
            SELECT FROM unnest($5::text[]) AS witness (id)
            WHERE NOT EXISTS (SELECT FROM {chunks} AS c
                WHERE c.execution_id = $1::text AND c.id = witness.id)) AS ok
    FROM {executions} WHERE execution_id = $1::text FOR NO KEY UPDATE
)"""
_OF_ONE = "CROSS JOIN present"

# The token of the lease that must be shown, 0 if there is none. An expired one counts: whether it
# has is found out when it isn't shown (see `langcairn.backends.postgres.transactions`).
LEASE = "CASE WHEN lease_owner IS NULL THEN 0 ELSE lease_token END"

# The column `replaced` tells RETURNING what the update did; it can't see the old row by itself
# before PostgreSQL 18.
_CHECKPOINTS = """, put_checkpoints AS (
    INSERT INTO {checkpoints} AS stored (execution_id, namespace, id, parent_id, node_name, state,
        metadata, timestamp, version, graph)
    SELECT execution_id, namespace, id, parent_id, node_name, state, metadata, timestamp, version,
        graph
    FROM {new} AS new (number, namespace, id, parent_id, node_name, state, metadata, timestamp,
        version, graph) {of_present} WHERE ok
    ON CONFLICT (execution_id, namespace, id) DO UPDATE SET
        parent_id = excluded.parent_id, node_name = excluded.node_name, state = excluded.state,
        metadata = excluded.metadata, timestamp = excluded.timestamp, version = excluded.version,
        graph = excluded.graph, replaced = stored.state <> excluded.state
    RETURNING execution_id, replaced
)"""
_WRITES = """, put_writes AS (
    INSERT INTO {writes} AS stored (execution_id, namespace, checkpoint_id, task_id, idx, task_path,
        channel, value)
    SELECT execution_id, namespace, checkpoint_id, task_id, idx, task_path, channel, value
    FROM {new} AS new (number, namespace, checkpoint_id, task_id, idx, task_path, channel, value)
        {of_present} WHERE ok
    ON CONFLICT (execution_id, namespace, checkpoint_id, task_id, idx) DO UPDATE SET
        task_path = excluded.task_path, channel = excluded.channel, value = excluded.value,
        replaced = stored.value::text <> excluded.value::text
    WHERE stored.idx < 0
    RETURNING execution_id, replaced
)"""
# An execution that was added above can't be seen here, and needs no newer epoch than its first.
_RAISED = """, raised AS (
    UPDATE {executions} AS stored SET epoch = greatest(stored.epoch + 1, present.fresh)
    FROM present WHERE stored.execution_id = present.execution_id
        AND present.execution_id IN ({replacing})
    RETURNING stored.execution_id, stored.epoch
)"""
_NOT_RAISED = """, raised AS (
    SELECT execution_id, epoch FROM present WHERE false
)"""
_CHUNKS = """, put_chunks AS (
    INSERT INTO {chunks} AS stored (execution_id, id, epoch, data)
    SELECT present.execution_id, id, coalesce(raised.epoch, present.epoch), data
    FROM {new} AS new (number, id, data) {of_present} LEFT JOIN raised USING (execution_id) WHERE ok
    ON CONFLICT (execution_id, id) DO UPDATE SET epoch = excluded.epoch
    WHERE stored.epoch < excluded.epoch
)"""
_END = """
SELECT number, coalesce(raised.epoch, present.epoch), ok, free
FROM present LEFT JOIN raised USING (execution_id)"""

CHECKPOINT_TYPES = (INTEGER, TEXT, TEXT, TEXT, TEXT, JSONB, JSONB, TIMESTAMPTZ, INTEGER, JSON)
WRITE_TYPES = (INTEGER, TEXT, TEXT, TEXT, INTEGER, TEXT, TEXT, JSON)
_CHUNK_TYPES = (INTEGER, TEXT, BYTEA)

_Row = tuple[Any, ...]
_Form = Literal["none", "one", "many"]


class Draft:
    """One statement that makes commits, and what its answer means.

    Args:
        commits: The commits, without conditions. Those of one execution expect the same epoch, and
            have the same fence.
    """

    def __init__(self, commits: Sequence[Commit]) -> None:
        self._asked: dict[str, tuple[int | None, int]] = {}  # epoch, fence
        # PostgreSQL refuses to put two rows with the same key in one statement.
        self._chunks: dict[_Row, _Row] = {}
        self._checkpoints: dict[_Row, _Row] = {}
        self._writes: dict[_Row, _Row] = {}
        self._witnesses: dict[tuple[int, str], None] = {}
        numbers: dict[str, int] = {}
        for commit in commits:
            self._asked[commit.execution_id] = (commit.epoch, commit.fence or 0)
            number = numbers.setdefault(commit.execution_id, len(numbers) + 1)
            self._add(number, commit)

    def _add(self, number: int, commit: Commit) -> None:
        self._witnesses.update(dict.fromkeys((number, id) for id in commit.witnesses))
        for chunk in commit.chunks:
            self._chunks[number, chunk[0]] = (number, *chunk)
        for row in commit.checkpoints:
            self._checkpoints[number, row.namespace, row.id] = (number, *row[1:])
        for write in commit.writes:
            key = (number, *write[1:5])
            if write.idx < 0 or key not in self._writes:
                self._writes[key] = (number, *write[1:])

    def statement(self, tables: Tables) -> Statement:
        """Return the statement.

        Raises:
            InvalidInput: A value can't be sent.
        """
        (execution_id, (epoch, fence)), *others = self._asked.items()
        alone = epoch is not None and not others
        parameters: list[Packed | None] = []
        kinds = (
            (self._checkpoints, CHECKPOINT_TYPES),
            (self._writes, WRITE_TYPES),
            (self._chunks, _CHUNK_TYPES),
        )
        forms: list[_Form] = []
        try:
            if alone:
                parameters += (scalar(TEXT, execution_id), scalar(BIGINT, epoch))
                parameters += (scalar(BIGINT, next_epoch()), scalar(BIGINT, fence))
                parameters.append(array(TEXT, [id for _, id in self._witnesses]))
            else:
                epochs, fences = zip(*self._asked.values(), strict=True)
                parameters += (array(TEXT, self._asked), array(BIGINT, epochs))
                parameters.append(array(BIGINT, [next_epoch() for _ in self._asked]))
                parameters.append(array(BIGINT, fences))
                parameters.append(array(INTEGER, [number for number, _ in self._witnesses]))
                parameters.append(array(TEXT, [id for _, id in self._witnesses]))
            for keyed, types in kinds:
                rows = list(keyed.values())
                forms.append("none" if not rows else "one" if alone and len(rows) == 1 else "many")
                if forms[-1] == "one":
                    parameters += map(scalar, types, rows[0])
                elif rows:
                    parameters += map(array, types, zip(*rows, strict=True))
        except (UnicodeEncodeError, struct.error) as error:
            raise InvalidInput(f"PostgreSQL can't store this: {error}") from error
        self._check_size(parameters)
        # Only a write with a negative idx replaces another one.
        replaces = any(row[4] < 0 for row in self._writes.values())
        return Statement(_sql(tables, alone, *forms, replaces), parameters)

    def outcomes(self, rows: Rows) -> dict[str, Outcome]:
        """Return the outcome for each execution, but for those that are to be tried again."""
        found = {number: columns for number, *columns in rows}
        outcomes: dict[str, Any] = {}
        for number, (execution_id, (asked, fence)) in enumerate(self._asked.items(), 1):
            epoch, ok, free = found.get(number, (None, False, not fence))
            if ok:
                outcomes[execution_id] = epoch
            elif not free:
                outcomes[execution_id] = Leased()
            elif asked is not None or number in found:
                outcomes[execution_id] = StaleEpoch(
                    f"execution {execution_id!r} has left epoch {asked}, or lost chunks"
                )
        return outcomes

    def _check_size(self, parameters: Sequence[Packed | None]) -> None:
        size = sum(len(parameter) for parameter in parameters if parameter is not None)
        if size <= _LARGEST_MESSAGE:
            return
        sizes = [(len(data), f"the chunk {id}") for _, id, data in self._chunks.values()]
        for _, _, id, _, _, state, metadata, *_ in self._checkpoints.values():
            sizes.append((len(state), f"the state of checkpoint {id!r}"))
            sizes.append((len(metadata), f"the metadata of checkpoint {id!r}"))
        for *_, channel, value in self._writes.values():
            sizes.append((len(value), f"a pending write to {channel!r}"))
        largest, name = max(sizes)
        raise InvalidInput(
            f"PostgreSQL takes no more than 1 GB at once, and this is {size} bytes with {largest} "
            f"of them in {name}"
        )


@cache
def _sql(
    tables: Tables, alone: bool, checkpoints: _Form, writes: _Form, chunks: _Form, replaces: bool
) -> str:
    """Return the statement.

    Args:
        tables: Whose.
        alone: Whether it is for one execution whose epoch is known.
        checkpoints: The form of its checkpoints.
        writes: The form of its writes.
        chunks: The form of its chunks.
        replaces: Whether one of the writes may replace another.
    """
    sql = [tables.sql(_ONE if alone else _MANY, lease=LEASE)]
    used = 5 if alone else 6

    def add(part: str, form: _Form, types: Sequence[Type]) -> None:
        nonlocal used
        if form == "none":
            return
        dimension = "" if form == "one" else "[]"
        columns = ", ".join(
            f"${place}::{type.name}{dimension}" for place, type in enumerate(types, used + 1)
        )
        new = f"(VALUES ({columns}))" if form == "one" else f"unnest({columns})"
        sql.append(tables.sql(part, new=new, of_present=_OF_ONE if alone else _OF_MANY))
        used += len(types)

    add(_CHECKPOINTS, checkpoints, CHECKPOINT_TYPES)
    add(_WRITES, writes, WRITE_TYPES)
    replacing = ["put_checkpoints"] if checkpoints != "none" else []
    replacing += ["put_writes"] if replaces else []
    selects = [f"SELECT execution_id FROM {name} WHERE replaced" for name in replacing]  # noqa: S608 -- constants
    raised = _RAISED if replacing else _NOT_RAISED
    sql.append(tables.sql(raised, replacing=" UNION ALL ".join(selects)))
    add(_CHUNKS, chunks, _CHUNK_TYPES)
    return "".join([*sql, _END])
