"""LangGraph's saver on SQLite, and ours. Both commit with WAL and synchronous=FULL."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, ClassVar

from langgraph.checkpoint.sqlite import SqliteSaver

from benchmarks.savers.base import KEY, MAX_CHECKPOINTS, Adapter, Session, files_size
from langcairn import CheckpointSaver, SqliteCheckpointStore
from langcairn.langgraph.retaining_saver import RetainingSaver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langcairn import CheckpointStore
    from langcairn.options import StoreOptions

DATABASE = "checkpoints.db"


class SqliteSession(Session):
    """A saver on a SQLite file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def bytes_kept(self) -> int:
        # The log in the -wal file may be 4 MB at any moment and nothing at the next: fold it into
        # the database, so that the series shows what is kept and not where SQLite stands.
        with closing(sqlite3.connect(self._directory / DATABASE)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return files_size(self._directory)

    def close(self) -> int:
        self._close_saver()
        return files_size(self._directory)

    @abstractmethod
    def _close_saver(self) -> None: ...


class _OfficialSqliteSession(SqliteSession):
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


class _LangcairnSqliteSession(SqliteSession):
    def __init__(
        self,
        directory: Path,
        make: Callable[[CheckpointStore], CheckpointSaver],
        options: StoreOptions,
    ) -> None:
        super().__init__(directory)
        self.saver: CheckpointSaver = make(SqliteCheckpointStore(directory / DATABASE, **options))

    def _close_saver(self) -> None:
        self.saver.store.close()


class LangcairnSqlite(Adapter):
    name = "langcairn sqlite"
    persistent = True
    options: ClassVar[StoreOptions] = {}

    def open(self, directory: Path) -> Session:
        return _LangcairnSqliteSession(directory, self._saver, self.options)

    def _saver(self, store: CheckpointStore) -> CheckpointSaver:
        return CheckpointSaver(store)


class EncryptedSqlite(LangcairnSqlite):
    name = "encrypted sqlite"
    options: ClassVar[StoreOptions] = {"encryption": KEY, "encrypt_metadata": True}


class SignedSqlite(LangcairnSqlite):
    name = "signed sqlite"
    options: ClassVar[StoreOptions] = {"signing_key": KEY}


class RetainingSqlite(LangcairnSqlite):
    name = "retaining sqlite"

    def _saver(self, store: CheckpointStore) -> CheckpointSaver:
        return RetainingSaver(store, MAX_CHECKPOINTS)
