"""langcairn keeps the checkpoints of LangGraph runs, at the cost of what changed."""

from langcairn.alerts import Alert, Level, Thresholds
from langcairn.checkpoint import Checkpoint
from langcairn.codec.serde import SafeSerializer
from langcairn.errors import (
    AmbiguousCheckpoint,
    CairnError,
    CheckpointNotFound,
    CorruptData,
    InvalidInput,
    MissingChunks,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
    UnsafeType,
    Unserializable,
)
from langcairn.figures import ExecutionStats, Health, Stats
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.monitor import Monitor
from langcairn.observing import Observation, Observer
from langcairn.opening import open_store
from langcairn.profiler import Profiler
from langcairn.store import CheckpointStore
from langcairn.stores import (
    FileCheckpointStore,
    MemoryCheckpointStore,
    PostgresCheckpointStore,
    RedisCheckpointStore,
    SqliteCheckpointStore,
)

__all__ = [
    "Alert",
    "AmbiguousCheckpoint",
    "CairnError",
    "Checkpoint",
    "CheckpointNotFound",
    "CheckpointSaver",
    "CheckpointStore",
    "CorruptData",
    "ExecutionStats",
    "FileCheckpointStore",
    "Health",
    "InvalidInput",
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
    "SqliteCheckpointStore",
    "Stats",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMisconfigured",
    "StoreUnavailable",
    "Thresholds",
    "UnsafeType",
    "Unserializable",
    "open_store",
]
