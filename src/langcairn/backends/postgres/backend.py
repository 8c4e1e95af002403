"""Checkpoints in PostgreSQL, for any number of threads, event loops and processes at once."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

from langcairn.backends.async_group_commit import AsyncGroupCommit
from langcairn.backends.base import AcquireLease, Backend, Commit, ReleaseLease, Transaction
from langcairn.backends.conditions import attempts
from langcairn.backends.group_commit import GroupCommit
from langcairn.backends.measures import Load, together
from langcairn.backends.postgres import shared_leases
from langcairn.backends.postgres.commits import commit_all, transact
from langcairn.backends.postgres.lenders import Lenders
from langcairn.backends.postgres.options import whole_number
from langcairn.backends.postgres.queries import answer
from langcairn.backends.postgres.reads import can_share, read_all
from langcairn.backends.postgres.running import arun, run
from langcairn.backends.postgres.schema import Schema
from langcairn.backends.retry import Retry, seconds
from langcairn.errors import CairnError, StoreClosed
from langcairn.observing import clock, spent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from langcairn.backends.base import Request
    from langcairn.backends.postgres.drafts import Outcome
    from langcairn.backends.postgres.lenders import UsersPools
    from langcairn.backends.postgres.pool import AsyncLender
    from langcairn.backends.postgres.reads import Shared
    from langcairn.backends.postgres.values import Plan

T = TypeVar("T")
RequestT = TypeVar("RequestT")


class _Asked(NamedTuple, Generic[RequestT]):
    """A request, and until when its caller waits."""

    request: RequestT
    expires: float
    """On the monotonic clock [s]."""


class _LoopSide(NamedTuple):
    """What belongs to one event loop."""

    lender: AsyncLender
    commits: AsyncGroupCommit[_Asked[Commit], int]
    reads: AsyncGroupCommit[_Asked[Shared], object]
    leases: AsyncGroupCommit[_Asked[shared_leases.Shared], object]
    returns: set[asyncio.Task[None]]
    """Under way to give back leases that nobody knows he has."""


class PostgresBackend(Backend):
    """Keeps checkpoints in four tables of a PostgreSQL database, which are made on first use.

    Every request is one statement and one round trip, but for removals. Commits of callers that
    wait at the same time share a statement. Nothing depends on the state of a session, so that a
    pooler in transaction mode may stand between (with ``prepare=False``).

    Args:
        conn_string: A connection string of libpq's, which may have the ``pool_`` options below in
            it; or a pool of your own, which is not closed with the store: a `ConnectionPool` for
            blocking callers, an `AsyncConnectionPool` for the coroutines of its event loop, or a
            tuple of both.
        table_name: The table of checkpoints; the others are named after it.
        schema: PostgreSQL's schema that they are in; None: what the search path says.
        pool_max_conns: The most connections, for blocking callers and each event loop.
        pool_min_conns: How many of them are kept open when they are idle.
        pool_max_conn_lifetime: After which time a connection is replaced [s].
        pool_max_conn_idle_time: After which time a connection that isn't needed is closed [s].
        prepare: Whether to use prepared statements, from the fifth use of each.
        deadline: How long a request may take in all, with the repetitions after faults [s].
        timeout: How long to wait for one answer of the server's before trying again [s].
        lanes: How many shared statements of each event loop may be under way at once.

    Raises:
        InvalidInput: An argument can't be used as it is.
        StoreMisconfigured: libpq doesn't understand the connection string.
    """

    def __init__(
        self,
        conn_string: str | UsersPools,
        table_name: str = "checkpoints",
        schema: str | None = None,
        *,
        pool_max_conns: int = 10,
        pool_min_conns: int = 2,
        pool_max_conn_lifetime: timedelta | float = 1800.0,
        pool_max_conn_idle_time: timedelta | float = 300.0,
        prepare: bool = True,
        deadline: timedelta | float = 30.0,
        timeout: timedelta | float = 15.0,
        lanes: int = 2,
    ) -> None:
        self._schema = Schema(table_name, schema)
        self._lenders = Lenders(
            conn_string,
            max_conns=pool_max_conns,
            min_conns=pool_min_conns,
            max_conn_lifetime=pool_max_conn_lifetime,
            max_conn_idle_time=pool_max_conn_idle_time,
        )
        # psycopg prepares what a connection runs for the fifth time, unless it is told not to.
        self._prepare = None if prepare else False
        self._retry = Retry(deadline)
        self._timeout = seconds(timeout, "timeout")
        self._lanes = whole_number(lanes, "lanes", least=1)
        self._ready = False
        self._closed = False
        self._start_afresh()
        _backends.add(self)

    def _start_afresh(self) -> None:
        self._lender = self._lenders.blocking()
        self._commits = [GroupCommit[_Asked[Commit], int](self._commit) for _ in range(self._lanes)]
        self._sides: dict[asyncio.AbstractEventLoop, _LoopSide] = {}
        self._sides_lock = threading.Lock()

    # Answering

    def execute(self, request: Request) -> object:  # noqa: D102 -- inherited
        if isinstance(request, Commit):
            # Commits of an execution lock its row: in different lanes they would only wait there.
            lane = self._commits[hash(request.execution_id) % self._lanes]
            tries = attempts(request)
            return self._retry.call(
                lambda left: lane.submit(_Asked(next(tries), self._until(left)))
            )
        plan = self._plan(request)
        return self._retry.call(lambda left: self._run(plan(), self._until(left)))

    def execute_all(self, commits: Sequence[Commit]) -> Sequence[Outcome]:  # noqa: D102 -- inherited
        if not commits:
            return []
        # Beside the lanes, which are for callers that come singly. All statements lock executions
        # in the order of their ids, so that this one and a lane's never wait for each other.
        return self._retry.call(
            lambda left: self._commit([_Asked(commit, self._until(left)) for commit in commits])
        )

    async def aexecute(self, request: Request) -> object:  # noqa: D102 -- inherited
        if isinstance(request, Commit):
            commits = self._side().commits
            tries = attempts(request)
            return await self._retry.acall(
                lambda left: commits.submit(_Asked(next(tries), self._until(left)))
            )
        if can_share(request):
            reads = self._side().reads
            return await self._retry.acall(
                lambda left: reads.submit(_Asked(request, self._until(left)))
            )
        if shared_leases.can_share(request):
            return await self._alease(request)
        plan = self._plan(request)
        return await self._retry.acall(lambda left: self._arun(plan(), self._until(left)))

    def _plan(self, request: Request) -> Callable[[], Plan[object]]:
        """Return what makes a plan for each attempt at a request."""
        tables = self._schema.tables
        if isinstance(request, Transaction):
            tries = attempts(request)
            return lambda: transact(tables, next(tries))
        return partial(answer, tables, request)

    def _until(self, left: float) -> float:
        return time.monotonic() + min(left, self._timeout)

    def _commit(self, asked: Sequence[_Asked[Commit]]) -> Sequence[Outcome]:
        plan = commit_all(self._schema.tables, [one.request for one in asked])
        return self._run(plan, min(one.expires for one in asked))

    async def _acommit(self, asked: Sequence[_Asked[Commit]]) -> Sequence[Outcome]:
        plan = commit_all(self._schema.tables, [one.request for one in asked])
        return await self._arun(plan, min(one.expires for one in asked))

    async def _aread(self, asked: Sequence[_Asked[Shared]]) -> Sequence[object]:
        plan = read_all(self._schema.tables, [one.request for one in asked])
        return await self._arun(plan, min(one.expires for one in asked))

    async def _alease(self, request: shared_leases.Shared) -> object:
        """Answer a request that others may share.

        A caller who is cancelled can't take it out of the statement any more. A lease that he
        then gets, and doesn't know of, is given back: or everybody would have to wait until it
        has expired.
        """
        side = self._side()
        answer = asyncio.ensure_future(
            self._retry.acall(lambda left: side.leases.submit(_Asked(request, self._until(left))))
        )
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if isinstance(request, AcquireLease):
                task = asyncio.create_task(self._give_back(request.execution_id, answer))
                side.returns.add(task)
                task.add_done_callback(side.returns.discard)
            raise

    async def _give_back(self, execution_id: str, acquired: asyncio.Future[object]) -> None:
        try:
            token = await acquired
            await self.aexecute(ReleaseLease(execution_id, cast("int", token)))
        except CairnError:
            return  # he has none, or it can't be returned now: then it will expire

    async def _alease_all(self, asked: Sequence[_Asked[shared_leases.Shared]]) -> Sequence[object]:
        plan = shared_leases.lease_all(self._schema.tables, [one.request for one in asked])
        return await self._arun(plan, min(one.expires for one in asked))

    def _run(self, plan: Plan[T], expires: float) -> T:
        self._refuse_if_closed()
        begin = clock()
        with self._lender.connection(max(0.0, expires - time.monotonic())) as connection:
            spent("connect", clock() - begin)
            if not self._ready:
                run(connection, self._schema.ensure(), expires, prepare=False)
                self._ready = True
            return run(connection, plan, expires, prepare=self._prepare)

    async def _arun(self, plan: Plan[T], expires: float) -> T:
        self._refuse_if_closed()
        lender = self._side().lender
        begin = clock()
        async with lender.connection(max(0.0, expires - time.monotonic())) as connection:
            spent("connect", clock() - begin)
            if not self._ready:
                await arun(connection, self._schema.ensure(), expires, prepare=False)
                self._ready = True
            return await arun(connection, plan, expires, prepare=self._prepare)

    def _side(self) -> _LoopSide:
        """Return what belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        side = self._sides.get(loop)
        if side is None:
            with self._sides_lock:
                for other in [other for other in self._sides if other.is_closed()]:
                    self._sides.pop(other).lender.close()
                side = self._sides[loop] = _LoopSide(
                    self._lenders.of_loop(),
                    AsyncGroupCommit(self._acommit, lanes=self._lanes),
                    AsyncGroupCommit(self._aread, lanes=self._lanes),
                    AsyncGroupCommit(self._alease_all, lanes=self._lanes),
                    set(),
                )
        return side

    def load(self) -> Load:  # noqa: D102 -- inherited
        sides = list(self._sides.values())
        queued = sum(lane.waiting for lane in self._commits)
        for side in sides:
            queued += side.commits.waiting + side.reads.waiting + side.leases.waiting
        loads = [self._lender.load(), *(side.lender.load() for side in sides)]
        return together(loads, queued)

    # The tables

    def init_schema(self, partitions: int | None = None) -> None:
        """Make the tables, which otherwise happens on first use.

        Args:
            partitions: Into how many parts to divide each table by a hash of the execution id. That
                can't be changed later.

        Raises:
            InvalidInput: There can't be that many partitions.
            StoreMisconfigured: The tables can't be made, or are there, divided otherwise.
        """
        plan = partial(self._schema.make, partitions)
        self._retry.call(lambda left: self._make(plan(), self._until(left)))

    async def ainit_schema(self, partitions: int | None = None) -> None:
        """Do as `init_schema`."""
        plan = partial(self._schema.make, partitions)
        await self._retry.acall(lambda left: self._amake(plan(), self._until(left)))

    def _make(self, plan: Plan[None], expires: float) -> None:
        self._refuse_if_closed()
        with self._lender.connection(max(0.0, expires - time.monotonic())) as connection:
            run(connection, plan, expires, prepare=False)

    async def _amake(self, plan: Plan[None], expires: float) -> None:
        self._refuse_if_closed()
        lender = self._side().lender
        async with lender.connection(max(0.0, expires - time.monotonic())) as connection:
            await arun(connection, plan, expires, prepare=False)

    def schema_sql(self, partitions: int | None = None) -> str:
        """Return the SQL that `init_schema` would run on a database without the tables.

        For a database in which the store's own role may not make tables.
        """
        return "".join(f"{statement};\n" for statement in self._schema.statements(partitions))

    # Closing

    def close(self) -> None:
        """Close the connections that this backend opened, or when they come back if in use."""
        self._closed = True
        self._lender.close()
        with self._sides_lock:
            sides, self._sides = self._sides, {}
        for side in sides.values():
            side.lender.close()

    async def aclose(self) -> None:
        """Do as `close`, when the commits of this event loop that have begun are done."""
        side = self._sides.get(asyncio.get_running_loop())
        if side is not None and side.returns:
            await asyncio.wait(side.returns)
        self._closed = True
        if side is not None:
            await side.commits.drain()
            await side.reads.drain()
            await side.leases.drain()
        self.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreClosed("this store is closed; open a new one")

    def _forked(self) -> None:
        # A child must not use the parent's connections, nor close them: that would end the
        # parent's sessions. So they stay as they are until the child ends.
        _of_parents.append((self._lender, self._sides))
        self._start_afresh()


_backends: weakref.WeakSet[PostgresBackend] = weakref.WeakSet()
_of_parents: list[object] = []


def _after_fork() -> None:
    for backend in list(_backends):
        backend._forked()  # noqa: SLF001 -- of this module


if hasattr(os, "register_at_fork"):  # Windows can't fork
    os.register_at_fork(after_in_child=_after_fork)
