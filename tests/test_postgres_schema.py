"""PostgreSQL's tables: their form, their making, what is refused; and the examples of the docs."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from tests.postgres_server import OLDEST, PostgresServer
from tests.postgres_storage import PostgresStorage

from langcairn.backends.base import (
    AcquireLease,
    CheckpointRow,
    ChunkId,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
)
from langcairn.backends.postgres import PostgresBackend
from langcairn.backends.postgres import schema as postgres_schema
from langcairn.backends.postgres.options import pool_settings
from langcairn.checkpoint import Checkpoint
from langcairn.errors import CorruptData, InvalidInput, LeaseHeld, StoreMisconfigured
from langcairn.store import CheckpointStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOCS = Path(__file__).parents[1] / "docs" / "postgresql.md"
_TIME = datetime(2024, 2, 29, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def storage(server: PostgresServer) -> Iterator[PostgresStorage]:
    with PostgresStorage(server.url()) as storage:
        yield storage


def commit(name: str, execution_id: str = "run", **fields: Any) -> Commit:
    row = CheckpointRow(execution_id, "", name, None, "", b"{}", b"{}", _TIME, 1, b"{}")
    return Commit(execution_id, None, [(ChunkId("c" * 22), b"x")], [row._replace(**fields)])


def ids(backend: Any, **query: Any) -> list[str]:
    return [one.row.id for one in backend.execute(FindCheckpoints(**query))]


# Their form


def test_columns_and_indexes(storage: PostgresStorage) -> None:
    storage.backend.execute(FindExecutions())
    columns = storage.ask(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = 'checkpoints'"
    )
    assert (
        dict(columns).items()
        >= {
            "id": "text",
            "execution_id": "text",
            "node_name": "text",
            "state": "jsonb",
            "metadata": "jsonb",
            "timestamp": "timestamp with time zone",
            "version": "integer",
        }.items()
    )
    indexes = storage.ask(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'checkpoints'"
    )
    assert "(execution_id, id)" in dict(indexes)["idx_checkpoints_execution_id"]


def test_hot_queries_use_indexes(storage: PostgresStorage) -> None:
    for number in range(10):
        storage.backend.execute(Commit(
            f"run{number}", None, [(ChunkId(f"{i:022}"), b"x") for i in range(200)],
            [commit(f"c{number}-{i}", f"run{number}").checkpoints[0] for i in range(200)],
        ))  # fmt: skip
    storage.ask("ANALYZE")
    for where in (
        "execution_id = 'run1' AND namespace = '' ORDER BY id DESC",
        "execution_id = 'run1' ORDER BY id DESC, execution_id DESC, namespace DESC",
        "execution_id = 'run1' AND namespace = '' AND id < 'c1-5' ORDER BY id DESC",
        "id = 'c1-1'",
        "true ORDER BY id DESC, execution_id DESC, namespace DESC",
    ):
        plan = storage.ask(f"EXPLAIN SELECT * FROM checkpoints WHERE {where} LIMIT 1")
        assert "Index Scan" in str(plan), (where, plan)
        assert "Seq Scan" not in str(plan), (where, plan)


def test_names_are_quoted(server: PostgresServer, storage: PostgresStorage) -> None:
    name = 'Sp"ö"k\'{0}%s; --'
    schema = f'{storage.schema}"; DROP'
    backend = PostgresBackend(server.url(), name, schema)
    backend.init_schema()
    backend.execute(commit("a"))
    again = PostgresBackend(server.url(), name, schema)
    assert ids(again) == ["a"]
    for one in (backend, again):
        one.close()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        quoted = schema.replace('"', '""')
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
        )
        assert len(tables.fetchall()) == 5
        connection.execute(f'DROP SCHEMA "{quoted}" CASCADE'.encode())


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("", None),
        ("a\0b", None),
        ("x" * 50, None),
        ("ö" * 25, None),
        ("\ud800", None),
        ("checkpoint_chunks", None),
        ("trail_execution", None),
        ("langcairn_schema", None),
        ("checkpoints", ""),
        ("checkpoints", "x" * 64),
    ],
)
def test_names_that_cannot_be(name: str, schema: str | None) -> None:
    with pytest.raises(InvalidInput):
        PostgresBackend("postgresql://", name, schema)


def test_the_longest_name(server: PostgresServer, storage: PostgresStorage) -> None:
    for name in ("x" * 40, "x" * 39 + "y"):
        backend = PostgresBackend(server.url(), name, storage.schema)
        backend.init_schema(partitions=2)
        backend.execute(commit(name[-1]))
        assert ids(backend) == [name[-1]]
        backend.close()


# Their making


def test_many_make_them_at_once(server: PostgresServer, storage: PostgresStorage) -> None:
    backends = [PostgresBackend(server.url(), schema=storage.schema) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: backends[number].execute(commit(f"{number}")), range(12)))
    assert len(ids(backends[0])) == 12
    for backend in backends:
        backend.close()


async def test_init_schema(storage: PostgresStorage) -> None:
    backend: Any = storage.backend
    backend.init_schema()
    await backend.ainit_schema()
    backend.execute(commit("a"))
    backend.init_schema()
    assert ids(backend) == ["a"]
    await backend.aclose()


@pytest.mark.parametrize("partitions", [None, 2])
def test_chunks_are_not_compressed_again(storage: PostgresStorage, partitions: int | None) -> None:
    storage.backend.init_schema(partitions=partitions)  # type: ignore[attr-defined]  # PostgreSQL's
    storage.backend.execute(commit("c1"))
    found = storage.ask(
        "SELECT relname, attstorage::text FROM pg_attribute JOIN pg_class ON attrelid = oid"
        " WHERE attname = 'data' AND relnamespace = current_schema()::regnamespace"
    )
    assert len(found) == 1 + (partitions or 0)
    assert {how for _, how in found} == {"e"}


def test_partitions(storage: PostgresStorage) -> None:
    backend: Any = storage.backend
    backend.init_schema(partitions=3)
    for number in range(20):
        backend.execute(commit(f"c{number}", f"run{number}"))
    parts = [storage.ask(f"SELECT count(*) FROM checkpoints_p{n}")[0][0] for n in range(3)]
    assert sum(parts) == 20
    assert all(parts)
    assert len(ids(backend)) == 20
    assert ids(backend, execution_id="run7", namespace="", limit=1) == ["c7"]
    backend.init_schema(partitions=3)
    with pytest.raises(StoreMisconfigured, match="3 partitions"):
        backend.init_schema(partitions=4)
    for nonsense in (0, -1, 5000):
        with pytest.raises(InvalidInput):
            backend.init_schema(partitions=nonsense)


def test_a_role_without_rights(server: PostgresServer, storage: PostgresStorage) -> None:
    """It is told what to do, and when that was done, it works with the least rights."""
    role = f"poor_{storage.schema}"
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN".encode())
        poor = PostgresBackend(server.url(user=role), schema=storage.schema, deadline=3600)
        with pytest.raises(StoreMisconfigured, match=r"schema_sql\(\)"):
            poor.execute(FindExecutions())
        admin.execute(poor.schema_sql().encode())
        admin.execute(f"GRANT USAGE ON SCHEMA {storage.schema} TO {role}".encode())
        with pytest.raises(StoreMisconfigured, match="permission denied"):
            poor.execute(FindExecutions())
        for table in (
            "checkpoints",
            "checkpoint_chunks",
            "checkpoint_writes",
            "checkpoint_executions",
        ):
            rights = "SELECT, INSERT, UPDATE, DELETE"
            admin.execute(f"GRANT {rights} ON {storage.schema}.{table} TO {role}".encode())
        admin.execute(f"GRANT SELECT ON {storage.schema}.langcairn_schema TO {role}".encode())
        poor.execute(commit("a"))
        assert ids(poor) == ["a"]
        poor.close()
        admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


# What is refused


def test_a_newer_version_is_refused(storage: PostgresStorage) -> None:
    storage.backend.execute(FindExecutions())
    storage.ask("UPDATE langcairn_schema SET version = version + 1")
    with pytest.raises(StoreMisconfigured, match="update langcairn"):
        storage.open().backend.execute(FindExecutions())


def test_an_older_version_is_migrated(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.backend.execute(commit("a"))
    migrations = {
        2: "ALTER TABLE {checkpoints} ADD COLUMN one integer;\n"
        "ALTER TABLE {chunks} ADD COLUMN two text",
        3: "ALTER TABLE {checkpoints} ADD COLUMN three integer DEFAULT 3",
    }
    monkeypatch.setattr(postgres_schema, "SCHEMA_VERSION", 4)
    monkeypatch.setattr(postgres_schema, "_MIGRATIONS", migrations)
    with ThreadPoolExecutor(4) as pool:
        stores = [storage.open() for _ in range(4)]
        list(pool.map(lambda store: store.backend.execute(FindExecutions()), stores))
    assert storage.ask("SELECT id, one, three FROM checkpoints") == [("a", None, 3)]
    assert storage.ask("SELECT version FROM langcairn_schema") == [(4,)]


def test_tables_without_leases_get_their_columns(storage: PostgresStorage) -> None:
    epoch: Any = storage.backend.execute(commit("a"))
    for column in ("token", "owner", "until", "ttl"):
        storage.ask(f"ALTER TABLE checkpoint_executions DROP COLUMN lease_{column}")
    storage.ask("UPDATE langcairn_schema SET version = 1")
    newer = storage.open().backend
    token: Any = newer.execute(AcquireLease("run", "owner", 60))
    with pytest.raises(LeaseHeld):
        newer.execute(commit("b"))
    assert newer.execute(commit("b")._replace(epoch=epoch, fence=token)) == epoch


def test_tables_of_others_are_refused(server: PostgresServer, storage: PostgresStorage) -> None:
    storage.ask(f'CREATE SCHEMA "{storage.schema}"')
    with psycopg.connect(
        server.url(), autocommit=True, options=f"-c search_path={storage.schema}"
    ) as connection:
        PostgresSaver(connection).setup()  # type: ignore[arg-type]  # it needs no dict rows here
    with pytest.raises(StoreMisconfigured, match="langgraph-checkpoint-postgres"):
        storage.backend.execute(FindExecutions())
    storage.ask("DROP TABLE checkpoints")
    with pytest.raises(StoreMisconfigured, match="langgraph-checkpoint-postgres"):
        storage.backend.execute(commit("a"))
    beside = storage.open(table_name="trail").backend
    beside.execute(commit("a"))
    assert ids(beside) == ["a"]
    storage.ask(
        "CREATE TABLE checkpoints (id text PRIMARY KEY, execution_id text, node_name text,"
        " state jsonb, metadata jsonb, timestamp timestamptz, version integer)"
    )
    storage.ask("DROP TABLE checkpoint_blobs, checkpoint_writes, checkpoint_migrations")
    with pytest.raises(StoreMisconfigured, match="LangGraphGo"):
        storage.backend.execute(FindExecutions())
    storage.ask("DROP TABLE checkpoints")
    storage.ask("CREATE TABLE checkpoints (a integer)")
    with pytest.raises(StoreMisconfigured, match="did not make"):
        storage.backend.execute(FindExecutions())


def test_a_row_that_cannot_be_read(storage: PostgresStorage) -> None:
    storage.backend.execute(commit("a"))
    storage.ask("UPDATE checkpoints SET timestamp = 'infinity'")
    with pytest.raises(CorruptData, match="can't be read"):
        ids(storage.backend)


def test_rows_made_by_hand_are_found(storage: PostgresStorage) -> None:
    """As SQL or another program puts them in, with what has no default."""
    storage.backend.execute(FindExecutions())
    storage.ask(
        """INSERT INTO checkpoints (execution_id, id, state) VALUES ('run', 'a', '{"x": 1}')"""
    )
    store = storage.open()
    assert store.load("a").state == {"x": 1}
    store.save(Checkpoint(id="b", execution_id="run", state={"x": 2}))
    assert [one.state for one in store.list("run")] == [{"x": 2}, {"x": 1}]
    assert store.clear("run")


# Time


def test_times_and_ranges(server: PostgresServer, storage: PostgresStorage) -> None:
    """To the microsecond, and whatever zone the server's sessions are in."""
    times = [_TIME + timedelta(microseconds=n) for n in range(5)]
    times += [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)]
    for n, time in enumerate(times):
        storage.backend.execute(commit(f"c{n}", timestamp=time))
    for zone in ("UTC", "Asia/Kathmandu", "America/St_Johns"):
        url = f"{server.url()}?options=-c%20TimeZone%3D{zone}"
        backend = PostgresBackend(url, schema=storage.schema)
        found: Any = backend.execute(FindCheckpoints("run"))
        assert {one.row.id: one.row.timestamp for one in found} == {
            f"c{n}": time for n, time in enumerate(times)
        }
        assert all(one.row.timestamp.tzinfo is UTC for one in found)
        assert ids(backend, since=times[1], until=times[3]) == ["c2", "c1"]
        assert ids(backend, execution_id="run", since=times[3]) == ["c6", "c4", "c3"]
        backend.close()


# Options


def test_options_of_the_connection_string() -> None:
    def read(conn_string: str) -> Any:
        return pool_settings(
            conn_string, max_conns=10, min_conns=2, max_conn_lifetime=1800, max_conn_idle_time=300
        )

    url = "postgresql://me:pa%3Fss@db:5433/name?pool_max_conns=7&sslmode=disable&pool_min_conns=3"
    settings = read(f"{url}&pool_max_conn_lifetime=1h30m&pool_max_conn_idle_time=90")
    assert settings[1:] == (7, 3, 5400.0, 90.0)
    assert settings.connect.items() >= {
        "user": "me", "password": "pa?ss", "host": "db", "port": "5433", "dbname": "name",
        "sslmode": "disable",
    }.items()  # fmt: skip
    words = read("host=db pool_max_conns='1' dbname=name pool_max_conn_idle_time = 5m")
    assert words[1:] == (1, 1, 1800.0, 300.0)
    assert words.connect["dbname"] == "name"
    assert read("postgres:///name")[1:] == (10, 2, 1800.0, 300.0)
    for wrong in ("pool_max_conns=0", "pool_max_conns=x", "pool_size=3", "pool_min_conns=-1",
                  "pool_max_conn_lifetime=soon", "pool_max_conn_idle_time=-5"):  # fmt: skip
        with pytest.raises(InvalidInput):
            read(f"postgresql://db/name?{wrong}")
    with pytest.raises(StoreMisconfigured) as caught:
        read("postgresql://me:secret@db/name?nonsense=1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"deadline": -1}, {"timeout": float("inf")}, {"pool_max_conns": 0}, {"lanes": 0}]
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        PostgresBackend("postgresql://", **options)


# The documentation, and older servers


def test_sql_of_the_docs(storage: PostgresStorage) -> None:
    store = storage.open()
    for step in range(3):
        store.save(
            Checkpoint(
                id=f"c{step}",
                execution_id="conversation-1",
                node_name="agent",
                state={"step": step, "text": "x" * 1000},
                metadata={"source": "loop" if step else "input"},
            )
        )
    statements = re.findall(r"^```sql\n(.*?)^```", _DOCS.read_text(), re.DOTALL | re.MULTILINE)
    ((database,),) = storage.ask("SELECT quote_ident(current_database())")
    room, *answers = [
        storage.ask(statement.replace("DATABASE agents", f"DATABASE {database}"))
        for statement in statements
    ]
    assert room == []
    assert answers[0] == [("c2", "2", "loop"), ("c1", "1", "loop")]
    assert [row[:2] for row in answers[1]] == [("agent", 3)]
    assert [row[:2] for row in answers[2]] == [("conversation-1", 1)]
    assert answers[3:] == [[], [], []]


def test_the_oldest_server() -> None:
    server = PostgresServer(version=OLDEST)
    try:
        backend = PostgresBackend(server.start().url())
        backend.init_schema(partitions=2)
        epoch: Any = backend.execute(commit("a"))
        assert backend.execute(commit("b")._replace(epoch=epoch)) == epoch
        assert ids(backend, execution_id="run") == ["b", "a"]
        assert backend.execute(FetchChunks("run", [ChunkId("c" * 22)])) == {"c" * 22: b"x"}
        with CheckpointStore(backend) as store:
            assert store.clear("run")
    finally:
        server.remove()
