"""The serializer: LangGraph's values, refusals with a path, and bytes that can't be trusted."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import decimal
import enum
import ipaddress
import logging
import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import typing
import uuid
import warnings
import zoneinfo
from collections import deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ormsgpack
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde import _msgpack as langgraph_policy
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import GetOp, Item, SearchItem
from langgraph.types import Command, Interrupt, Overwrite, PregelTask, Send, TimeoutPolicy

from langcairn.codec import revive
from langcairn.codec.serde import SafeSerializer
from langcairn.errors import CairnError, CorruptData, InvalidInput, UnsafeType, Unserializable

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.base import BaseCheckpointSaver

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Python 3.14 warns about pydantic's v1 interface
    import pydantic.v1

ours = SafeSerializer()
theirs = JsonPlusSerializer()
HERE = __name__


class Color(enum.Enum):
    RED = "red"
    MIX = (1, (2, 3))


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    HELLO = "hello"


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Day(date, enum.Enum):
    FIRST = 2020, 1, 1


class Point(NamedTuple):
    x: Any
    y: Any = None


OldPoint = collections.namedtuple("OldPoint", "a b")


@dataclasses.dataclass
class Plain:
    a: Any
    b: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: Any


@dataclasses.dataclass
class Picky:
    """Says no to what it accepted when it was saved."""

    a: int
    refuse: typing.ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.refuse:
            raise ValueError("no")


class Inner(pydantic.BaseModel):
    n: int = 0
    when: datetime | None = None


class Model(pydantic.BaseModel):
    name: str
    inner: Inner = Inner()
    anything: Any = None
    secret: pydantic.SecretStr | None = None


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class Strict(pydantic.BaseModel):
    n: int = pydantic.Field(gt=0)


class Names(pydantic.RootModel[list[str]]):
    pass


class OldModel(pydantic.v1.BaseModel):
    name: str
    n: Any = 1


class Tags(set[Any]):
    pass


class Outer:
    @dataclasses.dataclass
    class Nested:
        a: Any


class Duck:
    """Neither a model nor a dataclass, but LangGraph would store it as one."""

    def __init__(self, a: int) -> None:
        self.a = a

    def model_dump(self) -> dict[str, Any]:
        return {"a": self.a}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duck) and self.a == other.a

    __hash__ = None  # type: ignore[assignment]  # equal by content, and mutable


class Slots:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = object()


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal, all the way down, with equal types."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return math.copysign(1, left) == math.copysign(1, right) and (
            left == right or (math.isnan(left) and math.isnan(right))
        )
    if isinstance(left, np.ndarray):
        flags = left.flags.f_contiguous == right.flags.f_contiguous
        return bool(flags and left.dtype == right.dtype and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple | deque):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, pydantic.BaseModel):
        return same(left.__dict__, right.__dict__) and same(
            left.__pydantic_extra__, right.__pydantic_extra__
        )
    if dataclasses.is_dataclass(left) or isinstance(left, Send):
        names = getattr(left, "__dataclass_fields__", ("node", "arg", "timeout"))
        return all(same(getattr(left, name), getattr(right, name)) for name in names)
    return bool(left == right)


def nest(wrap: Callable[[Any], Any], times: int, inner: Any = 1) -> Any:
    for _ in range(times):
        inner = wrap(inner)
    return inner


VALUES: dict[str, Any] = {
    "none": [None],
    "bools": [True, False],
    "integers": [0, -1, 2**63 - 1, 2**64 - 1, -(2**63)],
    "floats": [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324],
    "strings": ["", "a\0b", "é", "🪨", "x" * 70_000],
    "bytes": [b"", b"\0\xff", b"x" * 70_000],
    "containers": {"a": [1, [2, []]], "b": {}, "t": (1, (2,))},
    "keys": {2: "a", 1.5: "b", None: "c", True: "d", b"k": "e", (1, (2, "x")): "f", -3: "g"},
    "odd keys": {Color.RED: 1, date(2020, 1, 2): 2, uuid.UUID(int=7): 3, Level.HIGH: 4},
    "dict classes": [
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        collections.defaultdict(list, a=[1]),
    ],
    "sets": [{1, 2}, frozenset({"a"}), set(), frozenset({frozenset({1})}), deque([1, [2]], 5)],
    "set subclass": Tags([1]),
    "numbers": [decimal.Decimal("1.10"), decimal.Decimal("NaN").is_nan()],
    "uuid": uuid.UUID("12345678123456781234567812345678"),
    "datetimes": [
        datetime(2024, 2, 29, 1, 2, 3, 4),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        datetime(2024, 2, 29, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    ],
    "dates": [date(1, 1, 1), date.max],
    "times": [time(1, 2, 3, 4), time(5, tzinfo=UTC), time(2, fold=1)],
    "durations": [timedelta(days=-1, microseconds=5), timedelta.max],
    "zones": [UTC, timezone(timedelta(hours=2), "X"), zoneinfo.ZoneInfo("Asia/Kolkata")],
    "paths": [pathlib.Path("/a/b"), pathlib.Path("a"), pathlib.Path()],
    "addresses": [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_interface("10.0.0.1/8"),
        ipaddress.ip_address("::1"),
        ipaddress.ip_network("fe80::/10"),
        ipaddress.ip_interface("fe80::1/64"),
    ],
    "patterns": [re.compile("a+", re.IGNORECASE), re.compile(rb"\x00")],
    "exceptions": [ValueError("x", 1), KeyError("k")],
    "enums": [Color.RED, Level.HIGH, Word.HELLO, Mode.READ | Mode.WRITE],
    "named tuples": [Point(1, Point(2)), OldPoint("a", [1])],
    "dataclasses": [Plain(1, Frozen([Plain(2)])), Frozen({"a": (1, 2)})],
    "models": [
        Model(name="a", inner=Inner(n=2, when=datetime(2020, 1, 1)), anything=[1, {"x": {2}}]),
        Model(name="b", secret=pydantic.SecretStr("s")),
        Loose.model_validate({"x": 1, "y": [2]}),
        Strict.model_construct(n=-1),
    ],
    "old models": [OldModel(name="a"), OldModel(name="b", n=[1])],
    "secrets": [
        pydantic.SecretStr("s"),
        pydantic.SecretBytes(b"s"),
        pydantic.v1.SecretStr("s"),
        pydantic.v1.SecretBytes(b"s"),
    ],
    "messages": [
        HumanMessage("hi", id="1", name="me"),
        HumanMessage(["a", {"type": "image_url", "image_url": {"url": "data:"}}]),
        AIMessage(
            "yes",
            tool_calls=[{"name": "f", "args": {"a": [1]}, "id": "c1"}],
            usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            response_metadata={"at": datetime(2020, 1, 1), "x": {1}},
        ),
        ToolMessage("out", tool_call_id="c1", artifact={"rows": [(1, 2)], "p": Plain(1)}),
        SystemMessage("s"),
        ChatMessage(content="c", role="r"),
        FunctionMessage(content="f", name="g"),
        RemoveMessage(id="1"),
        AIMessageChunk(
            content="part", tool_call_chunks=[{"name": "f", "args": "{", "id": "1", "index": 0}]
        ),
        Document("text", id="d", metadata={"k": 1}),
    ],
    "langgraph": [
        Send("node", {"messages": [HumanMessage("x")]}),
        Send("node", 1, timeout=TimeoutPolicy(run_timeout=1.5, idle_timeout=2.0)),
        TimeoutPolicy(run_timeout=1.0),
        Interrupt({"ask": "?"}, id="i"),
        Command(update={"a": 1}, goto=[Send("x", [1])], resume={"i": "yes"}),
        Overwrite([1, 2]),
        GetOp(("a", "b"), "k"),
        PregelTask("id", "name", ("path",)),
        _DeltaSnapshot([HumanMessage("x"), {1, 2}]),
        _DeltaSnapshot(None),
    ],
    "items": [
        Item(
            value={"a": 1},
            key="k",
            namespace=("n", "m"),
            created_at=datetime(2020, 1, 1, tzinfo=UTC),
            updated_at=datetime(2020, 1, 2, tzinfo=UTC),
        ),
        SearchItem(("n",), "k", {"a": 1}, datetime(2020, 1, 1), datetime(2020, 1, 2), 0.5),
    ],
    "arrays": [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.array([[1.5, math.pi]], dtype=">f4"),
        np.array(["ab", "ç"]),
        np.array([b"ab"]),
        np.array([True, False]),
        np.array(1 + 2j),
        np.arange(4, dtype=np.int8)[::-1],
    ],
    "deep": nest(lambda inner: [inner], 200),
    "deep objects": nest(lambda inner: Plain([inner]), 100),
}


@pytest.mark.parametrize("name", VALUES)
def test_same_values_and_types_as_langgraph(name: str) -> None:
    value = VALUES[name]
    tag, data = ours.dumps_typed(value)
    their_tag, their_data = theirs.dumps_typed(value)
    assert tag == their_tag == "msgpack"
    expected = theirs.loads_typed((their_tag, their_data))
    assert same(ours.loads(data), expected)
    assert same(ours.loads(their_data), expected)
    assert same(theirs.loads_typed((tag, data)), expected)


@pytest.mark.parametrize(
    "name", sorted(VALUES.keys() - {"arrays", "zones", "items", "messages", "models"})
)
def test_same_bytes_as_langgraph(name: str) -> None:
    assert ours.dumps_typed(VALUES[name]) == theirs.dumps_typed(VALUES[name])


@pytest.mark.parametrize("value", [None, b"", b"abc", bytearray(b"abc")])
def test_formats_that_are_not_msgpack(value: object) -> None:
    typed = ours.dumps_typed(value)
    assert typed == theirs.dumps_typed(value)
    assert same(ours.loads_typed(typed), value)
    as_msgpack = bytes(value) if isinstance(value, bytearray) else value
    assert same(ours.loads(ours.dumps(value)), as_msgpack)


@pytest.mark.parametrize(
    "value",
    [
        {(1, 2), (3, (4, 5))},
        frozenset({("a", frozenset({(1,)}))}),
        Color.MIX,
        Day.FIRST,
        Names(["a"]),
        np.array(["2020-01-01", "NaT"], dtype="M8[s]"),
        np.array([5], dtype="m8[ns]"),
        np.zeros((0, 3), order="F"),
    ],
    ids=repr,
)
def test_values_that_langgraph_changes_come_back_whole(value: object) -> None:
    assert same(ours.loads(ours.dumps([value])), [value])


def test_what_is_loaded_belongs_to_the_caller() -> None:
    data = ours.dumps([np.arange(3), [1], bytearray(b"x")])
    first, second = ours.loads(data), ours.loads(data)
    first[0][0] = 9
    first[1].append(2)
    assert second[0][0] == 0
    assert second[1] == [1]


# --- strings


TEXT = "a\ud800b"


@pytest.mark.parametrize(
    "value",
    [
        TEXT,
        [TEXT, {"k": TEXT, "n": [1]}],
        {TEXT: 1, "b": [2], 3: TEXT},
        {("t", TEXT): 1},
        {TEXT},
        Plain(TEXT, {TEXT: {TEXT: TEXT}}),
        HumanMessage(TEXT),
        AIMessage("", tool_calls=[{"name": "f", "args": {TEXT: [TEXT]}, "id": "1"}]),
        Send("n", {"q": [HumanMessage(TEXT)]}),
        Model(name=TEXT),
        OldModel.construct(name=TEXT, n=2),
        Point(1, TEXT),
        pathlib.Path(os.fsdecode(b"/a\xff")),
        pydantic.SecretStr(TEXT),
        _DeltaSnapshot([TEXT]),
        "\U0001f600 and \ud83d\ude00",
    ],
    ids=lambda value: type(value).__name__,
)
def test_lone_surrogates_survive(value: object) -> None:
    assert same(ours.loads(ours.dumps(value)), value)


def test_lone_surrogates_survive_where_no_name_is_stored() -> None:
    assert ours.loads(ours.dumps(Outer.Nested(TEXT))) == {"a": TEXT}


# --- classes without a name


def test_a_class_that_cant_be_found_is_stored_as_plain_data(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revive, "_warned", set())

    @dataclasses.dataclass
    class Local:
        a: Any

    class LocalModel(pydantic.BaseModel):
        a: int

    class Shade(enum.Enum):
        DARK = "dark"

    class Moment(datetime):
        pass

    moment = Moment(2020, 1, 1)
    values = [Local([Local(1)]), LocalModel(a=1), Shade.DARK, Outer.Nested(1), moment]
    with caplog.at_level(logging.WARNING, logger="langcairn"):
        data = ours.dumps(values)
        assert ours.dumps(values) == data
    plain = [{"a": [{"a": 1}]}, {"a": 1}, "dark", {"a": 1}, moment.isoformat()]
    assert ours.loads(data) == plain
    assert theirs.loads_typed(("msgpack", data)) == plain
    assert ours.loads(ours.dumps(values)) == theirs.loads_typed(theirs.dumps_typed(values))
    ours_only = [record for record in caplog.records if record.name.startswith("langcairn")]
    assert len(ours_only) == 5  # once for each class
    with pytest.raises(UnsafeType, match="no such class"):
        ours.loads(theirs.dumps_typed(values)[1])


def test_the_warnings_have_an_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revive, "_warned", set())
    monkeypatch.setattr(revive, "_MAX_WARNED", 3)
    for number in range(10):
        ours.dumps(dataclasses.make_dataclass(f"Made{number}", ["a"])(1))
    assert len(caplog.records) == 3


def test_a_class_defined_anew_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Plain(1, 2)
    again = dataclasses.make_dataclass("Plain", ["a", "b"])
    again.__module__ = HERE
    assert type(ours.loads(ours.dumps(old))) is Plain
    monkeypatch.setattr(sys.modules[HERE], "Plain", again)
    assert type(ours.loads(ours.dumps(old))) is again


def test_a_class_that_refuses_its_data_by_now_gives_plain_data(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revive, "_warned", set())
    data = ours.dumps([Picky(1), Picky(2)])
    monkeypatch.setattr(Picky, "refuse", True)
    assert ours.loads(data) == theirs.loads_typed(("msgpack", data)) == [{"a": 1}, {"a": 2}]
    assert [record.name for record in caplog.records].count("langcairn.codec.revive") == 1


# --- what can't be stored


def cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"self": value})
    return value


def object_cycle() -> Plain:
    value = Plain(1)
    value.b = [value]
    return value


def model_cycle() -> Model:
    model = Model(name="a")
    model.anything = {"me": model}
    return model


UNSERIALIZABLE: list[tuple[Any, str, str]] = [
    (object(), "", "no way"),
    ([1, object()], "[1]", "no way"),
    ({"x": {"y": [object()]}}, "['x']['y'][0]", "no way"),
    ({1: object()}, "[1]", "no way"),
    ([{2, 3}, (1, object())], "[1][1]", "no way"),
    ({"s": {object()}}, "['s'][0]", "no way"),
    (deque([object()]), "[0]", "no way"),
    (Plain(1, object()), ".b", "no way"),
    (Point(object()), ".x", "no way"),
    ([ToolMessage("x", tool_call_id="1", artifact={"x": object()})], "[0].artifact['x']", "no way"),
    (Model(name="a", anything=Plain(object())), ".anything.a", "no way"),
    (Loose.model_validate({"x": object()}), ".x", "no way"),
    (OldModel(name="a", n=object()), ".n", "no way"),
    (Send("n", {"x": object()}), ".arg['x']", "no way"),
    (Interrupt(object()), ".value", "no way"),
    (Command(update={"a": [object()]}), ".update['a'][0]", "no way"),
    (_DeltaSnapshot([1, object()]), ".value[1]", "no way"),
    ({"f": lambda: None}, "['f']", "no way"),
    ([Slots()], "[0]", "no way"),
    ({"m": threading.Lock()}, "['m']", "no way"),
    ({"c": Plain}, "['c']", "no way"),
    ([np.int64(1)], "[0]", "no way"),
    ([np.float64(1)], "[0]", "no way"),
    ({"n": 2**64}, "['n']", "64 bits"),
    ([-(2**63) - 1], "[0]", "64 bits"),
    (Frozen(2**70), ".a", "64 bits"),
    ({2**70: 1}, f" key {2**70}", "64 bits"),
    ({"d": {frozenset({1}): 1}}, "['d'] key <frozenset>", "keys of this type"),
    ({Point(1): 1}, " key <Point>", "keys of this type"),
    (cycle(), "[1]['self']", "contains itself"),
    (object_cycle(), ".b[0]", "contains itself"),
    (model_cycle(), ".anything['me']", "contains itself"),
    ([np.array([object()])], "[0]", "dtype object"),
    ([np.zeros(2, dtype=[("a", "i4")])], "[0]", "don't come back"),
    ([np.array(["a"], dtype=np.dtypes.StringDType())], "[0]", "don't come back"),
    ([Duck(1)], "[0]", "not a data type"),
    ({"x" * 500: object()}, "", "no way"),
]


@pytest.mark.parametrize(
    ("value", "path", "reason"), UNSERIALIZABLE, ids=[p or "root" for _, p, _ in UNSERIALIZABLE]
)
def test_what_cant_be_stored_is_refused_with_its_path(value: Any, path: str, reason: str) -> None:
    with pytest.raises(Unserializable, match=reason) as caught:
        ours.dumps(value, path="state['v']")
    assert caught.value.path.startswith("state['v']" + path)
    assert path == "" or caught.value.path == "state['v']" + path
    assert len(str(caught.value)) < 600
    with pytest.raises(Unserializable):
        ours.dumps_typed(value)


def test_the_path_is_given_even_without_a_prefix() -> None:
    with pytest.raises(Unserializable) as caught:
        ours.dumps([object()])
    assert caught.value.path == "[0]"
    assert caught.value.type_name == "object"
    with pytest.raises(Unserializable) as caught:
        ours.dumps(object())
    assert caught.value.path == "value"


@pytest.mark.parametrize(
    "value",
    [
        nest(lambda inner: [inner], 5000),
        nest(Plain, 5000),
        nest(lambda inner: Plain([[inner]]), 2000),
        nest(lambda inner: {"a": inner}, 2000, TEXT),
    ],
    ids=["lists", "objects", "both", "with surrogates"],
)
def test_too_deep_is_an_error_and_no_crash(value: object) -> None:
    with pytest.raises(Unserializable, match="deeply"):
        ours.dumps(value)


def test_what_is_written_is_not_too_deep_to_be_read() -> None:
    def wide(inner: Any) -> Plain:
        return Plain(nest(lambda i: [i], 200, inner), "x" * 3000)

    assert ours.loads(ours.dumps(nest(wide, 8)))
    with pytest.raises(Unserializable, match="deeply"):
        ours.dumps(nest(wide, 20))


def test_interrupts_pass_through() -> None:
    class Stop(BaseException):
        pass

    class Rude(pydantic.BaseModel):
        def model_dump(self, **_: Any) -> Any:
            raise Stop

    with pytest.raises(Stop):
        ours.dumps([Plain(Rude())])
    assert ours.loads(ours.dumps([1])) == [1]


def test_a_model_that_fails_to_dump_is_the_one_to_blame() -> None:
    class Broken(pydantic.BaseModel):
        def model_dump(self, **_: Any) -> Any:
            raise KeyError("broken")

    with pytest.raises(Unserializable, match="broken") as caught:
        ours.dumps({"m": [Broken()]})
    assert caught.value.path == "['m'][0]"


# --- what must not be loaded


def ext(code: int, *parts: Any) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(parts)))


class Trap:
    """A class that must never be called."""

    called: typing.ClassVar[list[Any]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.called.append((args, kwargs))

    @classmethod
    def fromisoformat(cls, value: Any) -> Any:
        cls.called.append(value)


def trap(*args: Any, **kwargs: Any) -> None:
    Trap.called.append((args, kwargs))


class TrapDatetime(datetime):
    @classmethod
    def fromisoformat(cls, value: str) -> Any:
        Trap.called.append(value)
        return super().fromisoformat(value)


class FakeTuple:
    _fields = ("a",)

    def __init__(self, *args: Any) -> None:
        Trap.called.append(args)


Alias = Plain
instance_of_trap = Trap.__new__(Trap)
os_module = os


SYSTEM = ["os", "system", "touch sign"]
HOSTILE: dict[str, bytes] = {
    "os.system": ext(0, "os", "system", "touch sign"),
    "posix.system": ext(0, "posix", "system", "touch sign"),
    "Popen": ext(0, "subprocess", "Popen", ["touch", "sign"]),
    "Popen by name": ext(2, "subprocess", "Popen", {"args": ["touch", "sign"]}),
    "Popen as model": ext(5, "subprocess", "Popen", {"args": ["touch", "sign"]}, "x"),
    "Popen through an alias": ext(0, HERE, "subprocess.Popen", ["touch", "sign"]),
    "eval": ext(0, "builtins", "eval", "open('sign', 'w')"),
    "exec": ext(1, "builtins", "exec", ["open('sign', 'w')"]),
    "type": ext(1, "builtins", "type", ["X", [], {}]),
    "open": ext(1, "builtins", "open", ["sign", "w"]),
    "int": ext(0, "builtins", "int", "1"),
    "function": ext(1, HERE, "trap", [1]),
    "class": ext(1, HERE, "Trap", [1]),
    "class by name": ext(2, HERE, "Trap", {"a": 1}),
    "class as model": ext(5, HERE, "Trap", {"a": 1}, "x"),
    "class as old model": ext(4, HERE, "Trap", {"a": 1}),
    "looks like a named tuple": ext(2, HERE, "FakeTuple", {"a": 1}),
    "instance": ext(1, HERE, "instance_of_trap", [1]),
    "alias": ext(2, HERE, "Alias", {"a": 1}),
    "imported class": ext(2, HERE, "Interrupt", {"value": 1}),
    "module": ext(0, HERE, "os_module", "x"),
    "path": ext(2, HERE, "Outer.Nested", {"a": 1}),
    "enum by positions": ext(1, HERE, "Color", ["Made", "A B"]),
    "enum by name": ext(2, HERE, "Color", {"value": "Made", "names": "A B"}),
    "enum factory": ext(1, "enum", "Enum", ["Made", "A B"]),
    "dataclass by one": ext(0, HERE, "Plain", "x"),
    "model by one": ext(0, HERE, "Model", {"name": "x"}),
    "named tuple by one": ext(0, HERE, "Point", 1),
    "duck": ext(5, HERE, "Duck", {"a": 1}, "model_validate_json"),
    "method": ext(3, HERE, "Trap", "x", "fromisoformat"),
    "method of a subclass": ext(3, HERE, "TrapDatetime", "2020-01-01", "fromisoformat"),
    "other method": ext(3, "datetime", "datetime", 1, "fromtimestamp"),
    "method of a function": ext(3, "os", "system", "touch sign", "__call__"),
    "not loaded": ext(0, "side_effect_module", "Thing", 1),
    "not loaded, as model": ext(5, "side_effect_module", "Thing", {}, "x"),
    "not loaded package": ext(0, "side_effect_module.sub", "Thing", 1),
    "lazy attribute": ext(2, "lazy_module", "Thing", {}),
    "no such class": ext(2, HERE, "Missing", {}),
    "main": ext(1, "__main__", "nothing", []),
    # A legitimate object around a hostile one.
    "inside": ext(2, HERE, "Plain", {"a": ormsgpack.Ext(0, ormsgpack.packb(SYSTEM))}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_run_nothing(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trap, "called", [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sign = tmp_path / "sign"
    effect = f"import dataclasses\nopen({str(sign)!r}, 'w').close()\n"
    (tmp_path / "side_effect_module.py").write_text(effect)
    lazy = ModuleType("lazy_module")
    lazy.__dict__["__getattr__"] = trap
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    modules = set(sys.modules)
    with pytest.raises(UnsafeType):
        ours.loads(HOSTILE[name])
    assert Trap.called == []
    assert set(sys.modules) == modules
    assert {entry.name for entry in tmp_path.iterdir()} == {"side_effect_module.py"}


def test_the_traps_would_have_worked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trap, "called", [])
    theirs.loads_typed(("msgpack", HOSTILE["function"]))
    assert Trap.called == [((1,), {})]


def test_a_module_that_is_not_loaded_is_named() -> None:
    with pytest.raises(UnsafeType, match=r"side_effect_module\.Thing.*import the module first"):
        ours.loads(HOSTILE["not loaded"])


def test_lazy_modules_stay_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            Trap.called.append(name)
            return super().__getattribute__(name)

    monkeypatch.setattr(Trap, "called", [])
    monkeypatch.setitem(sys.modules, "very_lazy", Lazy("very_lazy"))
    with pytest.raises(UnsafeType):
        ours.loads(ext(2, "very_lazy", "Thing", {}))
    monkeypatch.setitem(sys.modules, "no_module", 5)  # people do this
    with pytest.raises(UnsafeType):
        ours.loads(ext(2, "no_module", "Thing", {}))
    assert Trap.called == []


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("pickle", b"cos\nsystem\n(S'true'\ntR."),
        ("json", b'{"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["true"]}'),
        ("json", b'[{"lc": 1, "type": "secret", "id": ["PATH"]}]'),
        (
            "json",
            b'{"a": {"lc": 2, "type": "constructor", "id": ["langchain", "HumanMessage"]}}',
        ),
    ],
)
def test_other_formats_run_nothing(kind: str, data: bytes) -> None:
    with pytest.raises(UnsafeType):
        ours.loads_typed((kind, data))


def test_plain_json_is_read() -> None:
    assert ours.loads_typed(("json", b'{"a": [1, null], "lc": 1}')) == {"a": [1, None], "lc": 1}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("json", b"{"),
        ("json", b"[" * 100_000),
        ("json", b"\xff"),
        ("yaml", b""),
        ("msgpack", b""),
        ("msgpack", b"\xc1"),
        ("msgpack", b"\xdd\xff\xff\xff\xff"),
        ("msgpack", b"\xa1\xff"),
        ("msgpack", b"\x91" * 3000),
        ("msgpack", ext(8, 1)),
        ("msgpack", ext(99, 1)),
        ("msgpack", ormsgpack.packb(ormsgpack.Ext(0, b""))),
        ("msgpack", ormsgpack.packb(ormsgpack.Ext(2, ormsgpack.packb("abc")))),
        ("msgpack", ext(0, "builtins", "set")),
        ("msgpack", ext(0, "builtins", "set", "abc")),
        ("msgpack", ext(0, "builtins", "set", [1], 2)),
        ("msgpack", ext(0, 1, 2, 3)),
        ("msgpack", ext(0, ["builtins"], "set", [1])),
        ("msgpack", ext(1, "datetime", "timedelta", {"days": 1})),
        ("msgpack", ext(1, "datetime", "timedelta", [10**12])),
        ("msgpack", ext(1, "datetime", "date", [2020, 13, 1])),
        ("msgpack", ext(2, HERE, "Plain", [1])),
        ("msgpack", ext(0, "uuid", "UUID", "x")),
        ("msgpack", ext(0, "decimal", "Decimal", "x")),
        ("msgpack", ext(3, "datetime", "datetime", "yesterday", "fromisoformat")),
        ("msgpack", ext(1, "re", "compile", ["(", 0])),
        ("msgpack", ext(1, "re", "compile", ["(" * 3000 + ")" * 3000, 0])),
        ("msgpack", ext(1, "re", "compile", [1, 2, 3])),
        ("msgpack", ext(6, "<f8", [1], "C")),
        ("msgpack", ext(6, "|O", [1], "C", b"\0" * 8)),
        ("msgpack", ext(6, "O", [1], "C", b"\0" * 8)),
        ("msgpack", ext(6, "f8,O", [1], "C", b"\0" * 16)),
        ("msgpack", ext(6, "<f8", [10**12], "C", b"\0" * 8)),
        ("msgpack", ext(6, "<f8", [1], "C", b"\0" * 7)),
        ("msgpack", ext(6, "<f8", [1], "Z", b"\0" * 8)),
        ("msgpack", ext(6, "<f8", "x", "C", b"\0" * 8)),
        ("msgpack", ext(6, "<f8", [1], "C", "text")),
        ("msgpack", ormsgpack.packb(ormsgpack.Ext(100, b"\xff"))),
        ("msgpack", ext(101, 1, 2)),
    ],
)
def test_damaged_data_is_called_corrupt(kind: str, data: bytes) -> None:
    with pytest.raises(CorruptData) as caught:
        ours.loads_typed((kind, data))
    assert not isinstance(caught.value, UnsafeType)


def test_a_missing_numpy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ours.dumps(np.arange(3))
    monkeypatch.setitem(sys.modules, "numpy", None)  # how an import is made to fail
    with pytest.raises(CorruptData, match="install numpy"):
        ours.loads(data)


def test_a_stop_while_loading_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(BaseException):
        pass

    def stop(self: Any) -> None:
        raise Stop

    data = ours.dumps([Plain(Picky(1))])
    monkeypatch.setattr(Picky, "__post_init__", stop)
    with pytest.raises(Stop):
        ours.loads(data)
    assert ours.loads(ours.dumps([1])) == [1]


def test_errors_of_one_load_do_not_show_in_the_next() -> None:
    with pytest.raises(UnsafeType):
        ours.loads(HOSTILE["os.system"])
    with pytest.raises(CorruptData, match="end of file") as caught:
        ours.loads(b"\x92\x01")
    assert not isinstance(caught.value, UnsafeType)


def forged_depth(levels: int, containers: int) -> bytes:
    data = ormsgpack.packb(1)
    for _ in range(levels):
        data = b"\x91" * containers + ormsgpack.packb(ormsgpack.Ext(7, data))
    return data


@pytest.mark.parametrize(("levels", "containers"), [(100, 1000), (3000, 1), (20_000, 0)])
def test_forged_depth_is_an_error_and_no_crash(levels: int, containers: int) -> None:
    with pytest.raises(CorruptData):
        ours.loads(forged_depth(levels, containers))


def test_depth_is_counted_right() -> None:
    limit = revive.MAX_NESTING
    padding = ormsgpack.packb("x" * limit)
    for head in (b"\x91", b"\xdc\x00\x01", b"\xdd\0\0\0\1", b"\x81\xc0", b"\xde\0\1\xc0"):
        assert not revive.too_deep(head * (limit - 2) + padding)
        assert revive.too_deep(head * limit + padding)
    wide = ormsgpack.packb([VALUES["containers"], 1.5, -70_000, b"x" * 300, "x" * 300] * 1000)
    assert not revive.too_deep(wide)
    assert revive.too_deep(b"\x92" + wide + b"\x91" * limit)
    for cut in range(0, 5000, 7):
        revive.too_deep(wide[: 2001 + cut])


# --- allowlists


def test_allowed_types_are_called_whatever_they_are() -> None:
    allowing = SafeSerializer(allowed_types=[Duck])
    assert allowing.loads(allowing.dumps([Duck(1)])) == [Duck(1)]
    by_name = SafeSerializer(allowed_types=[(HERE, "Duck")])
    assert by_name.loads(allowing.dumps(Duck(1))) == Duck(1)
    with pytest.raises(UnsafeType):
        ours.loads(allowing.dumps(Duck(1)))


def test_an_allowed_class_needs_no_module_level_name() -> None:
    @dataclasses.dataclass
    class Local:
        a: int

    allowing = SafeSerializer(allowed_types=[Local, Outer.Nested])
    values = [Local(1), Outer.Nested(2)]
    assert allowing.loads(allowing.dumps(values)) == values


def test_allowing_never_imports() -> None:
    with pytest.raises(UnsafeType, match="import the module first"):
        SafeSerializer(allowed_types=[("side_effect_module", "Thing")]).loads(HOSTILE["not loaded"])


@pytest.mark.parametrize("entry", [("one",), ("a", "b", "c"), ("a", 1)])
def test_allowlists_hold_classes_and_pairs(entry: Any) -> None:
    with pytest.raises(InvalidInput):
        SafeSerializer(allowed_types=[entry])


def test_only_allowed_types() -> None:
    only = SafeSerializer(allowed_types=[Plain], only_allowed=True)
    values = [Plain(1), HumanMessage("x"), {1}, Send("n", 1), datetime(2020, 1, 1)]
    assert only.loads(only.dumps(values)) == values
    for value in (Frozen(1), Color.RED, Point(1), Inner()):
        with pytest.raises(UnsafeType, match="allowed_types"):
            only.loads(ours.dumps(value))
        # What could not be loaded again is not written either.
        with pytest.raises(Unserializable, match="allowed_types"):
            only.dumps([value])


def test_langgraphs_strict_mode_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(langgraph_policy, "STRICT_MSGPACK_ENABLED", True)
    data = ours.dumps(Plain(1))
    with pytest.raises(UnsafeType):
        SafeSerializer().loads(data)
    assert SafeSerializer(only_allowed=False).loads(data) == Plain(1)


def test_with_msgpack_allowlist_derives_a_strict_serializer() -> None:
    base = SafeSerializer(allowed_types=[Plain])
    derived = base.with_msgpack_allowlist([Frozen, (HERE, "Point")])
    assert isinstance(derived, SafeSerializer)
    assert derived is not base
    values = [Plain(1), Frozen(2), Point(3)]
    assert derived.loads(derived.dumps(values)) == values
    with pytest.raises(UnsafeType):
        derived.loads(base.dumps(Color.RED))
    assert base.loads(base.dumps(Color.RED)) is Color.RED
    with pytest.raises(UnsafeType):
        base.with_msgpack_allowlist([]).loads(base.dumps(Frozen(1)))


def test_langgraph_derives_savers_from_it() -> None:
    saver: BaseCheckpointSaver[Any] = InMemorySaver(serde=ours).with_allowlist({(HERE, "Plain")})
    assert isinstance(saver.serde, SafeSerializer)
    assert saver.serde.loads_typed(ours.dumps_typed(Plain(1))) == Plain(1)
    with pytest.raises(UnsafeType):
        saver.serde.loads_typed(ours.dumps_typed(Frozen(1)))


def test_there_is_no_pickle() -> None:
    assert ours.pickle_fallback is False
    with pytest.raises(TypeError):
        SafeSerializer(pickle_fallback=True)  # type: ignore[call-arg]  # that is the point


def test_threads_do_not_see_each_others_errors() -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(200):
                if number % 2:
                    with pytest.raises(UnsafeType):
                        ours.loads(HOSTILE["inside"])
                else:
                    assert ours.loads(ours.dumps(Plain(TEXT))) == Plain(TEXT)
        except BaseException as error:  # noqa: BLE001 -- reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- laws


texts = st.text(st.characters(exclude_categories=()), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | texts
    | st.binary(max_size=8)
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.sampled_from([Color.RED, Level.HIGH, Word.HELLO, Color.MIX])
    | st.builds(HumanMessage, texts)
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts | st.integers(-5, 5), inner, max_size=4)
        | st.builds(Plain, inner, inner)
        | st.builds(Frozen, inner)
        | st.builds(Point, st.integers(0, 9), inner)
        | st.builds(Send, texts, inner)
        | st.builds(deque, st.lists(inner, max_size=3))
        | st.sets(texts | st.integers(-5, 5), max_size=3)
    )


values = st.recursive(scalars, containers, max_leaves=12)
quick = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@given(values)
@quick
def test_any_value_comes_back(value: Any) -> None:
    assert same(ours.loads(ours.dumps(value)), value)


@given(values)
@quick
def test_langgraphs_bytes_are_read_as_langgraph_reads_them(value: Any) -> None:
    assume("MIX" not in repr(value))  # LangGraph gives a list for it
    try:
        tag, data = theirs.dumps_typed(value)
    except ormsgpack.MsgpackEncodeError:
        reject()  # of surrogates in keys
    if tag == "msgpack":
        assert same(ours.loads(data), theirs.loads_typed((tag, data)))


@given(st.binary(max_size=60))
@quick
def test_arbitrary_bytes_raise_only_our_errors(data: bytes) -> None:
    for kind in ("msgpack", "json", "bytes", "bytearray", "null", "pickle"):
        with contextlib.suppress(CairnError):
            ours.loads_typed((kind, data))


@given(values | st.sampled_from(list(VALUES.values())), st.data())
@quick
def test_mutated_bytes_raise_only_our_errors(value: Any, data: st.DataObject) -> None:
    forged = bytearray(ours.dumps(value)[:3000])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(forged) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                forged[place] = data.draw(st.integers(0, 255))
            case 1:
                forged[place : place + 1] = b""
            case _:
                forged[place:place] = data.draw(st.binary(min_size=1, max_size=4))
        if not forged:
            break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy and re about odd dtypes and patterns
        with contextlib.suppress(CairnError):
            ours.loads(bytes(forged))


parts = st.recursive(
    st.none() | st.integers(-5, 300) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
targets = st.sampled_from(
    [*sorted(langgraph_policy.SAFE_MSGPACK_TYPES)]
    + [(HERE, name) for name in ("Plain", "Model", "OldModel", "Names", "Point", "Color", "Tags")]
    + [("pydantic.types", "SecretStr"), ("builtins", "eval"), ("subprocess", "Popen")]
)


@given(st.integers(0, 5), targets, parts)
@quick
def test_known_classes_with_odd_arguments_raise_only_our_errors(
    code: int, target: tuple[str, str], payload: Any
) -> None:
    tail = ["fromisoformat"] if code in (3, 5) else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydantic about unvalidated values
        with contextlib.suppress(CairnError):
            ours.loads(ext(code, *target, payload, *tail))


def test_messages_keep_their_class() -> None:
    for message in VALUES["messages"][:-1]:
        loaded = ours.loads(ours.dumps(message))
        assert isinstance(loaded, BaseMessage)
        assert type(loaded) is type(message)
    assert subprocess.Popen is not None  # loaded, or the hostile tests would prove less
