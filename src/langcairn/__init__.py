"""langcairn keeps the checkpoints of LangGraph runs, at the cost of what changed.

Names are imported when they are first used: `langcairn.cli` starts without LangGraph.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langcairn.alerts import (
        Alert,
        Level,
        Thresholds,
    )
    from langcairn.caretaker import (
        Maintenance,
    )
    from langcairn.checkpoint import (
        Checkpoint,
    )
    from langcairn.codec.serde import (
        SafeSerializer,
    )
    from langcairn.comparing import (
        ChannelDiff,
        ItemDiff,
        StateDiff,
        compare_states,
    )
    from langcairn.dictionaries import (
        DictionaryInfo,
        TrainingReport,
    )
    from langcairn.erasing import (
        ErasureReport,
    )
    from langcairn.errors import (
        AccessDenied,
        AlreadyThere,
        AmbiguousCheckpoint,
        CairnError,
        CheckpointNotFound,
        ConcurrentWriter,
        Conflict,
        CorruptData,
        DecryptionFailed,
        ForgedData,
        GraphChanged,
        InvalidInput,
        LeaseHeld,
        LeaseLost,
        MissingChunks,
        SavesFailed,
        StoreClosed,
        StoreError,
        StoreFull,
        StoreMisconfigured,
        StoreUnavailable,
        TamperedData,
        UnsafeType,
        Unserializable,
        VersionConflict,
    )
    from langcairn.figures import (
        ExecutionStats,
        Health,
        Stats,
    )
    from langcairn.forks import (
        Fork,
        Step,
    )
    from langcairn.langgraph.checkpointable import (
        CheckpointableRunnable,
    )
    from langcairn.langgraph.config import (
        CheckpointConfig,
    )
    from langcairn.langgraph.message_graph import (
        CheckpointableMessageGraph,
    )
    from langcairn.langgraph.saver import (
        CheckpointSaver,
    )
    from langcairn.leases import (
        Lease,
    )
    from langcairn.monitor import (
        Monitor,
    )
    from langcairn.objects import (
        Moved,
        ObjectStorage,
    )
    from langcairn.observing import (
        Observation,
        Observer,
    )
    from langcairn.opening import (
        open_store,
    )
    from langcairn.profiler import (
        Profiler,
    )
    from langcairn.repacking import (
        Repacked,
    )
    from langcairn.retention import (
        Candidate,
        Retention,
    )
    from langcairn.security.guard import (
        Action,
        matching,
        own_executions,
        read_only,
    )
    from langcairn.security.keys import (
        generate_key,
    )
    from langcairn.store import (
        CheckpointStore,
    )
    from langcairn.stores import (
        FileCheckpointStore,
        MemoryCheckpointStore,
        PostgresCheckpointStore,
        RedisCheckpointStore,
        SqliteCheckpointStore,
    )
    from langcairn.thread_id import (
        ThreadId,
    )
    from langcairn.transactions import (
        Transaction,
    )
    from langcairn.transfer import (
        BackupHolding,
        BackupReport,
        DualWriteSaver,
        Finding,
        LangGraphGo,
        MigrationReport,
        Progress,
        RepairReport,
        RestoreReport,
        VerifyReport,
        abackup,
        amigrate,
        arepair,
        arestore,
        averify,
        backup,
        backup_contains,
        migrate,
        progress_bar,
        repair,
        restore,
        verify,
    )
    from langcairn.upkeep import (
        MaintainedExecution,
        MaintenanceReport,
    )
    from langcairn.write_behind import (
        WriteBehind,
    )

__all__ = [
    "AccessDenied",
    "Action",
    "Alert",
    "AlreadyThere",
    "AmbiguousCheckpoint",
    "BackupHolding",
    "BackupReport",
    "CairnError",
    "Candidate",
    "ChannelDiff",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointNotFound",
    "CheckpointSaver",
    "CheckpointStore",
    "CheckpointableMessageGraph",
    "CheckpointableRunnable",
    "ConcurrentWriter",
    "Conflict",
    "CorruptData",
    "DecryptionFailed",
    "DictionaryInfo",
    "DualWriteSaver",
    "ErasureReport",
    "ExecutionStats",
    "FileCheckpointStore",
    "Finding",
    "ForgedData",
    "Fork",
    "GraphChanged",
    "Health",
    "InvalidInput",
    "ItemDiff",
    "LangGraphGo",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Level",
    "MaintainedExecution",
    "Maintenance",
    "MaintenanceReport",
    "MemoryCheckpointStore",
    "MigrationReport",
    "MissingChunks",
    "Monitor",
    "Moved",
    "ObjectStorage",
    "Observation",
    "Observer",
    "PostgresCheckpointStore",
    "Profiler",
    "Progress",
    "RedisCheckpointStore",
    "Repacked",
    "RepairReport",
    "RestoreReport",
    "Retention",
    "SafeSerializer",
    "SavesFailed",
    "SqliteCheckpointStore",
    "StateDiff",
    "Stats",
    "Step",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMisconfigured",
    "StoreUnavailable",
    "TamperedData",
    "ThreadId",
    "Thresholds",
    "TrainingReport",
    "Transaction",
    "UnsafeType",
    "Unserializable",
    "VerifyReport",
    "VersionConflict",
    "WriteBehind",
    "abackup",
    "amigrate",
    "arepair",
    "arestore",
    "averify",
    "backup",
    "backup_contains",
    "compare_states",
    "generate_key",
    "matching",
    "migrate",
    "open_store",
    "own_executions",
    "progress_bar",
    "read_only",
    "repair",
    "restore",
    "verify",
]

# As above, for the interpreter: module to its public names.
_HOMES = {
    "langcairn.alerts": (
        "Alert",
        "Level",
        "Thresholds",
    ),
    "langcairn.caretaker": ("Maintenance",),
    "langcairn.checkpoint": ("Checkpoint",),
    "langcairn.codec.serde": ("SafeSerializer",),
    "langcairn.comparing": (
        "ChannelDiff",
        "ItemDiff",
        "StateDiff",
        "compare_states",
    ),
    "langcairn.dictionaries": (
        "DictionaryInfo",
        "TrainingReport",
    ),
    "langcairn.erasing": ("ErasureReport",),
    "langcairn.errors": (
        "AccessDenied",
        "AlreadyThere",
        "AmbiguousCheckpoint",
        "CairnError",
        "CheckpointNotFound",
        "ConcurrentWriter",
        "Conflict",
        "CorruptData",
        "DecryptionFailed",
        "ForgedData",
        "GraphChanged",
        "InvalidInput",
        "LeaseHeld",
        "LeaseLost",
        "MissingChunks",
        "SavesFailed",
        "StoreClosed",
        "StoreError",
        "StoreFull",
        "StoreMisconfigured",
        "StoreUnavailable",
        "TamperedData",
        "UnsafeType",
        "Unserializable",
        "VersionConflict",
    ),
    "langcairn.figures": (
        "ExecutionStats",
        "Health",
        "Stats",
    ),
    "langcairn.forks": (
        "Fork",
        "Step",
    ),
    "langcairn.langgraph.checkpointable": ("CheckpointableRunnable",),
    "langcairn.langgraph.config": ("CheckpointConfig",),
    "langcairn.langgraph.message_graph": ("CheckpointableMessageGraph",),
    "langcairn.langgraph.saver": ("CheckpointSaver",),
    "langcairn.leases": ("Lease",),
    "langcairn.monitor": ("Monitor",),
    "langcairn.objects": (
        "Moved",
        "ObjectStorage",
    ),
    "langcairn.observing": (
        "Observation",
        "Observer",
    ),
    "langcairn.opening": ("open_store",),
    "langcairn.profiler": ("Profiler",),
    "langcairn.repacking": ("Repacked",),
    "langcairn.retention": (
        "Candidate",
        "Retention",
    ),
    "langcairn.security.guard": (
        "Action",
        "matching",
        "own_executions",
        "read_only",
    ),
    "langcairn.security.keys": ("generate_key",),
    "langcairn.store": ("CheckpointStore",),
    "langcairn.stores": (
        "FileCheckpointStore",
        "MemoryCheckpointStore",
        "PostgresCheckpointStore",
        "RedisCheckpointStore",
        "SqliteCheckpointStore",
    ),
    "langcairn.thread_id": ("ThreadId",),
    "langcairn.transactions": ("Transaction",),
    "langcairn.transfer": (
        "BackupHolding",
        "BackupReport",
        "DualWriteSaver",
        "Finding",
        "LangGraphGo",
        "MigrationReport",
        "Progress",
        "RepairReport",
        "RestoreReport",
        "VerifyReport",
        "abackup",
        "amigrate",
        "arepair",
        "arestore",
        "averify",
        "backup",
        "backup_contains",
        "migrate",
        "progress_bar",
        "repair",
        "restore",
        "verify",
    ),
    "langcairn.upkeep": (
        "MaintainedExecution",
        "MaintenanceReport",
    ),
    "langcairn.write_behind": ("WriteBehind",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
