"""Two writers on the same data: whatever comes between their steps, no reference dangles."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import multiprocessing
from functools import partial
from itertools import count, product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langcairn import maintenance, operations, retention
from langcairn.backends.base import FindCheckpoints
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import checkpoint_id, config_of, put, values_of
from langcairn.testing.fixtures import Fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.base import CheckpointTuple

    from langcairn.operations import Operation
    from langcairn.store import CheckpointStore
    from langcairn.testing.storage import Storage

_LIMIT = 60  # [s]


def _values(number: int, kind: int = 0) -> dict[str, Any]:
    """Return a state that shares most of its chunks with those of its neighbours."""
    # Of three kinds: what one kind needs, all checkpoints of another may have dropped.
    return {
        "log": [f"{kind} {i:>150}" for i in range(18 + number)],
        "facts": {f"k{i}": f"{kind} {'v' * 150}" for i in range(20)},
        "n": number,
        # Comes again after five: then some of those that had it may be gone.
        "own": f"{number % 5} {'o' * 200}",
    }


class _Removal:
    """One way to remove checkpoints, as an operation that can be stopped between requests."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on(self, store: CheckpointStore) -> Operation[Any]:
        codec = store.codec
        if self.name == "prune":
            return maintenance.prune(codec, "thread", "keep_latest")
        if self.name == "clear":
            return maintenance.clear(codec, "thread")
        if self.name == "delete":
            query = FindCheckpoints("thread", "", checkpoint_id(3), limit=2)
            return maintenance.delete(codec, query)
        if self.name == "keep newest":
            return retention.keep_newest(codec, "thread", 2)
        if self.name == "delete runs":
            return maintenance.delete_for_runs(codec, ["run 0"])
        return maintenance.copy(codec, "source", "thread")


_NAMES = ("prune", "clear", "delete", "delete runs", "keep newest", "copy onto")
_REMOVALS = [_Removal(name) for name in _NAMES]
removals = pytest.mark.parametrize("removal", _REMOVALS, ids=lambda removal: removal.name)


def run_with_break(
    store: CheckpointStore, operation: Operation[Any], at: int, interlude: Callable[[], None]
) -> bool:
    """Run an operation, and something else before its request number ``at``, the first being 0.

    Returns whether the operation had so many requests.
    """
    answer: Any = None
    error: BaseException | None = None
    number = 0
    try:
        while True:
            request = operation.send(answer) if error is None else operation.throw(error)
            if number == at:
                interlude()
            number += 1
            answer, error = None, None
            try:
                answer = store.backend.execute(request)
            except Exception as raised:  # noqa: BLE001 -- the operation's to handle
                error = raised
    except StopIteration:
        return number > at


class TwoWriters(Fixtures):
    """Tests with a writer whose cache is out of date."""

    @pytest.fixture
    def begin(self, storage: Storage) -> Callable[[], tuple[CheckpointSaver, CheckpointSaver]]:
        """Return what gives two savers with warm caches on a thread of five checkpoints and writes.

        Each call begins the thread anew, and lets them forget what was before.
        """
        savers = CheckpointSaver(storage.open()), CheckpointSaver(storage.open())

        def begin() -> tuple[CheckpointSaver, CheckpointSaver]:
            for thread in ("thread", "source"):
                savers[0].delete_thread(thread)
                for saver in savers:
                    saver.store.codec.caches.drop(thread)
            _fill(savers[0])
            for saver in savers:
                list(saver.list(None))
            return savers

        return begin

    @removals
    def test_a_put_in_the_middle_of_a_removal(
        self,
        begin: Callable[[], tuple[CheckpointSaver, CheckpointSaver]],
        storage: Storage,
        removal: _Removal,
    ) -> None:
        for at in count():
            first, second = begin()
            if not run_with_break(
                first.store, removal.on(first.store), at, partial(_go_on, second)
            ):
                break
            with case(at):
                _assert_whole(storage)
        # To remove is to find, to remove, to find what nothing refers to and to sweep it.
        assert at >= (1 if removal.name == "clear" else 4)

    @removals
    def test_a_removal_in_the_middle_of_a_put(
        self,
        begin: Callable[[], tuple[CheckpointSaver, CheckpointSaver]],
        storage: Storage,
        removal: _Removal,
    ) -> None:
        # A put is one request; the removal comes before it.
        first, second = begin()
        recorded: list[Any] = []
        recorder = type("Recorder", (), {"put": lambda _self, *args: recorded.extend(args)})
        put(recorder(), 6, _values(6), parent=5, changed=["log", "n", "own"])
        draft = second._draft(*recorded)  # noqa: SLF001 -- to stop it half-way
        operation = operations.save(second.store.codec, [draft])
        assert run_with_break(second.store, operation, 0, partial(_remove, first, removal))
        _assert_whole(storage)
        assert values_of(second, config_of("thread", id=checkpoint_id(6))) == _values(6)

    @removals
    def test_a_removal_in_the_middle_of_a_put_of_writes(
        self,
        begin: Callable[[], tuple[CheckpointSaver, CheckpointSaver]],
        storage: Storage,
        removal: _Removal,
    ) -> None:
        first, second = begin()
        key = ("thread", "", checkpoint_id(5))
        operation = operations.save_writes(second.store.codec, key, _writes(7), "task 2", "")
        assert run_with_break(second.store, operation, 0, partial(_remove, first, removal))
        _assert_whole(storage)

    @removals
    def test_whoever_removed_puts_with_what_it_remembers(
        self,
        begin: Callable[[], tuple[CheckpointSaver, CheckpointSaver]],
        storage: Storage,
        removal: _Removal,
    ) -> None:
        """What survives a removal in a cache is stored, whoever removes something meanwhile."""
        # To clear is one request.
        ats = (0,) if removal.name == "clear" else (2, 4)
        for at, other in product(ats, (_Removal("keep newest"), _Removal("delete"))):
            first, second = begin()
            _put(first, 6, parent=5, changed=["log", "n", "own"])

            def interlude(second: CheckpointSaver = second, other: _Removal = other) -> None:
                _put(second, 7, 1, parent=6)
                _remove(second, other)

            with case(at, other.name):
                assert run_with_break(first.store, removal.on(first.store), at, interlude)
                for number, kind in ((8, 0), (9, 1), (10, 0)):
                    _put(first, number, kind, parent=number - 1)
                    key = config_of("thread", id=checkpoint_id(number))
                    first.put_writes(key, _writes(number), "task")
                _assert_whole(storage)

    @pytest.mark.parametrize(
        "changed", [None, ["n"]], ids=["a put in full", "a put of one channel"]
    )
    def test_what_was_removed_is_not_remembered(
        self,
        begin: Callable[[], tuple[CheckpointSaver, CheckpointSaver]],
        storage: Storage,
        changed: list[str] | None,
    ) -> None:
        """The last value, and the last checkpoint, of a cache may be the very ones removed."""
        saver, _ = begin()
        _put(saver, 6, 2, parent=5)
        saver.put_writes(config_of("thread", id=checkpoint_id(6)), _writes(50), "task")
        saver.store.delete(checkpoint_id(6), execution_id="thread")
        put(saver, 7, {**_values(6, 2), "n": 7}, parent=6, kind=2, changed=changed)
        assert audit(storage, "thread").dangling == set()
        read = CheckpointSaver(storage.open())
        assert (
            values_of(read, config_of("thread", id=checkpoint_id(7)))["log"] == _values(6, 2)["log"]
        )

    def test_removals_and_puts_in_any_order(self, storage: Storage) -> None:
        # Inside, as Hypothesis wants each test function to belong to one class only.
        @given(
            schedule=st.lists(st.booleans(), max_size=24),
            removal=st.sampled_from(_REMOVALS),
            other=st.sampled_from(_REMOVALS),
            kinds=st.lists(st.integers(0, 2), min_size=1, max_size=3),
        )
        @settings(max_examples=settings().max_examples // 2)
        def check(
            schedule: list[bool], removal: _Removal, other: _Removal, kinds: list[int]
        ) -> None:
            first, second, third = (CheckpointSaver(storage.open()) for _ in range(3))
            for thread in ("thread", "source"):
                first.delete_thread(thread)
            _fill(first)
            for saver in (second, third):
                list(saver.list(None))
            plan = iter(schedule)

            def interlude() -> None:
                for number, kind in enumerate(kinds, start=6):
                    writer = second if next(plan, False) else third
                    _put(writer, number, kind, parent=number - 1)
                    if next(plan, False):
                        third.store.run(other.on(third.store))

            run_with_break(first.store, removal.on(first.store), sum(schedule), interlude)
            for number, kind in enumerate(kinds, start=20):
                _put(first, number, kind, parent=number - 1)
                _put(second, number + 10, kind, parent=number - 1)
            _assert_whole(storage)

        check()

    def test_two_processes(self, storage: Storage) -> None:
        if storage.process_url is None:
            pytest.skip("only this process can open it")
        ours = CheckpointSaver(storage.open())
        _fill(ours)
        process = multiprocessing.get_context("spawn").Process(
            target=_prune_and_clear, args=(storage.process_url, _ROUNDS)
        )
        process.start()
        try:
            number = 5
            # As long as the other one is at work, and at least a little.
            while process.is_alive() or number < 50:
                number += 1
                _put(ours, number % 40, number % 3, parent=(number - 1) % 40)
                if number > 20_000:
                    break
            process.join(_LIMIT)
            assert process.exitcode == 0
        finally:
            process.kill()
            process.join()
        _assert_whole(storage)


_ROUNDS = 16


def _prune_and_clear(url: str, rounds: int) -> None:
    """Be the other process: remove over and over what the first one writes."""
    with CheckpointSaver(url) as saver:
        for number in range(rounds):
            saver.prune(["thread"])
            for one in saver.list(config_of("thread")):
                assert one.checkpoint["channel_values"] == _expected(one)
            if number % 8 == 7:
                saver.delete_thread("thread")


def _remove(saver: CheckpointSaver, removal: _Removal) -> None:
    saver.store.run(removal.on(saver.store))


def _go_on(saver: CheckpointSaver) -> None:
    """Put what a graph would that goes on."""
    for number, parent in ((6, 5), (8, 6), (9, 8)):
        _put(saver, number, parent=parent, changed=["log", "n", "own"])
    saver.put_writes(config_of("thread", id=checkpoint_id(6)), _writes(6), "task")


def _fill(saver: CheckpointSaver) -> None:
    for thread in ("thread", "source"):
        for number in range(1, 6):
            config = put(
                saver, number, _values(number), thread=thread, parent=number - 1 or None,
                run_id=f"run {number % 2}",
            )  # fmt: skip
            saver.put_writes(config, _writes(number), "task")


def _assert_whole(storage: Storage) -> None:
    for thread in ("thread", "source"):
        assert audit(storage, thread).dangling == set()
    reader = CheckpointSaver(storage.open())
    for one in reader.list(None):
        assert one.checkpoint["channel_values"] == _expected(one)
    reader.prune(["thread"])
    reader.delete_for_runs(["run 1"])
    assert audit(storage, "thread") == CLEAN


def _expected(one: CheckpointTuple) -> dict[str, Any]:
    facts: Any = one.metadata
    return _values(facts["step"], facts.get("kind", 0))


def _put(saver: CheckpointSaver, number: int, kind: int = 0, **options: Any) -> None:
    put(saver, number, _values(number, kind), kind=kind, **options)


def _writes(number: int) -> list[tuple[str, Any]]:
    return [("log", [f"write {number} {'w' * 150}"]), ("facts", _values(number)["facts"])]
