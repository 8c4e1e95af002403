"""What tables a database has. To look is not to open a store, which makes tables of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from langcairn.cli.urls import path_of, scheme_of
from langcairn.errors import InvalidInput, StoreMisconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DATABASES = ("sqlite", "postgresql", "postgres")


def columns_of(url: str, options: Mapping[str, Any]) -> set[str]:
    """Return the columns of the table of checkpoints, whoever made it; none if there is no such.

    Args:
        url: A store's, or that of another saver.
        options: The store's other options, of which ``table_name`` and ``schema`` count.

    Raises:
        InvalidInput: The URL names no file.
        StoreMisconfigured: There is no such file or database, or it can't be read.
        StoreUnavailable: The server can't be reached.
    """
    table = table_of(url, options)
    if scheme_of(url) == "sqlite":
        return _in_sqlite(url, table)
    schema = options.get("schema")
    return _in_postgres(url, table, None if schema is None else str(schema))


def table_of(url: str, options: Mapping[str, Any]) -> str:
    """Return the name of a store's table of checkpoints."""
    given: dict[str, Any] = {}
    if scheme_of(url) == "sqlite":  # PostgreSQL's URLs hold only what libpq and the pool take
        given = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    return str({**given, **options}.get("table_name", "checkpoints"))


def file_of(url: str) -> Path:
    """Return the file of an SQLite URL.

    Raises:
        InvalidInput: It names none.
        StoreMisconfigured: There is no such file.
    """
    path = path_of(url)
    if path is None:
        raise InvalidInput(f"{url!r} names no file: write sqlite:///relative.db")
    if not path.exists():
        raise StoreMisconfigured(f"there is no {path}")
    return path


def connect(path: Path) -> sqlite3.Connection:
    """Open an SQLite file for reading."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)


def _in_sqlite(url: str, table: str) -> set[str]:
    path = file_of(url)
    try:
        with closing(connect(path)) as connection:
            rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
            return {name for (name,) in rows}
    except sqlite3.Error as error:
        raise StoreMisconfigured(f"{path} can't be read as a SQLite file: {error}") from error


def _in_postgres(url: str, table: str, schema: str | None) -> set[str]:
    from langcairn.cli.connecting import postgres  # noqa: PLC0415 -- its driver may not be there

    with postgres(url) as connection:
        # Not to_regclass() with the schema, which needs a right to it.
        rows = connection.execute(
            "SELECT attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
            "JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE attnum > 0 AND NOT attisdropped AND CASE WHEN %(schema)s::text IS NULL "
            "THEN c.oid = to_regclass(quote_ident(%(table)s)) "
            "ELSE nspname = %(schema)s AND relname = %(table)s END",
            {"table": table, "schema": schema},
        )
        return {name for (name,) in rows}
