"""Transactions and leases where Redis has rules of its own: clusters, expiry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.crc import key_slot
from tests.valkey_server import ValkeyCluster, ValkeyServer

from langcairn import Checkpoint, CheckpointStore, InvalidInput, LeaseHeld
from langcairn.backends.base import AcquireLease, Commit, FindCheckpoints, RenewLease, Transaction
from langcairn.backends.redis import RedisBackend
from langcairn.backends.redis.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def record(execution_id: str) -> Checkpoint:
    return Checkpoint(id="a", execution_id=execution_id, state={"by": execution_id})


def in_one_slot() -> tuple[str, str]:
    """Return two executions in one slot; few ids are."""
    keys = Keys("langgraph:")
    seen: dict[int, str] = {}
    for number in range(5000):
        id = f"run-{number}"
        other = seen.setdefault(key_slot(keys.execution(id)), id)
        if other != id:
            return other, id
    raise AssertionError("there are only 16,384 slots")


@pytest.mark.parametrize("clients", ["own", "given"])
def test_slots_of_a_cluster(cluster: ValkeyCluster, clients: str) -> None:
    with cluster.client() as client:
        client.flushall()
        backend = RedisBackend(cluster.url) if clients == "own" else RedisBackend(client=client)
        with CheckpointStore(backend) as store:
            refused = Transaction([Commit("one", None), Commit("two", None)])
            with pytest.raises(InvalidInput, match=r"'one', 'two'.*slot"):
                backend.execute(refused)
            assert store.executions() == []
            assert list(client.scan_iter("*")) == []
            pair = in_one_slot()
            with store.transaction() as tx:
                for id in pair:
                    tx.save(record(id))
            assert store.executions() == sorted(pair)
            for id in pair:
                assert store.load("a", execution_id=id).state == {"by": id}
            with store.transaction() as tx:
                tx.delete("a", execution_id=pair[0])
            assert store.load("a").execution_id == pair[1]


def test_a_lease_expires_with_its_execution(server: ValkeyServer) -> None:
    """And begins one that expires like any other."""
    server.ask("FLUSHALL")
    backend = RedisBackend(server.url, ttl=3600)
    token: Any = backend.execute(AcquireLease("run", "owner", 60))
    key = "langgraph:execution:{run}:checkpoints"
    assert 0 < server.ask("PTTL", key) <= 3_600_000
    backend.execute(RenewLease("run", token, 60))
    backend.execute(Commit("run", None, fence=token))
    assert 0 < server.ask("PTTL", key) <= 3_600_000
    other = RedisBackend(server.url, ttl=3600, renew_on_read=True)
    assert other.execute(FindCheckpoints("run")) == []
    with pytest.raises(LeaseHeld):
        other.execute(Commit("run", None))
    other.close()
    backend.close()
