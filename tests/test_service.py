"""The reference service: users, runs, interrupts, answers to what is wrong; in this process."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.ports import HOST, hold_port, number_of

from examples.service.app import create_app
from examples.service.settings import BadSetting, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fastapi import FastAPI

ADA, BOB = "ada-0123456789abcdefghij", "bob-0123456789abcdefghij"

Client = httpx.AsyncClient


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# token user\n{ADA} ada\n\n{BOB} bob\n")
    return Settings(store=f"sqlite:///{tmp_path}/service.db", tokens_file=tokens)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, token: str = "", address: str = "192.0.2.1") -> Client:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, client=(address, 50000))
    return Client(transport=transport, base_url="http://service", headers=headers)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with serving(settings) as app:
        yield app


@pytest.fixture
def ada(app: FastAPI) -> Client:
    return client_of(app, ADA)


@pytest.fixture
def bob(app: FastAPI) -> Client:
    return client_of(app, BOB)


async def new_thread(client: Client) -> str:
    answer = await client.post("/threads")
    assert answer.status_code == 201
    return str(answer.json()["thread_id"])


async def run(client: Client, thread: str, **body: Any) -> Any:
    answer = await client.post(f"/threads/{thread}/runs/wait", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def saying(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages]


# --- who ----------------------------------------------------------------------------------------


async def test_threads_of_users_are_apart(ada: Client, bob: Client) -> None:
    thread = await new_thread(ada)
    done = await run(ada, thread, input=saying("my secret"))
    assert "my secret" in done["messages"][0]["content"]

    state = (await ada.get(f"/threads/{thread}/state")).json()
    for method, path, body in (
        ("GET", "state", None),
        ("GET", f"state?checkpoint_id={state['checkpoint_id']}", None),
        ("GET", "history", None),
        ("DELETE", "", None),
        ("POST", "runs/wait", {"input": saying("mine now")}),
        ("POST", "runs/wait", {}),
        ("POST", "runs/stream", {"input": saying("mine now")}),
        ("GET", f"runs/{done['run_id']}", None),
        ("GET", f"runs/{done['run_id']}/stream", None),
        ("GET", f"runs/{done['run_id']}/join", None),
        ("POST", f"runs/{done['run_id']}/cancel", None),
    ):
        answers = [
            await bob.request(method, f"/threads/{id}/{path}".rstrip("/"), json=body)
            for id in (thread, thread[:-4] + "0000")
        ]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        # Whether there is such a thread can't be told.
        assert answers[0].content == answers[1].content, (method, path)

    assert (await bob.get("/threads")).json() == {"thread_ids": []}
    assert (await ada.get("/threads")).json() == {"thread_ids": [thread]}
    assert (await ada.get(f"/threads/{thread}/state")).json() == state


async def test_nobody_is_refused(app: FastAPI) -> None:
    for token in ("", ADA[:-1], "Ada-0123456789abcdefghij"):
        answer = await client_of(app, token).get("/threads")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    # Without trusted proxies a name in a header is only a claim.
    answer = await client_of(app).get("/threads", headers={"x-user": "ada"})
    assert answer.status_code == 401
    assert (await client_of(app).get("/health")).status_code == 200


async def test_a_proxy_that_is_trusted_names_the_user(settings: Settings) -> None:
    trusting = replace(settings, user_header="x-user", trusted_proxies=(ip_network("10.1.0.0/16"),))
    async with serving(trusting) as app:
        headers = {"x-user": "eve~chat"}
        thread = (await client_of(app, address="10.1.2.3").post("/threads", headers=headers)).json()
        assert thread["thread_id"].startswith("eve=7Echat~chat~")
        others = client_of(app, address="10.2.0.1")
        assert (await others.get("/threads", headers=headers)).status_code == 401
        # Nor does a token help who claims to be somebody else.
        both = {**headers, "authorization": f"Bearer {ADA}"}
        assert (await others.get("/threads", headers=both)).status_code == 401
        doubled = [("x-user", "ada"), ("x-user", "bob")]
        proxy = client_of(app, address="10.1.2.3")
        assert (await proxy.get("/threads", headers=doubled)).status_code == 401
        assert (
            await others.get("/threads", headers={"authorization": f"Bearer {ADA}"})
        ).json() == {"thread_ids": []}


# --- runs ----------------------------------------------------------------------------------------


async def test_interrupt_and_resume(ada: Client) -> None:
    thread = await new_thread(ada)
    asked = await run(ada, thread, input=saying("order 16, then refund 17"))
    assert asked["status"] == "interrupted"
    assert asked["interrupts"][0]["value"] == {"approve": "refund", "args": {"order": 17}}
    assert (await ada.get(f"/threads/{thread}/state")).json()["next"] == ["approve"]

    done = await run(ada, thread, command={"resume": True})
    assert done["status"] == "success"
    assert texts(done["messages"])[-1] == "Order 16 was sent 3 days ago. Order 17 is refunded."

    await run(ada, thread, input=saying("refund 18"))
    refused = await run(ada, thread, command={"resume": False})
    assert texts(refused["messages"])[-1] == "A person said no."


async def test_history_pages_and_forks(ada: Client) -> None:
    thread = await new_thread(ada)
    for text in ("one", "two", "three"):
        await run(ada, thread, input=saying(text))
    pages = [(await ada.get(f"/threads/{thread}/history?limit=4")).json()]
    while pages[-1]:
        before = pages[-1][-1]["checkpoint_id"]
        found = await ada.get(f"/threads/{thread}/history?limit=4&before={before}")
        pages.append(found.json())
    history = [one for page in pages for one in page]
    assert len({one["checkpoint_id"] for one in history}) == len(history) == 9
    assert all(
        one["parent_checkpoint_id"] == other["checkpoint_id"] for one, other in pairwise(history)
    )
    after_one = next(one for one in history[::-1] if len(one["values"].get("messages", ())) == 2)

    await run(ada, thread, input=saying("other"), checkpoint_id=after_one["checkpoint_id"])
    state = (await ada.get(f"/threads/{thread}/state")).json()
    assert [text for text in texts(state["values"]["messages"]) if "You" not in text] == [
        "one", "other",
    ]  # fmt: skip
    old = await ada.get(f"/threads/{thread}/state?checkpoint_id={history[0]['checkpoint_id']}")
    assert len(old.json()["values"]["messages"]) == 6


async def test_a_run_from_what_is_not_there_is_refused(ada: Client, bob: Client) -> None:
    mine, theirs = await new_thread(ada), await new_thread(bob)
    await run(ada, mine, input=saying("hello"))
    await run(bob, theirs, input=saying("hello"))
    before = (await ada.get(f"/threads/{mine}/state")).json()
    foreign = (await bob.get(f"/threads/{theirs}/state")).json()["checkpoint_id"]
    for checkpoint in (foreign, "gone"):
        body = {"input": saying("more"), "checkpoint_id": checkpoint}
        for path in ("wait", "stream"):
            answer = await ada.post(f"/threads/{mine}/runs/{path}", json=body)
            assert answer.status_code == 404, answer.text
    assert (await ada.get(f"/threads/{mine}/state")).json() == before


async def test_threads_are_paged_and_deleted(ada: Client) -> None:
    threads = [await new_thread(ada) for _ in range(3)]
    for thread in threads:
        await run(ada, thread, input=saying("hello"))
    first = (await ada.get("/threads?limit=2")).json()["thread_ids"]
    rest = (await ada.get(f"/threads?limit=2&after={first[-1]}")).json()["thread_ids"]
    assert [*first, *rest] == threads
    assert (await ada.delete(f"/threads/{threads[0]}")).status_code == 204
    assert (await ada.delete(f"/threads/{threads[0]}")).status_code == 404
    assert (await ada.get("/threads")).json()["thread_ids"] == threads[1:]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="nothing to go on with"),
        pytest.param({"command": {"resume": True}}, id="nothing to answer"),
        pytest.param({"input": {"messages": []}}, id="no message"),
        pytest.param(
            {"input": {"messages": [{"role": "assistant", "content": "x"}]}}, id="the agent's role"
        ),
        pytest.param(
            {"input": {"messages": [{"content": "x", "tool_calls": []}]}}, id="another field"
        ),
        pytest.param({"input": saying("x" * 20_001)}, id="too long"),
        pytest.param({"input": saying("x"), "command": {"resume": True}}, id="both"),
        pytest.param({"input": saying("x"), "on_disconnect": "explode"}, id="no such choice"),
        pytest.param({"input": saying("x\ud800")}, id="half a character"),
    ],
)
async def test_bad_input(ada: Client, body: dict[str, Any]) -> None:
    thread = await new_thread(ada)
    for path in ("wait", "stream"):
        answer = await ada.post(
            f"/threads/{thread}/runs/{path}",
            content=json.dumps(body),  # httpx' own can't send half a character
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 422, (path, answer.text)
    assert (await ada.get(f"/threads/{thread}/state")).json()["values"] == {}
    # And the thread isn't thought to be running.
    assert (await run(ada, thread, input=saying("hello")))["status"] == "success"


@pytest.mark.parametrize(
    ("thread", "status"),
    [("x", 404), ("ada~chat~x", 404), ("..%2f..%2fada", 404), ("%00", 422), ("a" * 500, 422)],
)
async def test_what_is_no_thread_id_is_refused(ada: Client, thread: str, status: int) -> None:
    assert (await ada.get(f"/threads/{thread}/state")).status_code == status
    body = {"input": saying("hello")}
    assert (await ada.post(f"/threads/{thread}/runs/wait", json=body)).status_code == status


async def test_older_content_may_move_to_object_storage(settings: Settings, tmp_path: Path) -> None:
    moving = replace(settings, objects=f"file://{tmp_path}/objects")
    async with serving(moving) as app:
        ada = client_of(app, ADA)
        thread = await new_thread(ada)
        await run(ada, thread, input=saying("x" * 20_000))
        state = (await ada.get(f"/threads/{thread}/state")).json()
        assert len(state["values"]["messages"]) == 2


async def test_too_many_runs(settings: Settings) -> None:
    async with serving(replace(settings, max_runs=1, model_seconds=30)) as app:
        ada = client_of(app, ADA)
        one, other = await new_thread(ada), await new_thread(ada)
        begun = (await ada.post(f"/threads/{one}/runs", json={"input": saying("slow")})).json()
        refused = await ada.post(f"/threads/{other}/runs/wait", json={"input": saying("hello")})
        assert (refused.status_code, refused.json()["error"]) == (503, "busy")
        assert refused.headers["retry-after"]
        answer = await ada.post(f"/threads/{one}/runs/{begun['run_id']}/cancel")
        assert answer.json()["status"] == "stopped"
        going = await ada.get("/ready")
        assert going.json() == {"status": "ready", "runs": 0}


# --- probes, metrics, settings --------------------------------------------------------------------


async def test_a_store_out_of_reach_is_not_ready_but_alive(settings: Settings) -> None:
    with hold_port() as holder:
        url = f"postgresql://nobody@{HOST}:{number_of(holder)}/none"
        lost = replace(settings, store=url, ready_seconds=0.2, store_deadline=0.3)
        async with serving(lost) as app:
            ada = client_of(app, ADA)
            assert (await ada.get("/health")).status_code == 200
            answer = await ada.get("/ready")
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            thread = await new_thread(ada)
            for path in ("wait", "stream"):
                answer = await ada.post(
                    f"/threads/{thread}/runs/{path}", json={"input": saying("hello")}
                )
                assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
                assert answer.headers["retry-after"]
                assert "postgres" not in answer.text


async def test_metrics_name_routes_and_no_threads(app: FastAPI, ada: Client) -> None:
    thread = await new_thread(ada)
    await run(ada, thread, input=saying("hello"))
    await ada.get("/nothing/here")
    found = (await client_of(app).get("/metrics")).text
    assert 'service_runs_total{status="success"} 1.0' in found
    route = 'method="POST",route="/threads/{thread_id}/runs/wait",status="200"'
    assert f"service_requests_total{{{route}}} 1.0" in found
    assert 'route="none",status="404"' in found or 'route="none",status="401"' in found
    assert 'langcairn_operations_total{backend="sqlite",operation="put",outcome="ok"}' in found
    assert thread not in found
    assert "ada" not in found


GOOD = {"LANGCAIRN_STORE": "memory:", "SERVICE_TOKENS_FILE": "/tokens"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({**GOOD, "LANGCAIRN_STORE": ""}, "LANGCAIRN_STORE is not set"),
        ({**GOOD, "SERVICE_TOKENS_FILE": " "}, "nobody could log in"),
        ({**GOOD, "SERVICE_USER_HEADER": "X-User"}, "needs SERVICE_TRUSTED_PROXIES"),
        ({**GOOD, "SERVICE_PORT": "80000"}, "SERVICE_PORT='80000'"),
        ({**GOOD, "SERVICE_FINISH_SECONDS": "nan"}, "SERVICE_FINISH_SECONDS='nan'"),
        ({**GOOD, "SERVICE_ONE_WRITER": "none"}, "one of lease, check, process"),
        ({**GOOD, "SERVICE_TRUSTED_PROXIES": "10.0.0.1/8"}, "SERVICE_TRUSTED_PROXIES"),
    ],
)
def test_bad_settings_are_named(environment: dict[str, str], said: str) -> None:
    assert Settings.from_environment(GOOD).store == "memory:"
    with pytest.raises(BadSetting, match=said):
        Settings.from_environment(environment)


@pytest.mark.parametrize("content", [None, "", "short ada", f"{ADA} ada lovelace"])
def test_bad_tokens_files_are_named(
    settings: Settings, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "bad tokens"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadSetting, match="bad tokens") as caught:
        create_app(replace(settings, tokens_file=file))
    assert ADA not in str(caught.value)
