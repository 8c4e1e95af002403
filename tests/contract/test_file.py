"""The contract on the file backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.file_storage import FileStorage

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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with FileStorage(tmp_path / "contract") as storage:
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
