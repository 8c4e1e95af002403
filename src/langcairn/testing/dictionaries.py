"""The contract of dictionaries: what is packed with one can be read wherever the store is."""
# ruff: noqa: S101, S311, D102 -- tests assert, and their names say what

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.backends.base import RESERVED, FetchChunks, FindExecutions, FindOldChunks
from langcairn.checkpoint import Checkpoint
from langcairn.errors import InvalidInput
from langcairn.testing.fixtures import Calling, Fixtures

if TYPE_CHECKING:
    from langcairn.store import CheckpointStore
    from langcairn.testing.storage import Storage

_WORDS = (
    "order", "customer", "address", "shipment", "invoice", "payment", "status", "delivered",
    "warehouse",
)  # fmt: skip


def some_checkpoints(first: int, count: int) -> list[Checkpoint]:
    """Return checkpoints of as many executions, which have texts in common."""
    source = random.Random(first)
    return [
        Checkpoint(
            id="1",
            execution_id=f"thread-{number}",
            node_name="agent",
            state={"log": [_text(source) for _ in range(12)]},
        )
        for number in range(first, first + count)
    ]


def _text(source: random.Random) -> str:
    words = " ".join(source.choices(_WORDS, k=source.randint(10, 20)))
    return f'{{"id": {source.randint(0, 10**9)}, "tool": "get_order_status", "text": "{words}"}}'


def packings(store: CheckpointStore, execution_id: str) -> set[int]:
    """Return how the chunks of an execution are packed."""
    backend: Any = store.backend
    ids = backend.execute(FindOldChunks(execution_id, 2**62))
    return {sealed[1] for sealed in backend.execute(FetchChunks(execution_id, ids)).values()}


def is_legible(store: CheckpointStore) -> bool:
    """Tell whether texts can be read in what is stored of dictionaries, without any chunk."""
    backend: Any = store.backend
    ids = backend.execute(FindOldChunks(RESERVED, 2**62))
    chunks = backend.execute(FetchChunks(RESERVED, ids))
    opened = [store.codec.format.unseal(id, sealed).data for id, sealed in chunks.items()]
    assert opened
    return any(b"delivered" in data for data in opened)


class DictionaryContract(Fixtures):
    """What a store with dictionaries does on every backend."""

    def test_a_dictionary_is_trained_and_used(self, storage: Storage, calling: Calling) -> None:
        target = storage.open()
        store = calling(target)
        old, new = some_checkpoints(0, 20), some_checkpoints(20, 5)
        store.save_many(old)
        before = store.stats()
        report = store.train_dictionary(samples=200, size=8192)
        assert report.stored, report
        assert report.ratio < 0.9
        store.save_many(new)
        assert packings(target, "thread-20") == {2}
        repacked = store.repack()
        assert repacked.executions == 25
        assert repacked.chunks > 200
        assert repacked.bytes_after < repacked.bytes_before
        assert packings(target, "thread-3") == {2}
        assert store.repack()[1:4] == (0, 0, 0)

        # Nothing else of it is seen.
        ids = sorted(one.execution_id for one in old + new)
        assert store.executions() == ids
        assert [one.execution_id for one in store.execution_stats()] == ids
        after = store.stats()
        assert (after.executions, after.checkpoints) == (25, 25)
        assert after.stored_bytes < before.stored_bytes * 25 / 20
        assert RESERVED in target.backend.execute(FindExecutions())  # type: ignore[operator]  # a list

        # Others read it, and write with it from then on.
        another = storage.open()
        for one in old + new:
            loaded = calling(another).load("1", execution_id=one.execution_id)
            assert loaded.state == one.state
        calling(another).save_many(some_checkpoints(30, 1))
        assert packings(another, "thread-30") == {2}
        (dictionary,) = calling(another).dictionaries()
        assert dictionary.name == report.name

        # Who is to look for it needn't have read anything.
        eager = storage.open(dictionary=True)
        calling(eager).save_many(some_checkpoints(40, 1))
        assert packings(eager, "thread-40") == {2}

    def test_what_refers_to_it_can_be_cleaned_up(self, storage: Storage, calling: Calling) -> None:
        target = storage.open()
        store = calling(target)
        store.save_many(some_checkpoints(0, 20))
        assert store.train_dictionary(samples=200, size=8192).stored
        store.repack(limit=1)
        for id in store.executions()[:-1]:
            assert store.clear(id)
        store.save_many(some_checkpoints(60, 1))
        another = calling(storage.open())
        assert another.load("1", execution_id="thread-60").state == (
            some_checkpoints(60, 1)[0].state
        )
        assert another.delete("1", execution_id="thread-60")

    def test_a_dictionary_is_retired(self, storage: Storage, calling: Calling) -> None:
        target = storage.open()
        store = calling(target)
        old, late = some_checkpoints(0, 20), some_checkpoints(20, 1)
        store.save_many(old)
        report = store.train_dictionary(samples=200, size=8192)
        assert report.stored
        store.repack()
        assert is_legible(target)
        unaware = storage.open()
        calling(unaware).load("1", execution_id="thread-0")
        seen: list[int] = []
        done = store.retire_dictionary(
            report.name, progress=lambda done: seen.append(done.executions)
        )
        assert done.executions == 20
        assert done.chunks > 200
        assert done.bytes_after > done.bytes_before
        assert seen == list(range(1, 21))
        assert 2 not in set().union(*(packings(target, one.execution_id) for one in old))
        (info,) = store.dictionaries()
        assert (info.name, info.retired, info.size) == (report.name, True, report.size)
        # Nothing of it can be read any more, nor is it packed with.
        assert not is_legible(target)
        aware = storage.open()
        for one in old:
            assert calling(aware).load("1", execution_id=one.execution_id).state == one.state
        calling(aware).save_many(some_checkpoints(30, 1))
        assert 2 not in packings(aware, "thread-30")

        # What a process packs with it that doesn't know yet can be read, until it is packed anew.
        calling(unaware).save_many(late)
        assert packings(unaware, "thread-20") == {2}
        reader = storage.open()
        assert calling(reader).load("1", execution_id="thread-20").state == late[0].state
        calling(reader).save_many(some_checkpoints(40, 1))
        assert 2 not in packings(reader, "thread-40")
        again = calling(storage.open())
        assert again.retire_dictionary(report.name).chunks >= 12
        assert again.retire_dictionary(report.name).chunks == 0
        assert again.load("1", execution_id="thread-20").state == late[0].state

        # Another one may follow.
        second = again.train_dictionary(samples=200, size=8192)
        assert second.stored
        assert again.repack().chunks > 200
        assert [one.retired for one in again.dictionaries()] == [True, False]
        with pytest.raises(InvalidInput, match="no dictionary 'nobody'"):
            again.retire_dictionary("nobody")
