"""Starts the workers of a crash test, kills them, and compares what is stored."""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.torture import workers
from tests.torture.ledger import Failure, Ledger, Message

from langcairn import open_store
from langcairn.errors import CairnError, StoreUnavailable
from langcairn.langgraph.saver import CheckpointSaver

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from types import TracebackType

    from langgraph.checkpoint.base import CheckpointTuple
    from tests.torture.servers import Server

WRITERS = 3
PATIENCE = 30.0
"""How long a store may be unavailable to the referee, who has no worker to blame. [s]"""
_COMPARED = 5
"""Executions that are compared after each kill; all of them are at the end."""
_TURN = 5
"""Of so many kills one hits the server."""
_LONGEST_OUTAGE = 0.5
"""Before the server is started again. [s]"""
_LIVES = 3
"""Lives of a writer in which it continues the same runs."""


class Worker(NamedTuple):
    """A worker process."""

    role: str
    slot: int
    pid: int
    pipe: int


class Referee:
    """Runs a crash test on one store.

    Args:
        url: The store, empty or not.
        seed: Of the moments and victims. The run isn't repeatable for all that: processes are not.
        server: The store's own, which every fifth kill hits.
    """

    def __init__(self, url: str, seed: int, server: Server | None = None) -> None:
        self._url = url
        self._chance = random.Random(seed)
        self._server = server
        self._ledger = Ledger()
        self._workers: dict[int, Worker] = {}  # by pipe
        self._selector = selectors.DefaultSelector()
        self._rests: dict[int, bytes] = {}
        self._lives = 0

    @property
    def counts(self) -> Counter[str]:
        """What was done so far."""
        return self._ledger.counts

    def run(self, kills: int, after_each: Callable[[], None] = lambda: None) -> None:
        """Kill workers or the server so many times, and compare each time.

        Raises:
            Failure: The store broke a promise.
        """
        for slot in range(WRITERS):
            self._start("writer", slot)
        self._start("keeper", 0)
        self._start("reader", 0)
        for number in range(kills):
            self._listen(self._chance.uniform(0.02, 0.25))
            if self._server is not None and number % _TURN == _TURN - 1:
                self._crash(self._server)
            else:
                self._replace()
            known = self._ledger.executions()
            self._compare(self._chance.sample(known, min(_COMPARED, len(known))))
            after_each()
        for worker in list(self._workers.values()):
            self._kill(worker)
        self._compare(self._ledger.executions())

    def _crash(self, server: Server) -> None:
        """Kill the server and start it again. Half the time a worker dies while it is away."""
        self.counts[server.crash(self._chance)] += 1
        self._listen(self._chance.uniform(0, _LONGEST_OUTAGE))
        if self._chance.random() < 0.5:
            self._replace()
        server.start()

    def _replace(self) -> None:
        """Kill a worker and start another one in its place."""
        victim = self._chance.choice(list(self._workers.values()))
        self._kill(victim)
        self.counts[f"kills of a {victim.role}"] += 1
        self._start(victim.role, victim.slot)

    # Processes

    def _start(self, role: str, slot: int) -> None:
        self._lives += 1
        seed = self._chance.randrange(2**32)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            self._be_worker(role, slot, seed, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self._workers[reading] = Worker(role, slot, pid, reading)
        self._selector.register(reading, selectors.EVENT_READ)

    def _be_worker(self, role: str, slot: int, seed: int, writing: int) -> None:
        """Do a worker's work, in a process just forked; never returns."""
        pipe = workers.Pipe(writing)
        # Some give up while the server starts again, others try until it has.
        patience = {} if self._server is None else {"deadline": (0.2, 30.0)[seed % 2]}
        opened = partial(open_store, self._url, **patience)
        for reading in self._workers:
            os.close(reading)
        match role:
            case "writer":
                name = f"{slot}-{self._lives // _LIVES}"
                workers.guarded(pipe, lambda: workers.write(opened, pipe, name, seed))
            case "keeper":
                workers.guarded(pipe, lambda: workers.keep(opened, pipe, seed))
            case _:
                workers.guarded(pipe, lambda: workers.read(opened, pipe, seed))
        os._exit(1)

    def _kill(self, worker: Worker) -> None:
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)
        while self._drain(worker.pipe):
            pass
        self._ledger.died(worker.pipe, time.monotonic())
        self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        self._selector.unregister(worker.pipe)
        os.close(worker.pipe)
        self._rests.pop(worker.pipe, None)
        del self._workers[worker.pipe]

    # Messages

    def _listen(self, duration: float) -> None:
        """Take messages for a while."""
        end = time.monotonic() + duration
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if not self._drain(key.fd):
                    raise Failure(f"a {self._workers[key.fd].role} has ended by itself")

    def _catch_up(self) -> None:
        """Take the messages that are there."""
        while events := self._selector.select(0):
            for key, _ in events:
                if not self._drain(key.fd):
                    raise Failure(f"a {self._workers[key.fd].role} has ended by itself")

    def _drain(self, pipe: int) -> bool:
        """Take a part of a worker's messages. False: there will be no more."""
        try:
            data = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return True
        *lines, rest = (self._rests.get(pipe, b"") + data).split(b"\n")
        self._rests[pipe] = rest
        for line in lines:
            self._ledger.note(pipe, Message(*json.loads(line)))
        return bool(data)

    # Comparing

    def _compare(self, executions: list[str]) -> None:
        with open_store(self._url) as store:
            saver = CheckpointSaver(store)
            for execution_id in executions:
                self._catch_up()
                begun = time.monotonic()
                found = _checkpoints(saver, execution_id)
                ended = time.monotonic()
                self._catch_up()
                self._ledger.compare(execution_id, found, begun, ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in list(self._workers.values()):
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
            self._dismiss(worker)
        self._selector.close()


def _checkpoints(saver: CheckpointSaver, execution_id: str) -> list[CheckpointTuple]:
    """Return all checkpoints of an execution, however long a server takes to come back."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return list(saver.list(workers.config_of(execution_id)))
        except CairnError as error:
            if not isinstance(error, StoreUnavailable) or time.monotonic() > deadline:
                raise Failure(f"{execution_id} can't be read: {error!r}") from error
            time.sleep(0.1)
