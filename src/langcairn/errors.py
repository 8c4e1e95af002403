"""The errors of langcairn, one tree.

    CairnError
    ├── InvalidInput (ValueError)       what the caller passed can't be stored
    │   └── Unserializable (TypeError)  a value inside the state, with its path
    ├── CheckpointNotFound (LookupError)
    ├── AmbiguousCheckpoint (LookupError)
    ├── AlreadyThere                    something is stored that must not be overwritten
    ├── CorruptData                     what was read isn't what was written
    │   ├── MissingChunks               a checkpoint refers to what isn't stored
    │   └── UnsafeType                  loading it would run or import something
    ├── StoreError                      the storage system said no
    │   ├── StoreUnavailable            it may work later
    │   ├── StoreMisconfigured          it won't work until someone changes a setting
    │   └── StoreFull                   no room left
    ├── StaleEpoch                      the writer's cache is out of date (handled inside)
    └── StoreClosed

Unavailable, corrupt and missing are three different answers: an outage is never reported as
"not found". Errors of drivers are translated where they occur and kept as ``__cause__``.
"""

from __future__ import annotations


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


class AlreadyThere(CairnError):
    """The store has an execution that would be overwritten; nothing was written."""


class CorruptData(CairnError):
    """Stored bytes are damaged, missing or forged. No state was returned."""


class MissingChunks(CorruptData):
    """A checkpoint refers to chunks that aren't stored."""


class UnsafeType(CorruptData):
    """Stored data names a type that must not be constructed here.

    It is no data type, or its module is not loaded, or an allowlist excludes it.
    """


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


class StaleEpoch(CairnError):
    """A commit was built on a cache from before chunks were removed; it was refused whole.

    The store handles this itself: it drops the cache and repeats the put in full.
    """
