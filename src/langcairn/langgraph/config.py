"""`CheckpointConfig`: where, when and how many checkpoints are saved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from langcairn.errors import InvalidInput
from langcairn.langgraph.interval_saver import IntervalSaver
from langcairn.langgraph.retaining_saver import RetainingSaver
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.store import CheckpointStore


@dataclass(frozen=True)
class CheckpointConfig:
    """How a graph's checkpoints are saved.

    Attributes:
        store: A store, or the URL of one. A store that was opened from a URL is closed with the
            runnable that uses it.
        auto_save: Save after each super-step. False: save at most once in ``save_interval``, and
            at the end of a run, at an interrupt and on `CheckpointableRunnable.flush`. A process
            that is killed then loses what came after the last save, at most an interval of work.
        save_interval: The longest time that a checkpoint is held back, if not ``auto_save``.
        max_checkpoints: How many checkpoints to keep of each namespace of a thread, the newest;
            None: all. Older ones are removed some at a time, and what a kept checkpoint, a
            pending interrupt, a `DeltaChannel` or a running subgraph needs is never removed.

    Raises:
        InvalidInput: There is no store; the interval is negative or no timedelta; or
            ``max_checkpoints`` is less than 1.
    """

    store: CheckpointStore | str | None = None
    auto_save: bool = True
    save_interval: timedelta = timedelta(seconds=30)
    max_checkpoints: int | None = 10

    def __post_init__(self) -> None:
        if not isinstance(self.store, (CheckpointStore, str)) or not self.store:
            raise InvalidInput(
                f"a CheckpointConfig needs a store, not {self.store!r:.80}: pass store=…, a store "
                "such as MemoryCheckpointStore() or a URL such as 'sqlite:///agent.db'"
            )
        if not isinstance(self.auto_save, bool):
            raise InvalidInput(f"auto_save must be True or False, not {self.auto_save!r:.80}")
        if not isinstance(self.save_interval, timedelta):
            raise InvalidInput(
                f"save_interval must be a timedelta, not {self.save_interval!r:.80}: "
                "say timedelta(seconds=30)"
            )
        if self.save_interval < timedelta(0):
            raise InvalidInput(f"save_interval must not be negative: {self.save_interval}")
        most = self.max_checkpoints
        if most is not None and (type(most) is not int or most < 1):
            raise InvalidInput(
                f"max_checkpoints must be an int from 1, or None to keep all; not {most!r:.80}"
            )

    def saver(self) -> CheckpointSaver | IntervalSaver:
        """Return a new saver that saves in this way."""
        store = cast("CheckpointStore | str", self.store)  # checked above
        most = self.max_checkpoints
        saver = CheckpointSaver(store) if most is None else RetainingSaver(store, most)
        return saver if self.auto_save else IntervalSaver(saver, self.save_interval)
