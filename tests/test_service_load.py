"""The load test runs, and finds out when something is lost."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from benchmarks.service_load import cli
from benchmarks.service_load.client import Client
from benchmarks.service_load.users import Thread, verify

if TYPE_CHECKING:
    from pathlib import Path


def test_a_short_run_measures_verifies_and_profiles(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "service.json"
    words = ["--savers", "langcairn", "--processes", "1", "--users", "4", "--seconds", "2"]
    words += ["--warmup", "0.3", "--restarts", "1", "--profile", "--json", str(file)]
    assert cli.main(words) == 0
    found = json.loads(file.read_text())
    (outcome,) = found["outcomes"]["langcairn"]
    assert outcome["runs"] > 4
    assert set(outcome["answers"]) == {"200"}
    assert outcome["verified"] >= 4
    assert outcome["lost"] == outcome["wrong"] == []
    assert outcome["cpu"]["service"] > 0
    assert len(outcome["restarts"]) == 1
    assert {"langcairn", "langgraph"} <= set(outcome["profile"]["packages"])
    assert sum(outcome["profile"]["packages"].values()) == pytest.approx(1)
    assert len(found["verdicts"]) == 4
    assert "all users were served" in capfd.readouterr().out


async def test_what_is_lost_is_found() -> None:
    messages = [{"type": "human", "content": text} for text in ("one", "two")]
    body = json.dumps({"values": {"messages": messages}}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body[:5])
            await writer.drain()
            writer.write(body[5:])

    serving: list[asyncio.Task[None] | None] = []

    async def ignoring(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(ignoring, "127.0.0.1", 0)
    async with server:
        client = Client(server.sockets[0].getsockname()[1])
        threads = [
            Thread("ada", "whole", ["one", "two"]),
            Thread("ada", "more than was acknowledged", ["one"]),
            Thread("ada", "less", ["one", "two", "three"]),
            Thread("ada", "other", ["two"], doubtful=True),
        ]
        verified, lost = await verify(threads, {"ada": client})
        client.close()
        # Else the loop would be closed under them.
        await asyncio.wait([task for task in serving if task is not None], timeout=10)
    assert verified == 4
    assert sorted(one.partition(":")[0] for one in lost) == ["less", "other"]
