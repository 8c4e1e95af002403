"""Checkpoints in Redis or Valkey: a single server, one that sentinels watch, or a cluster."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio as aredis

from langcairn.backends.async_group_commit import AsyncGroupCommit
from langcairn.backends.base import Backend
from langcairn.backends.group_commit import GroupCommit
from langcairn.backends.measures import Load, together
from langcairn.backends.redis import links
from langcairn.backends.redis.exchange import Exchange
from langcairn.backends.redis.keys import Keys
from langcairn.backends.redis.plans import Plans
from langcairn.backends.redis.settings import read_settings
from langcairn.backends.retry import Retry, seconds
from langcairn.errors import CairnError, InvalidInput, StoreClosed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
    from datetime import timedelta

    from langcairn.backends.base import Request
    from langcairn.backends.redis.commands import Step
    from langcairn.backends.redis.exchange import Outcome
    from langcairn.backends.redis.links import AsyncLink, Link

Client = redis.Redis | redis.RedisCluster
AsyncClient = aredis.Redis | aredis.RedisCluster

_LONGEST_TTL = 100 * 366 * 86_400  # [s] beyond that, the milliseconds of an expiry may overflow


class RedisBackend(Backend):
    """Keeps checkpoints in Redis 6.2 or later, or in Valkey, without modules.

    Commits that wait at the same time share a pipeline. Threads share a pool of connections;
    every event loop has one of its own, which is closed with the loop at the latest.

    Args:
        address: Host and port, the path of a socket, or a URL: ``redis://user:password@host/0``,
            ``rediss://`` for TLS, ``unix:///path``, ``redis+sentinel://host:port,host:port/service/0``,
            ``redis+cluster://host:port,host:port``; also with ``valkey`` and ``valkeys``. A query
            string may name further options of redis-py's connections.
        username: The user, if not the default one.
        password: The password.
        db: The number of the database.
        cluster: The address is that of a node of a cluster.
        prefix: What all keys begin with. It can't contain braces.
        ttl: How long an execution is kept after it was last written, as a timedelta or in
            seconds; 0: for ever. All of it expires at one moment.
        renew_on_read: Whether reading an execution's checkpoints keeps it, too.
        wait_aof: Whether a put returns only when it is in the server's append-only file, on disk
            (Redis 7.2, Valkey).
        socket_timeout: How long to wait for an answer; 5 by default [s].
        socket_connect_timeout: How long to wait for a connection; 5 by default [s].
        deadline: How long to try again while the server can't be used, as a timedelta or in
            seconds. The last attempt may take the timeouts longer.
        max_connections: The most connections of a pool; in a cluster, to each node.
        options: Further arguments of redis-py's connections, such as ``ssl_ca_certs``; with
            sentinels also ``sentinel_password`` and others that begin like this.
        client: A client of your own for blocking calls, which is never closed here. It is used
            in place of the address, and must not decode responses.
        async_client: Likewise for coroutines, all of the event loop that it belongs to.

    Raises:
        InvalidInput: An argument can't be used as it is.
    """

    def __init__(
        self,
        address: str = "localhost:6379",
        *,
        username: str | None = None,
        password: str | None = None,
        db: int | None = None,
        cluster: bool = False,
        prefix: str = "langgraph:",
        ttl: timedelta | float = 0,
        renew_on_read: bool = False,
        wait_aof: bool = False,
        socket_timeout: float | None = None,
        socket_connect_timeout: float | None = None,
        deadline: timedelta | float = 30.0,
        max_connections: int | None = None,
        options: Mapping[str, Any] | None = None,
        client: Client | None = None,
        async_client: AsyncClient | None = None,
    ) -> None:
        arguments = {
            "username": username,
            "password": password,
            "db": db,
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": socket_connect_timeout,
            "max_connections": max_connections,
        }
        self._settings = read_settings(
            address, cluster=cluster, arguments=arguments, options=options
        )
        links.check(self._settings)
        self._client = _raw(client, redis.Redis, redis.RedisCluster)
        self._async_client = _raw(async_client, aredis.Redis, aredis.RedisCluster)
        self._own = client is None and async_client is None
        self._plans = Plans(
            Keys(prefix),
            _milliseconds(ttl),
            renew_on_read=bool(renew_on_read),
            clustered=(self._own and self._settings.kind == "cluster")
            or isinstance(client, redis.RedisCluster)
            or isinstance(async_client, aredis.RedisCluster),
        )
        server = self._settings.server if self._own else "Redis"
        # Half as long as a connection waits for an answer: after it, nobody would see this one.
        patience = round(self._settings.options["socket_timeout"] * 500)
        self._exchange = Exchange(server, patience if wait_aof else 0)
        self._retry = Retry(deadline)
        self._closed = False
        self._start_afresh()
        _backends.add(self)

    def _start_afresh(self) -> None:
        self._link: Link | None = None
        self._linking = threading.Lock()
        self._commits: GroupCommit[Step, list[Any]] = GroupCommit(self._send)
        self._sides: dict[asyncio.AbstractEventLoop, _Side] = {}
        self._sides_lock = threading.Lock()

    # Blocking

    def execute(self, request: Request) -> object:  # noqa: D102 -- inherited
        self._refuse_if_closed()
        plan = self._plans.make(request)
        try:
            step = next(plan)
            while True:
                # A step is repeated, and not the whole plan: it would not find again what it has
                # already removed, and leave notes behind.
                step = plan.send(self._retry.call(partial(self._perform, _tries(step))))
        except StopIteration as stop:
            return stop.value

    def _perform(self, tries: Iterator[Step], _remaining: float) -> list[Any]:
        self._refuse_if_closed()
        step = next(tries)
        if step.writes:
            return self._commits.submit(step)
        (outcome,) = self._send([step])
        return _replies(outcome)

    def _send(self, steps: Sequence[Step]) -> list[Outcome]:
        """Send steps together. Errors are outcomes."""
        outcomes: list[Outcome]
        try:
            link = self._connected()
            sending = self._exchange.begin(steps, link.node)
            commands = next(sending)
            while True:
                commands = sending.send(link.send(commands))
        except StopIteration as stop:
            outcomes = stop.value
        except Exception as error:  # noqa: BLE001 -- translated
            outcomes = [self._exchange.failure(error) for _ in steps]
        if self._link is not None and _any_unavailable(outcomes):
            self._link.recover()
        return outcomes

    def _connected(self) -> Link:
        with self._linking:
            self._refuse_if_closed()
            if self._link is None:
                if self._client is not None:
                    self._link = links.Link(self._client, owned=False)
                elif self._own:
                    self._link = links.connect(self._settings)
                else:
                    raise InvalidInput("this store has only an async client; give it client=…")
            return self._link

    # Async

    async def aexecute(self, request: Request) -> object:
        """Answer a request without blocking the event loop.

        If the task is cancelled, a commit that was sent is completed.
        """
        self._refuse_if_closed()
        side = await self._side()
        plan = self._plans.make(request)
        try:
            step = next(plan)
            while True:
                attempt = partial(self._aperform, side, _tries(step))
                step = plan.send(await self._retry.acall(attempt))
        except StopIteration as stop:
            return stop.value

    async def _aperform(self, side: _Side, tries: Iterator[Step], _remaining: float) -> list[Any]:
        self._refuse_if_closed()
        step = next(tries)
        if step.writes:
            return await side.commits.submit(step)
        (outcome,) = await side.send([step])
        return _replies(outcome)

    async def _side(self) -> _Side:
        """Return what serves the running event loop."""
        loop = asyncio.get_running_loop()
        side = self._sides.get(loop)
        if side is None:
            side = _Side(self._async_link(), self._exchange)
            with self._sides_lock:
                self._refuse_if_closed()
                ended = [other for other in self._sides if other.is_closed()]
                for other in ended:
                    del self._sides[other]
                self._sides[loop] = side
            await anext(side.life)
        return side

    def _async_link(self) -> AsyncLink:
        if self._async_client is not None:
            return links.AsyncLink(self._async_client, owned=False)
        if self._own:
            return links.connect_async(self._settings)
        raise InvalidInput("this store has only a blocking client; give it async_client=…")

    def load(self) -> Load:  # noqa: D102 -- inherited
        link, sides = self._link, list(self._sides.values())
        loads = [Load() if link is None else link.load(), *(side.load() for side in sides)]
        return together(loads, self._commits.waiting)

    # Closing

    def close(self) -> None:
        """Release what this backend opened.

        Connections of event loops are closed by their loops, as soon as those run.
        """
        self._closed = True
        with self._linking:
            link, self._link = self._link, None
        with self._sides_lock:
            sides, self._sides = self._sides, {}
        if link is not None:
            link.close()
        for loop, side in sides.items():
            with suppress(RuntimeError):  # a loop that has ended has closed them itself
                loop.call_soon_threadsafe(side.end)

    async def aclose(self) -> None:  # noqa: D102 -- inherited
        with self._sides_lock:
            side = self._sides.pop(asyncio.get_running_loop(), None)
        self.close()
        if side is not None:
            await side.life.aclose()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreClosed("this store is closed; open a new one")


class _Side:
    """What serves the coroutines of one event loop.

    Attributes:
        commits: Sends steps that write.
        life: Must be begun once. When the loop ends, it closes this generator like any other, and
            with it the connections, which no other loop could close.
    """

    def __init__(self, link: AsyncLink, exchange: Exchange) -> None:
        self._link = link
        self._exchange = exchange
        self.commits: AsyncGroupCommit[Step, list[Any]] = AsyncGroupCommit(self.send)
        self.life = self._live()

    async def send(self, steps: Sequence[Step]) -> list[Outcome]:
        """Send steps together. Errors are outcomes."""
        outcomes: list[Outcome]
        try:
            await self._link.prepare()
            sending = self._exchange.begin(steps, self._link.node)
            commands = next(sending)
            while True:
                commands = sending.send(await self._link.send(commands))
        except StopIteration as stop:
            outcomes = stop.value
        except Exception as error:  # noqa: BLE001 -- translated
            outcomes = [self._exchange.failure(error) for _ in steps]
        if _any_unavailable(outcomes):
            await self._link.recover()
        return outcomes

    def load(self) -> Load:
        """Return how busy it is."""
        return self._link.load()._replace(queued=self.commits.waiting)

    def end(self) -> None:
        """Close the connections soon."""
        self._ending = asyncio.ensure_future(self.life.aclose())

    async def _live(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.commits.drain()
            await self._link.aclose()


def _tries(step: Step) -> Iterator[Step]:
    """Yield what each attempt at a step is to send."""
    yield step
    again = step if step.again is None else step._replace(commands=step.again)
    while True:
        yield again


def _replies(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, CairnError):
        raise outcome
    return outcome


def _any_unavailable(outcomes: Sequence[Outcome]) -> bool:
    return any(isinstance(outcome, StoreUnavailable) for outcome in outcomes)


def _raw(client: Any, *kinds: type) -> Any:
    """Check a client of the user's."""
    if client is not None and not isinstance(client, kinds):
        names = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
        raise InvalidInput(f"expected a {names}, not {type(client).__name__}")
    if client is not None and client.get_encoder().decode_responses:  # type: ignore[attr-defined]  # they all have it
        raise InvalidInput("a client with decode_responses=True can't read what isn't text")
    return client


def _milliseconds(ttl: timedelta | float) -> int:
    duration = seconds(ttl, "ttl")
    if duration > _LONGEST_TTL or 0 < duration < 0.001:
        raise InvalidInput(f"ttl={ttl!r}: from a millisecond to a hundred years, or 0 for ever")
    return round(duration * 1000)


_backends: weakref.WeakSet[RedisBackend] = weakref.WeakSet()
_of_the_parent: list[object] = []


def _after_fork() -> None:
    # A lock that another thread held at that moment would stay taken for ever. What the parent
    # opened must never be closed here, or its event loops would lose their connections.
    for backend in list(_backends):
        _of_the_parent.append((backend._link, backend._sides))  # noqa: SLF001 -- of this module
        backend._start_afresh()  # noqa: SLF001 -- of this module


if hasattr(os, "register_at_fork"):  # Windows can't fork
    os.register_at_fork(after_in_child=_after_fork)
