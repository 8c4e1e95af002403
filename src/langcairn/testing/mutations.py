"""What a graph's nodes do to a state, in place, as Hypothesis draws it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from langcairn.testing.models import Level, Mood, Plan
from langcairn.testing.values import MARKERS, PLAIN, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

# Small ones stay inline, large ones become chunks, and so do containers of more than 1,024 bytes.
_SIZES = st.sampled_from([0, 1, 20, 95, 99, 101, 180, 1100])
# Equal, and yet not the same.
_TWINS: list[list[Any]] = [
    [1, True, 1.0, Level.LOW],
    [0, False, 0.0, -0.0],
    ["calm", Mood.CALM, b"calm", ["calm"]],
    [[], {}, "", None],
    [[1], [True], [1.0], {"0": 1}],
    ["x" * 120, b"x" * 120, ["x" * 120], {"x" * 120: None}],
]
# Inside other values a bytearray comes back as bytes, as with LangGraph's own serializer.
_TWINS_ALONE = [*_TWINS, [b"calm", bytearray(b"calm"), b"calm" * 40, bytearray(b"calm" * 40)]]
_CHANGED_BY_A_ROUND_TRIP = {"tuple", "empty tuple", "date keys"}
_VALUES = [
    *(name for name in (*PLAIN, *MARKERS) if name not in _CHANGED_BY_A_ROUND_TRIP),
    "set", "set of tuples", "deque", "decimal", "utc datetime", "zone", "enum", "dataclass",
    "frozen dataclass", "document", "snapshot of a dict", "list of 17 strings", "dict of 17",
    "deep dict", "large in small",
]  # fmt: skip

State = dict[str, Any]


class Mutation(NamedTuple):
    """One change: what to do, and numbers that say where and how much."""

    name: str
    i: int
    j: int
    size: int

    def apply(self, state: State) -> str:
        """Change a state; returns the channel that was changed."""
        channel, change = _CHANGES[self.name]
        state[channel] = change(state.setdefault(channel, _EMPTY[channel]()), self)
        return channel

    @property
    def text(self) -> str:
        """A text of the drawn size, one of few of that size, so that some are equal."""
        return f"{self.j % 3}" * self.size


def mutations() -> st.SearchStrategy[Mutation]:
    """Draw a change."""
    numbers = st.integers(0, 40)
    return st.builds(Mutation, st.sampled_from(sorted(_CHANGES)), numbers, numbers, _SIZES)


def _message(m: Mutation) -> Any:
    kind = AIMessage if m.i % 2 else HumanMessage
    return kind(m.text, id=f"{m.i}", additional_kwargs={"n": [m.text]} if m.j % 2 else {})


def _edit_message(messages: list[Any], m: Mutation) -> list[Any]:
    if messages:
        message = messages[m.i % len(messages)]
        if m.j % 3 == 0:
            message.content = m.text
        elif m.j % 3 == 1:
            message.additional_kwargs.setdefault("n", []).append(m.text)
        else:
            messages[m.i % len(messages)] = HumanMessage(message.content, id=message.id)
    return messages


def _append(items: list[Any], m: Mutation) -> list[Any]:
    items.extend([m.text, [m.text], {"k": m.text, "n": m.i}, m.i][: m.j % 4 + 1])
    return items


def _grow(items: list[Any], m: Mutation) -> list[Any]:
    count = (15, 16, 17, 32, 33, 257)[m.i % 6]
    items.extend(f"{m.text}{i}" for i in range(len(items), count))
    return items


def _remove(items: list[Any], m: Mutation) -> list[Any]:
    first = m.i % (len(items) + 1)
    del items[first : first + 1 + m.j]
    return items


def _move(items: list[Any], m: Mutation) -> list[Any]:
    if m.j % 3 == 0:
        items.reverse()
    elif items:
        items.insert(m.j % len(items), items.pop(m.i % len(items)))
    return items


def _repeat(items: list[Any], m: Mutation) -> list[Any]:
    if items:
        items.append(items[m.i % len(items)])  # the same object
    return items


def _twin_in_list(items: list[Any], m: Mutation) -> list[Any]:
    twins = _TWINS[m.i % len(_TWINS)]
    if not items:
        items.append(None)
    # A copy: a change to the one in another thread's state would be no change of this channel's.
    items[m.size % len(items)] = copy.deepcopy(twins[m.j % len(twins)])
    return items


def _mutate_inside(items: list[Any], m: Mutation) -> list[Any]:
    for item in items:
        if isinstance(item, list):
            item.append(m.text)
            break
        if isinstance(item, dict):
            item[f"k{m.i % 5}"] = [m.text, {"deep": [m.j]}]
            break
    return items


def _set_key(doc: State, m: Mutation) -> State:
    doc[f"key {m.i % 20}"] = [m.text, {"a": m.text}, [m.text] * 3, m.j][m.j % 4]
    return doc


def _grow_dict(doc: State, m: Mutation) -> State:
    for i in range((15, 16, 17, 33, 257)[m.i % 5]):
        doc.setdefault(f"key {i}", f"{m.text}{i % 3}")
    return doc


def _delete_key(doc: State, m: Mutation) -> State:
    for key in list(doc)[m.i % 10 :: m.j + 1]:
        del doc[key]
    return doc


def _reorder(doc: State, m: Mutation) -> State:
    keys = list(doc)
    for key in keys[m.i % 5 :: 2]:
        doc[key] = doc.pop(key)
    return doc


def _odd_key(doc: State, m: Mutation) -> State:
    keys: list[Any] = ["$cairn", "", "a\0", "\ud800", 1, None, "é", "a.b"]
    doc[keys[m.i % len(keys)]] = {"$cairn": ["c", m.text]}
    return doc


def _share(doc: State, m: Mutation) -> State:
    shared = {"shared": [m.text]}
    doc["one"], doc["two"], doc["three"] = shared, [shared], shared["shared"]
    return doc


def _mutate_shared(doc: State, m: Mutation) -> State:
    if isinstance(doc.get("three"), list):
        doc["three"].append(m.text)
    return doc


def _twin_in_dict(doc: State, m: Mutation) -> State:
    twins = _TWINS[m.i % len(_TWINS)]
    doc["twin"] = copy.deepcopy(twins[m.j % len(twins)])
    return doc


def _any_value(_value: Any, m: Mutation) -> Any:
    name = _VALUES[(m.i * 41 + m.j) % len(_VALUES)]
    return SAMPLES[name]()


def _edit_plan(plan: Any, m: Mutation) -> Any:
    if not isinstance(plan, Plan):
        plan = Plan("a")
    plan.steps.append(m.text)
    plan.title = f"{m.j}"
    return plan


_CHANGES: dict[str, tuple[str, Callable[[Any, Mutation], Any]]] = {
    "add message": ("messages", lambda messages, m: [*messages, _message(m)]),
    "edit message": ("messages", _edit_message),
    "trim messages": ("messages", lambda messages, m: messages[m.i % 5 :]),
    "move message": ("messages", _move),
    "repeat message": ("messages", _repeat),
    "append": ("list", _append),
    "grow": ("list", _grow),
    "remove": ("list", _remove),
    "move": ("list", _move),
    "repeat": ("list", _repeat),
    "twin in list": ("list", _twin_in_list),
    "mutate inside": ("list", _mutate_inside),
    "set key": ("doc", _set_key),
    "grow dict": ("doc", _grow_dict),
    "delete key": ("doc", _delete_key),
    "reorder": ("doc", _reorder),
    "odd key": ("doc", _odd_key),
    "share": ("doc", _share),
    "mutate shared": ("doc", _mutate_shared),
    "twin in dict": ("doc", _twin_in_dict),
    "any value": ("value", _any_value),
    "twin": ("twin", lambda _, m: copy.deepcopy(_TWINS_ALONE[m.i % len(_TWINS_ALONE)][m.j % 4])),
    "plan": ("plan", _edit_plan),
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "messages": list, "list": list, "doc": dict, "value": lambda: None, "twin": lambda: None,
    "plan": lambda: None,
}  # fmt: skip
