"""Connections of the command's own, to ask servers what no backend asks them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from langcairn.backends.postgres.errors import translated
from langcairn.backends.postgres.options import pool_settings

__all__ = ["plain_url", "postgres", "translated"]

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 5  # [s] for a connection


def plain_url(url: str) -> str:
    """Return libpq's part of a store's URL as a connection string."""
    parameters = pool_settings(
        url, max_conns=1, min_conns=0, max_conn_lifetime=60, max_conn_idle_time=60
    ).connect
    return make_conninfo(**{"connect_timeout": PATIENCE, **parameters})


@contextmanager
def postgres(url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Connect to the database of a store's URL.

    Raises:
        StoreUnavailable: The server can't be reached.
        StoreMisconfigured: It refuses; or the URL can't be read.
    """
    conninfo = plain_url(url)
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        raise translated(error) from error
