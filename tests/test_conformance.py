"""LangGraph's own conformance suite, in full, on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability

from langcairn import CheckpointSaver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_conformance(backend: str, tmp_path: Path) -> None:
    url = "memory:" if backend == "memory" else f"sqlite:///{tmp_path}/conformance.db"

    @checkpointer_test(name=f"langcairn {backend}")
    async def saver() -> AsyncGenerator[CheckpointSaver, None]:
        async with CheckpointSaver(url) as opened:
            yield opened

    report = await validate(saver)
    failures = [f for result in report.results.values() for f in result.failures or ()]
    assert not failures
    assert set(report.results) == {capability.value for capability in Capability}
    for name, result in report.results.items():
        assert result.passed, name
        assert result.detected, name
        assert result.tests_skipped == 0, name
