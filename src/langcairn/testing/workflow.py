"""The contract of the workflow layer: saving, keeping, resuming and forking, on every store."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from langcairn.errors import CheckpointNotFound, InvalidInput
from langcairn.langgraph.checkpointable import CheckpointableRunnable
from langcairn.langgraph.config import CheckpointConfig
from langcairn.langgraph.interval_saver import IntervalSaver
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.retention import keep_newest
from langcairn.testing import scenes, scenes_delta
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.checkpoints import checkpoint_id, config_of, numbers_of, put
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.stage import Stage, play, play_reference
from langcairn.testing.workflow_graphs import FAN_LOG, Journal, fan, loop, run_elsewhere

if TYPE_CHECKING:
    from pathlib import Path

    from langcairn.testing.calling import Caller, Side
    from langcairn.testing.storage import Storage

_HOUR = timedelta(hours=1)
_SCENES = {**scenes.SCENES, **scenes_delta.SCENES}
_SOME = ["conversation", "interrupts", "subgraphs", "delta_channels", "errors_and_resuming"]


class _Outcomes(Stage):
    """A stage that looks at what runs give, not at which checkpoints there are."""

    def history(self, build: Any, config: Any = None) -> list[object]:  # noqa: ARG002 -- the base's
        return []

    def state(self, build: Any, config: Any = None, **options: Any) -> object:
        snapshot = self.graph(build).get_state(config or self.config, **options)
        tasks = [(task.name, task.interrupts) for task in snapshot.tasks]
        return {"values": snapshot.values, "next": snapshot.next, "tasks": tasks}


class Saving(Fixtures):
    """Tests of what is saved when."""

    def runnable(self, storage: Storage, calling: Calling, builder: Any, **options: Any) -> Caller:
        """Return a caller of a runnable on the thread ``thread``."""
        config = CheckpointConfig(storage.open(), **options)
        return calling(CheckpointableRunnable(builder, config, execution_id="thread"))

    @pytest.mark.parametrize("scene", _SOME)
    def test_a_graph_runs_so_without_an_interval(
        self, storage: Storage, calling: Calling, side: Side, scene: str
    ) -> None:
        expected = play_reference(_SCENES[scene], side)
        saver = IntervalSaver(CheckpointSaver(storage.open()), timedelta(0))
        assert play(_SCENES[scene], Stage(lambda: saver, calling)) == expected
        assert audit(storage, "thread").dangling == set()

    @pytest.mark.parametrize("interval", [_HOUR, timedelta(milliseconds=1)], ids=["hour", "ms"])
    @pytest.mark.parametrize("scene", _SOME)
    def test_a_graph_gives_the_same_while_checkpoints_are_held_back(
        self, storage: Storage, calling: Calling, side: Side, scene: str, interval: timedelta
    ) -> None:
        expected = play_reference(_SCENES[scene], side, kind=_Outcomes)
        saver = IntervalSaver(CheckpointSaver(storage.open()), interval)
        assert play(_SCENES[scene], _Outcomes(lambda: saver, calling)) == expected
        before = saver.get_tuple(config_of("thread"))
        saver.flush()
        after = CheckpointSaver(storage.open()).get_tuple(config_of("thread"))
        assert before is not None
        assert after is not None
        assert after.checkpoint == before.checkpoint
        assert after.pending_writes == before.pending_writes
        assert audit(storage, "thread").dangling == set()

    def test_one_save_for_a_run(self, storage: Storage, calling: Calling) -> None:
        seen = []
        store = storage.open()
        graph = loop(10, lambda: seen.append(len(store.list("thread"))))
        runnable = self.runnable(storage, calling, graph, auto_save=False, save_interval=_HOUR)
        runnable.invoke({"n": 1})
        assert seen == [0] * 9
        assert len(runnable.list_checkpoints()) == 1
        (saved,) = store.list("thread")
        assert (saved.state["n"], saved.node_name, saved.parent_id) == (10, "step", None)
        runnable.invoke({"n": 11})
        newest, oldest = store.list("thread")
        assert (newest.state["n"], newest.parent_id) == (20, oldest.id)

    def test_what_is_held_back_is_read(self, storage: Storage) -> None:
        config = CheckpointConfig(storage.open(), auto_save=False, save_interval=_HOUR)
        runnable = CheckpointableRunnable(loop(4), config, execution_id="thread")
        seen = []
        for _ in runnable.stream({"n": 1}):
            held = runnable.get_state()
            records = runnable.list_checkpoints()
            assert held.values["n"] == records[0].state["n"]
            assert runnable.load_checkpoint(records[0].id) == records[0]
            assert [one.values["n"] for one in runnable.get_state_history()] == [held.values["n"]]
            seen.append((held.values["n"], len(storage.open().list("thread"))))
        # A part is yielded before the step's checkpoint is put, or behind it.
        assert [stored for _, stored in seen] == [0] * 3
        runnable.flush()
        assert runnable.get_state().values["n"] == 4

    def test_a_failing_run_is_saved(self, storage: Storage, calling: Calling) -> None:
        calls: list[int] = []

        def fail_once() -> None:
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("no")

        options: dict[str, Any] = {"auto_save": False, "save_interval": _HOUR}
        graph = loop(5, fail_once)
        runnable = self.runnable(storage, calling, graph, **options)
        with pytest.raises(RuntimeError, match="no"):
            runnable.invoke({"n": 1})
        again = self.runnable(storage, calling, graph, **options)
        assert again.get_state().values["n"] == 3
        assert again.invoke(None)["n"] == 5
        assert len(calls) == 5

    @pytest.mark.parametrize("auto_save", [True, False])
    def test_by_hand(self, storage: Storage, calling: Calling, auto_save: bool) -> None:
        runnable = self.runnable(storage, calling, loop(5), auto_save=auto_save)
        runnable.invoke({"n": 1})
        id = runnable.save_checkpoint("step", {"log": ["only this"], "n": 8})
        again = self.runnable(storage, calling, loop(5))
        record = again.load_checkpoint(id)
        assert (record.id, record.state["log"], record.state["n"]) == (id, ["only this"], 8)
        assert record.node_name == "step"
        assert again.get_state().next == ("step",)
        assert [line.strip() for line in again.invoke(None)["log"]] == ["only this", "8", "9"]

    def test_clear(self, storage: Storage, calling: Calling) -> None:
        for auto_save in (True, False):
            runnable = self.runnable(storage, calling, loop(5), auto_save=auto_save)
            runnable.invoke({"n": 1})
            runnable.clear_checkpoints()
            assert runnable.list_checkpoints() == []
            assert audit(storage, "thread") == CLEAN
            assert runnable.invoke({"n": 1})["n"] == 5
            runnable.clear_checkpoints()


class Keeping(Fixtures):
    """Tests of max_checkpoints."""

    def test_the_newest_stay(self, storage: Storage, calling: Calling) -> None:
        config = CheckpointConfig(storage.open(), max_checkpoints=3)
        runnable = calling(CheckpointableRunnable(loop(7), config, execution_id="thread"))
        store, most = storage.open(), 0
        for turn in range(6):
            runnable.invoke({"n": turn * 7 + 1})
            most = max(most, len(store.list("thread")))
        assert most <= 3 + 10
        listed = runnable.list_checkpoints()
        assert [one.state["n"] for one in listed] == [42, 41, 40]
        assert audit(storage, "thread").dangling == set()
        reader = CheckpointableRunnable(loop(7), config, execution_id="thread")
        assert len(reader.get_state().values["log"]) == 6 * 6
        # What was removed took its content along: the bytes of about 13 states, not of 48.
        store.run(_keep(store, 1))
        assert audit(storage, "thread") == CLEAN

    def test_processes_that_put_little(self, storage: Storage) -> None:
        for turn in range(30):
            config = CheckpointConfig(storage.open(), max_checkpoints=2)
            CheckpointableRunnable(loop(2), config, execution_id="thread").invoke(
                {"n": turn * 2 + 1}
            )
        assert len(storage.open().list("thread")) <= 2 + 10 + 2

    def test_of_each_namespace(self, storage: Storage) -> None:
        store = storage.open()
        saver = CheckpointSaver(store)
        for number in range(1, 7):
            put(saver, number, {"n": number}, parent=number - 1 or None)
            put(saver, number, {"n": number}, namespace="child", parent=number - 1 or None)
        store.run(_keep(store, 2))
        for namespace in ("", "child"):
            listed = [one.state["n"] for one in store.list("thread", namespace=namespace)]
            assert listed == [6, 5], namespace

    def test_what_an_interrupt_needs(self, storage: Storage) -> None:
        """A branch waits while another goes on; its subgraph and that one's caller stay, too."""
        store = storage.open()
        saver = CheckpointSaver(store)
        waits = put(saver, 1, {"n": 1})
        inner = put(saver, 2, {"n": 2}, namespace="node:task", parents={"": checkpoint_id(1)})
        saver.put_writes(inner, [("__interrupt__", ["what?"])], "inner task")
        saver.put_writes(waits, [("__interrupt__", ["what?"])], "task")
        done = put(saver, 3, {"n": 3})
        saver.put_writes(done, [("__interrupt__", ["what?"])], "task")
        put(saver, 4, {"n": 4}, namespace="node:done", parents={"": checkpoint_id(3)})
        for number in range(5, 10):
            put(saver, number, {"n": number}, parent=number - 1 if number > 5 else 3)
        store.run(_keep(store, 2))
        assert [one.state["n"] for one in store.list("thread")] == [9, 8, 2, 1]
        assert audit(storage, "thread") == CLEAN

    def test_calls_of_subgraphs_go_with_their_caller(self, storage: Storage) -> None:
        store = storage.open()
        saver = CheckpointSaver(store)
        for number in range(1, 9, 2):
            put(saver, number, {"n": number}, parent=number - 2 if number > 1 else None)
            call = f"node:{number}"
            put(saver, number + 1, {"n": 0}, namespace=call, parents={"": checkpoint_id(number)})
            deeper = {"": checkpoint_id(number), call: checkpoint_id(number + 1)}
            put(saver, number + 2, {"n": 0}, namespace=f"{call}|x:1", parents=deeper)
        store.run(_keep(store, 2))
        kept = {one.namespace for one in store.list("thread")}
        assert kept == {"", "node:5", "node:5|x:1", "node:7", "node:7|x:1"}

    def test_a_subgraph_that_keeps_its_state_goes_back_with_its_caller(
        self, storage: Storage
    ) -> None:
        store = storage.open()
        saver = CheckpointSaver(store)
        for turn in range(1, 30, 10):
            put(saver, turn, {"n": turn})
            for step in range(turn + 1, turn + 5):
                put(saver, step, {"n": step}, namespace="node", parents={"": checkpoint_id(turn)})
        store.run(_keep(store, 2))
        found = list(saver.list({"configurable": {"thread_id": "thread", "checkpoint_ns": "node"}}))
        # The newest two, and the last before each kept checkpoint of the caller.
        assert numbers_of(found) == [25, 24, 15, 5]

    @pytest.mark.parametrize("name", [*_SOME, "commands", "map_and_reduce"])
    def test_a_graph_gives_the_same_with_the_newest_alone(
        self, storage: Storage, calling: Calling, side: Side, name: str
    ) -> None:
        scene = _SCENES[name]
        expected = play_reference(scene, side, kind=_Outcomes)
        store = storage.open()

        class Pruning(CheckpointSaver):
            """Removes all it may after every put."""

            def put(self, *arguments: Any) -> Any:
                saved = super().put(*arguments)
                store.run(_keep(store, 1))
                return saved

            async def aput(self, *arguments: Any) -> Any:
                saved = await super().aput(*arguments)
                await store.arun(_keep(store, 1))
                return saved

        saver = Pruning(store)
        assert play(scene, _Outcomes(lambda: saver, calling)) == expected


def _keep(store: Any, count: int) -> Any:
    return keep_newest(store.codec, "thread", count)


class Resuming(Fixtures):
    """Tests of going on after a crash, after an interrupt, and from older checkpoints."""

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        return Journal(tmp_path / "journal")

    @pytest.mark.parametrize("killed_at", ["right", "join"])
    def test_after_a_kill(
        self, storage: Storage, runner: Any, tmp_path: Path, killed_at: str
    ) -> None:
        if storage.process_url is None:
            pytest.skip("only this process can open it")
        assert storage.open().list("thread") == []  # so that it exists
        journal = Journal(tmp_path / "journal")
        assert (
            run_elsewhere(storage.process_url, tmp_path / "journal", killed_at) == -signal.SIGKILL
        )
        config = CheckpointConfig(storage.open(), max_checkpoints=None)
        runnable = CheckpointableRunnable(fan(journal.note), config, execution_id="thread")
        if killed_at == "right":
            newest = runnable.list_checkpoints()[0]
            waiting = runnable.resume_from_checkpoint(newest.id)
            assert journal.lines()[3:] == ["right", "join", "ask"]
        else:
            waiting = runner.run(runnable.ainvoke(None))
            assert journal.lines()[4:] == ["join", "ask"]
        assert sorted(journal.lines()[1:3]) == ["left", "right"]
        assert waiting["log"] == FAN_LOG
        assert runnable.invoke(Command(resume="this"))["log"] == [*FAN_LOG, "ask this"]

    def test_an_interrupt_in_another_process(
        self, storage: Storage, calling: Calling, tmp_path: Path
    ) -> None:
        if storage.process_url is None:
            pytest.skip("only this process can open it")
        assert storage.open().list("thread") == []  # so that it exists
        journal = Journal(tmp_path / "journal")
        assert run_elsewhere(storage.process_url, tmp_path / "journal", "", auto_save=False) == 0
        config = CheckpointConfig(storage.open())
        runnable = calling(CheckpointableRunnable(fan(journal.note), config, execution_id="thread"))
        (task,) = runnable.get_state().tasks
        assert [one.value for one in task.interrupts] == ["Which?"]
        answered = runnable.invoke(Command(resume="that"))
        assert answered["log"] == [*FAN_LOG, "ask that"]
        assert journal.lines()[4:] == ["ask", "ask"]

    def test_a_kill_while_checkpoints_are_held_back(self, storage: Storage, tmp_path: Path) -> None:
        if storage.process_url is None:
            pytest.skip("only this process can open it")
        assert storage.open().list("thread") == []  # so that it exists
        journal = Journal(tmp_path / "journal")
        killed = run_elsewhere(storage.process_url, tmp_path / "journal", "join", auto_save=False)
        assert killed == -signal.SIGKILL
        config = CheckpointConfig(storage.open())
        runnable = CheckpointableRunnable(fan(journal.note), config, execution_id="thread")
        # Half a minute hadn't passed: the run is lost as a whole, and can begin anew.
        assert runnable.list_checkpoints(namespace=None) == []
        assert runnable.invoke({"log": ["start"]})["log"] == FAN_LOG

    def test_from_an_older_checkpoint(
        self, storage: Storage, calling: Calling, journal: Journal
    ) -> None:
        config = CheckpointConfig(storage.open())
        runnable = calling(CheckpointableRunnable(fan(journal.note), config, execution_id="thread"))
        runnable.invoke({"log": ["start"]})
        runnable.invoke(Command(resume="this"))
        planned = next(one for one in runnable.list_checkpoints() if one.node_name == "plan")
        again = CheckpointConfig(storage.open())
        other = calling(CheckpointableRunnable(fan(journal.note), again, execution_id="thread"))
        assert other.resume_from_checkpoint(planned.id)["log"] == FAN_LOG
        assert other.invoke(Command(resume="that"))["log"] == [*FAN_LOG, "ask that"]
        assert sorted(journal.lines()[6:]) == ["ask", "ask", "join", "left", "right"]
        trunk, fork = runnable.forks()
        assert (trunk.forked_from, fork.forked_from) == (None, planned.id)
        assert (trunk.is_newest, fork.is_newest) == (False, True)
        runnable.name_fork(trunk.tip.id, "this")
        other.name_fork(fork.steps[0].id, "that")
        with pytest.raises(InvalidInput, match="'this' already"):
            runnable.name_fork(fork.tip.id, "this")
        assert [one.name for one in other.forks()] == ["this", "that"]
        runnable.name_fork(fork.tip.id, "that one")
        assert [one.name for one in other.forks()] == ["this", "that one"]
        runnable.name_fork(trunk.tip.id, None)
        assert [one.name for one in other.forks()] == [None, "that one"]
        (log,) = runnable.compare(trunk.tip.id, fork.tip.id).channels
        (item,) = log.items
        assert (log.name, item.key, item.kind) == ("log", 5, "changed")
        assert (item.before, item.after) == ("ask this", "ask that")
        assert not runnable.compare(fork.tip.id, fork.tip.id)
        assert audit(storage, "thread").dangling == set()

    def test_from_what_can_not_be_resumed(
        self, storage: Storage, calling: Calling, journal: Journal
    ) -> None:
        config = CheckpointConfig(storage.open())
        runnable = calling(CheckpointableRunnable(fan(journal.note), config, execution_id="thread"))
        runnable.invoke({"log": ["start"]})
        runnable.invoke(Command(resume="this"))
        newest = runnable.list_checkpoints()[0]
        with pytest.raises(InvalidInput, match="finished run"):
            runnable.resume_from_checkpoint(newest.id)
        foreign = {"configurable": {"thread_id": "another"}}
        for call in (runnable.resume_from_checkpoint, runnable.load_checkpoint):
            with pytest.raises(CheckpointNotFound, match=r"'thread'.*'nowhere'"):
                call("nowhere")
            with pytest.raises(CheckpointNotFound, match="'another'"):
                call(newest.id, config=foreign)
        with pytest.raises(CheckpointNotFound, match="nowhere"):
            runnable.invoke(None, {"configurable": {"checkpoint_id": "nowhere"}})
        with pytest.raises(CheckpointNotFound, match="nowhere"):
            runnable.name_fork("nowhere", "name")
        with pytest.raises(CheckpointNotFound, match="nowhere"):
            runnable.compare(newest.id, "nowhere")
        assert journal.lines().count("ask") == 2


class WorkflowContract(Saving, Keeping, Resuming):
    """What the workflow layer does, on whatever it stores.

    Needs a fixture ``storage`` that yields a fresh `langcairn.testing.Storage`.
    """
