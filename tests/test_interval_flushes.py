"""Flushes of one thread of a graph come after each other, whoever asks for them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from langcairn import CheckpointSaver, MemoryCheckpointStore
from langcairn.errors import StoreUnavailable
from langcairn.langgraph.interval_saver import IntervalSaver
from langcairn.testing.checkpoints import config_of, put

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

LIMIT = 30.0  # [s] for what should take far less
ASKED = "__interrupt__"


class SlowSaver(CheckpointSaver):
    """Holds up the first ``put_writes``, before it has stored anything."""

    def __init__(self) -> None:
        super().__init__(MemoryCheckpointStore())
        self.begun, self.gate = threading.Event(), threading.Event()

    def put_writes(self, *arguments: Any) -> None:
        if not self.begun.is_set():
            self.begun.set()
            assert self.gate.wait(LIMIT)
        super().put_writes(*arguments)

    async def aput_writes(self, *arguments: Any) -> None:
        if not self.begun.is_set():
            self.begun.set()
            assert await asyncio.to_thread(self.gate.wait, LIMIT)
        await super().aput_writes(*arguments)


def asked_for(saver: BaseCheckpointSaver[Any]) -> list[Any]:
    found = saver.get_tuple(config_of("thread"))
    assert found is not None
    return [value for _, channel, value in found.pending_writes or () if channel == ASKED]


def test_an_earlier_flush_does_not_bring_back_what_it_took() -> None:
    inner = SlowSaver()
    saver = IntervalSaver(inner, timedelta(hours=1))
    config = put(saver, 1, {"n": 1})
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(saver.put_writes, config, [(ASKED, "name?")], "task")
        assert inner.begun.wait(LIMIT)
        second = pool.submit(saver.put_writes, config, [(ASKED, "age?")], "task")
        # What the second one writes is held back until the first one's flush has ended.
        while asked_for(saver) != ["age?"]:
            assert not second.done()
        assert not second.done()
        inner.gate.set()
        first.result(LIMIT)
        second.result(LIMIT)
    assert asked_for(inner) == ["age?"]


async def test_coroutines_wait_without_blocking() -> None:
    inner = SlowSaver()
    saver = IntervalSaver(inner, timedelta(hours=1))
    config = put(saver, 1, {"n": 1})
    async with asyncio.timeout(LIMIT):
        first = asyncio.create_task(saver.aput_writes(config, [(ASKED, "name?")], "task"))
        assert await asyncio.to_thread(inner.begun.wait, LIMIT)
        second = asyncio.create_task(saver.aput_writes(config, [(ASKED, "age?")], "task"))
        cancelled = asyncio.create_task(saver.aflush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cancelled.cancel()
        # Blocking here would wait for this very thread, for ever.
        with pytest.raises(StoreUnavailable, match="await"):
            saver.flush()
        assert not second.done()
        inner.gate.set()
        await first
        await second
    assert cancelled.cancelled()
    assert asked_for(inner) == ["age?"]


def test_what_a_flush_still_stores_is_deleted_with_its_thread() -> None:
    inner = SlowSaver()
    saver = IntervalSaver(inner, timedelta(hours=1))
    config = put(saver, 1, {"n": 1})
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(saver.put_writes, config, [(ASKED, "name?")], "task")
        assert inner.begun.wait(LIMIT)
        deleting = pool.submit(saver.delete_thread, "thread")
        inner.gate.set()
        first.result(LIMIT)
        deleting.result(LIMIT)
    assert inner.get_tuple(config_of("thread")) is None
    assert inner.store.executions() == []


async def test_closing_in_the_middle_of_a_flush_loses_nothing() -> None:
    inner = SlowSaver()
    saver = IntervalSaver(inner, timedelta(hours=1))
    config = put(saver, 1, {"n": 1})
    put(saver, 1, {"n": 2}, thread="other")
    async with asyncio.timeout(LIMIT):
        first = asyncio.create_task(saver.aput_writes(config, [(ASKED, "name?")], "task"))
        assert await asyncio.to_thread(inner.begun.wait, LIMIT)
        with pytest.raises(StoreUnavailable, match="await"):
            saver.close()
        assert inner.get_tuple(config_of("other")) is not None  # it could be saved
        with pytest.raises(StoreUnavailable, match="await"):
            saver.delete_thread("thread")
        inner.gate.set()
        await first
        await saver.aclose()
    assert asked_for(inner) == ["name?"]


def test_a_slow_flush_holds_up_no_other_thread() -> None:
    inner = SlowSaver()
    saver = IntervalSaver(inner, timedelta(milliseconds=10))
    with ThreadPoolExecutor(1) as pool:
        config = put(saver, 1, {"n": 1})
        slow = pool.submit(saver.put_writes, config, [(ASKED, "name?")], "task")
        assert inner.begun.wait(LIMIT)
        put(saver, 1, {"n": 2}, thread="other")
        end = time.monotonic() + LIMIT
        while inner.get_tuple(config_of("other")) is None:
            assert time.monotonic() < end, "it was never saved"
            time.sleep(0.005)
        assert not slow.done()
        inner.gate.set()
        slow.result(LIMIT)


def test_a_flush_of_a_parent_process_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = SlowSaver()
    saver = IntervalSaver(inner, timedelta(hours=1))
    config = put(saver, 1, {"n": 1})
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(saver.put_writes, config, [(ASKED, "name?")], "task")
        assert inner.begun.wait(LIMIT)
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: 0)
            saver.flush()
        assert asked_for(inner) == ["name?"]
        inner.gate.set()
        slow.result(LIMIT)
