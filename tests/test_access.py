"""The examples of the page on access: a guard, and PostgreSQL's row-level security."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.postgres_server import PostgresServer
from tests.test_docs import blocks, run_python

from langcairn import Checkpoint, CheckpointStore, PostgresCheckpointStore, StoreError, ThreadId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PAGE = "docs/access.md"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


def record(user: str, id: str) -> Checkpoint:
    return Checkpoint(id=id, execution_id=str(ThreadId.new(user)), state={"text": "x" * 500})


def test_python_of_the_page(tmp_path: Path) -> None:
    run_python(_PAGE, tmp_path)


def test_row_level_security(server: PostgresServer) -> None:
    def store(role: str) -> CheckpointStore:
        return PostgresCheckpointStore(server.url(user=role), pool_min_conns=0, deadline=5)

    with store("postgres") as whole:
        whole.save(record("bob", "before"))
        with psycopg.connect(server.url(), autocommit=True) as connection:
            (script,) = blocks("sql", _PAGE)
            connection.execute(script.encode())
            for role in ("ada", "bob"):
                connection.execute(f"CREATE ROLE {role} LOGIN IN ROLE langcairn_tenant".encode())
        with store("ada") as adas, store("bob") as bobs:
            mine, other = record("ada", "mine"), record("bob", "other")
            adas.save(mine)
            bobs.save(other)
            assert adas.load("mine").state == mine.state
            assert adas.executions() == [mine.execution_id]
            assert adas.list(other.execution_id) == []
            with pytest.raises(StoreError, match="row-level security"):
                adas.clear(other.execution_id)
            assert len(bobs.executions()) == 2
            with pytest.raises(StoreError, match="row-level security"):
                adas.save(record("bob", "forged"))
            assert adas.delete("mine") is True
        assert len(whole.executions()) == 3
        assert whole.load("other").state == other.state
