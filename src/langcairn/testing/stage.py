"""Runs scenes: graphs whose every observable outcome is noted, to compare two savers by."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.memory import InMemorySaver

from langcairn.forms import Names, form
from langcairn.testing.calling import Caller
from langcairn.testing.checkpoints import config_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.types import PregelTask, StateSnapshot

    from langcairn.forms import Form
    from langcairn.testing.calling import Side
    from langcairn.testing.fixtures import Calling

_LIMIT = 30  # [s]

Build = Callable[[Any], Any]
"""From a saver to a graph."""
Scene = Callable[["Stage"], Iterable[object]]
"""Acts on a stage and yields what it sees."""


class Stage:
    """What a scene acts on.

    Attributes:
        config: A thread.
        ran: What nodes noted; from several threads at once.
        durability: How the graphs are run.
    """

    def __init__(
        self,
        saver: Callable[[], BaseCheckpointSaver[Any]],
        calling: Calling,
        durability: str = "sync",
    ) -> None:
        self._saver = saver
        self._calling = calling
        self._lock = threading.Lock()
        self.durability = durability
        self.config: RunnableConfig = config_of("thread") | {"recursion_limit": 200}
        self.ran: list[str] = []

    def graph(self, build: Build) -> Caller:
        """Return a graph. Call again for each run, so that each may use another saver."""
        return self._calling(build(self._saver()))

    def invoke(self, build: Build, input: object, config: Any = None, **options: Any) -> Any:
        """Run a graph and return its output, or the error that it raised."""
        graph = self.graph(build)
        try:
            return _in_order(
                graph.invoke(
                    input, config or self.config, **{"durability": self.durability, **options}
                )
            )
        except Exception as error:  # noqa: BLE001 -- noted, and compared
            return error

    def note(self, text: str) -> None:
        """Note that something ran."""
        with self._lock:
            self.ran.append(text)

    def wait_for_write(self, channel: str) -> None:
        """Wait, in a node, until a write of another node of the same step is stored."""
        saver, end = self._saver(), time.monotonic() + _LIMIT
        while time.monotonic() < end:
            found = saver.get_tuple(self.config)
            if found and channel in [name for _, name, _ in found.pending_writes or ()]:
                return
            time.sleep(0.002)
        raise TimeoutError(f"nothing was written to {channel!r}")

    def state(self, build: Build, config: Any = None, **options: Any) -> object:
        """Return what a thread's state looks like."""
        return facts_of(self.graph(build).get_state(config or self.config, **options))

    def history(self, build: Build, config: Any = None) -> list[object]:
        """Return what a thread's history looks like, the newest first."""
        found = self.graph(build).get_state_history(config or self.config)
        return [facts_of(snapshot) for snapshot in found]

    def snapshots(self, build: Build) -> list[StateSnapshot]:
        """Return a thread's history itself."""
        return list(self.graph(build).get_state_history(self.config))


def _in_order(result: Any) -> Any:
    """Return a graph's output with its interrupts in order: nodes side by side finish in none."""
    if isinstance(result, dict) and "__interrupt__" in result:
        interrupts = sorted(result["__interrupt__"], key=lambda interrupt: str(interrupt.value))
        return {**result, "__interrupt__": interrupts}
    return result


def play(scene: Scene, stage: Stage) -> list[Form]:
    """Return the forms of everything that a scene sees."""
    names = Names()
    seen = [form(observation, names) for observation in scene(stage)]
    return [*seen, form(sorted(stage.ran), names)]  # what ran side by side is in no order


@cache  # the same for every backend
def play_reference(
    scene: Scene, side: Side, durability: str = "sync", kind: type[Stage] = Stage
) -> list[Form]:
    """Return the forms of everything that a scene sees with LangGraph's own saver in memory."""
    reference = InMemorySaver()
    with reference_calling(side) as calling:
        return play(scene, kind(lambda: reference, calling, durability))


@contextmanager
def reference_calling(side: Side) -> Iterator[Calling]:
    """Give what calls methods on a side, apart from any test."""
    with asyncio.Runner() as runner:
        yield lambda target: Caller(target, runner if side == "async" else None)


def facts_of(snapshot: StateSnapshot) -> object:
    """Return what two savers must agree on of a state: all but times."""
    parent: Any = snapshot.parent_config and snapshot.parent_config["configurable"]
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "at": _place(snapshot.config["configurable"]),
        "parent": parent and _place(parent),
        "metadata": dict(sorted((snapshot.metadata or {}).items())),
        "tasks": [_task(task) for task in snapshot.tasks],
        "interrupts": snapshot.interrupts,
    }


def _place(configurable: dict[str, Any]) -> list[object]:
    return [configurable.get(key) for key in ("thread_id", "checkpoint_ns", "checkpoint_id")]


def _task(task: PregelTask) -> object:
    # A snapshot of a subgraph, the config that leads to it, or None.
    inside: Any = task.state
    if hasattr(inside, "values") and hasattr(inside, "tasks"):
        inside = facts_of(inside)
    return [task.name, task.path, repr(task.error), task.interrupts, inside, task.result]
