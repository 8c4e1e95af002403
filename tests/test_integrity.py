"""`verify` and `repair`: changed bytes on every backend are found, and never give another state."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.file_storage import FileStorage
from tests.flips import before, fill, flipped, judge, loaded, offsets
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage
from tests.redis_storage import RedisStorage
from tests.valkey_server import ValkeyServer

from langcairn import (
    CheckpointSaver,
    CorruptData,
    FileCheckpointStore,
    SqliteCheckpointStore,
    arepair,
    averify,
    backup,
    repair,
    restore,
    verify,
)
from langcairn.backends.base import ChunkId, Commit, FindCheckpoints
from langcairn.testing import MemoryStorage, SqliteStorage, Storage
from langcairn.testing.checkpoints import config_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from langcairn import CheckpointStore, Progress


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


@pytest.fixture(params=["memory", "sqlite", "file", "postgresql", "redis"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
) -> Iterator[Storage]:
    with valkey.client() as client:
        storages: dict[str, Callable[[], Storage]] = {
            "memory": MemoryStorage,
            "sqlite": lambda: SqliteStorage(tmp_path / "store.db"),
            "file": lambda: FileStorage(tmp_path / "store"),
            "postgresql": lambda: PostgresStorage(postgres.url()),
            "redis": lambda: RedisStorage(valkey.url, client),
        }
        with storages[request.param]() as storage:
            fill(storage.open())
            yield storage


class TestFindings:
    def test_a_lost_chunk(self, storage: Storage) -> None:
        expected = loaded(storage.open())
        lost = {}
        for id in storage.chunks("thread-a"):
            data = storage.chunks("thread-a")[id]
            storage.drop_chunk("thread-a", id)
            report = verify(storage.open())
            assert {f.execution_id for f in report.findings} == {"thread-a"}
            assert all(id in f.what and f.repairable and f.lost for f in report.findings)
            lost[id] = {(f.namespace, f.checkpoint_id) for f in report.findings}
            # Exactly those that can't be loaded are named.
            missing = {key[1:] for key in expected.keys() - loaded(storage.open()).keys()}
            assert missing <= lost[id]
            storage.replace_chunk("thread-a", id, data)
        assert verify(storage.open()).ok
        assert len(set(map(len, lost.values()))) > 1  # some are shared, some not

    def test_a_changed_column(self, storage: Storage) -> None:
        for column in ("state", "metadata"):
            for key, data in (("r1", b'{"by": ["foot", 1.5]}'), ("r1", b"{}")):
                (old,) = (
                    getattr(one.row, column)
                    for one in storage.backend.execute(FindCheckpoints("record"))  # type: ignore[attr-defined]  # see FindCheckpoints
                )
                storage.replace_column("record", "", key, column, data)
                (finding,) = verify(storage.open(), executions=["record"]).findings
                assert (finding.checkpoint_id, finding.lost) == ("r1", "this checkpoint")
                with pytest.raises(CorruptData, match="isn't what was written"):
                    storage.open().load("r1")
                storage.replace_column("record", "", key, column, old)
                assert verify(storage.open()).ok

    async def test_async(self, storage: Storage, tmp_path: Path) -> None:
        storage.drop_chunk("thread-b", min(storage.chunks("thread-b")))
        report = await averify(storage.open())
        assert {f.execution_id for f in report.findings} == {"thread-b"}
        repaired = await arepair(storage.open(), tmp_path / "before.cairn")
        assert repaired.findings == report.findings
        assert (await averify(storage.open())).ok

    def test_counts_and_progress(self, storage: Storage) -> None:
        seen: list[Progress] = []
        report = verify(storage.open(), progress=seen.append)
        assert (report.executions, report.checkpoints, report.writes) == (3, 7, 6)
        assert (report.garbage, report.orphans) == (0, 0)
        assert [p.done for p in seen] == [1, 2, 3]
        store = storage.open()
        saver = CheckpointSaver(store)
        saver.put_writes(config_of("thread-a", "", "later"), [("n", ["x" * 300])], "t")
        store.backend.execute(Commit("thread-a", None, [(ChunkId("A" * 22), b"\1\0x")]))
        report = verify(storage.open(), executions=["thread-a"])
        assert (report.garbage, report.orphans, report.executions) == (1, 1, 1)


class TestRepair:
    def test_only_what_is_unreadable_goes(self, storage: Storage, tmp_path: Path) -> None:
        path = tmp_path / "before.cairn"
        whole = tmp_path / "whole.cairn"
        backup(storage.open(), whole)
        assert repair(storage.open(), path).backup is None
        assert not path.exists()
        expected = loaded(storage.open())
        # A chunk of a message that only the second checkpoint has, and one of a pending write.
        for id in storage.chunks("thread-a"):
            found = verify(storage.open())
            assert found.ok
            data = storage.chunks("thread-a")[id]
            storage.drop_chunk("thread-a", id)
            damaged = {(f.namespace, f.checkpoint_id) for f in verify(storage.open()).findings}
            if len(damaged) == 1:
                break
            storage.replace_chunk("thread-a", id, data)
        report = repair(storage.open(), path)
        assert (report.backup is not None, report.checkpoints + report.writes > 0) == (True, True)
        after = verify(storage.open())
        assert (after.ok, after.garbage) == (True, 0)
        got = loaded(storage.open())
        for key in expected.keys() & got.keys():
            if key[0] != "thread-a" or (key[1], key[2]) not in damaged:
                assert got[key] == expected[key]
        gone = {key[1:] for key in expected.keys() - got.keys()}
        assert gone <= damaged
        # What an older backup has comes back.
        assert restore(whole, storage.open(), executions=["thread-a"], existing="replace").ok
        assert loaded(storage.open()) == expected

    def test_a_damaged_row(self, storage: Storage, tmp_path: Path) -> None:
        storage.replace_column("record", "", "r1", "metadata", b'{"k": 2}')
        report = repair(storage.open(), tmp_path / "before.cairn")
        assert (report.checkpoints, report.writes) == (1, 0)
        assert storage.open().list("record") == []
        assert verify(storage.open()).ok
        assert len(loaded(storage.open())) == 6

    def test_a_damaged_chunk_that_is_restored(self, storage: Storage, tmp_path: Path) -> None:
        expected = loaded(storage.open())
        backup(storage.open(), tmp_path / "b.cairn")
        id, data = min(storage.chunks("thread-a").items())
        storage.replace_chunk("thread-a", id, flipped(data, len(data) - 1))
        assert not verify(storage.open()).ok
        restored = restore(tmp_path / "b.cairn", storage.open(), existing="replace")
        assert restored.ok
        assert verify(storage.open()).ok
        assert loaded(storage.open()) == expected


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    with FileStorage(tmp_path / "store") as storage:
        fill(storage.open())
        backup(storage.open(), tmp_path / "b.cairn")
        expected = loaded(storage.open())
        log = next((tmp_path / "store" / "logs").glob("thread-a*"))
        data = log.read_bytes()
        log.write_bytes(flipped(data, 3))  # not even its execution can be known
        report = verify(storage.open())
        assert any(str(log) in finding.what for finding in report.findings)
        again = backup(storage.open(), tmp_path / "c.cairn")
        assert (again.executions, again.ok) == (2, False)
        log.write_bytes(flipped(data, 200))
        report = verify(storage.open())
        assert {f.execution_id for f in report.findings} == {"thread-a"}
        restored = restore(tmp_path / "b.cairn", storage.open(), existing="replace")
        assert restored.ok
        assert loaded(storage.open()) == expected
        assert verify(storage.open()).ok
