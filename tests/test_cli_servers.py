"""The command line on servers: PostgreSQL and Valkey, in order, badly set, and away."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from tests.cli_calls import Called, ask, build, call, fill, thread
from tests.ports import HOST, hold_port, number_of
from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

from langcairn.checkpoint import Checkpoint
from langcairn.cli.session import Session
from langcairn.cli.watching import _saved
from langcairn.opening import open_store
from langcairn.testing.cases import case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.store import CheckpointStore


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer(["max_connections=20"])
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def database(server: PostgresServer, name: str) -> str:
    """Make a database. Returns its URL."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.url(name)


def found(said: Called, check: str) -> list[dict[str, Any]]:
    return [one for one in said.json["findings"] if one["check"] == check]


def look_at(url: str) -> None:
    """Use each command that only looks."""
    for words in (
        ["threads"], ["show", "done"], ["log", "done", "--all"], ["diff", "done"],
        ["state", "done"], ["writes", "done"], ["stats", "--logical"], ["verify"],
    ):  # fmt: skip
        said = call(*words, "--json", LANGCAIRN_STORE=url)
        assert said.code == 0, said.err
        assert said.json
    assert call("watch", "-n", "3", LANGCAIRN_STORE=url).out.count("\n") == 3


def test_postgres(postgres: PostgresServer) -> None:
    url = database(postgres, "one")
    with open_store(url) as store:
        fill(store)
    look_at(url)
    said = call("doctor", "--write", "--json", LANGCAIRN_STORE=url)
    # The tests' server has neither fsync nor full pages, and few connections.
    assert {one["level"] for one in found(said, "durability")} == {"problem", "ok"}
    assert said.code == 1
    assert found(said, "clock")[0]["level"] == "ok"
    assert "superuser" in found(said, "rights")[-1]["what"]
    assert found(said, "pool")[0]["level"] == "ok"
    assert found(said, "space")[0]["level"] == "warning"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE one SET langcairn.capacity = '1 TB'")
    told = call("doctor", "--json", LANGCAIRN_STORE=url)
    assert found(told, "space")[0]["what"].endswith("of 1.1 TB are free")
    assert "of 1.1 TB" in call("stats", LANGCAIRN_STORE=url).out
    many = call("doctor", "--json", LANGCAIRN_STORE=f"{url}?pool_max_conns=50")
    assert found(many, "pool")[0]["level"] == "warning"
    told = call("prune", "--all", "--yes", "--json", LANGCAIRN_STORE=url).json
    assert told["checkpoints"] > 0


def test_official_tables_in_postgres(postgres: PostgresServer) -> None:
    url = database(postgres, "two")
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        build(saver).invoke(ask("Hello?", "h-1"), thread("theirs"))  # type: ignore[arg-type]  # any saver will do
    said = call("threads", LANGCAIRN_STORE=url)
    assert said.code == 7
    assert "migrate" in said.err
    ours = ("--store", url, "--option", "table_name=trail")
    told = call(*ours, "migrate", url, "--json").json
    assert told["ok"]
    assert told["compared"] == told["checkpoints"] > 0
    assert [one["thread"] for one in call(*ours, "threads", "--json").json] == ["theirs"]


def test_no_tables_are_made_by_looking(postgres: PostgresServer) -> None:
    url = database(postgres, "empty")
    given = ("--option", "schema=agents", "--option", "table_name=trail")
    for options in ((), given):
        said = call("threads", *options, LANGCAIRN_STORE=url)
        assert (said.code, "no store" in said.err) == (7, True)
        assert call("doctor", "--json", *options, LANGCAIRN_STORE=url).code == 1
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE '%trail%'")
        schemas = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'agents'")
        assert (tables.fetchone(), schemas.fetchone()) == ((0,), (0,))
    with open_store(url, schema="agents", table_name="trail") as store:
        store.save(Checkpoint(execution_id="a", state={}))
    assert call("threads", *given, LANGCAIRN_STORE=url).code == 0


def test_a_role_that_may_only_read(postgres: PostgresServer) -> None:
    url = database(postgres, "three")
    with open_store(url) as store:
        fill(store)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reader = postgres.url("three", user="reader")
    assert call("threads", LANGCAIRN_STORE=reader).code == 0
    said = call("doctor", "--json", LANGCAIRN_STORE=reader)
    assert found(said, "rights")[0]["level"] == "problem"
    assert call("delete", "done", "-y", LANGCAIRN_STORE=reader).code == 7
    with open_store(url) as store:
        assert "done" in store.executions()


def test_passwords_are_never_shown(postgres: PostgresServer) -> None:
    url = postgres.url().replace("postgres@", "locked:open-sesame@")
    for words in (["threads"], ["doctor"], ["doctor", "--json"]):
        said = call(*words, LANGCAIRN_STORE=url)
        assert said.code in (1, 7)
        assert "open-sesame" not in said.out + said.err


def test_valkey(valkey: ValkeyServer) -> None:
    url = valkey.url
    with open_store(url) as store:
        fill(store)
    look_at(url)
    valkey.ask("CONFIG", "SET", "appendonly", "yes", "maxmemory-policy", "noeviction")
    said = call("doctor", "--write", "--json", LANGCAIRN_STORE=url)
    assert said.code == 0, said.out
    assert "everysec" in found(said, "durability")[0]["what"]
    assert found(said, "eviction")[0]["level"] == "ok"
    assert "maxmemory" in found(said, "space")[0]["remedy"]
    assert found(said, "clock")[0]["level"] == "ok"
    valkey.ask("CONFIG", "SET", "appendonly", "no", "maxmemory-policy", "allkeys-lru")
    said = call("doctor", "--json", LANGCAIRN_STORE=url)
    assert said.code == 1
    assert found(said, "durability")[0]["level"] == "problem"
    assert found(said, "eviction")[0]["level"] == "problem"
    elsewhere = call("threads", "--option", "prefix=other:", "--json", LANGCAIRN_STORE=url)
    assert elsewhere.json == []


NAMES = [  # of versions 0.0.1 to 0.5.2
    "checkpoint:a:__empty__:1f1ed6aa-cf61-6765-8002-4ee34452b789",
    "checkpoint:user:7:node:task:1f1ed6aa-cf61-6765-8002-4ee34452b789",
    "checkpoint_write:a::1f1ed6aa-cf61-6765-8002-4ee34452b789:6d4fa5e6-b13f-861e-82a3-3c23aa18e372:0",
    "checkpoint_blob:a:__empty__:messages:00000000000000000000000000000002.0.99",
    "checkpoint_latest:a:__empty__",
]
OTHERS = ["checkpoint:job:7", "checkpoints:1", "checkpoint", "langgraph:checkpoint:x", "run:1"]


def test_official_keys_in_redis(valkey: ValkeyServer) -> None:
    """Only what they are called: this server lacks the modules."""
    url = f"{valkey.url}/7"
    with valkey.client(db=7) as client:
        for name in NAMES:
            client.flushdb()
            client.mset(dict.fromkeys([*OTHERS, *(f"other:{n}" for n in range(2000))], ""))
            assert not call("threads", LANGCAIRN_STORE=url).err.replace("no threads\n", "")
            client.set(name, "")
            said = call("threads", LANGCAIRN_STORE=url)
            with case(name):
                assert said.code == 0
                assert "keys of langgraph-checkpoint-redis" in said.err
                assert f"migrate '{url}'" in said.err
        doctor = call("doctor", "--json", LANGCAIRN_STORE=url)
        (contents,) = found(doctor, "contents")
        assert contents["level"] == "warning"
        assert "migrate" in contents["remedy"]
        moved = call("--store", "memory:", "migrate", url)
        assert moved.code == 7
        assert "modules" in moved.err
        with open_store(url) as store:
            fill(store)
        assert not call("threads", LANGCAIRN_STORE=url).err
        assert not found(call("doctor", "--json", LANGCAIRN_STORE=url), "contents")
        client.flushdb()


def test_official_keys_among_many_others_are_looked_for_in_bounds(valkey: ValkeyServer) -> None:
    with valkey.client(db=8) as client:
        client.mset({f"other:{n}": "" for n in range(30_000)})
        client.config_resetstat()
        call("threads", LANGCAIRN_STORE=f"{valkey.url}/8")
        scans: Any = client.info("commandstats")
        assert scans["cmdstat_scan"]["calls"] == 16
        client.flushdb()


def test_official_keys_that_may_not_be_looked_for(valkey: ValkeyServer) -> None:
    with valkey.client(db=9) as client:
        client.set(NAMES[0], "")
        client.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], channels=["*"],
                           categories=["+@all"], commands=["-scan"])  # fmt: skip
        said = call("threads", LANGCAIRN_STORE=f"{valkey.url}/9".replace("//", "//blind:x@"))
        assert (said.code, said.err) == (0, "no threads\n")
        client.flushdb()


def test_watch_waits_for_a_server_that_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    with ValkeyServer() as server, open_store(server.url) as writer:
        writer.save(Checkpoint(execution_id="a", id="1", state={}))
        session = Session(server.url, {"deadline": 0.2})
        with session.open(exact=False) as store:
            saved = _saved(session, store, "", 0.05, 5)
            assert next(saved).row.id == "1"
            server.stop()
            back = threading.Timer(1.0, server.start)
            back.start()
            later = threading.Thread(target=_save_later, args=(writer, back))
            later.start()
            assert next(saved).row.id == "2"
            later.join()
    assert "waiting" in capsys.readouterr().err


def _save_later(store: CheckpointStore, after: threading.Timer) -> None:
    after.join()
    store.save(Checkpoint(execution_id="a", id="2", state={}))


def test_advise_measures_servers(
    postgres: PostgresServer, valkey: ValkeyServer, tmp_path: Any
) -> None:
    url = database(postgres, "four")
    words = ["advise", "--directory", str(tmp_path), "--turns", "2", "--crowd", "2", "-c", url]
    told = call(
        *words, "-c", valkey.url, "--shared", "network", "--lose", "all", "--json"
    ).json  # fmt: skip
    assert told["best"] in (url, valkey.url)
    assert [one["loss"] for one in told["stores"]][-2:] == ["all", "all"]
    with open_store(url) as store:
        assert store.executions() == []


@pytest.mark.parametrize("form", ["postgresql://nobody@{}:{}/x", "redis://{}:{}"])
def test_servers_that_are_away(form: str, tmp_path: Path) -> None:
    holder = hold_port()  # bound, and not listened at
    try:
        url = form.format(HOST, number_of(holder))
        said = call("threads", LANGCAIRN_STORE=url)
        assert said.code == 6
        assert "can't be reached" in said.err or "refused" in said.err
        for kind in ("auto", "langgraphgo"):
            target = f"sqlite:///{tmp_path}/{kind}.db"
            assert call("--store", target, "migrate", url, "--from", kind).code == 6
    finally:
        holder.close()


def test_a_server_that_says_nothing() -> None:
    with socket.create_server((HOST, 0)) as silent:
        url = f"redis://{HOST}:{number_of(silent)}?socket_timeout=0.2"
        for words in (["threads"], ["migrate", url]):
            said = call("--store", url, *words)
            assert said.code == 6, said.err
