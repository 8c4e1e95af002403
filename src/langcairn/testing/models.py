"""Types of an application's own, as graphs keep them in their state."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr


class Colour(Enum):
    """An enum whose values are strings."""

    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    """An enum that equals ints."""

    LOW = 1
    HIGH = 2


class Mood(StrEnum):
    """An enum that equals strings."""

    CALM = "calm"
    TENSE = "tense"


class Corner(Enum):
    """An enum whose values are tuples."""

    ORIGIN = (0, 0)


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: float = 0.5


Pair = namedtuple("Pair", "left right")


@dataclass
class Plan:
    """A dataclass with mutable fields."""

    title: str
    steps: list[str] = field(default_factory=list)
    best: Point | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A dataclass that can't change."""

    start: int
    end: int


class Address(BaseModel):
    """A pydantic model."""

    street: str
    number: int = 1


class Person(BaseModel):
    """A pydantic model with all that complicates it."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    name: str = Field(alias="fullName")
    homes: list[Address] = []
    mood: Mood = Mood.CALM
    password: SecretStr | None = None
    anything: Any = None


class Tags(RootModel[list[str]]):
    """A pydantic model that is a list."""


class Opaque:
    """Something that nothing can serialize."""


class Trap:
    """No data type: loading must never make one. Notes each attempt."""

    sprung: list[str] = []  # noqa: RUF012 -- shared on purpose

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.sprung.append(f"constructed with {arguments} {named}")

    @classmethod
    def method(cls, *arguments: Any) -> None:
        """Be what a forged row would like to call."""
        cls.sprung.append(f"method called with {arguments}")

    def __setstate__(self, state: Any) -> None:
        self.sprung.append("unpickled")


def trap(*arguments: Any) -> None:
    """Be what a forged row would like to call."""
    Trap.sprung.append(f"function called with {arguments}")
