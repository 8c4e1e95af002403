"""A state machine: a saver against a plain dict that copies deeply."""
# ruff: noqa: S101, D102 -- tests assert, and the names of rules say what they do

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from langcairn.forms import form
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.checkpoints import checkpoint_id, config_of, numbers_of, put
from langcairn.testing.mutations import Mutation, mutations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.testing.storage import Storage

Place = tuple[str, str]
"""Thread and namespace."""

_THREADS = ("a", "b")
_NAMESPACES = ("", "child")
# Mostly the same one: mistakes need a history.
_PLACES = st.sampled_from(
    [("a", ""), ("a", ""), ("a", ""), ("a", "child"), ("b", ""), ("b", "child")]
)
# Two savers on the same data, as two processes have them: each misses what the other does.
_SAVERS = st.integers(0, 1)


class Kept(NamedTuple):
    """What is expected of a checkpoint."""

    parent: int | None
    values: dict[str, Any]
    writes: dict[tuple[str, int], tuple[str, Any]]
    run: str


class Live:
    """A run under way: its state, which changes in place, and the checkpoint it continues."""

    def __init__(self, values: dict[str, Any], head: int | None) -> None:
        self.values = values
        self.head = head
        self.changed: set[str] = set(values) if head is None else set()


class SaverMachine(RuleBasedStateMachine):
    """Does what graphs and their keepers do, in any order.

    A backend's tests subclass it with `make_storage` and run ``SaverMachine.TestCase``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.storage = self.make_storage()
        self.savers = [CheckpointSaver(self.storage.open()) for _ in range(2)]
        self.kept: dict[Place, dict[int, Kept]] = {
            (thread, namespace): {} for thread in _THREADS for namespace in _NAMESPACES
        }
        self.live: dict[Place, Live] = {}
        self.number = 0
        self.touched: set[str] = set()
        self.littered: set[str] = set()

    @abstractmethod
    def make_storage(self) -> Storage:
        """Return a fresh storage."""

    def teardown(self) -> None:
        try:
            for saver in (*self.savers, CheckpointSaver(self.storage.open())):
                for place in self.kept:
                    self._check(saver, place)
        finally:
            self.storage.close()

    @initialize(changes=st.lists(mutations(), max_size=6))
    def begin(self, changes: list[Mutation]) -> None:
        self.put(0, ("a", ""), changes, everything=False)

    # Runs

    @rule(saver=_SAVERS, place=_PLACES, changes=st.lists(mutations(), max_size=3),
          everything=st.booleans())  # fmt: skip
    def put(self, saver: int, place: Place, changes: list[Mutation], *, everything: bool) -> None:
        live = self.live.setdefault(place, Live({}, None))
        for change in changes:
            live.changed.add(change.apply(live.values))
        self.number += 1
        thread, namespace = place
        run = f"run {self.number % 3}"
        put(
            self.savers[saver], self.number, dict(live.values), thread=thread, namespace=namespace,
            parent=live.head, changed=None if everything else sorted(live.changed), run_id=run,
        )  # fmt: skip
        expected = copy.deepcopy(live.values)
        self.kept[place][self.number] = Kept(live.head, expected, {}, run)
        live.head = self.number
        live.changed = set()
        self.touched.add(thread)

    @rule(place=_PLACES, rounds=st.lists(st.tuples(_SAVERS, st.lists(mutations(), max_size=3)),
                                         min_size=2, max_size=5))  # fmt: skip
    def run(self, place: Place, rounds: list[tuple[int, list[Mutation]]]) -> None:
        for saver, changes in rounds:
            self.put(saver, place, changes, everything=False)

    @rule(saver=_SAVERS, place=_PLACES, nth=st.integers(0, 9))
    def rewind(self, saver: int, place: Place, nth: int) -> None:
        """Go on from an older checkpoint, with the objects that loading it gave."""
        number = self._some(place, nth)
        if number is not None:
            found = self._get(saver, place, number)
            assert found is not None
            self.live[place] = Live(dict(found.checkpoint["channel_values"]), number)

    @rule(saver=_SAVERS, place=_PLACES, nth=st.integers(0, 9), change=mutations(),
          task=st.sampled_from(["t1", "t2"]), special=st.booleans())  # fmt: skip
    def put_writes(
        self, saver: int, place: Place, nth: int, change: Mutation, task: str, *, special: bool
    ) -> None:
        number = self._some(place, nth)
        if number is None:
            return
        state: dict[str, Any] = {}
        channel = change.apply(state)
        writes = (
            [("__interrupt__", state[channel])]
            if special
            else [(channel, state[channel]), ("n", 1)]
        )
        config = config_of(*place, checkpoint_id(number))
        self.savers[saver].put_writes(config, writes, task)
        expected = self.kept[place][number].writes
        for idx, (name, value) in enumerate(writes):
            if special:
                expected[task, -3] = (name, copy.deepcopy(value))
            else:
                expected.setdefault((task, idx), (name, copy.deepcopy(value)))
        # The value of a write that another kept out, or took the place of, goes with a sweep.
        self.littered.add(place[0])
        # A value of the state's own, changed later, must not change what was written.
        change.apply(state)
        self.touched.add(place[0])

    # Readers

    @rule(saver=_SAVERS, place=_PLACES, nth=st.integers(0, 9))
    def get(self, saver: int, place: Place, nth: int) -> None:
        number = self._some(place, nth)
        if number is None:
            assert self.savers[saver].get_tuple(config_of(*place)) is None
            return
        self._assert_is(self._get(saver, place, number), self.kept[place][number])
        latest = self.savers[saver].get_tuple(config_of(*place))
        self._assert_is(latest, self.kept[place][max(self.kept[place])])

    @rule(saver=_SAVERS, place=_PLACES)
    def list(self, saver: int, place: Place) -> None:
        self._check(self.savers[saver], place)

    # Keepers

    @rule(saver=_SAVERS, place=_PLACES, nth=st.integers(0, 9))
    def delete(self, saver: int, place: Place, nth: int) -> None:
        number = self._some(place, nth)
        if number is not None:
            thread, namespace = place
            store = self.savers[saver].store
            assert store.delete(checkpoint_id(number), execution_id=thread, namespace=namespace)
            self._removed(place, [number])

    @rule(saver=_SAVERS, thread=st.sampled_from(_THREADS))
    def prune(self, saver: int, thread: str) -> None:
        self.savers[saver].prune([thread])
        for namespace in _NAMESPACES:
            kept = self.kept[thread, namespace]
            self._removed((thread, namespace), sorted(kept)[:-1])

    @rule(saver=_SAVERS, thread=st.sampled_from(_THREADS))
    @precondition(lambda self: self.number > 8)  # else most of a short run goes at once
    def clear(self, saver: int, thread: str) -> None:
        self.savers[saver].delete_thread(thread)
        for namespace in _NAMESPACES:
            self._removed((thread, namespace), list(self.kept[thread, namespace]))

    @rule(saver=_SAVERS, run=st.integers(0, 2))
    @precondition(lambda self: self.number > 8)
    def delete_for_runs(self, saver: int, run: int) -> None:
        self.savers[saver].delete_for_runs([f"run {run}"])
        for place, kept in self.kept.items():
            self._removed(place, [n for n, one in kept.items() if one.run == f"run {run}"])

    @rule(saver=_SAVERS, thread=st.sampled_from(_THREADS))
    def copy(self, saver: int, thread: str) -> None:
        (other,) = set(_THREADS) - {thread}
        self.savers[saver].copy_thread(thread, other)
        for namespace in _NAMESPACES:
            target = self.kept[other, namespace]
            for number, one in self.kept[thread, namespace].items():
                writes = copy.deepcopy(one.writes)
                if number in target:  # special ones are replaced, regular ones stay
                    present = target[number].writes
                    writes = {k: v for k, v in writes.items() if k[1] < 0 or k not in present}
                    writes = {**present, **writes}
                target[number] = one._replace(writes=writes)
        self.touched.add(other)
        self.littered.add(other)

    # Processes

    @rule(saver=_SAVERS, thread=st.sampled_from(_THREADS))
    def forget(self, saver: int, thread: str) -> None:
        """Lose a cache, as a process with many executions does."""
        self.savers[saver].store.codec.caches.drop(thread)

    @rule(saver=_SAVERS)
    def restart(self, saver: int) -> None:
        self.savers[saver] = CheckpointSaver(self.storage.open())

    # What always holds

    @invariant()
    def stored_are_exactly_the_chunks_that_are_needed(self) -> None:
        while self.touched:
            thread = self.touched.pop()
            found = audit(self.storage, thread)
            assert found == (
                CLEAN._replace(garbage=found.garbage) if thread in self.littered else CLEAN
            )

    # Helpers

    def _removed(self, place: Place, numbers: Sequence[int]) -> None:
        """Expect checkpoints to be gone, with all that only they needed."""
        for number in numbers:
            del self.kept[place][number]
        if numbers:
            self.touched.add(place[0])
            self.littered.discard(place[0])

    def _some(self, place: Place, nth: int) -> int | None:
        numbers = sorted(self.kept[place])
        return numbers[nth % len(numbers)] if numbers else None

    def _get(self, saver: int, place: Place, number: int) -> Any:
        return self.savers[saver].get_tuple(config_of(*place, checkpoint_id(number)))

    def _check(self, saver: CheckpointSaver, place: Place) -> None:
        found = [*saver.list(config_of(*place))]
        expected = self.kept[place]
        assert numbers_of(found) == sorted(expected, reverse=True)
        for one, number in zip(found, sorted(expected, reverse=True), strict=True):
            self._assert_is(one, expected[number])

    def _assert_is(self, found: Any, expected: Kept) -> None:
        values = found.checkpoint["channel_values"]
        assert {k: form(v) for k, v in values.items()} == {
            k: form(v) for k, v in expected.values.items()
        }
        writes = [form([task, *expected.writes[task, i]]) for task, i in sorted(expected.writes)]
        assert [form([*write]) for write in found.pending_writes] == writes
        parent = found.parent_config and numbers_of_config(found.parent_config)
        assert parent == expected.parent


def numbers_of_config(config: Any) -> int:
    """Return the number that made the id in a config."""
    return int(config["configurable"]["checkpoint_id"].rpartition("-")[2], 16)
