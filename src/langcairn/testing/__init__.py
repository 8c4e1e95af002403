"""The contract of langcairn as test classes, which the tests of a backend instantiate.

A backend's test module defines a `Storage` for it, a fixture that yields a fresh one, and an empty
subclass of each contract::

    @pytest.fixture
    def storage(tmp_path: Path) -> Iterator[Storage]:
        with SqliteStorage(tmp_path / "contract.db") as storage:
            yield storage

    class TestBackend(BackendContract): ...
    class TestExecutions(ExecutionsContract): ...
    class TestBackend(BackendContract, TransactionContract): ...
    class TestStore(StoreContract): ...
    class TestSaver(SaverContract): ...
    class TestWorkflow(WorkflowContract): ...
    class TestFigures(FiguresContract): ...
    class TestMaintenance(MaintenanceContract): ...

The package needs pytest and hypothesis. For readable failures call
``pytest.register_assert_rewrite("langcairn.testing")`` in the conftest, before importing it.
"""

from langcairn.testing.backend import BackendContract
from langcairn.testing.conditions import TransactionContract
from langcairn.testing.executions import ExecutionsContract
from langcairn.testing.figures import FiguresContract
from langcairn.testing.saver import SaverContract
from langcairn.testing.stateful import SaverMachine
from langcairn.testing.storage import MemoryStorage, SqliteStorage, Storage
from langcairn.testing.store import StoreContract
from langcairn.testing.upkeep import MaintenanceContract
from langcairn.testing.workflow import WorkflowContract

__all__ = [
    "BackendContract",
    "ExecutionsContract",
    "FiguresContract",
    "MaintenanceContract",
    "MemoryStorage",
    "SaverContract",
    "SaverMachine",
    "SqliteStorage",
    "Storage",
    "StoreContract",
    "TransactionContract",
    "WorkflowContract",
]
