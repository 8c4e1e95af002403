"""Values of every type that a graph's state may hold."""

from __future__ import annotations

import copy
import re
import sys
from collections import deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    ToolMessageChunk,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command, Interrupt, Overwrite, Send

from langcairn.testing.models import (
    Address,
    Colour,
    Corner,
    Level,
    Mood,
    Pair,
    Person,
    Plan,
    Point,
    Span,
    Tags,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_UUID = UUID("12345678-1234-5678-1234-567812345678")

PLAIN: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "false": lambda: False,
    "zero": lambda: 0,
    "minus one": lambda: -1,
    "largest int": lambda: 2**63 - 1,
    "smallest int": lambda: -(2**63),
    "unsigned int": lambda: 2**64 - 1,
    "float one": lambda: 1.0,
    "float zero": lambda: 0.0,
    "minus zero": lambda: -0.0,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: float("-inf"),
    "large float": lambda: 1e16,
    "huge float": lambda: 1.7976931348623157e308,
    "small float": lambda: 1e-7,
    "subnormal float": lambda: 5e-324,
    "tenth": lambda: 0.1,
    "empty string": lambda: "",
    "string": lambda: "cairn",
    "number in string": lambda: "1",
    "unicode": lambda: "Grüße, 世界 🪨 \u200d \ufeff \uffff \U0010ffff",
    "nul": lambda: "a\0b",
    "surrogate": lambda: "a\ud800b",
    "surrogate pair in halves": lambda: "\ud83d\ude00",
    "control characters": lambda: "".join(map(chr, range(32))) + "\x7f\x85\u2028",
    "quotes": lambda: "\"'\\`$%;--",
    "bytes": lambda: bytes(range(256)),
    "no bytes": lambda: b"",
    "bytearray": lambda: bytearray(b"mutable"),
    "large bytearray": lambda: bytearray(range(256)) * 20,
    "tuple": lambda: (1, "a", (2,)),
    "empty list": list,
    "empty dict": dict,
    "empty tuple": tuple,
    "nested": lambda: {"a": [{"b": [[], {}, [{"c": None}]]}], "": {"": {"": ""}}},
    "ragged": lambda: [1, [1.0, [True, ["1", [b"1"]]]]],
    "int keys": lambda: {1: "a", 2: "b", -3: {4: 5}},
    "mixed keys": lambda: {1: "a", "1": "b", None: "c", 2.5: "d"},
    "bytes keys": lambda: {b"a": 1},
    "date keys": lambda: {date(2024, 2, 29): 1},
    "odd string keys": lambda: {"": 1, "a.b": 2, "a\0b": 3, "\ud800": 4, "Ä": 5, "🪨": 6},
    "keys out of order": lambda: {"b": 1, "a": 2, "ccc": 3, "aa": 4},
}

OBJECTS: dict[str, Callable[[], Any]] = {
    "set": lambda: {1, 2, 3},
    "empty set": set,
    "set of strings": lambda: {"a", "b"},
    "set of tuples": lambda: {(1, 2), (3, 4)},
    "frozenset": lambda: frozenset({"a", 1}),
    "set of frozensets": lambda: {frozenset({1}), frozenset({2})},
    "deque": lambda: deque([1, "a", [2]]),
    "decimal": lambda: Decimal("1.10"),
    "decimal nan": lambda: Decimal("NaN"),
    "uuid": lambda: _UUID,
    "naive datetime": lambda: datetime(2024, 2, 29, 12, 30, 15, 123456),
    "utc datetime": lambda: datetime(2024, 2, 29, 12, tzinfo=UTC),
    "datetime with offset": lambda: datetime(
        2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))
    ),
    "date": lambda: date(1, 1, 1),
    "time": lambda: time(23, 59, 59, 999999),
    "time with zone": lambda: time(1, 2, tzinfo=UTC, fold=1),
    "timedelta": lambda: timedelta(days=-1, microseconds=1),
    "timezone": lambda: timezone(timedelta(hours=-3), "three"),
    "zone": lambda: ZoneInfo("Europe/Vienna"),
    "path": lambda: Path("/var") / "x" / "ü",
    "relative path": lambda: Path("a/../b"),
    "pattern": lambda: re.compile(r"(?P<a>\d+)", re.IGNORECASE),
    "ipv4": lambda: IPv4Address("127.0.0.1"),
    "ipv6": lambda: IPv6Address("::1"),
    "network": lambda: IPv4Network("10.0.0.0/8"),
    "interface": lambda: IPv6Interface("fe80::1/64"),
    "enum": lambda: Colour.GREEN,
    "int enum": lambda: Level.HIGH,
    "str enum": lambda: Mood.TENSE,
    "enum of tuples": lambda: Corner.ORIGIN,
    "enum keys": lambda: {"by mood": {Mood.CALM: 1}},
    "named tuple": lambda: Point(1, 2.5),
    "untyped named tuple": lambda: Pair([1], {"a": 2}),
    "dataclass": lambda: Plan("climb", ["up", "down"], Point(3)),
    "nested dataclass": lambda: Plan("a", [Plan("b"), Span(1, 2)]),  # type: ignore[list-item]  # on purpose
    "frozen dataclass": lambda: Span(1, 2),
    "model": lambda: Address(street="Ring"),
    "rich model": lambda: Person(
        fullName="Ada",
        homes=[Address(street="Ring", number=2)],
        mood=Mood.TENSE,
        anything={"a": (1, 2)},
        extra="kept",  # type: ignore[call-arg]  # what extra="allow" is for
    ),
    "model with secret": lambda: Person.model_validate({"fullName": "A", "password": "hidden"}),
    "root model": lambda: Tags(["a", "b"]),
    "document": lambda: Document(page_content="text", metadata={"page": 1}, id="d1"),
    "send": lambda: Send("node", {"a": [1, HumanMessage("x", id="1")]}),
    "interrupt": lambda: Interrupt(value={"question": "?"}, id="i1"),
    "command": lambda: Command(goto=["a", Send("b", 1)], update={"x": [1]}, resume="yes"),
    "overwrite": lambda: Overwrite([1, 2]),
    "snapshot": lambda: _DeltaSnapshot([HumanMessage("a", id="1"), 2]),
    "snapshot of a dict": lambda: _DeltaSnapshot({"a": {"b": 1}}),
}

MESSAGES: dict[str, Callable[[], Any]] = {
    "human": lambda: HumanMessage("hello", id="h1", name="ada"),
    "human without id": lambda: HumanMessage("hello"),
    "human of parts": lambda: HumanMessage(
        [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    ),
    "human with extras": lambda: HumanMessage("a", additional_kwargs={"k": [1]}, example=True),
    "ai": lambda: AIMessage("hi", id="a1", response_metadata={"model": "m", "t": 0.5}),
    "ai with tool calls": lambda: AIMessage(
        "",
        tool_calls=[{"name": "search", "args": {"q": "x", "n": 1}, "id": "c", "type": "tool_call"}],
        invalid_tool_calls=[{"name": "bad", "args": "{", "id": "c2", "error": "e",
                             "type": "invalid_tool_call"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    ),
    "system": lambda: SystemMessage("rules"),
    "tool": lambda: ToolMessage("42", tool_call_id="c1", status="error", name="search"),
    "tool with artifact": lambda: ToolMessage(
        "42", tool_call_id="c1", artifact={"rows": [(1, 2)], "at": date(2024, 1, 1)}
    ),
    "function": lambda: FunctionMessage(content="x", name="f"),
    "chat": lambda: ChatMessage(content="x", role="narrator"),
    "remove": lambda: RemoveMessage("h1"),
    "human chunk": lambda: HumanMessageChunk(content="par"),
    "ai chunk": lambda: AIMessageChunk(
        content="par", tool_call_chunks=[{"name": "s", "args": '{"q"', "id": "c", "index": 0,
                                  "type": "tool_call_chunk"}]
    ),
    "tool chunk": lambda: ToolMessageChunk(content="x", tool_call_id="c"),
    "hostile message": lambda: HumanMessage("a\0b $cairn", id="$cairn", name="\u2028"),
}  # fmt: skip

MARKERS: dict[str, Callable[[], Any]] = {
    "marker": lambda: {"$cairn": ["c", "A" * 22]},
    "marker of a page": lambda: {"$cairn": ["n", "A" * 22]},
    "marker of msgpack": lambda: {"$cairn": ["m", "wA=="]},
    "marker of a list": lambda: {"$cairn": ["l", [1, 2]]},
    "marker of a dict": lambda: {"$cairn": ["d", [["a"], [1]]]},
    "marker of an order": lambda: {"b": 1, "a": 2, "$cairn": ["o", "a", "b"]},
    "marker of a snapshot": lambda: {"$cairn": ["s", 1]},
    "marker in a list": lambda: [[{"$cairn": None}], {"$cairn": {}}],
    "marker in a dict": lambda: {"a": {"b": {"$cairn": ["c", "A" * 22], "z": 1}}},
    "marker in a message": lambda: AIMessage("", additional_kwargs={"$cairn": ["c", "A" * 22]}),
    "marker in a model": lambda: Person.model_validate(
        {"fullName": "A", "anything": {"$cairn": ["c", "A" * 22]}}
    ),
    "list of markers": lambda: [{"$cairn": ["c", f"{i:022}"]} for i in range(40)],
    "marker beside many": lambda: {"$cairn": 0, **{f"k{i}": "v" * 50 for i in range(40)}},
    "marker in many": lambda: {f"k{i}": {"$cairn": ["c", "x" * 200]} for i in range(20)},
    "marker-like strings": lambda: ["$cairn", '{"$cairn":["c","x"]}', "A" * 22],
}

# What LangGraph's own serializer changes or loses and ours keeps (see `SafeSerializer`).
KEPT_BETTER = frozenset(
    {
        "surrogate",
        "surrogate pair in halves",
        "odd string keys",
        "array of dates",
        "set of tuples",
        "enum of tuples",
        "root model",
    }
)


def _arrays() -> dict[str, Callable[[], Any]]:
    try:
        import numpy as np  # noqa: PLC0415 -- not a dependency
    except ImportError:
        return {}
    return {
        "array": lambda: np.arange(5),
        "matrix": lambda: np.arange(6, dtype="float32").reshape(2, 3),
        "matrix by columns": lambda: np.asfortranarray(np.arange(6).reshape(2, 3)),
        "no rows": lambda: np.empty((0, 3), dtype="int8"),
        "array of bools": lambda: np.array([True, False]),
        "array of dates": lambda: np.array(["2024-01-01"], dtype="datetime64[D]"),
        "array of strings": lambda: np.array(["a", "bc"]),
        "complex array": lambda: np.array([1 + 2j]),
        "large array": lambda: np.arange(5000),
    }


def _v1_models() -> dict[str, Callable[[], Any]]:
    if sys.version_info >= (3, 14):  # pydantic's v1 interface ends at Python 3.13
        return {}
    from langcairn.testing.models_v1 import OldAddress, OldPerson  # noqa: PLC0415 -- as above

    return {
        "v1 model": lambda: OldAddress(street="Ring"),
        "nested v1 model": lambda: OldPerson(name="Ada", homes=[OldAddress(street="Ring")]),
    }


def _sized() -> dict[str, Callable[[], Any]]:
    """Return values around the sizes at which the stored form changes."""
    fixed: dict[str, Any] = {
        f"string of {n}": "x" * n for n in (95, 97, 98, 99, 100, 101, 1020, 1024, 1030, 70_000)
    }
    for n in (15, 16, 17, 255, 256, 257, 273, 4097):
        fixed[f"list of {n}"] = list(range(n))
        fixed[f"list of {n} strings"] = [f"{i:>120}" for i in range(n)]
        fixed[f"dict of {n}"] = {f"key {i}": "v" * 80 for i in range(n)}
    for n in (48, 49, 50, 500):
        fixed[f"list of {n} short strings"] = ["y" * 20] * n
    values: dict[str, Callable[[], Any]] = {
        name: partial(copy.copy, value) for name, value in fixed.items()
    }
    values["deep list"] = lambda: _deep(100, lambda inner: [inner, "z" * 30])
    values["deep dict"] = lambda: _deep(100, lambda inner: {"in": inner, "z": "z" * 30})
    values["large in small"] = lambda: {"a": {"b": {"c": "x" * 5000}}, "d": ["y" * 5000]}
    return values


def _deep(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = wrap(value)
    return value


SMALL_SAMPLES: dict[str, Callable[[], Any]] = {
    **PLAIN, **OBJECTS, **MESSAGES, **MARKERS, **_arrays(), **_v1_models(),
}  # fmt: skip
SAMPLES: dict[str, Callable[[], Any]] = {**SMALL_SAMPLES, **_sized()}

WRAPPINGS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "alone": lambda make: make(),
    "in a list": lambda make: [make()],
    "in a dict": lambda make: {"k": make()},
    "in a tuple": lambda make: (make(), 1),
    "beside 90 bytes": lambda make: ["x" * 90, make()],
    "beside 1000 bytes": lambda make: {"pad": "x" * 1000, "k": make()},
    "in a large list": lambda make: ["x" * 600, make(), "y" * 600],
    "16 times": lambda make: [make() for _ in range(16)],
    "in a dict of 17": lambda make: {**{f"k{i}": i for i in range(16)}, "k16": [make()]},
    "in the middle of 257": lambda make: [*range(128), make(), *(f"{i:>60}" for i in range(128))],
    "in a snapshot": lambda make: _DeltaSnapshot([make(), "x" * 1100]),
    "two levels down": lambda make: {"a": [{"b": make(), "pad": "x" * 1100}], "c": "y" * 1100},
    "in a message": lambda make: ToolMessage("x", tool_call_id="1", artifact=make()),
    "in a model": lambda make: Person.model_validate({"fullName": "A", "anything": make()}),
    "in a dataclass": lambda make: Plan("x", [make()]),
    "in a send": lambda make: Send("node", {"x": make()}),
}
