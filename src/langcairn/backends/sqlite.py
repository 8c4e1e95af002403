"""Checkpoints in an SQLite file, for any number of threads and processes at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from os import PathLike, access, fsdecode, W_OK
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from langcairn.backends.sqlite_queries import Queries
from langcairn.backends.sqlite_schema import prepare, tables_of
from langcairn.backends.threaded import ThreadedBackend
from langcairn.errors import (
    CairnError,
    CorruptData,
    InvalidInput,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langcairn.backends.base import Request

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

_MAX_IDLE = 16
"""Connections kept for the next reader. Each may hold a page cache of its own."""


class SqliteBackend(ThreadedBackend):
    """Keeps checkpoints in one SQLite file in WAL mode.

    Reading never waits for writing. Writers of all threads share transactions (group commit);
    writers of other processes take turns. The file and its tables are made on first use.

    Args:
        path: The file. Its directory must exist.
        table_name: The table of checkpoints. Several stores with different names may share a
            file, also with tables of other programs.
        synchronous: What a commit survives. ``"FULL"``: power loss. ``"NORMAL"``: power loss, but
            perhaps without the last commits. ``"OFF"``: power loss may destroy the file. A killed
            process loses nothing with any of them.
        cache_size: SQLite's page cache for each connection, as its pragma takes it: a number of
            pages, or if negative of KiB. None: SQLite's default of 2,000 KiB.
        busy_timeout: How long to wait for writers of other processes, as a timedelta or in seconds.
        max_threads: The most threads that serve coroutines.

    Raises:
        InvalidInput: An argument can't be used as it is.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        table_name: str = "checkpoints",
        *,
        synchronous: Synchronous = "FULL",
        cache_size: int | None = None,
        busy_timeout: timedelta | float = 10.0,
        max_threads: int = 4,
    ) -> None:
        self._path = _checked_path(path)
        self._table_name = table_name
        self._tables = tables_of(table_name)
        self._queries = Queries(self._tables)
        self._pragmas = [f"synchronous = {_checked_synchronous(synchronous)}"]
        if cache_size is not None:
            self._pragmas.append(f"cache_size = {int(cache_size)}")
        self._busy_timeout = _seconds(busy_timeout)
        self._start_empty()
        super().__init__(max_threads=max_threads)
