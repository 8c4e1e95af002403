"""What `langcairn migrate` reads: stores, and what other savers have left in databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from langcairn.cli.session import path_of, scheme_of
from langcairn.errors import InvalidInput, StoreMisconfigured
from langcairn.transfer import LangGraphGo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langgraph.checkpoint.base import BaseCheckpointSaver

    from langcairn.cli.session import Session
    from langcairn.store import CheckpointStore

_DATABASES = ("sqlite", "postgresql", "postgres")


class Kind(StrEnum):
    """Whose a source is."""

    AUTO = "auto"
    LANGCAIRN = "langcairn"
    LANGGRAPH = "langgraph"
    LANGGRAPHGO = "langgraphgo"


@contextmanager
def open_source(
    session: Session, url: str, kind: Kind, options: dict[str, Any]
) -> Iterator[CheckpointStore | BaseCheckpointSaver[Any] | LangGraphGo]:
    """Open what is to be read.

    Raises:
        InvalidInput: The URL has no known form.
        ImportError: The package whose tables these are isn't installed.
        StoreMisconfigured: It isn't there, or can't be read.
        StoreUnavailable: The server can't be reached.
    """
    table = str(options.get("table_name", "checkpoints"))
    if kind is Kind.AUTO:
        kind = _kind_of(url, table)
    if kind is Kind.LANGGRAPH:
        with _official(url) as saver:
            yield saver
    elif kind is Kind.LANGGRAPHGO:
        yield LangGraphGo(url, **options)
    else:
        with session.open_other(url, **options) as store:
            yield store


def _kind_of(url: str, table: str) -> Kind:
    """Look at the columns of a database's table."""
    scheme = scheme_of(url)
    if scheme not in _DATABASES:
        return Kind.LANGCAIRN
    columns = _sqlite_columns(url, table) if scheme == "sqlite" else _postgres_columns(url, table)
    if {"thread_id", "checkpoint_ns"} <= columns:
        return Kind.LANGGRAPH
    if {"id", "execution_id", "node_name"} <= columns and "namespace" not in columns:
        return Kind.LANGGRAPHGO
    return Kind.LANGCAIRN


def _sqlite_columns(url: str, table: str) -> set[str]:
    path = _file_of(url)
    try:
        with closing(_connect(path)) as connection:
            rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
            return {name for (name,) in rows}
    except sqlite3.Error as error:
        raise StoreMisconfigured(f"{path} can't be read as a SQLite file: {error}") from error


def _file_of(url: str) -> Path:
    path = path_of(url)
    if path is None:
        raise InvalidInput(f"{url!r} names no file: write sqlite:///relative.db")
    if not path.exists():
        raise StoreMisconfigured(f"there is no {path}")
    return path


def _connect(path: Path) -> sqlite3.Connection:
    # Read only: the source stays as it is.
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)


def _postgres_columns(url: str, table: str) -> set[str]:
    from langcairn.cli.connecting import postgres  # noqa: PLC0415 -- its driver may not be there

    with postgres(url) as connection:
        rows = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s)) "
            "AND attnum > 0 AND NOT attisdropped",
            (table,),
        )
        return {name for (name,) in rows}


@contextmanager
def _official(url: str) -> Iterator[BaseCheckpointSaver[Any]]:
    """Open a saver of LangGraph's own.

    Raises:
        InvalidInput: They aren't read from such a URL.
        ImportError: The package isn't installed.
        StoreMisconfigured: Its tables can't be read.
        StoreUnavailable: The server can't be reached.
    """
    if scheme_of(url) not in _DATABASES:
        raise InvalidInput(
            f"{url!r}: savers of LangGraph's are read from sqlite:///… and postgresql://…; any "
            "other can be read in Python (docs/migration.md)"
        )
    make = "sqlite" if scheme_of(url) == "sqlite" else "postgres"
    try:
        module = import_module(f"langgraph.checkpoint.{make}")
    except ImportError as error:
        raise ImportError(
            f"these are tables of langgraph-checkpoint-{make}, which is needed to read them: "
            f"pip install langgraph-checkpoint-{make}"
        ) from error
    if make == "sqlite":
        try:
            with closing(_connect(_file_of(url))) as connection:
                saver = module.SqliteSaver(connection)
                saver.is_setup = True  # else it would write to the file
                yield saver
        except sqlite3.Error as error:
            raise StoreMisconfigured(
                f"{url} can't be read as a file of langgraph-checkpoint-sqlite: {error}"
            ) from error
        return
    from langcairn.cli.connecting import plain_url, translated  # noqa: PLC0415 -- its driver may not be there

    driver = import_module("psycopg")
    try:
        with module.PostgresSaver.from_conn_string(plain_url(url)) as saver:
            yield saver
    except driver.Error as error:
        raise translated(error) from error
