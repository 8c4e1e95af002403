"""The contract on the PostgreSQL backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage

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
    if given := os.environ.get("LANGCAIRN_TEST_POSTGRES_URL"):
        yield given
        return
    server = PostgresServer()
    try:
        yield server.start().url()
    finally:
        server.remove()


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    prepare = os.environ.get("LANGCAIRN_TEST_POSTGRES_PREPARE") != "0"
    with PostgresStorage(url, kept="contract", prepare=prepare) as storage:
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
