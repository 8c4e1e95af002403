"""The contract of a store's figures: whether it works, and how much is in it."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.checkpoint import Checkpoint
from langcairn.errors import CairnError, InvalidInput, StoreClosed
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.checkpoints import config_of, put
from langcairn.testing.fixtures import Calling, Fixtures

if TYPE_CHECKING:
    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage

_TIME = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


def _text(seed: int, size: int = 3000) -> str:
    """Return text that can't be compressed by much."""
    return Random(seed).randbytes(size // 2).hex()  # noqa: S311 -- no secret


def _record(number: int, execution_id: str = "run", **state: Any) -> Checkpoint:
    return Checkpoint(
        id=f"c{number:03}",
        execution_id=execution_id,
        state=state,
        timestamp=_TIME + timedelta(minutes=number),
    )


class FiguresContract(Fixtures):
    """What every `CheckpointStore` says about itself.

    Needs a fixture ``storage`` that yields a fresh `langcairn.testing.Storage`.
    """

    @pytest.fixture
    def store(self, storage: Storage, calling: Calling) -> Caller:
        """Return an empty store."""
        return calling(storage.open())

    def test_connection_is_tried(self, store: Caller) -> None:
        health = store.test_connection()
        assert health.backend == store.target.backend.name
        assert health.product
        assert health.version
        assert health.writable is True
        assert health.latency > 0

    def test_closed_store_says_so(self, store: Caller) -> None:
        store.close()
        for ask in (store.test_connection, store.stats, store.execution_stats):
            with pytest.raises(StoreClosed):
                ask()

    def test_empty_store(self, store: Caller) -> None:
        stats = store.stats(logical=True)
        assert (stats.executions, stats.checkpoints, stats.writes, stats.chunks) == (0, 0, 0, 0)
        assert (stats.stored_bytes, stats.logical_bytes, stats.sharing_ratio) == (0, 0, None)
        assert (stats.oldest, stats.newest) == (None, None)
        assert store.execution_stats() == []
        assert store.stats("nobody").executions == 0

    def test_counts(self, store: Caller, storage: Storage, calling: Calling) -> None:
        for number in range(3):
            store.save(_record(number, text=_text(number)))
        store.save(_record(7, "other", text=_text(7)))
        saver = calling(CheckpointSaver(storage.open()))
        config = put(saver, 1, {"text": "short"}, thread="third")
        saver.put_writes(config, [("text", _text(9)), ("text", "short")], "task")
        stats = store.stats()
        assert (stats.executions, stats.checkpoints, stats.writes) == (3, 5, 2)
        assert stats.chunks == sum(
            len(storage.chunks(execution)) for execution in ("run", "other", "third")
        )
        assert stats.chunks >= 5
        # Hexadecimal digits can be halved.
        assert stats.stored_bytes > 5 * 1500
        assert stats.oldest == _TIME
        assert stats.newest is not None
        assert stats.newest >= _TIME + timedelta(minutes=7)
        if stats.free_bytes is not None:
            assert 0 <= stats.used_ratio <= 1
        if stats.disk_bytes is not None:
            assert stats.disk_bytes >= stats.stored_bytes / 2

    def test_executions_one_by_one(self, store: Caller, storage: Storage) -> None:
        for execution in ("b", "a", "ä", "a/%"):
            for number in range(len(execution) + 1):
                store.save(_record(number, execution, text=_text(number)))
        found = store.execution_stats()
        assert [one.execution_id for one in found] == ["a", "a/%", "b", "ä"]
        for one in found:
            assert one.checkpoints == len(one.execution_id) + 1
            assert one.chunks == len(storage.chunks(one.execution_id))
            assert one.oldest == _TIME
            assert one.newest == _TIME + timedelta(minutes=len(one.execution_id))
            assert store.stats(one.execution_id).stored_bytes == one.stored_bytes
        assert found[1].stored_bytes > 1.5 * found[0].stored_bytes
        whole = store.stats()
        assert sum(one.stored_bytes for one in found) == whole.stored_bytes
        assert sum(one.chunks for one in found) == whole.chunks

    def test_executions_in_pages(self, store: Caller) -> None:
        ids = [f"run-{number:02}" for number in range(7)]
        store.save_many(_record(1, id, step=1) for id in ids)
        found: list[str] = []
        while page := store.execution_stats(after=found[-1] if found else "", limit=3):
            assert len(page) <= 3
            found += [one.execution_id for one in page]
        assert found == ids
        chosen = store.execution_stats(execution_ids=["run-05", "run-01", "gone", "run-05"])
        assert [one.execution_id for one in chosen] == ["run-01", "run-05"]
        assert store.execution_stats(execution_ids=[]) == []
        assert store.execution_stats(limit=0) == []
        with pytest.raises(InvalidInput):
            store.execution_stats(execution_ids="run-01")

    def test_cleared_executions_are_not_counted(self, store: Caller) -> None:
        store.save(_record(1, "gone", text=_text(1)))
        store.save(_record(2, "kept", text=_text(2)))
        store.clear("gone")
        stats = store.stats()
        assert (stats.executions, stats.checkpoints) == (1, 1)
        assert stats.oldest == _TIME + timedelta(minutes=2)
        assert [one.execution_id for one in store.execution_stats()] == ["kept"]

    def test_execution_without_checkpoints(self, store: Caller) -> None:
        store.save(_record(1, text=_text(1)))
        store.delete("c001")
        (one,) = store.execution_stats()
        assert (one.checkpoints, one.chunks, one.oldest, one.newest) == (0, 0, None, None)

    def test_sharing_is_measured(self, store: Caller) -> None:
        texts = [_text(number) for number in range(40)]
        for number in range(1, 41):
            store.save(_record(number, history=texts[:number], step=number))
        done: list[tuple[int, int]] = []
        stats = store.stats(logical=True, on_progress=lambda *at: done.append(at))
        whole = sum(3000 * number for number in range(1, 41))
        # What isn't text: names, ids, and the lengths of strings.
        assert whole < stats.logical_bytes < 1.05 * whole
        assert stats.sharing_ratio == stats.logical_bytes / stats.stored_bytes
        if "stored_bytes" not in stats.estimated:
            assert stats.sharing_ratio > 10
        assert done == [(1, 1)]
        assert store.stats("run", logical=True).logical_bytes == stats.logical_bytes
        assert store.stats("run").logical_bytes is None

    def test_values_of_all_forms_have_a_size(self, store: Caller) -> None:
        state: dict[str, Any] = {
            "text": "x" * 5000,
            "dict": {f"key {number}": [number, None, "y" * number] for number in range(300)},
            "nested": {"b": {"c": [[{"d": 1.5}]]}, "a": 2**60, "$cairn": [1]},
            "bytes": bytes(3000),
            "time": _TIME,
            "matrix": [[number] * 40 for number in range(40)],
        }
        store.save(_record(1, **state))
        plain = store.stats(logical=True).logical_bytes
        assert 8000 + 300 * 150 < plain < 90_000
        store.save(_record(2, **state))
        assert store.stats(logical=True).logical_bytes == 2 * plain

    def test_damage_is_no_figure(self, store: Caller, storage: Storage) -> None:
        store.save(_record(1, text=_text(1)))
        (id,) = storage.chunks("run")
        storage.replace_chunk("run", id, b"\x01\x00damage")
        assert store.stats().checkpoints == 1
        with pytest.raises(CairnError):
            store.stats(logical=True)

    def test_figures_need_no_thread_of_langgraphs(self, saver: Caller) -> None:
        put(saver, 1, {"text": _text(1)}, thread=7)
        assert saver.target.store.stats("7").checkpoints == 1
        assert saver.get_tuple(config_of(7)) is not None
