"""LangGraph's saver in memory, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.savers.base import KEY, Adapter, Session
from langcairn import CheckpointSaver, MemoryCheckpointStore

if TYPE_CHECKING:
    from pathlib import Path

    from langcairn.options import StoreOptions


class _OfficialMemorySession(Session):
    def __init__(self) -> None:
        self.saver: InMemorySaver = InMemorySaver()

    def bytes_kept(self) -> int:
        """Sum what is serialized, and the strings of the keys; no overhead of Python objects."""
        return self._checkpoint_bytes() + self._write_bytes() + self._blob_bytes()

    def _checkpoint_bytes(self) -> int:
        return sum(
            len(checkpoint_id) + len(checkpoint[1]) + len(metadata[1]) + len(parent_id or "")
            for namespaces in self.saver.storage.values()
            for checkpoints in namespaces.values()
            for checkpoint_id, (checkpoint, metadata, parent_id) in checkpoints.items()
        )

    def _write_bytes(self) -> int:
        return sum(
            len("".join(checkpoint_key)) + len(task_id) + len(channel) + len(value[1]) + len(path)
            for checkpoint_key, writes in self.saver.writes.items()
            for task_id, channel, value, path in writes.values()
        )

    def _blob_bytes(self) -> int:
        return sum(
            sum(len(str(part)) for part in key) + len(value)
            for key, (_, value) in self.saver.blobs.items()
        )

    def close(self) -> int:
        return self.bytes_kept()


class OfficialMemory(Adapter):
    name = "official memory"
    persistent = False

    def open(self, directory: Path) -> Session:  # noqa: ARG002 -- a memory saver needs no place
        return _OfficialMemorySession()


class _LangcairnMemorySession(Session):
    def __init__(self, options: StoreOptions) -> None:
        self._store = MemoryCheckpointStore(**options)
        self.saver: CheckpointSaver = CheckpointSaver(self._store)

    def bytes_kept(self) -> int:
        return self._store.stored_bytes()

    def close(self) -> int:
        kept = self.bytes_kept()
        self._store.close()
        return kept


class LangcairnMemory(Adapter):
    name = "langcairn memory"
    persistent = False
    options: ClassVar[StoreOptions] = {}

    def open(self, directory: Path) -> Session:  # noqa: ARG002 -- a memory saver needs no place
        return _LangcairnMemorySession(self.options)


class EncryptedMemory(LangcairnMemory):
    name = "encrypted memory"
    options: ClassVar[StoreOptions] = {"encryption": KEY, "encrypt_metadata": True}


class SignedMemory(LangcairnMemory):
    name = "signed memory"
    options: ClassVar[StoreOptions] = {"signing_key": KEY}
