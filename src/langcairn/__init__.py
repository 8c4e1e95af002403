"""langcairn keeps the checkpoints of LangGraph runs, at the cost of what changed."""

from langcairn.checkpoint import Checkpoint
from langcairn.codec.serde import SafeSerializer
from langcairn.comparing import ChannelDiff, ItemDiff, StateDiff, compare_states
from langcairn.errors import (
    AmbiguousCheckpoint,
    CairnError,
    CheckpointNotFound,
    CorruptData,
    GraphChanged,
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
from langcairn.forks import Fork, Step
from langcairn.langgraph.checkpointable import CheckpointableRunnable
from langcairn.langgraph.config import CheckpointConfig
from langcairn.langgraph.message_graph import CheckpointableMessageGraph
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.opening import open_store
from langcairn.store import CheckpointStore
from langcairn.stores import (
    FileCheckpointStore,
    MemoryCheckpointStore,
    PostgresCheckpointStore,
    RedisCheckpointStore,
    SqliteCheckpointStore,
)

__all__ = [
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
    "FileCheckpointStore",
    "Fork",
    "GraphChanged",
    "InvalidInput",
    "ItemDiff",
    "MemoryCheckpointStore",
    "MissingChunks",
    "PostgresCheckpointStore",
    "RedisCheckpointStore",
    "SafeSerializer",
    "SqliteCheckpointStore",
    "StateDiff",
    "Step",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMisconfigured",
    "StoreUnavailable",
    "UnsafeType",
    "Unserializable",
    "compare_states",
    "open_store",
]
