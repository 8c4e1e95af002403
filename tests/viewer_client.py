"""Asks a viewer without a server, and reads its pages strictly."""

from __future__ import annotations

from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx

from langcairn.viewer import create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langcairn import CheckpointStore

VOID = {"meta", "link", "input", "br"}
_NAMES = """
html head title script body a header nav span button svg use main dialog h1 h2 h3 dl div dt dd kbd
form p strong b i ol ul li small section circle path rect line text details summary pre code time
label select option meter del ins
"""
TAGS = VOID | set(_NAMES.split())


class Page(HTMLParser):
    """A page whose tags are balanced and all known; what could run code is an error.

    Attributes:
        text: What is written on it.
        links: The targets of its links.
        related: One target for each ``rel``.
        fields: The fields of its forms.
        tags: How often each tag occurs.
        classes: The classes of its elements.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.text = ""
        self.links: list[str] = []
        self.related: dict[str, str] = {}
        self.fields: dict[str, str] = {}
        self.tags: dict[str, int] = {}
        self.classes: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        assert tag in TAGS, f"<{tag}> is none of ours"
        assert not [name for name in given if name.startswith("on")]
        assert "style" not in given
        for name in ("href", "src", "action"):
            target = given.get(name) or "/"
            assert target.startswith(("/", "#")), target
            assert not target.startswith("//"), target
        if tag == "script":
            assert given.get("src") == "/static/viewer.js"
        if tag == "a":
            self.links.append(given.get("href") or "")
            self.related.setdefault(given.get("rel") or "", given.get("href") or "")
        if tag == "input" and given.get("name"):
            self.fields[str(given["name"])] = given.get("value") or ""
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.classes += (given.get("class") or "").split()
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data

    def link(self, part: str) -> str:
        """Return the first link whose target holds a text."""
        return next(link for link in self.links if part in link)


class Client:
    """Asks for pages of a viewer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def page(self, path: str, status: int = 200, **headers: str) -> Page:
        """Return a page, which must have a status."""
        answer = await self.http.get(
            path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    async def submit(self, page: Page, **fields: str) -> httpx.Response:
        """Send the form of a page."""
        return await self.http.post("/change", data={**page.fields, **fields})


@asynccontextmanager
async def viewing(
    store: CheckpointStore, base: str = "http://localhost", **options: Any
) -> AsyncIterator[Client]:
    """Yield a client of a viewer on a store."""
    app = create_app(store, **options)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            yield Client(http)
    finally:
        await app.state.viewer.survey.aclose()
