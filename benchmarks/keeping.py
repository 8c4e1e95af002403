"""What a saver that removes old checkpoints keeps at most."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.recording import record
from benchmarks.savers.base import MAX_CHECKPOINTS
from benchmarks.workloads import THREAD_ID, WORKLOADS
from langcairn import CheckpointSaver, MemoryCheckpointStore
from langcairn.backends.base import FetchChunks, FindOldChunks
from langcairn.langgraph.retaining_saver import RetainingSaver

DESCRIPTION = (
    f"agent with max_checkpoints={MAX_CHECKPOINTS}, weighed after every call (rows, pending "
    "writes and chunks in memory)"
)
_EVER = 2**62  # later than every epoch


class Kept(NamedTuple):
    """Bytes."""

    peak: int
    """All that was kept at any moment, at most."""
    final: int
    """The chunks of the final state alone."""


def measure(*, quick: bool) -> Kept:
    """Replay the agent's calls."""
    workload = WORKLOADS["agent"]
    with MemoryCheckpointStore() as store, MemoryCheckpointStore() as last:
        saver = RetainingSaver(store, MAX_CHECKPOINTS)
        recording = record(workload.quick() if quick else workload, saver)
        peak = 0
        for call in recording.calls:
            call.replay(saver)
            peak = max(peak, store.stored_bytes())
        config: Any = {"configurable": {"thread_id": THREAD_ID, "checkpoint_ns": ""}}
        final = recording.last_checkpoint()
        CheckpointSaver(last).put(config, final, {}, final["channel_versions"])
        ids: Any = last.backend.execute(FindOldChunks(THREAD_ID, _EVER))
        chunks: Any = last.backend.execute(FetchChunks(THREAD_ID, ids))
        return Kept(peak, sum(map(len, chunks.values())))
