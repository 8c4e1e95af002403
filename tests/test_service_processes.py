"""The reference service in processes of its own, on PostgreSQL: streams, races, faults, ends."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from benchmarks.service_load.client import Client
from benchmarks.service_load.users import Account, User, verify
from tests.postgres_server import PostgresServer
from tests.service_process import PATIENCE, ServiceProcess

from examples.service.app import create_app
from examples.service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

USERS = 8


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer(durable=True)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def slow(postgres: PostgresServer, logs: Path) -> Iterator[ServiceProcess]:
    """A process whose model takes its time for each answer."""
    with ServiceProcess(postgres.url(), logs / "slow", model_seconds=0.2) as service:
        yield service


@pytest.fixture
async def elsewhere(postgres: PostgresServer) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's client of the same service in another process: in this one."""
    proxies = (ip_network("127.0.0.1"),)
    app = create_app(Settings(postgres.url(), user_header="x-user", trusted_proxies=proxies))
    transport = httpx.ASGITransport(app)
    client = httpx.AsyncClient(
        transport=transport, base_url="http://elsewhere", headers={"x-user": "ada"}
    )
    async with app.router.lifespan_context(app), client:
        yield client


async def new_thread(client: httpx.AsyncClient) -> str:
    return str((await client.post("/threads")).json()["thread_id"])


def saying(text: str, **others: Any) -> dict[str, Any]:
    return {"input": {"messages": [{"content": text}]}, **others}


async def events_of(answer: httpx.Response) -> AsyncIterator[tuple[str, str, Any]]:
    """Yield kind, id and data of server-sent events."""
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif event:
            yield event["event"], event["id"], json.loads(event["data"])
            event = {}


async def said(client: httpx.AsyncClient, thread: str) -> list[str]:
    state = (await client.get(f"/threads/{thread}/state")).json()
    return [message["content"] for message in state["values"].get("messages", ())]


async def test_a_stream_that_broke_is_taken_up_again(slow: ServiceProcess) -> None:
    async with slow.client("ada") as ada:
        thread = await new_thread(ada)
        runs = f"/threads/{thread}/runs"
        body = saying("order 16", stream_mode=["messages", "updates"])
        seen = []
        async with ada.stream("POST", f"{runs}/stream", json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for event in events_of(answer):
                seen.append(event)
                if event[0] == "updates":
                    break  # the network is gone, in the midst of the run
        run = seen[0][2]["run_id"]
        assert [id for _, id, _ in seen] == [f"{run}-{number}" for number in range(len(seen))]

        headers = {"last-event-id": seen[-1][1]}
        async with ada.stream("GET", f"{runs}/{run}/stream", headers=headers) as answer:
            rest = [event async for event in events_of(answer)]
        whole = [*seen, *rest]
        assert [id for _, id, _ in whole] == [f"{run}-{number}" for number in range(len(whole))]
        assert whole[-1][0] == "end"
        assert whole[-1][2]["status"] == "success"
        words = [data[0]["content"] for kind, _, data in whole if kind == "messages"]
        assert "Order 16 was sent 3 days ago." in "".join(words)
        assert (await ada.get(f"{runs}/{run}/join")).json() == whole[-1][2]
        assert (await said(ada, thread))[-1] == "Order 16 was sent 3 days ago."


async def test_a_run_that_nobody_waits_for_is_cancelled_if_so_asked(slow: ServiceProcess) -> None:
    async with slow.client("ada") as ada:
        for path in ("wait", "stream"):
            thread = await new_thread(ada)
            body = saying("order 1, order 2, order 3, order 4, order 5", on_disconnect="cancel")
            with suppress(httpx.ReadTimeout):
                async with ada.stream(
                    "POST", f"/threads/{thread}/runs/{path}", json=body, timeout=0.5
                ) as answer:
                    async for _ in events_of(answer):
                        break
            # As soon as it has ended, the thread can go on, from what its steps had done.
            for _ in range(PATIENCE * 20):
                done = await ada.post(f"/threads/{thread}/runs/wait", json={})
                if done.status_code != 409:
                    break
                await asyncio.sleep(0.05)
            assert done.status_code == 200
            assert done.json()["messages"][-1]["content"].count("was sent") == 5
            assert "order 1, order 2, order 3, order 4, order 5" in await said(ada, thread)


async def test_one_run_of_a_thread_at_a_time(
    slow: ServiceProcess, elsewhere: httpx.AsyncClient
) -> None:
    async with slow.client("ada") as ada:
        thread = await new_thread(ada)
        runs = f"/threads/{thread}/runs"
        async with ada.stream("POST", f"{runs}/stream", json=saying("order 1, order 2")) as answer:
            events = events_of(answer)
            await anext(events)
            for client in (ada, elsewhere):
                for path in ("wait", "stream"):
                    refused = await client.post(f"{runs}/{path}", json=saying("me, too"))
                    assert (refused.status_code, refused.json()["error"]) == (409, "conflict")
                    assert refused.headers["retry-after"]
            rest = [event async for event in events]
        assert rest[-1][2]["status"] == "success"
        assert "me, too" not in await said(ada, thread)
        done = await elsewhere.post(f"{runs}/wait", json=saying("me, now"))
        assert done.status_code == 200
        assert (await said(ada, thread))[-2] == "me, now"


async def test_nothing_is_lost_when_postgres_restarts(
    postgres: PostgresServer, slow: ServiceProcess
) -> None:
    account, stop = Account(counting=True), asyncio.Event()
    client = Client(int(slow.url.rpartition(":")[2]))
    users = [User(f"restart{number}", client, account) for number in range(USERS)]
    talks = [asyncio.create_task(user.talk(stop)) for user in users]
    await _more(account, talks)
    for end in (postgres.stop, postgres.kill):
        await asyncio.to_thread(end)
        async with slow.client("ada") as ada:
            assert (await ada.get("/health")).status_code == 200
        for user in users:
            if user.thread is not None:
                user.thread.doubtful = True
        await asyncio.to_thread(postgres.start)
        await _more(account, talks)
    stop.set()
    await asyncio.gather(*talks)
    assert account.wrong == []
    verified, lost = await verify(account.ended, {user.name: client for user in users})
    assert lost == []
    assert verified >= USERS
    # Who came while it was away has waited, and wasn't told of it.
    assert set(account.outcomes) == {"200"}
    client.close()


async def _more(account: Account, talks: list[asyncio.Task[None]]) -> None:
    """Wait until every user was served again, twice."""
    begin = len(account.latencies)
    before = dict(account.latest)
    for _ in range(PATIENCE * 100):
        await asyncio.sleep(0.01)
        assert not any(talk.done() for talk in talks)
        served = len(account.latest) == USERS and all(
            time > before.get(name, 0.0) for name, time in account.latest.items()
        )
        if served and len(account.latencies) >= begin + 2 * USERS:
            return
    raise AssertionError("users are not served")


async def test_the_end_of_a_process_loses_nothing(
    postgres: PostgresServer, logs: Path, elsewhere: httpx.AsyncClient
) -> None:
    with ServiceProcess(
        postgres.url(), logs / "ending", model_seconds=0.2, finish_seconds=3
    ) as ending:
        async with ending.client("ada") as ada:
            short, long, other = [await new_thread(ada) for _ in range(3)]
            wishes = ", ".join(f"order {number}" for number in range(30))
            async with (
                ada.stream("POST", f"/threads/{long}/runs/stream", json=saying(wishes)) as answer,
                ada.stream(
                    "POST", f"/threads/{short}/runs/stream", json=saying("order 1")
                ) as little,
            ):
                events, few = events_of(answer), events_of(little)
                await anext(few)
                ending.terminate()
                # No more runs are begun, but who comes is told so.
                assert await _no_longer_ready(ada) == "draining"
                refused = await ada.post(f"/threads/{other}/runs/wait", json=saying("hello"))
                assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
                # What takes a short while comes to its end,
                assert [event async for event in few][-1][2]["status"] == "success"
                # and the rest stops after the step it is in.
                told = [event async for event in events]
            kind, _, last = told[-1]
            assert (kind, last["status"], last["error"]["error"]) == ("end", "stopped", "stopped")
            assert await asyncio.to_thread(ending.wait) == 0
        log = [json.loads(line) for line in (logs / "ending").read_text().splitlines()]
        assert {line["level"] for line in log} == {"INFO"}

    assert (await said(elsewhere, short))[-1] == "Order 1 was sent 2 days ago."
    kept = await said(elsewhere, long)
    updates = [
        message["content"]
        for kind, _, data in told
        if kind == "updates"
        for update in data.values()
        for message in update["messages"]
    ]
    assert 1 <= len(updates) < 60
    assert kept == [wishes, *updates]  # all that clients were told, and nothing else
    done = await elsewhere.post(f"/threads/{long}/runs/wait", json={})
    assert done.status_code == 200, done.text
    whole = await said(elsewhere, long)
    assert whole[: len(kept)] == kept
    assert whole[-1].count("was sent") == 30
    assert len(whole) == 1 + 2 * 30 + 1  # no step was made twice


def test_a_signal_ends_it_while_it_begins(postgres: PostgresServer, logs: Path) -> None:
    """Process 1 of a container has no default for signals: nobody else would end it in time."""
    log = logs / "beginning"
    beginning = ServiceProcess(postgres.url(), log)
    try:
        for _ in range(PATIENCE * 1000):
            if beginning.catches(signal.SIGTERM):
                break
            time.sleep(0.001)
        beginning.terminate()
        assert beginning.wait() == 0
        assert log.read_text() == ""  # uvicorn, which handles signals itself, has said nothing yet
    finally:
        beginning.kill()


async def _no_longer_ready(client: httpx.AsyncClient) -> str:
    for _ in range(PATIENCE * 50):
        answer = await client.get("/ready")
        if answer.status_code != 200:
            return str(answer.json()["error"])
        await asyncio.sleep(0.02)
    raise AssertionError("it is ready for ever")
