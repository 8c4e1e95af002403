"""How large a request may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.service.answers import Refused, problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimitMiddleware:
    """Refuses bodies that are too large: those that say so unread, others as they arrive.

    Args:
        app: What is served.
        most: The largest body [bytes].
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._says_too_much(scope):
            await self._refuse(scope, receive, send)
            return
        size = 0
        refused = started = False

        async def counted() -> Message:
            nonlocal size, refused
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                refused = True
                raise Refused(413, "too_large", "the body is too large")
            return message

        async def passed(message: Message) -> None:
            nonlocal started
            # FastAPI answers whatever stops it from reading a body with a 400 of its own form.
            if refused and not started:
                return
            started = True
            await send(message)

        await self._app(scope, counted, passed)
        if refused and not started:
            await self._refuse(scope, receive, send)

    def _says_too_much(self, scope: Scope) -> bool:
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if not declared.isdigit():
            return False  # chunked: counted as it arrives
        # Python refuses to read a number of thousands of digits.
        return len(declared) > 20 or int(declared) > self._most

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(413, "too_large", f"a body may have {self._most} bytes")
        answer.headers["Connection"] = "close"  # the rest isn't read
        await answer(scope, receive, send)
