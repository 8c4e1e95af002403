"""The statement of the usual commit, which only adds rows to an execution whose epoch is known.

That is a checkpoint, or the writes of a task, all of whose chunks are stored already. One INSERT
does it, which costs the server less than the general statement (see `drafts`). It locks the
execution's row and looks at its epoch and lease just like that, but can't say why it added nothing:
because the epoch is another one, or because the rows are there. Then the general statement is run,
which sorts that out, as if this one had never been.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING

from langcairn.backends.postgres.drafts import CHECKPOINT_TYPES, LEASE, WRITE_TYPES
from langcairn.backends.postgres.values import BIGINT, TEXT, Statement, array, scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import Commit
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Type

_ADD = """
INSERT INTO {table} (execution_id, {columns})
SELECT execution_id, {columns}
FROM {executions} AS present CROSS JOIN {new} AS new ({columns})
WHERE execution_id = $1::text AND epoch = $2::bigint AND {lease} = $3::bigint{witnessed}
FOR NO KEY UPDATE OF present
ON CONFLICT (execution_id, {key}) DO NOTHING
RETURNING 1"""
_WITNESSED = """ AND NOT EXISTS (
    SELECT FROM unnest($4::text[]) AS witness (id) WHERE NOT EXISTS (
        SELECT FROM {chunks} AS c WHERE c.execution_id = $1::text AND c.id = witness.id))"""
# Behind the number of the execution in the general statement.
_CHECKPOINT_TYPES, _WRITE_TYPES = CHECKPOINT_TYPES[1:], WRITE_TYPES[1:]
_CHECKPOINT = "namespace, id, parent_id, node_name, state, metadata, timestamp, version, graph"
_WRITE = "namespace, checkpoint_id, task_id, idx, task_path, channel, value"

# What this saves is nothing beside the time that more takes; and PostgreSQL has its limits.
_LARGE = 2**20  # [bytes]


def addition(tables: Tables, commit: Commit) -> Statement | None:
    """Return the statement for a commit, which answers with a row if it was made.

    None: the commit is not of this kind.
    """
    if not commit.is_usual:
        return None
    try:
        parameters = [
            scalar(TEXT, commit.execution_id),
            scalar(BIGINT, commit.epoch),
            scalar(BIGINT, commit.fence or 0),
        ]
        if commit.witnesses:
            parameters.append(array(TEXT, commit.witnesses))
        if commit.checkpoints:
            parameters += map(scalar, _CHECKPOINT_TYPES, commit.checkpoints[0][1:])
        else:
            columns = zip(*commit.writes, strict=True)
            next(columns)  # the execution id
            parameters += map(array, _WRITE_TYPES, columns)
    except (UnicodeEncodeError, struct.error):
        return None  # the general statement says what can't be stored
    if sum(len(parameter) for parameter in parameters if parameter is not None) > _LARGE:
        return None
    sql = _sql(tables, bool(commit.checkpoints), bool(commit.witnesses))
    return Statement(sql, parameters)


@cache
def _sql(tables: Tables, checkpoint: bool, witnessed: bool) -> str:
    types = _CHECKPOINT_TYPES if checkpoint else _WRITE_TYPES
    first = 5 if witnessed else 4
    return tables.sql(
        _ADD,
        table=tables.checkpoints if checkpoint else tables.writes,
        columns=_CHECKPOINT if checkpoint else _WRITE,
        key="namespace, id" if checkpoint else "namespace, checkpoint_id, task_id, idx",
        new=_values(types, first) if checkpoint else _unnested(types, first),
        lease=LEASE,
        witnessed=tables.sql(_WITNESSED) if witnessed else "",
    )


def _values(types: Sequence[Type], first: int) -> str:
    casts = ", ".join(f"${place}::{type.name}" for place, type in enumerate(types, first))
    return f"(VALUES ({casts}))"


def _unnested(types: Sequence[Type], first: int) -> str:
    casts = ", ".join(f"${place}::{type.name}[]" for place, type in enumerate(types, first))
    return f"unnest({casts})"
