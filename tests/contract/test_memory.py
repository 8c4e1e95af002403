"""The contract on the memory backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from langcairn.testing import (
    BackendContract,
    ExecutionsContract,
    FiguresContract,
    MaintenanceContract,
    MemoryStorage,
    SaverContract,
    Storage,
    StoreContract,
    TransactionContract,
    WorkflowContract,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def storage() -> Iterator[Storage]:
    with MemoryStorage() as storage:
        yield storage


class TestBackend(BackendContract, TransactionContract):
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
