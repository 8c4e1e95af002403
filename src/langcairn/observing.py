"""The one seam through which a store's work is seen, by metrics, traces, logs and profiles.

While a store has observers, every operation is wrapped (`langcairn.watching`): what is seen of it
goes into an `Observation`, which observers are given. Without observers nothing is wrapped. What
happens below a request (waiting for a connection, trying again) is added by whoever knows it,
through `spent` and `retried`, to the observations that are `current` at that moment; if there are
none, that is a look at a context variable.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_logger = logging.getLogger(__name__)

clock = time.perf_counter
"""What durations are measured with [s]."""


FAULTS = frozenset(
    {
        "corrupt_data", "error", "missing_chunks", "store_error", "store_full",
        "store_misconfigured", "store_unavailable", "unsafe_type",
    }
)  # fmt: skip
"""Outcomes that are the store's doing. The others are the caller's: what he passed can't be stored,
he was overtaken by another writer, or he gave up waiting."""


HOUSEKEEPING = frozenset(
    {
        "erase_user",
        "execution_stats",
        "maintain",
        "monitor",
        "move_to_objects",
        "stats",
        "test_connection",
    }
)
"""Operations on the store as a whole: how long they take says nothing about it."""


class Observer:
    """What is told about the operations of a store; by default nothing of it interests.

    Add one by ``store.observers.add``. Its methods are called in the thread or task of the
    operation and should be short. What they raise is logged and fails nothing.
    """

    def began(self, observation: Observation) -> None:
        """Hear that an operation begins."""

    def answered(self, observation: Observation, request: object, seconds: float) -> None:
        """Hear that the backend has answered a request, or refused it."""

    def ended(self, observation: Observation) -> None:
        """Hear that an operation has ended; its observation is complete."""

    def checked(self, backend: str, health: object | None) -> None:
        """Hear what a `Monitor` found: a `Health`, or None if the store can't be used."""

    def measured(self, backend: str, stats: object) -> None:
        """Hear the `Stats` that a `Monitor` took."""


class Observation:
    """What is seen of one operation. Never a state, or any part of one.

    Attributes:
        operation: Its name: ``put``, ``put_writes``, ``get``, ``list``, ``delete``, …
        backend: The name of the backend.
        execution_id: The execution that it is about, as far as its requests say; the last one.
        checkpoint_id: The checkpoint, likewise.
        seconds: How long it took [s]; while it is under way 0.
        outcome: ``ok``, ``cancelled``, ``error``, or the kind of a langcairn error:
            ``store_unavailable``, ``corrupt_data``, …
        requests: How many requests the backend was asked.
        sent: The bytes of rows and chunks that were given to the backend.
        received: The bytes of rows and chunks that came from it.
        retries: How often the backend tried again after a fault.
        refused: How many commits were refused because of a stale epoch, and were repeated.
        phases: Where the time went, as far as it was measured: phase to seconds.
        measured: The sum of these [s].
        notes: Where observers may keep what belongs to this operation.
    """

    # Defaults of the class cost nothing until they change.
    execution_id: str | None = None
    checkpoint_id: str | None = None
    seconds = 0.0
    outcome = ""
    requests = sent = received = retries = refused = 0
    measured = 0.0
    notes: dict[object, Any] | None = None

    def __init__(self, operation: str, backend: str) -> None:
        self.operation = operation
        self.backend = backend
        self.phases: dict[str, float] = {}

    def spent(self, phase: str, seconds: float) -> None:
        """Add to where the time went."""
        self.phases[phase] = self.phases.get(phase, 0.0) + seconds
        self.measured += seconds


current: ContextVar[Sequence[Observation]] = ContextVar("langcairn_observations", default=())
"""The observations for which something is being done in this thread or task."""


def spent(phase: str, seconds: float) -> None:
    """Add to where the time of the current operations went."""
    for observation in current.get():
        observation.spent(phase, seconds)


def about(execution_id: str, checkpoint_id: str) -> None:
    """Say what the current operations are about, before their first request does."""
    for observation in current.get():
        observation.execution_id, observation.checkpoint_id = execution_id, checkpoint_id


def retried(pause: float) -> None:
    """Note that a request will be tried again, after a pause [s]."""
    for observation in current.get():
        observation.retries += 1
        observation.spent("pause", pause)


@contextmanager
def together(observations: Sequence[Observation]) -> Iterator[None]:
    """Do something for several operations at once: what it takes, it takes for each of them."""
    token = current.set(observations)
    try:
        yield
    finally:
        current.reset(token)


class Observers:
    """Who watches a store.

    Attributes:
        present: All of them.
        began: Those of their methods of this name that do something; likewise the others.
    """

    __slots__ = ("_lock", "answered", "began", "checked", "ended", "measured", "present")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._take(())

    def add(self, observer: Observer) -> None:
        """Let an observer hear of every operation that begins from now on.

        Raises:
            InvalidInput: It is none, or is there already.
        """
        if not isinstance(observer, Observer):
            raise InvalidInput(f"expected a langcairn.Observer, not {type(observer).__name__}")
        with self._lock:
            if observer in self.present:
                raise InvalidInput(f"this {type(observer).__name__} watches the store already")
            self._take((*self.present, observer))

    def discard(self, observer: Observer) -> None:
        """Let an observer hear no more; of operations under way it still hears the end."""
        with self._lock:
            self._take(tuple(one for one in self.present if one is not observer))

    def _take(self, observers: tuple[Observer, ...]) -> None:
        for event in ("began", "answered", "ended", "checked", "measured"):
            idle = getattr(Observer, event)
            methods = (getattr(one, event) for one in observers)
            setattr(self, event, tuple(m for m in methods if m.__func__ is not idle))
        self.present: tuple[Observer, ...] = observers

    began: tuple[Callable[[Observation], object], ...]
    answered: tuple[Callable[[Observation, object, float], object], ...]
    ended: tuple[Callable[[Observation], object], ...]
    checked: tuple[Callable[[str, object], object], ...]
    measured: tuple[Callable[[str, object], object], ...]


def tell(listeners: Sequence[Callable[..., object]], *facts: Any) -> None:
    """Call methods of observers; what they raise is logged.

    Args:
        listeners: The methods.
        *facts: Their arguments.
    """
    for listener in listeners:
        try:
            listener(*facts)
        except Exception:
            # What was saved is saved: a mistake in watching must not say otherwise.
            name = getattr(listener, "__qualname__", listener)
            _logger.exception("the observer %s failed", name)
