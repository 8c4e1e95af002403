"""The contract on the Redis backend, on a Valkey server and on a cluster of three."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import redis
from tests.redis_storage import RedisStorage
from tests.valkey_server import ValkeyCluster, ValkeyServer

from langcairn.testing import (
    BackendContract,
    ExecutionsContract,
    FiguresContract,
    MaintenanceContract,
    SaverContract,
    Storage,
    StoreContract,
    TransactionContract,
    WorkflowContract,
)
from langcairn.testing.lost_history import LostHistory

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the stores are: a server of the tests' own, unless another one is given."""
    if given := os.environ.get("LANGCAIRN_TEST_REDIS_URL"):
        yield given
        return
    with ValkeyServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as cluster:
        yield cluster


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    with redis.Redis.from_url(url) as client, RedisStorage(url, client) as storage:
        yield storage


class TestBackend(BackendContract, TransactionContract):
    pass


class TestLostHistory(LostHistory):
    pass


class TestExecutions(ExecutionsContract):
    pass


class TestStore(StoreContract):
    pass


class TestSaver(SaverContract):
    pass


class TestWorkflow(WorkflowContract):
    pass


class TestFigures(FiguresContract):
    pass


class TestMaintenance(MaintenanceContract):
    pass


class TestBackendOnCluster(BackendContract):
    @pytest.fixture
    def storage(self, cluster: ValkeyCluster) -> Iterator[Storage]:
        with cluster.client() as client, RedisStorage(cluster.url, client) as storage:
            yield storage


class TestExecutionsOnCluster(ExecutionsContract):
    pass


class TestFiguresOnCluster(FiguresContract):
    @pytest.fixture
    def storage(self, cluster: ValkeyCluster) -> Iterator[Storage]:
        with cluster.client() as client, RedisStorage(cluster.url, client) as storage:
            yield storage
