"""What takes several calls of a graph, a saver or a store, written once for both sides.

Such logic is a generator that yields `Call` and is sent what the methods return; `run` calls them,
`arun` awaits their async twins.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class Call(NamedTuple):
    """A method to be called, or its async twin: ``alist`` for ``list``."""

    target: Any
    method: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}


Steps = Generator[Call, Any, T]


def run(steps: Steps[T]) -> T:
    """Make the calls, blocking, and return the result."""
    try:
        call = next(steps)
        while True:
            try:
                answer = getattr(call.target, call.method)(*call.arguments, **call.options)
            except BaseException as error:  # noqa: BLE001 -- handed to the steps, which may handle it
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


async def arun(steps: Steps[T]) -> T:
    """Make the calls without blocking the event loop, and return the result."""
    try:
        call = next(steps)
        while True:
            try:
                twin = getattr(call.target, f"a{call.method}")
                answer = await twin(*call.arguments, **call.options)
            except BaseException as error:  # noqa: BLE001 -- as in run
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns
