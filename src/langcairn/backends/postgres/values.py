"""Values for PostgreSQL: statements with their parameters, and these in its binary form.

A commit passes whole columns as arrays. psycopg would look at the type of every member; here the
column's type is known, so an array costs little more than joining its members.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from psycopg.adapt import Dumper
from psycopg.pq import Format
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import AsyncConnection, Connection

T = TypeVar("T")


class Statement(NamedTuple):
    """SQL with ``$1`` … for its parameters."""

    sql: str
    parameters: Sequence[object] = ()


Rows = list[tuple[Any, ...]]
Plan = Generator[Statement, Rows, T]
"""Statements to run one after the other; each is answered with its rows."""


class Packed(bytes):
    """A value in PostgreSQL's binary form. Its type is the one that the SQL casts it to."""

    __slots__ = ()


class _PackedDumper(Dumper):
    format = Format.BINARY

    @override
    def dump(self, obj: Packed) -> bytes:
        return obj


def accept_packed(connection: Connection[Any] | AsyncConnection[Any]) -> None:
    """Let a connection take what this module packs as parameters."""
    connection.adapters.register_dumper(Packed, _PackedDumper)


_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT4 = struct.Struct("!i")
_INT8 = struct.Struct("!q")
_HEAD = struct.Struct("!iiIii")  # dimensions, 1 if there are nulls, type of members, size, base
_EMPTY = struct.Struct("!iiI")
_NULL = _INT4.pack(-1)


class Type(NamedTuple):
    """A type of PostgreSQL's, and how its binary form is made."""

    name: str
    oid: int
    pack: Callable[[Any], bytes]


TEXT = Type("text", 25, str.encode)
BYTEA = Type("bytea", 17, bytes)
JSON = Type("json", 114, bytes)  # of UTF-8
JSONB = Type("jsonb", 3802, b"\x01".__add__)  # of UTF-8, behind the version of its form
INTEGER = Type("integer", 23, _INT4.pack)
BIGINT = Type("bigint", 20, _INT8.pack)
TIMESTAMPTZ = Type("timestamptz", 1184, lambda time: _INT8.pack((time - _EPOCH) // _MICROSECOND))


def scalar(type: Type, value: Any) -> Packed | None:
    """Return one value. The SQL must cast it to its type."""
    return None if value is None else Packed(type.pack(value))


def array(type: Type, items: Iterable[Any]) -> Packed:
    """Return an array. The SQL must cast it to its type."""
    pack, length = type.pack, _INT4.pack
    parts = [b""]
    nulls, size = False, 0
    for size, item in enumerate(items, 1):  # noqa: B007 -- the size when it ends
        if item is None:
            nulls = True
            parts.append(_NULL)
        else:
            data = pack(item)
            parts += (length(len(data)), data)
    parts[0] = _HEAD.pack(1, nulls, type.oid, size, 1) if size else _EMPTY.pack(0, 0, type.oid)
    return Packed(b"".join(parts))
