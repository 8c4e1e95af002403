"""What is answered: JSON, events, and what went wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from langchain_core.messages import BaseMessage
from langgraph.errors import EmptyInputError, InvalidUpdateError

from langcairn import (
    AccessDenied,
    CheckpointNotFound,
    Conflict,
    CorruptData,
    InvalidInput,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

_logger = logging.getLogger(__name__)

RETRY_AFTER = 1  # [s]


class Refused(Exception):
    """The service itself refuses a request.

    Attributes:
        status: The HTTP status.
        code: What clients tell it by.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


# What is behind each is said to the client only where it is his own doing.
_KINDS: tuple[tuple[type[Exception], int, str, str | None], ...] = (
    # As for a thread that isn't there: nobody learns that somebody else's is.
    (AccessDenied, 404, "not_found", "there is no such thread"),
    (CheckpointNotFound, 404, "not_found", "there is no such checkpoint"),
    (Conflict, 409, "conflict", "another run of this thread is going on; try again when it ended"),
    (EmptyInputError, 422, "invalid", "there is nothing to go on with: this thread needs an input"),
    (InvalidUpdateError, 422, "invalid", None),
    (InvalidInput, 422, "invalid", None),
    (StoreUnavailable, 503, "unavailable", "the store can't be reached; try again"),
    (StoreClosed, 503, "unavailable", "the service is shutting down; try again"),
    (StoreFull, 507, "full", "the store is full; nothing of this request was kept"),
    (CorruptData, 500, "corrupt", "what is stored of this thread is damaged"),
    (StoreError, 500, "store", "the store refused the request"),
)


def explained(error: BaseException) -> Refused:
    """Say how an error is answered; what isn't known is logged and answered as 500."""
    if isinstance(error, Refused):
        return error
    for kind, status, code, message in _KINDS:
        if isinstance(error, kind):
            if status >= 500:
                _logger.warning("%s: %s", type(error).__name__, error)
            return Refused(status, code, message or str(error))
    _logger.error("an error that was not expected", exc_info=error)
    return Refused(500, "internal", "something went wrong here; it is in the log")


def problem(status: int, code: str, message: str) -> Response:
    """Return the answer to a request that failed."""
    answer = json({"error": code, "message": message}, status)
    if status in (409, 429, 503):
        answer.headers["Retry-After"] = str(RETRY_AFTER)
    return answer


def json(value: object, status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(encoded(value), status, media_type="application/json")


def encoded(value: object) -> bytes:
    """Return a value as JSON; messages as `message_fields` has them."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def event(kind: str, id: str, value: object) -> bytes:
    """Return a server-sent event. JSON has no line breaks, so one line of data is enough."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), id.encode(), encoded(value))


def message_fields(message: BaseMessage) -> dict[str, Any]:
    """Return what clients see of a message."""
    fields: dict[str, Any] = {"id": message.id, "type": message.type, "content": message.content}
    if calls := getattr(message, "tool_calls", None):
        fields["tool_calls"] = calls
    if call_id := getattr(message, "tool_call_id", None):
        fields["tool_call_id"] = call_id
    return fields


def _plain(value: object) -> object:
    if isinstance(value, BaseMessage):
        return message_fields(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    # Better a text in an answer than no answer: what is stored isn't touched by it.
    return repr(value)


def answer_errors(app: FastAPI) -> None:
    """Have an app answer errors as `explained` says."""

    async def answer(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- Starlette passes it
        said = explained(error)
        return problem(said.status, said.code, str(said))

    async def answer_invalid(request: Request, error: Exception) -> Response:  # noqa: ARG001 -- as above
        assert isinstance(error, RequestValidationError)
        # Where and why, and never the input: it may hold what JSON can't, or a secret.
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
        return problem(422, "invalid", "; ".join(found))

    app.add_exception_handler(RequestValidationError, answer_invalid)
    kinds: list[type[Exception]] = [Refused, *(kind for kind, *_ in _KINDS)]
    for kind in kinds:
        app.add_exception_handler(kind, answer)
