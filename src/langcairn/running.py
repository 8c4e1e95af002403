"""Running operations: generators that yield requests and are sent the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from langcairn.backends.base import Request

T = TypeVar("T")


def run(
    execute: Callable[[Request], object], operation: Generator[Request, Any, T]
) -> tuple[T, Request | None]:
    """Run an operation to its end, blocking. Returns its result, and the last request it made."""
    request = None
    try:
        request = next(operation)
        while True:
            try:
                answer = execute(request)
            except BaseException as error:  # noqa: BLE001 -- handed to the operation, which may handle it
                request = operation.throw(error)
            else:
                request = operation.send(answer)
    except StopIteration as stop:
        return stop.value, request


async def arun(
    aexecute: Callable[[Request], Awaitable[object]], operation: Generator[Request, Any, T]
) -> tuple[T, Request | None]:
    """Do as `run`, without blocking the event loop."""
    request = None
    try:
        request = next(operation)
        while True:
            try:
                answer = await aexecute(request)
            except BaseException as error:  # noqa: BLE001 -- as in run
                request = operation.throw(error)
            else:
                request = operation.send(answer)
    except StopIteration as stop:
        return stop.value, request
