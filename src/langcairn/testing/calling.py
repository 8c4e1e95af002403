"""One text for a test's sync and its async run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import asyncio

Side = Literal["sync", "async"]
SIDES: tuple[Side, ...] = ("sync", "async")


class Caller:
    """Calls the methods of an object, or their async twins, by their sync names.

    Args:
        target: The object.
        runner: Runs the twins (``aput`` for ``put``); None: the methods themselves are called, in
            a thread without an event loop.
    """

    def __init__(self, target: Any, runner: asyncio.Runner | None) -> None:
        self.target = target
        self._runner = runner

    @property
    def is_async(self) -> bool:
        """Whether the twins are called."""
        return self._runner is not None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        runner = self._runner
        if runner is None:
            return getattr(self.target, name)  # type: ignore[no-any-return]  # some method
        twin = getattr(self.target, f"a{name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = twin(*args, **kwargs)
            if isinstance(answer, AsyncIterator):
                return _stepwise(answer, runner)
            return runner.run(answer)

        return call


def _stepwise(iterator: AsyncIterator[Any], runner: asyncio.Runner) -> Iterator[Any]:
    """Yield what an async iterator yields; between two elements the event loop stands still."""

    async def step() -> Any:
        return await anext(iterator)

    while True:
        try:
            element = runner.run(step())
        except StopAsyncIteration:
            return
        yield element
