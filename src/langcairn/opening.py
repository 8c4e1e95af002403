"""`open_store`: from a URL to a store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from langcairn.errors import InvalidInput
from langcairn.stores import (
    FileCheckpointStore,
    MemoryCheckpointStore,
    PostgresCheckpointStore,
    RedisCheckpointStore,
    SqliteCheckpointStore,
)

if TYPE_CHECKING:
    from langcairn.store import CheckpointStore

_FORMS = (
    "memory:, sqlite:///relative/path.db, sqlite:////absolute/path.db, file:///directory, "
    "postgresql://user@host/database, redis://host:port/db, rediss://…, valkey://…"
)


def open_store(url: str, **options: Any) -> CheckpointStore:
    """Open a store.

    Args:
        url: ``memory:``, ``sqlite:///path`` or ``sqlite:////absolute/path``,
            ``file:///directory``, ``postgresql://…``, or ``redis://…``, ``rediss://…``,
            ``valkey://…``, ``unix://…``, ``redis+sentinel://…``, ``redis+cluster://…``.
        **options: Keyword arguments of the store's constructor. They may stand in the URL, too:
            ``sqlite:///agent.db?synchronous=NORMAL``.

    Raises:
        InvalidInput: The URL has no known form, or there is no such option.
        ImportError: The driver is not installed; the message names the extra.
    """
    if not isinstance(url, str):
        raise InvalidInput(f"a store's URL is a string, not {type(url).__name__}; use {_FORMS}")
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme in ("memory", "sqlite", "file"):
        if parts.fragment:
            raise InvalidInput(f"{_shown(url)!r}: write # in a path as %23")
        options = {**_options(parts.query), **options}
    try:
        match _kind(parts.scheme):
            case "memory" if not parts.netloc and not path:
                return MemoryCheckpointStore(**options)
            case "sqlite" if not parts.netloc and len(path) > 1:
                return SqliteCheckpointStore(path[1:], **options)
            case "file" if parts.netloc in ("", "localhost") and path:
                return FileCheckpointStore(path, **options)
            case "postgresql" | "postgres":
                return PostgresCheckpointStore(url, **options)
            case "redis" | "rediss" | "valkey" | "valkeys" | "unix":
                return RedisCheckpointStore(url, **options)
    except TypeError as error:
        raise InvalidInput(f"{parts.scheme} stores: {error}") from error
    raise InvalidInput(f"no store has the URL {_shown(url)!r}; use {_FORMS}")


def _kind(scheme: str) -> str:
    """Return the kind of store; a driver, as in SQLAlchemy's ``postgresql+psycopg``, is none."""
    return scheme.partition("+")[0] if scheme.startswith(("redis", "valkey")) else scheme


def _shown(url: str) -> str:
    """Return a URL as it may stand in a message or log: without a password."""
    return re.sub(r"(://[^/@]*?):[^/]*@", r"\1:…@", url)


def _options(query: str) -> dict[str, Any]:
    """Return the options in a URL, numbers and truth values as such."""
    return {name: _value(text) for name, text in parse_qsl(query, keep_blank_values=True)}


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
