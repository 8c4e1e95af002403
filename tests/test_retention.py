"""What keeping the newest checkpoints costs, and what happens when it fails."""

from __future__ import annotations

import logging
import random
import statistics
from typing import TYPE_CHECKING, Any

import pytest

from langcairn import MemoryCheckpointStore, StoreUnavailable
from langcairn.backends.base import Commit, FindCheckpoints, Remove
from langcairn.langgraph.retaining_saver import RetainingSaver
from langcairn.testing.checkpoints import checkpoint_id, config_of, put, values_of

if TYPE_CHECKING:
    from langcairn.backends.base import Request

STEPS = 120


def history(number: int) -> dict[str, Any]:
    # Texts that no compression makes small.
    return {"log": [random.Random(i).randbytes(400).hex() for i in range(number)], "n": number}


class Watched(MemoryCheckpointStore):
    """Counts the chunks of commits and keeps the largest size; fails what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: list[int] = []
        self.sizes: list[int] = []
        self.failing: type | None = None
        execute = self.backend.execute

        def watch(request: Request) -> object:
            if self.failing is not None and isinstance(request, self.failing):
                raise StoreUnavailable("down")
            answer = execute(request)
            if isinstance(request, Commit):
                self.carried.append(len(request.chunks))
            self.sizes.append(self.stored_bytes())
            return answer

        self.backend.execute = watch  # type: ignore[method-assign]  # watched, not replaced


def fill(saver: RetainingSaver, numbers: range) -> None:
    for number in numbers:
        put(saver, number, history(number), parent=number - 1 or None)


def test_a_put_after_a_clean_up_costs_what_others_do() -> None:
    store = Watched()
    fill(RetainingSaver(store, 10), range(1, STEPS + 1))
    assert len(store.list("thread")) <= 20
    # Of each put: the new element, and pages that it fills. Never all of them anew.
    assert max(store.carried) <= 4
    assert statistics.median(store.carried) == 1


def test_it_never_takes_twice_the_room() -> None:
    store, alone = Watched(), MemoryCheckpointStore()
    fill(RetainingSaver(store, 10), range(1, STEPS + 1))
    put(RetainingSaver(alone, 10), STEPS, history(STEPS))
    assert max(store.sizes) <= 2 * alone.stored_bytes()


def test_replaced_content_goes() -> None:
    """Nothing is shared: every state is new."""
    store = Watched()
    saver = RetainingSaver(store, 2)
    for number in range(1, 60):
        text = random.Random(number).randbytes(5000).hex()
        put(saver, number, {"x": [text]}, parent=number - 1 or None)
    assert len(store.list("thread")) <= 12
    assert store.stored_bytes() < 12 * 12_000
    assert values_of(saver, config_of("thread")) == {"x": [text]}


@pytest.mark.parametrize("failing", [Remove, FindCheckpoints])
def test_a_clean_up_that_fails_fails_no_put(
    failing: type, caplog: pytest.LogCaptureFixture
) -> None:
    store = Watched()
    saver = RetainingSaver(store, 2)
    fill(saver, range(1, 5))
    store.failing = failing
    with caplog.at_level(logging.WARNING):
        fill(saver, range(5, 30))
    store.failing = None
    assert "old checkpoints of 'thread' were not removed: down" in caplog.text
    assert len(store.list("thread")) == 29
    fill(saver, range(30, 42))
    assert len(store.list("thread")) <= 12
    assert values_of(saver, config_of("thread", id=checkpoint_id(41))) == history(41)


def test_it_keeps_no_record_of_threads_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langcairn.langgraph.retaining_saver._MOST_THREADS", 3)
    store = Watched()
    saver = RetainingSaver(store, 2)
    for number in range(1, 40):
        for thread in range(6):
            put(saver, number, {"n": number}, thread=thread, parent=number - 1 or None)
    assert len(saver._surplus) == 3
    for thread in range(6):
        assert len(store.list(str(thread))) <= 13
