"""Many threads and tasks on one saver, and sync calls where they might hang."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage

from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.calling import Caller
from langcairn.testing.checkpoints import config_of, put, values_of
from langcairn.testing.fixtures import Fixtures

if TYPE_CHECKING:
    from langcairn.testing.storage import Storage

_THREADS = 16
_TASKS = 50
_STEPS = 4
_LIMIT = 60  # [s]


def _values(who: str, step: int) -> dict[str, Any]:
    return {"log": [AIMessage(f"{who} {i}" * 30, id=f"{i}") for i in range(step)], "who": who}


class SaverCrowds(Fixtures):
    """Tests with many callers at once."""

    @pytest.mark.parametrize("threads_of_their_own", [True, False])
    def test_everything_is_there_after_a_crowd(
        self, storage: Storage, runner: asyncio.Runner, *, threads_of_their_own: bool
    ) -> None:
        target = CheckpointSaver(storage.open())

        def place(who: str) -> tuple[str, str]:
            return (who, "") if threads_of_their_own else ("thread", who)

        def walk(who: str) -> None:
            for step in range(1, _STEPS + 1):
                thread, namespace = place(who)
                config = put(
                    target, step, _values(who, step), thread=thread, namespace=namespace,
                    parent=step - 1 or None,
                )  # fmt: skip
                target.put_writes(config, [("who", [who] * 50)], who)
                assert values_of(target, config) == _values(who, step)

        async def walk_async(who: str) -> None:
            thread, namespace = place(who)
            for step in range(1, _STEPS + 1):
                calls = _Recorder()
                put(calls, step, _values(who, step), thread=thread, namespace=namespace,
                    parent=step - 1 or None)  # fmt: skip
                config = await target.aput(*calls.arguments)
                await target.aput_writes(config, [("who", [who] * 50)], who)
                found = await target.aget_tuple(config)
                assert found is not None
                assert found.checkpoint["channel_values"] == _values(who, step)

        async def crowd() -> None:
            with ThreadPoolExecutor(_THREADS) as pool:
                loop = asyncio.get_running_loop()
                threads = [loop.run_in_executor(pool, walk, f"thread {i}") for i in range(_THREADS)]
                tasks = [walk_async(f"task {i}") for i in range(_TASKS)]
                await asyncio.gather(*threads, *tasks)

        runner.run(asyncio.wait_for(crowd(), _LIMIT))
        everyone = [f"thread {i}" for i in range(_THREADS)] + [f"task {i}" for i in range(_TASKS)]
        for reader in (target, CheckpointSaver(storage.open())):
            for who in everyone:
                found = list(reader.list(config_of(*place(who))))
                assert [one.checkpoint["channel_values"] for one in found] == [
                    _values(who, step) for step in range(_STEPS, 0, -1)
                ]
                assert [one.pending_writes for one in found] == [
                    [(who, "who", [who] * 50)]
                ] * _STEPS
        for thread in {place(who)[0] for who in everyone}:
            assert audit(storage, thread) == CLEAN

    def test_writers_readers_and_pruners_at_once(self, storage: Storage) -> None:
        target = CheckpointSaver(storage.open())
        stop = threading.Event()

        def write(namespace: str) -> None:
            for step in range(1, 16):
                put(
                    target,
                    step,
                    _values(namespace, step),
                    namespace=namespace,
                    parent=step - 1 or None,
                )

        def disturb() -> None:
            while not stop.wait(0.001):
                target.prune(["thread"])
                for one in target.list({"configurable": {"thread_id": "thread"}}):
                    who = one.checkpoint["channel_values"]["who"]
                    assert one.checkpoint["channel_values"] == _values(who, one.metadata["step"])

        with ThreadPoolExecutor(6) as pool:
            disturbing = [pool.submit(disturb) for _ in range(2)]
            try:
                writing = [pool.submit(write, name) for name in "abcd"]
                for future in writing:
                    future.result(_LIMIT)
            finally:
                stop.set()
            for future in disturbing:
                future.result(_LIMIT)
        target.prune(["thread"])
        for name in "abcd":
            assert values_of(target, config_of("thread", name)) == _values(name, 15)
        assert audit(storage, "thread") == CLEAN

    def test_sync_calls_in_the_event_loop_do_not_hang(
        self, storage: Storage, runner: asyncio.Runner
    ) -> None:
        target = CheckpointSaver(storage.open())

        async def inside() -> None:
            waiting = [asyncio.create_task(target.aget_tuple(config_of("t"))) for _ in range(20)]
            config = put(target, 1, {"a": ["x" * 300]})
            target.put_writes(config, [("a", "y" * 300)], "task")
            assert values_of(target, config) == {"a": ["x" * 300]}
            assert len(list(target.list(None))) == 1
            target.copy_thread("thread", "copy")
            target.prune(["copy"])
            target.delete_thread("thread")
            assert await asyncio.gather(*waiting) == [None] * 20
            assert await target.aget_tuple(config) is None

        _bounded(lambda: runner.run(inside()))

    def test_one_saver_serves_one_event_loop_after_the_other(self, storage: Storage) -> None:
        target = CheckpointSaver(storage.open())

        async def step(number: int) -> None:
            calls = _Recorder()
            put(calls, number, {"n": number}, parent=number - 1 or None)
            await target.aput(*calls.arguments)

        for number in range(1, 4):
            asyncio.run(step(number))
        assert values_of(target, config_of("thread")) == {"n": 3}

    def test_a_cancelled_put_is_kept_whole_or_not_at_all(
        self, storage: Storage, runner: asyncio.Runner
    ) -> None:
        target = CheckpointSaver(storage.open())

        async def step(number: int) -> None:
            calls = _Recorder()
            put(calls, number, _values("c", number), parent=number - 1 or None)
            putting = asyncio.create_task(target.aput(*calls.arguments))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            putting.cancel()
            await asyncio.wait([putting], timeout=_LIMIT)

        for number in range(1, 21):
            runner.run(step(number))
        config = put(target, 30, _values("c", 30))
        assert values_of(target, config) == _values("c", 30)
        for one in Caller(target, None).list(config_of("thread")):
            assert one.checkpoint["channel_values"] == _values("c", one.metadata["step"])
        assert audit(storage, "thread").dangling == set()


class _Recorder:
    """Takes a put, to make it elsewhere."""

    def put(self, *arguments: Any) -> None:
        self.arguments = arguments


def _bounded(work: Any) -> None:
    """Run in a thread, so that a hang is a failure and not the end of the run."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- raised below, in the test's thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_LIMIT)
    assert not thread.is_alive(), "it hangs"
    if raised:
        raise raised[0]
