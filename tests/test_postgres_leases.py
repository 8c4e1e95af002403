"""PostgreSQL: leases that are asked for at the same time share a statement and stay exclusive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage

from langcairn.backends.base import AcquireLease, Clear, ReleaseLease
from langcairn.backends.postgres import PostgresBackend
from langcairn.backends.postgres.schema import Schema
from langcairn.backends.postgres.shared_leases import lease_all
from langcairn.errors import LeaseHeld

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.postgres.values import Rows

LONG = 3600.0  # [s] nobody here waits until such a lease has expired
_BOUND = 60  # [s]
_TABLES = Schema("checkpoints", None).tables


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def storage(server: PostgresServer) -> Iterator[PostgresStorage]:
    with PostgresStorage(server.url()) as storage:
        yield storage


@pytest.fixture
def backend(storage: PostgresStorage) -> PostgresBackend:
    backend = storage.backend
    assert isinstance(backend, PostgresBackend)
    return backend


def ask(number: int, owner: str = "me", ttl: float = LONG) -> AcquireLease:
    return AcquireLease(f"run-{number:03}", owner, ttl)


async def all_of(backend: PostgresBackend, *requests: Any) -> list[Any]:
    async with asyncio.timeout(_BOUND):
        return await asyncio.gather(*map(backend.aexecute, requests), return_exceptions=True)


def test_one_statement_acquires_many_and_one_releases_them() -> None:
    plan = lease_all(_TABLES, [ask(number) for number in range(50)])
    statement = next(plan)
    assert "INSERT" in statement.sql
    answers: Rows = [(f"run-{number:03}", 1000 + number) for number in range(50)]
    assert _end(plan, answers) == [1000 + number for number in range(50)]

    plan = lease_all(_TABLES, [ReleaseLease(f"run-{number:03}", number) for number in range(50)])
    assert "UPDATE" in next(plan).sql
    assert _end(plan, [(f"run-{number:03}", True) for number in range(50)]) == [True] * 50


def _end(plan: Any, answers: Rows) -> list[object]:
    """Answer the only statement of a plan."""
    with pytest.raises(StopIteration) as stopped:
        plan.send(answers)
    found: list[object] = stopped.value.value
    return found


async def test_of_many_who_want_a_lease_each_gets_one(
    storage: PostgresStorage, backend: PostgresBackend
) -> None:
    other = storage.open().backend
    assert isinstance(other, PostgresBackend)
    # In both orders, and each twice from one process: whoever comes first, nobody waits for ever.
    mine = [ask(number, owner) for number in range(40) for owner in ("a", "b")]
    yours = [ask(number, owner) for number in reversed(range(40)) for owner in ("c", "d")]
    found = await asyncio.gather(all_of(backend, *mine), all_of(other, *yours))
    answers = dict(zip([*mine, *yours], [*found[0], *found[1]], strict=True))
    for number in range(40):
        tokens = [answers[ask(number, owner)] for owner in "abcd"]
        assert sorted(type(one).__name__ for one in tokens) == ["LeaseHeld"] * 3 + ["int"]
    kept = [ReleaseLease(one.execution_id, n) for one, n in answers.items() if isinstance(n, int)]
    wrong = [one._replace(token=one.token + 1) for one in kept]
    assert await all_of(backend, *wrong) == [False] * 40
    assert await all_of(other, *kept) == [True] * 40
    assert await all_of(other, *kept, *kept) == [False] * 80


async def test_tokens_grow_and_the_owner_gets_his_again(backend: PostgresBackend) -> None:
    (first,) = await all_of(backend, ask(1))
    assert await all_of(backend, ask(1), ask(1)) == [first, first]  # as after a lost answer
    assert await all_of(backend, ReleaseLease("run-001", first)) == [True]
    (second,) = await all_of(backend, ask(1))
    assert second > first
    await all_of(backend, Clear("run-001"), ReleaseLease("run-001", second))
    await all_of(backend, Clear("run-001"))
    (third,) = await all_of(backend, ask(1))
    assert third > second
    assert backend.execute(ReleaseLease("run-001", third)) is True


async def test_an_expired_lease_is_taken_over_beside_others(backend: PostgresBackend) -> None:
    tokens = await all_of(backend, ask(1, "gone", ttl=0.01), ask(2, "there"))
    for _ in range(_BOUND * 100):
        found = await all_of(backend, ask(1, "new"), ask(2, "new"), ask(3, "new"))
        if isinstance(found[0], int):
            break
        await asyncio.sleep(0.01)
    assert found[0] > tokens[0]
    assert isinstance(found[1], LeaseHeld)
    assert found[1].owner == "there"
    assert isinstance(found[2], int)


async def test_a_lease_of_one_who_was_cancelled_is_given_back(backend: PostgresBackend) -> None:
    await all_of(backend, ask(0))  # the tables are there
    for pauses in range(12):  # before it is sent, on the way, after it was answered
        task = asyncio.create_task(backend.aexecute(ask(1, f"gone {pauses}")))
        for _ in range(pauses):
            await asyncio.sleep(0.0005)
        task.cancel()
        (answer,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(answer, int):  # too late
            await all_of(backend, ReleaseLease("run-001", answer))
        for _ in range(_BOUND * 100):
            (found,) = await all_of(backend, ask(1, "next"))
            if isinstance(found, int):
                break
            await asyncio.sleep(0.01)
        assert await all_of(backend, ReleaseLease("run-001", found)) == [True]


async def test_closing_waits_for_leases_that_are_given_back(storage: PostgresStorage) -> None:
    store = storage.open()
    await store.backend.aexecute(ask(0))
    task = asyncio.create_task(store.backend.aexecute(ask(1, "gone")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.aclose()
    assert isinstance(storage.backend.execute(ask(1, "next")), int)
