"""The reference service: what one request or user may take, and that its store is watched."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.ports import HOST, hold_port, number_of
from tests.postgres_server import PostgresServer
from tests.test_deploy import expressions
from tests.test_service import ADA, BOB, client_of, new_thread, run, saying, serving

from examples.service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fastapi import FastAPI

PATIENCE = 30  # [s]
MOST = 2000  # [bytes]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{ADA} ada\n{BOB} bob\n")
    return Settings(f"sqlite:///{tmp_path}/service.db", tokens_file=tokens, max_body_bytes=MOST)


# --- bodies ---------------------------------------------------------------------------------------


def body_of(size: int) -> bytes:
    """Return a run's body of a size [bytes]."""
    empty = json.dumps({"input": saying("")}).encode()
    return json.dumps({"input": saying("x" * (size - len(empty)))}).encode()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["", "/wait", "/stream"])
async def test_a_body_has_a_largest_size(settings: Settings, path: str, chunked: bool) -> None:
    sent = 0

    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        nonlocal sent
        for begin in range(0, len(body), 100):
            yield body[begin : begin + 100]
            sent += 1

    async with serving(settings) as app:
        ada = client_of(app, ADA)
        thread = await new_thread(ada)
        for size, status in ((100 * MOST, 413), (MOST + 1, 413), (MOST, 202 if not path else 200)):
            sent = 0
            body = body_of(size)
            assert len(body) == size
            answer = await ada.post(
                f"/threads/{thread}/runs{path}",
                content=pieces(body) if chunked else body,
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == status, answer.text
            if status == 413:
                assert answer.json()["error"] == "too_large"
                assert str(MOST) in answer.json()["message"]
                assert answer.headers["connection"] == "close"
                assert sent <= MOST // 100 + 1  # no more was taken than showed that it is too large
                assert (await ada.get(f"/threads/{thread}/state")).json()["values"] == {}


async def test_a_length_that_is_no_length_does_not_help(settings: Settings) -> None:
    async with serving(settings) as app:
        ada = client_of(app, ADA)
        for length, status in (("9" * 5000, 413), ("1", 413), ("-1", 413), ("1_0", 413)):
            answer = await ada.post(
                "/threads",
                content=b" " * (MOST + 1),
                headers={"content-type": "application/json", "content-length": length},
            )
            assert answer.status_code == status, length


async def test_who_is_nobody_sends_no_body(settings: Settings) -> None:
    async with serving(settings) as app:
        answer = await client_of(app).post("/threads", content=b" " * (MOST + 1))
        assert answer.status_code == 401


async def test_an_answer_to_an_interrupt_is_not_too_deep(settings: Settings) -> None:
    async with serving(replace(settings, max_body_bytes=1 << 20)) as app:
        ada = client_of(app, ADA)
        thread = await new_thread(ada)
        await run(ada, thread, input=saying("refund 17"))
        for depth, status in ((600, 422), (51, 422), (50, 200)):
            value: Any = True
            for number in range(depth):
                value = [value] if number % 2 else {"a": value}
            answer = await ada.post(
                f"/threads/{thread}/runs/wait", json={"command": {"resume": value}}
            )
            assert answer.status_code == status, (depth, answer.text)


# --- runs of one user -----------------------------------------------------------------------------


async def test_one_user_does_not_take_all_runs(settings: Settings) -> None:
    async with serving(replace(settings, max_runs_per_user=2, model_seconds=30)) as app:
        ada, bob = client_of(app, ADA), client_of(app, BOB)
        body = {"input": saying("slow")}
        begun = []
        for _ in range(2):
            thread = await new_thread(ada)
            answer = await ada.post(f"/threads/{thread}/runs", json=body)
            assert answer.status_code == 202
            begun.append(f"/threads/{thread}/runs/{answer.json()['run_id']}/cancel")

        thread = await new_thread(ada)
        for path in ("", "/wait", "/stream"):
            refused = await ada.post(f"/threads/{thread}/runs{path}", json=body)
            assert (refused.status_code, refused.json()["error"]) == (429, "busy")
            assert refused.headers["retry-after"]
        others = await new_thread(bob)
        answer = await bob.post(f"/threads/{others}/runs", json=body)
        assert answer.status_code == 202
        begun_by_bob = f"/threads/{others}/runs/{answer.json()['run_id']}/cancel"

        # What has ended counts no more; what was refused never did.
        assert (await ada.post(begun[0])).json()["status"] == "stopped"
        answer = await ada.post(f"/threads/{thread}/runs", json=body)
        assert answer.status_code == 202
        begun[0] = f"/threads/{thread}/runs/{answer.json()['run_id']}/cancel"
        for one in begun:
            assert (await ada.post(one)).status_code == 200
        assert (await bob.post(begun_by_bob)).status_code == 200


# --- the store is watched -------------------------------------------------------------------------

LOGICAL = {"langcairn_sharing_ratio"}
"""The service's monitor doesn't measure sharing: it would read the whole store each time."""
ABSENT = {
    # SQLite's connections aren't a pool with a limit.
    "sqlite": LOGICAL | {"langcairn_pool_connections", "langcairn_pool_limit"},
    # PostgreSQL says nothing of the file system that it is on.
    "postgres": LOGICAL | {"langcairn_free_bytes", "langcairn_capacity_bytes"},
}


def wanted() -> set[str]:
    """Return the metrics that rules and dashboard ask for."""
    names = {
        re.sub(r"(?<=operation_seconds)_(bucket|count|sum)$", "", name)
        for expression in expressions()
        for name in re.findall(r"\blangcairn_\w+", expression)
    }
    assert len(names) > 10
    return names


async def shown(app: FastAPI, until: str, least: float = 0) -> dict[str, float]:
    """Return the metrics that have values, and their sums, once one is there and so much."""
    client = client_of(app)
    async with asyncio.timeout(PATIENCE):
        while True:
            found: dict[str, float] = {}
            for family in text_string_to_metric_families((await client.get("/metrics")).text):
                for sample in family.samples:
                    name = sample.name if family.type != "histogram" else family.name
                    found[name] = found.get(name, 0) + sample.value
            if found.get(until, -1) >= least:
                return found
            await asyncio.sleep(0.02)


def monitors() -> int:
    return sum(task.get_name() == "langcairn-monitor" for task in asyncio.all_tasks())


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
async def test_rules_and_dashboard_find_their_metrics(settings: Settings, backend: str) -> None:
    if backend == "postgres":
        server = PostgresServer()
        try:
            await check_metrics(replace(settings, store=server.start().url()), ABSENT[backend])
        finally:
            server.remove()
    else:
        await check_metrics(settings, ABSENT[backend])


async def check_metrics(settings: Settings, absent: set[str]) -> None:
    async with serving(settings) as app:
        assert monitors() == 1
        ada = client_of(app, ADA)
        await run(ada, await new_thread(ada), input=saying("hello"))
        found = await shown(app, "langcairn_executions")
        assert wanted() - found.keys() == absent
        assert found["langcairn_up"] == 1
    assert monitors() == 0


async def test_rounds_are_repeated(settings: Settings) -> None:
    async with serving(replace(settings, monitor_seconds=0.05)) as app:
        ada = client_of(app, ADA)
        assert (await shown(app, "langcairn_executions"))["langcairn_executions"] == 0
        await run(ada, await new_thread(ada), input=saying("hello"))
        assert (await shown(app, "langcairn_executions", 1))["langcairn_executions"] == 1


async def test_without_a_monitor(settings: Settings) -> None:
    async with serving(replace(settings, monitor_seconds=0)) as app:
        assert monitors() == 0
        ada = client_of(app, ADA)
        await run(ada, await new_thread(ada), input=saying("hello"))
        assert "langcairn_up" not in await shown(app, "langcairn_operations_total")


async def test_rounds_that_fail_end_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with hold_port() as holder:
        url = f"postgresql://nobody@{HOST}:{number_of(holder)}/none"
        lost = replace(settings, store=url, store_deadline=0.3, monitor_seconds=0.05)
        async with serving(lost) as app:
            assert (await shown(app, "langcairn_up"))["langcairn_up"] == 0
            # And there are others after the first.
            await shown(app, "langcairn_operations_total", 3)
            assert (await client_of(app).get("/health")).status_code == 200
            assert monitors() == 1
    assert monitors() == 0
    said = [one for one in caplog.messages if one.startswith("P0 unavailable: ")]
    assert len(said) == 1
