"""The contract on the Redis backend, on a Valkey server and on a cluster of three."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.redis_storage import RedisStorage
from tests.valkey_server import ValkeyCluster, ValkeyServer

from langcairn.testing import (
    BackendContract,
    SaverContract,
    Storage,
    StoreContract,
    TransactionContract,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as cluster:
        yield cluster


@pytest.fixture
def storage(server: ValkeyServer) -> Iterator[Storage]:
    with server.client() as client, RedisStorage(server.url, client) as storage:
        yield storage


class TestBackend(BackendContract, TransactionContract):
    pass


class TestStore(StoreContract):
    pass


class TestSaver(SaverContract):
    pass


class TestBackendOnCluster(BackendContract):
    @pytest.fixture
    def storage(self, cluster: ValkeyCluster) -> Iterator[Storage]:
        with cluster.client() as client, RedisStorage(cluster.url, client) as storage:
            yield storage
