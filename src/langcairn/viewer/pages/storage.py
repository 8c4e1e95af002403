"""How much is stored: all in all, over time, and by thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn.viewer import plots

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from langcairn.viewer.viewing import Viewer

_LARGEST = 20  # [threads]
_WAIT = 5.0  # [s for the first figures]


async def show(viewer: Viewer, request: Request) -> Response:  # noqa: ARG001 -- as every page is called
    """Answer ``/storage``."""
    survey = viewer.survey
    await survey.look(_WAIT)
    figures = sorted(survey.figures.values(), key=lambda one: one.stored_bytes, reverse=True)
    largest = figures[:_LARGEST]
    most = largest[0].stored_bytes if largest else 0
    return viewer.page(
        "storage.html",
        survey=survey,
        total=survey.total,
        largest=largest,
        most=most or 1,
        rest=figures[_LARGEST:],
        rest_bytes=sum(one.stored_bytes for one in figures[_LARGEST:]),
        curve=plots.over_time(figures),
    )
