"""What a viewer lets through, and what hostile content can do on its pages: be read."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from tests.viewer_client import Page, viewing

from langcairn import (
    Checkpoint,
    CheckpointSaver,
    InvalidInput,
    MemoryCheckpointStore,
    own_executions,
)
from langcairn.viewer import create_app, title_of
from langcairn.viewer.text import showable
from langcairn.viewer.viewing import key_text, url

TOKEN = "a-token-of-some-length"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</textarea></title></style></pre></details><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7*7 }}{% include 'x' %}",
    "//evil.example/x",
    "../../../etc/passwd?x=1&y=2#z",
    "a\u202eb\u2066c\u200fd",
    "&lt;b&gt;&amp;",
    "]]><!--",
    "%3Cscript%3E%00",
    "two\nlines\r\n",
    "日本語 🏔 e\u0301",
]


def save_hostile(store: MemoryCheckpointStore, text: str) -> None:
    """Save a thread with a text in every place that can hold one."""
    call = {"name": text, "args": {text: text, "n": [text]}, "id": text, "type": "tool_call"}
    broken = {"name": text, "args": text, "id": text, "error": text, "type": "invalid_tool_call"}
    messages = [
        SystemMessage(text, id=f"1{text}", name=text),
        HumanMessage([{"type": text, "x": text}, {"type": "text", "text": text}, text], id=text),
        AIMessage(text, id=f"2{text}", tool_calls=[call], invalid_tool_calls=[broken]),
        ToolMessage(text * 60, tool_call_id=text, id=f"3{text}", status="error", name=text),
    ]
    state = {text: text, "messages": messages, "deep": {text: [{text: {text}}]}, "b": text.encode()}
    for number, parent in (("1", None), ("2", "1")):
        store.save(
            Checkpoint(
                execution_id=text,
                id=number + text,
                parent_id=None if parent is None else parent + text,
                namespace="",
                node_name=text,
                state={**state, "n": number, text: text + number},
                metadata={"source": text, "fork_name": text, "step": 1, text: text},
                timestamp=datetime.now(UTC),
            )
        )
    store.save(
        Checkpoint(execution_id=text, id="9" + text, namespace=text, state=text, node_name=text)
    )
    saver = CheckpointSaver(store)
    config = {"configurable": {"thread_id": text, "checkpoint_ns": "", "checkpoint_id": "2" + text}}
    writes = [(text, text), ("__error__", ValueError(text).args[0]), ("__interrupt__", text)]
    saver.put_writes(config, writes, text)  # type: ignore[arg-type]  # a RunnableConfig


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts_are_read_not_run(text: str) -> None:
    # `Page` fails for any tag, attribute or address that isn't ours.
    async with MemoryCheckpointStore() as store:
        save_hostile(store, text)
        async with viewing(store, write=True, title=text) as client:
            shown = showable(text)
            page = await client.page("/")
            assert shown in page.text
            assert (await client.page(url("/", q=text))).tags["li"] == 1
            assert shown in (await client.page("/storage")).text
            for tab in ("state", "changes", "writes", "details"):
                page = await client.page(url("/thread", id=text, at="2" + text, tab=tab))
                assert shown in page.text
            page = await client.page(url("/thread", id=text, at="2" + text))
            assert page.text.count(shown) > 20
            for link in page.links:
                assert link.startswith(("/", "#"))
                if link.startswith("/value"):
                    await client.page(link)
                    await client.page(link, viewer_part="part")
            assert (
                shown in (await client.page(url("/thread", id=text, ns=text, at="9" + text))).text
            )
            for name in ("fork", "rename", "prune", "delete-checkpoint", "delete-thread"):
                page = await client.page(url("/confirm", action=name, id=text, at="2" + text))
                assert unquote(page.fields["id"]) == text
            compare = await client.page(compare_link(text))
            assert shown in compare.text
            page = await client.page(url("/confirm", action="fork", id=text, at="2" + text))
            assert (await client.submit(page, name="fork")).status_code == 303
            assert len(store.list(text)) == 4
            for path in ("/thread", "/value", "/compare", "/confirm"):
                answer = await client.http.get(
                    url(
                        path, id=text, at=text, tab=text, b=text, path=text, action=text, start=text
                    )
                )
                assert answer.status_code in (400, 404)
                Page(answer.text)
            page = await client.page(url("/confirm", action="delete-thread", id=text))
            assert (await client.submit(page)).status_code == 303
            assert await store.aexecutions() == []


def compare_link(text: str) -> str:
    """Return the address that compares the two checkpoints of a hostile thread."""
    return url("/compare", id=text, a=key_text(("", f"1{text}")), b=key_text(("", f"2{text}")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\0b", "a␀b"),
        ("a\ud800b", "a⟨U+D800⟩b"),
        ("\u202etxt.exe", "⟨U+202E⟩txt.exe"),
        ("tab\tnew\nline", "tab\tnew\nline"),
        (
            "a\u200bb\u00adc\u3164d\U000e0041e\ue000",
            "a⟨U+200B⟩b⟨U+00AD⟩c⟨U+3164⟩d⟨U+E0041⟩e⟨U+E000⟩",
        ),
        ("👩\u200d🚀 é\u00a0x", "👩\u200d🚀 é\u00a0x"),
        ("\x1b[31m\x7f\x9b", "␛[31m⟨U+007F⟩⟨U+009B⟩"),
    ],
)
async def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state={"x": text, "y": [text]}))
        page = await client.page("/thread?id=t")
    assert page.text.count(shown) >= 2


HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


@pytest.mark.parametrize("path", ["/", "/thread?id=x", "/nothing", "/static/viewer.js", "/live"])
async def test_headers(path: str) -> None:
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        answer = await client.http.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert path.startswith("/static") or answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:99", 200),
        ("LOCALHOST", 200),
        ("viewer.internal", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost@evil.example", 421),
        ("10.0.0.1", 421),
        ("[", 421),
        ("", 421),
    ],
)
async def test_only_known_names_are_served(host: str, status: int) -> None:
    async with (
        MemoryCheckpointStore() as store,
        viewing(store, hosts=["viewer.internal"]) as client,
    ):
        answer = await client.http.get("/", headers={"host": host})
    assert answer.status_code == status
    assert "<" not in answer.text or status == 200


@pytest.mark.parametrize(
    ("host", "status"), [("10.0.0.1:80", 200), ("[fe80::1]", 200), ("evil.example", 421)]
)
async def test_open_to_all_is_reached_by_address(host: str, status: int) -> None:
    async with (
        MemoryCheckpointStore() as store,
        viewing(store, host="0.0.0.0", token=TOKEN) as client,
    ):
        answer = await client.http.get(
            f"/?token={TOKEN}", headers={"host": host}, follow_redirects=True
        )
    assert answer.status_code == status


async def test_token() -> None:
    async with (
        MemoryCheckpointStore() as store,
        viewing(store, token=TOKEN, title="secret.db") as client,
    ):
        for path in ("/", "/thread?id=x", "/live", "/?token=wrong", "/?token=", "/?token=%ff"):
            page = await client.page(path, 401)
            assert "secret.db" not in page.text
        assert (await client.http.post("/change")).status_code == 401
        assert (await client.http.get("/static/viewer.css")).status_code == 200
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert (await client.http.get("/", headers=bearer)).status_code == 200
        assert (await client.http.get("/", headers={"authorization": TOKEN})).status_code == 401
        answer = await client.http.get(f"/?token={TOKEN}&q=a%26b")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/?q=a%26b"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        await client.page("/")  # the client keeps the cookie


async def test_token_leads_to_no_other_site() -> None:
    async with MemoryCheckpointStore() as store, viewing(store, token=TOKEN) as client:
        answer = await client.http.get(f"http://localhost//evil.example/?token={TOKEN}")
    assert answer.headers["location"] == "/evil.example/"


@pytest.mark.parametrize(
    "options",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.168.1.2"},
        {"host": ""},
        {"token": "short"},
        {"token": "ä" * 20},
    ],
)
def test_no_open_door(options: dict[str, str]) -> None:
    with MemoryCheckpointStore() as store, pytest.raises(InvalidInput):
        create_app(store, **options)  # type: ignore[arg-type]  # all are texts


async def test_forms_from_elsewhere_change_nothing() -> None:
    async with MemoryCheckpointStore() as store, viewing(store, write=True) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state={}))
        page = await client.page("/confirm?action=delete-thread&id=t")
        good = page.fields
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://localhost:1"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            answer = await client.http.post("/change", data=good, headers=headers)
            assert answer.status_code == 403
        for csrf in ("", "x", good["csrf"][:-1]):
            answer = await client.http.post("/change", data={**good, "csrf": csrf})
            assert answer.status_code == 403
        assert (await client.http.post("/change", data={"id": "t"})).status_code == 403
        assert (await client.http.get(url("/change", **good))).status_code == 405
        answer = await client.http.post("/change", data={**good, "name": "x" * 70_000})
        assert answer.status_code == 413
        answer = await client.http.request("DELETE", "/change")
        assert answer.status_code == 405
        assert await store.aexecutions() == ["t"]
        answer = await client.http.post(
            "/change", data=good, headers={"origin": "http://localhost"}
        )
        assert answer.status_code == 303
        assert await store.aexecutions() == []


async def test_read_only_changes_nothing() -> None:
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state={}))
        page = await client.page("/thread?id=t")
        assert not [link for link in page.links if "confirm" in link]
        fields = {"csrf": "x", "action": "delete-thread", "id": "t"}
        assert (await client.http.post("/change", data=fields)).status_code == 403
        assert await store.aexecutions() == ["t"]


async def test_guarded_store_shows_what_it_allows() -> None:
    async with MemoryCheckpointStore() as store:
        await store.asave(Checkpoint(execution_id="t", id="1", state={}))
        guarded = store.guard(own_executions, "ada")
        async with viewing(guarded, write=True) as client:
            page = await client.page("/")
            assert "Nothing here yet" in page.text
            assert "may not read" in (await client.page("/thread?id=t", 403)).text


def test_viewer_is_for_one_user() -> None:
    with MemoryCheckpointStore() as store:
        guarded = store.guard(own_executions, lambda: "ada")
        with pytest.raises(InvalidInput, match="one user"):
            create_app(guarded)


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ("postgresql://me:secret@host:1/db?password=secret", "postgresql://me@host:1/db"),
        ("redis://:secret@host/0#x", "redis://@host/0"),
        ("sqlite:////tmp/a.db?synchronous=OFF", "sqlite:////tmp/a.db"),
        ("memory:", "memory:"),
    ],
)
def test_title_has_no_secret(given: str, title: str) -> None:
    assert title_of(given) == title
