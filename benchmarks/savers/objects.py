"""Our saver on SQLite with objects in a folder, while content moves there every second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.savers.base import Adapter, Session
from benchmarks.savers.sqlite import DATABASE, SqliteSession
from langcairn import CheckpointSaver, ObjectStorage, open_store

if TYPE_CHECKING:
    from pathlib import Path

LARGER = 2_000
"""Tool results are larger [bytes, compressed], so that there is always something to move."""


class _LangcairnObjectsSession(SqliteSession):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        objects = ObjectStorage(url=f"file://{directory}/objects", larger=LARGER, every=1)
        self.saver: CheckpointSaver = CheckpointSaver(
            open_store(f"sqlite:///{directory / DATABASE}", objects=objects)
        )

    def _close_saver(self) -> None:
        self.saver.store.close()


class LangcairnObjects(Adapter):
    name = "langcairn objects"
    persistent = True

    def open(self, directory: Path) -> Session:
        return _LangcairnObjectsSession(directory)
