"""The contract on the PostgreSQL backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage

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
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def storage(server: PostgresServer) -> Iterator[Storage]:
    with PostgresStorage(server.url(), kept="contract") as storage:
        yield storage


class TestBackend(BackendContract, TransactionContract):
    pass


class TestStore(StoreContract):
    pass


class TestSaver(SaverContract):
    pass
