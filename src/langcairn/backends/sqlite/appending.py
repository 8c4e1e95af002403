"""The statement of the usual commit (see `Commit.is_usual`), which needs no transaction around it.

By itself it is one: it takes what the general way does in four statements and more. It looks at the
execution's epoch and lease like that, but can't say why it added nothing. Then the general way is
gone, which sorts that out, as if this statement had never been.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from langcairn.backends.sqlite.values import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import Commit
    from langcairn.backends.sqlite.schema import Tables

_ADD = """
INSERT INTO {table} ({execution}, {columns}) SELECT {same}, {values}
FROM {executions}{rows}
WHERE execution_id = ? AND epoch = ?
    AND CASE WHEN lease_owner IS NULL THEN 0 ELSE lease_token END = ?
ON CONFLICT DO NOTHING"""
_CHECKPOINT = "namespace, id, parent_id, node_name, state, metadata, timestamp, version, graph"
_WRITE = "namespace, checkpoint_id, task_id, idx, task_path, channel, value"
# SQLite's limit on variables could be as low as 999.
_MOST_WRITES = 100


def addition(tables: Tables, commit: Commit) -> tuple[str, Sequence[object]] | None:
    """Return the statement for a commit, with its parameters; it adds a row if it was made.

    None: the commit is not of this kind.
    """
    if not commit.is_usual or len(commit.writes) > _MOST_WRITES:
        return None
    parameters: list[object]
    if commit.checkpoints:
        parameters = [*columns_of(commit.checkpoints[0])[1:]]
    else:
        parameters = []
        for write in commit.writes:
            parameters += write[1:7]
            parameters.append(write.value.decode())
    parameters += (commit.execution_id, commit.epoch, commit.fence or 0)
    return _sql(tables, len(commit.writes)), parameters


@cache
def _sql(tables: Tables, writes: int) -> str:
    """Return the statement for a number of writes; for 0 that for a checkpoint."""
    if not writes:
        return tables.sql(
            _ADD,
            table=tables.checkpoints,
            execution="execution_id",
            columns=_CHECKPOINT,
            same="execution_id",
            values=_places(_CHECKPOINT),
            rows="",
        )
    row = f"({_places(_WRITE)})"
    return tables.sql(
        _ADD,
        table=tables.writes,
        execution="execution",
        columns=_WRITE,
        same="number",
        values=", ".join(f"column{place}" for place in range(1, _WRITE.count(",") + 2)),
        rows=f" CROSS JOIN (VALUES {', '.join([row] * writes)})",
    )


def _places(columns: str) -> str:
    return ", ".join("?" for _ in columns.split(","))
