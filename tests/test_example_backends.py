"""The example of every backend, with the servers that it can't bring along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

EXAMPLE = Path(__file__).parents[1] / "examples" / "backends.py"


def test_with_servers(tmp_path: Path) -> None:
    postgres = PostgresServer()
    try:
        postgres.start()
        with ValkeyServer() as valkey:
            servers = {"POSTGRES_URL": postgres.url(), "REDIS_URL": valkey.url}
            result = subprocess.run(
                [sys.executable, "-W", "error", EXAMPLE],
                env={**os.environ, **servers},
                cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
    finally:
        postgres.remove()
    assert result.returncode == 0, result.stderr
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert [name for name, _ in lines] == ["memory", "sqlite", "file", "postgresql", "redis"]
    assert len({text for _, text in lines}) == 1
