"""What `langcairn doctor` asks PostgreSQL."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from langcairn.backends.postgres.options import pool_settings
from langcairn.cli.connecting import postgres
from langcairn.cli.findings import clock, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from langcairn.cli.findings import Finding

    Connection = psycopg.Connection[tuple[Any, ...]]

_SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit',
    'full_page_writes', 'max_connections', 'superuser_reserved_connections', 'autovacuum',
    'server_encoding', 'idle_in_transaction_session_timeout')"""
_LOCAL = ("", "localhost", "127.0.0.1", "::1")


def checks(url: str, options: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is found.

    Raises:
        StoreError: The server can't be asked.
    """
    pool = {
        "max_conns": options.get("pool_max_conns", 10),
        "min_conns": options.get("pool_min_conns", 2),
        "max_conn_lifetime": options.get("pool_max_conn_lifetime", 1800.0),
        "max_conn_idle_time": options.get("pool_max_conn_idle_time", 300.0),
    }
    most = pool_settings(url, **pool).max_conns
    with postgres(url) as connection:
        settings: dict[str, str] = dict(connection.execute(_SETTINGS).fetchall())
        yield from _durability(settings)
        yield _pool(connection, settings, most)
        yield _clock(connection)
        yield from _safety(connection, settings)


def _durability(settings: dict[str, str]) -> Iterator[Finding]:
    for name, loss in (
        ("fsync", "a crash of the server's machine may destroy the database"),
        ("full_page_writes", "a crash of the server's machine may leave torn pages"),
    ):
        if settings.get(name) == "off":
            yield problem("durability", f"{name} is off: {loss}", f"Set {name} = on and reload.")
    commit = settings.get("synchronous_commit", "?")
    if commit == "off":
        yield warning(
            "durability",
            "synchronous_commit is off: a crash of the server may undo the last moments",
            "Set synchronous_commit = on, for this role or database if not for all "
            "(ALTER ROLE … SET synchronous_commit = on).",
        )
    else:
        yield ok("durability", f"synchronous_commit is {commit}, fsync is {settings.get('fsync')}")


def _pool(connection: Connection, settings: dict[str, str], most: int) -> Finding:
    limit = int(settings["max_connections"]) - int(settings["superuser_reserved_connections"])
    row = connection.execute(
        "SELECT count(*), (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), "
        "(SELECT datconnlimit FROM pg_database WHERE datname = current_database()) "
        "FROM pg_stat_activity WHERE backend_type = 'client backend'"
    ).fetchone() or (0, -1, -1)
    used, *limits = row
    limit = min([limit, *(one for one in limits if one is not None and one >= 0)])
    what = f"pool_max_conns is {most}; the server takes {limit} connections, {used} are in use"
    if most > limit - used:
        return warning(
            "pool",
            what,
            "Each process opens up to pool_max_conns connections for its threads, and as many for "
            "each event loop. Lower pool_max_conns, raise max_connections, or put a pooler in "
            "between (then with prepare=False).",
        )
    return ok("pool", what)


def _clock(connection: Connection) -> Finding:
    begin = time.perf_counter()
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    roundtrip = time.perf_counter() - begin
    now = datetime.now(UTC).timestamp() - roundtrip / 2
    return clock(float(row[0]) - now if row else 0.0, roundtrip, "PostgreSQL")


def _safety(connection: Connection, settings: dict[str, str]) -> Iterator[Finding]:
    if settings.get("server_encoding") != "UTF8":
        yield problem(
            "schema",
            f"the database's encoding is {settings.get('server_encoding')}, which can't hold all "
            "texts",
            "Make a database with ENCODING 'UTF8' and move the store there (langcairn migrate).",
        )
    if settings.get("autovacuum") == "off":
        yield warning(
            "maintenance",
            "autovacuum is off: what clean-ups delete keeps its space",
            "Set autovacuum = on, or run VACUUM yourself.",
        )
    row = connection.execute(
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row is not None and row[0]:
        yield warning(
            "rights",
            "the role is a superuser",
            "Make a role that owns only these tables (docs/postgresql.md).",
        )
    host = connection.info.host
    if host not in _LOCAL and not host.startswith("/") and not connection.pgconn.ssl_in_use:
        yield warning(
            "encryption",
            f"the connection to {host} is not encrypted",
            "Add sslmode=verify-full to the URL.",
        )


def may_lose(url: str) -> str:
    """Return what a crash of the server's machine may cost: ``nothing``, ``seconds``, ``all``."""
    with postgres(url) as connection:
        settings: dict[str, str] = dict(connection.execute(_SETTINGS).fetchall())
    if "off" in (settings.get("fsync"), settings.get("full_page_writes")):
        return "all"
    return "seconds" if settings.get("synchronous_commit") == "off" else "nothing"
