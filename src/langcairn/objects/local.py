"""Objects as files in a folder."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn.errors import StoreError, StoreFull, StoreMisconfigured, StoreUnavailable
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
    from collections.abc import Callable, Iterator

    from langcairn.objects.requests import ObjectRequest, Ranges

# Of a file that isn't whole yet. Nothing ever refers to one.
UNFINISHED = ".part"
_ATTEMPTS = 10


class LocalObjects(Objects):
    """A folder, which is made on first use. An object that is there survives a loss of power."""

    def __init__(self, path: str) -> None:
        self._root = Path(path)
        self.name = f"the folder {path}"
        self.counts = Counter()
        self._answers: dict[type, Callable[[Any], object]] = {
            PutObject: self._put,
            GetObject: self._get,
            GetRanges: self._get_ranges,
            ListObjects: self._list,
            ListFolders: self._list_folders,
            DeleteObjects: self._delete,
        }

    @override
    def execute(self, request: ObjectRequest) -> object:
        with self._translated():
            return self._answers[type(request)](request)

    @override
    async def aexecute(self, request: ObjectRequest) -> object:
        return await asyncio.to_thread(self.execute, request)

    @override
    def close(self) -> None:
        """There is nothing to release."""

    def _put(self, put: PutObject) -> None:
        self.counts.update({"put": 1, "out": len(put.data)})
        target = self._root / put.path
        unfinished = target.with_name(target.name + UNFINISHED)
        for attempt in range(_ATTEMPTS):
            self._make(target.parent)
            try:
                with unfinished.open("xb") as file:
                    file.write(put.data)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.rename(target)
                _sync(target.parent)
                break
            except FileNotFoundError:  # a sweep took the folder away, which was empty
                if attempt == _ATTEMPTS - 1:
                    raise

    def _make(self, folder: Path) -> None:
        """Make a folder such that it is there after a loss of power, too."""
        if not folder.is_dir():
            self._make(folder.parent)
            with suppress(FileExistsError):
                folder.mkdir()
            _sync(folder.parent)

    def _get(self, get: GetObject) -> bytes:
        try:
            data = (self._root / get.path).read_bytes()
        except FileNotFoundError as error:
            raise self._missing(get.path) from error
        self.counts.update({"get": 1, "in": len(data)})
        return data

    def _get_ranges(self, get: GetRanges) -> list[list[bytes] | Exception]:
        return [self._ranges(*part) for part in get.parts]

    def _ranges(self, path: str, ranges: Ranges) -> list[bytes] | Exception:
        try:
            with self._translated():
                found = self._read(self._root / path, ranges)
        except (ObjectMissing, StoreError) as error:
            return error
        self.counts.update({"get": len(found), "in": sum(map(len, found))})
        return found

    def _read(self, path: Path, ranges: Ranges) -> list[bytes]:
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise self._missing(str(path.relative_to(self._root))) from error
        with file:
            # Memory for all that is asked for would be taken at once, even if it isn't there.
            size = os.fstat(file.fileno()).st_size
            return [
                os.pread(file.fileno(), max(min(end, size) - start, 0), start)
                for start, end in ranges
            ]

    def _missing(self, path: str) -> Exception:
        if not self._root.is_dir():
            # Perhaps it is a disk that isn't mounted.
            return StoreMisconfigured(f"{self.name}, where objects should be, isn't there")
        return ObjectMissing(path)

    def _list(self, listing: ListObjects) -> list[StoredObject]:
        self.counts["list"] += 1
        found: list[StoredObject] = []
        for path in self._children(listing.folder):
            with suppress(FileNotFoundError):  # deleted meanwhile
                status = path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                found.append(StoredObject(listing.folder + path.name, status.st_size, modified))
        return found

    def _list_folders(self, listing: ListFolders) -> list[str]:
        self.counts["list"] += 1
        return [f"{listing.folder}{path.name}/" for path in self._children(listing.folder)]

    def _children(self, folder: str) -> list[Path]:
        try:
            return sorted((self._root / folder).iterdir())
        except FileNotFoundError:
            return []

    def _delete(self, delete: DeleteObjects) -> None:
        for path in delete.paths:
            self.counts["delete"] += 1
            file = self._root / path
            file.unlink(missing_ok=True)
            with suppress(OSError):  # there are others in it
                file.parent.rmdir()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
            raise StoreMisconfigured(f"{self.name} can't be used for objects: {error}") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(f"{self.name} has no room left for objects") from error
            raise StoreUnavailable(f"{self.name} can't be used for objects: {error}") from error


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
