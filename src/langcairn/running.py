"""Running operations: generators that yield requests and are sent the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from langcairn.backends.base import Request

T = TypeVar("T")


def run(execute: Callable[[Request], object], operation: Generator[Request, Any, T]) -> T:
    """Run an operation to its end, blocking."""
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
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


async def arun(
    aexecute: Callable[[Request], Awaitable[object]], operation: Generator[Request, Any, T]
) -> T:
    """Run an operation to its end without blocking the event loop."""
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
        return stop.value  # type: ignore[no-any-return]  # what the generator returns
