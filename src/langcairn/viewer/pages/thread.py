"""A thread: its timeline, and beside it one of its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn.backends.base import Position
from langcairn.errors import CheckpointNotFound
from langcairn.headers import find_headers, find_written
from langcairn.records import valid_execution_id
from langcairn.viewer import detail as details
from langcairn.viewer import timeline
from langcairn.viewer.pages.live import thread_stamp
from langcairn.viewer.viewing import parameter, url, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from langcairn.headers import Header, Key
    from langcairn.viewer.viewing import Viewer


async def show(viewer: Viewer, request: Request) -> Response:
    """Answer ``/thread``."""
    execution_id = valid_execution_id(parameter(request, "id"))
    tab = parameter(request, "tab", "state")
    asked: Key | None = None
    if "at" in request.query_params:
        asked = parameter(request, "ns", ""), parameter(request, "at")
    if asked is not None and request.headers.get("viewer-part") == "detail":
        shown = await details.build(viewer, execution_id, asked, tab)
        return viewer.page(
            "_detail.html", id=execution_id, key=asked, detail=shown, tabs=details.TABS
        )
    stamp = await thread_stamp(viewer, execution_id)
    headers = await viewer.store.arun(find_headers(viewer.codec, execution_id))
    if not headers:
        return await _nothing(viewer, execution_id)
    start = whole_number(request, "start") if "start" in request.query_params else None
    key, start = _choose(headers, asked, start)
    after = None
    if start:
        before = headers[start - 1]
        after = Position(before.step.id, execution_id, before.namespace)
    written = await viewer.store.arun(find_written(execution_id, after, timeline.WINDOW))
    drawn = timeline.draw(headers, written, start, key, url("/thread", id=execution_id, start=""))
    shown = await details.build(viewer, execution_id, key, tab)
    await viewer.survey.look(0)
    return viewer.page(
        "thread.html",
        id=execution_id,
        key=key,
        timeline=drawn,
        detail=shown,
        tabs=details.TABS,
        stamp=stamp,
        newest=headers[0],
        oldest=headers[-1],
        figures=viewer.survey.figures.get(execution_id),
    )


def _choose(headers: Sequence[Header], asked: Key | None, start: int | None) -> tuple[Key, int]:
    """Return the checkpoint to show, and the first row of the window.

    Raises:
        CheckpointNotFound: The one that was asked for isn't there.
    """
    if asked is None and start is None:
        newest = next((one for one in headers if not one.namespace), headers[0])
        asked = newest.key
    if start is None:
        row = next((n for n, one in enumerate(headers) if one.key == asked), None)
        if row is None or asked is None:
            raise CheckpointNotFound(
                f"there is no checkpoint {asked and asked[1]!r} in this thread"
            )
        start = row // timeline.WINDOW * timeline.WINDOW
    start = min(start, len(headers) - 1)
    if asked is None or all(one.key != asked for one in headers):
        asked = headers[start].key
    return asked, start


async def _nothing(viewer: Viewer, execution_id: str) -> Response:
    known = execution_id in await viewer.survey.ids()
    return viewer.refuse(
        404,
        "This thread has no checkpoints" if known else "There is no such thread",
        "All of them were deleted. A run with this thread id begins anew."
        if known
        else "It may have been deleted, or have another name. The list of threads can be searched.",
    )
