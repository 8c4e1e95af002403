"""The contract of stores on servers that may lose what they acknowledged.

A server that crashes or fails over without having synced loses the end of its history. A writer
that lives through it must not build upon what is gone: what it puts from then on is complete.
"""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage

from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.audit import audit
from langcairn.testing.checkpoints import checkpoint_id, config_of, put, values_of
from langcairn.testing.fixtures import Calling, Fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage

_MESSAGES = [HumanMessage(f"{number} " * 200, id=str(number)) for number in range(60)]


def _state(count: int, **more: Any) -> dict[str, Any]:
    return {"messages": _MESSAGES[:count], **more}


class LostHistory(Fixtures):
    """What a writer stores after its server has lost the end of what was stored."""

    @pytest.fixture
    def lose(self, storage: Storage) -> Callable[[set[str]], None]:
        """Return what takes all chunks away but these."""

        def lose(kept: set[str]) -> None:
            for id in storage.chunks("thread").keys() - kept:
                storage.drop_chunk("thread", id)

        return lose

    def test_a_writer_stores_anew_what_was_lost(
        self,
        saver: Caller,
        storage: Storage,
        another: Callable[[], Caller],
        lose: Callable[[set[str]], None],
    ) -> None:
        put(saver, 1, _state(20))
        kept = set(storage.chunks("thread"))
        put(saver, 2, _state(40), parent=1, changed=["messages"])
        lose(kept)
        put(saver, 3, _state(41), parent=2, changed=["messages"])
        assert values_of(another(), config_of("thread", "", checkpoint_id(3))) == _state(41)

    def test_pending_writes_are_part_of_what_may_be_lost(
        self,
        saver: Caller,
        storage: Storage,
        another: Callable[[], Caller],
        lose: Callable[[set[str]], None],
    ) -> None:
        put(saver, 1, _state(20))
        kept = set(storage.chunks("thread"))
        config = config_of("thread", "", checkpoint_id(1))
        for task, number in (("t1", 20), ("t2", 21)):
            saver.put_writes(config, [("messages", [_MESSAGES[number]])], task)
        lose(kept)
        put(saver, 2, _state(22), parent=1, changed=["messages"])
        assert values_of(another(), config_of("thread", "", checkpoint_id(2))) == _state(22)

    def test_a_reader_that_becomes_a_writer(
        self,
        saver: Caller,
        storage: Storage,
        another: Callable[[], Caller],
        lose: Callable[[set[str]], None],
    ) -> None:
        put(saver, 1, _state(20))
        kept = set(storage.chunks("thread"))
        put(saver, 2, _state(40), parent=1, changed=["messages"])
        reader = another()
        assert values_of(reader, config_of("thread")) == _state(40)
        lose(kept)
        put(reader, 3, _state(41), parent=2, changed=["messages"])
        assert values_of(another(), config_of("thread", "", checkpoint_id(3))) == _state(41)

    def test_an_unchanged_channel_is_stored_anew_too(
        self,
        saver: Caller,
        another: Callable[[], Caller],
        lose: Callable[[set[str]], None],
    ) -> None:
        put(saver, 1, _state(20, other="x" * 500))
        put(saver, 2, _state(21, other="y" * 500), parent=1)
        lose(set())
        put(saver, 3, _state(22, other="y" * 500), parent=2, changed=["messages"])
        found = values_of(another(), config_of("thread", "", checkpoint_id(3)))
        assert found == _state(22, other="y" * 500)

    def test_who_lost_nothing_sends_nothing_twice(
        self, saver: Caller, storage: Storage, calling: Calling
    ) -> None:
        store = storage.open()
        sent: list[int] = []
        execute, aexecute = store.backend.execute, store.backend.aexecute

        def count(request: Any) -> Any:
            sent.append(len(getattr(request, "chunks", ())))
            return request

        store.backend.execute = lambda request: execute(count(request))  # type: ignore[method-assign]
        store.backend.aexecute = lambda request: aexecute(count(request))  # type: ignore[method-assign]
        put(saver, 1, _state(50))
        writer = calling(CheckpointSaver(store))
        writer.get_tuple(config_of("thread"))
        sent.clear()
        put(writer, 2, _state(51), parent=1, changed=["messages"])
        put(writer, 3, _state(52), parent=2, changed=["messages"])
        assert sum(sent) < 8
        assert not audit(storage, "thread").dangling
