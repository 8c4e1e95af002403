"""Group commit: batches are shared, callers get their own outcome, and nobody is left behind."""

from __future__ import annotations

import ctypes
import random
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from langcairn.backends.group_commit import GroupCommit, Ticket, Withdrawn
from langcairn.errors import StaleEpoch, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WAIT = 20.0
"""Longest wait of a test for anything. [s]"""


class Log:
    """A transaction that squares numbers, and can be held up in its first batch."""

    def __init__(self, *, hold: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self.go = threading.Event()
        self.running = 0
        if not hold:
            self.go.set()

    def run(self, requests: Sequence[int]) -> list[int | Exception]:
        self.running += 1
        assert self.running == 1, "two batches at once"
        self.batches.append(list(requests))
        self.entered.set()
        assert self.go.wait(WAIT)
        self.running -= 1
        return [StaleEpoch(str(n)) if n < 0 else n * n for n in requests]


def begin(log: Log, commits: GroupCommit[int, int], *numbers: int) -> list[Future[int]]:
    """Submit each number from a thread of its own, in this order; the first leads."""
    futures = []
    for number in numbers:
        pool = ThreadPoolExecutor(1)
        before = commits.waiting
        futures.append(pool.submit(commits.submit, number))
        until(partial(grown, commits, before))
        assert log.entered.wait(WAIT)
        pool.shutdown(wait=False)
    return futures


def grown(commits: GroupCommit[int, int], before: int) -> bool:
    return commits.waiting > before


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def test_a_lonely_request_is_a_batch_of_its_own() -> None:
    log = Log()
    commits = GroupCommit(log.run)
    assert [commits.submit(n) for n in (2, 3)] == [4, 9]
    assert log.batches == [[2], [3]]


def test_an_error_of_one_reaches_only_its_caller() -> None:
    log = Log(hold=True)
    commits = GroupCommit(log.run)
    first, good, bad, last = begin(log, commits, 1, 2, -3, 4)
    log.go.set()
    assert [first.result(WAIT), good.result(WAIT), last.result(WAIT)] == [1, 4, 16]
    with pytest.raises(StaleEpoch, match="-3"):
        bad.result(WAIT)
    assert log.batches == [[1], [2, -3, 4]]


def test_requests_of_one_caller_share_a_batch() -> None:
    log = Log()
    commits = GroupCommit(log.run, max_batch=3)
    outcomes = commits.submit_all([1, -2, 3, 4])
    assert [outcomes[0], *outcomes[2:]] == [1, 9, 16]
    assert isinstance(outcomes[1], StaleEpoch)
    assert log.batches == [[1, -2, 3], [4]]
    assert commits.submit_all([]) == []


def test_requests_of_several_callers_with_many_each() -> None:
    commits = GroupCommit(Log().run, max_batch=5)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(commits.submit_all, range(n, n + 40)) for n in range(30)]
        futures += [pool.submit(lambda: [commits.submit(7)]) for _ in range(30)]
        answers = [future.result(WAIT) for future in futures]
    assert answers[:30] == [[i * i for i in range(n, n + 40)] for n in range(30)]
    assert answers[30:] == [[49]] * 30
    assert not commits._queue


def test_a_batch_is_bounded_and_in_order_of_arrival() -> None:
    log = Log(hold=True)
    commits = GroupCommit(log.run, max_batch=2)
    futures = begin(log, commits, 1, 2, 3, 4, 5, 6)
    log.go.set()
    assert [future.result(WAIT) for future in futures] == [1, 4, 9, 16, 25, 36]
    assert log.batches == [[1], [2, 3], [4, 5], [6]]


def test_a_failed_transaction_fails_all_of_its_batch_each_with_its_own_error() -> None:
    log = Log(hold=True)

    def run(requests: Sequence[int]) -> list[int | Exception]:
        log.run(requests)
        raise StoreUnavailable("gone") from OSError("why")

    commits = GroupCommit(run)
    futures = begin(log, commits, 1, 2, 3)
    log.go.set()
    errors = [future.exception(WAIT) for future in futures]
    assert [type(error) for error in errors] == [StoreUnavailable] * 3
    assert [str(error) for error in errors] == ["gone"] * 3
    assert all(isinstance(error.__cause__, OSError) for error in errors if error)
    assert len({id(error) for error in errors}) == 3
    assert not commits._queue


def test_an_error_that_cannot_be_copied_is_shared() -> None:
    class Peculiar(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    log = Log(hold=True)

    def run(requests: Sequence[int]) -> list[int | Exception]:
        log.run(requests)
        raise Peculiar(1, 2)

    commits = GroupCommit(run)
    futures = begin(log, commits, 1, 2, 3)
    log.go.set()
    assert {str(future.exception(WAIT)) for future in futures} == {"1 and 2"}


def test_a_leader_that_dies_leaves_its_batch_to_the_next() -> None:
    log = Log(hold=True)
    died = []

    def run(requests: Sequence[int]) -> list[int | Exception]:
        outcomes = log.run(requests)
        if requests[0] == 2:
            died.append(requests)
            raise KeyboardInterrupt
        return outcomes

    commits = GroupCommit(run)
    first, leader, *others = begin(log, commits, 1, 2, 3, 4)
    log.go.set()
    assert first.result(WAIT) == 1
    assert isinstance(leader.exception(WAIT), KeyboardInterrupt)
    assert [other.result(WAIT) for other in others] == [9, 16]
    # Its own request is not repeated: nobody would receive the outcome.
    assert (died, log.batches[2:]) == ([[2, 3, 4]], [[3, 4]])


def test_a_request_can_be_withdrawn_before_it_begins() -> None:
    log = Log(hold=True)
    commits = GroupCommit(log.run)
    running, waiting = begin(log, commits, 1, 2)
    tickets = list(commits._queue)
    for ticket in tickets:
        commits.withdraw(ticket)
    with pytest.raises(Withdrawn):
        waiting.result(WAIT)
    log.go.set()
    assert running.result(WAIT) == 1, "what has begun is completed"
    assert log.batches == [[1]]
    commits.withdraw(tickets[0])  # long done


def test_a_queued_request_is_taken_along_by_whoever_commits() -> None:
    log = Log()
    commits = GroupCommit(log.run)
    ticket: Ticket[int, int] = Ticket(5)
    commits.enqueue(ticket)
    assert commits.submit(6) == 36
    assert ticket.done
    assert commits.wait(ticket) == 25
    assert log.batches == [[5, 6]]


def test_a_commit_inside_a_commit_of_the_same_thread_is_refused() -> None:
    """As a signal handler or a finalizer might attempt it; waiting would be for ever."""

    def run(requests: Sequence[int]) -> list[int | Exception]:
        if requests == [1]:
            commits.submit(2)
        return list(requests)

    commits: GroupCommit[int, int] = GroupCommit(run)
    with pytest.raises(StoreUnavailable, match="of the same thread"):
        commits.submit(1)
    assert commits.submit(3) == 3


def test_a_signal_handler_that_commits_gets_an_answer_or_an_error() -> None:
    commits: GroupCommit[int, int] = GroupCommit(list)
    outcomes: list[bool] = []

    def handler(*_: object) -> None:
        try:
            commits.submit(1)
        except StoreUnavailable:
            outcomes.append(False)
        else:
            outcomes.append(True)

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        deadline = time.monotonic() + WAIT
        while len(outcomes) < 200:
            assert time.monotonic() < deadline
            assert commits.submit(7) == 7
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_sixteen_threads_each_get_their_own_answers() -> None:
    log = Log()
    commits = GroupCommit(log.run, max_batch=5)

    def caller(base: int) -> list[int]:
        return [commits.submit(base + n) for n in range(200)]

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(caller, base) for base in range(0, 16_000, 1000)]
        for base, future in zip(range(0, 16_000, 1000), futures, strict=True):
            assert future.result(WAIT) == [(base + n) ** 2 for n in range(200)]
    assert sum(map(len, log.batches)) == 16 * 200
    assert max(map(len, log.batches)) <= 5
    for base in range(0, 16_000, 1000):
        mine = [n for batch in log.batches for n in batch if base <= n < base + 1000]
        assert mine == sorted(mine)


class Interruption(BaseException):
    """Raised in a thread from outside, at any bytecode, as KeyboardInterrupt is."""


class Caller(threading.Thread):
    """Submits numbers, through interruptions, until it has 200 answers."""

    def __init__(self, commits: GroupCommit[int, int]) -> None:
        super().__init__(daemon=True)
        self.commits = commits
        self.ready = threading.Event()
        self.answers: list[int] = []
        self.interruptions = 0

    def run(self) -> None:
        while len(self.answers) < 200:
            try:
                self.ready.set()
                while len(self.answers) < 200:
                    n = len(self.answers)
                    answer = self.commits.submit(n)
                    assert answer == n
                    self.answers.append(answer)
            except Interruption:
                self.interruptions += 1


def test_interruptions_anywhere_strand_nobody() -> None:
    chance = random.Random(7)

    def run(requests: Sequence[int]) -> list[int | Exception]:
        time.sleep(chance.choice((0, 0.0002)))
        return list(requests)

    commits: GroupCommit[int, int] = GroupCommit(run)
    callers = [Caller(commits) for _ in range(8)]
    for caller in callers:
        caller.start()
    deadline = time.monotonic() + WAIT
    while any(caller.is_alive() for caller in callers):
        assert time.monotonic() < deadline, "a caller waits for ever"
        victim = chance.choice(callers)
        # One at a time: the next only when the last was handled and work has begun again.
        if victim.ready.is_set() and len(victim.answers) < 190:
            victim.ready.clear()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(victim.ident or 0), ctypes.py_object(Interruption)
            )
        time.sleep(0.0005)
    assert sum(caller.interruptions for caller in callers) > 20
    assert [len(caller.answers) for caller in callers] == [200] * 8
    assert commits.submit(5) == 5
    assert not commits._queue
