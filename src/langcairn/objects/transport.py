"""Where objects are: what every kind of object store has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping
    from typing import Any

    from langcairn.objects.requests import ObjectRequest


class Objects(ABC):
    """An object store, for any number of threads and tasks at once.

    Attributes:
        name: What to call it in messages.
        counts: How many requests were made, ``put``, ``get``, ``list`` and ``delete``, and how
            many bytes went ``in`` and ``out``.
    """

    name: str
    counts: Counter[str]

    @abstractmethod
    def execute(self, request: ObjectRequest) -> object:
        """Answer a request; the types of the answers stand at the requests.

        Raises:
            ObjectMissing: There is no such object.
            StoreUnavailable: The store can't be reached, is busy or fails; it may work later.
            StoreMisconfigured: There is no such bucket, or the credentials are wrong.
        """

    @abstractmethod
    async def aexecute(self, request: ObjectRequest) -> object:
        """Do as `execute`, without blocking the event loop."""

    @abstractmethod
    def close(self) -> None:
        """Release what was opened. Closing twice is fine."""


def open_objects(url: str, options: Mapping[str, Any]) -> Objects:
    """Return the object store at a URL. It isn't asked for anything yet.

    Raises:
        ImportError: obstore is not installed.
        InvalidInput: The URL or an option can't be used.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        from langcairn.objects.local import LocalObjects  # noqa: PLC0415 -- only one of them

        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or path[:1] != "/" or path == "/" or "\0" in path:
            raise InvalidInput(f"objects={url!r}: a folder is file:///and/its/absolute/path")
        if options:
            raise InvalidInput(f"a folder for objects has no option {min(options)!r}")
        return LocalObjects(path)
    from langcairn.objects.remote import RemoteObjects  # noqa: PLC0415 -- obstore is optional

    return RemoteObjects(url, options)
