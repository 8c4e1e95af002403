"""Tells scripts whether what a page shows is still so, without making the page."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from langcairn.headers import find_newest
from langcairn.records import valid_execution_id
from langcairn.viewer.pages import threads
from langcairn.viewer.viewing import parameter, whole_number

if TYPE_CHECKING:
    from starlette.requests import Request

    from langcairn.viewer.viewing import Viewer


async def show(viewer: Viewer, request: Request) -> Response:
    """Answer ``/live``: with a stamp of one thread, or of a page of the list of all."""
    if "id" in request.query_params:
        execution_id = valid_execution_id(parameter(request, "id"))
        return JSONResponse({"stamp": await thread_stamp(viewer, execution_id)})
    wanted = parameter(request, "q", "").strip()
    order, page = threads.order_of(request), whole_number(request, "page")
    listing = await threads.find(viewer, wanted, order, page)
    return JSONResponse({"stamp": stamp(listing.stamp)})


async def thread_stamp(viewer: Viewer, execution_id: str) -> str:
    """Return what is different as soon as something of a thread is."""
    newest = await viewer.store.arun(find_newest(execution_id))
    if newest is None:
        return "none"
    # The epoch is raised by every removal, also of what isn't the newest.
    writes = len(newest.writes)
    return stamp(f"{newest.row.id}:{newest.row.namespace}:{writes}:{newest.epoch}")


def stamp(text: str) -> str:
    """Return a short text that stands for a long one."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()
