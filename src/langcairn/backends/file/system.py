"""What the operating system does for the file backend: descriptors, locks, errors."""

from __future__ import annotations

import errno
import os
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langcairn.errors import (
    CairnError,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)
from langcairn.observing import spent

try:
    import fcntl
except ImportError:  # on Windows, where the rest of langcairn must work
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST_PAUSE = 0.0005  # [s] a commit of another process takes about 0.5 ms on an SSD
_LONGEST_PAUSE = 0.02  # [s]


def check_system() -> None:
    """Refuse a system without POSIX' locks.

    Raises:
        StoreMisconfigured: It is one.
    """
    if fcntl is None:
        raise StoreMisconfigured("plain files need locks of POSIX; on this system use sqlite:///…")


class Descriptor:
    """A file descriptor that is closed when its last user is done.

    Readers take no lock that a writer would wait for, so nobody else can know when that is.
    """

    __slots__ = ("fd", "writable")

    def __init__(self, fd: int, *, writable: bool) -> None:
        self.fd = fd
        self.writable = writable

    @classmethod
    def of(cls, path: Path) -> Descriptor:
        """Open an existing file, for reading only if it can't be written."""
        try:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC), writable=True)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC), writable=False)

    @classmethod
    def of_new(cls, path: Path) -> Descriptor:
        """Make a file that isn't there yet."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return cls(os.open(path, flags, 0o666), writable=True)

    def close(self) -> None:
        """Close it now, because it is known to have no other user."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def inode(self) -> tuple[int, int]:
        """Return what tells this file from every other that exists."""
        stat = os.fstat(self.fd)
        return stat.st_dev, stat.st_ino

    def is_at(self, path: Path) -> bool:
        """Tell whether this file still has this name."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        return (stat.st_dev, stat.st_ino) == self.inode()

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at a place; fewer at the end of the file."""
        data = os.pread(self.fd, size, offset)
        if len(data) in (0, size):
            return data
        parts = [data]
        while data:  # a read ends at 2 GB, or at a signal
            offset += len(data)
            size -= len(data)
            data = os.pread(self.fd, size, offset)
            parts.append(data)
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of the data at a place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, offset)
            view = view[written:]
            offset += written

    def size(self) -> int:
        """Return the length of the file."""
        return os.fstat(self.fd).st_size


@contextmanager
def locked(file: Descriptor, deadline: float, *, shared: bool = False) -> Iterator[None]:
    """Keep other processes, and other stores of this one, from writing a file.

    Args:
        file: The file.
        deadline: Until when to wait, of `time.monotonic`.
        shared: Let others do this too.

    Raises:
        StoreUnavailable: Another process holds the lock.
    """
    try:
        _acquire(file, deadline, shared=shared)
        yield
    finally:
        # In any case, so that an interrupt leaves no gap; and not by closing: a child forked
        # meanwhile may have the file open too, and would keep the lock.
        fcntl.flock(file.fd, fcntl.LOCK_UN)


def _acquire(file: Descriptor, deadline: float, *, shared: bool) -> None:
    pause = _FIRST_PAUSE
    while not try_lock(file, shared=shared):
        if time.monotonic() >= deadline:
            raise StoreUnavailable("another process has been writing for too long")
        nap = random.uniform(pause / 2, pause)  # noqa: S311 -- no secret
        time.sleep(nap)
        spent("lock", nap)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def try_lock(file: Descriptor, *, shared: bool = False) -> bool:
    """Lock a file if nobody holds it."""
    try:
        fcntl.flock(file.fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise the system's errors as langcairn's."""
    try:
        yield
    except OSError as error:
        raise translation(error, path) from error


def translation(error: OSError, path: Path) -> CairnError:
    """Return langcairn's error for one of the system's."""
    where = error.filename or path
    kind = _KINDS.get(error.errno or 0, StoreError)
    return kind(f"{where}: {error.strerror or error}")


_KINDS: dict[int, type[CairnError]] = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EFBIG: StoreFull,
    errno.EACCES: StoreMisconfigured,
    errno.EPERM: StoreMisconfigured,
    errno.EROFS: StoreMisconfigured,
    errno.ENOENT: StoreMisconfigured,
    errno.ENOTDIR: StoreMisconfigured,
    errno.EISDIR: StoreMisconfigured,
    errno.EEXIST: StoreMisconfigured,
    errno.ELOOP: StoreMisconfigured,
    errno.ENAMETOOLONG: StoreMisconfigured,
    errno.EINVAL: StoreMisconfigured,
    errno.EOPNOTSUPP: StoreMisconfigured,  # a file system without locks or hard links
    errno.ENOLCK: StoreUnavailable,
    errno.EMFILE: StoreUnavailable,
    errno.ENFILE: StoreUnavailable,
    errno.ENOMEM: StoreUnavailable,
    errno.ESTALE: StoreUnavailable,
    errno.ETIMEDOUT: StoreUnavailable,
}
