"""Connections to the servers, blocking and async: they send commands and return the replies."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio as aredis
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from langcairn.backends.measures import Load
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.redis.commands import Command
    from langcairn.backends.redis.settings import Settings

_ONCE = 1  # [repetitions] in a cluster, where redis-py learns of a new topology by failing


class _AnyLink:
    """What both sides have in common: a client, and which node of a cluster has a key.

    Args:
        client: The client. A cluster's finds the node of each key.
        sentinel: What the client asks where its server is; closed with it.
        owned: Whether the client is closed with the link.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster | aredis.Redis | aredis.RedisCluster,
        sentinel: Sentinel | AsyncSentinel | None = None,
        *,
        owned: bool = True,
    ) -> None:
        self._client: Any = client
        self._sentinels: list[Any] = [] if sentinel is None else sentinel.sentinels
        self._owned = owned
        self._is_cluster = isinstance(client, (redis.RedisCluster, aredis.RedisCluster))

    def node(self, key: bytes) -> str:
        """Return the name of the node that has a key."""
        return self._client.get_node_from_key(key).name if self._is_cluster else ""

    def load(self) -> Load:
        """Return how many connections there are, where the client counts them."""
        pool: Any = None if self._is_cluster else self._client.connection_pool
        count = getattr(pool, "get_connection_count", None)
        if count is None:
            return Load()
        in_use = idle = 0
        for connections, labels in count():
            if labels.get("db.client.connection.state") == "used":
                in_use += connections
            else:
                idle += connections
        return Load(0, in_use + idle, in_use, pool.max_connections)

    def _target(self, key: bytes) -> dict[str, Any]:
        # redis-py would find the node by itself, but only by asking a server where the keys are
        # in each command.
        if not self._is_cluster:
            return {}
        return {"target_nodes": self._client.get_node_from_key(key)}


class Link(_AnyLink):
    """A link to a blocking client."""

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, all at once, and return the replies; those may be errors."""
        with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command.words, **self._target(command.key))
            return pipeline.execute(raise_on_error=False)  # type: ignore[no-any-return]  # a list

    def recover(self) -> None:
        """Prepare for another attempt, after the server couldn't be used."""
        if self._owned and not self._is_cluster:
            with suppress(RedisError, OSError):
                # Idle connections may lead to a server that is the primary no more.
                self._client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close what this link has opened."""
        if self._owned:
            for client in (self._client, *self._sentinels):
                client.close()


class AsyncLink(_AnyLink):
    """A link to an async client, for one event loop."""

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Do as `Link.send`."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command.words, **self._target(command.key))
            return await pipeline.execute(raise_on_error=False)  # type: ignore[no-any-return]  # a list

    async def recover(self) -> None:
        """Do as `Link.recover`."""
        with suppress(RedisError, RedisClusterException, OSError):
            if self._is_cluster:
                # Unlike the blocking client's, this pipeline doesn't do it by itself.
                await self._client.nodes_manager.initialize()
            elif self._owned:
                await self._client.connection_pool.disconnect(inuse_connections=False)

    async def prepare(self) -> None:
        """Learn which node has which keys, if there are several and it isn't known."""
        if self._is_cluster:
            await self._client.initialize()

    async def aclose(self) -> None:
        """Close what this link has opened."""
        if self._owned:
            for client in (self._client, *self._sentinels):
                await client.aclose()


def connect(settings: Settings) -> Link:
    """Make a link. It connects when it is used, to a cluster at once."""
    options, size = settings.options, settings.max_connections
    once, never = Retry(NoBackoff(), _ONCE), Retry(NoBackoff(), 0)
    if settings.kind == "cluster":
        nodes = [ClusterNode(*place) for place in settings.addresses]  # type: ignore[no-untyped-call]  # redis-py's types have gaps
        return Link(
            redis.RedisCluster(
                startup_nodes=nodes,
                retry=once,
                max_connections=size,
                ssl=settings.tls,
                **options,
            )
        )
    if settings.kind == "sentinel":
        asked = {**_timeouts(options), "retry": never, **settings.sentinel_options}
        sentinel = Sentinel(settings.addresses, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]  # redis-py's types have gaps
        client = sentinel.master_for(  # type: ignore[no-untyped-call]  # redis-py's types have gaps
            settings.service, max_connections=size, retry=never, ssl=settings.tls, **options
        )
        return Link(client, sentinel)
    pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]  # redis-py's types have gaps
        connection_class=_connection_class(settings),
        max_connections=size,
        timeout=options.get("socket_timeout"),
        retry=never,
        **_place(settings),
        **options,
    )
    return Link(redis.Redis.from_pool(pool))


def connect_async(settings: Settings) -> AsyncLink:
    """Make a link for the running event loop. It connects when it is used."""
    options, size = settings.options, settings.max_connections
    once, never = AsyncRetry(NoBackoff(), _ONCE), AsyncRetry(NoBackoff(), 0)
    if settings.kind == "cluster":
        nodes = [AsyncClusterNode(*address) for address in settings.addresses]
        return AsyncLink(
            aredis.RedisCluster(
                startup_nodes=nodes,
                retry=once,
                max_connections=size,
                ssl=settings.tls,
                **options,
            )
        )
    if settings.kind == "sentinel":
        asked = {**_timeouts(options), "retry": never, **settings.sentinel_options}
        sentinel = AsyncSentinel(settings.addresses, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]  # redis-py's types have gaps
        client = sentinel.master_for(
            settings.service, max_connections=size, retry=never, ssl=settings.tls, **options
        )
        return AsyncLink(client, sentinel)
    pool = aredis.BlockingConnectionPool(
        connection_class=_async_connection_class(settings),
        max_connections=size,
        timeout=options.get("socket_timeout"),
        retry=never,
        **_place(settings),
        **options,
    )
    return AsyncLink(aredis.Redis.from_pool(pool))


def check(settings: Settings) -> None:
    """Check that redis-py knows all options, and files are there.

    Raises:
        InvalidInput: It isn't so, or an option can't be used.
    """
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        file = settings.options.get(name)
        if file is not None and not Path(file).is_file():
            # redis-py would find out when it connects, and report a failed connection.
            raise InvalidInput(f"{name}: there is no file {str(file)!r}")
    try:
        _connection_class(settings)(**_place(settings), **settings.options)
    except (TypeError, ValueError, RedisError) as error:
        raise InvalidInput(f"options of the connection: {error}") from error


def _connection_class(settings: Settings) -> Any:
    if settings.kind == "unix":
        return redis.UnixDomainSocketConnection
    return redis.SSLConnection if settings.tls else redis.Connection


def _async_connection_class(settings: Settings) -> Any:
    if settings.kind == "unix":
        return aredis.UnixDomainSocketConnection
    return aredis.SSLConnection if settings.tls else aredis.Connection


def _place(settings: Settings) -> dict[str, Any]:
    if settings.kind == "unix":
        return {"path": settings.path}
    host, port = settings.addresses[0]
    return {"host": host, "port": port}


def _timeouts(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name.startswith("socket_")}
