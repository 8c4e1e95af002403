"""What the tests of every contract start from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.calling import SIDES, Caller, Side

if TYPE_CHECKING:
    from langcairn.testing.storage import Storage

Calling = Callable[[Any], Caller]


class Fixtures:
    """Fixtures that build on the fixture ``storage``, which the backend's tests define."""

    @pytest.fixture(params=SIDES)
    def side(self, request: pytest.FixtureRequest) -> Side:
        """Whether methods or their async twins are called. Each test runs with both."""
        return request.param  # type: ignore[no-any-return]  # one of SIDES

    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        """An event loop that runs only while a test waits for something in it."""
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            yield runner

    @pytest.fixture
    def calling(self, side: Side, runner: asyncio.Runner) -> Calling:
        """Return what calls an object's methods on the side that is tested."""
        return lambda target: Caller(target, runner if side == "async" else None)

    @pytest.fixture
    def saver(self, storage: Storage, calling: Calling) -> Caller:
        """Return a saver on an empty store."""
        return calling(CheckpointSaver(storage.open()))

    @pytest.fixture
    def another(self, storage: Storage, calling: Calling) -> Callable[[], Caller]:
        """Return what makes further savers on the same data, as other processes would."""
        return lambda: calling(CheckpointSaver(storage.open()))
