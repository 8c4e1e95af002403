"""The conditions of commits and the rules of leases, for every backend that has Python to ask.

A backend reads what these functions need in the transaction that it then writes in. Redis' script
for commits has its own form of `check_fence` and `check_commit`, and PostgreSQL's statement for
plain commits has it of `check_fence`; all errors are made here.

A lease is a token, its owner, and the time when it ends. Tokens make it safe: a writer shows his
with every commit, and only the execution's latest one is taken. The clock only says when another
may take the lease over without being asked; if it jumps, that comes early or late, and whoever
was overtaken is refused.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from langcairn.backends.base import Commit, Transaction, next_epoch
from langcairn.errors import ConcurrentWriter, LeaseHeld, LeaseLost, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.base import AcquireLease, CheckpointRow, RenewLease

CommitT = TypeVar("CommitT", Commit, Transaction)

MICROSECONDS = 1_000_000
"""In a second."""


def clock() -> int:
    """Return the time by this machine's clock, which may jump [µs since 1970]."""
    return time.time_ns() // 1000


class Lease(NamedTuple):
    """The lease on an execution, as of one moment."""

    token: int = 0
    """The latest that was given; 0: none was ever."""
    owner: str | None = None
    """None: it was released, or ended when it had expired."""
    left: int = 0
    """How long it lasts from now, by the backend's clock [µs]."""
    ttl: int = 0
    """How long it lasted when it was acquired or renewed [µs]."""

    @property
    def is_held(self) -> bool:
        """Whether others must respect it.

        Much more left than there ever was is the work of a clock that was set back: nobody shall
        wait for it to come round again.
        """
        return self.owner is not None and 0 < self.left <= 2 * self.ttl


class Deadline(NamedTuple):
    """A lease as backends store it that go by this machine's clock."""

    token: int = 0
    owner: str | None = None
    until: int = 0
    """When it ends [µs since 1970]."""
    ttl: int = 0
    """As in `Lease` [µs]."""

    @classmethod
    def of(cls, lease: Lease) -> Deadline:
        """Return a lease as it is stored now."""
        return cls(lease.token, lease.owner, clock() + lease.left, lease.ttl)

    def now(self) -> Lease:
        """Return the lease as it is at this moment."""
        if self.owner is None:
            return Lease(self.token)
        return Lease(self.token, self.owner, self.until - clock(), self.ttl)


NO_LEASE = Deadline()


class Stored(Protocol):
    """What is stored of an execution before a commit."""

    def version(self, namespace: str, id: str) -> int | None:
        """Return the version of a checkpoint; None if there is none."""

    def newest(self, namespace: str) -> str | None:
        """Return the highest id of a namespace's checkpoints; None if there are none."""

    def holds(self, row: CheckpointRow) -> bool:
        """Tell whether exactly this row is stored. Asked only of commits that come `again`."""


def is_valid(lease: Lease, token: int) -> bool:
    """Tell whether a token is that of a lease which nobody has taken over or ended.

    An expired one is: clocks alone don't take a lease away.
    """
    return lease.owner is not None and lease.token == token


def check_fence(execution_id: str, lease: Lease, fence: int | None) -> bool:
    """Check that a lease lets somebody write.

    Args:
        execution_id: The execution that is written to.
        lease: The lease on it.
        fence: The token of the writer's lease; None: he has none.

    Returns:
        Whether the lease has expired and the writer has none. Then his transaction must end it
        (see `ended`), or its owner would write on as if nothing had happened in between.

    Raises:
        LeaseLost: The token is not the execution's.
        LeaseHeld: There is no token, but a lease.
    """
    if fence is not None:
        if not is_valid(lease, fence):
            raise lost(execution_id, fence)
        return False
    if lease.is_held:
        raise held(execution_id, lease.owner or "", lease.left)
    return lease.owner is not None


def check_commit(commit: Commit, stored: Stored) -> None:
    """Check what a commit expects to be stored.

    Raises:
        VersionConflict: A version is another.
        ConcurrentWriter: The newest checkpoint is another.
    """
    for expected in commit.expected:
        namespace, id, version = expected
        found = stored.version(namespace, id)
        if found != version and not (commit.again and _is_done(commit, namespace, id, stored)):
            raise version_conflict(commit.execution_id, id, version, found)
    for namespace, parent_id, id in commit.newest:
        newest = stored.newest(namespace)
        if newest not in (parent_id, id):
            raise concurrent_writer(commit.execution_id, namespace, id, parent_id, newest)


def _is_done(commit: Commit, namespace: str, id: str, stored: Stored) -> bool:
    """Tell whether a checkpoint is as the commit leaves it, so that it was made already."""
    for row in commit.checkpoints:
        if (row.namespace, row.id) == (namespace, id):
            return stored.holds(row)
    return (namespace, id) in commit.removals and stored.version(namespace, id) is None


def attempts(request: CommitT) -> Iterator[CommitT]:
    """Yield a request for each attempt at it; from the second on, its commits come `again`."""
    yield request
    again: Any = request
    if isinstance(request, Commit):
        again = request._replace(again=True)
    elif isinstance(request, Transaction):
        again = Transaction([commit._replace(again=True) for commit in request.commits])
    while True:
        yield again


def acquired(lease: Lease, request: AcquireLease) -> Lease:
    """Return the lease that an owner gets.

    Raises:
        LeaseHeld: Another owner has one.
    """
    ttl = round(request.ttl * MICROSECONDS)
    if lease.owner == request.owner:
        return Lease(lease.token, lease.owner, ttl, ttl)
    if lease.is_held:
        raise held(request.execution_id, lease.owner or "", lease.left)
    # Like an epoch: above those that an execution had before it was cleared, too.
    return Lease(next_epoch(lease.token), request.owner, ttl, ttl)


def renewed(lease: Lease, request: RenewLease) -> Lease:
    """Return the lease as it is after it was renewed.

    Raises:
        LeaseLost: It is another's by now.
    """
    check_fence(request.execution_id, lease, request.token)
    ttl = round(request.ttl * MICROSECONDS)
    return lease._replace(left=ttl, ttl=ttl)


def ended(lease: Lease) -> Lease:
    """Return what is left of a lease that nobody has any more: its token is never given again."""
    return Lease(lease.token)


def held(execution_id: str, owner: str, left: int) -> LeaseHeld:
    """Return the error for a writer without a lease, or one who wants it too.

    Args:
        execution_id: The execution.
        owner: Who has the lease.
        left: How long, by the backend's clock [µs].
    """
    seconds = left / MICROSECONDS
    return LeaseHeld(
        f"execution {execution_id!r} is leased by {owner!r} for another {seconds:.3f} s, unless it "
        "is renewed: only that owner may write to it. Try again later",
        owner=owner,
        left=seconds,
    )


def lost(execution_id: str, token: int) -> LeaseLost:
    """Return the error for one who writes with a token that isn't valid any more."""
    return LeaseLost(
        f"the lease on execution {execution_id!r} with the token {token} is lost: it expired and "
        "another one wrote or took it over, or it was released. Nothing was written; acquire a new "
        "lease and load the newest checkpoint before going on"
    )


def version_conflict(
    execution_id: str, id: str, expected: int | None, found: int | None
) -> VersionConflict:
    """Return the error for a checkpoint that another writer has saved, made or removed."""
    wanted = "not to exist" if expected is None else f"to have version {expected}"
    stored = "doesn't exist" if found is None else f"has version {found}"
    return VersionConflict(
        f"checkpoint {id!r} of execution {execution_id!r} was expected {wanted}, but it {stored}; "
        "nothing was saved. Load it again and decide anew",
        expected=expected,
        found=found,
    )


def concurrent_writer(
    execution_id: str, namespace: str, id: str, parent_id: str | None, newest_id: str | None
) -> ConcurrentWriter:
    """Return the error for a put whose parent isn't the newest checkpoint any more."""
    inside = f" (namespace {namespace!r})" if namespace else ""
    continued = "begins the execution" if parent_id is None else f"continues {parent_id!r}"
    newest = "there is none any more" if newest_id is None else f"the newest is {newest_id!r}"
    return ConcurrentWriter(
        f"checkpoint {id!r} of execution {execution_id!r}{inside} {continued}, but {newest}: "
        "another run has written there meanwhile. Nothing was saved; run again from the newest "
        "checkpoint, or name a checkpoint_id to fork on purpose",
        parent_id=parent_id,
        newest_id=newest_id,
    )
