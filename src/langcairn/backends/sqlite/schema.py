"""The tables of the SQLite backend: their names, their making, and the check that they are ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from langcairn.errors import InvalidInput, StoreMisconfigured

if TYPE_CHECKING:
    import sqlite3

SCHEMA_VERSION = 2

_REGISTRY = "langcairn_schema"
"""One table per file that says which version each set of tables has. Not ``user_version``: that is
one number for the whole file, and belongs to whoever owns it."""

_SIDE_TABLES = ("chunk", "write", "execution")

# Checkpoints and chunks are rowid tables: most of their rows are larger than the quarter of a page
# that fits into a WITHOUT ROWID leaf, and each that doesn't fit takes an overflow page of its own.
# 1,000 commits of a 1 kB row and three chunks of 0.1-3 kB: 5.7 MB this way, 7.2 MB with chunks and
# 9.3 MB with checkpoints WITHOUT ROWID, and 10-25 % slower. Writes are small, and mostly key.
#
# The primary key begins with the id, since checkpoints are also found by id alone, in this order:
# so two indexes do the work of three. Side tables name an execution by its number: a thread id of
# 36 characters in each of their keys costs 5 % of the file.
_SCHEMA = """
CREATE TABLE {checkpoints} (
    id TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    node_name TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{{}}',
    timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
    version INTEGER NOT NULL DEFAULT 1,
    namespace TEXT NOT NULL DEFAULT '',
    parent_id TEXT,
    graph TEXT NOT NULL DEFAULT '{{}}',
    PRIMARY KEY (id, execution_id, namespace)
);
CREATE INDEX {execution_index} ON {checkpoints} (execution_id, namespace, id);
CREATE TABLE {executions} (
    number INTEGER PRIMARY KEY,
    execution_id TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    lease_token INTEGER NOT NULL DEFAULT 0,
    lease_owner TEXT,
    lease_until INTEGER NOT NULL DEFAULT 0,
    lease_ttl INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE {chunks} (
    execution INTEGER NOT NULL,
    id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (execution, id)
);
CREATE TABLE {writes} (
    execution INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    task_path TEXT NOT NULL,
    channel TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (execution, namespace, checkpoint_id, task_id, idx)
) WITHOUT ROWID
"""

_MIGRATIONS: dict[int, str] = {
    1: """
ALTER TABLE {executions} ADD COLUMN lease_token INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {executions} ADD COLUMN lease_owner TEXT;
ALTER TABLE {executions} ADD COLUMN lease_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {executions} ADD COLUMN lease_ttl INTEGER NOT NULL DEFAULT 0
""",
}
"""Version to the statements, separated by ``;`` and a line break, that lead to the next one."""


class Tables(NamedTuple):
    """The names of one store's tables and index, quoted for SQL."""

    checkpoints: str
    execution_index: str
    chunks: str
    writes: str
    executions: str

    def sql(self, template: str, **parts: str) -> str:
        """Fill the names, and whatever else the template has a place for, into a statement."""
        return template.format(**self._asdict(), **parts)


def tables_of(table_name: str) -> Tables:
    """Derive the names of all tables from that of the checkpoints.

    A plural gets plurals (``checkpoints``: ``checkpoint_chunks``), any other name gets singulars
    (``trail``: ``trail_chunk``), so that two names never share a side table.

    Raises:
        InvalidInput: The name can't be one of a table, or is kept for another table.
    """
    if not table_name or "\0" in table_name:
        raise InvalidInput(f"{table_name!r} can't name a table: it is empty or contains NUL")
    try:
        table_name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{table_name!r} can't name a table: it is no valid Unicode") from error
    lower = table_name.lower()
    if lower.startswith("sqlite_"):
        raise InvalidInput(f"{table_name!r} can't name a table: SQLite keeps sqlite_… for itself")
    reserved = tuple(f"_{side}{plural}" for side in _SIDE_TABLES for plural in ("", "s"))
    if lower == _REGISTRY or lower.endswith(reserved):
        raise InvalidInput(
            f"{table_name!r} can't name the table of checkpoints: it may be a side table of "
            f"another store. Choose a name that doesn't end in {', '.join(reserved)}"
        )
    stem, plural = (table_name[:-1], "s") if table_name[-1] in "sS" else (table_name, "")
    chunks, writes, executions = (f"{stem}_{side}{plural}" for side in _SIDE_TABLES)
    return Tables(
        _quoted(table_name),
        _quoted(f"idx_{table_name}_execution_id"),
        _quoted(chunks),
        _quoted(writes),
        _quoted(executions),
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def prepare(connection: sqlite3.Connection, table_name: str, tables: Tables) -> None:
    """Make the tables, or bring them up to date, and refuse those that this code can't work with.

    Any number of processes may do so at once. After an error the connection must be closed.

    Raises:
        StoreMisconfigured: The file holds a newer schema, or another program's table.
    """
    if _version(connection, table_name) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection, table_name)  # another process may have been faster
    if version is None:
        _refuse_foreign(connection, table_name, tables)
        _execute_all(connection, tables, _SCHEMA)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_REGISTRY} "
            "(table_name TEXT PRIMARY KEY COLLATE NOCASE, version INTEGER NOT NULL)"
        )
    for number in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
        _execute_all(connection, tables, _MIGRATIONS[number])
    connection.execute(
        f"INSERT INTO {_REGISTRY} VALUES (?, ?) "  # noqa: S608 -- a constant
        "ON CONFLICT (table_name) DO UPDATE SET version = excluded.version",
        (table_name, SCHEMA_VERSION),
    )
    connection.execute("COMMIT")


def _execute_all(connection: sqlite3.Connection, tables: Tables, statements: str) -> None:
    for statement in statements.split(";\n"):
        connection.execute(tables.sql(statement))


def _version(connection: sqlite3.Connection, table_name: str) -> int | None:
    """Return the version of the tables; None if they aren't there.

    Raises:
        StoreMisconfigured: It is newer than this code.
    """
    known = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (_REGISTRY,)
    ).fetchone()
    if known is None:
        return None
    row = connection.execute(
        f"SELECT version FROM {_REGISTRY} WHERE table_name = ?",  # noqa: S608 -- a constant
        (table_name,),
    ).fetchone()
    if row is None:
        return None
    if type(row[0]) is not int or not 1 <= row[0] <= SCHEMA_VERSION:
        raise StoreMisconfigured(
            f"the table {table_name!r} has schema version {row[0]}, but this langcairn knows only "
            f"versions up to {SCHEMA_VERSION}: update langcairn"
        )
    return row[0]


def _refuse_foreign(connection: sqlite3.Connection, table_name: str, tables: Tables) -> None:
    """Refuse a table of this name that langcairn did not make."""
    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({tables.checkpoints})")}
    if not columns:
        return
    if {"thread_id", "checkpoint_ns"} <= columns:
        raise StoreMisconfigured(
            f"the table {table_name!r} was made by langgraph-checkpoint-sqlite and has another "
            "layout: choose another table_name or another file"
        )
    if {"id", "execution_id", "node_name", "state"} <= columns and "namespace" not in columns:
        raise StoreMisconfigured(
            f"the table {table_name!r} was made by LangGraphGo and lacks columns that langcairn "
            "needs: choose another table_name or another file"
        )
    raise StoreMisconfigured(
        f"the table {table_name!r} was not made by langcairn: choose another table_name"
    )
