"""Who may ask, from where, and what a page may do: the middleware before every page."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SHORTEST_TOKEN = 16  # [characters]
_LARGEST_FORM = 64 * 1024  # [bytes]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_HEADERS = {
    # No inline script or style, nothing from elsewhere, no page around this one.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With "no-referrer" browsers send forms from "null", as if they were another site's.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Gate:
    """Lets through what comes from the right place with the right token, and marks what leaves.

    Args:
        app: What is behind the gate.
        host: The address that the server listens on.
        hosts: Further names under which it is reached.
        token: What a browser must have shown once; None: nothing.
        refuse: Makes the page for a request that isn't let through, of a status and a reason.

    Raises:
        InvalidInput: The token is too short, or none is given for an address others reach.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        hosts: Iterable[str],
        token: str | None,
        refuse: Callable[[int, str, str], Response],
    ) -> None:
        check_token(host, token)
        self._app = app
        self._token = token
        self._refuse = refuse
        self._is_open = host in ("0.0.0.0", "::", "")  # noqa: S104 -- asked for, not chosen
        self._names = {name.lower() for name in (*_LOOPBACK, *hosts)}
        if self._is_open:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        else:
            self._names.add(host.lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/static/"):
                    headers["cache-control"] = "no-store"
            await send(message)

        response = self._answer(scope)
        await (response or self._app)(scope, receive, marked)

    def _answer(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._knows(host):
            # Another site's name that was made to lead here (DNS rebinding): its scripts could
            # read whatever we answer.
            return PlainTextResponse(
                f"This viewer is not known as {host[:100]!r}. Open it under the address that it "
                "printed, or start it with --allow-host.\n",
                421,
            )
        if self._token is not None and not scope["path"].startswith("/static/"):
            response = self._admit(scope, headers)
            if response is not None:
                return response
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("Only GET, HEAD and POST are served.\n", 405)
        if scope["method"] == "POST":
            return self._check_post(headers)
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None:
            return False
        if name in self._names:
            return True
        if not self._is_open:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address can't be made to lead elsewhere

    def _admit(self, scope: Scope, headers: Headers) -> Response | None:
        name = cookie_name(scope)
        cookies = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except Exception:  # noqa: BLE001 -- what another program set there is no cookie of ours
            cookies.clear()
        shown = cookies[name].value if name in cookies else ""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if self._is_token(shown) or (scheme.lower() == "bearer" and self._is_token(bearer)):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for key, value in query if key == "token"), None)
        if given is not None and self._is_token(given) and scope["method"] == "GET":
            # Away from the address line, where it would be seen, copied and kept.
            rest = urlencode([(key, value) for key, value in query if key != "token"])
            response = RedirectResponse(f"{_local(scope['path'])}?{rest}".rstrip("?"), 303)
            response.set_cookie(name, given, httponly=True, samesite="lax", path="/")
            return response
        return self._refuse(
            401,
            "This viewer asks for its token" if given is None else "That is not the token",
            "Open the address with ?token=… that it printed when it was started, or enter the "
            "token here.",
        )

    def _is_token(self, text: str) -> bool:
        return self._token is not None and secrets.compare_digest(
            text.encode("utf-8", "replace"), self._token.encode()
        )

    def _check_post(self, headers: Headers) -> Response | None:
        site = headers.get("sec-fetch-site", "same-origin")
        origin = headers.get("origin")
        if site not in ("same-origin", "none") or (
            origin is not None and urlsplit(origin).netloc != headers.get("host")
        ):
            return self._refuse(
                403,
                "That came from another site",
                "Nothing was changed. Only the viewer's own pages may ask for changes.",
            )
        try:
            length = int(headers.get("content-length", "-1"))
        except ValueError:
            length = -1
        if not 0 <= length <= _LARGEST_FORM:
            return self._refuse(413, "That is too much", "No form of the viewer is that large.")
        return None


def check_token(host: str, token: str | None) -> None:
    """Check that what others can reach is kept by a token.

    Raises:
        InvalidInput: It isn't, or the token could be guessed.
    """
    if token is None and not is_loopback(host):
        raise InvalidInput(
            f"a viewer at {host!r} can be reached by others: give it a token, or leave the host "
            "at 127.0.0.1"
        )
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii()):
        raise InvalidInput(f"a token has at least {_SHORTEST_TOKEN} characters, all ASCII")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def cookie_name(scope: Scope) -> str:
    """Return the name of the cookie: one for each port, which browsers don't tell apart."""
    server = scope.get("server") or ("", 0)
    return f"langcairn-{server[1]}"


def _local(path: str) -> str:
    """Return a path that can't be taken for another site's address (``//evil``)."""
    return "/" + path.lstrip("/\\")
