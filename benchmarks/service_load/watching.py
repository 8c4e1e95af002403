"""What processes take while they are loaded: CPU, memory, connections."""

from __future__ import annotations

import asyncio
import os
import resource
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


@dataclass
class Series:
    """One sample each interval.

    Attributes:
        seconds: When, since the beginning [s].
        memory: What the service's processes hold together [bytes].
        connections: Client connections of PostgreSQL, without ours; -1: it could not be asked.
    """

    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)

    def growth(self) -> float:
        """Return how fast memory grew, from the second third on [bytes an hour]."""
        begin = len(self.seconds) // 3
        times, sizes = self.seconds[begin:], self.memory[begin:]
        if len(times) < 2:
            return 0.0
        middle, size = sum(times) / len(times), sum(sizes) / len(sizes)
        above = sum((t - middle) * (s - size) for t, s in zip(times, sizes, strict=True))
        below = sum((t - middle) ** 2 for t in times)
        return 3600 * above / below


class Watch:
    """Takes samples of processes.

    Args:
        pids: The service's.
        store: URL of the database, whose server runs here.
        every: Time between two samples [s].
    """

    def __init__(self, pids: Sequence[int], store: str, every: float) -> None:
        self._pids = pids
        self._store = store
        self._every = every
        self.series = Series()

    async def go_on(self) -> None:
        """Take samples until cancelled."""
        begin = monotonic()
        while True:
            self.series.seconds.append(monotonic() - begin)
            self.series.memory.append(sum(map(_resident, self._pids)))
            self.series.connections.append(await self._count_connections())
            await asyncio.sleep(self._every)

    async def _count_connections(self) -> int:
        try:
            async with await psycopg.AsyncConnection.connect(
                self._store, autocommit=True, connect_timeout=2
            ) as connection:
                row = await (await connection.execute(_CONNECTIONS)).fetchone()
        except psycopg.Error:  # it is being restarted
            return -1
        return int(row[0]) - 1 if row else -1


@dataclass(frozen=True)
class Cpu:
    """CPU time since some beginning [s]."""

    service: float
    postgres: float
    generator: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(
            self.service - before.service,
            self.postgres - before.postgres,
            self.generator - before.generator,
        )


def cpu_used(pids: Sequence[int], postgres: int | None) -> Cpu:
    """Return the CPU time of the service, of PostgreSQL with all its children, and of ourselves."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Cpu(
        sum(map(_cpu_of, pids)),
        0.0 if postgres is None else _cpu_of_family(postgres),
        usage.ru_utime + usage.ru_stime,
    )


def _cpu_of(pid: int, *, with_ended: bool = False) -> float:
    """Return what a process has used; with the children of its that have ended, or without."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = fields[11:15] if with_ended else fields[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _cpu_of_family(pid: int) -> float:
    """Return that of a server and its children, those that have ended included."""
    whole = _cpu_of(pid, with_ended=True)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(FileNotFoundError):
            whole += _cpu_of(int(child))
    return whole


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()
