"""Commits to several executions at once: all of them are there after a crash, or none.

All logs are locked, in the order of their names. Each gets a frame that says to which transaction
it belongs; such a frame at the end of a log doesn't count. When all are synced, a file with the
transaction's name in the directory ``transactions`` decides that they do. Then each log gets an
empty frame more, so that the decision isn't needed any longer, and is removed. docs/file-format.md
says what follows for readers, and for what a crash leaves.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from langcairn.backends.file.writes import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from langcairn.backends.base import Commit
    from langcairn.backends.file.log import Log
    from langcairn.backends.file.logs import Logs


def transact(logs: Logs, commits: Sequence[Commit]) -> list[int]:
    """Make commits to different executions, all of them or none.

    Returns:
        The epochs of the executions.

    Raises:
        CairnError: A commit is refused, or a log can't be used.
        OSError: Something can't be written. Unless the decision had been made, nothing was kept.
    """
    while True:
        # Another process may have made a log meanwhile that wasn't there.
        with suppress(FileExistsError), ExitStack() as stack:
            return _Transaction(logs, commits, stack).run()


class _Transaction:
    def __init__(self, logs: Logs, commits: Sequence[Commit], stack: ExitStack) -> None:
        self._logs = logs
        self._commits = commits
        self._stack = stack
        self._name = secrets.token_hex(16)

    def run(self) -> list[int]:
        """Do all that the module says, in this order."""
        parts = {part.name: part for part in self._opened()}
        names = [self._path(commit).name for commit in self._commits]
        frames = [Frame(parts[name].log) for name in names]
        epochs = [
            frame.prepare(commit, self._name)
            for frame, commit in zip(frames, self._commits, strict=True)
        ]
        directory = self._logs.directory
        # From here on an error takes back what was written; a crash leaves what doesn't count.
        undoing = ExitStack()
        with undoing:
            for frame, name in zip(frames, names, strict=True):
                part = parts[name]
                undoing.callback(part.undo)
                frame.append()
                self._logs.sync(part.log)
                part.place()
            decision = directory.prepare_decision(self._name, list(parts))
            undoing.pop_all()
            try:
                decision.make()
            except OSError:
                if not decision.is_made():
                    for part in parts.values():
                        part.undo()
                raise
        # What is left undone here is done by who next writes to the log, and by a clean-up.
        with suppress(OSError):
            for part in parts.values():
                part.log.append([], [])
                self._logs.sync(part.log)
            decision.forget()
        return epochs

    def _opened(self) -> Iterator[_Part]:
        """Yield the logs, locked; those that aren't there are made, without a name."""
        for commit in sorted(self._commits, key=self._path):
            path = self._path(commit)
            log = self._stack.enter_context(self._logs.for_writing(path, alone=True))
            if log is not None:
                yield _Part(self._logs, log, None)
            else:
                making = self._logs.beginning(path, commit.execution_id)
                yield _Part(self._logs, *self._stack.enter_context(making))

    def _path(self, commit: Commit) -> Path:
        return self._logs.directory.path_of(commit.execution_id)


class _Part:
    """A log that takes part.

    Args:
        logs: All logs.
        log: This one, which nobody else uses.
        unfinished: What a new log is called until it has its name.
    """

    def __init__(self, logs: Logs, log: Log, unfinished: Path | None) -> None:
        self.name = log.path.name
        self.log = log
        self._logs = logs
        self._unfinished = unfinished
        self._end = log.end
        self._is_placed = False

    def place(self) -> None:
        """Give a new log its name."""
        if self._unfinished is not None:
            self._logs.directory.place(self._unfinished, self.log.path, replace=False)
            self._is_placed = True

    def undo(self) -> None:
        """Take back what was written."""
        if self._is_placed:
            self._logs.directory.take_away(self.log.path)
        elif self._unfinished is None:
            self.log.cut_at(self._end)
