"""One checkpoint as it is meant to be read: its state, what changed, what is pending."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.types import Interrupt

from langcairn import operations
from langcairn.backends.base import FindCheckpoints
from langcairn.comparing import compare_states
from langcairn.errors import CheckpointNotFound, CorruptData, InvalidInput
from langcairn.tasks import find_nodes
from langcairn.viewer.difference import Difference
from langcairn.viewer.members import is_conversation, is_internal, members_of
from langcairn.viewer.rendering import Renderer
from langcairn.viewer.timeline import ERROR, INTERRUPT, RESUME
from langcairn.viewer.viewing import explain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from langcairn.headers import Key
    from langcairn.records import Loaded
    from langcairn.viewer.viewing import Viewer

TABS = {"state": "State", "changes": "Changes", "writes": "Pending writes", "details": "Details"}


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of the state, or a pending write to one."""

    name: str
    shown: Markup
    is_small: bool = False
    is_internal: bool = False
    is_conversation: bool = False


@dataclass(slots=True)
class Task:
    """What one task of a step has written so far.

    Attributes:
        id: Its id.
        node: The node that it runs; None: not known.
        writes: What it has written.
        questions: What it asks, if it waits for an answer.
        errors: With what it failed.
        is_waiting: Whether it waits for an answer.
    """

    id: str
    node: str | None = None
    writes: list[Channel] = field(default_factory=list)
    questions: list[Markup] = field(default_factory=list)
    errors: list[Markup] = field(default_factory=list)
    is_waiting: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether it failed."""
        return bool(self.errors)


class Failure(NamedTuple):
    """Why a checkpoint can't be read, in the words of `explain`."""

    title: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Detail:
    """A checkpoint, loaded and rendered.

    Attributes:
        loaded: The checkpoint; None: it can't be read.
        failure: Why it can't be shown; None: it can.
        tab: What of it is shown.
        channels: Its state.
        rebuilt: Channels whose values LangGraph rebuilds from earlier writes.
        tasks: Its pending writes.
        differences: What is different from its parent; None: it has none, or isn't asked.
        details: Metadata and what only LangGraph needs, by title.
    """

    loaded: Loaded | None
    failure: Failure | None
    tab: str
    channels: Sequence[Channel] = ()
    rebuilt: Sequence[str] = ()
    tasks: Sequence[Task] = ()
    differences: Sequence[Difference] | None = None
    details: Mapping[str, Markup] = field(default_factory=dict)


async def load(viewer: Viewer, execution_id: str, key: Key) -> Loaded:
    """Return a checkpoint with its state.

    Raises:
        CheckpointNotFound: There is none.
        CorruptData: It is damaged.
    """
    query = FindCheckpoints(execution_id, *key)
    found = await viewer.store.arun(operations.find(viewer.codec, query))
    if not found:
        raise CheckpointNotFound(
            f"execution {execution_id!r} has no checkpoint {key[1]!r}"
            + (f" in namespace {key[0]!r}" if key[0] else "")
        )
    return found[0]


async def build(viewer: Viewer, execution_id: str, key: Key, tab: str) -> Detail:
    """Load a checkpoint and render one tab of it.

    Raises:
        CheckpointNotFound: There is none.
        InvalidInput: There is no such tab.
    """
    if tab not in TABS:
        raise InvalidInput(f"tab={tab[:40]!r} is none of {', '.join(TABS)}")
    try:
        loaded = await load(viewer, execution_id, key)
    except CorruptData as error:
        _, title, remedy = explain(error)
        return Detail(None, Failure(title, str(error), remedy), tab)
    place = {"id": execution_id, "ns": key[0], "at": key[1]}
    nodes = await viewer.store.arun(find_nodes(loaded)) if loaded.writes else {}
    tasks = _tasks(loaded, place, nodes)
    match tab:
        case "changes":
            return Detail(
                loaded, None, tab, tasks=tasks, differences=await _differences(viewer, loaded)
            )
        case "writes":
            return Detail(loaded, None, tab, tasks=tasks)
        case "details":
            return Detail(loaded, None, tab, tasks=tasks, details=_details(loaded, place))
    return Detail(
        loaded,
        None,
        tab,
        channels=channels_of(loaded.state, place),
        rebuilt=loaded.rebuilt,
        tasks=tasks,
    )


def channels_of(state: Any, place: Mapping[str, str]) -> list[Channel]:
    """Return the channels of a state: small ones first, conversations last, as one reads them."""
    renderer = Renderer({**place, "of": "state"})
    if not isinstance(state, dict):
        return [Channel("state", renderer.value(state))]
    order = sorted(enumerate(state.items()), key=lambda one: _rank(*one[1]))
    return [
        Channel(
            str(name),
            renderer.value(value, (position,)),
            _is_small(value),
            is_internal(name),
            is_conversation(value),
        )
        for position, (name, value) in order
    ]


def _rank(name: Any, value: Any) -> int:
    if is_internal(name):
        return 3
    return 2 if is_conversation(value) else 0 if _is_small(value) else 1


def _is_small(value: Any) -> bool:
    return members_of(value) is None and not (isinstance(value, (str, bytes)) and len(value) > 160)


def _tasks(loaded: Loaded, place: Mapping[str, str], nodes: Mapping[str, str]) -> list[Task]:
    renderer = Renderer({**place, "of": "writes"})
    tasks: dict[str, Task] = {}
    answered = {id for id, channel, _ in loaded.writes if channel == RESUME}
    for position, (task_id, channel, value) in enumerate(loaded.writes):
        task = tasks.setdefault(task_id, Task(task_id, nodes.get(task_id)))
        shown = renderer.value(value, (position,), 1)
        task.writes.append(Channel(channel, shown))
        if channel == ERROR:
            task.errors.append(shown)
        if channel == INTERRUPT and task_id not in answered:
            task.is_waiting = True
            task.questions += _questions(renderer, value, position)
    return list(tasks.values())


def _questions(renderer: Renderer, value: Any, position: int) -> list[Markup]:
    """Return what the interrupts of one task ask, without what LangGraph wraps it in."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(i, Interrupt) for i in value):
        return [renderer.value(value, (position,))]
    questions = []
    for number, one in enumerate(value):
        members = members_of(one)
        labels = [label for label, _ in members.part(0, members.count)] if members else []
        path = (position, number, labels.index("value"))
        questions.append(renderer.value(one.value, path))
    return questions


async def _differences(viewer: Viewer, loaded: Loaded) -> list[Difference] | None:
    row = loaded.row
    if row.parent_id is None:
        return None
    try:
        parent = await load(viewer, row.execution_id, (row.namespace, row.parent_id))
    except CheckpointNotFound:
        return None  # pruned
    return differences(parent, loaded)


def differences(before: Loaded, after: Loaded) -> list[Difference]:
    """Return what is different between two checkpoints, rendered."""
    diffs = compare_states(before.state, after.state)
    old, new = _renderer(before), _renderer(after)
    return [Difference.of(diff, before.state, after.state, old, new) for diff in diffs]


def _renderer(loaded: Loaded) -> Renderer:
    row = loaded.row
    return Renderer(
        {"id": row.execution_id, "ns": row.namespace, "at": row.id, "of": "state"}, budget=80_000
    )


def _details(loaded: Loaded, place: Mapping[str, str]) -> dict[str, Markup]:
    found = {"Metadata": Renderer({**place, "of": "metadata"}).value(loaded.metadata)}
    if loaded.graph:
        found["LangGraph's own"] = Renderer({**place, "of": "graph"}).value(loaded.graph)
    return found
