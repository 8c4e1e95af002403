"""Nobody is in SQLite while the process forks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class Gate:
    """Counts the threads that use SQLite, and keeps them out while it is shut."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_shut = False

    def __enter__(self) -> None:
        with self._changed:
            while self._is_shut:
                self._changed.wait()
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self, patience: float) -> bool:
        """Let nobody in, and wait until nobody is.

        Args:
            patience: How long to wait [s].

        Returns:
            Whether everybody has left. It is shut in any case.
        """
        self._changed.acquire()
        self._is_shut = True  # the lock alone is free while this waits
        return self._changed.wait_for(lambda: not self._inside, patience)

    def open(self) -> None:
        """Let threads in again."""
        self._is_shut = False
        self._changed.notify_all()
        self._changed.release()
