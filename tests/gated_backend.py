"""A backend around another one, whose commits can be held up and made to fail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from typing_extensions import override

from langcairn.backends.base import Backend
from langcairn.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.backends.base import CheckpointRow, Commit, Request

_BOUND = 30.0  # [s] for what should take far less


class GatedBackend(Backend):
    """Passes requests on.

    Attributes:
        gate: While it is not set, commits wait.
        batches: The numbers of checkpoints in the commits that were asked for together.
        failing: Says with which error the commit of a checkpoint fails, if any.
        outage: With what every batch as a whole fails; None: with nothing.
    """

    def __init__(self, inner: Backend | None = None) -> None:
        self.inner = inner or MemoryBackend()
        self.gate = threading.Event()
        self.gate.set()
        self.held = threading.Event()
        self.batches: list[int] = []
        self.failing: Callable[[CheckpointRow], Exception | None] = lambda _row: None
        self.outage: Exception | None = None

    @override
    def execute(self, request: Request) -> object:
        return self.inner.execute(request)

    @override
    async def aexecute(self, request: Request) -> object:
        return await self.inner.aexecute(request)

    @override
    def execute_all(self, commits: Sequence[Commit]) -> Sequence[int | Exception]:
        self.batches.append(sum(len(commit.checkpoints) for commit in commits))
        executions = [commit.execution_id for commit in commits]
        assert len(set(executions)) == len(executions)  # as execute_all may rely on
        self.held.set()
        assert self.gate.wait(_BOUND)
        self.held.clear()
        if self.outage is not None:
            raise self.outage
        return [self._outcome(commit) for commit in commits]

    def _outcome(self, commit: Commit) -> int | Exception:
        for row in commit.checkpoints:
            if error := self.failing(row):
                return error
        (outcome,) = self.inner.execute_all([commit])
        return outcome

    @override
    def close(self) -> None:
        self.inner.close()

    @override
    async def aclose(self) -> None:
        await self.inner.aclose()
