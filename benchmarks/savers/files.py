"""Our saver on plain files. Each commit waits for an fdatasync, as each of our SQLite's does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.savers.base import Adapter, Session, files_size
from langcairn import CheckpointSaver

if TYPE_CHECKING:
    from pathlib import Path


class _LangcairnFilesSession(Session):
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.saver: CheckpointSaver = CheckpointSaver(f"file://{directory}")

    def bytes_kept(self) -> int:
        return files_size(self._directory)

    def close(self) -> int:
        self.saver.close()
        return self.bytes_kept()


class LangcairnFiles(Adapter):
    name = "langcairn files"
    persistent = True

    def open(self, directory: Path) -> Session:
        return _LangcairnFilesSession(directory)
