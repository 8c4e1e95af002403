"""The contract on the SQLite backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from langcairn.testing import (
    BackendContract,
    ExecutionsContract,
    FiguresContract,
    MaintenanceContract,
    SaverContract,
    SqliteStorage,
    Storage,
    StoreContract,
    TransactionContract,
    WorkflowContract,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with SqliteStorage(tmp_path / "contract.db") as storage:
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
