"""Objects beside every database: moving, pruning and clearing do the same on each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis
from tests.file_storage import FileStorage
from tests.postgres_server import PostgresServer
from tests.postgres_storage import PostgresStorage
from tests.redis_storage import RedisStorage
from tests.test_objects import CANARY, EAGER, messages, moved, raw, save, text
from tests.valkey_server import ValkeyServer

from langcairn import ObjectStorage
from langcairn.backends.base import FindExecutions
from langcairn.objects.naming import RESERVED
from langcairn.testing import MemoryStorage, Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn import CheckpointStore


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    server = PostgresServer()
    try:
        yield server.start().url()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    with ValkeyServer() as server:
        yield server.url


@pytest.fixture(params=["memory", "files", "postgres", "valkey"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    match request.param:
        case "memory":
            with MemoryStorage() as storage:
                yield storage
        case "files":
            with FileStorage(tmp_path / "logs") as storage:
                yield storage
        case "postgres":
            with PostgresStorage(request.getfixturevalue("postgres")) as storage:
                yield storage
        case _:
            url = request.getfixturevalue("valkey")
            with redis.Redis.from_url(url) as client, RedisStorage(url, client) as storage:
                yield storage


def opened(storage: Storage, path: Path) -> CheckpointStore:
    return storage.open(objects=ObjectStorage(url=f"file://{path}/objects", **EAGER))


def packs(path: Path) -> list[Path]:
    return [one for one in (path / "objects").rglob("*") if one.is_file()]


def test_the_way_of_content(storage: Storage, tmp_path: Path) -> None:
    store = opened(storage, tmp_path)
    all = messages(120)
    large = text(1_500_000)
    for end in (40, 80, 120):
        save(store, f"c{end}", {"messages": all[:end], "large": large})
        assert store.move_to_objects().chunks == (41 if end == 40 else 40)
    assert len(moved(store)) == 121
    assert 1 <= len(packs(tmp_path)) <= 3
    assert opened(storage, tmp_path).load("c120").state == {"messages": all, "large": large}
    # What the mover has done is no change to a writer, who goes on with what he knows.
    save(store, "c121", {"messages": [*all, *messages(1, 900)], "large": large})
    assert opened(storage, tmp_path).load("c121").state["messages"][:120] == all
    assert store.executions(limit=1) == ["thread"]
    for id in ("c40", "c80", "c121"):
        store.delete(id)
    store.move_to_objects()
    assert opened(storage, tmp_path).load("c120").state == {"messages": all, "large": large}
    assert len(raw(store)) < 140
    store.clear("thread")
    assert packs(tmp_path) == []
    assert store.executions() == []
    assert opened(storage, tmp_path).executions() == []


async def test_the_way_of_content_async(storage: Storage, tmp_path: Path) -> None:
    store = opened(storage, tmp_path)
    state: dict[str, Any] = {"messages": messages(40), "canary": CANARY + text()}
    async with store:
        save(store, "c1", state)
        assert (await store.amove_to_objects()).chunks == 41
        fresh = opened(storage, tmp_path)
        assert (await fresh.aload("c1")).state == state
        assert await fresh.aexecutions() == ["thread"]
        await fresh.aclose()
        if not isinstance(storage, MemoryStorage):  # where stores share what close() ends
            fresh = opened(storage, tmp_path)
            await fresh.aclear("thread")
            await fresh.aclose()
            assert packs(tmp_path) == []


def test_the_reserved_execution_is_never_shown(storage: Storage, tmp_path: Path) -> None:
    store = opened(storage, tmp_path)
    for thread in ("a", "b", "c"):
        save(store, "c1", {"t": text()}, thread)
    store.move_to_objects()
    backend: Any = store.backend
    assert RESERVED in backend.inner.execute(FindExecutions())
    assert store.executions() == ["a", "b", "c"]
    assert [store.executions(limit=n) for n in range(4)] == [
        [], ["a"], ["a", "b"], ["a", "b", "c"],
    ]  # fmt: skip
    assert store.executions(after="a", limit=1) == ["b"]
