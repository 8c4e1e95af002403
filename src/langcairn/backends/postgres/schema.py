"""The tables of the PostgreSQL backend: their names, their making, and whether they are ours.

The layout has a version, kept in a table `langcairn_schema` beside the others. To change it, add
a migration to `_MIGRATIONS`: what turns version n into n + 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from psycopg.types.numeric import Int8

from langcairn.backends.postgres.values import TEXT, Statement, array
from langcairn.errors import InvalidInput, StoreMisconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.postgres.values import Plan

SCHEMA_VERSION = 2

_REGISTRY = "langcairn_schema"
_SIDE_TABLES = ("chunk", "write", "execution")
_LONGEST_IDENTIFIER = 63  # [bytes] PostgreSQL cuts longer ones off, and two become one
_MOST_PARTITIONS = 1024
_PARTITION_SUFFIX = "_p1023"
# Any number that no other program is likely to use for its advisory locks.
_LOCK = 0x6C616E676361_6972  # "langcair"

# Every key starts with the execution, which thereby is what the tables can be partitioned or
# distributed by. COLLATE "C" compares bytes, as Python compares strings, and as index scans for
# prefixes and ranges need it.
#
# Chunks are compressed already (EXTERNAL: don't try again; said by ALTER, because CREATE TABLE
# understands it only from PostgreSQL 16 on). Up to PostgreSQL's own limit of 2 kB
# they stay in the row: 200 turns of an agent take 3.4 MB so, and 3.6 MB with a limit of 4 or 8 kB.
_TABLES = """
CREATE TABLE {checkpoints} (
    execution_id text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL DEFAULT '',
    id text COLLATE "C" NOT NULL,
    parent_id text COLLATE "C",
    node_name text NOT NULL DEFAULT '',
    state jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{{}}',
    timestamp timestamptz NOT NULL DEFAULT now(),
    version integer NOT NULL DEFAULT 1,
    graph json NOT NULL DEFAULT '{{}}',
    replaced boolean NOT NULL DEFAULT false,
    PRIMARY KEY (execution_id, namespace, id)
){partitioned};
CREATE INDEX {execution_index} ON {checkpoints} (execution_id, id);
CREATE INDEX {id_index} ON {checkpoints} (id);
CREATE TABLE {executions} (
    execution_id text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    lease_token bigint NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    lease_ttl bigint NOT NULL DEFAULT 0
){partitioned};
CREATE TABLE {chunks} (
    execution_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (execution_id, id)
){partitioned};
ALTER TABLE {chunks} ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE {writes} (
    execution_id text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    idx integer NOT NULL,
    task_path text NOT NULL,
    channel text NOT NULL,
    value json NOT NULL,
    replaced boolean NOT NULL DEFAULT false,
    PRIMARY KEY (execution_id, namespace, checkpoint_id, task_id, idx)
){partitioned}"""

_MIGRATIONS: dict[int, str] = {
    1: """
ALTER TABLE {executions} ADD COLUMN lease_token bigint NOT NULL DEFAULT 0,
    ADD COLUMN lease_owner text,
    ADD COLUMN lease_until timestamptz,
    ADD COLUMN lease_ttl bigint NOT NULL DEFAULT 0
""",
}
"""Version to the statements, separated by ``;`` and a line break, that lead to the next one."""


class Tables(NamedTuple):
    """The names of one store's tables and indexes: quoted for SQL, and the tables with schema."""

    checkpoints: str
    chunks: str
    writes: str
    executions: str
    registry: str
    execution_index: str
    id_index: str

    def sql(self, template: str, *places: str, **parts: str) -> str:
        """Fill the names, and whatever else the template has a place for, into a statement."""
        return _filled(self, template, places, tuple(parts.items()))


@lru_cache(maxsize=512)  # the same few statements are made for every request
def _filled(
    tables: Tables, template: str, places: tuple[str, ...], parts: tuple[tuple[str, str], ...]
) -> str:
    return template.format(*places, **tables._asdict(), **dict(parts))


class Schema:
    """The tables of one store, and what makes them.

    Args:
        table_name: The table of checkpoints. A plural gives the others plurals too
            (``checkpoints``: ``checkpoint_chunks``), any other name gives them singulars
            (``trail``: ``trail_chunk``), so that two names never share a table.
        schema: PostgreSQL's schema that they are in; None: what the search path says.

    Raises:
        InvalidInput: A name can't be used, or is kept for another table.
    """

    def __init__(self, table_name: str, schema: str | None) -> None:
        _check_name(table_name, "table", spare=len(f"idx__execution_id{_PARTITION_SUFFIX}"))
        if schema is not None:
            _check_name(schema, "schema")
        reserved = tuple(f"_{side}{plural}" for side in _SIDE_TABLES for plural in ("", "s"))
        if table_name == _REGISTRY or table_name.endswith(reserved):
            raise InvalidInput(
                f"{table_name!r} can't name the table of checkpoints: it may be a side table of "
                f"another store. Choose a name that doesn't end in {', '.join(reserved)}"
            )
        stem, plural = (table_name[:-1], "s") if table_name.endswith("s") else (table_name, "")
        self._schema = schema
        self._table_name = table_name
        self._names = [table_name, *(f"{stem}_{side}{plural}" for side in _SIDE_TABLES)]
        indexes = (f"idx_{table_name}_{column}" for column in ("execution_id", "id"))
        self.tables = Tables(*map(self._placed, [*self._names, _REGISTRY]), *map(_quoted, indexes))

    def _placed(self, name: str) -> str:
        return _quoted(name) if self._schema is None else f"{_quoted(self._schema)}.{_quoted(name)}"

    def ensure(self) -> Plan[None]:
        """Make the tables if they aren't there, and check that they are what this code knows.

        Raises:
            StoreMisconfigured: They can't be made, have a newer version, or are another program's.
        """
        if (yield from self._version()) != SCHEMA_VERSION:
            yield from self.make(None)

    def make(self, partitions: int | None) -> Plan[None]:
        """Make the tables or bring them up to date. Any number of processes may do so at once.

        Args:
            partitions: Into how many parts to divide each table by a hash of the execution;
                None: not at all if they are made here, as they are otherwise.

        Raises:
            InvalidInput: There can't be that many.
            StoreMisconfigured: As `ensure`; or the tables are there, divided otherwise.
        """
        if partitions is not None and not 1 <= partitions <= _MOST_PARTITIONS:
            raise InvalidInput(f"partitions={partitions!r}: from 1 to {_MOST_PARTITIONS}")
        yield Statement("BEGIN ISOLATION LEVEL READ COMMITTED")
        # Held until the transaction ends. CREATE … IF NOT EXISTS alone fails in such a race.
        yield Statement("SELECT pg_advisory_xact_lock($1)", [Int8(_LOCK)])
        version = yield from self._version()
        if version is None:
            yield from self._refuse_foreign()
            yield from self._create(partitions)
        else:
            yield from self._migrate(version)
        yield Statement("COMMIT")
        if partitions is not None and version is not None:
            yield from self._check_partitions(partitions)

    def _create(self, partitions: int | None) -> Plan[None]:
        try:
            for sql in self.statements(partitions):
                yield Statement(sql)
        except StoreMisconfigured as error:
            raise StoreMisconfigured(
                f"the tables of {self._table_name!r} can't be made: {error}. If the role has no "
                "right to, let their owner run what schema_sql() returns; see docs/postgresql.md"
            ) from error

    def statements(self, partitions: int | None = None) -> Iterator[str]:
        """Yield the statements that make the tables."""
        if self._schema is not None:
            yield f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)}"
        partitioned = "" if partitions is None else " PARTITION BY HASH (execution_id)"
        yield from self.tables.sql(_TABLES, partitioned=partitioned).strip().split(";\n")
        for name in self._names:
            for number in range(partitions or 0):
                yield (
                    f"CREATE TABLE {self._placed(f'{name}_p{number}')} PARTITION OF "
                    f"{self._placed(name)} "
                    f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
                )
        yield (
            f"CREATE TABLE IF NOT EXISTS {self.tables.registry} "
            "(table_name text PRIMARY KEY, version integer NOT NULL)"
        )
        yield (
            f"INSERT INTO {self.tables.registry} (table_name, version) "  # noqa: S608 -- quoted
            f"VALUES ({_literal(self._table_name)}, {SCHEMA_VERSION})"
        )

    def _version(self) -> Plan[int | None]:
        """Return the version of the tables; None if they aren't there."""
        # to_regclass() alone may answer from before the lock: only what opens a table makes the
        # server look for news about its catalogs.
        ((found,),) = yield Statement(
            "SELECT count(*) FROM pg_class WHERE oid = to_regclass($1)", [self.tables.registry]
        )
        if not found:
            return None
        rows = yield Statement(
            f"SELECT version FROM {self.tables.registry} WHERE table_name = $1",  # noqa: S608 -- quoted
            [self._table_name],
        )
        return rows[0][0] if rows else None

    def _migrate(self, version: int) -> Plan[None]:
        if version > SCHEMA_VERSION:
            raise StoreMisconfigured(
                f"the table {self._table_name!r} has schema version {version}, but this langcairn "
                f"knows only versions up to {SCHEMA_VERSION}: update langcairn"
            )
        for number in range(version, SCHEMA_VERSION):
            for sql in self.tables.sql(_MIGRATIONS[number]).strip().split(";\n"):
                yield Statement(sql)
        if version < SCHEMA_VERSION:
            yield Statement(
                f"UPDATE {self.tables.registry} SET version = {SCHEMA_VERSION} "  # noqa: S608 -- quoted
                "WHERE table_name = $1",
                [self._table_name],
            )

    def _refuse_foreign(self) -> Plan[None]:
        """Refuse tables of these names that langcairn did not make."""
        rows = yield Statement(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = ANY "
            "(SELECT to_regclass(name) FROM unnest($1::text[]) AS name) AND attnum > 0",
            [array(TEXT, self.tables[:4])],
        )
        columns = {column for (column,) in rows}
        if not columns:
            return
        if {"thread_id", "checkpoint_ns"} <= columns:
            raise StoreMisconfigured(
                f"there are tables of langgraph-checkpoint-postgres named {self._table_name!r} or "
                "alike, with another layout: choose another table_name or another schema"
            )
        if {"id", "execution_id", "node_name", "state"} <= columns and "namespace" not in columns:
            raise StoreMisconfigured(
                f"the table {self._table_name!r} was made by LangGraphGo and lacks columns that "
                "langcairn needs: choose another table_name or another schema"
            )
        raise StoreMisconfigured(
            f"there are tables named {self._table_name!r} or alike that langcairn did not make: "
            "choose another table_name or another schema"
        )

    def _check_partitions(self, partitions: int) -> Plan[None]:
        ((found,),) = yield Statement(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass($1)",
            [self.tables.checkpoints],
        )
        if found != partitions:
            raise StoreMisconfigured(
                f"the table {self._table_name!r} is there already, with {found} partitions"
            )


def _check_name(name: str, what: str, spare: int = 0) -> None:
    if not isinstance(name, str) or not name or "\0" in name:
        raise InvalidInput(f"{name!r} can't name a {what}: it is empty or contains NUL")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name!r} can't name a {what}: it is no valid Unicode") from error
    most = _LONGEST_IDENTIFIER - spare
    if size > most:
        raise InvalidInput(f"{name!r} can't name a {what}: it has {size} bytes, the most is {most}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    # With a backslash in it, a plain literal would depend on standard_conforming_strings.
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
