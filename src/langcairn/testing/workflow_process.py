"""A process that runs a graph and is killed, for `langcairn.testing.workflow_graphs`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from langcairn.langgraph.checkpointable import CheckpointableRunnable
from langcairn.langgraph.config import CheckpointConfig
from langcairn.testing.workflow_graphs import Journal, fan

_LIMIT = 30  # [s]


def _main(url: str, journal: str, kill_at: str, saving: str) -> None:
    config = CheckpointConfig(url, auto_save=saving == "auto", max_checkpoints=None)
    notes = Journal(Path(journal))

    def note(name: str) -> None:
        notes.note(name)
        if name == kill_at:
            if name == "right" and saving == "auto":
                _wait_for_left(runnable)
            os.kill(os.getpid(), signal.SIGKILL)

    runnable = CheckpointableRunnable(fan(note), config, execution_id="thread")
    with runnable:
        runnable.invoke({"log": ["start"]})


def _wait_for_left(runnable: CheckpointableRunnable) -> None:
    """Wait until the other node of the step has finished, and that is stored."""
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        found = runnable.saver.get_tuple({"configurable": {"thread_id": "thread"}})
        if found and any(channel == "log" for _, channel, _ in found.pending_writes or ()):
            return
        time.sleep(0.01)
    raise TimeoutError("the other node's output was not stored")


if __name__ == "__main__":
    _main(*sys.argv[1:])
