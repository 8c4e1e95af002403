"""How much is in the sorted sets of a store, and whether the servers can be used.

A sorted set knows how many members lie between two names, so rows are counted without being read.
How much memory it takes, the server counts by a walk over its members (0.1 ms for 1,000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langcairn.backends.base import FindExecutions
from langcairn.backends.measures import Measured, Server, Stored
from langcairn.backends.redis import table
from langcairn.backends.redis.commands import Command, Plan, Step, batches, command

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import datetime

    from langcairn.backends.measures import Measure, MeasureExecutions, Ping
    from langcairn.backends.redis.keys import Keys
    from langcairn.backends.redis.registers import Registers

MOST_TO_COUNT = 2000
"""From here on only so many executions are looked at, and the sums scaled up. [executions]"""

_BATCH = 200  # [executions asked at a time]
_KINDS = (b"n", b"w", b"d")  # checkpoints, writes, chunks


class Measuring:
    """Plans for requests about a store as a whole.

    Args:
        keys: The names of its keys.
        registers: Its registers.
    """

    def __init__(self, keys: Keys, registers: Registers) -> None:
        self._keys = keys
        self._registers = registers

    def ping(self, _: Ping) -> Plan:
        """Ask a server for its version and its role."""
        register = self._keys.registers()[0]
        yield Step([command("ZCARD", register)])
        (facts,) = yield from self._facts([register])
        product = "Valkey" if facts.get("server_name") == "valkey" else "Redis"
        version = facts.get("valkey_version") or facts.get("redis_version", "unknown")
        return Server(product, str(version), facts.get("role", "master") == "master")

    def all(self, _: Measure) -> Plan:
        """Measure everything; of many executions, some."""
        registers = self._keys.registers()
        sizes = yield Step([command("ZCARD", register) for register in registers])
        total = sum(sizes)
        estimated: set[str] = set()
        if total <= MOST_TO_COUNT:
            ids = yield from self._registers.find(FindExecutions())
            measured = yield from self._measure(ids)
            executions, stored = len(measured), _sum([one for _, one in measured], 1)
        else:
            ids = yield from self._some(sizes)
            measured = yield from self._measure(ids)
            # Registers may name some that have expired.
            executions = round(total * len(measured) / len(ids)) if ids else 0
            stored = _sum([one for _, one in measured], total / len(ids) if ids else 1)
            estimated |= {"executions", *Stored._fields}
        free, limit = yield from self._room()
        return Measured(executions, stored, None, free, limit, frozenset(estimated))

    def by_execution(self, request: MeasureExecutions) -> Plan:
        """Measure executions one by one."""
        if request.ids is None:
            query = FindExecutions(request.after, request.limit)
            ids = yield from self._registers.find(query)
            return (yield from self._measure(ids))
        ids = sorted(id for id in set(request.ids) if id > request.after)
        measured = yield from self._measure(ids)
        return measured if request.limit is None else measured[: max(request.limit, 0)]

    def _measure(self, ids: Sequence[str]) -> Generator[Step, list[Any], list[tuple[str, Stored]]]:
        """Measure executions, those of them that are there."""
        measured: list[tuple[str, Stored]] = []
        for batch in batches(ids, _BATCH):
            replies = yield Step([part for id in batch for part in self._questions(id)])
            each = len(self._questions(""))
            answers = {
                id: replies[number * each : (number + 1) * each]
                for number, id in enumerate(batch)
                if replies[number * each]
            }
            times = yield from self._times({id: one[-2:] for id, one in answers.items()})
            for id, (_, checkpoints, writes, chunks, size, _, _) in answers.items():
                stored = Stored(checkpoints, writes, chunks, size or 0, *times[id])
                measured.append((id, stored))
        return measured

    def _questions(self, id: str) -> list[Command]:
        key = self._keys.execution(id)
        first, last = table.beginning_with(b"i")
        return [
            command("ZLEXCOUNT", key, *table.EPOCH),
            *(command("ZLEXCOUNT", key, *table.beginning_with(kind)) for kind in _KINDS),
            Command(key, ("MEMORY", "USAGE", key, "SAMPLES", 0)),
            command("ZRANGEBYLEX", key, first, last, "LIMIT", 0, 1),
            command("ZREVRANGEBYLEX", key, last, first, "LIMIT", 0, 1),
        ]

    def _times(
        self, ends: dict[str, list[list[bytes]]]
    ) -> Generator[Step, list[Any], dict[str, tuple[datetime | None, datetime | None]]]:
        """Return when the first and the last checkpoint of executions were taken."""
        commands, wanted = [], []
        for execution_id, members in ends.items():
            for end in members:
                for member in end:
                    id, namespace = table.place_from(execution_id, member)
                    name = table.beginning_with(b"n" + table.name(namespace, id))
                    key = self._keys.execution(execution_id)
                    commands.append(command("ZRANGEBYLEX", key, *name, "LIMIT", 0, 1))
                    wanted.append(execution_id)
        replies = (yield Step(commands)) if commands else []
        found: dict[str, list[datetime]] = {execution_id: [] for execution_id in ends}
        for execution_id, rows in zip(wanted, replies, strict=True):
            found[execution_id] += [table.row_from(execution_id, row).timestamp for row in rows]
        return {id: (min(at, default=None), max(at, default=None)) for id, at in found.items()}

    def _some(self, sizes: Sequence[int]) -> Generator[Step, list[Any], list[str]]:
        """Return executions chosen at random, from each register its share."""
        total = sum(sizes)
        samples = yield Step(
            [
                command("ZRANDMEMBER", register, -(-size * MOST_TO_COUNT // total))
                for register, size in zip(self._keys.registers(), sizes, strict=True)
            ]
        )
        return sorted({id.decode() for sample in samples for id in sample})

    def _facts(self, keys: Sequence[bytes]) -> Generator[Step, list[Any], list[dict[str, Any]]]:
        """Return what the servers of some keys say of themselves; nothing if we may not ask."""
        replies = yield Step([Command(key, ("INFO",)) for key in keys], optional=True)
        return [reply if isinstance(reply, dict) else {} for reply in replies]

    def _room(self) -> Generator[Step, list[Any], tuple[int | None, int | None]]:
        """Return how much memory is left on the servers, and how much they may use."""
        replies = yield from self._facts(self._keys.registers())
        servers = {facts.get("run_id"): facts for facts in replies}
        limits = [int(facts.get("maxmemory", 0)) for facts in servers.values()]
        if not all(limits):
            return None, None
        used = sum(int(facts.get("used_memory", 0)) for facts in servers.values())
        return max(sum(limits) - used, 0), sum(limits)


def _sum(measured: Sequence[Stored], scale: float) -> Stored:
    oldest = [one.oldest for one in measured if one.oldest is not None]
    newest = [one.newest for one in measured if one.newest is not None]
    return Stored(
        round(scale * sum(one.checkpoints for one in measured)),
        round(scale * sum(one.writes for one in measured)),
        round(scale * sum(one.chunks for one in measured)),
        round(scale * sum(one.bytes for one in measured)),
        min(oldest, default=None),
        max(newest, default=None),
    )
