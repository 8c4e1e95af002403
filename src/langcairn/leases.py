"""Leases: who has one is the only writer of an execution, and is told when it is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Self, TypeVar

from langcairn.backends.base import (
    AcquireLease,
    Clear,
    Commit,
    ReleaseLease,
    Remove,
    RenewLease,
    Transaction,
)
from langcairn.errors import CairnError, InvalidInput, LeaseLost, StoreClosed
from langcairn.records import valid_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from langcairn.backends.base import Request
    from langcairn.operations import Operation
    from langcairn.store import CheckpointStore

FencedT = TypeVar("FencedT", Commit, Remove, Clear)

_logger = logging.getLogger(__name__)

_SHORTEST, _LONGEST = 0.01, 7 * 86_400.0  # [s]
_RENEWALS = 3
"""How often a lease is renewed in the time that it lasts."""


class Leases:
    """The leases that one store has, whose tokens its commits carry."""

    def __init__(self) -> None:
        self._by_execution: dict[str, Lease] = {}

    def add(self, lease: Lease) -> None:
        """Let commits to a lease's execution carry its token."""
        self._by_execution[lease.execution_id] = lease

    def discard(self, lease: Lease) -> None:
        """Undo `add`."""
        if self._by_execution.get(lease.execution_id) is lease:
            del self._by_execution[lease.execution_id]

    def fenced(self, request: Request) -> Request:
        """Return a request with the tokens that belong to it.

        Raises:
            LeaseLost: One is lost, as is known already.
        """
        if not self._by_execution:
            return request  # as nearly always
        if isinstance(request, Transaction):
            return Transaction([self._with_token(commit) for commit in request.commits])
        if isinstance(request, Commit):
            return self._with_token(request)
        if isinstance(request, Remove):
            return self._with_token(request)
        return self._with_token(request) if isinstance(request, Clear) else request

    def all_fenced(self, commits: Sequence[Commit]) -> Sequence[Commit]:
        """Return commits with the tokens that belong to them; errors as from `fenced`."""
        return [self._with_token(one) for one in commits] if self._by_execution else commits

    def _with_token(self, request: FencedT) -> FencedT:
        lease = self._by_execution.get(request.execution_id)
        if lease is None:
            return request
        lease.check()
        return request._replace(fence=lease.token)


class Lease:
    """The right to be an execution's only writer. Made by `CheckpointStore.lease`.

    ::

        with store.lease("thread-1", ttl=30) as lease:
            graph.invoke(...)  # with a saver on this store

    It is renewed in the background: by a daemon thread in a ``with`` block, by a task of the event
    loop in an ``async with`` block. If that fails for longer than its ``ttl``, because this process
    or its connection stood still, another one may take the lease over. From then on, whatever this
    store commits to the execution is refused with `LeaseLost`, until the block is left.

    Attributes:
        execution_id: The execution.
        owner: Who has the lease, as others are told.

    Raises, from entering the block:
        LeaseHeld: Someone else has a lease on the execution; says who, and for how long.
    """

    def __init__(
        self,
        store: CheckpointStore,
        leases: Leases,
        execution_id: str,
        ttl: timedelta | float,
        owner: str | None,
    ) -> None:
        self.execution_id = execution_id
        self.owner = _owner(owner)
        self._store = store
        self._leases = leases
        self._ttl = _seconds(ttl)
        self._token: int | None = None
        self._is_acquired = False
        self._lost: LeaseLost | None = None
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def token(self) -> int:
        """The fencing token, which is higher than those of all earlier leases.

        Raises:
            InvalidInput: The lease was never acquired.
        """
        if self._token is None:
            raise InvalidInput(
                f"the lease on execution {self.execution_id!r} isn't acquired: enter it with `with`"
            )
        return self._token

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost. It may be without being known yet."""
        return self._lost is not None

    def check(self) -> None:
        """Raise an error if the lease is known to be lost.

        Raises:
            LeaseLost: It is.
        """
        if self._lost is not None:
            raise LeaseLost(str(self._lost))

    # Acquiring and releasing

    def acquire(self) -> Self:
        """Acquire the lease, and renew it in a thread from now on.

        Raises:
            LeaseHeld: Someone else has one.
        """
        self._begin(self._store.run(self._acquisition()))
        name = f"langcairn lease on {self.execution_id}"
        threading.Thread(target=self._renew, args=(self._stop,), name=name, daemon=True).start()
        return self

    async def aacquire(self) -> Self:
        """Do as `acquire`, but renew it in a task of the running event loop."""
        self._begin(await self._store.arun(self._acquisition()))
        self._task = asyncio.create_task(self._arenew())
        return self

    def release(self) -> bool:
        """Give the lease back. Returns False if it was lost, or wasn't acquired.

        Raises:
            StoreUnavailable: The storage can't be reached; then others have to wait until the
                lease has expired.
        """
        if not self._is_acquired:
            return False
        try:
            return self._store.run(self._giving_back())
        finally:
            self._finish()

    async def arelease(self) -> bool:
        """Do as `release`."""
        if not self._is_acquired:
            return False
        try:
            return await self._store.arun(self._giving_back())
        finally:
            self._finish()

    def _begin(self, token: int) -> None:
        self._token, self._lost, self._is_acquired = token, None, True
        self._stop = threading.Event()
        self._leases.add(self)

    def _finish(self) -> None:
        self._leases.discard(self)
        self._is_acquired = False
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # What is asked of the backend

    def _acquisition(self) -> Operation[int]:
        if self._is_acquired:
            raise InvalidInput(f"this lease on execution {self.execution_id!r} is acquired already")
        token: int = yield AcquireLease(self.execution_id, self.owner, self._ttl)
        return token

    def _renewal(self) -> Operation[None]:
        yield RenewLease(self.execution_id, self.token, self._ttl)

    def _giving_back(self) -> Operation[bool]:
        given_back: bool = yield ReleaseLease(self.execution_id, self.token)
        return given_back

    # Renewing

    def _renew(self, stop: threading.Event) -> None:
        failed = False
        while not stop.wait(self._pause(failed)):
            try:
                self._store.run(self._renewal())
                failed = False
            except CairnError as error:
                failed = True
                if stop.is_set() or self._is_over(error):
                    return

    async def _arenew(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(self._pause(failed))
            try:
                await self._store.arun(self._renewal())
                failed = False
            except CairnError as error:
                failed = True
                if self._is_over(error):
                    return

    def _pause(self, failed: bool) -> float:
        return self._ttl / (3 * _RENEWALS if failed else _RENEWALS)

    def _is_over(self, error: CairnError) -> bool:
        """Tell whether a renewal that failed need not be tried again."""
        if isinstance(error, LeaseLost):
            self._lost = error
            _logger.warning("%s", error)
            return True
        if isinstance(error, StoreClosed):
            return True
        _logger.warning("the lease on %r was not renewed: %s", self.execution_id, error)
        return False

    # Blocks

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.release()
        except CairnError as failure:
            self._note_expiring(failure)

    async def __aenter__(self) -> Self:
        return await self.aacquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.arelease()
        except CairnError as failure:
            self._note_expiring(failure)

    def _note_expiring(self, failure: CairnError) -> None:
        # All that was to be done under the lease is done, or has failed with an error of its own.
        _logger.warning(
            "the lease on %r was not released, and expires by itself: %s",
            self.execution_id,
            failure,
        )


def _owner(name: str | None) -> str:
    """Return a name that no other lease has: two workers called alike must not share one."""
    given = f"{socket.gethostname()}:{os.getpid()}" if name is None else name
    return f"{valid_name(given, 'owner', empty=False)}#{secrets.token_hex(4)}"


def _seconds(ttl: timedelta | float) -> float:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not isinstance(seconds, (int, float)) or not _SHORTEST <= seconds <= _LONGEST:
        raise InvalidInput(f"ttl={ttl!r}: from {_SHORTEST} seconds to 7 days")
    return float(seconds)
