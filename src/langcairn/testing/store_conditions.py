"""The contract of `CheckpointStore`: expected versions, transactions and leases."""
# ruff: noqa: S101, D102, PT012 -- tests assert, their names say what, and blocks are what is tested

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.backends.base import AcquireLease, FindWrites, ReleaseLease
from langcairn.checkpoint import Checkpoint
from langcairn.errors import (
    InvalidInput,
    LeaseHeld,
    LeaseLost,
    StoreClosed,
    Unserializable,
    VersionConflict,
)
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import put
from langcairn.testing.fixtures import Fixtures
from langcairn.testing.one_writer import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage


def record(id: str = "a", execution_id: str = "run", **fields: Any) -> Checkpoint:
    """Return a record whose state is partly in chunks."""
    state = {"step": 1, "texts": [f"{execution_id} {n} {'x' * 300}" for n in range(5)]}
    return Checkpoint(id=id, **{"execution_id": execution_id, "state": state, **fields})


class StoreConditions(Fixtures):
    """Tests of stores that more than one writes to; a part of `StoreContract`."""

    @pytest.fixture
    def within(self, runner: asyncio.Runner, side: str) -> Callable[[Any], Any]:
        """Return what enters a block and leaves it, on the side that is tested."""

        async def entered(block: Any) -> Any:
            return await block.__aenter__()

        @contextmanager
        def within(block: Any) -> Iterator[Any]:
            if side == "sync":
                with block as value:
                    yield value
                return
            value = runner.run(entered(block))
            try:
                yield value
            except BaseException as error:
                runner.run(block.__aexit__(type(error), error, None))
                raise
            runner.run(block.__aexit__(None, None, None))

        return within

    # Versions

    def test_a_version_is_expected(
        self, store: Caller, fresh: Callable[[], Caller], storage: Storage
    ) -> None:
        store.save(record(), expected_version=0)
        with pytest.raises(VersionConflict) as caught:
            store.save(record(), expected_version=0)
        assert (caught.value.expected, caught.value.found) == (None, 1)
        store.save(record(version=2), expected_version=1)
        other = fresh()
        assert other.load("a").version == 2
        other.save(record(version=3, state={"by": "other"}), expected_version=2)
        with pytest.raises(VersionConflict, match=r"version 2.*version 3") as caught:
            store.save(record(version=3, state={"by": "store", "x": "y" * 500}), expected_version=2)
        assert (caught.value.expected, caught.value.found) == (2, 3)
        assert store.load("a").state == {"by": "other"}
        store.save(record(version=1))  # without it, the last save wins
        assert other.load("a").version == 1
        with pytest.raises(VersionConflict) as caught:
            store.save(record("b"), expected_version=4)
        assert (caught.value.expected, caught.value.found) == (4, None)
        assert audit(storage, "run").dangling == set()

    def test_versions_that_are_none(self, store: Caller) -> None:
        for version in (-1, 2**31, 1.0, "1", True):
            with case(version):
                with pytest.raises(InvalidInput, match="expected_version"):
                    store.save(record(), expected_version=version)
                assert store.list("run") == []

    # Transactions

    def test_a_transaction(
        self,
        store: Caller,
        storage: Storage,
        within: Callable[[Any], Any],
        fresh: Callable[[], Caller],
    ) -> None:
        store.save_many([record("old"), record("old", "other"), record("kept")])
        state = {"n": [1, "y" * 300]}
        with within(store.target.transaction()) as tx:
            tx.save(record("new", state=state))
            state["n"].clear()  # what is saved is what it was
            tx.save(record("new", "third"))
            tx.delete("old", execution_id="run")
            tx.delete("old", execution_id="other", expected_version=1)
            tx.delete("nothing", execution_id="run")
            assert {one.id for one in store.list("run")} == {"old", "kept"}
            assert store.list("third") == []
        for one in (store, fresh()):
            assert {found.id for found in one.list("run")} == {"new", "kept"}
            assert one.load("new", execution_id="run").state == {"n": [1, "y" * 300]}
            assert one.load("new", execution_id="third").state == record("", "third").state
            assert one.list("other") == []
        for id in ("run", "other", "third"):
            assert audit(storage, id) == CLEAN
        store.save(record("next"))
        assert audit(storage, "run") == CLEAN

    def test_an_exception_leaves_everything(
        self, store: Caller, within: Callable[[Any], Any]
    ) -> None:
        store.save(record("old"))
        with pytest.raises(ZeroDivisionError), within(store.target.transaction()) as tx:
            tx.save(record("new"))
            tx.delete("old", execution_id="run")
            raise ZeroDivisionError
        with pytest.raises(Unserializable, match="lock"), within(store.target.transaction()) as tx:
            tx.save(record("new"))
            tx.save(record("newer", state={"lock": asyncio}))
        assert [one.id for one in store.list("run")] == ["old"]

    def test_a_conflict_leaves_everything(
        self, store: Caller, within: Callable[[Any], Any]
    ) -> None:
        store.save(record("old", version=5))
        with pytest.raises(VersionConflict) as caught, within(store.target.transaction()) as tx:
            tx.save(record("new", "another"))
            tx.save(record("old", version=6), expected_version=4)
        assert (caught.value.expected, caught.value.found) == (4, 5)
        with pytest.raises(VersionConflict), within(store.target.transaction()) as tx:
            tx.save(record("new", "another"))
            tx.delete("missing", execution_id="run", expected_version=1)
        assert store.executions() == ["run"]
        with within(store.target.transaction()) as tx:
            tx.delete("old", execution_id="run", expected_version=5)
            tx.save(record("first", "another"), expected_version=0)
        assert store.executions() == ["another", "run"]
        assert store.list("run") == []

    def test_the_last_of_several_changes_counts(
        self, store: Caller, within: Callable[[Any], Any], storage: Storage
    ) -> None:
        saver = CheckpointSaver(store.target)
        config = put(saver, 1, {"a": "x" * 500}, thread="run")
        saver.put_writes(config, [("a", "y" * 500)], "task")
        id = config["configurable"]["checkpoint_id"]
        with within(store.target.transaction()) as tx:
            tx.save(record("b", version=1), expected_version=0)
            tx.save(record("b", version=2, state={"x": "z" * 500}))
            tx.delete("b", execution_id="run", namespace="sub")
            tx.save(record("c"))
            tx.delete("c", execution_id="run")
            tx.delete(id, execution_id="run")
            tx.save(record(id))
            with pytest.raises(InvalidInput, match="two versions"):
                tx.delete("b", execution_id="run", expected_version=2)
        assert {one.id: one.version for one in store.list("run")} == {"b": 2, id: 1}
        assert list(storage.backend.execute(FindWrites("run"))) != []  # type: ignore[call-overload]  # saved last

    def test_a_transaction_serves_one_block(
        self, store: Caller, within: Callable[[Any], Any]
    ) -> None:
        tx = store.target.transaction()
        uses: list[Callable[[], Any]] = [
            lambda: tx.save(record()),
            lambda: tx.delete("a", execution_id="run"),
        ]
        for use in uses:
            with pytest.raises(InvalidInput, match="with store"):
                use()
        with within(tx), pytest.raises(InvalidInput, match="one block"), within(tx):
            pass
        for use in uses:
            with pytest.raises(InvalidInput, match="over"):
                use()
        with pytest.raises(InvalidInput, match="one block"), within(tx):
            pass
        assert store.executions() == []

    def test_bad_input_of_a_transaction(self, store: Caller, within: Callable[[Any], Any]) -> None:
        with within(store.target.transaction()) as tx:
            for bad in ({"execution_id": ""}, {"execution_id": "r", "namespace": "\0"}):
                with pytest.raises(InvalidInput):
                    tx.delete("a", **bad)
            with pytest.raises(InvalidInput):
                tx.delete("", execution_id="run")
            with pytest.raises(InvalidInput):
                tx.save({"id": "a"})
        assert store.executions() == []

    # Leases

    def test_a_lease(
        self, store: Caller, fresh: Callable[[], Caller], within: Callable[[Any], Any]
    ) -> None:
        other = fresh()
        with within(store.target.lease("run", timedelta(minutes=1), owner="me")) as lease:
            assert lease.token > 0
            assert not lease.lost
            store.save(record("a"))
            other.save(record("a", "elsewhere"))
            attempts: list[Callable[[], Any]] = [
                lambda: other.save(record("b")),
                lambda: other.delete("a", execution_id="run"),
                lambda: other.clear("run"),
            ]
            for refused in attempts:
                with pytest.raises(LeaseHeld, match="me#"):
                    refused()
            with (
                pytest.raises(LeaseHeld, match="'me#") as caught,
                within(other.target.lease("run")),
            ):
                pass
            assert 0 < caught.value.left <= 60
            with pytest.raises(LeaseHeld), within(other.target.transaction()) as tx:
                tx.save(record("b"))
            with within(store.target.transaction()) as tx:
                tx.save(record("b"))
            assert store.delete("a", execution_id="run")
            assert store.clear("run")
            store.save(record("c"))
            assert [one.id for one in other.list("run")] == ["c"]
        other.save(record("d"))
        with within(other.target.lease("run")) as second:
            assert second.token > lease.token
        store.save(record("e"))

    def test_a_lease_is_renewed(
        self, store: Caller, fresh: Callable[[], Caller], runner: asyncio.Runner
    ) -> None:
        other = fresh().target
        seen: list[float] = []

        def has_more_time() -> bool:
            """Tell whether the lease lasts longer than when it was looked at before."""
            with pytest.raises(LeaseHeld) as caught:
                other.lease("run").acquire()
            seen.append(caught.value.left)
            return len(seen) > 1 and seen[-1] > seen[-2]

        async def hold() -> None:
            async with store.target.alease("run", ttl=1.5) as lease:
                await asyncio.to_thread(wait_until, has_more_time)
                await store.target.asave(record())
                assert not lease.lost

        if store.is_async:
            runner.run(hold())
            return
        with store.target.lease("run", ttl=1.5) as lease:
            wait_until(has_more_time)
            store.save(record())
            assert not lease.lost

    def test_a_lease_that_is_lost(
        self, store: Caller, fresh: Callable[[], Caller], within: Callable[[Any], Any]
    ) -> None:
        other = fresh()
        with within(store.target.lease("run", 0.05)) as lease:
            _stand_still(lease)
            store.save(record("a"))
            with within(_Patient(other.target.lease("run", 60))) as second:
                assert second.token > lease.token
                other.save(record("b"))
                for _ in range(2):
                    with pytest.raises(LeaseLost, match=str(lease.token)):
                        store.save(record("c"))
                    with pytest.raises(LeaseLost):
                        store.delete("a", execution_id="run")
                    with pytest.raises(LeaseLost), within(store.target.transaction()) as tx:
                        tx.save(record("c"))
                store.save(record("a", "elsewhere"))
            with pytest.raises(LeaseLost):
                store.save(record("c"))
        store.save(record("c"))
        assert {one.id for one in store.list("run")} == {"a", "b", "c"}

    def test_who_lost_a_lease_is_told(
        self, store: Caller, fresh: Callable[[], Caller], runner: asyncio.Runner
    ) -> None:
        """By the renewal in the background, before anything is written."""
        taken = fresh().target.backend

        def take() -> None:
            """Break the lease, as only an operator could: it never expired."""
            taken.execute(ReleaseLease("run", lease.token))
            taken.execute(AcquireLease("run", "another", 60))

        lease = store.target.lease("run", 0.2)

        async def hold() -> None:
            async with lease:
                await asyncio.to_thread(take)
                await asyncio.to_thread(wait_until, lambda: lease.lost)
                with pytest.raises(LeaseLost):
                    await store.target.asave(record())

        if store.is_async:
            runner.run(hold())
        else:
            with lease:
                take()
                wait_until(lambda: lease.lost)
                with pytest.raises(LeaseLost):
                    store.save(record())
        assert lease.lost
        with pytest.raises(LeaseLost):
            lease.check()
        assert store.list("run") == []
        with pytest.raises(LeaseHeld, match="another"):
            store.save(record())

    def test_leases_by_hand(self, store: Caller, fresh: Callable[[], Caller]) -> None:
        lease = store.target.lease("run", 60)
        with pytest.raises(InvalidInput, match="isn't acquired"):
            _ = lease.token
        assert lease.release() is False
        if store.is_async:
            return
        assert lease.acquire() is lease
        with pytest.raises(InvalidInput, match="already"):
            lease.acquire()
        token = lease.token
        assert lease.release() is True
        assert lease.release() is False
        fresh().save(record())
        assert lease.acquire().token > token
        lease.release()

    def test_times_that_are_none(self, store: Caller) -> None:
        for ttl in (0, -1, float("nan"), float("inf"), "1", timedelta(days=8)):
            with case(ttl), pytest.raises(InvalidInput, match="ttl"):
                store.target.lease("run", ttl)

    def test_bad_leases(self, store: Caller) -> None:
        with pytest.raises(InvalidInput):
            store.target.lease("")
        with pytest.raises(InvalidInput, match="owner"):
            store.target.lease("run", owner="")
        store.close()
        if not store.is_async:
            with pytest.raises(StoreClosed):
                store.target.lease("run").acquire()

    def test_versions_under_a_lease(self, store: Caller, within: Callable[[Any], Any]) -> None:
        store.save(record())
        with within(store.target.lease("run", 60)):
            store.save(replace(record(), version=2), expected_version=1)
            with pytest.raises(VersionConflict):
                store.save(replace(record(), version=2), expected_version=1)
            with within(store.target.transaction()) as tx:
                tx.save(replace(record(), version=3), expected_version=2)
        assert store.load("a").version == 3


def _stand_still(lease: Any) -> None:
    """Let nothing renew a lease, as if its process were stopped."""
    lease._stop.set()  # noqa: SLF001 -- a test's hand
    if lease._task is not None:  # noqa: SLF001 -- likewise
        lease._task.cancel()  # noqa: SLF001 -- likewise


class _Patient:
    """A block that waits until it gets a lease."""

    def __init__(self, lease: Any) -> None:
        self._lease = lease

    def __enter__(self) -> Any:
        end = time.monotonic() + 20
        while True:
            try:
                return self._lease.__enter__()
            except LeaseHeld:
                assert time.monotonic() < end
                time.sleep(0.01)

    def __exit__(self, *args: Any) -> None:
        self._lease.__exit__(*args)

    async def __aenter__(self) -> Any:
        end = time.monotonic() + 20
        while True:
            try:
                return await self._lease.__aenter__()
            except LeaseHeld:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)

    async def __aexit__(self, *args: Any) -> None:
        await self._lease.__aexit__(*args)
