"""A primary that dies, the replica in its place, and what servers may lose thereby."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.sqlite_rows import chunk, fetch, find, ids, put, row
from tests.valkey_server import FailoverGroup, ValkeyServer

from langcairn import RedisCheckpointStore
from langcairn.backends.base import Commit, FindCheckpoints
from langcairn.backends.redis import RedisBackend
from langcairn.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def group() -> Iterator[FailoverGroup]:
    with FailoverGroup() as group:
        yield group


def test_a_failover(group: FailoverGroup) -> None:
    """What the replica had is there, and both sides of a backend go on by themselves."""

    async def use() -> list[str]:
        await backend.aexecute(Commit("e", None, (), [row("c2")]))
        assert group.primary.ask("WAIT", 1, 10_000) == 1
        group.primary.kill()
        await asyncio.to_thread(put, backend, row("c3"))  # waits for the failover
        await backend.aexecute(Commit("e", None, (), [row("c4")]))
        found: Any = await backend.aexecute(FindCheckpoints("e"))
        return ids(found)  # the loop's own connections are closed as it ends

    backend = RedisBackend(group.url, socket_timeout=1.0)
    backend.execute(Commit("e", None, [chunk("a")], [row("c1")]))
    assert asyncio.run(use()) == ["c4", "c3", "c2", "c1"]
    assert fetch(backend, "a") == dict([chunk("a")])
    assert ids(find(backend, "e")) == ["c4", "c3", "c2", "c1"]
    backend.close()


@pytest.mark.parametrize("cache_bytes", [0, 10_000_000])
def test_a_writer_that_outlives_what_it_wrote(cache_bytes: int) -> None:
    """A server that lost its last puts must not be given checkpoints that build upon them."""
    texts = [f"{number} " * 500 for number in range(6)]

    def save(id: str, count: int) -> None:
        store.save(Checkpoint(id=id, execution_id="e", state={"texts": texts[:count]}))

    with (
        ValkeyServer(save="") as server,
        RedisCheckpointStore(server.url, cache_bytes=cache_bytes) as store,
        RedisCheckpointStore(server.url) as reader,
    ):
        save("c1", 2)
        server.ask("SAVE")
        save("c2", 4)
        server.kill()
        server.start()
        assert [one.id for one in reader.list("e")] == ["c1"]
        save("c3", 5)
        assert reader.load("c3").state == {"texts": texts[:5]}
