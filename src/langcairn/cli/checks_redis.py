"""What `langcairn doctor` asks Redis and Valkey. Of a cluster, one server is asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from langcairn.cli.findings import clock, ok, problem, warning
from langcairn.cli.printing import size
from langcairn.cli.redis_servers import command, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.redis.links import Link
    from langcairn.backends.redis.settings import Settings
    from langcairn.cli.findings import Finding

_LOCAL = ("localhost", "127.0.0.1", "::1")
_NEARLY_FULL = 0.9


def checks(url: str, options: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is found.

    Raises:
        StoreUnavailable: The server can't be asked.
    """
    with connected(url, options) as (link, settings):
        yield from _server(link, settings)


def _server(link: Link, settings: Settings) -> Iterator[Finding]:
    (facts,) = link.send([command("INFO")])
    begin = time.perf_counter()
    (now,) = link.send([command("TIME")])
    roundtrip = time.perf_counter() - begin
    if isinstance(facts, RedisError):
        yield warning(
            "durability",
            f"the server doesn't tell how it is set: {facts}",
            "Allow INFO to the user, to let langcairn doctor look at it.",
        )
    else:
        (fsync,) = link.send([command("CONFIG", "GET", "appendfsync")])
        yield from _durability(facts, fsync)
        yield from _memory(facts)
        yield _pool(facts, settings)
    if not isinstance(now, RedisError):
        ahead = now[0] + now[1] / 1e6 - (time.time() - roundtrip / 2)
        yield clock(ahead, roundtrip, "Redis")
    hosts = [host for host, _ in settings.addresses if host not in _LOCAL]
    if hosts and not settings.tls:
        yield warning(
            "encryption",
            f"the connection to {hosts[0]} is not encrypted",
            "Use rediss:// if the server has TLS.",
        )


def may_lose(url: str) -> str:
    """Return what a crash of the server's machine may cost: ``nothing``, ``seconds``, ``all``.

    Raises:
        StoreUnavailable: The server can't be asked.
    """
    with connected(url, {}) as (link, _):
        facts, fsync = link.send([command("INFO"), command("CONFIG", "GET", "appendfsync")])
    if isinstance(facts, RedisError) or not facts.get("aof_enabled"):
        return "all"
    return "nothing" if _value(fsync, "appendfsync") == "always" else "seconds"


def _durability(facts: dict[str, Any], fsync: Any) -> Iterator[Finding]:
    if not facts.get("aof_enabled"):
        yield problem(
            "durability",
            "the append-only file is off: a restart of the server loses what came after the last "
            "snapshot, or everything",
            "Set appendonly yes (CONFIG SET appendonly yes, and in redis.conf).",
        )
        return
    policy = _value(fsync, "appendfsync")
    if policy == "no":
        yield warning(
            "durability",
            "appendfsync is no: a loss of power may cost half a minute",
            "Set appendfsync everysec, or always.",
        )
    else:
        lost = "nothing" if policy == "always" else "up to a second or two"
        yield ok("durability", f"AOF is on, appendfsync is {policy}: a loss of power costs {lost}")
    if facts.get("aof_last_write_status", "ok") != "ok":
        yield problem(
            "durability", "the last write to the append-only file failed", "Look at its disk."
        )


def _memory(facts: dict[str, Any]) -> Iterator[Finding]:
    policy, limit = facts.get("maxmemory_policy", "noeviction"), facts.get("maxmemory", 0)
    if policy == "noeviction":
        yield ok("eviction", "maxmemory-policy is noeviction")
    else:
        yield problem(
            "eviction",
            f"maxmemory-policy is {policy}: whole threads vanish when memory runs short",
            "Set maxmemory-policy noeviction, and let threads expire with ttl=… instead.",
        )
    used = facts.get("used_memory", 0)
    if limit and used > _NEARLY_FULL * limit:
        yield warning(
            "space",
            f"{size(used)} of {size(limit)} are used",
            "Raise maxmemory, prune threads, or give them a ttl.",
        )


def _pool(facts: dict[str, Any], settings: Settings) -> Finding:
    clients, limit = facts.get("connected_clients", 0), facts.get("maxclients", 10_000)
    most = settings.max_connections
    what = f"max_connections is {most}; the server takes {limit} clients, {clients} are there"
    if most > limit - clients:
        return warning("pool", what, "Lower max_connections, or raise maxclients.")
    return ok("pool", what)


def _value(reply: Any, name: str) -> str:
    """Return the value in a reply to CONFIG GET, which comes as a dict or a list."""
    if isinstance(reply, RedisError):
        return "unknown"
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    value = reply.get(name, reply.get(name.encode(), "unknown"))
    return value.decode() if isinstance(value, bytes) else str(value)
