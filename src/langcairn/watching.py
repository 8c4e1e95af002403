"""Operations while they are watched: the same requests and the same result, and what was seen."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, TypeVar

from langcairn.backends.base import (
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindWrites,
    Remove,
    Sweep,
)
from langcairn.errors import StaleEpoch
from langcairn.observing import Observation, clock, current, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.backends.base import Request
    from langcairn.observing import Observers
    from langcairn.operations import Operation

T = TypeVar("T")

_NAMES = {
    "save": "put",
    "save_writes": "put_writes",
    "find": "get",
    "find_page": "list",
    "_round": "monitor",
    "move_all": "move_to_objects",
    "move_one": "move_to_objects",
    "find_executions": "executions",
    "retire": "retire_dictionary",
    "rotate": "rotate_keys",
    "gather_samples": "train_dictionary",
    "keep": "train_dictionary",
    "find_forks": "forks",
    "_commit": "transaction",
    "_acquisition": "acquire_lease",
    "_renewal": "renew_lease",
    "_giving_back": "release_lease",
    "_tidy": "prune",
}
"""How operations are called in LangGraph's and the store's words; any other as its generator is."""


def name_of(operation: Operation[Any]) -> str:
    """Return what an operation is called: by its generator's name, or LangGraph's word for it."""
    name: str = operation.__name__  # type: ignore[attr-defined]  # generators have one
    return _NAMES.get(name, name)


def observed(operation: Operation[T], backend: str, observers: Observers) -> Operation[T]:
    """Wrap an operation, so that observers see it.

    Args:
        operation: What is to be done.
        backend: The name of the backend that will do it.
        observers: Who is told.
    """
    observation = Observation(name_of(operation), backend)
    ended = observers.ended  # also of those that leave meanwhile: they have heard the beginning
    before = current.get()
    current.set((observation,))
    begin = clock()
    try:
        if observers.began:
            tell(observers.began, observation)
        request = next(operation)
        while True:
            known = _asked(observation, request)
            asked = clock()
            try:
                answer = yield request
            except BaseException as error:  # noqa: BLE001 -- handed to the operation, which may handle it
                _answered(observation, observers, request, clock() - asked, known)
                if isinstance(error, StaleEpoch):
                    observation.refused += 1
                request = operation.throw(error)
            else:
                _answered(observation, observers, request, clock() - asked, known)
                if (look := _RECEIVED.get(type(request))) is not None:
                    look(observation, answer)
                request = operation.send(answer)
    except StopIteration as stop:
        observation.outcome = "ok"
        return stop.value  # type: ignore[no-any-return]  # what the generator returns
    except BaseException as error:
        observation.outcome = _outcome(error)
        raise
    finally:
        # Not by a token: an abandoned coroutine ends in whatever context collects it.
        current.set(before)
        observation.seconds = clock() - begin
        tell(ended, observation)


def _asked(observation: Observation, request: Any) -> float:
    """Note what a request is about. Returns what was measured until now."""
    observation.requests += 1
    if type(request) is Commit:
        observation.execution_id = request.execution_id
        sent = sum([len(data) for _, data in request.chunks])
        for row in request.checkpoints:
            observation.checkpoint_id = row.id
            sent += len(row.state) + len(row.metadata) + len(row.graph)
        for write in request.writes:
            observation.checkpoint_id = write.checkpoint_id
            sent += len(write.value)
        observation.sent += sent
    elif (about := getattr(request, "execution_id", None)) is not None:
        observation.execution_id = about
    return observation.measured


def _answered(
    observation: Observation,
    observers: Observers,
    request: Request,
    seconds: float,
    known: float,
) -> None:
    """Note what a request took, beyond what was noted while it was under way."""
    phase = _PHASES.get(type(request), "read")
    observation.spent(phase, seconds - (observation.measured - known))
    if observers.answered:
        tell(observers.answered, observation, request, seconds)


_PHASES: dict[type, str] = {
    Commit: "commit",
    Remove: "remove",
    Sweep: "remove",
    Clear: "remove",
}


def _found(observation: Observation, answer: Any) -> None:
    for row, writes, _ in answer:
        observation.execution_id, observation.checkpoint_id = row.execution_id, row.id
        observation.received += len(row.state) + len(row.metadata) + len(row.graph)
        observation.received += sum(len(write.value) for write in writes)


def _found_writes(observation: Observation, answer: Any) -> None:
    observation.received += sum(len(write.value) for write in answer)


def _fetched(observation: Observation, answer: Any) -> None:
    observation.received += sum(map(len, answer.values()))


_RECEIVED: dict[type, Callable[[Observation, Any], None]] = {
    FindCheckpoints: _found,
    FindWrites: _found_writes,
    FetchChunks: _fetched,
}


def _outcome(error: BaseException) -> str:
    """Return what an error is called as an outcome: ``store_unavailable`` and so on.

    Classes that aren't langcairn's are all ``error``: there may be any number.
    """
    if isinstance(error, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
        return "cancelled"
    kind = type(error)
    if not kind.__module__.startswith("langcairn."):
        return "error"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
