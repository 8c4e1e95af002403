"""One measurement: processes of the service, users, a duration, restarts of PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from benchmarks.service_load.serving import Service, prepare
from benchmarks.service_load.users import Account, User, verify
from benchmarks.service_load.watching import Cpu, Series, Watch, cpu_used

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.postgres_server import PostgresServer

_CALM = 10.0  # [s] within which all users have to be served again after a restart
_LAST = 60.0  # [s] that users may take for their last answer


@dataclass(frozen=True)
class Load:
    """What is asked of the service.

    Attributes:
        processes: How many processes serve, each on a port of its own; users are spread over them.
        users: How many talk at the same time.
        turns: How many runs each makes in a thread before he begins another one.
        warmup: Time that isn't counted [s].
        seconds: Time that is [s].
        restarts: How often PostgreSQL is stopped and started again meanwhile.
        profile: Whether to sample where the CPU time of the service goes.
        settings: More environment variables of the service.
        wrap: A command that runs the service, with its first arguments, such as ``prlimit``.
    """

    processes: int = 2
    users: int = 100
    turns: int = 10
    warmup: float = 5.0
    seconds: float = 30.0
    restarts: int = 0
    profile: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    wrap: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restart:
    """PostgreSQL stopped and started again.

    Attributes:
        down: From stopping it until it accepts connections again [s].
        first: From then until the first answer with success [s].
        recovered: From then until each user has had one [s].
    """

    down: float
    first: float
    recovered: float


@dataclass(frozen=True)
class Outcome:
    """What came of it. Times in seconds.

    Attributes:
        saver: On which saver.
        runs: Runs answered with success while it counted.
        runs_a_second: Those by the time it took.
        mean, p50, p95, p99, longest: How long they took.
        answers: All answers by status, and errors of connections.
        wrong: Answers that didn't fit what was acknowledged before.
        verified: How many threads were read again at the end.
        lost: Those of them that lack something that was acknowledged.
        cpu: CPU time used, by who used it; PostgreSQL's is 0 if it was restarted or isn't here.
        memory_growth: Of the service, from the second third on [bytes an hour].
        series: Samples over time.
        restarts: What happened at each.
        profile: Where the service's CPU time went: shares by package, and the places with most.
    """

    saver: str
    runs: int
    runs_a_second: float
    mean: float
    p50: float
    p95: float
    p99: float
    longest: float
    answers: dict[str, int]
    wrong: list[str]
    verified: int
    lost: list[str]
    cpu: Cpu
    memory_growth: float
    series: Series
    restarts: list[Restart]
    profile: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def measure(
    saver: str,
    load: Load,
    store: str,
    server: PostgresServer | None,
    progress: Callable[[str], None],
) -> Outcome:
    """Load the service on a saver, and verify what it acknowledged.

    Args:
        saver: One of `SAVERS`.
        load: What is asked.
        store: URL of an empty database.
        server: PostgreSQL, if it is ours to be restarted.
        progress: Told what is going on.
    """
    account = Account()
    await asyncio.to_thread(prepare, saver, store)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        profiles = [str(directory / str(n)) for n in range(load.processes) if load.profile]
        progress("starting")
        async with AsyncExitStack() as processes:
            services = [
                await processes.enter_async_context(
                    Service(saver, store, profile, dict(load.settings), load.wrap)
                )
                for profile in profiles or [""] * load.processes
            ]
            pids = [service.pid for service in services]
            users = [
                User(f"user{number}", service.client, account, load.turns)
                for number, service in zip(range(load.users), cycle(services), strict=False)
            ]
            stop = asyncio.Event()
            talks = [asyncio.create_task(user.talk(stop)) for user in users]
            watch = Watch(pids, store, max(load.seconds / 200, 1.0))
            watching = asyncio.create_task(watch.go_on())
            progress("warming up")
            await _sleep(load.warmup, [*talks, watching])
            postgres = server.pid if server is not None and not load.restarts else None
            before, begin = cpu_used(pids, postgres), monotonic()
            account.counting = True
            restarts: list[Restart] = []
            for number in range(load.restarts):
                progress(f"loading, restart {number + 1}")
                await _sleep(load.seconds / (load.restarts + 1), [*talks, watching])
                assert server is not None
                restarts.append(await _restart(server, users, account))
            progress("loading")
            await _sleep(begin + load.seconds - monotonic(), [*talks, watching])
            account.counting = False
            seconds, cpu = monotonic() - begin, cpu_used(pids, postgres).since(before)
            watching.cancel()
            stop.set()
            async with asyncio.timeout(_LAST):
                await asyncio.gather(*talks)
            progress("verifying")
            clients = {
                user.name: service.client
                for user, service in zip(users, cycle(services), strict=False)
            }
            verified, lost = await verify(account.ended, clients)
        profile = _profile_of(profiles)
    return Outcome(
        saver=saver,
        runs=len(account.latencies),
        runs_a_second=len(account.latencies) / seconds,
        **_times(sorted(account.latencies)),
        answers=dict(account.outcomes),
        wrong=account.wrong,
        verified=verified,
        lost=lost,
        cpu=cpu,
        memory_growth=watch.series.growth(),
        series=watch.series,
        restarts=restarts,
        profile=profile,
    )


async def _sleep(seconds: float, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait; if one of the tasks fails meanwhile, raise its error."""
    if seconds <= 0:
        return
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
        raise RuntimeError("a task ended before its time")


async def _restart(server: PostgresServer, users: Sequence[User], account: Account) -> Restart:
    begin = monotonic()
    await asyncio.to_thread(server.stop)
    # What is under way now is what could get lost.
    for user in users:
        if user.thread is not None:
            user.thread.doubtful = True
    await asyncio.to_thread(server.start)
    ready = monotonic()
    names = [user.name for user in users]
    served: list[float] = []
    while monotonic() < ready + _CALM + load_patience(len(names)):
        served = [account.latest.get(name, 0.0) for name in names]
        if min(served) > ready:
            break
        await asyncio.sleep(0.01)
    after = [time - ready for time in served if time > ready]
    first = min(after, default=float("inf"))
    return Restart(ready - begin, first, monotonic() - ready)


def load_patience(users: int) -> float:
    """Return how much longer many users may take, only because they are many [s]."""
    return users / 50


def _times(latencies: Sequence[float]) -> dict[str, float]:
    if len(latencies) < 2:
        return dict.fromkeys(("mean", "p50", "p95", "p99", "longest"), float("nan"))
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "mean": statistics.fmean(latencies),
        "p50": cuts[49],
        "p95": cuts[94],
        "p99": cuts[98],
        "longest": latencies[-1],
    }


def _profile_of(files: Sequence[str]) -> dict[str, Any]:
    """Put the profiles of processes together, as shares of all samples."""
    packages: Counter[str] = Counter()
    places: Counter[str] = Counter()
    for file in files:
        found = json.loads(Path(file).read_text())
        packages.update(found["packages"])
        places.update(found["places"])
    whole = packages.total()
    return {
        name: {key: count / whole for key, count in counter.most_common(400)}
        for name, counter in (("packages", packages), ("places", places))
        if whole
    }
