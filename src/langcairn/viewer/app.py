"""The viewer as an ASGI application."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from langcairn.errors import InvalidInput
from langcairn.security.guard import GuardedBackend
from langcairn.viewer.pages import changes, compare, live, storage, thread, threads, values
from langcairn.viewer.security import Gate
from langcairn.viewer.viewing import Viewer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from langcairn.store import CheckpointStore

_STATIC = Path(__file__).parent / "static"


def create_app(
    store: CheckpointStore,
    *,
    write: bool = False,
    token: str | None = None,
    title: str = "",
    host: str = "127.0.0.1",
    hosts: Iterable[str] = (),
) -> Starlette:
    """Return the viewer of a store, to be served or to be mounted at the root of a server.

    Args:
        store: The store, which stays the caller's to close. A guarded one shows what it allows.
        write: Whether threads may be forked, renamed, pruned and deleted.
        token: What a browser must show; without it only this machine may be served.
        title: What to call the store on the pages.
        host: The address that the server listens on.
        hosts: Further names under which browsers reach it; requests for others are refused.

    Raises:
        InvalidInput: The token is too short, or is missing where others reach the viewer; or the
            store is guarded, but not for one name.
    """
    if isinstance(store.backend, GuardedBackend) and not store.backend.is_for_one:
        # What was listed and measured for one would be shown to another.
        raise InvalidInput(
            "a viewer remembers what it has listed and measured, so it serves one user: guard its "
            "store with a name, and make a viewer for each"
        )
    viewer = Viewer(store, title or store.backend.name, write=write)

    async def missing(_request: Request, _error: Exception) -> Response:
        return viewer.refuse(404, "There is no such page", "The threads are a good place to start.")

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await viewer.survey.aclose()

    pages = [
        ("/", threads.show, "GET"),
        ("/thread", thread.show, "GET"),
        ("/compare", compare.show, "GET"),
        ("/value", values.show, "GET"),
        ("/storage", storage.show, "GET"),
        ("/live", live.show, "GET"),
        ("/confirm", changes.confirm, "GET"),
        ("/change", changes.change, "POST"),
    ]
    gate = Middleware(
        Gate,
        host=host,
        hosts=list(hosts),
        token=token,
        refuse=viewer.refuse,
    )
    app = Starlette(
        routes=[
            *(Route(path, viewer.endpoint(page), methods=[method]) for path, page, method in pages),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[gate],
        exception_handlers={404: missing},
        lifespan=lifespan,
    )
    # Starlette makes its middleware at the first request; a bad token is to be said now.
    app.middleware_stack = app.build_middleware_stack()
    app.state.viewer = viewer
    return app
