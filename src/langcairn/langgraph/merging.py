"""Checkpoints that are held back, among those that are stored."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langgraph.checkpoint.base import CheckpointTuple


class Merge:
    """Puts held checkpoints between stored ones, where they belong."""

    def __init__(self, held: Iterable[CheckpointTuple], limit: int | None) -> None:
        self._held = deque(held)
        self._left = limit

    def up_to(self, stored: CheckpointTuple) -> Iterator[CheckpointTuple]:
        """Yield what comes before a stored checkpoint, and the checkpoint, if it isn't held."""
        place = place_of(stored)
        while self._held and place_of(self._held[0]) > place:
            yield from self._counted(self._held.popleft())
        if self._held and place_of(self._held[0]) == place:  # just being saved
            stored = self._held.popleft()
        yield from self._counted(stored)

    def rest(self) -> Iterator[CheckpointTuple]:
        """Yield what comes after all stored ones."""
        while self._held:
            yield from self._counted(self._held.popleft())

    def _counted(self, one: CheckpointTuple) -> Iterator[CheckpointTuple]:
        if self._left is None:
            yield one
        elif self._left > 0:
            self._left -= 1
            yield one


def place_of(one: CheckpointTuple) -> tuple[str, str, str]:
    """Return a checkpoint's id, thread and namespace: where it stands in a list."""
    place = one.config["configurable"]
    return place["checkpoint_id"], str(place["thread_id"]), place["checkpoint_ns"]


def newer(held: CheckpointTuple | None, stored: CheckpointTuple | None) -> CheckpointTuple | None:
    """Return the newer of the newest held and the newest stored checkpoint."""
    if held is None or (stored and stored.checkpoint["id"] > held.checkpoint["id"]):
        return stored
    return held
