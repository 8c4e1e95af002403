"""The savers that are measured, each behind an adapter.

A further saver is a further adapter class and a line in `ADAPTERS`; if it competes with an
official one, a line in `benchmarks.targets.PAIRS` as well.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from langcairn import CheckpointSaver, MemoryCheckpointStore

if TYPE_CHECKING:
    from pathlib import Path

    from langgraph.checkpoint.base import BaseCheckpointSaver

DATABASE = "checkpoints.db"


class Session(ABC):
    """One open saver on an empty place of its own."""

    saver: BaseCheckpointSaver[Any]

    @abstractmethod
    def bytes_kept(self) -> int:
        """Say how much is kept now. It isn't timed, and it may touch what is stored."""

    @abstractmethod
    def close(self) -> int:
        """Close the saver, and say how many bytes the whole run costs to keep."""


class Adapter(ABC):
    """How one saver is opened, weighed and closed.

    Attributes:
        name: What the report and `--savers` call it.
        persistent: Whether a fresh process can open what it stored.
    """

    name: ClassVar[str]
    persistent: ClassVar[bool]

    @abstractmethod
    def open(self, directory: Path) -> Session:
        """Open the saver on `directory`, which is its own; there may be data there already."""


def _files_size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


class _SqliteSession(Session):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def bytes_kept(self) -> int:
        # The log in the -wal file may be 4 MB at any moment and nothing at the next: fold it into
        # the database, so that the series shows what is kept and not where SQLite stands.
        with closing(sqlite3.connect(self._directory / DATABASE)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return _files_size(self._directory)

    def close(self) -> int:
        self._close_saver()
        return _files_size(self._directory)

    @abstractmethod
    def _close_saver(self) -> None: ...


class _OfficialSqliteSession(_SqliteSession):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._context = SqliteSaver.from_conn_string(str(directory / DATABASE))
        self.saver = self._context.__enter__()

    def _close_saver(self) -> None:
        self._context.__exit__(None, None, None)


class OfficialSqlite(Adapter):
    name = "official sqlite"
    persistent = True

    def open(self, directory: Path) -> Session:
        return _OfficialSqliteSession(directory)


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


class _LangcairnSqliteSession(_SqliteSession):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.saver: CheckpointSaver = CheckpointSaver(f"sqlite:///{directory / DATABASE}")

    def _close_saver(self) -> None:
        self.saver.close()


class LangcairnSqlite(Adapter):
    name = "langcairn sqlite"
    persistent = True

    def open(self, directory: Path) -> Session:
        return _LangcairnSqliteSession(directory)


class _LangcairnMemorySession(Session):
    def __init__(self) -> None:
        self._store = MemoryCheckpointStore()
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

    def open(self, directory: Path) -> Session:  # noqa: ARG002 -- a memory saver needs no place
        return _LangcairnMemorySession()


ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (OfficialSqlite(), LangcairnSqlite(), OfficialMemory(), LangcairnMemory())
}
