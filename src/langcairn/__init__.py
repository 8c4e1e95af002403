"""langcairn keeps the checkpoints of LangGraph runs, at the cost of what changed."""

from langcairn.checkpoint import Checkpoint
from langcairn.codec.serde import SafeSerializer
from langcairn.errors import (
    AmbiguousCheckpoint,
    CairnError,
    CheckpointNotFound,
    ConcurrentWriter,
    Conflict,
    CorruptData,
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    MissingChunks,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
    UnsafeType,
    Unserializable,
    VersionConflict,
)
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.leases import Lease
from langcairn.opening import open_store
from langcairn.store import CheckpointStore
from langcairn.stores import (
    FileCheckpointStore,
    MemoryCheckpointStore,
    PostgresCheckpointStore,
    RedisCheckpointStore,
    SqliteCheckpointStore,
)
from langcairn.transactions import Transaction

__all__ = [
    "AmbiguousCheckpoint",
    "CairnError",
    "Checkpoint",
    "CheckpointNotFound",
    "CheckpointSaver",
    "CheckpointStore",
    "ConcurrentWriter",
    "Conflict",
    "CorruptData",
    "FileCheckpointStore",
    "InvalidInput",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "MemoryCheckpointStore",
    "MissingChunks",
    "PostgresCheckpointStore",
    "RedisCheckpointStore",
    "SafeSerializer",
    "SqliteCheckpointStore",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMisconfigured",
    "StoreUnavailable",
    "Transaction",
    "UnsafeType",
    "Unserializable",
    "VersionConflict",
    "open_store",
]
