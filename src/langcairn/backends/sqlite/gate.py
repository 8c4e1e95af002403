"""Nobody is in SQLite while the process forks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class Gate:
    """Knows the threads that use SQLite, and keeps them out while it is shut."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # Not their number: a thread that is interrupted between here and its work is only wrong
        # until it comes again.
        self._inside: set[int] = set()
        self._is_shut = False

    def __enter__(self) -> None:
        with self._lock:
            while self._is_shut:
                self._changed.wait()
            self._inside.add(threading.get_ident())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside.discard(threading.get_ident())
            if self._is_shut:
                self._changed.notify_all()

    def shut(self, patience: float) -> bool:
        """Let nobody in, and wait until nobody is.

        Args:
            patience: How long to wait [s].

        Returns:
            Whether everybody has left. It is shut in any case.
        """
        self._lock.acquire()
        self._is_shut = True  # the lock alone is free while this waits
        return self._changed.wait_for(lambda: not self._inside, patience)

    def open(self) -> None:
        """Let threads in again, if it is shut."""
        if self._is_shut:
            self._is_shut = False
            self._changed.notify_all()
            self._lock.release()
