"""Who asks: by a bearer token, or by what a trusted proxy says."""

from __future__ import annotations

import hashlib
from contextvars import ContextVar
from ipaddress import ip_address
from typing import TYPE_CHECKING

from examples.service.answers import problem
from examples.service.settings import BadSetting

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from examples.service.settings import Settings

user: ContextVar[str] = ContextVar("user")
"""The user of the request that is being served. Runs inherit it; the store's guard asks it."""

OPEN_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""What probes and Prometheus read without being anybody. A proxy in front doesn't pass them on."""


class Identity:
    """Finds out who asks.

    Args:
        settings: Where users are named.

    Raises:
        BadSetting: The file with the tokens can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        file = settings.tokens_file
        # Hashed, so that looking one up takes no time that depends on how much of it is right.
        self._tokens = {} if file is None else _read_tokens(file)
        self._header = None if settings.user_header is None else settings.user_header.encode()
        self._proxies = settings.trusted_proxies
        self._trusted: dict[str, bool] = {}

    def of(self, scope: Scope) -> str | None:
        """Return the user of a request; None if it doesn't say, or not credibly."""
        headers = dict(scope["headers"])
        if self._header is not None and self._header in headers:
            # Of two such headers one is the client's own: the proxy must have removed it.
            if sum(name == self._header for name, _ in scope["headers"]) != 1:
                return None
            return _text(headers[self._header]) if self._is_trusted(scope) else None
        kind, _, token = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer":
            return None
        return self._tokens.get(_hashed(token.strip()))

    def _is_trusted(self, scope: Scope) -> bool:
        address = (scope.get("client") or ("",))[0]
        known = self._trusted.get(address)
        if known is None:
            try:
                known = any(ip_address(address) in network for network in self._proxies)
            except ValueError:  # no IP address: a Unix socket, a test
                known = False
            if len(self._trusted) < 1000:
                self._trusted[address] = known
        return known


class IdentityMiddleware:
    """Refuses requests of nobody, and sets `user` for the others."""

    def __init__(self, app: ASGIApp, identity: Identity) -> None:
        self._app = app
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        who = self._identity.of(scope)
        if not who:
            answer = problem(401, "unauthenticated", "say who you are: Authorization: Bearer …")
            answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send)
            return
        token = user.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            user.reset(token)


def _hashed(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _read_tokens(file: Path) -> dict[bytes, str]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"SERVICE_TOKENS_FILE {str(file)!r} can't be read: {error}") from error
    tokens: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or len(words[0]) < 20:
            # Not the line itself: logs are no place for a token.
            raise BadSetting(
                f"SERVICE_TOKENS_FILE {str(file)!r}, line {number}: expected a token of at least "
                "20 characters and a user, with a space between them"
            )
        tokens[_hashed(words[0].encode())] = words[1]
    if not tokens:
        raise BadSetting(f"SERVICE_TOKENS_FILE {str(file)!r} has no tokens")
    return tokens
