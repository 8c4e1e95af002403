"""Real graphs give what they give with LangGraph's own saver in memory."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing import scenes, scenes_delta
from langcairn.testing.audit import audit
from langcairn.testing.checkpoints import config_of
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.stage import Stage, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.calling import Caller
    from langcairn.testing.stage import Scene
    from langcairn.testing.storage import Storage

_SCENES = {**scenes.SCENES, **scenes_delta.SCENES}
# Run in every durability: those whose steps depend on what was saved when.
_ALWAYS = [
    "conversation", "interrupts", "errors_and_resuming", "subgraphs", "delta_channels",
    "delta_channels_forked", "workflow", "time_travel",
]  # fmt: skip
_GOES_BACK = ("delta_channels_forked", "time_travel")


def _same(saver: Any) -> Any:
    return saver


class SaverGraphs(Fixtures):
    """Tests with graphs."""

    def _compare(
        self, scene: Scene, savers: Callable[[], Any], calling: Calling, durability: str
    ) -> None:
        reference = InMemorySaver()
        expected = play(scene, Stage(lambda: reference, calling, durability))
        found = play(scene, Stage(savers, calling, durability))
        for position, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            assert ours == theirs, f"observation {position}"

    @pytest.mark.parametrize("scene", _SCENES)
    def test_a_graph_runs_as_with_the_reference(
        self, saver: Caller, storage: Storage, calling: Calling, scene: str
    ) -> None:
        self._compare(_SCENES[scene], lambda: saver.target, calling, "sync")
        assert audit(storage, "thread").dangling == set()

    @pytest.mark.parametrize("scene", _SCENES)
    def test_a_graph_runs_so_with_a_new_process_for_each_step(
        self, storage: Storage, calling: Calling, scene: str
    ) -> None:
        self._compare(_SCENES[scene], lambda: CheckpointSaver(storage.open()), calling, "sync")
        assert audit(storage, "thread").dangling == set()

    @pytest.mark.parametrize("durability", ["async", "exit"])
    @pytest.mark.parametrize("scene", _ALWAYS)
    def test_a_graph_runs_so_in_every_durability(
        self, saver: Caller, calling: Calling, scene: str, durability: str
    ) -> None:
        if durability == "exit" and scene in _GOES_BACK:
            pytest.skip("it goes back to checkpoints that this durability doesn't keep")
        self._compare(_SCENES[scene], lambda: saver.target, calling, durability)

    # Not with delta channels: the reference repeats a snapshot in later checkpoints.
    @pytest.mark.parametrize("scene", ["conversation", "subgraphs", "commands", "interrupts"])
    def test_listed_checkpoints_are_those_of_the_reference(
        self, saver: Caller, calling: Calling, scene: str
    ) -> None:
        reference = InMemorySaver()
        found = []
        for target in (saver.target, reference):
            play(_SCENES[scene], Stage(partial(_same, target), calling))
            listed = calling(target).list({"configurable": {"thread_id": "thread"}})
            rows = [
                (
                    one.metadata["step"],
                    one.metadata["source"],
                    sorted(one.checkpoint["channel_values"]),
                    [channel for _, channel, _ in one.pending_writes],
                    one.checkpoint["updated_channels"],
                )
                for one in sorted(listed, key=lambda one: one.checkpoint["id"])
            ]
            found.append(rows)
        assert found[0] == found[1]

    @pytest.mark.parametrize("scene", ["conversation", "interrupts", "delta_channels", "subgraphs"])
    def test_a_thread_begun_elsewhere_is_continued(
        self, saver: Caller, calling: Calling, scene: str
    ) -> None:
        """String versions of LangGraph's savers go on in ours."""
        reference = InMemorySaver()
        first = play(_SCENES[scene], Stage(lambda: reference, calling))
        for one in sorted(reference.list(None), key=lambda one: one.checkpoint["id"]):
            place = one.config["configurable"]
            parent = (
                one.parent_config["configurable"]["checkpoint_id"] if one.parent_config else None
            )
            config = config_of(place["thread_id"], place["checkpoint_ns"], parent)
            versions = one.checkpoint["channel_versions"]
            saver.put(config, one.checkpoint, one.metadata, versions)
            by_task: dict[str, list[tuple[str, Any]]] = {}
            for task, channel, value in one.pending_writes or ():
                by_task.setdefault(task, []).append((channel, value))
            for position, (task, writes) in enumerate(by_task.items()):
                saver.put_writes(one.config, writes, task, f"{position:03}")
        again = [
            play(_SCENES[scene], Stage(partial(_same, target), calling))
            for target in (saver.target, reference)
        ]
        assert len(first) == len(again[0]) == len(again[1])
        for ours, theirs in zip(*again, strict=True):
            assert ours == theirs
        versions = saver.get_tuple(config_of("thread")).checkpoint["channel_versions"]
        assert {type(version) for version in versions.values()} == {str}
