"""Forks, names, pruning and deleting from the viewer's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.viewer_client import viewing

from langcairn import CheckpointNotFound, InvalidInput, MemoryCheckpointStore, SqliteCheckpointStore
from langcairn.forking import fork_at
from langcairn.viewer.demo import CLAIM, REPORT, TRAIL, fill
from langcairn.viewer.viewing import url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn import CheckpointStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    """A store with the demo's threads."""
    made = (
        MemoryCheckpointStore()
        if request.param == "memory"
        else SqliteCheckpointStore(tmp_path / "a.db", synchronous="OFF")
    )
    with made as store:
        fill(store)
        yield store


async def test_fork(store: CheckpointStore) -> None:
    old = store.forks(CLAIM)[0].steps[1]
    chunks = store.stats(CLAIM).chunks
    async with viewing(store, write=True) as client:
        page = await client.page(url("/confirm", action="fork", id=CLAIM, at=old.id))
        answer = await client.submit(page, name="second try")
        assert answer.status_code == 303
        page = await client.page(answer.headers["location"])
        assert "second try" in page.text
    first, second = store.forks(CLAIM)
    assert second.name == "second try"
    assert second.is_newest
    assert second.tip.parent_id == old.parent_id
    assert second.tip.source == "fork"
    before, after = store.load(old.id), store.load(second.tip.id)
    assert after.state == before.state
    assert after.node_name == before.node_name
    assert store.stats(CLAIM).chunks == chunks
    with pytest.raises(InvalidInput, match="second try"):
        store.run(fork_at(store.codec, CLAIM, first.tip.id, "second try"))
    with pytest.raises(CheckpointNotFound):
        store.run(fork_at(store.codec, CLAIM, "none", None))


async def test_rename(store: CheckpointStore) -> None:
    winter = store.forks(TRAIL)[1].tip
    async with viewing(store, write=True) as client:
        page = await client.page(url("/confirm", action="rename", id=TRAIL, at=winter.id))
        assert page.fields["name"] == "winter"
        answer = await client.submit(page, name=" snow ")
        assert answer.status_code == 303
        assert [fork.name for fork in store.forks(TRAIL)] == ["summer", "snow"]
        taken = await client.submit(page, name="summer")
        assert taken.status_code == 400
        assert "choose another name" in taken.text
        await client.submit(page, name="")
        assert [fork.name for fork in store.forks(TRAIL)] == ["summer", None]


async def test_prune(store: CheckpointStore) -> None:
    async with viewing(store, write=True) as client:
        page = await client.page(url("/confirm", action="prune", id=TRAIL))
        assert "31 checkpoints" in page.text
        for keep in ("0", "-1", "x", "", "9" * 12):
            assert (await client.submit(page, keep=keep)).status_code == 400
        assert len(store.list(TRAIL)) == 31
        assert (await client.submit(page, keep="2")).status_code == 303
        assert len(store.list(TRAIL)) == 2
        assert "2 checkpoints" in (await client.page(f"/thread?id={TRAIL}")).text


async def test_delete_checkpoint(store: CheckpointStore) -> None:
    gone = next(one for one in store.list(REPORT) if one.namespace)
    count = len(store.list(REPORT))
    async with viewing(store, write=True) as client:
        page = await client.page(
            url("/confirm", action="delete-checkpoint", id=REPORT, ns=gone.namespace, at=gone.id)
        )
        assert (await client.submit(page)).status_code == 303
        assert len(store.list(REPORT)) == count - 1
        await client.page(url("/thread", id=REPORT, ns=gone.namespace, at=gone.id), 404)
        again = url("/confirm", action="delete-checkpoint", id=REPORT, at=gone.id)
        assert "isn't there any more" in (await client.page(again, 400)).text


async def test_delete_thread(store: CheckpointStore) -> None:
    async with viewing(store, write=True) as client:
        assert TRAIL in (await client.page("/")).text
        page = await client.page(url("/confirm", action="delete-thread", id=TRAIL))
        answer = await client.submit(page)
        assert answer.headers["location"].startswith("/?done")
        assert TRAIL not in (await client.page("/")).text
    assert TRAIL not in store.executions()


async def test_no_such_action() -> None:
    async with MemoryCheckpointStore() as store, viewing(store, write=True) as client:
        assert "none of fork" in (await client.page("/confirm?action=x&id=t", 400)).text
