"""All logs of a store together, for requests that name no execution."""

from __future__ import annotations

import time
from bisect import bisect_left
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.file.directory import words_of
from langcairn.backends.file.log import Log
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from langcairn.backends.base import FindExecutions
    from langcairn.backends.file.logs import Logs

_TICK = 2_000_000_000
"""How old a file's time must be to rule out a later change with the same time. Kernels count in
steps of some milliseconds, FAT in two seconds. [ns]"""


class _Seen(NamedTuple):
    stamp: tuple[int, int, int]
    """Inode, size and time of the file."""
    ids: frozenset[int]
    """Hashes of the ids of its checkpoints."""


class _Names(NamedTuple):
    """What the directory held."""

    stamp: tuple[int, int]
    """Inode and time of the directory."""
    names: list[str]
    """The file names, ascending."""


class Catalog:
    """Looks through the directory of logs, and remembers what it saw.

    A question for a checkpoint's id costs a look at every directory entry, about 3 µs, and the
    first one the reading of every log's index. A question for executions costs the names in the
    directory, once while they stay the same, and the header of each log in question, once.
    Remembered are a number for each checkpoint and the id of each execution.
    """

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._listed = _Names((-1, -1), [])
        self._executions: dict[str, str] = {}  # by file name: one means the other, for ever
        self._seen: dict[str, _Seen] = {}  # by file name

    def executions(self, query: FindExecutions, problems: list[str] | None = None) -> list[str]:
        """Return the ids of executions in a range, in ascending order.

        No log is opened whose name shows that it isn't in the range, and none twice.

        Args:
            query: The range.
            problems: Takes what is wrong with logs whose id is unreadable.

        Raises:
            CorruptData: The id of a log is unreadable, and there is no ``problems``.
        """
        after, before = query.after, query.before
        names = self._names()
        if before is not None:
            # What all ids in the range begin with, their logs' names begin with, too.
            common = commonprefix((after, before))  # noqa: RUF071 -- these are no paths
            words = words_of(common)
            names = names[bisect_left(names, words) : bisect_left(names, f"{words}\x7f")]
        ids = [id for name in names if (id := self._execution(name, problems)) is not None]
        found = sorted(id for id in ids if after < id and (before is None or id < before))
        return found if query.limit is None else found[: max(query.limit, 0)]

    def _names(self) -> list[str]:
        """Return the file names of all logs, ascending."""
        directory = self._logs.directory
        stamp = directory.stamp()
        if stamp != self._listed.stamp:
            names = sorted(entry.name for entry in directory.entries())
            known = self._executions
            self._executions = {name: known[name] for name in names if name in known}
            if not 0 < stamp[1] < time.time_ns() - _TICK:
                return names  # a change of this moment might not show
            self._listed = _Names(stamp, names)
        return self._listed.names

    def _execution(self, name: str, problems: list[str] | None) -> str | None:
        """Return the id of the execution whose log has a name; None if it was cleared meanwhile."""
        known = self._executions.get(name)
        if known is None:
            try:
                log = Log.open(self._logs.directory.named(name))
            except FileNotFoundError:
                return None
            except CorruptData as error:
                if problems is None:
                    raise
                problems.append(str(error))
                return None
            if log.is_empty():
                return None
            known = self._executions[name] = log.header.execution_id
        return known

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
