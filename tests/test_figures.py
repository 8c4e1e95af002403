"""What only one backend's figures have: partitions, estimates, rights, servers that are away."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from tests.postgres_server import NEWEST, OLDEST, PostgresServer
from tests.valkey_server import ValkeyServer

from langcairn import (
    Alert,
    Checkpoint,
    FileCheckpointStore,
    Monitor,
    PostgresCheckpointStore,
    RedisCheckpointStore,
    SqliteCheckpointStore,
    StoreMisconfigured,
    StoreUnavailable,
)
from langcairn.backends.postgres import measuring as postgres_measuring
from langcairn.backends.redis import measuring as redis_measuring
from langcairn.testing.cases import case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn import CheckpointStore


def fill(store: CheckpointStore, executions: int) -> None:
    store.save_many(
        Checkpoint(id=f"c{step}", execution_id=f"e{number:02}", state={"text": f"{step}" * 2000})
        for number in range(executions)
        for step in range(2)
    )


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer(maxmemory="100mb") as server:
        yield server


# PostgreSQL


def test_partitions_are_summed(postgres: PostgresServer) -> None:
    with PostgresCheckpointStore(postgres.url(), "parted") as store:
        store.init_schema(partitions=3)
        fill(store, 10)
        stats = store.stats()
        assert (stats.executions, stats.checkpoints, stats.chunks) == (10, 20, 20)
        # Every partition of four tables has an index or more, of 8 kB at least.
        assert stats.disk_bytes is not None
        assert stats.disk_bytes > 12 * 8192
        assert len(store.execution_stats(limit=4)) == 4


def test_large_tables_are_estimated(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresCheckpointStore(postgres.url(), "large") as store:
        fill(store, 10)
        exact = store.stats()
        assert exact.estimated == frozenset()
        monkeypatch.setattr(postgres_measuring, "MOST_TO_COUNT", 0)
        with store._postgres._lender.connection(5) as connection:
            connection.execute("ANALYZE")
        stats = store.stats()
        assert {"executions", "checkpoints", "chunks", "stored_bytes"} <= stats.estimated
        assert (stats.executions, stats.checkpoints, stats.chunks) == (10, 20, 20)
        assert (stats.oldest, stats.newest) == (exact.oldest, exact.newest)
        assert stats.stored_bytes == stats.disk_bytes == exact.disk_bytes


def test_who_may_only_read(postgres: PostgresServer) -> None:
    url = postgres.url()
    with PostgresCheckpointStore(url, "shown") as store:
        fill(store, 1)
        with store._postgres._lender.connection(5) as connection:
            connection.execute("CREATE ROLE reader LOGIN")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    with PostgresCheckpointStore(postgres.url(user="reader"), "shown") as store:
        assert store.test_connection().writable is False
        assert store.stats().checkpoints == 2
    standby = f"{url}?options=-c%20default_transaction_read_only%3Don"
    with PostgresCheckpointStore(standby, "shown") as store:
        assert store.test_connection().writable is False


def test_oldest_postgres() -> None:
    server = PostgresServer(version=OLDEST)
    try:
        with PostgresCheckpointStore(server.start().url()) as store:
            fill(store, 3)
            health = store.test_connection()
            assert health.version.startswith(f"{OLDEST}.")
            assert health.writable
            assert store.stats().checkpoints == 6
            assert len(store.execution_stats()) == 3
    finally:
        server.remove()
    assert OLDEST < NEWEST


def test_room_of_a_database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL can't tell how large its disk is; whoever runs it may."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE room")
        url = postgres.url("room")
        with PostgresCheckpointStore(url) as store:
            fill(store, 1)
            assert (store.stats().free_bytes, store.stats().total_bytes) == (None, None)
        connection.execute("ALTER DATABASE room SET langcairn.capacity = '1.5 GB'")
        for most in (postgres_measuring.MOST_TO_COUNT, 0):  # counted, and estimated
            monkeypatch.setattr(postgres_measuring, "MOST_TO_COUNT", most)
            with PostgresCheckpointStore(url) as store:
                stats = store.stats()
            ((used,),) = connection.execute("SELECT pg_database_size('room')")
            assert stats.total_bytes == 3 * 2**29
            assert stats.free_bytes == pytest.approx(3 * 2**29 - used, abs=2**20)
            assert stats.disk_bytes is not None
            assert stats.disk_bytes <= used
        # A connection may say it, too, where the role may not say it to the database.
        with PostgresCheckpointStore(f"{url}?options=-c%20langcairn.capacity%3D1000000") as store:
            assert (store.stats().free_bytes, store.stats().used_ratio) == (0, 1.0)
            alerts: list[Alert] = []
            with Monitor(store, every=3600, on_alert=alerts.append) as monitor:
                monitor.check()
            assert [(alert.level, alert.name) for alert in alerts] == [("P2", "space")]
            assert alerts[0].message == "100.0% of the space of PostgreSQL is used"
        connection.execute("ALTER DATABASE room SET langcairn.capacity = 'plenty'")
        with (
            PostgresCheckpointStore(url) as store,
            pytest.raises(StoreMisconfigured, match=r"langcairn\.capacity is 'plenty'"),
        ):
            store.stats()


def test_sizes_are_read_as_the_database_reads_them(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE sizes")
        for size in ("123", "1 kB", "2.5MB", ".5 gB", " 7 TB ", "1pb", "12 bytes", "12 B"):
            connection.execute(
                sql.SQL("ALTER DATABASE sizes SET langcairn.capacity = {}").format(size)
            )
            ((expected,),) = connection.execute("SELECT pg_size_bytes(%s)", (size,))
            with case(size), PostgresCheckpointStore(postgres.url("sizes")) as store:
                assert store.stats().total_bytes == expected


def test_server_that_is_away(postgres: PostgresServer) -> None:
    url = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
    postgres.stop()
    try:
        with PostgresCheckpointStore(url, deadline=0.1) as store:
            for ask in (store.test_connection, store.stats, store.execution_stats):
                with pytest.raises(StoreUnavailable):
                    ask()
    finally:
        postgres.start()


# Redis


def test_room_of_a_server(valkey: ValkeyServer) -> None:
    valkey.ask("FLUSHALL")
    with RedisCheckpointStore(valkey.url) as store:
        fill(store, 3)
        health = store.test_connection()
        assert health.product == "Valkey"
        stats = store.stats()
        assert stats.total_bytes == 100 * 2**20
        assert stats.free_bytes is not None
        assert 0 < stats.free_bytes < stats.total_bytes
        assert stats.used_ratio is not None
        assert 0 < stats.used_ratio < 1


def test_many_executions_are_sampled(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    valkey.ask("FLUSHALL")
    with RedisCheckpointStore(valkey.url) as store:
        fill(store, 60)
        exact = store.stats()
        assert exact.estimated == frozenset()
        monkeypatch.setattr(redis_measuring, "MOST_TO_COUNT", 20)
        stats = store.stats()
        assert {"executions", "checkpoints", "stored_bytes"} <= stats.estimated
        assert (stats.executions, stats.checkpoints, stats.chunks) == (60, 120, 120)
        # All are of about the same size.
        assert stats.stored_bytes == pytest.approx(exact.stored_bytes, rel=0.1)


def test_expired_executions_are_not_counted(valkey: ValkeyServer) -> None:
    valkey.ask("FLUSHALL")
    with RedisCheckpointStore(valkey.url) as store:
        fill(store, 3)
        valkey.ask("DEL", "langgraph:execution:{e01}:checkpoints")
        assert store.stats().executions == 2
        assert [one.execution_id for one in store.execution_stats()] == ["e00", "e02"]


def test_who_may_not_ask_the_server(valkey: ValkeyServer) -> None:
    valkey.ask("FLUSHALL")
    with RedisCheckpointStore(valkey.url) as store:
        fill(store, 1)
    valkey.ask("ACL", "SETUSER", "shy", "on", ">secret", "~*", "+@all", "-info")
    url = valkey.url.replace("redis://", "redis://shy:secret@")
    with RedisCheckpointStore(url) as store:
        health = store.test_connection()
        assert (health.product, health.version) == ("Redis", "unknown")
        stats = store.stats()
        assert stats.checkpoints == 2
        assert stats.total_bytes is None
    valkey.ask("ACL", "SETUSER", "shy", "-memory")
    with RedisCheckpointStore(url) as store, pytest.raises(StoreMisconfigured, match=r"(?i)memory"):
        store.stats()


def test_replica_takes_no_commits(valkey: ValkeyServer) -> None:
    with ValkeyServer() as replica:
        replica.ask("REPLICAOF", "127.0.0.1", valkey.url.rpartition(":")[2].partition("/")[0])
        with RedisCheckpointStore(replica.url) as store:
            assert store.test_connection().writable is False


# Files


def test_files_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no store")
    for store in (
        SqliteCheckpointStore(tmp_path / "nowhere" / "a.db"),
        FileCheckpointStore(tmp_path / "nowhere" / "store"),
        FileCheckpointStore(tmp_path / "file"),
    ):
        with store:
            for ask in (store.test_connection, store.stats):
                with pytest.raises(StoreMisconfigured):
                    ask()


def test_a_store_of_files_is_not_made_by_looking(tmp_path: Path) -> None:
    with FileCheckpointStore(tmp_path / "store") as store:
        assert store.test_connection().writable
        assert store.stats().executions == 0
        assert not (tmp_path / "store").exists()


def test_space_of_files(tmp_path: Path) -> None:
    for store in (SqliteCheckpointStore(tmp_path / "a.db"), FileCheckpointStore(tmp_path / "s")):
        with store:
            fill(store, 2)
            stats = store.stats()
            assert stats.disk_bytes is not None
            assert stats.free_bytes is not None
            assert stats.total_bytes is not None
            assert stats.stored_bytes <= stats.disk_bytes <= stats.total_bytes
            assert stats.free_bytes <= stats.total_bytes


def test_rows_by_hand_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with SqliteCheckpointStore(path) as store:
        store.executions()
        with sqlite3.connect(path) as connection:
            connection.execute(
                "INSERT INTO checkpoints (id, execution_id, state) VALUES ('c', 'e', '{}')"
            )
        connection.close()
        stats = store.stats()
        assert stats.checkpoints == 1
        assert stats.oldest is not None
        assert stats.oldest == store.load("c").timestamp
