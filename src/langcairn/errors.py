"""The errors of langcairn, one tree.

    CairnError
    ├── InvalidInput (ValueError)       what the caller passed can't be stored
    │   └── Unserializable (TypeError)  a value inside the state, with its path
    ├── CheckpointNotFound (LookupError)
    ├── AmbiguousCheckpoint (LookupError)
    ├── AlreadyThere                    something is stored that must not be overwritten
    ├── GraphChanged                    a checkpoint waits for a node that the graph lacks
    ├── AlreadyThere                    something is stored that must not be overwritten
    ├── CorruptData                     what was read isn't what was written
    │   ├── MissingChunks               a checkpoint refers to what isn't stored
    │   ├── DecryptionFailed            the key is wrong or missing, or it is forged
    │   ├── ForgedData                  it is not signed with the store's key
    │   └── UnsafeType                  loading it would run or import something
    ├── StoreError                      the storage system said no
    │   ├── StoreUnavailable            it may work later
    │   ├── StoreMisconfigured          it won't work until someone changes a setting
    │   └── StoreFull                   no room left
    ├── AccessDenied (PermissionError)  a guard's policy doesn't allow it
    ├── SavesFailed                     what a WriteBehind had accepted could not be stored
    ├── Conflict                        another writer was there; nothing was written
    │   ├── VersionConflict             the stored version isn't the expected one
    │   ├── ConcurrentWriter            the parent isn't the newest checkpoint any more
    │   ├── LeaseHeld                   another one has a lease on the execution
    │   └── LeaseLost                   the caller's own lease is no longer his
    ├── StaleEpoch                      the writer's cache is out of date (handled inside)
    └── StoreClosed

Unavailable, corrupt and missing are three different answers: an outage is never reported as
"not found". Errors of drivers are translated where they occur and kept as ``__cause__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.checkpoint import Checkpoint


class CairnError(Exception):
    """Base of everything that langcairn raises on purpose."""


class InvalidInput(CairnError, ValueError):
    """An argument can't be stored or used as it is; nothing was written."""


class Unserializable(InvalidInput, TypeError):
    """A value in a state, a pending write or the metadata can't be serialized.

    Attributes:
        path: Where the value sits, as in ``state['messages'][3].artifact``.
        type_name: The qualified name of its type.
    """

    def __init__(self, path: str, type_name: str, reason: str) -> None:
        super().__init__(
            f"{path} can't be saved: a value of type {type_name} is not serializable ({reason}). "
            "Nothing of this put was kept. Use plain data, a pydantic model or a dataclass instead."
        )
        self.path = path
        self.type_name = type_name


class CheckpointNotFound(CairnError, LookupError):
    """There is no such checkpoint. The store was reachable and said so."""


class AmbiguousCheckpoint(CairnError, LookupError):
    """Several executions or namespaces hold a checkpoint with this id: say which is meant."""


class GraphChanged(CairnError):
    """A checkpoint was saved by a graph that had other nodes; nothing was run.

    Attributes:
        missing: The nodes, or joins of nodes, that the checkpoint waits for and the graph lacks.
        checkpoint_id: The checkpoint.
        nodes: The nodes that the graph has.
    """

    def __init__(
        self, missing: list[str], checkpoint_id: str, execution_id: str, nodes: list[str]
    ) -> None:
        named = ", ".join(map(repr, missing))
        super().__init__(
            f"checkpoint {checkpoint_id!r} of execution {execution_id!r} waits for {named}, which "
            f"the graph doesn't have any more; it has {', '.join(map(repr, nodes))}. Nothing was "
            "run. Give the node its old name back, go on from an earlier checkpoint, or say where "
            "to go on with update_state(config, values, as_node=…)."
        )
        self.missing = missing
        self.checkpoint_id = checkpoint_id
        self.nodes = nodes


class AlreadyThere(CairnError):
    """The store has an execution that would be overwritten; nothing was written."""


class CorruptData(CairnError):
    """Stored bytes are damaged, missing or forged. No state was returned."""


class MissingChunks(CorruptData):
    """A checkpoint refers to chunks that aren't stored."""


class DecryptionFailed(CorruptData):
    """What is stored can't be decrypted: another key, no encryption, damaged, forged or moved."""


class TamperedData(DecryptionFailed):
    """What is encrypted was damaged, forged or moved: its key is there, and doesn't open it."""


class ForgedData(CorruptData):
    """What is stored is not signed with a key of this store, or not as it is now."""


class UnsafeType(CorruptData):
    """Stored data names a type that must not be constructed here.

    It is no data type, or its module is not loaded, or an allowlist excludes it.
    """


class AccessDenied(CairnError, PermissionError):
    """A guard refused an operation. That says nothing about whether there is such an execution."""


class StoreError(CairnError):
    """The storage system refused or failed an operation."""


class StoreUnavailable(StoreError):
    """The storage system can't be reached or is busy; the same call may work later."""


class StoreMisconfigured(StoreError):
    """The storage can't be used as configured: a wrong path, no rights, not a database."""


class StoreFull(StoreError):
    """There is no space left. What was acknowledged before stays readable."""


class StoreClosed(CairnError):
    """The store was closed and can't be used any more."""


class SavesFailed(CairnError):
    """Saves that a `WriteBehind` had accepted could not be stored.

    Attributes:
        failures: Pairs of a checkpoint, as it was when it was saved, and the error with which it
            failed. They are told once: keep what you need.
    """

    def __init__(self, failures: Sequence[tuple[Checkpoint, Exception]], note: str = "") -> None:
        checkpoint, error = failures[0]
        others = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        super().__init__(
            f"checkpoint {checkpoint.id!r} of execution {checkpoint.execution_id!r}{others}, "
            f"accepted earlier, could not be stored: {error} ({type(error).__name__}). `failures` "
            f"of this error has them all, to be saved elsewhere or again. {note}".rstrip()
        )
        self.failures = list(failures)


class Conflict(CairnError):
    """Another writer was faster, or has the right to write; nothing was written."""


class VersionConflict(Conflict):
    """A checkpoint has another version than the caller expected.

    Attributes:
        expected: The version that the caller expected; None: he expected that there is none.
        found: The version that is stored; None: there is no such checkpoint.
    """

    def __init__(
        self, message: str, *, expected: int | None = None, found: int | None = None
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class ConcurrentWriter(Conflict):
    """A put continues a checkpoint that isn't the newest of its namespace any more.

    Attributes:
        parent_id: The checkpoint that the put continues; None: it begins the namespace.
        newest_id: The newest one by now; None: there is none.
    """

    def __init__(
        self, message: str, *, parent_id: str | None = None, newest_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.parent_id = parent_id
        self.newest_id = newest_id


class LeaseHeld(Conflict):
    """Another owner has a lease on the execution.

    Attributes:
        owner: Who has it.
        left: How long it lasts if it isn't renewed [s].
    """

    def __init__(self, message: str, *, owner: str = "", left: float = 0.0) -> None:
        super().__init__(message)
        self.owner = owner
        self.left = left


class LeaseLost(Conflict):
    """The caller's lease was taken over by another owner, released, or cleared away."""


class StaleEpoch(CairnError):
    """A commit was built on a cache from before chunks were removed; it was refused whole.

    The store handles this itself: it drops the cache and repeats the put in full.
    """
