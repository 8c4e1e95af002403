"""What a viewer may change with ``--write``: forks, their names, pruning and deleting.

Each begins with a page that says what will happen, and only its form does it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from starlette.responses import RedirectResponse

from langcairn import retention
from langcairn.errors import AccessDenied, InvalidInput
from langcairn.forking import fork_at
from langcairn.headers import find_headers
from langcairn.records import valid_execution_id
from langcairn.viewer.viewing import parameter, url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from langcairn.viewer.viewing import Viewer


class Action(NamedTuple):
    """Something to do, as it is asked about."""

    title: str
    button: str
    is_deleting: bool
    needs_checkpoint: bool


ACTIONS = {
    "fork": Action("Fork here", "Fork", is_deleting=False, needs_checkpoint=True),
    "rename": Action("Name this branch", "Save the name", is_deleting=False, needs_checkpoint=True),
    "prune": Action("Prune this thread", "Prune", is_deleting=True, needs_checkpoint=False),
    "delete-checkpoint": Action(
        "Delete this checkpoint", "Delete the checkpoint", is_deleting=True, needs_checkpoint=True
    ),
    "delete-thread": Action(
        "Delete this thread", "Delete the thread", is_deleting=True, needs_checkpoint=False
    ),
}
_KEEP = 10  # [checkpoints of each namespace, unless another number is entered]


async def confirm(viewer: Viewer, request: Request) -> Response:
    """Answer ``/confirm``: say what will happen, and ask."""
    _allowed(viewer)
    name = parameter(request, "action")
    action = _action(name)
    execution_id = valid_execution_id(parameter(request, "id"))
    namespace, at = parameter(request, "ns", ""), parameter(request, "at", "")
    headers = await viewer.store.arun(find_headers(viewer.codec, execution_id))
    header = next((one for one in headers if one.key == (namespace, at)), None)
    if action.needs_checkpoint and header is None:
        raise InvalidInput(f"checkpoint {at!r} isn't there any more; go back to the thread")
    return viewer.page(
        "confirm.html",
        action=action,
        name=name,
        id=execution_id,
        header=header,
        count=len(headers),
        namespaces=len({one.namespace for one in headers}),
        keep=_KEEP,
    )


async def change(viewer: Viewer, request: Request) -> Response:
    """Answer ``/change``: do what a form of `confirm` asks for."""
    _allowed(viewer)
    async with request.form(max_files=0, max_fields=20) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    if not secrets.compare_digest(fields.get("csrf", "").encode(), viewer.csrf.encode()):
        raise AccessDenied(
            "the form was made by another viewer, or before this one was started: go back, load "
            "the page again and repeat it"
        )
    execution_id = valid_execution_id(unquote(fields.get("id", "")))
    name = fields.get("action", "")
    action = _action(name)
    place = await _change(viewer, name, execution_id, fields)
    viewer.survey.forget()
    done = "deleted" if action.is_deleting else "saved"
    return RedirectResponse(f"{place}{'&' if '?' in place else '?'}done={done}", 303)


async def _change(viewer: Viewer, name: str, execution_id: str, fields: Mapping[str, str]) -> str:
    """Do it. Returns where to go then."""
    store = viewer.store
    namespace, at = unquote(fields.get("ns", "")), unquote(fields.get("at", ""))
    given = fields.get("name", "").strip() or None
    thread = url("/thread", id=execution_id)
    match name:
        case "fork":
            copy = await store.arun(fork_at(store.codec, execution_id, at, given))
            return url("/thread", id=execution_id, at=copy)
        case "rename":
            await store.aname_fork(at, given, execution_id=execution_id, namespace=namespace)
            return url("/thread", id=execution_id, ns=namespace, at=at)
        case "prune":
            keep = _keep(fields.get("keep", ""))
            await store.arun(retention.keep_newest(store.codec, execution_id, keep))
            return thread
        case "delete-checkpoint":
            await store.adelete(at, execution_id=execution_id, namespace=namespace)
            return thread
        case _:
            await store.aclear(execution_id)
            return "/"


def _keep(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise InvalidInput(f"{text[:40]!r} is no number of checkpoints to keep: use 1 or more")
    return int(text)


def _allowed(viewer: Viewer) -> None:
    if not viewer.write:
        raise AccessDenied("this viewer only shows; start it with --write to change things")


def _action(name: str) -> Action:
    action = ACTIONS.get(name)
    if action is None:
        raise InvalidInput(f"action={name[:40]!r} is none of {', '.join(ACTIONS)}")
    return action
