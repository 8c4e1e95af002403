"""The image of deploy/Dockerfile, which `make image` builds, in a real container on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from benchmarks.service_load.client import Client
from benchmarks.service_load.users import Account, User, verify
from tests.image.container import (
    PATIENCE,
    ServiceContainer,
    configuration,
    run_maintenance,
)
from tests.postgres_server import PostgresServer

from langcairn import Checkpoint, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = 100
SECONDS = 10  # of load


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer(durable=True)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def service(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceContainer]:
    directory = tmp_path_factory.mktemp("secrets")
    with ServiceContainer(postgres.url(), directory, monitor_seconds=1) as service:
        yield service


def test_what_the_image_says_of_itself() -> None:
    image = configuration()
    config = image["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert config["Entrypoint"] == ["python", "-m", "examples.service"]
    assert "8000/tcp" in config["ExposedPorts"]
    print(f"{image['Size'] / 1e6:.0f} MB, with what it is based on")  # noqa: T201 -- to be read


def test_what_it_may(service: ServiceContainer) -> None:
    lines = (line.split(":", 1) for line in service.run("cat", "/proc/1/status").splitlines())
    status = {name: value.split() for name, value in lines}
    assert status["Uid"] == status["Gid"] == ["10001"] * 4
    assert {int(status[name][0], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]
    for place in ("/app", "/tmp", "/venv", "/run"):
        said = service.run("sh", "-c", f"touch {place}/here 2>&1 || true")
        assert "Read-only file system" in said
    assert service.control("memory.max", "memory/memory.limit_in_bytes").strip() == str(512 << 20)
    assert service.control("pids.max", "pids/pids.max").strip() == "200"
    quota = service.control("cpu.max", "cpu/cpu.cfs_quota_us").split()[0]
    assert quota == "100000"
    service.run("sleep", "0")  # the preStop of Kubernetes


def test_the_health_check_tells_dead_from_alive(service: ServiceContainer) -> None:
    kind, *command = configuration()["Healthcheck"]["Test"]
    assert kind == "CMD"
    service.run(*command)
    with pytest.raises(AssertionError, match="Connection refused"):
        service.run(*command, SERVICE_PORT=1)


async def test_it_serves(service: ServiceContainer) -> None:
    async with service.client() as ada:
        assert (await ada.get("/health")).status_code == 200
        assert (await ada.get("/ready")).status_code == 200
        assert "langcairn_up{" in (await ada.get("/metrics")).text
        thread = (await ada.post("/threads")).json()["thread_id"]
        body = {"input": {"messages": [{"content": "order 16"}]}}
        answer = await ada.post(f"/threads/{thread}/runs/wait", json=body)
        assert answer.status_code == 200, answer.text
        assert "Order 16 was sent 3 days ago." in answer.text
    async with httpx.AsyncClient(base_url=service.url) as nobody:
        assert (await nobody.post("/threads")).status_code == 401
    assert {json.loads(line)["level"] for line in service.logs().splitlines()} <= {"INFO"}


async def test_a_crowd_within_the_limits(service: ServiceContainer) -> None:
    account, stop, client = Account(counting=True), asyncio.Event(), Client(service.port)
    users = [User(f"user{number}", client, account) for number in range(USERS)]
    talks = [asyncio.create_task(user.talk(stop)) for user in users]
    await asyncio.sleep(SECONDS)
    stop.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*talks)
    verified, lost = await verify(account.ended, {user.name: client for user in users})
    client.close()
    assert account.wrong == lost == []
    assert set(account.outcomes) == {"200"}
    assert verified >= USERS
    peak = int(service.control("memory.peak", "memory/memory.max_usage_in_bytes"))
    assert peak < 512 << 20
    statistics = service.control("cpu.stat", "cpu/cpu.stat").split()
    numbers = dict(zip(statistics[::2], map(int, statistics[1::2]), strict=True))
    print(  # noqa: T201 -- to be read
        f"{USERS} users: {len(account.latencies) / SECONDS:.0f} runs/s, memory at most "
        f"{peak / 2**20:.0f} MiB, the CPU's limit reached in {numbers['nr_throttled']} of "
        f"{numbers['nr_periods']} periods of 0.1 s"
    )


def test_maintenance(postgres: PostgresServer, service: ServiceContainer) -> None:
    """While the service runs, as every night."""
    with open_store(postgres.url()) as store:
        for thread, days in (("idle", 2), ("gone", 100)):
            store.save_many(
                Checkpoint(
                    id=f"{number:03}",
                    execution_id=thread,
                    state={"number": number},
                    timestamp=datetime.now(UTC) - timedelta(days=days, minutes=30 - number),
                )
                for number in range(30)
            )
        assert "deleted 40 checkpoints" in run_maintenance(postgres.url())
        assert (len(store.list("idle")), len(store.list("gone"))) == (20, 0)
    with pytest.raises(AssertionError, match="reach"):
        run_maintenance("postgresql://postgres@127.0.0.1:1/none?connect_timeout=1")


async def test_sigterm_ends_it_when_runs_have_ended(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    with ServiceContainer(postgres.url(), tmp_path, model_seconds=0.5) as ending:
        async with ending.client() as ada:
            thread = (await ada.post("/threads")).json()["thread_id"]
            body = {"input": {"messages": [{"content": "order 16"}]}}
            async with ada.stream("POST", f"/threads/{thread}/runs/stream", json=body) as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                stopping = asyncio.create_task(asyncio.to_thread(ending.stop))
                told = [line async for line in lines if line.startswith("data: ")]
        assert json.loads(told[-1].removeprefix("data: "))["status"] == "success"
        assert await stopping == 0
        assert {json.loads(line)["level"] for line in ending.logs().splitlines()} <= {"INFO"}
