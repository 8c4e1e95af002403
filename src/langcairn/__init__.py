"""langcairn keeps the checkpoints of LangGraph runs, at the cost of what changed."""

from langcairn.checkpoint import Checkpoint
from langcairn.codec.serde import SafeSerializer
from langcairn.errors import (
    AccessDenied,
    AmbiguousCheckpoint,
    CairnError,
    CheckpointNotFound,
    CorruptData,
    DecryptionFailed,
    ForgedData,
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
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.objects import Moved, ObjectStorage
from langcairn.opening import open_store
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
    "AmbiguousCheckpoint",
    "CairnError",
    "Checkpoint",
    "CheckpointNotFound",
    "CheckpointSaver",
    "CheckpointStore",
    "CorruptData",
    "DecryptionFailed",
    "FileCheckpointStore",
    "ForgedData",
    "InvalidInput",
    "MemoryCheckpointStore",
    "MissingChunks",
    "Moved",
    "ObjectStorage",
    "PostgresCheckpointStore",
    "RedisCheckpointStore",
    "SafeSerializer",
    "SavesFailed",
    "SqliteCheckpointStore",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreMisconfigured",
    "StoreUnavailable",
    "ThreadId",
    "UnsafeType",
    "Unserializable",
    "WriteBehind",
    "generate_key",
    "matching",
    "open_store",
    "own_executions",
    "read_only",
]
