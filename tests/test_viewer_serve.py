"""The viewer as a process: its address, its end, and what it can't begin with."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from langcairn import Checkpoint, InvalidInput, MemoryCheckpointStore, open_store
from langcairn.viewer import serve
from langcairn.viewer.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60  # [s]


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a viewer."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def address_of(process: subprocess.Popen[str]) -> str:
    """Return the address that a viewer printed."""
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None, process.communicate(timeout=PATIENCE)
    return found[0]


def stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Stop a viewer, which must end well and say nothing."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert errors == ""
    assert process.returncode == 0


def test_others_need_the_token_that_is_printed() -> None:
    process = start("langcairn.viewer", "--store", "memory:", "--host", "0.0.0.0", "--write")
    try:
        address = address_of(process).replace("0.0.0.0", "127.0.0.1")
        assert re.search(r"\?token=[\w-]{32}$", address)
        with httpx.Client(timeout=PATIENCE, follow_redirects=True) as client:
            assert client.get(address.split("?")[0]).status_code == 401
            assert "Nothing here yet" in client.get(address).text
        stop(process, signal.SIGINT)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "nothing://x"], "no store has the URL"),
        (["--store", "memory:", "--token", "short"], "at least 16 characters"),
        (["--store", "memory:", "--port", "99999"], "port 99999 is none"),
        (
            ["--store", "memory:", "--host", "host.invalid", "--token", "x" * 20],
            "can't listen on host.invalid",
        ),
    ],
)
def test_bad_arguments(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["viewer", *arguments])
    assert main() == 1
    output, errors = capsys.readouterr()
    assert message in errors
    assert output == ""


def test_port_that_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        MemoryCheckpointStore() as store,
        pytest.raises(InvalidInput, match="choose another --host or --port"),
    ):
        serve(store, port=held.getsockname()[1])


def test_serves_this_machine_until_told_to_stop(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        store.save(Checkpoint(execution_id="t", id="1", state={}))
    process = start("langcairn", "--json", "--store", url, "view")
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        assert address.startswith("http://127.0.0.1:")
        answer = httpx.get(address, timeout=PATIENCE)
        assert "/thread?id=t" in answer.text
        assert "server" not in answer.headers
        assert httpx.get(f"{address}static/viewer.css", timeout=PATIENCE).status_code == 200
        stop(process, signal.SIGTERM)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)
