"""Where the servers are, and how to connect: from a URL or an address, and arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from redis.connection import parse_url

from langcairn.backends.retry import seconds
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORT = 6379
_SENTINEL_PORT = 26379
_TLS = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_FORMS = (
    "host:port, redis://user:password@host:port/db, rediss:// (TLS), unix:///path/to.sock, "
    "redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,host:port "
    "(also with valkey:// and valkeys://)"
)

_DEFAULTS = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "max_connections": 50}

Kind = Literal["server", "unix", "sentinel", "cluster"]


@dataclass(frozen=True)
class Settings:
    """How to connect.

    Attributes:
        kind: To what.
        addresses: The server; of sentinels and clusters as many as are known.
        path: The socket of a server on this machine.
        service: What sentinels call the server.
        tls: Whether to use TLS.
        options: Arguments for each connection, by redis-py's names.
        sentinel_options: The same for connections to sentinels.
        max_connections: The most connections at once, in a cluster to each node.
    """

    kind: Kind
    addresses: list[tuple[str, int]]
    path: str = ""
    service: str = ""
    tls: bool = False
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)
    max_connections: int = 50

    @property
    def server(self) -> str:
        """The name of the server in messages, without secrets."""
        if self.kind == "unix":
            return f"Redis at {self.path}"
        places = ", ".join(f"{host}:{port}" for host, port in self.addresses)
        if self.kind == "sentinel":
            return f"Redis {self.service!r} of the sentinels {places}"
        return f"Redis cluster {places}" if self.kind == "cluster" else f"Redis {places}"


def read_settings(
    address: str,
    *,
    cluster: bool = False,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings that a URL or address and arguments say together.

    Args:
        address: A URL, host and port, or the path of a socket.
        cluster: The address is a node of a cluster.
        arguments: Such as ``password``, by redis-py's names; those that are None say nothing,
            others overrule the URL.
        options: Further arguments for connections; they overrule the URL, too.

    Raises:
        InvalidInput: They make no sense.
    """
    if not isinstance(address, str) or not address:
        raise InvalidInput(f"expected the address of a Redis server: {_FORMS}")
    scheme, url = _split(address)
    name, _, topology = scheme.partition("+")
    if name == "unix" or topology == "unix":
        kind: Kind = "unix"
    elif name not in _TLS or topology not in ("", "sentinel", "cluster"):
        raise InvalidInput(f"no Redis server has the address {address!r}; use {_FORMS}")
    elif cluster or topology == "cluster":
        kind = "cluster"
    else:
        kind = "sentinel" if topology else "server"
    given = {name: value for name, value in arguments.items() if value is not None}
    collected = {**_DEFAULTS, **_options(url, kind), **given, **(options or {})}
    max_connections = _count(collected.pop("max_connections"))
    for timeout in ("socket_timeout", "socket_connect_timeout"):
        if not seconds(collected[timeout], timeout):
            raise InvalidInput(f"{timeout} must be above 0")
    sentinel_options = {
        key.removeprefix("sentinel_"): collected.pop(key)
        for key in list(collected)
        if key.startswith("sentinel_")
    }
    service = unquote(url.path.strip("/").partition("/")[0]) if kind == "sentinel" else ""
    if kind == "sentinel" and not service:
        raise InvalidInput("name the service: redis+sentinel://host:port/service")
    if kind == "cluster" and collected.pop("db", 0):
        raise InvalidInput("a Redis cluster has no database but 0")
    return Settings(
        kind,
        [] if kind == "unix" else _addresses(url, _SENTINEL_PORT if kind == "sentinel" else _PORT),
        unquote(url.path) if kind == "unix" else "",
        service,
        _TLS.get(name, False),
        collected,
        sentinel_options,
        max_connections,
    )


def _split(address: str) -> tuple[str, SplitResult]:
    """Return scheme and parts of a URL; what has no scheme is an address or a path."""
    try:
        if "://" in address:
            url = urlsplit(address)
        elif address.startswith(("/", ".")):
            url = SplitResult("unix", "", address, "", "")
        else:
            url = urlsplit(f"redis://{address}")
    except ValueError as error:
        raise InvalidInput(f"{address!r} is no address: {error}; use {_FORMS}") from error
    return url.scheme, url


def _options(url: SplitResult, kind: Kind) -> dict[str, Any]:
    """Return what a URL says about connections: login, database, and its query string."""
    login, _, _ = url.netloc.rpartition("@")
    last = url.path.rpartition("/")[2] if kind != "unix" else ""
    # The service is the first part of the path for sentinels.
    database = "" if kind == "sentinel" and url.path.count("/") < 2 else last
    if database and not database.isdecimal():
        raise InvalidInput(f"{database!r} is no database: it must be a number")
    plain = (
        f"redis://{login}@localhost/{database}?{url.query}"
        if login
        else (f"redis://localhost/{database}?{url.query}")
    )
    try:
        options: dict[str, Any] = parse_url(plain)  # type: ignore[no-untyped-call]  # redis-py's types have gaps
    except ValueError as error:
        raise InvalidInput(f"the URL's options: {error}") from error
    options.pop("host")
    return options


def _addresses(url: SplitResult, default_port: int) -> list[tuple[str, int]]:
    _, _, places = url.netloc.rpartition("@")
    return [_address(place, default_port) for place in places.split(",")]


def _address(place: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{place!r} is no address: {error}") from error
    return parts.hostname or "localhost", port or default_port


def _count(number: Any) -> int:
    if type(number) is not int or number < 1:
        raise InvalidInput(f"max_connections must be a number above 0, not {number!r}")
    return number
