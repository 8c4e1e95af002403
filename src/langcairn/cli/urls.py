"""What a store's URL says before anything is opened."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from langcairn.errors import InvalidInput


def scheme_of(url: str) -> str:
    """Return the kind of store that a URL names, such as ``sqlite`` or ``redis``.

    Raises:
        InvalidInput: It can't be read.
    """
    try:
        return urlsplit(url).scheme.partition("+")[0]
    except ValueError as error:
        raise InvalidInput(f"{url!r} is no URL: {error}") from error


def path_of(url: str) -> Path | None:
    """Return the file or directory of a store; None if it is no such store."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return Path(unquote(parts.path)[1:])
    if parts.scheme == "file" and parts.path:
        return Path(unquote(parts.path))
    return None
