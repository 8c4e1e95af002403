"""The SQLite backend: its tables, those of others, and its options."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from tests.sqlite_rows import WAIT, chunk, fetch, find, ids, put, row, write

from langcairn.backends.base import AcquireLease, Commit
from langcairn.backends.sqlite import SqliteBackend
from langcairn.errors import (
    CorruptData,
    InvalidInput,
    LeaseHeld,
    StoreMisconfigured,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(path)) as backend:
        yield backend


class TestTables:
    def test_columns_and_index(self, backend: SqliteBackend, path: Path) -> None:
        find(backend)
        with closing(sqlite3.connect(path)) as connection:
            columns = connection.execute("PRAGMA table_info(checkpoints)").fetchall()
            assert [(column[1], column[2]) for column in columns] == [
                ("id", "TEXT"),
                ("execution_id", "TEXT"),
                ("node_name", "TEXT"),
                ("state", "TEXT"),
                ("metadata", "TEXT"),
                ("timestamp", "DATETIME"),
                ("version", "INTEGER"),
                ("namespace", "TEXT"),
                ("parent_id", "TEXT"),
                ("graph", "TEXT"),
            ]
            keys = {column[1] for column in columns if column[5]}
            assert keys == {"execution_id", "namespace", "id"}
            index = connection.execute("PRAGMA index_info(idx_checkpoints_execution_id)").fetchall()
            assert index[0][2] == "execution_id"
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            assert {name for (name,) in tables} == {
                "checkpoints",
                "checkpoint_chunks",
                "checkpoint_writes",
                "checkpoint_executions",
                "langcairn_schema",
            }

    def test_state_and_metadata_can_be_queried_in_sql(
        self, backend: SqliteBackend, path: Path
    ) -> None:
        put(backend, row("1", state=b'{"step":{"n":3}}', metadata=b'{"source":"loop"}'))
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute(
                "SELECT typeof(state), json_extract(state, '$.step.n') FROM checkpoints "
                "WHERE metadata ->> 'source' = 'loop' AND date(timestamp) = '2026-01-02'"
            ).fetchall()
        assert found == [("text", 3)]

    @pytest.mark.parametrize(
        "name", ["s", "trail", "check points", 'a"b', "a'b", "{x}", "a;\nb", "é"]
    )
    def test_any_table_name(self, path: Path, name: str) -> None:
        for _ in range(2):
            with closing(SqliteBackend(path, name)) as backend:
                backend.execute(Commit("e", None, [chunk("c")], [row("1")], [write("1", "t", 0)]))
                assert ids(find(backend)) == ["1"]
                assert fetch(backend, "c")

    @pytest.mark.parametrize(
        "name",
        [
            *("", "a\0b", "\ud800", "sqlite_x", "SQLITE_x", "langcairn_schema"),
            *("checkpoint_chunks", "X_Writes", "x_execution"),
        ],
    )
    def test_names_that_are_refused(self, path: Path, name: str) -> None:
        with pytest.raises(InvalidInput, match="can't name"):
            SqliteBackend(path, name)

    def test_stores_in_one_file_share_nothing(self, path: Path) -> None:
        names = ["checkpoints", "checkpoint", "checkpointss", "checkpoint_", "checkpoint_s", "a"]
        backends = [SqliteBackend(path, name) for name in names]
        for name, backend in zip(names, backends, strict=True):
            put(backend, row(name))
            backend.execute(Commit("e", None, [chunk(name)]))
        for name, backend in zip(names, backends, strict=True):
            assert ids(find(backend)) == [name]
            assert list(fetch(backend, *names)) == [name]
            backend.close()
        with closing(SqliteBackend(path, "CheckPoints")) as same:
            assert ids(find(same)) == ["checkpoints"]

    def test_tables_of_others_stay(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE mine (a)")
            connection.execute("PRAGMA user_version = 7")
        with closing(SqliteBackend(path)) as backend:
            put(backend, row("1"))
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT COUNT(*) FROM mine").fetchone() == (0,)
            assert connection.execute("PRAGMA user_version").fetchone() == (7,)

    def test_the_official_savers_table_is_refused(self, path: Path) -> None:
        with SqliteSaver.from_conn_string(str(path)) as saver:
            saver.setup()
        with closing(SqliteBackend(path)) as backend:
            for attempt in (lambda: find(backend), lambda: put(backend, row("1"))):
                with pytest.raises(
                    StoreMisconfigured, match=r"langgraph-checkpoint-sqlite.*table_name"
                ):
                    attempt()
        with closing(SqliteBackend(path, "trail")) as backend:
            put(backend, row("1"))

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (
                "id TEXT PRIMARY KEY, execution_id TEXT, node_name TEXT, state TEXT, "
                "metadata TEXT, timestamp DATETIME, version INTEGER",
                "LangGraphGo",
            ),
            ("name TEXT", "not made by langcairn"),
        ],
    )
    def test_another_programs_table_is_refused(
        self, path: Path, columns: str, message: str
    ) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE checkpoints ({columns})")
        with (
            closing(SqliteBackend(path)) as backend,
            pytest.raises(StoreMisconfigured, match=message),
        ):
            find(backend)

    def test_a_newer_schema_is_refused(self, backend: SqliteBackend, path: Path) -> None:
        put(backend, row("1"))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE langcairn_schema SET version = 99")
        with closing(SqliteBackend(path)) as older, pytest.raises(StoreMisconfigured) as caught:
            find(older)
        assert "version 99" in str(caught.value)
        assert "update langcairn" in str(caught.value)

    def test_an_older_schema_is_migrated(self, backend: SqliteBackend, path: Path) -> None:
        epoch = put(backend, row("1"))
        backend.close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE langcairn_schema SET version = 1")
            for column in ("token", "owner", "until", "ttl"):
                connection.execute(f"ALTER TABLE checkpoint_executions DROP COLUMN lease_{column}")
        with closing(SqliteBackend(path)) as newer, closing(SqliteBackend(path)) as other:
            token: Any = newer.execute(AcquireLease("e", "owner", 60))
            with pytest.raises(LeaseHeld):
                put(other, row("2"))
            newer.execute(Commit("e", epoch, (), [row("2")], fence=token))
            assert ids(find(other)) == ["2", "1"]

    def test_a_dropped_table_is_an_error(self, backend: SqliteBackend, path: Path) -> None:
        put(backend, row("1"))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TABLE checkpoint_chunks")
        with pytest.raises(StoreMisconfigured, match="no such table"):
            fetch(backend, "c")

    @pytest.mark.parametrize(
        ("table", "change"),
        [
            ("checkpoints", "timestamp = 'yesterday'"),
            ("checkpoints", "timestamp = 7"),
            ("checkpoints", "version = 'one'"),
            ("checkpoints", "node_name = x'00'"),
            ("checkpoints", "id = x'00' WHERE id = '1'"),
            ("checkpoints", "node_name = CAST(x'ff' AS TEXT)"),
            ("checkpoint_writes", "channel = x'00'"),
        ],
    )
    def test_a_damaged_row_is_an_error(
        self, backend: SqliteBackend, path: Path, table: str, change: str
    ) -> None:
        backend.execute(Commit("e", None, (), [row("0"), row("1")], [write("1", "t", 0)]))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE {table} SET {change}")
        with pytest.raises(CorruptData):
            find(backend)


class TestOptions:
    @pytest.mark.parametrize(
        ("level", "number"), [("OFF", 0), ("NORMAL", 1), ("FULL", 2), ("EXTRA", 3)]
    )
    def test_synchronous(self, path: Path, level: Any, number: int) -> None:
        with closing(SqliteBackend(path, synchronous=level)) as backend:
            put(backend, row("1"))
            assert backend._writer is not None
            assert backend._writer.execute("PRAGMA synchronous").fetchone() == (number,)
            assert backend._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_cache_size_of_readers_and_writer(self, path: Path) -> None:
        with closing(SqliteBackend(path, cache_size=-123)) as backend:
            put(backend, row("1"))
            find(backend)
            for connection in (backend._writer, *backend._idle):
                assert connection is not None
                assert connection.execute("PRAGMA cache_size").fetchone() == (-123,)

    @pytest.mark.parametrize(
        "options",
        [
            {"synchronous": "MOSTLY"},
            {"cache_size": 2**31},
            {"max_threads": 0},
            {"busy_timeout": -1},
            {"busy_timeout": float("nan")},
            {"busy_timeout": timedelta(days=1000)},
        ],
    )
    def test_bad_options(self, path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput):
            SqliteBackend(path, **options)

    @pytest.mark.parametrize("timeout", [0.05, timedelta(milliseconds=50)])
    def test_a_busy_database_is_unavailable_after_a_while(self, path: Path, timeout: Any) -> None:
        with (
            closing(SqliteBackend(path, busy_timeout=timeout)) as backend,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            put(backend, row("1"))
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable) as caught:
                put(backend, row("2"))
            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            assert ids(find(backend)) == ["1"], "reading needs no lock"
            other.execute("ROLLBACK")
            put(backend, row("2"))

    def test_a_busy_database_is_waited_for(self, backend: SqliteBackend, path: Path) -> None:
        put(backend, row("1"))
        with (
            closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
            ThreadPoolExecutor(1) as pool,
        ):
            other.execute("BEGIN IMMEDIATE")
            waiting = pool.submit(put, backend, row("2"))
            time.sleep(0.1)
            assert not waiting.done()
            other.execute("ROLLBACK")
            waiting.result(WAIT)
        assert ids(find(backend)) == ["2", "1"]
