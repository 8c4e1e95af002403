"""`open_store`: from a URL to a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from langcairn.errors import InvalidInput
from langcairn.stores import MemoryCheckpointStore, SqliteCheckpointStore

if TYPE_CHECKING:
    from langcairn.store import CheckpointStore

_FORMS = "memory:, sqlite:///relative/path.db or sqlite:////absolute/path.db"


def open_store(url: str, **options: Any) -> CheckpointStore:
    """Open a store.

    Args:
        url: ``memory:``, ``sqlite:///path`` or ``sqlite:////absolute/path``.
        **options: Keyword arguments of the store's constructor.

    Raises:
        InvalidInput: The URL has no known form, or there is no such option.
    """
    if not isinstance(url, str):
        raise InvalidInput(
            f"a store's URL must be a string, not {type(url).__name__}; use {_FORMS}"
        )
    parts = urlsplit(url)
    try:
        if parts.scheme == "memory" and not parts.netloc and not parts.path:
            return MemoryCheckpointStore(**options)
        if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
            return SqliteCheckpointStore(unquote(parts.path[1:]), **options)
    except TypeError as error:
        raise InvalidInput(f"{parts.scheme} stores: {error}") from error
    raise InvalidInput(f"no store has the URL {url!r}; use {_FORMS}")
