"""The requests that change nothing, answered from logs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from langcairn.backends.base import (
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Survey,
    Surveyed,
    writes_order,
)
from langcairn.backends.file.layout import microseconds
from langcairn.backends.file.measuring import Measuring
from langcairn.backends.measures import Measure, MeasureExecutions, Ping
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from langcairn.backends.base import ChunkId, Request, WriteRow
    from langcairn.backends.file.catalog import Catalog
    from langcairn.backends.file.index import StoredCheckpoint, StoredWrite
    from langcairn.backends.file.log import Log
    from langcairn.backends.file.logs import Logs


class _Candidate(NamedTuple):
    """A checkpoint that may be found: what is known without reading its content."""

    log: Log
    epoch: int
    stored: StoredCheckpoint
    writes: list[StoredWrite]

    @property
    def position(self) -> tuple[str, str, str]:
        return self.stored.id, self.log.header.execution_id, self.stored.namespace


class Reads:
    """Answers requests that change nothing.

    A log's index is read under its lock, contents after that: what is written never changes.
    """

    def __init__(self, logs: Logs, catalog: Catalog) -> None:
        self._logs = logs
        self._catalog = catalog
        measuring = Measuring(logs, catalog)
        self._handlers: dict[type, Callable[[Any], object]] = {
            FindCheckpoints: self._find,
            FindWrites: self._find_writes,
            FetchChunks: self._fetch,
            FindExecutions: self._catalog.executions,
            FindOldChunks: self._find_old_chunks,
            Ping: measuring.ping,
            Measure: measuring.all,
            MeasureExecutions: measuring.by_execution,
            Survey: self._survey,
        }

    def answer(self, request: Request) -> object:
        """Answer a request."""
        return self._handlers[type(request)](request)

    def _find(self, query: FindCheckpoints) -> list[FoundCheckpoint]:
        if query.limit is not None and query.limit <= 0:
            return []
        candidates = self._candidates(query)
        if query.metadata is None:
            return [_read(candidate) for candidate in candidates[: query.limit]]
        matching = []
        for element in map(_read, candidates):
            if _may_match(element.row.metadata, query.metadata):
                matching.append(element)
                if len(matching) == query.limit:
                    break
        return matching

    def _candidates(self, query: FindCheckpoints) -> list[_Candidate]:
        """Return what has the wanted keys and times, newest first."""
        if query.execution_id is not None:
            return self._select(self._logs.directory.path_of(query.execution_id), query)
        candidates: list[_Candidate] = []
        if query.id is None:
            for path in self._catalog.paths():
                candidates += self._select(path, query)
        else:
            damage = None
            for path in self._catalog.paths_with(query.id):
                try:
                    candidates += self._select(path, query)
                except CorruptData as error:
                    damage = error
            if damage is not None and not candidates:
                raise damage  # what can't be read may be what was looked for
        return sorted(candidates, key=lambda candidate: candidate.position, reverse=True)

    def _select(self, path: Path, query: FindCheckpoints) -> list[_Candidate]:
        """Return what one log has of that."""
        with self._logs.reading(path) as log:
            if log is None:
                return []
            index = log.index
            return [
                _Candidate(
                    log, index.epoch, stored, index.writes_of(stored) if query.with_writes else []
                )
                for stored in _limited(_matching(log, query), query)
            ]

    def _find_writes(self, query: FindWrites) -> list[WriteRow]:
        with self._logs.reading(self._logs.directory.path_of(query.execution_id)) as log:
            if log is None:
                return []
            writes = log.index.writes()
        return [log.write(write) for write in writes]

    def _fetch(self, query: FetchChunks) -> dict[ChunkId, bytes]:
        with self._logs.reading(self._logs.directory.path_of(query.execution_id)) as log:
            if log is None:
                return {}
            chunks = log.index.chunks
            stored = {id: chunks[id] for id in query.ids if id in chunks}
        return {id: log.chunk(chunk) for id, chunk in stored.items()}

    def _find_old_chunks(self, query: FindOldChunks) -> list[ChunkId]:
        with self._logs.reading(self._logs.directory.path_of(query.execution_id)) as log:
            if log is None:
                return []
            return [id for id, chunk in log.index.chunks.items() if chunk.epoch < query.epoch]

    def _survey(self, survey: Survey) -> Surveyed:
        problems: list[str] = []
        if survey.execution_id is None:
            return Surveyed(self._catalog.executions(FindExecutions(), problems), [], problems)
        with self._logs.reading(self._logs.directory.path_of(survey.execution_id)) as log:
            if log is None:
                return Surveyed([], [], problems)
            found = [(stored.namespace, stored.id) for stored in log.index.checkpoints()]
            return Surveyed([], found, problems)


def _matching(log: Log, query: FindCheckpoints) -> Iterator[StoredCheckpoint]:
    """Yield the checkpoints of one log with the wanted keys and times, newest first."""
    execution_id = log.header.execution_id
    since = None if query.since is None else microseconds(query.since)
    until = None if query.until is None else microseconds(query.until)
    for stored in log.index.find(query):
        position = (stored.id, execution_id, stored.namespace)
        if (
            (query.after is None or position < tuple(query.after))
            and (since is None or stored.timestamp >= since)
            and (until is None or stored.timestamp < until)
        ):
            yield stored


def _limited(
    stored: Iterable[StoredCheckpoint], query: FindCheckpoints
) -> Iterator[StoredCheckpoint]:
    """Yield no more than can be in the answer."""
    return islice(stored, query.limit if query.metadata is None else None)


def _read(candidate: _Candidate) -> FoundCheckpoint:
    log = candidate.log
    writes = sorted(map(log.write, candidate.writes), key=writes_order)
    return FoundCheckpoint(log.checkpoint(candidate.stored), writes, candidate.epoch)


def _may_match(metadata: bytes, wanted: Mapping[str, str | int | bool]) -> bool:
    """Tell whether metadata may hold the wanted values; the store looks more closely."""
    try:
        fields = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return True  # damaged: the store can say which checkpoint it is
    if type(fields) is not dict:
        return True
    # An object may stand for any value that JSON can't say exactly.
    return all(
        key in fields and (type(fields[key]) is dict or fields[key] == value)
        for key, value in wanted.items()
    )
