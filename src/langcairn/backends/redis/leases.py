r"""Leases in Redis: one member of the execution's sorted set, by the server's clock.

The member is ``f token \0 until \0 ttl \0 owner``, with times in milliseconds and an empty owner if
nobody has the lease. It stands right behind the epoch, where every script finds both at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langcairn.backends.base import next_epoch
from langcairn.backends.conditions import Lease, acquired, ended, held, is_valid, lost, renewed
from langcairn.backends.redis import table
from langcairn.backends.redis.commands import LEASE, Command, Step, command
from langcairn.errors import Conflict, CorruptData, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from langcairn.backends.base import AcquireLease, ReleaseLease, RenewLease
    from langcairn.backends.redis.keys import Keys
    from langcairn.backends.redis.registers import Registers


_MILLISECOND = 1000  # [µs]
_ATTEMPTS = 20
ANY = b"*"
"""Stands for the token of whoever has the lease, in a script that others won't notice."""


def fence_word(fence: int | None) -> bytes:
    """Return the token of a lease as scripts take it."""
    return b"" if fence is None else b"%d" % fence


def refusal(execution_id: str, fence: int | None, why: Sequence[Any]) -> Conflict:
    """Return the error for what the function `refused` of a script has said."""
    if why[0] == b"held":
        return held(execution_id, why[1].decode(), int(why[2]) * _MILLISECOND)
    return lost(execution_id, fence or 0)


class Leases:
    """Plans for the requests about leases.

    A lease is read, changed by the rules that all backends share, and stored if it is still the
    one that was read.

    Args:
        keys: The names of a store's keys.
        registers: Its registers.
        ttl: How long an execution lives after it was last written [ms]; 0: for ever.
    """

    def __init__(self, keys: Keys, registers: Registers, ttl: int) -> None:
        self._keys = keys
        self._registers = registers
        self._ttl = ttl

    def acquire(self, request: AcquireLease) -> Generator[Step, list[Any], int]:
        """Give a lease to an owner."""
        id = request.execution_id
        entry = self._registers.entry(id)
        # Before and after, as a commit does that may begin an execution.
        yield Step([entry], writes=True)
        lease = yield from self._changed(id, lambda lease: acquired(lease, request))
        yield Step([entry], writes=True)
        return lease.token

    def renew(self, request: RenewLease) -> Generator[Step, list[Any], None]:
        """Let a lease last longer."""
        yield from self._changed(request.execution_id, lambda lease: renewed(lease, request))

    def release(self, request: ReleaseLease) -> Generator[Step, list[Any], bool]:
        """Take a lease back."""

        def release(lease: Lease) -> Lease:
            if not is_valid(lease, request.token):
                raise lost(request.execution_id, request.token)
            return ended(lease)

        try:
            yield from self._changed(request.execution_id, release)
        except Conflict:
            return False
        return True

    def _changed(
        self, execution_id: str, change: Callable[[Lease], Lease]
    ) -> Generator[Step, list[Any], Lease]:
        """Change a lease. Returns what it is then."""
        key = self._keys.execution(execution_id)
        for _ in range(_ATTEMPTS):
            members, time = yield Step(
                [command("ZRANGEBYLEX", key, *table.LEASE), Command(key, ("TIME",))]
            )
            now = int(time[0]) * 1000 + int(time[1]) // 1000
            member = members[0] if members else b""
            lease = change(_lease_from(execution_id, member, now))
            script = LEASE.on(
                key, member, _member(lease, now), table.epoch_bytes(next_epoch()), self._ttl
            )
            (stored,) = yield Step([script], writes=True)
            if stored:
                return lease
        raise StoreUnavailable(
            f"the lease on execution {execution_id!r} changed {_ATTEMPTS} times while this one was "
            "about to; try again"
        )


def _lease_from(execution_id: str, member: bytes, now: int) -> Lease:
    if not member:
        return Lease()
    try:
        token, until, ttl, owner = member[1:].split(b"\0", 3)
        left = (int(until) - now) * _MILLISECOND
        return Lease(int(token), owner.decode() or None, left, int(ttl) * _MILLISECOND)
    except ValueError as error:
        raise CorruptData(f"the lease on execution {execution_id!r} is damaged") from error


def _member(lease: Lease, now: int) -> bytes:
    if lease.owner is None:
        return b"f%d\0000\0000\0" % lease.token
    left, ttl = -(-lease.left // _MILLISECOND), -(-lease.ttl // _MILLISECOND)
    owner = table.part(lease.owner)
    return b"f%d\0%d\0%d\0%b" % (lease.token, now + left, ttl, owner)
