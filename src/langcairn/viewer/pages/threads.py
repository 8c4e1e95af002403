"""The first page: which threads there are, and what each is doing."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langcairn.errors import InvalidInput
from langcairn.headers import find_newest
from langcairn.thread_id import ThreadId
from langcairn.viewer.timeline import ERROR, INTERRUPT
from langcairn.viewer.viewing import parameter, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from langcairn.backends.base import FoundCheckpoint
    from langcairn.figures import ExecutionStats
    from langcairn.viewer.viewing import Viewer

PAGE = 50  # [threads]
_AT_ONCE = 16  # [requests]
_FIRST_FIGURES = 1.5  # [s to wait for the figures before a page comes without them]

ORDERS = {
    "recent": "Last activity",
    "size": "Size",
    "checkpoints": "Checkpoints",
    "name": "Name",
}


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as a row of the list.

    Attributes:
        id: Its id.
        parsed: Its parts, if it is a `ThreadId`.
        figures: How much it holds; None: not measured yet.
        newest: Its newest checkpoint; None: it has none.
    """

    id: str
    parsed: ThreadId | None
    figures: ExecutionStats | None
    newest: FoundCheckpoint | None

    @property
    def status(self) -> str:
        """What it does: ``failed``, ``waiting``, ``running``, ``resting`` or ``empty``."""
        if self.newest is None:
            return "empty"
        channels = {write.channel for write in self.newest.writes}
        if ERROR in channels:
            return "failed"
        if INTERRUPT in channels:
            return "waiting"
        return "running" if channels else "resting"


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the list, and what is around it."""

    threads: list[Thread]
    page: int
    pages: int
    found: int
    total: int

    @property
    def stamp(self) -> str:
        """What is different as soon as the page would be."""
        newest = [
            f"{one.id}:{one.newest.row.id}:{len(one.newest.writes)}" if one.newest else one.id
            for one in self.threads
        ]
        return f"{self.total}|{'|'.join(newest)}"


async def show(viewer: Viewer, request: Request) -> Response:
    """Answer ``/``."""
    wanted, order = parameter(request, "q", "").strip(), order_of(request)
    listing = await find(viewer, wanted, order, whole_number(request, "page"))
    return viewer.page(
        "threads.html",
        listing=listing,
        wanted=wanted,
        order=order,
        orders=ORDERS,
        survey=viewer.survey,
    )


def order_of(request: Request) -> str:
    """Return the order that a request asks for."""
    order = parameter(request, "sort", "recent")
    if order not in ORDERS:
        raise InvalidInput(f"sort={order[:40]!r} is no order: use {', '.join(ORDERS)}")
    return order


async def find(viewer: Viewer, wanted: str, order: str, page: int) -> Listing:
    """Return a page of the threads whose ids hold a text."""
    survey = viewer.survey
    await survey.look(_FIRST_FIGURES)
    ids = await survey.ids()
    total = len(ids)
    if wanted:
        lowered = wanted.lower()
        ids = [id for id in ids if lowered in id.lower()]
    ids = _sorted(ids, order, survey.figures)
    pages = max(math.ceil(len(ids) / PAGE), 1)
    page = min(page, pages - 1)
    threads = await _threads(viewer, ids[page * PAGE : (page + 1) * PAGE])
    if order == "recent":
        threads.sort(key=_active_at, reverse=True)
    return Listing(threads, page, pages, len(ids), total)


def _sorted(ids: Sequence[str], order: str, figures: dict[str, ExecutionStats]) -> list[str]:
    if order == "name":
        return list(ids)

    def key(id: str) -> float:
        one = figures.get(id)
        if one is None:
            return math.inf  # begun since they were measured
        if order == "size":
            return one.stored_bytes
        if order == "checkpoints":
            return one.checkpoints
        return one.newest.timestamp() if one.newest else 0

    return sorted(ids, key=key, reverse=True)


def _active_at(thread: Thread) -> datetime:
    return thread.newest.row.timestamp if thread.newest else datetime.min.replace(tzinfo=UTC)


async def _threads(viewer: Viewer, ids: Sequence[str]) -> list[Thread]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(id: str) -> Thread:
        async with turns:
            newest = await viewer.store.arun(find_newest(id))
        return Thread(id, _parsed(id), viewer.survey.figures.get(id), newest)

    return await asyncio.gather(*map(one, ids))


def _parsed(id: str) -> ThreadId | None:
    try:
        return ThreadId.parse(id)
    except InvalidInput:
        return None
