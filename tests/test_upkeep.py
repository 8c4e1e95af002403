"""Retention beyond the contract: which checkpoints go, graphs, background, backups, outages."""

from __future__ import annotations

import asyncio
import json
import operator
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from langcairn import (
    AccessDenied,
    Checkpoint,
    CheckpointSaver,
    CheckpointStore,
    CorruptData,
    InvalidInput,
    Maintenance,
    MaintenanceReport,
    MemoryCheckpointStore,
    ObjectStorage,
    Retention,
    StoreClosed,
    StoreMisconfigured,
    StoreUnavailable,
    ThreadId,
    backup,
    backup_contains,
    matching,
    open_store,
)
from langcairn.backends.base import (
    CheckpointRow,
    Clear,
    Commit,
    FindCheckpoints,
    FindExecutions,
    FindWrites,
    Remove,
    WriteRow,
)
from langcairn.keeping import Plan
from langcairn.maintenance import needed
from langcairn.retention import going
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.checkpoints import config_of
from langcairn.testing.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set
    from pathlib import Path

    from langcairn.backends.base import Request
    from langcairn.maintenance import Key

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CODEC = MemoryCheckpointStore().codec


def old(age: float, id: str = "c1", execution_id: str = "run") -> Checkpoint:
    """Return a checkpoint by its age in days."""
    timestamp = datetime.now(UTC) - timedelta(days=age)
    return Checkpoint(id=id, execution_id=execution_id, state={"n": 1}, timestamp=timestamp)


# Which go: any execution, any rule


@st.composite
def executions(draw: st.DrawFn) -> tuple[list[CheckpointRow], list[WriteRow]]:
    """Return the rows of an execution, the newest first, and its writes."""
    rows: list[CheckpointRow] = []
    writes: list[WriteRow] = []
    root: list[str] = []
    count = draw(st.integers(1, 14))
    for number in range(count):
        id = f"{number:03}"
        names = [""] if not root else draw(
            st.sampled_from([[""], [""], ["", "node:t"], ["node:t"], ["node"]])
        )  # fmt: skip
        for kind in names:
            call = root[-1] if root else ""
            # All checkpoints of one call name the step that made it.
            name = f"node:{call}" if ":" in kind else kind
            own = [row.id for row in rows if row.namespace == name]
            parent = draw(st.none() | st.sampled_from(own)) if own else None
            metadata: dict[str, Any] = {"pinned": draw(st.integers(0, 5)) == 0}
            if draw(st.booleans()):
                metadata["counters_since_delta_snapshot"] = {"log": [1, 1]}
            if name:
                metadata["parents"] = {"": call}
            state = {"log": 1} if draw(st.booleans()) else {"other": 1}
            rows.append(
                CheckpointRow(
                    "run", name, id, parent, "", json.dumps(state).encode(),
                    json.dumps(metadata).encode(), NOW - timedelta(days=count - number), 1, b"{}",
                )
            )  # fmt: skip
            if draw(st.integers(0, 4)) == 0:
                channel = draw(st.sampled_from(["__interrupt__", "log"]))
                writes.append(WriteRow("run", name, id, "task", 0, "", channel, b"1"))
        if "" in names:
            root.append(id)
    return rows[::-1], writes


rules = st.builds(
    Retention,
    max_checkpoints=st.none() | st.integers(1, 6),
    max_age=st.integers(0, 15).map(lambda days: timedelta(days=days)),
    max_bytes=st.none() | st.integers(0, 15),
    keep_latest=st.booleans(),
    keep=st.none() | st.just(lambda one: one.metadata["pinned"]),
)


def assert_needs(
    plan: Plan, rows: list[CheckpointRow], writes: list[WriteRow], kept: Set[Key]
) -> None:
    """Check that what kept checkpoints need is kept."""
    # What a delta channel is rebuilt from.
    for key in kept:
        for row in needed(CODEC, plan.by_key[key], plan.by_key):
            assert (row.namespace, row.id) in kept
    # What waits for an answer at the end of a branch.
    continued = {row.parent_id for row in rows if not row.namespace}
    for write in writes:
        if write.channel == "__interrupt__" and not write.namespace:
            assert write.checkpoint_id in continued or ("", write.checkpoint_id) in kept
    # A step whose subgraph is at work, with that subgraph's newest checkpoint.
    for name, id in plan.newest.items():
        call = name.removeprefix("node:")
        if name.startswith("node:") and ("", call) in kept:
            assert (name, id) in kept
    # What a kept step goes back to in a subgraph that keeps its state between calls.
    shared = [row.id for row in rows if row.namespace == "node"]
    for name, id in kept:
        before = [one for one in shared if one < id]
        assert name or not before or ("node", max(before)) in kept


@given(executions(), rules)
def test_what_is_needed_stays(
    execution: tuple[list[CheckpointRow], list[WriteRow]], rule: Retention
) -> None:
    rows, writes = execution
    plan = Plan(CODEC, rows, writes)
    goes = going(CODEC, plan, rule, NOW, len)
    gone = [*goes.first, *goes.last]
    assert len(set(gone)) == len(gone)
    kept = plan.by_key.keys() - set(gone)
    root = [row for row in rows if not row.namespace]
    oldest = rule.oldest(NOW)
    assert oldest is not None
    pinned = {
        (row.namespace, row.id) for row in rows if rule.keep and b'"pinned": true' in row.metadata
    }
    assert pinned <= kept
    if not kept:
        assert not rule.keep_latest
        assert all(row.timestamp < oldest for row in rows)
        assert all((name, id) in goes.last for name, id in plan.newest.items() if not name)
        return
    assert not goes.last
    assert ("", root[0].id) in kept
    assert_needs(plan, rows, writes, kept)
    # The newest go last; and what no rule removes, stays.
    if rule.max_bytes is None:
        most = rule.max_checkpoints or len(rows)
        wanted = {("", row.id) for row in root[:most] if row.timestamp >= oldest}
        assert wanted <= kept
    elif len(kept) > rule.max_bytes:
        # No smaller than what would stay of a size of nothing.
        least = going(CODEC, plan, Retention(max_bytes=0, keep=rule.keep), NOW, len)
        assert kept <= plan.by_key.keys() - set(least.first)
    order = list(plan.by_key)
    assert [order.index(key) for key in goes.first] == sorted(map(order.index, goes.first))


@given(executions(), st.integers(0, 12))
def test_the_size_is_the_largest_that_fits(
    execution: tuple[list[CheckpointRow], list[WriteRow]], most: int
) -> None:
    plan = Plan(CODEC, *execution)

    def left(bytes: int) -> set[Key]:
        goes = going(CODEC, plan, Retention(max_bytes=bytes), NOW, len)
        return set(plan.by_key) - set(goes.first)

    assert left(most) <= left(most + 1)
    assert len(left(most)) <= most or left(most) == left(0)


@pytest.mark.parametrize(
    "options",
    [
        {"max_checkpoints": 0},
        {"max_checkpoints": True},
        {"max_checkpoints": 1.5},
        {"max_bytes": -1},
        {"max_age": -1},
        {"max_age": "1 day"},
        {"keep_latest": False},
        {"keep": "all"},
        {"threads": ""},
        {"threads": ["a"]},
        {"idle": -1},
        {"idle": "1 day"},
    ],
    ids=str,
)
def test_rules_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Retention(**options)
    with pytest.raises(InvalidInput):
        open_store("memory:", retention=[options])


def test_for_ever_is_an_age() -> None:
    store = open_store("memory:")
    store.save(old(400))
    assert store.maintain(Retention(max_age=10.0**12)).checkpoints == 0
    assert store.maintain(Retention(max_age=timedelta.max, keep_latest=False)).changed == 0


# Graphs


def concatenate(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return reduce(operator.add, writes, state)


class State(TypedDict):
    log: Annotated[list[str], DeltaChannel(concatenate, snapshot_frequency=3)]
    texts: Annotated[list[str], operator.add]
    n: int


def asking() -> StateGraph[State]:
    def inner_step(state: State) -> dict[str, Any]:
        return {"texts": [f"inner {state['n']} " + "x" * 300]}

    def ask(state: State) -> dict[str, Any]:
        answer = interrupt(f"go on from {state['n']}?")
        return {"log": [f"answer {answer}"], "texts": [answer * 200]}

    def step(state: State) -> dict[str, Any]:
        n = state["n"] + 1
        return {"log": [f"step {n}"], "texts": [f"{n}" * 300], "n": n}

    inner = StateGraph(State)
    inner.add_sequence([("work", inner_step), ("ask", ask)])
    inner.add_edge(START, "work")
    outer = StateGraph(State)
    outer.add_node("step", step)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "step")
    outer.add_edge("step", "inner")
    outer.add_conditional_edges("inner", lambda state: END if state["n"] % 3 == 0 else "step")
    return outer


@pytest.mark.parametrize(
    "rule",
    [
        Retention(max_age=0),
        Retention(max_checkpoints=1),
        Retention(max_bytes=1),
        Retention(max_checkpoints=2, max_age=0, max_bytes=10_000),
    ],
    ids=str,
)
def test_a_graph_goes_on_as_if_nothing_had_gone(rule: Retention) -> None:
    storage, plain = MemoryStorage(), MemoryCheckpointStore()
    config = config_of("run")
    seen: list[list[object]] = []
    removed = 0
    for store in (storage.open(), plain):
        outcomes: list[object] = []
        command: Any = {"n": 0}
        for _ in range(9):
            graph = asking().compile(checkpointer=CheckpointSaver(store))
            result = graph.invoke(command, config)
            outcomes.append({key: result.get(key) for key in ("log", "texts", "n")})
            if store is not plain:
                report = storage.open().maintain(rule)
                assert report.ok
                removed += report.checkpoints
            state = graph.get_state(config)
            outcomes += [state.values, state.next]
            command = Command(resume="y") if state.next else {"n": state.values["n"]}
        seen.append(outcomes)
    assert seen[0] == seen[1]
    assert removed > 10
    assert audit(storage, "run") == CLEAN


# Beside others


class Interfered(MemoryCheckpointStore):
    """Lets something happen just before a request of a kind is answered, once."""

    def __init__(self) -> None:
        super().__init__()
        self.before: tuple[type, Callable[[], object]] | None = None
        answer = self.backend.execute

        def execute(request: Request) -> object:
            if self.before is not None and isinstance(request, self.before[0]):
                interfere, self.before = self.before[1], None
                interfere()
            return answer(request)

        self.backend.execute = execute  # type: ignore[method-assign]  # watched, not replaced


@pytest.mark.parametrize("moment", [FindCheckpoints, FindWrites, Commit, Clear])
def test_a_thread_that_comes_to_life_is_left(moment: type) -> None:
    store = Interfered()
    other = CheckpointStore(store.backend)
    store.save(old(50, "c1"))
    store.save(old(40, "c2"))
    store.before = moment, lambda: other.save(old(0, "c3"))
    report = store.maintain(Retention(max_age=timedelta(days=30), keep_latest=False))
    assert report.ok
    assert not report.cleared
    left = [one.id for one in store.list("run")]
    assert left[0] == "c3"
    assert left == (["c3"] if moment is Clear else ["c3", "c2"] if moment is Commit else left)
    assert store.load("c3").state == {"n": 1}


def test_an_execution_that_is_cleared_meanwhile() -> None:
    store = Interfered()
    for number in range(5):
        store.save(old(5, f"c{number}"))
    store.before = Remove, lambda: store.execute(Clear("run"))
    report = store.maintain(Retention(max_checkpoints=1))
    assert (report.ok, report.checkpoints, store.executions()) == (True, 0, [])


def test_large_removals_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langcairn.upkeep._KEYS", 3)
    store = Interfered()
    for number in range(10):
        store.save(old(5, f"c{number}"))

    def end() -> None:
        store.before = Remove, crash  # at the second

    def crash() -> None:
        raise StoreUnavailable("down")

    store.before = Remove, end
    with pytest.raises(StoreUnavailable) as caught:
        store.maintain(Retention(max_checkpoints=1))
    assert caught.value.__notes__ == ["maintenance came to here; to go on, call it with after=''"]
    # The newest of what goes went first: what is left is whole.
    assert [one.id for one in store.list("run")] == ["c9", "c5", "c4", "c3", "c2", "c1", "c0"]
    assert store.maintain(Retention(max_checkpoints=1)).checkpoints == 6
    assert [one.id for one in store.list("run")] == ["c9"]


def test_an_outage_says_where_to_go_on() -> None:
    store = Interfered()
    for name in ("a", "b", "c"):
        for number in range(3):
            store.save(old(5, f"c{number}", name))

    def down() -> None:
        raise StoreUnavailable("down")

    def prepare(done: Any) -> None:
        if done.execution_id == "b":
            store.before = FindWrites, down

    rule = Retention(max_checkpoints=1)
    with pytest.raises(StoreUnavailable) as caught:
        store.maintain(rule, progress=prepare)
    assert "after='b'" in caught.value.__notes__[0]
    assert store.maintain(rule, after="b").checkpoints == 2


def test_ids_that_cannot_be_listed_are_surveyed() -> None:
    store = Interfered()
    for name in ("a", "b"):
        for number in range(3):
            store.save(old(5, f"c{number}", name))

    def damaged() -> None:
        raise CorruptData("a log whose id can't be read")

    store.before = FindExecutions, damaged
    assert store.maintain(Retention(max_checkpoints=1)).checkpoints == 4


def test_a_guard_decides_over_each_execution() -> None:
    store = MemoryCheckpointStore()
    for name in ("mine", "readable", "hidden"):
        for number in range(3):
            store.save(old(5, f"c{number}", name))

    def policy(who: str, action: Any, id: str) -> bool:
        return id == "mine" or matching("readable", actions=["read"])(who, action, id)

    report = store.guard(policy, "ada").maintain(Retention(max_checkpoints=1))
    assert (report.executions, report.checkpoints) == (2, 2)
    assert list(report.errors) == ["readable"]
    assert isinstance(report.errors["readable"], AccessDenied)
    assert [len(store.list(name)) for name in ("mine", "readable", "hidden")] == [1, 3, 3]


def test_users_that_are_written_meanwhile() -> None:
    store = Interfered()
    own, late = (str(ThreadId.new("ada")) for _ in range(2))
    store.save(old(1, "c1", own))
    other = CheckpointStore(store.backend)
    store.before = Clear, lambda: other.save(old(0, "c2", late))
    assert store.erase_user("ada").executions == sorted([own, late])
    assert store.executions() == []

    def again() -> None:
        other.save(old(0, "c1", own))
        store.before = FindExecutions, again

    store.before = FindExecutions, again
    with pytest.raises(StoreUnavailable, match="stop what is running for this user"):
        store.erase_user("ada")


def test_what_is_left_of_a_user_is_said() -> None:
    """An index that has lost an execution must not be taken for one that never had it."""
    store = MemoryCheckpointStore()
    own = str(ThreadId.new("ada"))
    store.save(old(1, "c1", own))
    execute = store.backend.execute

    def keep(request: Request) -> object:
        if isinstance(request, FindExecutions):
            return [] if cleared else execute(request)
        if isinstance(request, Clear):
            cleared.append(request)
            return True
        return execute(request)

    cleared: list[Request] = []
    store.backend.execute = keep  # type: ignore[method-assign]  # a damaged one
    with pytest.raises(CorruptData, match="still has checkpoints"):
        store.erase_user("ada")


def test_object_storage(tmp_path: Path) -> None:
    path, objects = tmp_path / "agent.db", tmp_path / "objects"
    own, other = str(ThreadId.new("ada")), str(ThreadId.new("bob"))
    url = f"sqlite:///{path}"
    kept_in = ObjectStorage(url=f"file://{objects}", after=0, least_bytes=0, every=None)
    with open_store(url, objects=kept_in) as store:
        for name in (own, other):
            for number in range(4):
                text = random.Random(f"{name}{number}").randbytes(5000).hex()
                store.save(replace(old(9 - number, f"c{number}", name), state={"text": text}))
        store.move_to_objects()
        packs = {one for one in objects.rglob("*") if one.is_file()}
        assert packs
        with open_store(url) as bare:  # whose maintenance must not forget where the objects are
            bare.maintain()
        assert store.maintain(Retention(max_checkpoints=2)).checkpoints == 4
        assert store.list(other)[0].state["text"] == text
        assert store.erase_user("ada").executions == [own]
        left = {one for one in objects.rglob("*") if one.is_file()}
        assert left < packs
        assert len(store.list(other)) == 2
        assert store.erase_user("bob").executions == [other]
        assert not [one for one in objects.rglob("*") if one.is_file()]


# Backups


def test_backups_that_still_have_a_user(tmp_path: Path) -> None:
    store = MemoryCheckpointStore()
    first, second = (str(ThreadId.new("ada")) for _ in range(2))
    store.save(old(1, "c1", str(ThreadId.new("bob"))))
    store.save(old(1, "c1", "ada"))
    store.save(old(1, "c1", first))
    backup(store, tmp_path / "full")
    store.save(old(1, "c1", second))
    backup(store, tmp_path / "more", since=tmp_path / "full")
    store.erase_user("ada")
    backup(store, tmp_path / "last", since=tmp_path / "more")
    backup(store, tmp_path / "new")
    full, more, last, new = (
        backup_contains(tmp_path / name, "ada") for name in ("full", "more", "last", "new")
    )
    assert (full.executions, full.named) == ([first], [])
    assert (more.executions, more.named) == ([second], [first])
    assert (last.executions, last.named) == ([], sorted([first, second]))
    assert (bool(full), bool(more), bool(last), bool(new)) == (True, True, True, False)
    assert not backup_contains(tmp_path / "full", "eve")
    with pytest.raises(InvalidInput):
        backup_contains(tmp_path / "full", "")
    with pytest.raises(StoreMisconfigured):
        backup_contains(tmp_path / "none", "ada")


def test_a_damaged_backup_may_have_anybody(tmp_path: Path) -> None:
    store = MemoryCheckpointStore()
    own = str(ThreadId.new("ada"))
    store.save(old(1, "c1", own))
    backup(store, tmp_path / "full")
    data = (tmp_path / "full").read_bytes()
    (tmp_path / "cut").write_bytes(data[:-60])
    found = backup_contains(tmp_path / "cut", "ada")
    assert found.executions == [own]
    assert found.damage
    assert backup_contains(tmp_path / "cut", "eve")


# In the background


def test_in_a_thread() -> None:
    store = MemoryCheckpointStore(retention=Retention(max_checkpoints=1))
    for name in ("a", "b", "c"):
        for number in range(3):
            store.save(old(5, f"c{number}", name))
    heard: list[MaintenanceReport] = []
    round_made = threading.Semaphore(0)

    def hear(report: MaintenanceReport) -> None:
        heard.append(report)
        round_made.release()
        raise RuntimeError("a callback that fails")

    with Maintenance(store, every=0.005, limit=2, on_report=hear) as maintenance:
        for _ in range(3):
            assert round_made.acquire(timeout=30)
        with pytest.raises(InvalidInput, match="runs already"):
            maintenance.__enter__()
    # The second round goes on where the first one ended; the third begins anew.
    assert [(one.checkpoints, one.next) for one in heard[:3]] == [(4, "b"), (2, None), (0, "b")]
    assert not [one for one in threading.enumerate() if one.name == "langcairn-maintenance"]


async def test_in_a_task(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryCheckpointStore()
    for number in range(3):
        await store.asave(old(5, f"c{number}"))
    reports: asyncio.Queue[MaintenanceReport] = asyncio.Queue()

    async def hear(report: MaintenanceReport) -> None:
        await reports.put(report)

    def fail(_: object) -> bool:
        raise RuntimeError("no")

    rule = Retention(max_checkpoints=1, keep=fail)
    async with (
        asyncio.timeout(30),
        Maintenance(store, every=0.005, retention=rule, on_report=hear),
    ):
        assert not (await reports.get()).ok
    assert "execution 'run' was not maintained: keep= failed" in caplog.text


def test_a_round_after_an_outage_goes_on() -> None:
    store = Interfered()
    for name in ("a", "b"):
        for number in range(3):
            store.save(old(5, f"c{number}", name))
    maintenance = Maintenance(store, retention=Retention(max_checkpoints=1))

    def down() -> None:
        raise StoreUnavailable("down")

    def fail_at_b() -> None:
        store.before = Remove, down

    store.before = Remove, fail_at_b
    with pytest.raises(StoreUnavailable):
        maintenance.maintain()
    report = maintenance.maintain()
    assert (report.executions, report.checkpoints) == (1, 2)
    assert maintenance.maintain().executions == 2


def test_it_ends_with_the_store() -> None:
    store = open_store("memory:")
    maintenance = Maintenance(store, every=0.005)
    store.close()
    with maintenance:
        assert maintenance._thread is not None
        maintenance._thread.join(30)
        assert not maintenance._thread.is_alive()
    with pytest.raises(StoreClosed):
        maintenance.maintain()
    for options in ({"every": 0}, {"on_report": "mail"}, {"retention": 5}):
        with pytest.raises(InvalidInput):
            Maintenance(store, **options)
