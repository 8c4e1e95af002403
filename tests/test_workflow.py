"""The workflow layer, where the store doesn't matter."""

from __future__ import annotations

import operator
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from langcairn import (
    CheckpointableMessageGraph,
    CheckpointableRunnable,
    CheckpointConfig,
    CheckpointSaver,
    GraphChanged,
    InvalidInput,
    MemoryCheckpointStore,
    SqliteCheckpointStore,
    StoreUnavailable,
    Unserializable,
)
from langcairn.langgraph.interval_saver import IntervalSaver
from langcairn.testing.checkpoints import config_of, put
from langcairn.testing.workflow_graphs import Log, loop

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 30  # [s]


def on(graph: Any, **options: Any) -> CheckpointableRunnable:
    """Return a runnable on a store of its own."""
    options.setdefault("store", MemoryCheckpointStore())
    return CheckpointableRunnable(graph, CheckpointConfig(**options), execution_id="thread")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": None}, "needs a store"),
        ({"store": ""}, "needs a store"),
        ({"store": InMemorySaver()}, "needs a store"),
        ({"save_interval": timedelta(seconds=-1)}, "negative"),
        ({"save_interval": 30}, r"timedelta\(seconds=30\)"),
        ({"max_checkpoints": 0}, "max_checkpoints"),
        ({"max_checkpoints": -1}, "max_checkpoints"),
        ({"max_checkpoints": True}, "max_checkpoints"),
        ({"max_checkpoints": 2.5}, "max_checkpoints"),
        ({"auto_save": "no"}, "auto_save"),
    ],
)
def test_bad_configs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        CheckpointConfig(**{"store": "memory:", **options})


def test_the_config_has_the_promised_defaults() -> None:
    config = CheckpointConfig("memory:")
    assert config.auto_save is True
    assert config.save_interval == timedelta(seconds=30)
    assert config.max_checkpoints == 10


def test_what_a_runnable_refuses() -> None:
    config = CheckpointConfig("memory:")
    with pytest.raises(InvalidInput, match="not NoneType"):
        CheckpointableRunnable(loop(2), None)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(InvalidInput, match="not function"):
        CheckpointableRunnable(lambda: None, config)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(InvalidInput, match="interrupt_before: the graph is compiled"):
        CheckpointableRunnable(loop(2).compile(), config, interrupt_before=["step"])
    with pytest.raises(InvalidInput, match="checkpointer"):
        CheckpointableRunnable(loop(2), config, checkpointer=InMemorySaver())
    with pytest.raises(InvalidInput, match="NUL"):
        CheckpointableRunnable(loop(2), config, execution_id="\0")


def test_lists_are_limited() -> None:
    for auto_save in (True, False):
        runnable = on(loop(30), max_checkpoints=4, auto_save=auto_save)
        runnable.invoke({"n": 1})
        runnable.update_state(None, {"n": 60}, as_node="step")
        listed = [one.state["n"] for one in runnable.list_checkpoints()]
        assert listed == ([60, 30, 29, 28] if auto_save else [60, 30])
        assert [one.state["n"] for one in runnable.list_checkpoints(limit=2)] == [60, 30]
        assert runnable.list_checkpoints(limit=0) == []
        assert len(runnable.list_checkpoints(namespace=None, limit=3)) == len(listed[:3])
        with pytest.raises(InvalidInput, match="negative"):
            runnable.list_checkpoints(limit=-1)


def test_an_execution_of_its_own() -> None:
    config = CheckpointConfig(MemoryCheckpointStore())
    first, second = (CheckpointableRunnable(loop(3), config) for _ in range(2))
    assert first.execution_id != second.execution_id
    first.invoke({"n": 1})
    assert len(first.list_checkpoints()) == 4
    assert second.list_checkpoints() == []
    other = config_of("another")
    first.invoke({"n": 2}, other)
    assert len(first.list_checkpoints(other)) == 3
    assert first.get_state().values["n"] == first.get_state(other).values["n"] == 3
    assert len(first.get_state(other).values["log"]) == 1


def test_the_users_graph_stays_as_it_is() -> None:
    own = InMemorySaver()
    compiled = loop(3).compile(checkpointer=own)
    runnable = on(compiled)
    runnable.invoke({"n": 1})
    assert compiled.checkpointer is own
    assert list(own.list(None)) == []
    assert runnable.graph.name == compiled.name


def test_closing() -> None:
    store = MemoryCheckpointStore()
    with on(loop(3), store=store) as runnable:
        runnable.invoke({"n": 1})
    assert store.list("thread"), "a store that was passed stays open"


# Running as LangGraph does


def test_streams() -> None:
    compiled = loop(3).compile(checkpointer=InMemorySaver())
    runnable = on(loop(3))
    modes: list[Any] = ["values", "updates", ["updates", "values"]]
    for mode in modes:
        thread = config_of(str(mode))
        assert list(runnable.stream({"n": 1}, thread, stream_mode=mode)) == list(
            compiled.stream({"n": 1}, thread, stream_mode=mode)
        )


async def test_streams_of_coroutines() -> None:
    compiled = loop(3).compile(checkpointer=InMemorySaver())
    runnable = on(loop(3), auto_save=False)
    parts = [part async for part in runnable.astream({"n": 1}, stream_mode="values")]
    assert parts == list(compiled.stream({"n": 1}, config_of("x"), stream_mode="values"))
    async for snapshot in runnable.aget_state_history():
        assert snapshot.values["n"] == 3
    assert len(runnable.store.list("thread")) == 1


def test_a_stream_that_is_left_saves_what_was_held_back() -> None:
    runnable = on(loop(10), auto_save=False)
    for part in runnable.stream({"n": 1}, stream_mode="values"):
        if part["n"] == 4:
            break
    else:
        pytest.fail("the graph ended")
    del part
    import gc

    gc.collect()
    assert runnable.store.list("thread")[0].state["n"] >= 3


def test_functional_api() -> None:
    ran = []

    @task
    def double(n: int) -> int:
        ran.append(n)
        return n * 2

    @entrypoint()
    def flow(n: int, *, previous: int | None = None) -> int:
        doubled = double(n).result()
        return doubled + interrupt("more?") + (previous or 0)  # type: ignore[no-any-return]

    for auto_save in (True, False):
        runnable = on(flow, auto_save=auto_save)
        assert "__interrupt__" in runnable.invoke(4)
        assert runnable.invoke(Command(resume=1)) == 9
        runnable.invoke(1)
        assert runnable.invoke(Command(resume=0)) == 11
        with pytest.raises(InvalidInput, match="StateGraph"):
            runnable.save_checkpoint("flow", 3)
    assert ran == [4, 1, 4, 1]


def test_subgraphs_wait_and_go_on() -> None:
    def inner(state: Log) -> Log:
        return {"log": [interrupt("inside?")]}

    child = StateGraph(Log)
    child.add_node("inner", inner)
    child.add_edge(START, "inner")
    builder = StateGraph(Log)
    builder.add_node("child", child.compile())
    builder.add_edge(START, "child")
    for auto_save in (True, False):
        runnable = on(builder, auto_save=auto_save, max_checkpoints=1)
        runnable.invoke({"log": ["start"]})
        state: Any = runnable.get_state(subgraphs=True).tasks[0].state
        assert state.next == ("inner",)
        assert len(runnable.list_checkpoints(namespace=None)) == 2
        assert runnable.invoke(Command(resume="yes"))["log"] == ["start", "start", "yes"]
        inside = state.config["configurable"]["checkpoint_id"]
        with pytest.raises(InvalidInput, match="subgraph 'child:"):
            runnable.resume_from_checkpoint(inside)


# Saving by hand


class Person(BaseModel):
    name: str = ""
    notes: Annotated[list[str], operator.add] = []


def test_a_state_of_a_class() -> None:
    builder = StateGraph(Person)
    builder.add_node("write", lambda state: {"notes": [f"for {state.name}"]})
    builder.add_node("sign", lambda state: {"notes": ["signed"]})
    builder.add_edge(START, "write")
    builder.add_edge("write", "sign")
    runnable = on(builder)
    runnable.invoke({"name": "Ada"})
    runnable.save_checkpoint("write", Person(name="Eve", notes=["by hand"]))
    assert runnable.invoke(None) == {"name": "Eve", "notes": ["by hand", "signed"]}


@pytest.mark.parametrize(
    ("node", "state", "message"),
    [
        ("stp", {}, "no node 'stp'; its nodes are 'step'"),
        (None, {}, "no node None"),
        ("__start__", {}, "no node '__start__'"),
        ("step", {"m": 1}, "no 'm'; it has 'log', 'n'"),
        ("step", [1], "not list"),
        ("step", {"n": 2, "log": [object()]}, "can't be saved"),
    ],
)
def test_bad_saves(node: Any, state: Any, message: str) -> None:
    runnable = on(loop(3))
    with pytest.raises(InvalidInput, match=message):
        runnable.save_checkpoint(node, state)
    assert runnable.list_checkpoints() == []


def test_a_save_begins_an_execution() -> None:
    runnable = on(loop(5))
    runnable.save_checkpoint("step", {"n": 3, "log": []})
    assert runnable.invoke(None)["n"] == 5


# Changed graphs


def sequence(*names: str, **options: Any) -> Any:
    builder = StateGraph(Log)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, lambda state, name=name: {"log": [name]})
        builder.add_edge(before, name)
    return builder.compile(**options)


def test_a_node_is_gone() -> None:
    store = MemoryCheckpointStore()
    on(sequence("a", "b", "c", interrupt_before=["b"]), store=store).invoke({"log": []})
    changed = on(sequence("a", "bee", "c"), store=store)
    newest = changed.list_checkpoints()[0].id
    before = len(store.list("thread"))
    for run in (
        lambda: changed.invoke(None),
        lambda: changed.invoke(Command(resume=1)),
        lambda: list(changed.stream(None)),
        lambda: changed.resume_from_checkpoint(newest),
    ):
        with pytest.raises(GraphChanged, match=r"waits for 'b'.*it has 'a', 'bee', 'c'") as caught:
            run()
        assert caught.value.missing == ["b"]
        assert caught.value.checkpoint_id == newest
        assert caught.value.nodes == ["a", "bee", "c"]
    assert len(store.list("thread")) == before
    # What the message proposes.
    same = on(sequence("a", "b", "c"), store=store)
    assert same.invoke(None)["log"] == ["a", "b", "c"]
    assert changed.invoke({"log": ["anew"]})["log"][-4:] == ["anew", "a", "bee", "c"]


async def test_a_node_is_gone_for_coroutines() -> None:
    store = MemoryCheckpointStore()
    on(sequence("a", "b", interrupt_before=["b"]), store=store).invoke({"log": []})
    changed = on(sequence("a", "c"), store=store)
    with pytest.raises(GraphChanged):
        await changed.ainvoke(None)
    with pytest.raises(GraphChanged):
        await changed.aresume_from_checkpoint(changed.list_checkpoints()[0].id)


def test_going_on_elsewhere_after_a_change() -> None:
    store = MemoryCheckpointStore()
    on(sequence("a", "b", "c", interrupt_before=["b"]), store=store).invoke({"log": []})
    changed = on(sequence("a", "bee", "c"), store=store)
    changed.update_state(None, {"log": ["by hand"]}, as_node="bee")
    assert changed.invoke(None)["log"] == ["a", "by hand", "c"]


def test_a_target_of_send_is_gone() -> None:
    def graph(worker: str) -> Any:
        builder = StateGraph(Log)
        builder.add_node("plan", lambda state: {"log": ["plan"]})
        builder.add_node(worker, lambda state: {"log": ["work"]})
        builder.add_edge(START, "plan")
        builder.add_conditional_edges("plan", lambda state: [Send(worker, {})], [worker])
        return builder.compile(interrupt_after=["plan"])

    store = MemoryCheckpointStore()
    on(graph("worker"), store=store).invoke({"log": []})
    with pytest.raises(GraphChanged, match="'worker'"):
        on(graph("labourer"), store=store).invoke(None)


def test_a_join_is_gone() -> None:
    def graph(early: str) -> Any:
        builder = StateGraph(Log)
        for name in (early, "first", "late", "end"):
            builder.add_node(name, lambda state, name=name: {"log": [name]})
        builder.add_edge(START, early)
        builder.add_edge(START, "first")
        builder.add_edge("first", "late")
        builder.add_edge([early, "late"], "end")
        return builder.compile(interrupt_before=["late"])

    store = MemoryCheckpointStore()
    on(graph("early"), store=store).invoke({"log": []})
    with pytest.raises(GraphChanged, match=r"join:early\+late:end"):
        on(graph("soon"), store=store).invoke(None)


async def test_a_node_of_a_subgraph_is_gone() -> None:
    def graph(inner: str) -> Any:
        builder = StateGraph(Log)
        builder.add_node("child", sequence("x", inner, interrupt_before=[inner]))
        builder.add_edge(START, "child")
        return builder

    store = MemoryCheckpointStore()
    on(graph("y"), store=store).invoke({"log": []})
    with pytest.raises(GraphChanged, match=r"'y'.*it has 'x', 'z'"):
        on(graph("z"), store=store).invoke(None)
    with pytest.raises(GraphChanged, match=r"'y'.*it has 'x', 'z'"):
        await on(graph("z"), store=store).ainvoke(None)
    assert on(graph("y"), store=store).invoke(None)["log"] == ["x", "y"]


def test_a_lost_channel_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Less(TypedDict, total=False):
        log: Annotated[list[str], operator.add]

    store = MemoryCheckpointStore()
    on(sequence("a", "b", interrupt_before=["b"]), store=store).invoke({"log": [], "n": 3})
    builder = StateGraph(Less)
    builder.add_node("b", lambda state: {"log": ["b"]})
    builder.add_edge(START, "b")
    assert on(builder, store=store).invoke(None) == {"log": ["a", "b"]}
    assert "values for 'n'" in caplog.text


# Messages


def test_message_graph() -> None:
    graph = CheckpointableMessageGraph()
    graph.add_node("chat", lambda state: {"messages": [AIMessage(f"{len(state['messages'])}")]})
    graph.add_edge(START, "chat")
    assert graph.get_checkpoint_config() is None
    with pytest.raises(InvalidInput, match="set_checkpoint_config"):
        graph.compile_checkpointable()
    with pytest.raises(InvalidInput, match="not str"):
        graph.set_checkpoint_config("memory:")  # type: ignore[arg-type]  # the mistake
    config = CheckpointConfig(MemoryCheckpointStore())
    graph.set_checkpoint_config(config)
    assert graph.get_checkpoint_config() is config
    runnable = graph.compile_checkpointable(execution_id="thread")
    for _ in range(2):
        result = runnable.invoke({"messages": [HumanMessage("hello")]})
    assert [message.content for message in result["messages"]] == ["hello", "1", "hello", "3"]
    first, *_, last = reversed(runnable.list_checkpoints())
    (diff,) = runnable.compare(first.id, last.id).channels
    assert [item.kind for item in diff.items] == ["added"] * 4
    edited = [HumanMessage("only this", id="x")]
    runnable.save_checkpoint("chat", {"messages": edited})
    assert runnable.get_state().values["messages"] == edited
    assert isinstance(graph, StateGraph)
    assert graph.compile().invoke({"messages": []})["messages"][0].content == "0"


def test_a_message_graph_with_more_state() -> None:
    class State(MessagesState):
        topic: str

    graph = CheckpointableMessageGraph(State)
    graph.add_node("chat", lambda state: {"messages": [AIMessage(state["topic"])]})
    graph.add_edge(START, "chat")
    graph.set_checkpoint_config(CheckpointConfig("memory:"))
    with graph.compile_checkpointable() as runnable:
        assert runnable.invoke({"messages": [], "topic": "x"})["messages"][0].content == "x"


# Saving at an interval


def interval_saver(**options: float) -> tuple[IntervalSaver, MemoryCheckpointStore]:
    store = MemoryCheckpointStore()
    return IntervalSaver(CheckpointSaver(store), timedelta(**options)), store


def wait_until(condition: Any) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def test_saved_in_the_background() -> None:
    saver, store = interval_saver(milliseconds=20)
    put(saver, 1, {"n": 1})
    wait_until(lambda: [one.state["n"] for one in store.list("thread")] == [1])
    wait_until(lambda: not saver._timer)
    put(saver, 2, {"n": 2}, parent=1)
    wait_until(lambda: [one.state["n"] for one in store.list("thread")] == [2, 1])
    assert store.list("thread")[0].parent_id == store.list("thread")[1].id


def test_a_save_that_fails_is_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saver, store = interval_saver(milliseconds=20)
    failed = threading.Event()

    def fail(*_: Any) -> None:
        failed.set()
        raise StoreUnavailable("down")

    monkeypatch.setattr(saver.inner, "put", fail)
    put(saver, 1, {"n": 1})
    assert failed.wait(LIMIT)
    with pytest.raises(StoreUnavailable, match="down"):
        saver.flush()
    monkeypatch.undo()
    wait_until(lambda: store.list("thread"))
    assert "not saved yet: down" in caplog.text
    saver.flush()
    assert [one.state["n"] for one in store.list("thread")] == [1]


def test_a_store_that_is_closed_too_early(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    store = SqliteCheckpointStore(tmp_path / "early.db")
    saver = IntervalSaver(CheckpointSaver(store), timedelta(milliseconds=20))
    store.close()
    put(saver, 1, {"n": 1})
    wait_until(lambda: not saver._timer)
    assert "are lost: the store was closed" in caplog.text


def test_many_threads_at_once() -> None:
    runnable = on(loop(20), auto_save=False, save_interval=timedelta(milliseconds=1))

    def work(number: int) -> None:
        for turn in range(3):
            runnable.invoke({"n": turn * 20 + 1}, config_of(f"{number}"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    for number in range(6):
        saved = runnable.store.list(f"{number}")
        assert (saved[0].state["n"], len(saved[0].state["log"])) == (60, 57)
        assert len(runnable.forks(config_of(f"{number}"))) == 1


def test_what_changes_after_a_put_is_not_saved() -> None:
    saver, store = interval_saver(hours=1)
    values: dict[str, Any] = {"log": ["x" * 200], "kept": {"deep": ["y" * 2000]}}
    config = put(saver, 1, values)
    writes: list[Any] = [("log", ["w"])]
    saver.put_writes(config, writes, "task")
    values["log"].append("later")
    values["kept"]["deep"].append("later")
    writes[0][1].append("later")
    saver.flush()
    (saved,) = store.list("thread")
    assert saved.state == {"log": ["x" * 200], "kept": {"deep": ["y" * 2000]}}
    found = saver.get_tuple(config)
    assert found is not None
    assert [value for _, _, value in found.pending_writes or ()] == [["w"]]


def test_a_fork_skips_nothing() -> None:
    saver, store = interval_saver(hours=1)
    put(saver, 1, {"n": 1})
    put(saver, 2, {"n": 2}, parent=1)
    saver.flush()
    put(saver, 3, {"n": 3}, parent=2)
    put(saver, 4, {"n": 4}, parent=2)
    put(saver, 5, {"n": 5}, parent=4)
    saver.flush()
    parents = {
        one.state["n"]: one.parent_id and int(one.parent_id[-2:], 16)
        for one in store.list("thread")
    }
    assert parents == {2: None, 3: 2, 5: 2}


def test_unserializable_is_said_by_the_put() -> None:
    saver, store = interval_saver(hours=1)
    with pytest.raises(Unserializable, match="state"):
        put(saver, 1, {"n": object()})
    saver.flush()
    assert store.list("thread") == []


def test_lists_with_what_is_held_back() -> None:
    saver, _ = interval_saver(hours=1)
    for number in (1, 2, 3):
        put(saver, number, {"n": number}, parent=number - 1 or None)
        saver.flush()
    put(saver, 4, {"n": 4}, parent=3, own=True)
    put(saver, 2, {"n": 2}, thread="other")

    def listed(*arguments: Any, **options: Any) -> list[int]:
        return [one.checkpoint["channel_values"]["n"] for one in saver.list(*arguments, **options)]

    assert listed(config_of("thread")) == [4, 3, 2, 1]
    assert listed(config_of("thread"), limit=2) == [4, 3]
    assert listed(config_of("thread"), limit=0) == []
    assert listed(None) == [4, 3, 2, 2, 1]
    assert listed(
        config_of("thread"), before=config_of("thread", id="1f000000-0000-6000-8000-000000000004")
    ) == [3, 2, 1]
    assert listed(config_of("thread"), filter={"own": True}) == [4]
    saver.delete_thread("thread")
    assert listed(None) == [2]


def test_a_closed_runnable_has_saved() -> None:
    store = MemoryCheckpointStore()
    config = CheckpointConfig(store, auto_save=False)
    runnable = CheckpointableRunnable(loop(3), config, execution_id="thread")
    runnable.graph.invoke({"n": 1}, config_of("thread"))  # past the runnable: nobody says it ended
    assert store.list("thread") == []
    runnable.close()
    assert [one.state["n"] for one in store.list("thread")] == [3]
