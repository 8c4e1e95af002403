"""What `langcairn migrate` reads: stores, and what other savers have left in databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langcairn.cli.escaping import without_passwords
from langcairn.cli.session import PATIENCE, REDIS, official_keys_instead
from langcairn.cli.tables import DATABASES, columns_of, connect, file_of
from langcairn.cli.urls import scheme_of
from langcairn.errors import InvalidInput, StoreMisconfigured, StoreUnavailable
from langcairn.opening import open_store
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
    if kind is Kind.LANGGRAPH:
        with _official(url) as saver:
            yield saver
    elif kind is Kind.LANGGRAPHGO:
        yield LangGraphGo(url, **options)
    else:
        with session.open_other(url, **options) as store:
            yield store


def kind_of(url: str, options: dict[str, Any], *, is_target: bool) -> Kind:
    """Say whose a source is: look at the columns of its table, or at its keys.

    Args:
        url: The source.
        options: Those of a store there.
        is_target: Whether that store is what is to be written to.
    """
    scheme = scheme_of(url)
    if scheme in REDIS:
        return _kind_of_keys(url, options, is_target=is_target)
    if scheme not in DATABASES:
        return Kind.LANGCAIRN
    columns = columns_of(url, options)
    if {"thread_id", "checkpoint_ns"} <= columns:
        return Kind.LANGGRAPH
    if {"id", "execution_id", "node_name"} <= columns and "namespace" not in columns:
        return Kind.LANGGRAPHGO
    return Kind.LANGCAIRN


def _kind_of_keys(url: str, options: dict[str, Any], *, is_target: bool) -> Kind:
    if is_target:
        from langcairn.cli.redis_servers import has_official_keys  # noqa: PLC0415 -- its driver may not be there

        theirs = has_official_keys(url, options)
    else:
        with open_store(url, **{"deadline": PATIENCE, **options}) as store:
            theirs = official_keys_instead(url, options, store)
    return Kind.LANGGRAPH if theirs else Kind.LANGCAIRN


@contextmanager
def _official(url: str) -> Iterator[BaseCheckpointSaver[Any]]:
    """Open a saver of LangGraph's own.

    Raises:
        InvalidInput: They aren't read from such a URL.
        ImportError: The package isn't installed.
        StoreMisconfigured: What it keeps can't be read.
        StoreUnavailable: The server can't be reached.
    """
    scheme = scheme_of(url)
    if scheme == "sqlite":
        opened = _sqlite_saver(url)
    elif scheme in DATABASES:
        opened = _postgres_saver(url)
    elif scheme in REDIS and "+" not in url.partition(":")[0]:
        opened = _redis_saver(url)
    else:
        raise InvalidInput(
            f"{url!r}: savers of LangGraph's are read from sqlite:///…, postgresql://… and "
            "redis://…; any other can be read in Python (docs/migration.md)"
        )
    with opened as saver:
        yield saver


def _module(make: str) -> Any:
    try:
        return import_module(f"langgraph.checkpoint.{make}")
    except ImportError as error:
        raise ImportError(
            f"this is what langgraph-checkpoint-{make} keeps, which is needed to read it: "
            f"pip install langgraph-checkpoint-{make}"
        ) from error


@contextmanager
def _sqlite_saver(url: str) -> Iterator[BaseCheckpointSaver[Any]]:
    module = _module("sqlite")
    try:
        with closing(connect(file_of(url))) as connection:
            saver = module.SqliteSaver(connection)
            saver.is_setup = True  # else it would write to the file
            yield saver
    except sqlite3.Error as error:
        raise StoreMisconfigured(
            f"{url} can't be read as a file of langgraph-checkpoint-sqlite: {error}"
        ) from error


@contextmanager
def _postgres_saver(url: str) -> Iterator[BaseCheckpointSaver[Any]]:
    module = _module("postgres")
    from langcairn.cli.connecting import plain_url, translated  # noqa: PLC0415 -- its driver may not be there

    driver = import_module("psycopg")
    try:
        with module.PostgresSaver.from_conn_string(plain_url(url)) as saver:
            yield saver
    except driver.Error as error:
        raise translated(error) from error


@contextmanager
def _redis_saver(url: str) -> Iterator[BaseCheckpointSaver[Any]]:
    module = _module("redis")
    errors = import_module("redis.exceptions")
    more = import_module("redisvl.exceptions")
    place = without_passwords(url)
    try:
        with module.RedisSaver.from_conn_string(_as_redis(url)) as saver:
            saver.setup()  # finds its indexes
            yield saver
    except (errors.ConnectionError, errors.TimeoutError) as error:
        raise StoreUnavailable(f"Redis at {place} can't be reached: {error}") from error
    except (errors.RedisError, more.RedisVLError) as error:
        raise StoreMisconfigured(
            f"{place} can't be read by langgraph-checkpoint-redis, which needs the modules search "
            f"and JSON in the server: {error}"
        ) from error


def _as_redis(url: str) -> str:
    """Return a URL with the scheme by which redis-py knows it; the host may be called valkey."""
    scheme, rest = url.split(":", 1)
    return f"{scheme.replace('valkey', 'redis')}:{rest}"
