"""langcairn keeps the checkpoints of LangGraph runs, at the cost of what changed."""

from langcairn.alerts import (
    Alert,
    Level,
    Thresholds,
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
    Repacked,
    TrainingReport,
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
    migrate,
    progress_bar,
    repair,
    restore,
    verify,
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
    "BackupReport",
    "CairnError",
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
    "MemoryCheckpointStore",
    "MigrationReport",
    "MissingChunks",
    "Monitor",
    "Observation",
    "Observer",
    "PostgresCheckpointStore",
    "Profiler",
    "Progress",
    "RedisCheckpointStore",
    "Repacked",
    "RepairReport",
    "RestoreReport",
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
