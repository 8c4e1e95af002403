"""Every way to reach a Redis: URLs, TLS, passwords, users, sentinels, clusters, own clients."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio as aredis
from tests.ports import HOST
from tests.sqlite_rows import chunk, fetch, find, ids, put, row, write
from tests.valkey_server import (
    Sentinel,
    TlsFront,
    ValkeyCluster,
    ValkeyServer,
    free_port,
    make_certificate,
)

from langcairn.backends.base import Clear, Commit, FindCheckpoints, FindExecutions, Remove
from langcairn.backends.redis import RedisBackend
from langcairn.backends.redis.settings import read_settings
from langcairn.errors import InvalidInput, StoreMisconfigured, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(autouse=True)
def empty(server: ValkeyServer) -> None:
    server.ask("FLUSHALL")


TIMEOUTS = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0}


def works(backend: RedisBackend) -> bool:
    """Use a backend from both sides, and close it."""

    async def use() -> list[Any]:
        await backend.aexecute(Commit("e", None, [chunk("b")], [row("c2")]))
        found: Any = await backend.aexecute(FindCheckpoints(id="c1"))
        await backend.aclose()
        return [one.row.id for one in found]

    backend.execute(Commit("e", None, [chunk("a")], [row("c1")], [write("c1", "t", 0)]))
    fetched = fetch(backend, "a")
    found = asyncio.run(use())
    gc.collect()
    return found == ["c1"] and fetched == dict([chunk("a")])


# Addresses


@pytest.mark.parametrize(
    ("address", "kind", "places", "options"),
    [
        ("localhost", "server", [("localhost", 6379)], {}),
        ("localhost:1", "server", [("localhost", 1)], {}),
        ("[::1]:7", "server", [("::1", 7)], {}),
        ("redis://h", "server", [("h", 6379)], {}),
        ("valkey://h/3", "server", [("h", 6379)], {"db": 3}),
        ("rediss://u@h:2/1", "server", [("h", 2)], {"username": "u", "db": 1}),
        ("rediss://u:p%40s@h", "server", [("h", 6379)], {"username": "u", "password": "p@s"}),
        ("valkeys://:p@h", "server", [("h", 6379)], {"password": "p"}),
        ("redis://h/?socket_timeout=2.5", "server", [("h", 6379)], {"socket_timeout": 2.5}),
        ("redis://h/2?db=4", "server", [("h", 6379)], {"db": 4}),
        ("unix:///tmp/a%20b.sock?db=2", "unix", [], {"db": 2}),
        ("unix://u:p@/tmp/s", "unix", [], {"username": "u", "password": "p"}),
        ("/tmp/s", "unix", [], {}),
        ("redis+sentinel://a:1,b/main", "sentinel", [("a", 1), ("b", 26379)], {}),
        ("rediss+sentinel://:p@a/main/5", "sentinel", [("a", 26379)], {"db": 5, "password": "p"}),
        ("redis+cluster://a:1,[::2]:3", "cluster", [("a", 1), ("::2", 3)], {}),
        ("valkeys+cluster://u:p@a", "cluster", [("a", 6379)], {"username": "u", "password": "p"}),
    ],
)  # fmt: skip
def test_addresses(address: str, kind: str, places: Any, options: dict[str, Any]) -> None:
    settings = read_settings(address, arguments={})
    assert (settings.kind, settings.addresses) == (kind, places)
    assert settings.options == TIMEOUTS | options
    assert settings.tls == address.startswith(("rediss", "valkeys"))
    assert "p@s" not in repr(settings)
    assert "p@s" not in settings.server


def test_arguments_overrule_the_url() -> None:
    url = "redis://u:p@h/1?max_connections=3&socket_timeout=9"
    arguments = {"password": "q", "db": None, "socket_timeout": 1.0}
    settings = read_settings(url, arguments=arguments, options={"username": "v"})
    expected = {"username": "v", "password": "q", "db": 1, "socket_timeout": 1.0}
    assert settings.options == TIMEOUTS | expected
    assert settings.max_connections == 3
    assert read_settings("h:1", cluster=True, arguments={"db": 0}).kind == "cluster"


def test_options_for_sentinels() -> None:
    url = "redis+sentinel://a/main?sentinel_username=s"
    settings = read_settings(url, arguments={}, options={"sentinel_password": "x", "password": "y"})
    assert settings.sentinel_options == {"username": "s", "password": "x"}
    assert settings.options == TIMEOUTS | {"password": "y"}
    assert settings.service == "main"


@pytest.mark.parametrize(
    "address",
    ["", None, 7, "http://h", "redis+tls://h", "redis://h:port", "redis://h:99999", "redis://h/x",
     "redis+sentinel://h", "redis://[::1", "redis://h?db=x", "redis+cluster://h/1", "mysql://h"],
)  # fmt: skip
def test_addresses_that_are_refused(address: Any) -> None:
    with pytest.raises(InvalidInput):
        RedisBackend(address)


@pytest.mark.parametrize(
    "options",
    [{"options": {"no_such": 1}}, {"max_connections": 0}, {"max_connections": "x"},
     {"deadline": -1}, {"socket_timeout": 0}, {"socket_connect_timeout": -1}, {"client": object()},
     {"async_client": redis.Redis()}, {"client": redis.Redis(decode_responses=True)},
     {"cluster": True, "db": 1}],
)  # fmt: skip
def test_arguments_that_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        RedisBackend("localhost", **options)


# Kinds of servers


def test_a_socket_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "valkey.sock"
    with ValkeyServer(unixsocket=str(path)):
        assert works(RedisBackend(f"unix://{path}"))
        assert works(RedisBackend(str(path)))


def test_databases(server: ValkeyServer) -> None:
    assert works(RedisBackend(server.url, db=3))
    backend = RedisBackend(f"{server.url}/3")
    assert ids(find(backend, "e")) == ["c2", "c1"]
    backend.close()
    backend = RedisBackend(server.url)
    assert find(backend, "e") == []
    backend.close()
    backend = RedisBackend(server.url, db=999)
    with pytest.raises(StoreMisconfigured, match="db"):
        find(backend, "e")
    backend.close()


def test_a_sentinel(server: ValkeyServer) -> None:
    with Sentinel(server) as sentinel:
        assert works(RedisBackend(sentinel.url))
        assert works(RedisBackend(f"{sentinel.url}/5"))
        backend = RedisBackend(f"redis+sentinel://{HOST}:{sentinel.port}/other", deadline=0.1)
        with pytest.raises(StoreUnavailable, match="other"):
            find(backend, "e")
        backend.close()
    backend = RedisBackend(server.url, db=5)
    assert ids(find(backend, "e")) == ["c2", "c1"]
    backend.close()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_tls(server: ValkeyServer, certificate: Path) -> None:
    with TlsFront(server, certificate) as front:
        url = f"rediss://{HOST}:{front.port}"
        assert works(RedisBackend(url, options={"ssl_ca_certs": str(certificate)}))
        assert works(RedisBackend(f"{url}?ssl_ca_certs={certificate}"))


def test_tls_with_a_certificate_of_the_client(server: ValkeyServer, certificate: Path) -> None:
    with TlsFront(server, certificate, ask_clients=True) as front:
        url = f"valkeys://{HOST}:{front.port}?ssl_ca_certs={certificate}"
        assert works(RedisBackend(f"{url}&ssl_certfile={certificate}&ssl_keyfile={certificate}"))


def test_tls_trouble_is_told_at_once(server: ValkeyServer, certificate: Path) -> None:
    with TlsFront(server, certificate) as front:
        refused(RedisBackend(f"rediss://{HOST}:{front.port}"), "certificate")
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        with pytest.raises(InvalidInput, match=name):
            RedisBackend(f"rediss://{HOST}", options={name: "/no/such/file"})


def refused(backend: RedisBackend, reason: str) -> None:
    """Check that both sides of a backend refuse at once, and close it."""

    async def ask() -> None:
        await backend.aexecute(FindExecutions())

    with pytest.raises(StoreMisconfigured, match=reason):
        backend.execute(FindExecutions())
    with pytest.raises(StoreMisconfigured, match=reason):
        asyncio.run(ask())
    backend.close()


# Passwords and users


@pytest.fixture(scope="module")
def guarded() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        rights = "~langgraph:* -@all +evalsha +eval +zadd +zrem +zrangebylex +zrevrangebylex"
        rights += " +zremrangebylex +zlexcount +zrandmember +hset +hget +hkeys +hdel +hlen +unlink"
        rights += " +exists +pexpire +pttl +persist +time"
        server.ask("ACL", "SETUSER", "least", "on", ">secret", *rights.split())
        server.ask("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+ping")
        server.ask("ACL", "SETUSER", "default", "resetpass", ">letmein")
        yield server


def test_passwords(guarded: ValkeyServer) -> None:
    assert works(RedisBackend(guarded.url, password="letmein"))
    assert works(RedisBackend(f"redis://:letmein@{HOST}:{guarded.port}"))
    refused(RedisBackend(guarded.url), "password")
    refused(RedisBackend(guarded.url, password="wrong"), "password")
    refused(RedisBackend(guarded.url, username="nobody", password="letmein"), "user name")


def test_a_user_with_the_documented_rights(guarded: ValkeyServer) -> None:
    login: dict[str, Any] = {"username": "least", "password": "secret"}
    assert works(RedisBackend(guarded.url, **login, ttl=1000, renew_on_read=True))
    backend = RedisBackend(guarded.url, **login)
    assert len(find(backend)) == 2
    assert backend.execute(FindExecutions()) == ["e"]
    assert backend.execute(Remove("e", [("", "c1")]))
    assert backend.execute(Clear("e")) is True
    backend.close()
    refused(RedisBackend(guarded.url, **login, prefix="other:"), "rights")


def test_a_user_without_rights(guarded: ValkeyServer) -> None:
    backend = RedisBackend(guarded.url, username="reader", password="secret")
    with pytest.raises(StoreMisconfigured, match="rights"):
        put(backend, row("c1"))
    backend.close()


# Clusters


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as cluster:
        yield cluster


def test_a_cluster(cluster: ValkeyCluster) -> None:
    assert works(RedisBackend(cluster.url))
    first = cluster.servers[0]
    assert works(RedisBackend(f"{HOST}:{first.port}", cluster=True))
    backend = RedisBackend(cluster.url, wait_aof=False, ttl=1000)
    for i in range(30):
        put(backend, row("c", f"e{i}"))
    assert len(find(backend, id="c")) == 30
    keys = [server.ask("DBSIZE") for server in cluster.servers]
    assert min(keys) > 0  # the executions are spread
    backend.close()


def test_a_server_that_turns_out_to_be_in_a_cluster(
    server: ValkeyServer, cluster: ValkeyCluster
) -> None:
    backend = RedisBackend(cluster.servers[0].url)
    with pytest.raises(StoreMisconfigured, match="cluster=True"):
        backend.execute(FindExecutions())  # some registers are on other nodes
    backend.close()
    backend = RedisBackend(server.url, cluster=True, deadline=0.1)
    with pytest.raises(StoreMisconfigured, match="without cluster=True"):
        put(backend, row("c"))
    backend.close()


def test_slots_that_move(cluster: ValkeyCluster) -> None:
    """While an execution moves to another node, and after it has, requests find it."""
    backend = RedisBackend(cluster.url)
    epoch = put(backend, row("c1"))
    with cluster.client() as client:
        key = b"langgraph:execution:{e}:checkpoints"
        slot = client.keyslot(key)
        source: Any = client.get_node_from_key(key)
    (at,) = (s for s in cluster.servers if s.port == source.port)
    to = next(s for s in cluster.servers if s is not at)
    at_id, to_id = (s.ask("CLUSTER", "MYID") for s in (at, to))
    to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", at_id)
    at.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
    put(backend, row("c2"), epoch=epoch)
    at.ask("MIGRATE", HOST, to.port, key, 0, 5000)
    put(backend, row("c3"), epoch=epoch)
    assert asyncio.run(_afind(backend)) == ["c3", "c2", "c1"]
    for server in (to, at):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", to_id)
    put(backend, row("c4"), epoch=epoch)
    assert ids(find(backend, "e")) == asyncio.run(_afind(backend)) == ["c4", "c3", "c2", "c1"]
    backend.close()


async def _afind(backend: RedisBackend) -> list[str]:
    found: Any = await backend.aexecute(FindCheckpoints("e"))
    return [one.row.id for one in found]


# Clients of the user's


def test_own_clients_are_used_and_left_open(server: ValkeyServer) -> None:
    with redis.Redis(port=server.port, db=7) as client:

        async def use() -> None:
            async with aredis.Redis(port=server.port, db=7) as aclient:
                backend = RedisBackend(client=client, async_client=aclient)
                assert await backend.aexecute(Commit("e", None, (), [row("c1")]))
                assert ids(find(backend, "e")) == ["c1"]
                await backend.aclose()
                assert await aclient.ping()

        asyncio.run(use())
        assert client.ping()


def test_one_own_client_serves_one_side(server: ValkeyServer) -> None:
    with redis.Redis(port=server.port) as client:
        backend = RedisBackend(client=client)
        put(backend, row("c1"))
        with pytest.raises(InvalidInput, match="async_client"):
            asyncio.run(_afind(backend))
        backend.close()

    async def use() -> None:
        async with aredis.Redis(port=server.port) as aclient:
            backend = RedisBackend(async_client=aclient)
            assert await _afind(backend) == ["c1"]
            with pytest.raises(InvalidInput, match="client="):
                find(backend, "e")
            await backend.aclose()

    asyncio.run(use())


def test_own_clients_of_a_cluster(cluster: ValkeyCluster) -> None:
    async def use() -> list[str]:
        async with aredis.RedisCluster(HOST, cluster.servers[1].port) as aclient:
            backend = RedisBackend(async_client=aclient)
            await backend.aexecute(Clear("e"))
            await backend.aexecute(Commit("e", None, (), [row("c9")]))
            await backend.aclose()
            return await _afind(RedisBackend(async_client=aclient))

    assert asyncio.run(use()) == ["c9"]
    with cluster.client() as client:
        backend = RedisBackend(client=client)
        assert ids(find(backend, "e")) == ["c9"]
        backend.close()


def test_nobody_listens() -> None:
    backend = RedisBackend(f"{HOST}:{free_port()}", deadline=0.2)
    with pytest.raises(StoreUnavailable, match=r"refused|connect"):
        find(backend, "e")
    with pytest.raises(StoreUnavailable, match=r"refused|connect"):
        asyncio.run(_afind(backend))
    backend.close()
