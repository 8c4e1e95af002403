"""Real graphs give what they give with LangGraph's own saver in memory."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing import scenes, scenes_delta
from langcairn.testing.audit import audit
from langcairn.testing.checkpoints import config_of
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.stage import Stage, play, play_reference, reference_calling

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.base import CheckpointTuple

    from langcairn.forms import Form
    from langcairn.testing.calling import Caller, Side
    from langcairn.testing.storage import Storage

_SCENES = {**scenes.SCENES, **scenes_delta.SCENES}
# Run in every durability: those whose steps depend on what was saved when.
_ALWAYS = [
    "conversation", "interrupts", "errors_and_resuming", "subgraphs", "delta_channels",
    "delta_channels_forked", "workflow", "time_travel",
]  # fmt: skip
_GOES_BACK = ("delta_channels_forked", "time_travel")


def _listed(saver: Any, calling: Calling, scene: str) -> list[tuple[Any, ...]]:
    """Play a scene, and return what is then listed."""
    play(_SCENES[scene], Stage(lambda: saver, calling))
    listed = calling(saver).list({"configurable": {"thread_id": "thread"}})
    return [
        (
            one.metadata["step"],
            one.metadata["source"],
            sorted(one.checkpoint["channel_values"]),
            [channel for _, channel, _ in one.pending_writes],
            one.checkpoint["updated_channels"],
        )
        for one in sorted(listed, key=lambda one: one.checkpoint["id"])
    ]


@cache
def _listed_by_reference(side: Side, scene: str) -> list[tuple[Any, ...]]:
    with reference_calling(side) as calling:
        return _listed(InMemorySaver(), calling, scene)


@cache
def _begun_and_continued(side: Side, scene: str) -> tuple[list[CheckpointTuple], list[Form]]:
    """Play a scene twice on one thread of the reference's.

    Returns its checkpoints after the first time, and what is seen the second time.
    """
    reference = InMemorySaver()
    with reference_calling(side) as calling:
        first = play(_SCENES[scene], Stage(lambda: reference, calling))
        begun = sorted(reference.list(None), key=lambda one: one.checkpoint["id"])
        again = play(_SCENES[scene], Stage(lambda: reference, calling))
    assert len(first) == len(again)
    return begun, again


class SaverGraphs(Fixtures):
    """Tests with graphs."""

    @pytest.fixture
    def compare(self, side: Side, calling: Calling) -> Callable[..., None]:
        """Return what plays a scene with savers of ours and with the reference."""

        def compare(scene: str, savers: Callable[[], Any], durability: str = "sync") -> None:
            expected = play_reference(_SCENES[scene], side, durability)
            found = play(_SCENES[scene], Stage(savers, calling, durability))
            for position, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
                assert ours == theirs, f"observation {position}"

        return compare

    @pytest.mark.parametrize("scene", _SCENES)
    def test_a_graph_runs_as_with_the_reference(
        self, saver: Caller, storage: Storage, compare: Callable[..., None], scene: str
    ) -> None:
        compare(scene, lambda: saver.target)
        assert audit(storage, "thread").dangling == set()

    @pytest.mark.parametrize("scene", _SCENES)
    def test_a_graph_runs_so_with_a_new_process_for_each_step(
        self, storage: Storage, compare: Callable[..., None], scene: str
    ) -> None:
        compare(scene, lambda: CheckpointSaver(storage.open()))
        assert audit(storage, "thread").dangling == set()

    @pytest.mark.parametrize("durability", ["async", "exit"])
    @pytest.mark.parametrize("scene", _ALWAYS)
    def test_a_graph_runs_so_in_every_durability(
        self, saver: Caller, compare: Callable[..., None], scene: str, durability: str
    ) -> None:
        if durability == "exit" and scene in _GOES_BACK:
            pytest.skip("it goes back to checkpoints that this durability doesn't keep")
        compare(scene, lambda: saver.target, durability)

    # Not with delta channels: the reference repeats a snapshot in later checkpoints.
    @pytest.mark.parametrize("scene", ["conversation", "subgraphs", "commands", "interrupts"])
    def test_listed_checkpoints_are_those_of_the_reference(
        self, saver: Caller, calling: Calling, side: Side, scene: str
    ) -> None:
        assert _listed(saver.target, calling, scene) == _listed_by_reference(side, scene)

    @pytest.mark.parametrize("scene", ["conversation", "interrupts", "delta_channels", "subgraphs"])
    def test_a_thread_begun_elsewhere_is_continued(
        self, saver: Caller, calling: Calling, side: Side, scene: str
    ) -> None:
        """String versions of LangGraph's savers go on in ours."""
        begun, expected = _begun_and_continued(side, scene)
        for one in begun:
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
        again = play(_SCENES[scene], Stage(lambda: saver.target, calling))
        for ours, theirs in zip(again, expected, strict=True):
            assert ours == theirs
        versions = saver.get_tuple(config_of("thread")).checkpoint["channel_versions"]
        assert {type(version) for version in versions.values()} == {str}
