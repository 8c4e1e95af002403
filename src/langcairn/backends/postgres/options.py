"""The options of the PostgreSQL backend, from keywords and from the connection string."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from langcairn.backends.postgres.pool import PoolSettings
from langcairn.backends.retry import seconds
from langcairn.errors import InvalidInput, StoreMisconfigured

if TYPE_CHECKING:
    from datetime import timedelta

_OURS = (
    "pool_max_conns",
    "pool_min_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_idle_time",
)
# As Go writes durations, which the connection strings of LangGraphGo hold: 30m, 1h30m, 90s.
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_KEY_VALUE = re.compile(r"(?:^|\s)(pool_\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S*)")


def pool_settings(
    conn_string: str,
    *,
    max_conns: int,
    min_conns: int,
    max_conn_lifetime: timedelta | float,
    max_conn_idle_time: timedelta | float,
) -> PoolSettings:
    """Put together how to connect, from a connection string with options of ours in it.

    What the connection string says counts more than the arguments.

    Raises:
        InvalidInput: An option is unknown or out of range.
        StoreMisconfigured: libpq doesn't understand the connection string.
    """
    rest, given = _taken_out(conn_string)
    if unknown := given.keys() - set(_OURS):
        raise InvalidInput(f"unknown option {min(unknown)!r}; there are {', '.join(_OURS)}")
    most = whole_number(given.get("pool_max_conns", max_conns), "pool_max_conns", least=1)
    fewest = whole_number(given.get("pool_min_conns", min_conns), "pool_min_conns", least=0)
    return PoolSettings(
        _parameters(rest),
        most,
        min(fewest, most),
        _duration(given.get("pool_max_conn_lifetime", max_conn_lifetime), "pool_max_conn_lifetime"),
        _duration(
            given.get("pool_max_conn_idle_time", max_conn_idle_time), "pool_max_conn_idle_time"
        ),
    )


def _taken_out(conn_string: str) -> tuple[str, dict[str, str]]:
    """Divide a connection string into what is libpq's and the options that are ours."""
    if not isinstance(conn_string, str):
        raise InvalidInput(
            f"expected a connection string or a pool, not {type(conn_string).__name__}"
        )
    if "\0" in conn_string:
        raise InvalidInput("the connection string contains NUL")
    if not re.match(r"postgres(?:ql)?://", conn_string):
        given = {key: value.strip("'") for key, value in _KEY_VALUE.findall(conn_string)}
        return _KEY_VALUE.sub("", conn_string), given
    base, _, query = conn_string.partition("?")
    given, kept = {}, []
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if unquote(key).startswith("pool_"):
            given[unquote(key)] = unquote(value)
        else:
            kept.append(part)
    return "?".join(filter(None, (base, "&".join(kept)))), given


def _parameters(conn_string: str) -> dict[str, object]:
    """Return libpq's parameters, with defaults that suit a store."""
    try:
        parameters = conninfo_to_dict(conn_string)
    except psycopg.ProgrammingError as error:
        # Not with the connection string: there may be a password in it.
        raise StoreMisconfigured(
            f"PostgreSQL's client can't read the connection string: {error}".strip()
        ) from error
    return {
        "application_name": "langcairn",
        # A peer that vanished without a word is given up after this time [ms], where the system
        # has it; otherwise only the store's own time limit would notice.
        "tcp_user_timeout": "10000",
        **{key: value for key, value in parameters.items() if value is not None},
        "client_encoding": "UTF8",
    }


def whole_number(value: str | int, what: str, *, least: int) -> int:
    """Return a count.

    Raises:
        InvalidInput: It is none, or too small; the message names ``what``.
    """
    try:
        number = int(value)
    except ValueError:
        number = -1
    if isinstance(value, (bool, float)) or number < least:
        raise InvalidInput(f"{what} must be a whole number from {least} on, not {value!r}")
    return number


def _duration(value: str | timedelta | float, what: str) -> float:
    if not isinstance(value, str):
        return seconds(value, what)
    if _DURATION.fullmatch(value):
        parts = re.findall(r"([\d.]+)([a-z]+)", value)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return seconds(float(value), what)
    except ValueError:
        raise InvalidInput(f"{what} must be seconds or like 30m, not {value!r}") from None
