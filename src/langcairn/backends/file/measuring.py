"""How much is in a directory of logs, and whether it can be used."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING

from langcairn.backends.base import FindExecutions
from langcairn.backends.file.layout import VERSION
from langcairn.backends.measures import Measured, Server, Stored

if TYPE_CHECKING:
    from pathlib import Path

    from langcairn.backends.file.catalog import Catalog
    from langcairn.backends.file.log import Log
    from langcairn.backends.file.logs import Logs
    from langcairn.backends.measures import Measure, MeasureExecutions, Ping

_START = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK = 512  # [bytes] what st_blocks counts in, whatever the file system's are


class Measuring:
    """Answers requests about a store in plain files as a whole.

    The index of every log is read, and kept as long as those of other requests are.
    """

    def __init__(self, logs: Logs, catalog: Catalog) -> None:
        self._logs = logs
        self._catalog = catalog

    def ping(self, _: Ping) -> Server:
        """Look whether the directory is there, or can be made."""
        self._logs.directory.explain_absence()
        place = _existing(self._logs.directory.path)
        return Server("files", str(VERSION), os.access(place, os.R_OK | os.W_OK | os.X_OK))

    def all(self, _: Measure) -> Measured:
        """Measure everything."""
        disk = 0
        found: list[Stored] = []
        for path in self._catalog.paths():
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # cleared meanwhile
            disk += stat.st_blocks * _BLOCK
            with self._logs.reading(path) as log:
                if log is not None:
                    found.append(_stored(log))
        usage = shutil.disk_usage(_existing(self._logs.directory.path))
        return Measured(len(found), reduce(_sum, found, Stored()), disk, usage.free, usage.total)

    def by_execution(self, request: MeasureExecutions) -> list[tuple[str, Stored]]:
        """Measure executions one by one."""
        wanted = request.ids
        if wanted is None:
            wanted = self._catalog.executions(FindExecutions(request.after))
        found: list[tuple[str, Stored]] = []
        for id in sorted(id for id in set(wanted) if id > request.after):
            if request.limit is not None and len(found) >= request.limit:
                break
            with self._logs.reading(self._logs.directory.path_of(id)) as log:
                if log is not None:
                    found.append((id, _stored(log)))
        return found


def _stored(log: Log) -> Stored:
    """Return what a log holds; its lock must be held."""
    index = log.index
    checkpoints, writes, chunks = list(index.checkpoints()), index.writes(), index.chunks
    size = sum(stored.span.size for stored in checkpoints)
    size += sum(stored.span.size for stored in writes)
    size += sum(stored.span.size for stored in chunks.values())
    times = [stored.timestamp for stored in checkpoints]
    return Stored(
        len(checkpoints),
        len(writes),
        len(chunks),
        size,
        _time(min(times)) if times else None,
        _time(max(times)) if times else None,
    )


def _sum(one: Stored, other: Stored) -> Stored:
    oldest = [time for time in (one.oldest, other.oldest) if time is not None]
    newest = [time for time in (one.newest, other.newest) if time is not None]
    return Stored(
        one.checkpoints + other.checkpoints,
        one.writes + other.writes,
        one.chunks + other.chunks,
        one.bytes + other.bytes,
        min(oldest, default=None),
        max(newest, default=None),
    )


def _time(microseconds: int) -> datetime:
    return _START + timedelta(microseconds=microseconds)


def _existing(path: Path) -> Path:
    """Return a directory, or the one above that exists."""
    return path if path.is_dir() else path.parent
