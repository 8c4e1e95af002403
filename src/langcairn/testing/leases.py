"""The contract of leases: tokens, and who may write while somebody has one."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.backends.base import (
    AcquireLease,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    ReleaseLease,
    Remove,
    RenewLease,
    Request,
    Sweep,
    Transaction,
)
from langcairn.errors import LeaseHeld, LeaseLost, StaleEpoch
from langcairn.testing.rows import chunk_id, row, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.storage import Storage

SHORT = 0.05
"""A lease that expires while a test waits for it [s]."""


def take_over(ask: Callable[[Request], Any], owner: str, patience: float = 20) -> int:
    """Acquire a lease as soon as that of another one has expired; returns the token."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return ask(AcquireLease("run", owner, 60))  # type: ignore[no-any-return]  # a token
        except LeaseHeld:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class BackendLeases:
    """Tests of leases; a part of `BackendContract`, whose fixtures it needs."""

    # Tokens

    def test_tokens_grow(self, ask: Callable[[Request], Any]) -> None:
        tokens = []
        for number in range(5):
            tokens.append(ask(AcquireLease("run", f"owner {number}", 60)))
            assert ask(ReleaseLease("run", tokens[-1])) is True
        ask(Commit("run", None, (), [row("a")]))
        tokens.append(ask(AcquireLease("run", "owner 5", SHORT)))
        tokens.append(take_over(ask, "owner 6"))
        ask(Clear("run", tokens[-1]))
        assert ask(ReleaseLease("run", tokens[-1])) is True
        tokens.append(ask(AcquireLease("run", "owner 7", 60)))
        ask(ReleaseLease("run", tokens[-1]))
        assert ask(Clear("run")) is True
        assert ask(FindExecutions()) == []
        tokens.append(ask(AcquireLease("run", "owner 8", 60)))
        assert tokens == sorted(set(tokens))
        assert 0 < tokens[0] < tokens[-1] < 2**63

    def test_another_owner_is_refused(self, ask: Callable[[Request], Any]) -> None:
        ask(AcquireLease("run", "Ärger & Co: 1", 60))
        with pytest.raises(LeaseHeld, match="Ärger & Co: 1") as caught:
            ask(AcquireLease("run", "two", 60))
        assert caught.value.owner == "Ärger & Co: 1"
        assert 50 < caught.value.left <= 60
        assert ask(AcquireLease("other", "two", 60)) > 0

    def test_the_same_owner_gets_the_same(self, ask: Callable[[Request], Any]) -> None:
        """A request that is repeated after a lost answer must not lock its own owner out."""
        token = ask(AcquireLease("run", "one", 60))
        assert ask(AcquireLease("run", "one", 90)) == token
        with pytest.raises(LeaseHeld) as caught:
            ask(AcquireLease("run", "two", 60))
        assert caught.value.left > 60

    def test_one_of_many_gets_it(self, storage: Storage) -> None:
        backends = [storage.open().backend for _ in range(6)]

        def acquire(number: int) -> object:
            try:
                return backends[number].execute(AcquireLease("run", f"owner {number}", 60))
            except LeaseHeld as error:
                return error.owner

        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(acquire, range(6)))
        tokens = [number for number, one in enumerate(outcomes) if type(one) is int]
        assert len(tokens) == 1
        assert [one for one in outcomes if type(one) is str] == [f"owner {tokens[0]}"] * 5

    # Renewing and releasing

    def test_renewing(self, ask: Callable[[Request], Any]) -> None:
        token = ask(AcquireLease("run", "one", SHORT))
        assert ask(RenewLease("run", token, 600)) is None
        with pytest.raises(LeaseHeld) as caught:
            ask(AcquireLease("run", "two", 60))
        assert caught.value.left > 500

    def test_what_nobody_took_over_can_be_renewed(self, ask: Callable[[Request], Any]) -> None:
        token = ask(AcquireLease("run", "one", SHORT))
        time.sleep(2 * SHORT)
        ask(RenewLease("run", token, 60))
        with pytest.raises(LeaseHeld):
            ask(AcquireLease("run", "two", 60))

    def test_what_was_lost_is_neither_renewed_nor_released(
        self, ask: Callable[[Request], Any]
    ) -> None:
        first = ask(AcquireLease("run", "one", SHORT))
        second = take_over(ask, "two")
        with pytest.raises(LeaseLost, match=str(first)):
            ask(RenewLease("run", first, 60))
        assert ask(ReleaseLease("run", first)) is False
        ask(RenewLease("run", second, 60))
        for stranger in (second + 1, 0, first):
            with pytest.raises(LeaseLost):
                ask(RenewLease("run", stranger, 60))
        with pytest.raises(LeaseLost):
            ask(RenewLease("nothing", second, 60))
        assert ask(ReleaseLease("nothing", second)) is False
        assert ask(ReleaseLease("run", second)) is True
        assert ask(ReleaseLease("run", second)) is False
        with pytest.raises(LeaseLost):
            ask(RenewLease("run", second, 60))

    # Who may write

    @pytest.mark.parametrize("known", [True, False])
    def test_only_the_owner_writes(self, ask: Callable[[Request], Any], known: bool) -> None:
        chunk = (chunk_id(1), b"x")
        epoch = ask(Commit("run", None, [chunk], [row("a")]))
        stated = epoch if known else None
        token = ask(AcquireLease("run", "one", 60))
        put = Commit("run", stated, [(chunk_id(2), b"y")], [row("b")], [write()])
        with pytest.raises(LeaseHeld, match="'one'"):
            ask(put)
        for stranger in (token - 1, token + 1, 0):
            with pytest.raises(LeaseLost, match=str(stranger)):
                ask(put._replace(fence=stranger))
        assert ask(FetchChunks("run", [chunk_id(2)])) == {}
        assert ask(FindWrites("run")) == []
        assert ask(put._replace(fence=token)) == epoch
        assert [one.row.id for one in ask(FindCheckpoints("run"))] == ["b", "a"]
        with pytest.raises(StaleEpoch):
            ask(put._replace(epoch=1, fence=token))
        ask(ReleaseLease("run", token))
        with pytest.raises(LeaseLost):
            ask(put._replace(fence=token))
        ask(put)

    def test_a_token_without_an_execution(self, ask: Callable[[Request], Any]) -> None:
        for epoch in (None, 1):
            with pytest.raises(LeaseLost):
                ask(Commit("run", epoch, (), [row("a")], fence=5))
        with pytest.raises(LeaseLost):
            ask(Remove("run", [("", "a")], fence=5))
        with pytest.raises(LeaseLost):
            ask(Clear("run", fence=5))
        assert ask(FindExecutions()) == []

    def test_an_execution_may_begin_under_a_lease(self, ask: Callable[[Request], Any]) -> None:
        token = ask(AcquireLease("run", "one", 60))
        with pytest.raises(LeaseHeld):
            ask(Commit("run", None, (), [row("a")]))
        epoch = ask(Commit("run", None, [(chunk_id(1), b"x")], [row("a")], fence=token))
        assert ask(Commit("run", epoch, (), [row("b")], fence=token)) == epoch
        assert ask(FindExecutions()) == ["run"]

    def test_a_stalled_owner_is_refused(self, ask: Callable[[Request], Any]) -> None:
        first = ask(AcquireLease("run", "one", SHORT))
        epoch = ask(Commit("run", None, (), [row("a")], fence=first))
        second = take_over(ask, "two")
        for stated in (epoch, None):
            with pytest.raises(LeaseLost):
                ask(Commit("run", stated, (), [row("b")], fence=first))
        assert ask(Commit("run", epoch, (), [row("c")], fence=second)) == epoch

    def test_an_expired_lease_holds_until_somebody_writes(
        self, ask: Callable[[Request], Any]
    ) -> None:
        token = ask(AcquireLease("run", "one", SHORT))
        time.sleep(2 * SHORT)
        epoch = ask(Commit("run", None, (), [row("a")], fence=token))
        assert ask(Commit("run", epoch, (), [row("b")], fence=token)) == epoch
        assert ask(Commit("run", epoch, (), [row("c")])) == epoch
        # Another one wrote in between: the owner must not go on as if nothing had happened.
        with pytest.raises(LeaseLost):
            ask(Commit("run", epoch, (), [row("d")], fence=token))
        with pytest.raises(LeaseLost):
            ask(RenewLease("run", token, 60))
        assert ask(AcquireLease("run", "two", 60)) > token

    def test_transactions(self, ask: Callable[[Request], Any]) -> None:
        token = ask(AcquireLease("run", "one", 60))
        put = Commit("run", None, (), [row("a")])
        with pytest.raises(LeaseHeld):
            ask(Transaction([put]))
        with pytest.raises(LeaseLost):
            ask(Transaction([put._replace(fence=token + 1)]))
        ask(Transaction([put._replace(fence=token)]))
        conditional = put._replace(checkpoints=[row("b")], removals=[("", "a")])
        with pytest.raises(LeaseHeld):
            ask(conditional)
        ask(conditional._replace(fence=token))
        assert [one.row.id for one in ask(FindCheckpoints("run"))] == ["b"]

    # Clean-ups

    def test_removing(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, [(chunk_id(1), b"x")], [row("a"), row("b")]))
        token = ask(AcquireLease("run", "one", 60))
        with pytest.raises(LeaseHeld):
            ask(Remove("run", [("", "a")]))
        with pytest.raises(LeaseLost):
            ask(Remove("run", [("", "a")], fence=token + 1))
        assert len(ask(FindCheckpoints("run"))) == 2
        epoch = ask(Remove("run", [("", "a")], fence=token))
        assert [one.row.id for one in ask(FindCheckpoints("run"))] == ["b"]
        # Nobody can see what a sweep takes.
        assert ask(FindOldChunks("run", epoch)) == [chunk_id(1)]
        assert ask(Sweep("run", epoch, [chunk_id(1)])) is True
        ask(RenewLease("run", token, 60))

    def test_removing_ends_an_expired_lease(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, (), [row("a")]))
        token = ask(AcquireLease("run", "one", SHORT))
        time.sleep(2 * SHORT)
        ask(Remove("run", [("", "a")]))
        with pytest.raises(LeaseLost):
            ask(Commit("run", None, (), [row("b")], fence=token))

    def test_clearing(self, ask: Callable[[Request], Any]) -> None:
        epoch = ask(Commit("run", None, [(chunk_id(1), b"x")], [row("a")], [write()]))
        token = ask(AcquireLease("run", "one", 60))
        with pytest.raises(LeaseHeld):
            ask(Clear("run"))
        with pytest.raises(LeaseLost):
            ask(Clear("run", fence=token + 1))
        assert len(ask(FindCheckpoints("run"))) == 1
        assert ask(Clear("run", fence=token)) is True
        assert ask(FindCheckpoints()) == []
        assert ask(FindCheckpoints(id="a")) == []
        assert ask(FindWrites("run")) == []
        assert ask(FetchChunks("run", [chunk_id(1)])) == {}
        # The owner goes on; what he remembers of the execution is void.
        with pytest.raises(StaleEpoch):
            ask(Commit("run", epoch, (), [row("b")], fence=token))
        assert ask(Commit("run", None, (), [row("b")], fence=token)) > epoch
        with pytest.raises(LeaseHeld):
            ask(Commit("run", None, (), [row("c")]))
        assert ask(FindExecutions()) == ["run"]

    def test_clearing_after_expiry_fences_the_owner(self, ask: Callable[[Request], Any]) -> None:
        token = ask(AcquireLease("run", "one", SHORT))
        ask(Commit("run", None, (), [row("a")], fence=token))
        time.sleep(2 * SHORT)
        assert ask(Clear("run")) is True
        ask(Commit("run", None, (), [row("a")]))
        with pytest.raises(LeaseLost):
            ask(Commit("run", None, (), [row("b")], fence=token))
