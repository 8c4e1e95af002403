"""Stores with a changed byte: is it found, and is what can be loaded what was saved?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage

from langcairn import CairnError, Checkpoint, CheckpointSaver
from langcairn.testing.checkpoints import checkpoint_id, config_of, facts_of, put
from langcairn.transfer import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langcairn import CheckpointStore

THREADS = ("thread-a", "thread-b")
_NAMESPACES = ("", "inner:1")


def fill(store: CheckpointStore) -> None:
    """Save every kind of thing that a store can hold: rows, writes, leaves, pages, records."""
    saver = CheckpointSaver(store)
    for thread in THREADS:
        for number in (1, 2):
            values = {
                "messages": [HumanMessage(f"{thread} says {i}", id=str(i)) for i in range(number)],
                "log": [f"{thread} {i:>110}" for i in range(16 + number)],
                "n": number,
                "text": "x" * 40,
            }
            put(saver, number, values, thread=thread, parent=number - 1 or None, by="test")
        put(saver, 3, {"n": 3}, thread=thread, namespace="inner:1")
        config = config_of(thread, "", checkpoint_id(2))
        saver.put_writes(config, [("n", 7), ("text", "y" * 120)], "task-1", "path")
        saver.put_writes(config, [("__interrupt__", ["why"])], "task-2")
    record = Checkpoint(
        execution_id="record", state={"by": ["hand", 1.5]}, id="r1", metadata={"k": 1}
    )
    store.save(record)


def loaded(store: CheckpointStore) -> dict[Any, Any]:
    """Return all that `fill` has saved, as it is loaded by key; what can't be loaded is left out.

    Raises:
        AssertionError: Something else than the documented errors was raised.
    """
    saver = CheckpointSaver(store)
    found: dict[Any, Any] = {}
    keys = [("record", "", "r1")]
    keys += [(thread, "", checkpoint_id(number)) for thread in THREADS for number in (1, 2)]
    keys += [(thread, "inner:1", checkpoint_id(3)) for thread in THREADS]
    for key in keys:
        store.codec.caches.drop(key[0])
        try:
            one = saver.get_tuple(config_of(*key))
        except CairnError:
            continue
        if one is not None:
            writes = [repr(write) for write in one.pending_writes or ()]
            found[key] = facts_of(one._replace(pending_writes=[])), writes
    return found


def newest(store: CheckpointStore) -> dict[Any, Any]:
    """Return the newest checkpoint of each thread and namespace."""
    saver = CheckpointSaver(store)
    return {
        (thread, namespace): None if one is None else facts_of(one)
        for thread in THREADS
        for namespace in _NAMESPACES
        for one in [saver.get_tuple(config_of(thread, namespace))]
    }


def judge(store: CheckpointStore, saved: tuple[dict[Any, Any], dict[Any, Any]], where: str) -> bool:
    """Check that damage is found, or changes nothing, and never gives another state.

    Returns whether it was found.
    """
    expected, expected_newest = saved
    try:
        found = bool(verify(store).findings)
    except CairnError:
        found = True
    try:
        got = loaded(store)
    except CairnError:
        assert found, where
        return True
    if not found:
        assert got == expected, f"{where}: not found"
        assert newest(store) == expected_newest, f"{where}: not found"
    for key, (facts, writes) in got.items():
        assert facts == expected[key][0], f"{where}: another state of {key}"
        assert set(writes) <= set(expected[key][1]), f"{where}: other writes of {key}"
    return found


def offsets(size: int, most: int) -> Iterator[int]:
    """Yield offsets of bytes to change: some, evenly spread, or all in a nightly run.

    The first is ``LANGCAIRN_TEST_FLIP``, 0 by default: each run of the suite flips the same ones.
    """
    if os.environ.get("HYPOTHESIS_PROFILE") == "nightly":
        most = size
    step = max(1, size // most)
    yield from range(int(os.environ.get("LANGCAIRN_TEST_FLIP", "0")) % step, size, step)


def flipped(data: bytes, offset: int) -> bytes:
    """Return data with one bit changed, another one for each offset."""
    changed = bytearray(data)
    changed[offset] ^= 1 << (offset % 8)
    return bytes(changed)


def before(open_: Callable[[], CheckpointStore]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return what is loaded from an undamaged store, after checking that it verifies."""
    with open_() as store:
        report = verify(store)
        assert not report.findings, report
        assert (report.executions, report.checkpoints, report.writes) == (3, 7, 6)
        return loaded(store), newest(store)
