"""The viewer in a real Chromium. ``make browser`` runs these.

``LANGCAIRN_SCREENSHOTS=docs/images`` makes the pictures of the docs anew.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn
from langchain_core.messages import HumanMessage
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.browser import chromium
from tests.test_viewer_security import HOSTILE, save_hostile

from langcairn import Checkpoint, CheckpointStore, MemoryCheckpointStore
from langcairn.viewer import create_app
from langcairn.viewer.demo import CLAIM, REPORT, TRAIL, fill
from langcairn.viewer.viewing import url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30  # [s]
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = chromium.find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.path,
            # As root, which CI is, Chromium's sandbox doesn't start.
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
            env={**os.environ, **found.environment},
        )
        yield browser
        browser.close()


class Served:
    """A viewer on a port of 127.0.0.1 that the system chose."""

    def __init__(self, store: CheckpointStore, token: str | None = None) -> None:
        self.store = store
        app = create_app(store, write=True, token=token, title="postgresql://agents@db/production")
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Served:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            assert self._thread.is_alive()
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    with MemoryCheckpointStore() as store:
        fill(store)
        with Served(store) as served:
            yield served


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens pages on which nothing may go wrong."""
    problems: list[str] = []
    contexts = []

    def open_page(width: int = 1380, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]  # "light" or "dark"
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def test_from_the_list_to_a_value(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(served.address)
    page.get_by_label("Search thread ids").fill("trail")
    page.keyboard.press("Enter")
    expect(page.locator(".list li")).to_have_count(1)
    page.get_by_text(TRAIL).first.click()
    expect(page.get_by_role("heading", name="Node “review” waits for an answer")).to_be_visible()
    # Another step is shown beside the timeline, without a new page.
    page.evaluate("window.here = true")
    page.locator(".step", has_text="publish").click()
    expect(page.locator("#detail h2")).to_have_text("publish")
    expect(page.get_by_text("The guide is out.")).to_be_visible()
    expect(page.locator(".step.selected .node")).to_have_text("publish")
    page.get_by_role("tab", name="Changes").click()
    expect(page.get_by_text("1 added")).to_be_visible()
    assert page.evaluate("window.here")
    page.go_back()
    expect(page.get_by_text("The guide is out.")).to_be_visible()
    # What is folded is loaded when it is opened.
    message = page.locator(".message.ai").last
    message.hover()
    message.get_by_text("all fields").click()
    expect(message.get_by_text("response_metadata")).to_be_visible()


def test_keys(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(served.address)
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_label("Search thread ids")).to_be_focused()
    page.keyboard.press("j")  # is text there
    expect(page.get_by_label("Search thread ids")).to_have_value("j")
    page.get_by_label("Search thread ids").fill("")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(".cursor")).to_contain_text(TRAIL)
    page.keyboard.press("Enter")
    expect(page.locator("#detail h2")).to_have_text("agent")
    page.keyboard.press("j")
    expect(page.locator("#detail h2")).to_have_text("tools")
    page.keyboard.press("2")
    expect(page.get_by_text("Since the parent checkpoint")).to_be_visible()
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="What changed")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator("#detail h2")).to_have_text("tools")
    page.keyboard.press("u")
    expect(page.get_by_role("heading", name="Threads")).to_be_visible()
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_news_appear_by_themselves(served: Served, open_page: Callable[..., Page]) -> None:
    listed, thread = open_page(), open_page()
    listed.goto(served.address)
    thread.goto(served.address + url("/thread", id=CLAIM))
    expect(thread.locator(".step")).to_have_count(3)
    thread.locator(".live.on").wait_for()
    last = served.store.list(CLAIM, limit=1)[0]
    served.store.save(Checkpoint(execution_id=CLAIM, id=f"f{last.id}", parent_id=last.id, state={}))
    expect(thread.locator(".step")).to_have_count(4, timeout=PATIENCE * 1000)
    served.store.save(Checkpoint(execution_id="brand-new", state={}))
    expect(listed.get_by_text("brand-new")).to_be_visible(timeout=PATIENCE * 1000)


def test_deleting_asks_first(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(served.address + url("/thread", id=REPORT))
    page.locator(".headline").get_by_role("link", name="Delete…").click()
    expect(page.get_by_text("be undone.")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("h1")).to_have_text(REPORT)
    page.locator(".headline").get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete the thread").click()
    expect(page.get_by_role("status")).to_have_text("Deleted")
    assert REPORT not in served.store.executions()


def test_fork_and_name(served: Served, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(served.address + url("/thread", id=CLAIM))
    page.get_by_role("link", name="Fork here…").click()
    page.get_by_label("Name of the branch").fill("second <b>try</b>")
    page.get_by_role("button", name="Fork").click()
    expect(page.locator(".branches")).to_contain_text("second <b>try</b>")
    assert served.store.forks(CLAIM)[1].name == "second <b>try</b>"


def test_hostile_content_stays_text(open_page: Callable[..., Page]) -> None:
    # A script that ran would open a dialog, and one that was stopped would be in the console.
    text = "".join(HOSTILE[:5])
    with MemoryCheckpointStore() as store:
        save_hostile(store, text)
        with Served(store) as served:
            page = open_page()
            for tab in ("state", "changes", "writes", "details"):
                page.goto(served.address + url("/thread", id=text, at="2" + text, tab=tab))
                expect(page.locator("h1")).to_have_text(text)
            page.keyboard.press("j")
            page.goto(served.address)
            expect(page.locator(".title").first).to_have_text(text)
            assert page.evaluate("document.images.length") == 0


def test_token_is_entered_once(open_page: Callable[..., Page]) -> None:
    with MemoryCheckpointStore() as store, Served(store, TOKEN) as served:
        page = open_page()
        page.goto(f"{served.address}/?token={TOKEN}")
        assert page.url == f"{served.address}/"
        expect(page.get_by_role("heading", name="Nothing here yet")).to_be_visible()
        page.goto(f"{served.address}/storage")
        expect(page.get_by_role("heading", name="Storage")).to_be_visible()


def test_earlier_messages(open_page: Callable[..., Page]) -> None:
    messages = [HumanMessage(f"said {n}.", id=str(n)) for n in range(70)]
    with MemoryCheckpointStore() as store:
        store.save(Checkpoint(execution_id="t", id="1", state={"messages": messages}))
        with Served(store) as served:
            page = open_page()
            page.goto(served.address + url("/thread", id="t"))
            page.get_by_text("Show 40 earlier messages").click()
            page.get_by_text("Show 10 earlier messages").click()
            expect(page.locator(".message")).to_have_count(70)
            said = page.locator(".said").all_text_contents()
            assert said == [f"said {n}." for n in range(70)]


@pytest.mark.parametrize("width", [360, 820, 1380])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out(
    served: Served, open_page: Callable[..., Page], width: int, scheme: str
) -> None:
    page = open_page(width=width, scheme=scheme)
    long = "x" * 300
    served.store.save(Checkpoint(execution_id=long, id=long, state={long: long}, node_name=long))
    for path in ("/", url("/thread", id=TRAIL), url("/thread", id=long), "/storage"):
        page.goto(served.address + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(1")
    assert dark == (scheme == "dark")


SHOTS = {
    "viewer-threads": ("/", "light"),
    "viewer-thread": (url("/thread", id=TRAIL), "light"),
    "viewer-changes": (url("/thread", id=REPORT, tab="changes"), "dark"),
    "viewer-storage": ("/storage", "dark"),
}


@pytest.mark.parametrize("name", SHOTS)
def test_pictures(
    served: Served, open_page: Callable[..., Page], name: str, tmp_path: Path
) -> None:
    path, scheme = SHOTS[name]
    directory = Path(os.environ.get("LANGCAIRN_SCREENSHOTS", tmp_path))
    page = open_page(1200, 760, scheme)
    page.goto(served.address + path)
    page.wait_for_load_state("networkidle")
    picture = page.screenshot(path=directory / f"{name}.png")
    assert len(picture) < 200_000
