"""Requests about a store as a whole: whether it can be used, and how much is in it.

They are no part of saving and loading, and may be slow in a large store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime


class Ping(NamedTuple):
    """Use the storage system once. Answer: `Server`."""


class Server(NamedTuple):
    """What answers."""

    product: str
    """``SQLite``, ``PostgreSQL``, ``Valkey``, …"""
    version: str
    writable: bool
    """Whether it would take a commit, as far as it can tell without one."""


class Stored(NamedTuple):
    """How much is stored: of one execution, or of all."""

    checkpoints: int = 0
    writes: int = 0
    chunks: int = 0
    bytes: int = 0
    """States, metadata, LangGraph's columns, values of pending writes, and chunks, as the backend
    holds them; without keys, indexes and free space where it can tell."""
    oldest: datetime | None = None
    """When the oldest checkpoint was taken. None: there is none. Redis and its like take the first
    by id, the rest the smallest timestamp; for LangGraph's ids that is the same."""
    newest: datetime | None = None
    """Likewise the newest."""


class MeasureExecutions(NamedTuple):
    """Measure executions one by one.

    Answer: a list of pairs, execution id and `Stored`, in ascending order of ids. They need not
    be of one moment.
    """

    after: str = ""
    """Only those behind this id."""
    limit: int | None = None
    ids: Sequence[str] | None = None
    """Only these, if they exist. None: all."""


class Measure(NamedTuple):
    """Measure the whole store. Answer: `Measured`. It need not be of one moment."""


class Measured(NamedTuple):
    """How much is in a store."""

    executions: int
    stored: Stored
    disk_bytes: int | None = None
    """What this store takes in its system, indexes and unused space included; None: unknown."""
    free_bytes: int | None = None
    """What is left for it: of the file system, or below a server's limit. None: unknown."""
    total_bytes: int | None = None
    """How much that was, all in all."""
    estimated: frozenset[str] = frozenset()
    """Names of fields, of this and of `Stored`, that are no exact counts."""


class Load(NamedTuple):
    """How busy a backend is in this process. Asking costs next to nothing."""

    queued: int = 0
    """Commits and reads that wait for their turn, or are under way."""
    connections: int | None = None
    """Open connections; None: not counted."""
    in_use: int | None = None
    """Those that are lent at the moment."""
    limit: int | None = None
    """The most that there may be."""


def together(loads: Iterable[Load], queued: int) -> Load:
    """Add loads, and requests that wait before any of them."""
    loads = list(loads)
    return Load(
        queued + sum(load.queued for load in loads),
        _sum(load.connections for load in loads),
        _sum(load.in_use for load in loads),
        _sum(load.limit for load in loads),
    )


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Add what is known; None if nothing is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
