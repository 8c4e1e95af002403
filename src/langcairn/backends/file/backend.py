"""Checkpoints in plain files: a log for each execution, for any number of threads and processes."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

from typing_extensions import override

from langcairn.backends.base import Clear, Transaction, next_epoch
from langcairn.backends.conditions import NO_LEASE, check_fence
from langcairn.backends.file.catalog import Catalog
from langcairn.backends.file.directory import Directory
from langcairn.backends.file.layout import CommitEntry, LeaseEntry
from langcairn.backends.file.logs import Logs
from langcairn.backends.file.reads import Reads
from langcairn.backends.file.system import check_system, translated
from langcairn.backends.file.transactions import transact
from langcairn.backends.file.writes import Frame
from langcairn.backends.group_commit import GroupCommit, Ticket
from langcairn.backends.retry import seconds
from langcairn.backends.threaded import ThreadedBackend
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta
    from os import PathLike

    from langcairn.backends.base import Commit, Remove, Request, Sweep
    from langcairn.backends.file.layout import Entry
    from langcairn.backends.file.log import Log

_QUEUES = 64
"""Executions that share a queue wait for one another's fsync. [queues, each about 1 kB]"""


class FileBackend(ThreadedBackend):
    """Keeps checkpoints in a directory of append-only logs, one for each execution.

    Nothing reads what a crash left half written, and nothing overwrites what was acknowledged;
    docs/file-format.md says how. Reading never waits for writers of other processes. Commits of one
    execution share an fsync (group commit), those of different executions run side by side.

    Args:
        directory: Where the logs are. It is made on first use, in one that must exist, on a file
            system with POSIX locks and hard links.
        fsync: What a commit survives. True: power loss. False: the end of the process; a loss of
            power may cost the last commits, or make the executions written to last unreadable.
        busy_timeout: How long to wait for writers of other processes, as a timedelta or in seconds.
        salvage: Read executions whose log is damaged as they were before the damage, instead of
            refusing with `CorruptData`. What came later is missing, and what was removed or
            replaced later is there as it was. They can't be written to in any case.
        max_threads: The most threads that serve coroutines.

    Raises:
        InvalidInput: An argument can't be used as it is.
        StoreMisconfigured: The system has no such locks.
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        *,
        fsync: bool = True,
        busy_timeout: timedelta | float = 10.0,
        salvage: bool = False,
        max_threads: int = 8,
    ) -> None:
        check_system()
        self._directory = Directory(_checked_path(directory), fsync=fsync)
        self._logs = Logs(
            self._directory,
            fsync=fsync,
            busy_timeout=seconds(busy_timeout, "busy_timeout"),
            salvage=salvage,
        )
        self._reads = Reads(self._logs, Catalog(self._logs))
        super().__init__(max_threads=max_threads)

    @override
    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._commits = _CommitsByExecution(self._write)

    @override
    def _read(self, request: Request) -> object:
        with translated(self._directory.path):
            return self._reads.answer(request)

    @override
    def _write(self, requests: Sequence[Request]) -> Sequence[object]:
        self._refuse_if_closed()
        outcomes: dict[int, object] = {}
        for numbers in _parts(requests):
            outcomes.update(
                zip(numbers, self._outcomes([requests[n] for n in numbers]), strict=True)
            )
        return [outcomes[number] for number in range(len(requests))]

    def _outcomes(self, part: Sequence[Request]) -> Sequence[object]:
        """Answer requests to one execution, in one frame; if that fails, each for itself."""
        try:
            with translated(self._directory.path):
                if isinstance(part[0], Transaction):
                    return [transact(self._logs, part[0].commits)]
                return self._clear(part) if isinstance(part[0], Clear) else self._change(part)
        except Exception as error:  # noqa: BLE001 -- handed to the caller of that request
            if len(part) == 1:
                return [error]
        return [outcome for request in part for outcome in self._outcomes([request])]

    def _clear(self, part: Sequence[Request]) -> Sequence[object]:
        return [self._clear_one(cast("Clear", clear)) for clear in part]

    def _clear_one(self, clear: Clear) -> bool:
        id = clear.execution_id
        path = self._directory.path_of(id)
        with self._logs.removing(path) as log:
            if log is None:
                check_fence(id, NO_LEASE.now(), clear.fence)
                return False
            check_fence(id, log.lease.now(), clear.fence)
            if clear.only_empty and (clear.fence is not None or log.has_rows):
                return False
            if clear.fence is None:
                self._directory.take_away(path)
                return not log.is_empty
            with self._logs.making(path, id, replace=True) as emptied:
                entries: list[Entry] = [
                    CommitEntry.of(next_epoch(log.epoch)),
                    LeaseEntry._make(log.lease),
                ]
                emptied.index.apply(entries, emptied.data_at)
                emptied.append(entries, [])
                self._logs.sync(emptied)
        return True

    def _change(self, part: Sequence[Request]) -> Sequence[object]:
        execution_id = _execution(part[0])
        path = self._directory.path_of(execution_id)
        while True:
            with self._logs.for_writing(path) as log:
                if log is not None:
                    outcomes = self._append(log, part)
                    self._logs.compact(log)
                    return outcomes
            # Another process may have made it meanwhile; that shows only at the end of the block.
            with suppress(FileExistsError), self._logs.making(path, execution_id) as log:
                return self._append(log, part)

    def _append(self, log: Log, part: Sequence[Request]) -> Sequence[object]:
        with log.lock:
            outcomes = Frame(log).run(part)
        # Not under the lock: other threads may read meanwhile, as other processes do.
        self._logs.sync(log)
        return outcomes

    @override
    def _release(self) -> None:
        self._logs.forget_all()

    @override
    def _abandon(self) -> None:
        self._logs.abandon()


class _CommitsByExecution(GroupCommit["Request", object]):
    """A queue for each execution (or a few), so that their fsyncs run side by side."""

    def __init__(self, run: Callable[[Sequence[Request]], Sequence[object]]) -> None:
        super().__init__(run)
        self._queues = [GroupCommit(run) for _ in range(_QUEUES)]

    def _queue_of(self, request: Request) -> GroupCommit[Request, object]:
        return self._queues[hash(_execution(request)) % _QUEUES]

    @override
    def submit(self, request: Request) -> object:
        return self._queue_of(request).submit(request)

    @override
    def submit_all(self, requests: Sequence[Request]) -> list[object]:
        # One by one: while the caller waited in one queue, nobody would lead another in which a
        # request of its is the first. Each execution has an fsync of its own anyway.
        return [self._queue_of(one).submit_all([one])[0] for one in requests]

    @override
    def refuse_within_batch(self) -> None:
        for queue in self._queues:
            queue.refuse_within_batch()

    @property
    @override
    def waiting(self) -> int:
        return sum(queue.waiting for queue in self._queues)

    @override
    def enqueue(self, ticket: Ticket[Request, object]) -> None:
        self._queue_of(ticket.request).enqueue(ticket)

    @override
    def wait(self, ticket: Ticket[Request, object]) -> object:
        return self._queue_of(ticket.request).wait(ticket)

    @override
    def withdraw(self, ticket: Ticket[Request, object]) -> None:
        self._queue_of(ticket.request).withdraw(ticket)


def _parts(requests: Sequence[Request]) -> Iterator[list[int]]:
    """Yield the numbers of requests that go together: to one execution, to change or clear it."""
    together: dict[object, list[int]] = {}
    for number, request in enumerate(requests):
        key = number if isinstance(request, Transaction) else _execution(request)
        together.setdefault(key, []).append(number)
    for numbers in together.values():
        for _, part in groupby(numbers, lambda number: isinstance(requests[number], Clear)):
            yield list(part)


def _execution(request: Request) -> str:
    """Return the execution that a request changes; of a transaction the first one."""
    if isinstance(request, Transaction):
        return request.commits[0].execution_id
    return cast("Commit | Remove | Sweep | Clear", request).execution_id


def _checked_path(directory: str | PathLike[str]) -> Path:
    text = os.fsdecode(directory)
    if not text or "\0" in text:
        raise InvalidInput(f"{text!r} can't be a directory: it is empty or contains NUL")
    # Absolute, so that a later chdir() doesn't begin a second store.
    return Path(text).absolute()
