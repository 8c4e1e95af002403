"""What `langcairn migrate` reads: stores, and what other savers have left in databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langcairn.cli.tables import DATABASES, columns_of, connect, file_of
from langcairn.cli.urls import scheme_of
from langcairn.errors import InvalidInput, StoreMisconfigured
from langcairn.transfer import LangGraphGo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph.checkpoint.base import BaseCheckpointSaver

    from langcairn.cli.session import Session
    from langcairn.store import CheckpointStore


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
    if kind is Kind.AUTO:
        kind = _kind_of(url, options)
    if kind is Kind.LANGGRAPH:
        with _official(url) as saver:
            yield saver
    elif kind is Kind.LANGGRAPHGO:
        yield LangGraphGo(url, **options)
    else:
        with session.open_other(url, **options) as store:
            yield store


def _kind_of(url: str, options: dict[str, Any]) -> Kind:
    """Look at the columns of a database's table."""
    if scheme_of(url) not in DATABASES:
        return Kind.LANGCAIRN
    columns = columns_of(url, options)
    if {"thread_id", "checkpoint_ns"} <= columns:
        return Kind.LANGGRAPH
    if {"id", "execution_id", "node_name"} <= columns and "namespace" not in columns:
        return Kind.LANGGRAPHGO
    return Kind.LANGCAIRN


@contextmanager
def _official(url: str) -> Iterator[BaseCheckpointSaver[Any]]:
    """Open a saver of LangGraph's own.

    Raises:
        InvalidInput: They aren't read from such a URL.
        ImportError: The package isn't installed.
        StoreMisconfigured: Its tables can't be read.
        StoreUnavailable: The server can't be reached.
    """
    if scheme_of(url) not in DATABASES:
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
            with closing(connect(file_of(url))) as connection:
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
