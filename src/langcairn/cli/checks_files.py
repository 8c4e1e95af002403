"""What `langcairn doctor` looks at where a store is a file or a directory on this machine."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from langcairn.cli.findings import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.cli.findings import Finding

_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph")
_FLEETING = ("tmpfs", "ramfs")
_MOUNTS = Path("/proc/self/mounts")


def checks(scheme: str, path: Path, url: str, options: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is found.

    Args:
        scheme: ``sqlite`` or ``file``.
        path: Where the store is.
        url: Its URL.
        options: Its options that aren't in the URL.
    """
    given = {**dict(parse_qsl(urlsplit(url).query)), **options}
    kind = file_system(path, _MOUNTS.read_text() if _MOUNTS.exists() else "")
    if kind in _NETWORK:
        yield problem(
            "file system",
            f"{path} is on {kind}, whose locks and fsync can't be relied on",
            "Keep it on a local disk, or use PostgreSQL for several machines.",
        )
    elif kind in _FLEETING:
        yield problem(
            "durability", f"{path} is in memory ({kind}): a restart loses it", "Move it to a disk."
        )
    elif kind:
        yield ok("file system", f"{path} is on {kind}")
    yield from _durability(scheme, given)
    yield from _rights(path)
    if scheme == "sqlite":
        yield from _journal(path)


def _durability(scheme: str, given: dict[str, Any]) -> Iterator[Finding]:
    if scheme == "file":
        if str(given.get("fsync", True)).lower() == "false":
            yield warning(
                "durability", "fsync is off: a loss of power may cost threads", "Leave fsync on."
            )
        else:
            yield ok("durability", "each commit is synced to the disk")
        return
    level = str(given.get("synchronous", "FULL")).upper()
    if level == "OFF":
        yield problem(
            "durability",
            "synchronous is OFF: a loss of power may destroy the file",
            "Use synchronous=FULL, or NORMAL if the last commits may be lost.",
        )
    elif level == "NORMAL":
        yield warning(
            "durability",
            "synchronous is NORMAL: a loss of power may undo the last commits",
            "Use synchronous=FULL if that must not be.",
        )
    else:
        yield ok("durability", f"synchronous is {level}: commits survive a loss of power")


def _rights(path: Path) -> Iterator[Finding]:
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH:
        yield problem(
            "rights", f"every user of this machine may write to {path}", f"chmod o-rwx '{path}'"
        )
    elif mode & stat.S_IROTH:
        yield warning(
            "rights",
            f"every user of this machine may read {path}",
            f"chmod o-rwx '{path}', if there are other users; or encrypt the store.",
        )


def _journal(path: Path) -> Iterator[Finding]:
    connection = sqlite3.connect(path)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        yield problem("journal", f"{path}: {error}", "Run `langcairn verify`.")
        return
    finally:
        connection.close()
    if mode != "wal":
        yield warning(
            "journal",
            f"the journal mode is {mode}: readers wait for writers",
            "A file system without shared memory can't do WAL: keep the file on a local disk.",
        )
        return
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size > max(path.stat().st_size, 1 << 26):
        yield warning(
            "journal",
            f"the log {wal} is larger than the file: a reader holds it open"
            + (", or a writer does" if busy else ""),
            "Look for a process with a read transaction that doesn't end.",
        )


def file_system(path: Path, mounts: str) -> str:
    """Return the kind of file system that a path is on; ``""`` if unknown.

    Args:
        path: The path.
        mounts: What /proc/self/mounts says.
    """
    resolved = path.resolve()
    best = ("", "")
    for line in mounts.splitlines():
        _, place, kind, *_ = (*line.split(), "", "", "")
        where = place.replace("\\040", " ")
        if resolved.is_relative_to(where or "/nowhere") and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]
