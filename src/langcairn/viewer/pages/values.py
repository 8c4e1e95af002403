"""A part of a value that a page left out: the rest of a text, more members, a folded tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langcairn.errors import InvalidInput
from langcairn.records import valid_execution_id
from langcairn.viewer import detail as details
from langcairn.viewer.members import at
from langcairn.viewer.rendering import Renderer
from langcairn.viewer.viewing import is_part, parameter, whole_number

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from langcairn.records import Loaded
    from langcairn.viewer.viewing import Viewer

_DEEPEST = 200  # [positions of a path]


async def show(viewer: Viewer, request: Request) -> Response:
    """Answer ``/value``."""
    execution_id = valid_execution_id(parameter(request, "id"))
    key = parameter(request, "ns", ""), parameter(request, "at")
    of, path = parameter(request, "of", "state"), _path(parameter(request, "path", ""))
    start = whole_number(request, "start") if "start" in request.query_params else None
    loaded = await details.load(viewer, execution_id, key)
    value = at(_place(loaded, of), path)
    place = {"id": execution_id, "ns": key[0], "at": key[1], "of": of}
    body = Renderer(place).part(value, path, start)
    if is_part(request):
        return viewer.page("_part.html", body=body)
    return viewer.page("value.html", body=body, id=execution_id, key=key)


def _path(text: str) -> tuple[int, ...]:
    parts = text.split(".") if text else []
    if len(parts) > _DEEPEST or not all(
        part.isascii() and part.isdigit() and len(part) < 12 for part in parts
    ):
        raise InvalidInput(
            f"path={text[:40]!r} leads nowhere: follow a link, don't write it by hand"
        )
    return tuple(map(int, parts))


def _place(loaded: Loaded, of: str) -> Any:
    match of:
        case "state":
            return loaded.state
        case "writes":
            return [value for _, _, value in loaded.writes]
        case "metadata":
            return loaded.metadata
        case "graph":
            return loaded.graph
    raise InvalidInput(f"of={of[:40]!r} is none of state, writes, metadata, graph")
