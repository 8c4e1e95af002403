"""All logs of a store together, for requests that name no execution."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.file.log import Log
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from langcairn.backends.file.logs import Logs

_TICK = 2_000_000_000
"""How old a file's time must be to rule out a later change with the same time. Kernels count in
steps of some milliseconds, FAT in two seconds. [ns]"""


class _Seen(NamedTuple):
    stamp: tuple[int, int, int]
    """Inode, size and time of the file."""
    ids: frozenset[int]
    """Hashes of the ids of its checkpoints."""


class Catalog:
    """Looks through the directory of logs, and remembers what it saw.

    Each question costs a look at every directory entry, about 3 µs; the first one by an id also
    the reading of every log's index. Remembered is a number for each checkpoint.
    """

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._executions: dict[str, str] = {}  # by file name: one means the other, for ever
        self._seen: dict[str, _Seen] = {}  # by file name

    def executions(self) -> list[str]:
        """Return the ids of all executions, in no certain order.

        Raises:
            CorruptData: That of a log is unreadable.
        """
        known, found = self._executions, {}
        for entry in self._logs.directory.entries():
            id = known.get(entry.name)
            try:
                if id is None:
                    log = Log.open(Path(entry.path))
                    if log.is_empty():
                        continue
                    id = log.header.execution_id
            except FileNotFoundError:
                continue  # cleared meanwhile
            found[entry.name] = id
        self._executions = found
        return list(found.values())

    def paths(self) -> Iterator[Path]:
        """Yield the places of all logs, in no certain order."""
        for entry in self._logs.directory.entries():
            yield Path(entry.path)

    def paths_with(self, id: str) -> Iterator[Path]:
        """Yield the places of all logs that may hold a checkpoint with this id."""
        key, seen = hash(id), {}
        for entry in self._logs.directory.entries():
            stamp = _stamp(entry)
            known = self._seen.get(entry.name)
            if stamp is None:
                continue  # cleared meanwhile
            if known is None or known.stamp != stamp:
                known = self._look(Path(entry.path), stamp)
            if known is not None:
                seen[entry.name] = known
            if known is None or key in known.ids:
                yield Path(entry.path)
        self._seen = seen

    def _look(self, path: Path, stamp: tuple[int, int, int]) -> _Seen | None:
        """Read which ids a log has; None if that isn't known for long."""
        try:
            with self._logs.reading(path) as log:
                if log is None or log.damage is not None or stamp[2] > time.time_ns() - _TICK:
                    return None
                return _Seen(stamp, frozenset(map(hash, log.index.ids())))
        except CorruptData:
            return None  # whoever reads it will find out


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int, int] | None:
    try:
        stat = entry.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
