"""`Profiler`: how long the operations of a store take, and where the time goes."""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langcairn import operations
from langcairn.codec import reader, tree
from langcairn.codec.chunks import ChunkFormat
from langcairn.observing import Observer, clock, current
from langcairn.security.encrypted import EncryptedBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from langcairn.observing import Observation
    from langcairn.store import CheckpointStore


class _Probe(NamedTuple):
    """A function of the codec that is timed while a profiler is active."""

    owner: Any
    """The module or class in which callers look it up."""
    name: str
    phase: str


# What runs inside another of these counts only for itself: hashing inside of encoding is hashing.
_PROBES = (
    _Probe(tree.Encoder, "encode", "serialize"),
    _Probe(tree.Encoder, "_store", "hash"),
    _Probe(ChunkFormat, "seal", "compress"),
    _Probe(EncryptedBackend, "seal_row", "encrypt"),
    _Probe(EncryptedBackend, "seal_write", "encrypt"),
    _Probe(EncryptedBackend, "seal_chunk", "encrypt"),
    _Probe(EncryptedBackend, "open_row", "decrypt"),
    _Probe(EncryptedBackend, "open_write", "decrypt"),
    _Probe(EncryptedBackend, "open_chunk", "decrypt"),
    _Probe(EncryptedSerializer, "dumps_typed", "encrypt"),
    _Probe(JsonPlusSerializer, "dumps_typed", "serialize"),
    _Probe(reader.Content, "add", "decompress"),
    _Probe(EncryptedSerializer, "loads_typed", "decrypt"),
    _Probe(JsonPlusSerializer, "loads_typed", "deserialize"),
    _Probe(reader.Reader, "build", "deserialize"),
    _Probe(operations, "parse", "deserialize"),
)

PHASES = (
    "serialize", "hash", "compress", "encrypt", "queue", "connect", "lock", "pause", "commit",
    "read", "remove", "decompress", "decrypt", "deserialize", "other",
)  # fmt: skip
"""Where time goes. ``queue``: waiting for others' commits, for company, or for a thread;
``connect``: for a connection; ``lock``: for writers of other processes; ``pause``: between two
attempts; ``commit``, ``read``, ``remove``: the rest of the backend's time; ``decompress``: opening
chunks and comparing their hashes; ``other``: what is none of these."""


@dataclass(slots=True)
class OperationProfile:
    """What was seen of all operations of one kind.

    Attributes:
        operation: Its name: ``put``, ``get``, …
        seconds: How long each took [s].
        failed: How many of them didn't end well.
        requests: How many requests the backend was asked. Each is one round trip, but for removals
            and for what a backend says otherwise.
        sent: The bytes of rows and chunks given to the backend.
        received: Those that came from it.
        retries: How often the backend tried again.
        refused: How many commits were refused for a stale epoch, and repeated.
        phases: Where the time went: one of `PHASES` to seconds.
    """

    operation: str
    seconds: array[float] = field(default_factory=lambda: array("d"))
    failed: int = 0
    requests: int = 0
    sent: int = 0
    received: int = 0
    retries: int = 0
    refused: int = 0
    phases: dict[str, float] = field(default_factory=dict)

    def percentile(self, share: float) -> float:
        """Return the time that this share of the operations stayed within [s]; 0 without any."""
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


class Profiler(Observer):
    """Watches a store's operations for a while.

    ::

        with Profiler(store) as profiler:
            ...
        print(profiler.report())

    While any is active, functions of the codec are replaced by ones that take the time, in the
    whole process; otherwise nothing is.

    Args:
        store: The store; for a saver, its ``store``.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._profiles: dict[str, OperationProfile] = {}

    def __enter__(self) -> Self:
        self._store.observers.add(self)
        _probes.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._store.observers.discard(self)
        _probes.remove()

    def ended(self, observation: Observation) -> None:
        """Take an operation in."""
        with self._lock:
            name = observation.operation
            profile = self._profiles.get(name)
            if profile is None:
                profile = self._profiles[name] = OperationProfile(name)
            profile.seconds.append(observation.seconds)
            profile.failed += observation.outcome != "ok"
            profile.requests += observation.requests
            profile.sent += observation.sent
            profile.received += observation.received
            profile.retries += observation.retries
            profile.refused += observation.refused
            phases = profile.phases
            for phase, seconds in observation.phases.items():
                phases[phase] = phases.get(phase, 0.0) + seconds
            rest = observation.seconds - observation.measured
            phases["other"] = phases.get("other", 0.0) + max(rest, 0.0)

    def profiles(self) -> Mapping[str, OperationProfile]:
        """Return what was seen, by operation; those that took longest in all come first."""
        with self._lock:
            ordered = sorted(self._profiles.values(), key=lambda one: -sum(one.seconds))
            return {profile.operation: profile for profile in ordered}

    def report(self) -> str:
        """Return a table of the operations, and one of where their time went."""
        profiles = list(self.profiles().values())
        if not profiles:
            return "No operation was seen."
        seen = [phase for phase in PHASES if any(one.phases.get(phase) for one in profiles)]
        return "\n".join(
            [
                *_table(_COLUMNS, [_figures(one) for one in profiles]),
                "",
                "Where the time went [% of the operation's]",
                *_table(["operation", *seen], [_shares(one, seen) for one in profiles]),
            ]
        )


_COLUMNS = (
    "operation", "count", "failed", "p50 ms", "p95 ms", "p99 ms", "total s", "requests", "sent",
    "received", "retries", "refused",
)  # fmt: skip


def _figures(profile: OperationProfile) -> list[str]:
    return [
        profile.operation,
        str(len(profile.seconds)),
        str(profile.failed),
        *(f"{1000 * profile.percentile(share):.2f}" for share in (0.5, 0.95, 0.99)),
        f"{sum(profile.seconds):.2f}",
        str(profile.requests),
        _bytes(profile.sent),
        _bytes(profile.received),
        str(profile.retries),
        str(profile.refused),
    ]


def _shares(profile: OperationProfile, phases: Sequence[str]) -> list[str]:
    total = sum(profile.phases.values()) or 1.0
    shares = (100 * profile.phases.get(phase, 0.0) / total for phase in phases)
    return [profile.operation, *(f"{share:.1f}" if share else "-" for share in shares)]


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):  # noqa: B007 -- the unit when it ends
        if size < 1000:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns: names to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]


class _Probes:
    """Puts the timed functions in place, and the others back when nobody needs them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._plain: list[tuple[_Probe, Callable[..., Any]]] = []

    def install(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                for probe in _PROBES:
                    plain = getattr(probe.owner, probe.name)
                    self._plain.append((probe, plain))
                    setattr(probe.owner, probe.name, _timed(plain, probe.phase))

    def remove(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                while self._plain:
                    probe, plain = self._plain.pop()
                    setattr(probe.owner, probe.name, plain)


_probes = _Probes()


def _timed(function: Callable[..., Any], phase: str) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        seen = current.get()
        if not seen:
            return function(*args, **options)
        (observation,) = seen  # the codec works for one operation at a time
        known, begin = observation.measured, clock()
        try:
            return function(*args, **options)
        finally:
            within = observation.measured - known
            observation.spent(phase, clock() - begin - within)

    return call
