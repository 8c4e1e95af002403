"""What all pages share: the store, the templates, and how an error is told."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from langcairn.cache import Caches
from langcairn.codec.serde import SafeSerializer
from langcairn.codec.standins import InspectingSerializer
from langcairn.errors import (
    AccessDenied,
    CairnError,
    CheckpointNotFound,
    Conflict,
    CorruptData,
    DecryptionFailed,
    InvalidInput,
    StoreClosed,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)
from langcairn.operations import Codec
from langcairn.viewer import text as words
from langcairn.viewer.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from langcairn.headers import Key
    from langcairn.store import CheckpointStore

    Page = Callable[["Viewer", Request], Awaitable[Response]]

PATIENCE = 40.0
"""How long a page waits for the store [s]. Backends say by themselves that they give up, sooner."""

_logger = logging.getLogger(__name__)

_CACHE = 64 * 2**20  # [bytes, about]
_LONGEST = 4096  # [characters of one parameter]


class Viewer:
    """A store as it is shown.

    Attributes:
        store: The store.
        codec: How its values are read to be shown: those of types that aren't loaded, too.
        title: What it is called.
        write: Whether it may be changed from here.
        csrf: What every form must bring back.
        survey: Figures of all threads.
    """

    def __init__(self, store: CheckpointStore, title: str, *, write: bool) -> None:
        self.store = store
        self.codec = _inspecting(store.codec)
        self.title = title
        self.write = write
        self.csrf = secrets.token_urlsafe(32)
        self.survey = Survey(store)
        self._templates = Environment(
            loader=PackageLoader("langcairn.viewer"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_finalize,
        )
        self._templates.globals.update(
            viewer=self,
            words=words,
            url=url,
            ago=words.ago,
            exactly=words.exactly,
            label=label,
            key_text=key_text,
        )
        # What comes back from a form has to be what it was, also where it can't be seen; a browser
        # would even change line breaks in it.
        self._templates.filters.update(exact=escape, quoted=_quoted, coded=_coded)

    def page(self, template: str, **context: Any) -> HTMLResponse:
        """Return a page, or a part of one."""
        return HTMLResponse(self._templates.get_template(template).render(**context))

    def refuse(self, status: int, title: str, remedy: str) -> Response:
        """Return the page for what isn't let through or doesn't exist."""
        return self._problem(status, title, "", remedy)

    def endpoint(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """Return a page as Starlette calls it: in time, and with errors as pages."""

        async def answer(request: Request) -> Response:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await page(self, request)
            except TimeoutError:
                return self.tell(
                    StoreUnavailable(f"the store has not answered for {PATIENCE:.0f} s")
                )
            except CairnError as error:
                return self.tell(error)
            except Exception:
                # Values are of the user's classes, which may do anything when they are looked at.
                _logger.exception("the page %s failed", request.url.path)
                return self.refuse(
                    500,
                    "This page could not be made",
                    "That is a bug of langcairn's, or of a class whose values are stored here. The "
                    "viewer's terminal shows where; please report it.",
                )

        return answer

    def tell(self, error: CairnError) -> Response:
        """Return the page for an error."""
        status, title, remedy = explain(error)
        return self._problem(status, title, str(error), remedy)

    def _problem(self, status: int, title: str, message: str, remedy: str) -> Response:
        template = self._templates.get_template("error.html")
        text = template.render(status=status, title=title, message=message, remedy=remedy)
        return HTMLResponse(text, status)


def _inspecting(codec: Codec) -> Codec:
    """Return a codec that reads what another one does, and makes stand-ins of unknown types."""
    if type(codec.serde) is not SafeSerializer:
        return codec  # the user's own, which knows better
    # With caches of its own: stand-ins are nobody else's values.
    return Codec(InspectingSerializer(), Caches(_CACHE, codec.format), codec.format)


_EXPLAINED: list[tuple[type[CairnError], int, str, str]] = [
    (
        StoreUnavailable,
        503,
        "The store can't be reached",
        "Is its server running, and reachable from here? This page tries again by itself; "
        "`langcairn doctor` looks into it.",
    ),
    (StoreFull, 507, "The store is full", "Free some space, or prune old checkpoints."),
    (
        StoreMisconfigured,
        500,
        "This store can't be used as it is",
        "Check the URL and the table's name. A database of LangGraph's own savers is brought over "
        "with `langcairn migrate`; one that a newer langcairn made needs that version.",
    ),
    (StoreClosed, 503, "The store was closed", "Start the viewer again."),
    (
        CheckpointNotFound,
        404,
        "There is no such checkpoint",
        "It may have been pruned or deleted. The thread shows what is there.",
    ),
    (
        Conflict,
        409,
        "Somebody else is writing to this thread",
        "Wait until the run is over, then try again. Nothing was changed.",
    ),
    (
        AccessDenied,
        403,
        "That is not allowed",
        "The policy of this store's guard decides that, not the viewer.",
    ),
    (
        DecryptionFailed,
        500,
        "This can't be decrypted",
        "Start the viewer with the store's key, `--encryption env:NAME`. If it has that, what is "
        "stored is damaged: `langcairn verify` says what else is.",
    ),
    (
        CorruptData,
        500,
        "What is stored is damaged",
        "`langcairn verify` says what else is. A backup, or an earlier checkpoint, has it whole.",
    ),
    (InvalidInput, 400, "That can't be done", "Go back and try it another way."),
    (CairnError, 500, "That failed", "`langcairn doctor` may know why."),
]


def explain(error: CairnError) -> tuple[int, str, str]:
    """Return an error's HTTP status, what it is, and what to do."""
    return next(
        (status, title, remedy)
        for kind, status, title, remedy in _EXPLAINED
        if isinstance(error, kind)
    )


def url(path: str, /, **parameters: object) -> str:
    """Return an address with parameters; those that are None are left out."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def label(node_name: str, source: object = "") -> str:
    """Return what to call the step before a checkpoint.

    Args:
        node_name: The nodes that ran.
        source: Why the checkpoint was taken, as LangGraph's metadata say it.
    """
    if source == "input":
        return "input"
    if node_name:
        return "start" if node_name == "__start__" else node_name
    return str(source) if source in ("update", "fork", "loop") else "saved by hand"


def key_text(key: Key) -> str:
    """Return a namespace and an id as one parameter; both may hold any character."""
    return f"{len(key[0])}:{_quoted(key[0] + key[1])}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def parameter(request: Request, name: str, default: str | None = None) -> str:
    """Return a parameter of a request.

    Raises:
        InvalidInput: It is missing or too long.
    """
    value = request.query_params.get(name, default)
    if value is None:
        raise InvalidInput(f"the address lacks {name}=…: follow a link, don't write it by hand")
    if len(value) > _LONGEST:
        raise InvalidInput(f"{name} has {len(value)} characters; {_LONGEST} is the most")
    return value


def whole_number(request: Request, name: str, default: int = 0) -> int:
    """Return a parameter that counts something.

    Raises:
        InvalidInput: It is none.
    """
    value = parameter(request, name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        raise InvalidInput(f"{name}={value[:40]!r} is no whole number")
    return int(value)


def is_part(request: Request) -> bool:
    """Tell whether a script asks, for a part of a page."""
    return "viewer-part" in request.headers


def _coded(text: str) -> Markup:
    """Return a text as HTML in which what stands between backticks is code."""
    forms = (Markup("{}"), Markup("<code>{}</code>"))
    pieces = enumerate(text.split("`"))
    return Markup().join(forms[number % 2].format(piece) for number, piece in pieces)


def _finalize(value: Any) -> Any:
    # Markup is a str, too, but of a type of its own: that was made fit before.
    return words.showable(value) if type(value) is str else value
