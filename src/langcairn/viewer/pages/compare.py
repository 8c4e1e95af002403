"""What is different between two checkpoints of a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from langcairn.errors import CheckpointNotFound, InvalidInput
from langcairn.headers import find_headers
from langcairn.records import valid_execution_id
from langcairn.viewer import detail as details
from langcairn.viewer.viewing import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from langcairn.headers import Header, Key
    from langcairn.viewer.viewing import Viewer

_CHOICES = 200  # [checkpoints offered]


async def show(viewer: Viewer, request: Request) -> Response:
    """Answer ``/compare``: ``a`` and ``b`` are the two, as `key_text` makes them."""
    execution_id = valid_execution_id(parameter(request, "id"))
    after = _key(parameter(request, "b"))
    headers = await viewer.store.arun(find_headers(viewer.codec, execution_id))
    before = (
        _key(parameter(request, "a")) if "a" in request.query_params else _parent(headers, after)
    )
    by_key = {header.key: header for header in headers}
    if after not in by_key:
        raise CheckpointNotFound(
            f"there is no checkpoint {after[1]!r} in execution {execution_id!r}"
        )
    found = None
    if before is not None:
        first = await details.load(viewer, execution_id, before)
        second = await details.load(viewer, execution_id, after)
        found = details.differences(first, second)
    return viewer.page(
        "compare.html",
        id=execution_id,
        before=before,
        after=after,
        choices=_near(headers, [key for key in (before, after) if key is not None]),
        differences=found,
    )


def _key(text: str) -> Key:
    length, colon, quoted = text.partition(":")
    if not colon or not (length.isascii() and length.isdigit() and len(length) < 5):
        raise InvalidInput(f"{text[:60]!r} names no checkpoint: follow a link, or use the form")
    key = unquote(quoted)
    return key[: int(length)], key[int(length) :]


def _parent(headers: Sequence[Header], key: Key) -> Key | None:
    header = next((one for one in headers if one.key == key), None)
    if header is None or header.step.parent_id is None:
        return None
    parent = header.namespace, header.step.parent_id
    return parent if any(one.key == parent for one in headers) else None


def _near(headers: Sequence[Header], chosen: Sequence[Key]) -> list[Header]:
    """Return checkpoints to choose from: those around the chosen ones, and the chosen ones."""
    rows = [row for row, header in enumerate(headers) if header.key in chosen]
    middle = rows[0] if rows else 0
    start = max(0, min(middle - _CHOICES // 2, len(headers) - _CHOICES))
    near = list(headers[start : start + _CHOICES])
    return near + [headers[row] for row in rows if not start <= row < start + _CHOICES]
