"""The contract of ``CheckpointSaver(single_writer=True)``: races are refused, forks are not."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from langcairn.errors import ConcurrentWriter, LeaseHeld
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing import scenes, scenes_delta
from langcairn.testing.checkpoints import checkpoint_id, config_of, numbers_of, put
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.stage import Stage, play, play_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.calling import Caller, Side
    from langcairn.testing.storage import Storage

_SCENES = {**scenes.SCENES, **scenes_delta.SCENES}
_CONFIG = config_of("thread")


class State(TypedDict):
    """What the graphs of these tests work on."""

    log: Annotated[list[str], operator.add]


def _chain(*names: str, saver: Any, inside: Callable[[], object] = lambda: None) -> Any:
    """Return a graph of nodes that note their names, one after the other.

    Args:
        *names: The names.
        saver: The graph's saver.
        inside: What the first node does before.
    """
    builder = StateGraph(State)

    def node(name: str) -> Any:  # what add_node's many overloads take
        def work(state: State) -> State:  # noqa: ARG001 -- LangGraph passes it
            if name == names[0]:
                inside()
            return {"log": [name]}

        return work

    for name in names:
        builder.add_node(name, node(name))
    for source, target in zip((START, *names), (*names, END), strict=True):
        builder.add_edge(source, target)
    return builder.compile(checkpointer=saver)


def wait_until(condition: Callable[[], bool], patience: float = 20) -> None:
    """Wait until something is so [s]."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class SaverOneWriter(Fixtures):
    """Tests with savers that refuse races."""

    @pytest.fixture
    def strict(self, storage: Storage) -> Callable[[], CheckpointSaver]:
        """Return what makes strict savers on the same data, as other processes would."""
        return lambda: CheckpointSaver(storage.open(), single_writer=True)

    # Single puts

    def test_the_second_of_two_is_refused(
        self, strict: Callable[[], CheckpointSaver], calling: Calling
    ) -> None:
        one, two = calling(strict()), calling(strict())
        put(one, 1, {"a": 1})
        assert one.get_tuple(_CONFIG) is not None
        assert two.get_tuple(_CONFIG) is not None
        put(one, 2, {"a": 2}, parent=1)
        with pytest.raises(ConcurrentWriter, match=checkpoint_id(3)) as caught:
            put(two, 3, {"a": 3}, parent=1)
        assert (caught.value.parent_id, caught.value.newest_id) == (
            checkpoint_id(1),
            checkpoint_id(2),
        )
        put(one, 2, {"a": 2}, parent=1)  # the same again
        put(two, 4, {"a": 4}, parent=2)
        with pytest.raises(ConcurrentWriter):
            put(two, 5, {"a": 5})
        assert numbers_of(list(one.list(_CONFIG))) == [4, 2, 1]

    def test_other_savers_make_forks(
        self, strict: Callable[[], CheckpointSaver], calling: Calling, saver: Caller
    ) -> None:
        one = calling(strict())
        put(one, 1, {"a": 1})
        put(saver, 2, {"a": 2}, parent=1)
        put(saver, 3, {"a": 3}, parent=1)
        with pytest.raises(ConcurrentWriter):
            put(one, 4, {"a": 4}, parent=2)
        put(one, 4, {"a": 4}, parent=3)

    def test_forks_that_are_asked_for(
        self, strict: Callable[[], CheckpointSaver], calling: Calling
    ) -> None:
        saver = calling(strict())
        for number in (1, 2, 3):
            put(saver, number, {"a": number}, parent=number - 1 or None)
        chosen = saver.get_tuple(config_of("thread", "", checkpoint_id(1))).config
        checkpoint = saver.get_tuple(_CONFIG).checkpoint
        fork = saver.put(chosen, {**checkpoint, "id": checkpoint_id(4)}, {"source": "loop"}, {})
        for key in chosen["configurable"]:
            assert key not in saver.get_tuple(fork).metadata, key
        # The fork's tip is the newest now; from the old one it would be another fork.
        put(saver, 5, {"a": 5}, parent=4)
        with pytest.raises(ConcurrentWriter):
            put(saver, 6, {"a": 6}, parent=3)
        # Those of a list are chosen, too.
        third = next(iter(saver.list(_CONFIG, before=config_of("thread", "", checkpoint_id(4)))))
        saver.put(third.config, {**checkpoint, "id": checkpoint_id(7)}, {"source": "loop"}, {})

    # Races of graphs

    @pytest.mark.parametrize("durability", ["sync", "async", "exit"])
    def test_a_run_that_is_overtaken_stops(
        self, strict: Callable[[], CheckpointSaver], calling: Calling, durability: str
    ) -> None:
        other = _chain("x", "y", saver=strict())
        _chain("first", saver=strict()).invoke({"log": ["0"]}, _CONFIG)

        def has_begun() -> bool:
            found = other.get_state(_CONFIG)
            return found.metadata["source"] == "loop" and "2" in found.values["log"]

        def overtake() -> None:
            if durability == "async":  # what comes before this node is stored while it runs
                wait_until(has_begun)
            other.invoke({"log": ["1"]}, _CONFIG)

        graph = calling(_chain("a", "b", saver=strict(), inside=overtake))
        with pytest.raises(ConcurrentWriter):
            graph.invoke({"log": ["2"]}, _CONFIG, durability=durability)
        found = other.get_state(_CONFIG)
        # The run that was faster built on the input of the other, if that was saved.
        entered = [] if durability == "exit" else ["2"]
        assert found.values["log"] == ["0", "first", *entered, "1", "x", "y"]
        again = calling(_chain("a", "b", saver=strict()))
        result = again.invoke({"log": ["3"]}, _CONFIG, durability=durability)
        assert result["log"][-5:] == ["x", "y", "3", "a", "b"]

    def test_two_runs_that_begin_a_thread(
        self, strict: Callable[[], CheckpointSaver], calling: Calling
    ) -> None:
        one, two = calling(strict()), calling(strict())
        assert one.get_tuple(_CONFIG) is None
        assert two.get_tuple(_CONFIG) is None
        put(one, 1, {"a": 1})
        with pytest.raises(ConcurrentWriter):
            put(two, 2, {"a": 2})

    # What must go on as ever

    @pytest.mark.parametrize(
        ("scene", "durability"),
        [
            ("conversation", "async"), ("subgraphs", "sync"), ("subgraphs", "exit"),
            ("interrupts", "async"), ("interrupts", "exit"), ("errors_and_resuming", "sync"),
            ("time_travel", "sync"), ("workflow", "async"), ("commands", "sync"),
            ("delta_channels", "exit"), ("delta_channels", "async"),
            ("delta_channels_forked", "sync"),
        ],
    )  # fmt: skip
    def test_strict_savers_run_graphs_as_the_reference_does(
        self,
        strict: Callable[[], CheckpointSaver],
        calling: Calling,
        side: Side,
        scene: str,
        durability: str,
    ) -> None:
        expected = play_reference(_SCENES[scene], side, durability)
        found = play(_SCENES[scene], Stage(strict, calling, durability))
        for position, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            assert ours == theirs, f"observation {position}"

    def test_updates_and_forks_of_a_graph(
        self, strict: Callable[[], CheckpointSaver], calling: Calling
    ) -> None:
        def graph() -> Caller:
            return calling(_chain("a", "b", saver=strict()))

        graph().invoke({"log": ["0"]}, _CONFIG)
        graph().update_state(_CONFIG, {"log": ["up"]})
        graph().invoke({"log": ["1"]}, _CONFIG)
        history = list(graph().get_state_history(_CONFIG))
        old = next(one for one in history if one.values.get("log") == ["0", "a"])
        # An update of an old checkpoint, and a run from it.
        forked = graph().update_state(old.config, {"log": ["fork"]})
        result = graph().invoke(None, forked)
        assert result["log"] == ["0", "a", "fork", "b"]
        # The fork is where the thread goes on, without an id.
        assert graph().invoke({"log": ["2"]}, _CONFIG)["log"] == [*result["log"], "2", "a", "b"]
        # A run straight from an old checkpoint, once more from the same, and with input.
        for _ in range(2):
            assert graph().invoke(None, old.config)["log"] == ["0", "a", "b"]
        assert graph().invoke({"log": ["3"]}, old.config)["log"] == ["0", "a", "3", "a", "b"]
        # A copy, as LangGraph Studio makes one, of an old and of the newest checkpoint.
        for config in (old.config, _CONFIG):
            copied = graph().update_state(config, None, "__copy__")
            assert graph().get_state(copied).values == graph().get_state(config).values

    def test_many_branches_and_subgraphs(
        self, strict: Callable[[], CheckpointSaver], calling: Calling
    ) -> None:
        """Branches side by side, each with a subgraph that is interrupted and resumed."""

        def ask(state: State) -> State:
            answer = interrupt(state["log"][0])
            return {"log": [f"{state['log'][0]}: {answer}"]}

        child = StateGraph(State)
        child.add_node("ask", ask)
        child.add_node("done", lambda _: {"log": ["done"]})
        child.add_edge(START, "ask")
        child.add_edge("ask", "done")
        inner = child.compile()
        parent = StateGraph(State)
        parent.add_node("child", inner)
        parent.add_conditional_edges(
            START, lambda _: [Send("child", {"log": [str(n)]}) for n in range(4)]
        )

        def graph() -> Caller:
            return calling(parent.compile(checkpointer=strict()))

        waiting = graph().invoke({"log": []}, _CONFIG)["__interrupt__"]
        assert len(waiting) == 4
        first = graph().invoke(Command(resume={waiting[0].id: "yes"}), _CONFIG)
        assert len(first["__interrupt__"]) == 3
        rest = {one.id: "no" for one in first["__interrupt__"]}
        result = graph().invoke(Command(resume=rest), _CONFIG)
        assert sorted(result["log"])[4:] == ["1: no", "2", "2: no", "3", "3: no"] + [
            "done"
        ] * 4 or (result["log"].count("done") == 4)

    def test_a_subgraph_with_a_memory_is_replayed(
        self, strict: Callable[[], CheckpointSaver], calling: Calling
    ) -> None:
        """Its namespace has newer checkpoints than those that the replay goes back to."""
        child = StateGraph(State)
        child.add_node("inner", lambda state: {"log": [f"inner {len(state['log'])}"]})
        child.add_edge(START, "inner")
        remembering = child.compile(checkpointer=True)
        parent = StateGraph(State)
        parent.add_node("before", lambda _: {"log": ["before"]})
        parent.add_node("child", lambda state: {"log": remembering.invoke(state)["log"][-1:]})
        parent.add_edge(START, "before")
        parent.add_edge("before", "child")

        def graph() -> Caller:
            return calling(parent.compile(checkpointer=strict()))

        for number in range(3):
            graph().invoke({"log": [str(number)]}, _CONFIG)
        history = list(graph().get_state_history(_CONFIG))
        for one in history:
            if "child" in one.next or "before" in one.next:
                assert graph().invoke(None, one.config)["log"]
        assert graph().invoke({"log": ["last"]}, _CONFIG)["log"]

    # Leases

    def test_a_lease_keeps_other_runs_out(
        self, storage: Storage, calling: Calling, strict: Callable[[], CheckpointSaver]
    ) -> None:
        store = storage.open()
        with store.lease("thread", 60):
            graph = calling(_chain("a", saver=CheckpointSaver(store)))
            graph.invoke({"log": ["0"]}, _CONFIG)
            with pytest.raises(LeaseHeld):
                calling(_chain("b", saver=strict())).invoke({"log": ["1"]}, _CONFIG)
            with pytest.raises(LeaseHeld):
                calling(strict()).delete_thread("thread")
            graph.update_state(_CONFIG, {"log": ["2"]})
            assert graph.invoke({"log": ["3"]}, _CONFIG)["log"] == ["0", "a", "2", "3", "a"]
        calling(_chain("b", saver=strict())).invoke({"log": ["4"]}, _CONFIG)
