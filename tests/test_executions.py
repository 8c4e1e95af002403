"""Executions are found by an index on every backend: plans of databases, commands, files read."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.file_storage import FileStorage
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage
from tests.redis_storage import RedisStorage
from tests.valkey_server import ValkeyServer

from langcairn import SqliteCheckpointStore, ThreadId
from langcairn.backends.base import Clear, Commit, FindExecutions
from langcairn.backends.file import catalog
from langcairn.backends.file.directory import Directory, words_of
from langcairn.backends.file.log import Log
from langcairn.backends.postgres.queries import answer
from langcairn.backends.postgres.schema import Schema
from langcairn.backends.sqlite.queries import Queries
from langcairn.backends.sqlite.schema import tables_of
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.backends.base import Backend

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def thread(user: str, n: int) -> str:
    return str(ThreadId(user, "chat", NOON + timedelta(hours=n), f"{n:016x}"))


def make(backend: Backend, users: list[str], each: int) -> None:
    for user in users:
        for n in range(each):
            backend.execute(Commit(thread(user, n), None))


# Databases


@pytest.mark.parametrize("name", ["executions", "executions before"])
def test_sqlite_searches_its_index(tmp_path: Path, name: str) -> None:
    path = tmp_path / "test.db"
    with SqliteCheckpointStore(path, synchronous="OFF") as store:
        make(store.backend, ["a", "b"], 20)
    sql = Queries(tables_of("checkpoints"))._sql[name]
    with closing(sqlite3.connect(path)) as connection:
        values = {"after": "a", "before": "b", "limit": 5}
        (row,) = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    assert "SEARCH" in row[3]
    assert "USING COVERING INDEX" in row[3]
    bounds = "execution_id>?" + (" AND execution_id<?" if "before" in name else "")
    assert f"({bounds})" in row[3]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("partitions", [None, 3])
def test_postgres_scans_its_index(
    postgres: PostgresServer, partitions: int | None, plan: str
) -> None:
    with PostgresStorage(postgres.url()) as storage:
        backend: Any = storage.backend
        backend.init_schema(partitions=partitions)
        storage.ask(
            "INSERT INTO checkpoint_executions SELECT 'user' || n % 20 || '~chat~' || n, 1"
            " FROM generate_series(1, 40000) AS n"
        )
        storage.vacuum("checkpoint_executions")
        tables = Schema("checkpoints", storage.schema).tables
        for query in (
            FindExecutions("user7~", 32, "user7\x7f"), FindExecutions("user7~", 32),
            FindExecutions("user7~chat~20", 10_000, "user7\x7f"), FindExecutions("", 1),
        ):  # fmt: skip
            sql, parameters = next(answer(tables, query))
            values = ", ".join(["%s"] * len(parameters))
            with psycopg.connect(postgres.url(), cursor_factory=psycopg.ClientCursor) as connection:
                connection.execute(f"SET plan_cache_mode = {plan}".encode())
                connection.execute(f"PREPARE request AS {sql}".encode())
                explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE request ({values})"
                row: Any = connection.execute(explain.encode(), parameters).fetchone()
            # Drivers send values apart, so a plan may be made without looking at them.
            assert ("$1" in str(row)) == (plan == "force_generic_plan")
            nodes = list(nodes_of(row[0][0]["Plan"]))
            assert {node["Node Type"] for node in nodes} <= {
                "Limit", "Index Only Scan", "Index Scan", "Merge Append",
            }  # fmt: skip
            read = sum(node["Actual Rows"] for node in nodes if "Scan" in node["Node Type"])
            assert 0 < read <= (query.limit or 0) + (partitions or 0)
            filters = [node for node in nodes if "Filter" in node]
            assert not filters  # both ends are ends of the scan


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


# Redis


def test_redis_reads_ranges_of_its_registers() -> None:
    with (
        ValkeyServer() as server,
        server.client() as client,
        RedisStorage(server.url, client) as storage,
    ):
        store = storage.open()
        make(store.backend, ["a", "b"], 50)
        client.config_resetstat()
        found = store.executions(user_id="a", since=NOON + timedelta(hours=45))
        assert found == [thread("a", n) for n in range(45, 50)]
        calls = {
            name.removeprefix("cmdstat_"): stat["calls"]
            for name, stat in client.info("commandstats").items()
        }
        assert (
            calls["zrangebylex"] <= 2 * 16 * 2
        )  # registers, requests, the last shorter than asked
        assert calls["exists"] <= 32 + 5
        assert not {"scan", "keys", "zscan", "smembers", "zrange"} & calls.keys()


# Files


class TestFiles:
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[FileStorage]:
        with FileStorage(tmp_path / "files") as storage:
            make(storage.backend, ["a", "ab", "b"], 10)
            yield storage

    def test_logs_of_other_users_are_not_read(self, storage: FileStorage) -> None:
        expected = [thread("a", n) for n in range(10)]
        for n in range(10):
            path_of(storage, thread("b", n)).write_bytes(b"no log")
        store = storage.open()
        assert store.executions(user_id="a") == expected
        assert store.executions(user_id="a", since=NOON + timedelta(hours=7)) == expected[7:]
        with pytest.raises(CorruptData):
            store.executions()

    def test_headers_are_read_once_and_names_while_they_change(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalog, "_TICK", -(10**18))  # the clock is fine here
        opened, listed = [], []
        log_open, entries = Log.open, Directory.entries

        def noted_open(path: Path) -> Log:
            opened.append(path)
            return log_open(path)

        def noted_entries(directory: Directory) -> Any:
            listed.append(directory)
            return entries(directory)

        monkeypatch.setattr(Log, "open", noted_open)
        monkeypatch.setattr(Directory, "entries", noted_entries)
        backend = storage.open().backend
        everything = sorted(thread(user, n) for user in ("a", "ab", "b") for n in range(10))
        for _ in range(3):
            assert backend.execute(FindExecutions()) == everything
        assert (len(opened), len(listed)) == (30, 1)
        other = storage.open().backend
        other.execute(Commit("new", None))
        other.execute(Clear(thread("a", 3)))
        settle(storage)
        opened.clear()
        expected = sorted({*everything, "new"} - {thread("a", 3)})
        for _ in range(3):
            assert backend.execute(FindExecutions()) == expected
        assert ([path.name[:4] for path in opened], len(listed)) == (["new-"], 2)

    def test_a_change_within_a_tick_of_the_clock(self, storage: FileStorage) -> None:
        """The directory's time may stay the same; so what just changed is always listed."""
        backend = storage.open().backend
        assert isinstance(backend.execute(FindExecutions()), list)
        logs = path_of(storage, "x").parent
        before = logs.stat()
        storage.open().backend.execute(Commit("zzz", None))
        os.utime(logs, ns=(before.st_atime_ns, before.st_mtime_ns))
        found: Any = backend.execute(FindExecutions())
        assert found[-1] == "zzz"

    @given(st.text(), st.text())
    def test_names_of_logs_begin_as_their_ids_do(self, start: str, rest: str) -> None:
        assert words_of(start + rest).startswith(words_of(start))


def path_of(storage: FileStorage, execution_id: str) -> Path:
    return storage._directory.path_of(execution_id)


def settle(storage: FileStorage) -> None:
    """Let the directory have another time than before, however coarse the clock is."""
    logs = path_of(storage, "x").parent
    stat = logs.stat()
    os.utime(logs, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
