"""langcairn keeps the checkpoints of LangGraph runs, at the cost of what changed."""

from langcairn.alerts import Alert, Level, Thresholds
from langcairn.checkpoint import Checkpoint
from langcairn.codec.serde import SafeSerializer
from langcairn.comparing import ChannelDiff, ItemDiff, StateDiff, compare_states
from langcairn.errors import (
    AccessDenied,
    AmbiguousCheckpoint,
    CairnError,
    CheckpointNotFound,
    CorruptData,
    DecryptionFailed,
    ForgedData,
    GraphChanged,
    InvalidInput,
    MissingChunks,
    SavesFailed,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
    UnsafeType,
    Unserializable,
)
from langcairn.figures import ExecutionStats, Health, Stats
from langcairn.forks import Fork, Step
from langcairn.langgraph.checkpointable import CheckpointableRunnable
from langcairn.langgraph.config import CheckpointConfig
from langcairn.langgraph.message_graph import CheckpointableMessageGraph
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.monitor import Monitor
from langcairn.observing import Observation, Observer
from langcairn.opening import open_store
from langcairn.profiler import Profiler
from langcairn.security.guard import Action, matching, own_executions, read_only
from langcairn.security.keys import generate_key
from langcairn.store import CheckpointStore
from langcairn.stores import (
    FileCheckpointStore,
    MemoryCheckpointStore,
    PostgresCheckpointStore,
    RedisCheckpointStore,
    SqliteCheckpointStore,
)
from langcairn.thread_id import ThreadId
from langcairn.write_behind import WriteBehind

__all__ = [
    "AccessDenied",
    "Action",
    "Alert",
    "AmbiguousCheckpoint",
    "CairnError",
    "ChannelDiff",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointNotFound",
    "CheckpointSaver",
    "CheckpointStore",
    "CheckpointableMessageGraph",
    "CheckpointableRunnable",
    "CorruptData",
    "DecryptionFailed",
    "ExecutionStats",
    "FileCheckpointStore",
    "ForgedData",
    "Fork",
    "GraphChanged",
    "Health",
    "InvalidInput",
    "ItemDiff",
    "Level",
    "MemoryCheckpointStore",
    "MissingChunks",
    "Monitor",
    "Observation",
    "Observer",
    "PostgresCheckpointStore",
    "Profiler",
    "RedisCheckpointStore",
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
    "UnsafeType",
    "Unserializable",
    "WriteBehind",
    "compare_states",
    "generate_key",
    "matching",
    "open_store",
    "own_executions",
    "read_only",
]
