"""The logs of a store: found, opened, kept open, locked, made, compacted and removed."""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.conditions import NO_LEASE, Deadline
from langcairn.backends.file.compaction import frames_of
from langcairn.backends.file.layout import LOG_ID_BYTES, pack_log_header, parse_log_header
from langcairn.backends.file.log import Log
from langcairn.backends.file.system import Descriptor, locked
from langcairn.errors import CairnError, CorruptData, StoreMisconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.backends.file.directory import Directory

_LOOKS = 4
"""How often a reader looks for a whole frame where one may just be in the making, before it waits
for the writer to be done."""

# What stays open between requests: a descriptor, and about 350 bytes for each thing in its index.
_MOST_OPEN = 128  # [logs]
_MOST_INDEXED = 200_000  # [checkpoints, writes and chunks]


class Removable(NamedTuple):
    """What is known of a log that is to be removed; little, if it is damaged."""

    epoch: int
    lease: Deadline
    is_empty: bool
    has_rows: bool


class Logs:
    """The logs in a directory; those used last stay open.

    Args:
        directory: Where they are.
        fsync: Whether what is written must survive a loss of power.
        busy_timeout: How long to wait for another process [s].
        salvage: Whether damaged logs are read up to the damage.
    """

    def __init__(
        self, directory: Directory, *, fsync: bool, busy_timeout: float, salvage: bool = False
    ) -> None:
        self.directory = directory
        self._fsync = fsync
        self._busy_timeout = busy_timeout
        self._salvage = salvage
        self.forget_all()

    def forget_all(self) -> None:
        """Drop all open logs. Those in use are closed by their last user."""
        self._open: OrderedDict[str, Log] = OrderedDict()
        self._open_lock = threading.RLock()  # for signal handlers, as in Log

    def abandon(self) -> None:
        """Close all logs, in a child just forked.

        Were they left open, a writer that is killed in the parent process would leave them locked.
        """
        for log in self._open.values():
            log.file.close()
        self.forget_all()

    # Reading

    @contextmanager
    def reading(self, path: Path) -> Iterator[Log | None]:
        """Hand over a log, caught up with what other processes did; None if there is none.

        Its index may be used until the end of the block, its contents also later.

        Raises:
            CorruptData: It is damaged, so that what is newest can't be known. (Not if it may be
                salvaged: then the index holds what lies before the damage.)
        """
        for _ in range(_LOOKS):
            log = self._opened(path)
            if log is None:
                self.directory.explain_absence()
                yield None
                return
            with log.lock:
                if log.usable and log.catch_up():
                    yield log
                    return
        log = self._examined(path)
        if log is None:
            yield None
            return
        if log.damage is not None and not self._salvage:
            raise log.damage
        with log.lock:
            yield log

    def _examined(self, path: Path) -> Log | None:
        """Return a log whose end was judged while nobody wrote to it."""
        deadline = self._deadline()
        while True:
            try:
                # Opened for itself: a lock belongs to the opening, and a writer among our own
                # threads may hold that of the log which all use.
                log = self._open_anew(path)
            except FileNotFoundError:
                return None
            with locked(log.file, deadline, shared=True):
                if not log.file.is_at(path):
                    continue
                log.judge()
            if log.damage is None:
                self._keep(log)
            return log

    def _opened(self, path: Path, *, writable: bool = False, alone: bool = False) -> Log | None:
        """Return the log that is at a path now."""
        try:
            stat = path.stat()
            log = self._open.get(path.name)
            if (
                log is None
                or alone
                or not log.usable
                or log.inode != (stat.st_dev, stat.st_ino)
                or (writable and not log.file.writable)
            ):
                log = self._open_anew(path)
            if writable and not log.file.writable:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        except (FileNotFoundError, NotADirectoryError):
            with self._open_lock:
                self._open.pop(path.name, None)
            return None
        if not alone:
            self._keep(log)
        return log

    def _open_anew(self, path: Path) -> Log:
        log = Log.open(path)
        right = self.directory.path_of(log.header.execution_id)
        if right.name != path.name:
            raise CorruptData(
                f"{path}: this is the log of another execution, {log.header.execution_id!r}; it "
                f"belongs at {right}"
            )
        return log

    def _keep(self, log: Log) -> None:
        with self._open_lock:
            is_new = self._open.get(log.path.name) is not log
            self._open[log.path.name] = log
            self._open.move_to_end(log.path.name)
            if is_new:
                self._trim()

    def _trim(self) -> None:
        indexed = sum(len(log.index) for log in self._open.values())
        while len(self._open) > 1 and (len(self._open) > _MOST_OPEN or indexed > _MOST_INDEXED):
            _, oldest = self._open.popitem(last=False)
            indexed -= len(oldest.index)

    # Writing

    @contextmanager
    def for_writing(self, path: Path, *, alone: bool = False) -> Iterator[Log | None]:
        """Lock a log, and hand it over with a sound end; None if there is none.

        Args:
            path: Where it is.
            alone: Whether to open it for this once, so that its lock also keeps out other threads,
                which share the log that stays open.

        Raises:
            StoreUnavailable: Another process holds the lock.
            CorruptData: It is damaged; what would be appended to it might be lost.
        """
        deadline = self._deadline()
        while (log := self._opened(path, writable=True, alone=alone)) is not None:
            with locked(log.file, deadline):
                if not log.file.is_at(path):
                    continue  # it was compacted or cleared while we waited
                with log.lock:
                    if not log.usable:
                        continue
                    log.judge()
                    if log.damage is not None:
                        raise log.damage
                    log.cut()
                # What a process wrote and died before it synced must not be built upon.
                self.sync(log)
                if not log.is_named:
                    self.directory.sync()
                    log.is_named = True
                yield log
                return
        yield None

    def sync(self, log: Log) -> None:
        """Make a log's frames survive a loss of power, if that is wanted and not so already."""
        if self._fsync and not log.is_synced:
            log.sync()

    @contextmanager
    def making(self, path: Path, execution_id: str, *, replace: bool = False) -> Iterator[Log]:
        """Make a log, which gets its place if something was appended, and synced.

        Raises:
            FileExistsError: Another process was faster (if nothing is to be replaced).
        """
        with self.beginning(path, execution_id) as (log, unfinished):
            yield log
            if log.end > log.header.size:
                self.directory.place(unfinished, path, replace=replace)
                log.is_named = True
                self._keep(log)

    @contextmanager
    def beginning(self, path: Path, execution_id: str) -> Iterator[tuple[Log, Path]]:
        """Make a log without a name, and hand over where it is; there it is removed at the end."""
        unfinished = self.directory.unfinished(path)
        file = Descriptor.of_new(unfinished)
        try:
            # Until its name is synced, nobody else may build on it.
            with locked(file, self._deadline()):
                header = pack_log_header(execution_id, secrets.token_bytes(LOG_ID_BYTES))
                file.write(0, header)
                yield Log(path, file, parse_log_header(header)), unfinished
        finally:
            with suppress(OSError):
                unfinished.unlink()

    def compact(self, log: Log) -> None:
        """Replace a log by one without what is dead, if that is worth it. It must be locked.

        Whoever is reading the old one can go on. If anything goes wrong, all stays as it is.
        """
        if not log.is_wasteful():
            return
        with (
            suppress(OSError, CairnError),
            self.making(log.path, log.header.execution_id, replace=True) as new,
        ):
            for entry, blobs in frames_of(log):
                new.index.apply([entry], new.data_at)
                new.append([entry], blobs)
            self.sync(new)

    @contextmanager
    def removing(self, path: Path) -> Iterator[Removable | None]:
        """Lock a log that is to be removed, also a damaged one; None if there is none."""
        deadline = self._deadline()
        while True:
            try:
                file = Descriptor.of(path)
            except (FileNotFoundError, NotADirectoryError):
                self.directory.explain_absence()
                yield None
                return
            with locked(file, deadline):
                if file.is_at(path):
                    yield self._removable(path)
                    return

    def _removable(self, path: Path) -> Removable:
        try:
            log = self._open_anew(path)
            log.judge()
        except (CorruptData, StoreMisconfigured):
            return Removable(0, NO_LEASE, is_empty=False, has_rows=True)
        index = log.index
        return Removable(
            index.epoch,
            index.lease,
            is_empty=not index.epoch and log.damage is None,
            has_rows=log.damage is not None
            or bool(index.writes())
            or next(index.checkpoints(), None) is not None,
        )

    def _deadline(self) -> float:
        return time.monotonic() + self._busy_timeout
