"""The directory of a store in plain files: how logs are named, and how they come and go.

::

    DIRECTORY/logs/thread-1-5f0c…e2.cairn    one for each execution
    DIRECTORY/unfinished/…                   not a log yet, or no longer
    DIRECTORY/transactions/…                 decisions, see `langcairn.backends.file.transactions`

A file comes into ``logs`` complete and synced, by a link or a rename, and leaves by a rename: a
crash leaves all of it or nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING

from langcairn.backends.file.log import Log
from langcairn.backends.file.system import Descriptor, sync_directory, try_lock
from langcairn.errors import StoreMisconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUFFIX = ".cairn"

_ABANDONED = 60.0
"""Age from which an unfinished file that nobody has locked belongs to a dead process. [s]"""


def words_of(execution_id: str) -> str:
    """Return what the name of a log begins with, for people.

    Those of an id begin with those of whatever the id begins with; there may be none.
    """
    return re.sub(r"[^a-z0-9]+", "-", execution_id.lower())[:40].strip("-")


class Decision:
    """The file that says that a transaction counts, complete and synced, but for its name.

    Args:
        unfinished: Where it is.
        path: Where it counts.
        fsync: Whether it must survive a loss of power.
    """

    def __init__(self, unfinished: Path, path: Path, *, fsync: bool) -> None:
        self._unfinished = unfinished
        self._path = path
        self._fsync = fsync

    def make(self) -> None:
        """Make the decision."""
        self._unfinished.rename(self._path)
        if self._fsync:
            sync_directory(self._path.parent)

    def is_made(self) -> bool:
        """Tell whether it was made, as far as is known."""
        return self._path.exists()

    def forget(self) -> None:
        """Remove the file; no log needs it any more."""
        self._path.unlink()


class Directory:
    """A store's directory, which is made when something is stored.

    Args:
        path: Where it is. What is above it must exist.
        fsync: Whether names must survive a loss of power.
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self.path = path
        self._logs = path / "logs"
        self._unfinished = path / "unfinished"
        self._transactions = path / "transactions"
        self._fsync = fsync
        self._tidied = False

    def path_of(self, execution_id: str) -> Path:
        """Return where the log of an execution is, or would be.

        The hash tells executions apart, on file systems that ignore case too; the words before it
        are for people. Nothing of an id that could mean something in a path is left.
        """
        digest = blake2b(execution_id.encode(), digest_size=16).hexdigest()
        return self._logs / f"{words_of(execution_id) or 'execution'}-{digest}{SUFFIX}"

    def named(self, name: str) -> Path:
        """Return the log of a file name."""
        return self._logs / name

    def stamp(self) -> tuple[int, int]:
        """Return inode and time [ns] of the directory of logs; the time changes with their names.

        Both are 0 if it isn't there.
        """
        try:
            stat = self._logs.stat()
        except (FileNotFoundError, NotADirectoryError):
            return 0, 0
        return stat.st_ino, stat.st_mtime_ns

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Yield the directory entries of all logs, in no certain order."""
        try:
            with os.scandir(self._logs) as entries:
                yield from (entry for entry in entries if entry.name.endswith(SUFFIX))
        except (FileNotFoundError, NotADirectoryError):
            self.explain_absence()

    def explain_absence(self) -> None:
        """Refuse a directory that can't be made. One that isn't there yet is an empty store.

        Raises:
            StoreMisconfigured: It is a file, or would stand in nothing.
        """
        # One look, as another process may make the directory between two.
        try:
            usable = S_ISDIR(self.path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            usable = not self.path.is_symlink()
        if not usable:
            raise StoreMisconfigured(f"{self.path} is not a directory")
        if not self.path.parent.is_dir():
            raise StoreMisconfigured(f"{self.path}: there is no directory {self.path.parent}")

    def unfinished(self, path: Path) -> Path:
        """Return a new name for what shall become the log at a path, or was it."""
        self._prepare()
        return self._unfinished / f"{path.stem}.{secrets.token_hex(8)}{SUFFIX}"

    def place(self, unfinished: Path, path: Path, *, replace: bool) -> None:
        """Give a file, which is complete and synced, the name of a log.

        Raises:
            FileExistsError: Another process was faster (if nothing is to be replaced).
        """
        if replace:
            unfinished.replace(path)
        else:
            path.hardlink_to(unfinished)  # unlike a rename, it fails if there is one
            unfinished.unlink()
        self.sync()

    def take_away(self, path: Path) -> None:
        """Remove a log."""
        gone = self.unfinished(path)
        path.rename(gone)
        self.sync()
        gone.unlink()

    def prepare_decision(self, transaction: str, names: Sequence[str]) -> Decision:
        """Prepare the file that says that a transaction counts.

        Args:
            transaction: Its name.
            names: Of the logs that take part.
        """
        self._prepare()
        if not self._transactions.is_dir():
            self._transactions.mkdir(exist_ok=True)
            if self._fsync:
                sync_directory(self.path)
        unfinished = self._unfinished / f"{transaction}{SUFFIX}"
        file = Descriptor.of_new(unfinished)
        content = "".join(f"{name}\n" for name in names).encode()
        file.write(0, blake2b(content, digest_size=16).hexdigest().encode() + b"\n" + content)
        if self._fsync:
            os.fdatasync(file.fd)
        return Decision(unfinished, self._transactions / transaction, fsync=self._fsync)

    def sync(self) -> None:
        """Make the names of logs survive a loss of power."""
        if self._fsync:
            sync_directory(self._logs)

    def _prepare(self) -> None:
        """Make the directories that aren't there, and remove what dead processes left."""
        made = [path for path in (self.path, self._logs, self._unfinished) if not path.is_dir()]
        if made:
            self.explain_absence()
            for path in made:
                path.mkdir(exist_ok=True)
            if self._fsync:
                for path in {path.parent for path in made}:
                    sync_directory(path)
        if not self._tidied:
            self._tidied = True
            self._tidy()

    def _tidy(self) -> None:
        """Remove what dead processes left."""
        self._tidy_unfinished()
        with suppress(FileNotFoundError), os.scandir(self._transactions) as entries:
            for entry in entries:
                if time.time() - entry.stat().st_mtime > _ABANDONED:
                    self._tidy_decision(Path(entry.path))

    def _tidy_decision(self, decision: Path) -> None:
        """Remove a decision that no log needs any more."""
        check, *names = decision.read_text(errors="replace").split("\n")[:-1] or [""]
        content = "".join(f"{name}\n" for name in names).encode(errors="replace")
        if check != blake2b(content, digest_size=16).hexdigest():
            return  # not ours
        for name in names:
            with suppress(FileNotFoundError):
                log = Log.open(self._logs / name)
                log.catch_up()
                if log.prepared == decision.name:
                    return
        decision.unlink(missing_ok=True)

    def _tidy_unfinished(self) -> None:
        with os.scandir(self._unfinished) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX):
                    continue  # not ours
                path = Path(entry.path)
                with suppress(FileNotFoundError):
                    age = time.time() - path.stat().st_mtime
                    if age > _ABANDONED and try_lock(Descriptor.of(path)):
                        path.unlink()
