"""How checkpoints are found: in one execution, by id, or everywhere."""

from __future__ import annotations

import heapq
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from langcairn.backends.base import FoundCheckpoint, Position, writes_order
from langcairn.backends.redis import table
from langcairn.backends.redis.commands import FIND, Command, Plan, Step, batches, command
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.backends.base import CheckpointRow, FindCheckpoints
    from langcairn.backends.redis.keys import Keys
    from langcairn.backends.redis.registers import Registers

T = TypeVar("T")
_Part = Generator[Step, list[Any], T]
_Page = tuple[list[FoundCheckpoint], Position | None]
"""Checkpoints, and where to read on; None: there are no more."""

_PAGE = 500  # [checkpoints read at one moment]
UNCHANGED = -1
"""A time to live that says: let an execution live as long as it would."""
_EXECUTIONS = 200  # [executions asked at a time]


class Finding:
    """Plans for `FindCheckpoints`.

    Args:
        keys: The names of a store's keys.
        registers: Its registers.
        ttl: How long an execution lives on from when it is read [ms]; `UNCHANGED`: reading changes
            nothing.
        renew_notes: Does what is due from time to time so that it can live on.
    """

    def __init__(
        self,
        keys: Keys,
        registers: Registers,
        ttl: int,
        renew_notes: Callable[[str, int, int], _Part[None]],
    ) -> None:
        self._keys = keys
        self._registers = registers
        self._ttl = ttl
        self._renew_notes = renew_notes

    def find(self, query: FindCheckpoints) -> Plan:
        """Find checkpoints as a query says, but for its metadata, which the store looks at."""
        if query.execution_id is not None:
            read = self._of_execution
        elif query.id is not None:
            read = self._by_id
        else:
            read = self._everywhere
        timed = query.since is not None or query.until is not None
        limit, found = query.limit, list[FoundCheckpoint]()
        while limit is None or len(found) < limit:
            # Of those that are read, times may exclude any.
            count = _PAGE if limit is None or timed else min(limit - len(found), _PAGE)
            page, after = yield from read(query, count)
            found += [one for one in page if _in_time(query, one.row)] if timed else page
            if after is None:
                break
            query = query._replace(after=after)
        return found if limit is None else found[: max(limit, 0)]

    def _of_execution(self, query: FindCheckpoints, count: int) -> _Part[_Page]:
        execution_id = query.execution_id or ""
        (answer,) = yield Step([self._script(query, execution_id, count, self._ttl)])
        page, after, epoch, due = _page(execution_id, answer)
        if due:
            yield from self._renew_notes(execution_id, epoch, due)
        return page, after

    def _by_id(self, query: FindCheckpoints, count: int) -> _Part[_Page]:
        note = self._keys.checkpoint(query.id or "")
        (names,) = yield Step([command("HKEYS", note)])
        executions = [name.decode() for name in names]
        page: list[FoundCheckpoint] = []
        for execution_id in executions:
            one, _ = yield from self._of_execution(query._replace(execution_id=execution_id), count)
            page += one
        page.sort(key=lambda one: (one.row.execution_id, one.row.namespace), reverse=True)
        return page, None

    def _everywhere(self, query: FindCheckpoints, count: int) -> _Part[_Page]:
        """Read the newest of all: the names of as many from each execution, then the rows."""
        newest: list[tuple[str, str, str]] = []
        after = ""
        while ids := (yield from self._registers.page(after)):
            after = ids[-1]
            for batch in batches(ids, _EXECUTIONS):
                replies = yield Step([self._names(query, id, count) for id in batch])
                places = [
                    (id, execution_id, namespace)
                    for execution_id, members in zip(batch, replies, strict=True)
                    for id, namespace in (table.place_from(execution_id, m) for m in members)
                ]
                newest = heapq.nlargest(count, newest + places)
        page: list[FoundCheckpoint] = []
        for part in batches(newest, _EXECUTIONS):
            exact = [
                self._script(query._replace(id=id, namespace=namespace), execution_id, 1, UNCHANGED)
                for id, execution_id, namespace in part
            ]
            answers = yield Step(exact)
            for (_, execution_id, _), answer in zip(part, answers, strict=True):
                page += _page(execution_id, answer)[0]
        return page, Position(*newest[-1]) if len(newest) == count else None

    def _script(self, query: FindCheckpoints, execution_id: str, count: int, ttl: int) -> Command:
        first, last = table.checkpoints_of(query, execution_id)
        writes = b"1" if query.with_writes else b""
        key = self._keys.execution(execution_id)
        return FIND.on(key, ttl, writes, count, last, first)

    def _names(self, query: FindCheckpoints, execution_id: str, count: int) -> Command:
        first, last = table.checkpoints_of(query, execution_id)
        key = self._keys.execution(execution_id)
        return command("ZREVRANGEBYLEX", key, last, first, "LIMIT", 0, count)


def _page(
    execution_id: str, answer: Any
) -> tuple[list[FoundCheckpoint], Position | None, int, int]:
    """Return what the script found: a page, the epoch, and whether notes are due for renewal."""
    if answer is None:
        return [], None, 0, 0
    epoch, due, complete, elements = answer
    number = table.epoch_number(epoch)
    found = []
    for member, *members in elements:
        if member is None:
            raise CorruptData(f"a checkpoint of execution {execution_id!r} is lost")
        writes = [table.write_from(execution_id, write) for write in members]
        row = table.row_from(execution_id, member)
        found.append(FoundCheckpoint(row, sorted(writes, key=writes_order), number))
    if complete:
        return found, None, number, due
    last = found[-1].row
    return found, Position(last.id, last.execution_id, last.namespace), number, due


def _in_time(query: FindCheckpoints, row: CheckpointRow) -> bool:
    return (query.since is None or row.timestamp >= query.since) and (
        query.until is None or row.timestamp < query.until
    )
