"""Connections of the command's own to Redis and Valkey, and whose keys are there."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langcairn.backends.redis import links
from langcairn.backends.redis.commands import Command
from langcairn.backends.redis.settings import read_settings
from langcairn.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.redis.links import Link
    from langcairn.backends.redis.settings import Settings

_CONNECTION_OPTIONS = ("username", "password", "db")
# Where langgraph-checkpoint-redis is at home, one of the first keys is its own.
_ROUNDS = 16
_KEYS = 500  # [keys that the server looks at in a round]
# Of its versions 0.0.1 to 0.5.2, unless it was given other prefixes.
_OFFICIAL = re.compile(
    rb"checkpoint(_write)?:.*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|checkpoint_(blob|latest):",
    re.DOTALL,
)


@contextmanager
def connected(url: str, options: dict[str, Any]) -> Iterator[tuple[Link, Settings]]:
    """Connect to the server of a store.

    Raises:
        StoreUnavailable: It can't be asked.
    """
    arguments = {name: options.get(name) for name in _CONNECTION_OPTIONS}
    settings = read_settings(url, cluster=bool(options.get("cluster")), arguments=arguments)
    try:
        with closing(links.connect(settings)) as link:
            yield link, settings
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise StoreUnavailable(f"{settings.server} can't be reached: {error}") from error


def command(*words: str | int) -> Command:
    """Return a command that any server can answer."""
    return Command(b"langgraph:", words)


def has_official_keys(url: str, options: dict[str, Any]) -> bool:
    """Tell whether keys of langgraph-checkpoint-redis are among the first of a database.

    Raises:
        StoreUnavailable: The server can't be asked.
    """
    cursor = 0
    with connected(url, options) as (link, _):
        for _ in range(_ROUNDS):
            (reply,) = link.send([command("SCAN", cursor, "MATCH", "checkpoint*", "COUNT", _KEYS)])
            if isinstance(reply, RedisError):
                return False  # the user mayn't look at the names of keys
            cursor, keys = reply
            if any(_OFFICIAL.match(key) for key in keys):
                return True
            if not cursor:
                break
    return False
