"""`verify` and `repair`: changed bytes on every backend are found, and never give another state."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.flips import before, fill, flipped, judge, offsets
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage
from tests.redis_storage import RedisStorage
from tests.valkey_server import ValkeyServer

from langcairn import FileCheckpointStore, SqliteCheckpointStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn import CheckpointStore


def _set_aside(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_bytes_of_an_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")  # small, so that most bytes are in use
        connection.execute("PRAGMA journal_mode = WAL")

    def open_() -> CheckpointStore:
        return SqliteCheckpointStore(path, synchronous="OFF")

    with open_() as store:
        fill(store)
    saved = before(open_)
    data = path.read_bytes()
    found = []
    for offset in offsets(len(data), 250):
        for old in tmp_path.iterdir():
            old.unlink()
        path.write_bytes(flipped(data, offset))
        with open_() as store:
            found.append(judge(store, saved, f"byte {offset}"))
    assert found.count(True) > len(found) / 3


def test_bytes_of_logs(tmp_path: Path) -> None:
    def open_() -> CheckpointStore:
        return FileCheckpointStore(tmp_path / "store", fsync=False)

    with open_() as store:
        fill(store)
    saved = before(open_)
    found = []
    for log in sorted((tmp_path / "store" / "logs").iterdir()):
        data = log.read_bytes()
        used = len(data.rstrip(b"\0"))
        for offset in offsets(used, 60):
            log.write_bytes(flipped(data, offset))
            with open_() as store:
                found.append(judge(store, saved, f"{log.name}, byte {offset}"))
        log.write_bytes(data)
    assert found.count(True) > len(found) / 2


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


_TABLES = ("checkpoints", "checkpoint_chunks", "checkpoint_writes", "checkpoint_executions")


def test_bytes_of_postgresql_columns(postgres: PostgresServer) -> None:
    with PostgresStorage(postgres.url()) as storage:
        fill(storage.open())
        saved = before(storage.open)
        for table in _TABLES:
            storage.ask(f"CREATE TABLE saved_{table} AS TABLE {table}")
        places = [
            (table, column, kind, row, offset)
            for table in _TABLES
            for column, kind in storage.ask(
                "SELECT attname::text, atttypid::regtype::text FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND attname <> 'replaced'",
                table,
            )
            for row, (value,) in enumerate(storage.ask(_column_of(table, column, kind)))
            for offset in range(len(value or b""))
        ]
        store = storage.open(cache_bytes=0)
        found = []
        for number in offsets(len(places), 300):
            table, column, kind, row, offset = places[number]
            (old,) = storage.ask(_column_of(table, column, kind))[row]
            new = flipped(old, offset)
            try:
                storage.ask(
                    f"UPDATE {table} AS t SET {column} = %s::{kind} WHERE ctid ="
                    f" (SELECT ctid FROM {table} AS t ORDER BY t::text OFFSET {row} LIMIT 1)",
                    new if kind == "bytea" else new.decode(),
                )
            except (psycopg.Error, UnicodeDecodeError):
                continue  # the database holds no such value
            where = f"{table}.{column} {old!r:.60} at {offset}"
            found.append(judge(store, saved, where))
            storage.ask(f"DELETE FROM {table}; INSERT INTO {table} TABLE saved_{table}")
        assert found.count(True) > len(found) / 2


def _column_of(table: str, column: str, kind: str) -> str:
    """Return SQL for the bytes of a column, row after row in an order that stays."""
    value = f"t.{column}" if kind == "bytea" else f"convert_to(t.{column}::text, 'UTF8')"
    return f"SELECT {value} FROM {table} AS t ORDER BY t::text"


def test_bytes_of_redis_values(valkey: ValkeyServer) -> None:
    with valkey.client() as client, RedisStorage(valkey.url, client) as storage:
        fill(storage.open())
        saved = before(storage.open)
        keys = sorted(client.keys("langgraph:execution:*"))
        places = [
            (key, member, offset)
            for key in keys
            for member in client.zrange(key, 0, -1)
            for offset in range(len(member))
        ]
        store = storage.open(cache_bytes=0)
        found = []
        for number in offsets(len(places), 300):
            key, member, offset = places[number]
            changed = flipped(member, offset)
            client.zrem(key, member)
            client.zadd(key, {changed: 0})
            found.append(judge(store, saved, f"{member!r:.60} at {offset}"))
            client.zrem(key, changed)
            client.zadd(key, {member: 0})
        assert found.count(True) > len(found) / 2
