"""LangGraph's own conformance suite, in full, on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

from langcairn import CheckpointSaver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path


@pytest.fixture(params=["memory", "sqlite", "file", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    match request.param:
        case "memory":
            yield "memory:"
        case "sqlite":
            yield f"sqlite:///{tmp_path}/conformance.db"
        case "file":
            yield f"file://{tmp_path}/conformance"
        case "postgres":
            server = PostgresServer()
            try:
                yield server.start().url()
            finally:
                server.remove()
        case "redis":
            with ValkeyServer() as valkey:
                yield valkey.url


async def test_conformance(url: str) -> None:
    @checkpointer_test(name="langcairn")
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
