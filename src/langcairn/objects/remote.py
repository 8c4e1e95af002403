"""Objects in S3, GCS, Azure and what speaks like them, by obstore."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn.errors import InvalidInput, StoreError, StoreMisconfigured, StoreUnavailable
from langcairn.objects.requests import (
    DeleteObjects,
    GetObject,
    GetRanges,
    ListFolders,
    ListObjects,
    ObjectMissing,
    PutObject,
    StoredObject,
)
from langcairn.objects.transport import Objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langcairn.objects.requests import ObjectRequest, Ranges

_SCHEMES = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "https")
# obstore's own bounds allow a wait of several minutes.
_CLIENT = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=30)}
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2)}
_AT_ONCE = 8  # [objects read at the same time, each with up to 10 ranges]
_STATUS = re.compile(r"status code: (\d{3})")
_BUSY = (408, 425, 429)  # which are the client's fault in HTTP's numbers only
_NO_RANGE = 416
# Who has no credentials asks the machine for them, by these addresses.
_METADATA = re.compile(r"/latest/(api/token|meta-data)|computeMetadata|metadata/identity")
_QUERY = re.compile(r"\?\S+")  # of an address, which may hold a signature

# What obstore starts in the background doesn't come along into a forked process: it would hang.
_used_in: set[int] = set()


class RemoteObjects(Objects):
    """A bucket, or a prefix in one."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        try:
            import obstore  # noqa: PLC0415 -- optional
            import obstore.exceptions  # noqa: PLC0415
            from obstore.store import HTTPStore, from_url  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                "object storage needs obstore: pip install 'langcairn[objects]'"
            ) from error
        scheme = url.partition(":")[0]
        if scheme not in _SCHEMES:
            raise InvalidInput(
                f"objects can't be kept at a {scheme}: URL; use s3://bucket/prefix, gs://…, "
                "az://…, or file:///directory"
            )
        self.name = url.partition("?")[0]
        self.counts = Counter()
        self._obstore: Any = obstore
        self._errors = obstore.exceptions
        try:
            self._store: Any = from_url(url, **_bounded(options))
        except (self._errors.BaseError, ValueError, TypeError) as error:
            raise InvalidInput(
                f"objects={self.name!r} can't be used: {_first_line(error)}"
            ) from error
        if isinstance(self._store, HTTPStore):
            raise InvalidInput(f"objects={self.name!r} is the address of no known object storage")
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    # Answers. What differs between the sides is only who waits.

    @override
    def execute(self, request: ObjectRequest) -> object:
        self._refuse_after_fork()
        store, functions = self._store, self._obstore
        try:
            match request:
                case PutObject(path, data):
                    functions.put(store, path, data, use_multipart=False)
                    self._was_put(data)
                case GetObject(path):
                    return self._got(bytes(functions.get(store, path).bytes()))
                case GetRanges():
                    return self._ranges(request)
                case ListObjects(folder):
                    return self._listed(functions.list(store, folder).collect())
                case ListFolders(folder):
                    return self._folders(functions.list_with_delimiter(store, folder))
                case DeleteObjects(paths):
                    functions.delete(store, self._to_delete(paths))
        except FileNotFoundError as error:
            if not isinstance(request, GetObject):
                raise self._no_bucket() from error
            self._look_for_bucket()
            raise ObjectMissing(request.path) from error
        except (self._errors.BaseError, OSError, ValueError) as error:
            raise self._translated(error, request) from error
        return None

    @override
    async def aexecute(self, request: ObjectRequest) -> object:
        self._refuse_after_fork()
        store, functions = self._store, self._obstore
        try:
            match request:
                case PutObject(path, data):
                    await functions.put_async(store, path, data, use_multipart=False)
                    self._was_put(data)
                case GetObject(path):
                    result = await functions.get_async(store, path)
                    return self._got(bytes(await result.bytes_async()))
                case GetRanges():
                    return await self._aranges(request)
                case ListObjects(folder):
                    return self._listed(await functions.list(store, folder).collect_async())
                case ListFolders(folder):
                    return self._folders(await functions.list_with_delimiter_async(store, folder))
                case DeleteObjects(paths):
                    await functions.delete_async(store, self._to_delete(paths))
        except FileNotFoundError as error:
            if not isinstance(request, GetObject):
                raise self._no_bucket() from error
            await self._alook_for_bucket()
            raise ObjectMissing(request.path) from error
        except (self._errors.BaseError, OSError, ValueError) as error:
            raise self._translated(error, request) from error
        return None

    @override
    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    # Ranges

    def _ranges(self, request: GetRanges) -> list[list[bytes] | Exception]:
        if len(request.parts) == 1:
            return [self._one(*request.parts[0])]
        with self._lock:
            pool = self._pool = self._pool or ThreadPoolExecutor(
                _AT_ONCE, thread_name_prefix="langcairn-objects"
            )
            futures = [pool.submit(self._one, *part) for part in request.parts]
        return [future.result() for future in futures]

    def _one(self, path: str, ranges: Ranges) -> list[bytes] | Exception:
        try:
            try:
                found = self._obstore.get_ranges(self._store, path, **_columns(ranges))
            except FileNotFoundError:
                self._look_for_bucket()
                return ObjectMissing(path)
            return self._got_ranges(found)
        except (self._errors.BaseError, OSError, ValueError, StoreError) as error:
            return self._range_error(error, path, ranges)

    async def _aranges(self, request: GetRanges) -> list[list[bytes] | Exception]:
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(path: str, ranges: Ranges) -> list[bytes] | Exception:
            async with free:
                return await self._aone(path, ranges)

        return await asyncio.gather(*(one(path, list(ranges)) for path, ranges in request.parts))

    async def _aone(self, path: str, ranges: Ranges) -> list[bytes] | Exception:
        try:
            try:
                found = await self._obstore.get_ranges_async(self._store, path, **_columns(ranges))
            except FileNotFoundError:
                await self._alook_for_bucket()
                return ObjectMissing(path)
            return self._got_ranges(found)
        except (self._errors.BaseError, OSError, ValueError, StoreError) as error:
            return self._range_error(error, path, ranges)

    def _range_error(self, error: Exception, path: str, ranges: Ranges) -> list[bytes] | Exception:
        if isinstance(error, StoreError):
            return error
        if _status(error) == _NO_RANGE:
            return [b""] * len(ranges)  # behind the end of the object
        return self._translated(error, GetObject(path))

    def _got_ranges(self, found: list[Any]) -> list[bytes]:
        self.counts["get"] += len(found)
        self.counts["in"] += sum(map(len, found))
        return [bytes(data) for data in found]

    # Counting, and the forms of answers

    def _was_put(self, data: bytes) -> None:
        self.counts["put"] += 1
        self.counts["out"] += len(data)

    def _got(self, data: bytes) -> bytes:
        self.counts["get"] += 1
        self.counts["in"] += len(data)
        return data

    def _listed(self, found: list[dict[str, Any]]) -> list[StoredObject]:
        self.counts["list"] += 1
        return [StoredObject(one["path"], one["size"], one["last_modified"]) for one in found]

    def _folders(self, found: dict[str, list[str]]) -> list[str]:
        self.counts["list"] += 1
        return [f"{name.rstrip('/')}/" for name in found["common_prefixes"]]

    def _to_delete(self, paths: Sequence[str]) -> list[str]:
        self.counts["delete"] += len(paths)
        return list(paths)

    # Errors

    def _look_for_bucket(self) -> None:
        """Tell a bucket that isn't there from an object that isn't in it."""
        self._obstore.list_with_delimiter(self._store, "none")

    async def _alook_for_bucket(self) -> None:
        await self._obstore.list_with_delimiter_async(self._store, "none")

    def _no_bucket(self) -> StoreMisconfigured:
        return StoreMisconfigured(f"there is no {self.name} to keep objects in: make the bucket")

    def _translated(self, error: Exception, request: ObjectRequest) -> StoreError:
        status, reason = _status(error), _first_line(error)
        if status == 404:
            return self._no_bucket()
        if _METADATA.search(reason):
            return StoreMisconfigured(
                f"no credentials for {self.name} are in the options or the environment, and the "
                f"machine gives none: {reason}"
            )
        wrong = isinstance(
            error, (self._errors.PermissionDeniedError, self._errors.UnauthenticatedError)
        )
        if wrong or status in (401, 403):
            return StoreMisconfigured(
                f"{self.name} refuses access; check the credentials and their rights: {reason}"
            )
        if (status is not None and status < 500 and status not in _BUSY) or (
            "builder error" in reason
        ):
            return StoreMisconfigured(f"{self.name} can't be used for objects: {reason}")
        what = f"object {request.path} of " if isinstance(request, GetObject | PutObject) else ""
        return StoreUnavailable(f"{what}{self.name} can't be reached at the moment: {reason}")

    def _refuse_after_fork(self) -> None:
        if os.getpid() not in _used_in:
            if _used_in:
                raise StoreMisconfigured(
                    "this process was forked from one that had used object storage already, which "
                    "can't go on here: fork before the first use, or start processes by 'spawn'"
                )
            _used_in.add(os.getpid())


def _bounded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return obstore's options such that no request waits for long."""
    retries = {"backoff": _BACKOFF, **_RETRIES, **options.get("retry_config", {})}
    client = {**_CLIENT, **options.get("client_options", {})}
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "on", "yes"):
        client.setdefault("allow_http", True)  # with options for the client, obstore overlooks it
    return {**options, "client_options": client, "retry_config": retries}


def _columns(ranges: Ranges) -> dict[str, Any]:
    """Return ranges as obstore takes them; they are merged already."""
    return {
        "starts": [start for start, _ in ranges],
        "ends": [end for _, end in ranges],
        "coalesce": 0,
    }


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error of obstore's is about."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _first_line(error: Exception) -> str:
    return _QUERY.sub("?…", str(error).partition("\n")[0].partition(": <?xml")[0])
