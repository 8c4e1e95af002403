"""What the functions of this package tell: findings, progress, reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Finding(NamedTuple):
    """Something that is not as it was written."""

    execution_id: str
    """The execution; ``""`` if it can't be known, or if it is about all of them."""
    namespace: str | None
    """The checkpoint's namespace; None if it isn't about one checkpoint."""
    checkpoint_id: str | None
    """The checkpoint; None if it isn't about one."""
    what: str
    """What is wrong, a sentence."""
    lost: str
    """What can't be read any more because of it; ``""`` for nothing."""
    repairable: bool
    """Whether `repair` makes the store whole again, without what is lost."""

    def __str__(self) -> str:
        """Return it as a line of text."""
        place = "the store"
        if self.execution_id:
            place = f"execution {self.execution_id!r}"
        if self.checkpoint_id is not None:
            inside = f" (namespace {self.namespace!r})" if self.namespace else ""
            place = f"checkpoint {self.checkpoint_id!r}{inside} of {place}"
        return f"{place}: {self.what}" + (f"; lost: {self.lost}" if self.lost else "")


class Progress(NamedTuple):
    """How far a function has got."""

    execution_id: str
    """The execution that was done last."""
    done: int
    """Executions that are done."""
    total: int | None
    """Executions in all, as counted at the beginning; None: unknown."""
    checkpoints: int
    """Checkpoints that are done."""
    bytes: int
    """Bytes of rows and chunks that were moved or looked at."""


OnProgress = Callable[[Progress], None] | None


@dataclass
class Counts:
    """What has been done so far.

    Attributes:
        executions: Executions.
        checkpoints: Checkpoints of theirs.
        writes: Pending writes of theirs.
        chunks: Chunks that were moved or looked at.
        bytes: Bytes of these rows and chunks.
        findings: What wasn't as it was written.
    """

    executions: int = 0
    checkpoints: int = 0
    writes: int = 0
    chunks: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything was as it was written."""
        return not self.findings


class Meter:
    """Tells a callback how far it is."""

    def __init__(self, counts: Counts, on_progress: OnProgress, total: int | None) -> None:
        self._counts = counts
        self._on_progress = on_progress
        self._total = total
        self._done = 0

    def tick(self, execution_id: str) -> None:
        """Say that an execution is done."""
        self._done += 1
        if self._on_progress is not None:
            counts = self._counts
            self._on_progress(
                Progress(execution_id, self._done, self._total, counts.checkpoints, counts.bytes)
            )
