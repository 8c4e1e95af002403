"""Backup files: writing one so that it is there whole or not at all, and reading damaged ones."""

from __future__ import annotations

import errno
import os
import secrets
from bisect import bisect_right
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from langcairn.errors import (
    CairnError,
    CorruptData,
    DecryptionFailed,
    ForgedData,
    StoreError,
    StoreFull,
    StoreMisconfigured,
)
from langcairn.transfer.backup_format import (
    CHECK_BYTES,
    FRAME_HEADER_BYTES,
    ID_BYTES,
    MARK,
    PREFIX_BYTES,
    TRAILER_BYTES,
    Close,
    Ending,
    Entry,
    Frame,
    Header,
    Kind,
    pack_frame,
    pack_prefix,
    pack_trailer,
    parse_frame_header,
    parse_payload,
    parse_prefix,
    parse_row,
    parse_trailer,
    parse_write,
)
from langcairn.transfer.protection import PLAIN, Keychain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.backends.base import CheckpointRow, WriteRow
    from langcairn.transfer.protection import Protection

_NO_KEYS = Keychain()
_PAGE = 1000  # [entries in a page of the index]
_WINDOW = 1 << 20  # [bytes searched at a time for the next whole frame]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise errors of the system as langcairn's."""
    try:
        yield
    except CairnError:
        raise
    except OSError as error:
        reason = f"{path}: {error.strerror or error}"
        if error.errno in _FULL:
            raise StoreFull(
                f"{reason}. The backup was not completed; what was at this path is as before"
            ) from error
        if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
            raise StoreMisconfigured(reason) from error
        raise StoreError(reason) from error


class BackupWriter:
    """Writes a backup beside its place, and moves it there when it is complete and synced."""

    def __init__(self, path: Path, header: Header, keychain: Keychain = _NO_KEYS) -> None:
        self.path = path
        self.id = secrets.token_bytes(ID_BYTES)
        self._unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
        self._at = 0
        self._entries: list[Entry] = []
        self._pages: list[tuple[int, str]] = []
        self._executions = self._checkpoints = self._writes = 0
        self._header = header
        self._protection = keychain.protection(header, self.id, str(path))
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        """Make the file, beside its place.

        Raises:
            StoreMisconfigured: It can't be made there.
            StoreFull: There is no room for it.
        """
        with translated(self.path):
            if self.path.is_dir():
                raise StoreMisconfigured(f"{self.path} is a directory; name a file")
            self._file = self._unfinished.open("xb")
        self._write(pack_prefix(self.id))
        self._write(pack_frame(self.id, self._at, Kind.HEADER, tuple(self._header)))

    @property
    def size(self) -> int:
        """The bytes written so far."""
        return self._at

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("the backup was not begun")
        return self._file

    def _write(self, data: bytes) -> None:
        with translated(self.path):
            self._opened.write(data)
        self._at += len(data)

    def add(self, kind: Kind, content: object) -> int:
        """Write a frame. Returns where it begins.

        Raises:
            StoreFull: There is no room left.
        """
        start = self._at
        self._write(pack_frame(self.id, start, kind, content, self._protection))
        return start

    def enter(self, entry: Entry) -> None:
        """Put an execution into the index; they must come in ascending order."""
        self._entries.append(entry)
        self._executions += entry.digest != b""
        self._checkpoints += entry.checkpoints
        self._writes += entry.writes
        if len(self._entries) == _PAGE:
            self._end_page()

    def _end_page(self) -> None:
        if self._entries:
            first = self._entries[0].execution_id
            self._pages.append((self.add(Kind.INDEX, list(map(tuple, self._entries))), first))
            self._entries = []

    def finish(self) -> None:
        """Complete the backup and put it into its place.

        Raises:
            StoreFull: There is no room left; what was at this place is as before.
        """
        self._end_page()
        counts = self._executions, self._checkpoints, self._writes
        close_at = self.add(Kind.CLOSE, tuple(Close(self._pages, *counts)))
        self._write(pack_trailer(self.id, self._at, close_at))
        with translated(self.path):
            self._opened.flush()
            os.fsync(self._opened.fileno())
            self._opened.close()
            self._unfinished.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def abandon(self) -> None:
        """Remove what was written. What is at the backup's place stays as it is."""
        with suppress(OSError):  # to close is to write the rest, for which there may be no room
            if self._file is not None:
                self._file.close()
        self._unfinished.unlink(missing_ok=True)


class Content(NamedTuple):
    """What a backup has of one execution, but for its chunks."""

    rows: list[CheckpointRow]
    writes: list[WriteRow]
    ending: Ending | None
    damage: list[str]


class BackupFile:
    """A backup that is read.

    Args:
        path: The file.
        keychain: The keys for what is encrypted or signed.

    Raises:
        StoreMisconfigured: There is no such file, or a later version wrote it.
        InvalidInput: It is no backup.
        CorruptData: Its beginning is damaged.
        DecryptionFailed: It is encrypted, with a key that isn't given, or was forged.
        ForgedData: It is signed, with a key that isn't given, or was forged.
    """

    def __init__(self, path: Path, keychain: Keychain = _NO_KEYS) -> None:
        self.path = path
        with translated(path):
            self._file: BinaryIO = path.open("rb")
        try:
            self.id = parse_prefix(self._read(0, PREFIX_BYTES), str(path))
            self._size = self._file.seek(0, os.SEEK_END)
            self._protection: Protection = PLAIN  # as of the header itself
            self.header = self._header()
            self._protection = keychain.protection(self.header, self.id, str(path))
            self.close_frame, self.damage = self._find_close()
        except BaseException:
            self._file.close()
            raise
        self._page: tuple[int, list[Entry]] = (-1, [])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _header(self) -> Header:
        frame = self._frame_at(PREFIX_BYTES)
        header = None if frame is None else self.payload(frame)
        if frame is None or frame.kind != Kind.HEADER or header is None:
            raise CorruptData(f"{self.path} is damaged: it can't be known what it builds on")
        return Header(*header)

    # Frames

    def _read(self, offset: int, size: int) -> bytes:
        with translated(self.path):
            self._file.seek(offset)
            return self._file.read(size)

    def _frame_at(self, start: int) -> Frame | None:
        return parse_frame_header(self.id, start, self._read(start, FRAME_HEADER_BYTES))

    def payload(self, frame: Frame) -> Any | None:
        """Return what a frame holds; None if it is damaged or forged."""
        try:
            return self._authentic(frame)
        except (DecryptionFailed, ForgedData):
            return None

    def _authentic(self, frame: Frame) -> Any | None:
        data = self._read(frame.payload_at, frame.size + CHECK_BYTES)
        return parse_payload(self.id, frame, data, self._protection)

    def frames(self, start: int) -> Iterator[Frame | None]:
        """Yield the frames from a place on; None where something between them is damaged."""
        while start < self._size - TRAILER_BYTES:
            frame = self._frame_at(start)
            if frame is None:
                yield None
                frame = self._next_frame(start + 1)
                if frame is None:
                    return
            yield frame
            start = frame.end

    def _next_frame(self, start: int) -> Frame | None:
        """Return the next whole header of a frame behind a place."""
        while start < self._size:
            window = self._read(start, _WINDOW + FRAME_HEADER_BYTES)
            at = window.find(MARK)
            while 0 <= at < _WINDOW:
                frame = parse_frame_header(
                    self.id, start + at, window[at : at + FRAME_HEADER_BYTES]
                )
                if frame is not None:
                    return frame
                at = window.find(MARK, at + 1)
            start += _WINDOW
        return None

    def _find_close(self) -> tuple[Close | None, list[str]]:
        """Return the last frame, and what is wrong with the way to it; None if it is cut off."""
        start = self._size - TRAILER_BYTES
        close_at = parse_trailer(self.id, start, self._read(start, TRAILER_BYTES))
        if close_at is not None:
            frame = self._frame_at(close_at)
            content = None if frame is None else self._authentic(frame)
            if content is None:
                return Close([], 0, 0, 0), ["its last frame is damaged"]
            return _close(content), []
        for frame in self.frames(PREFIX_BYTES):
            if frame is not None and frame.kind == Kind.CLOSE:
                content = self.payload(frame)
                if content is not None:
                    return _close(content), ["its end is damaged"]
                # There was an end, but it can't be read: the file is complete.
                return Close([], 0, 0, 0), ["its last frame is damaged"]
        return None, []

    # Executions

    def entries(self) -> Iterator[Entry]:
        """Yield the executions in ascending order; notes in `damage` what is unreadable."""
        pages = self.close_frame.pages if self.close_frame is not None else []
        if not pages:
            yield from sorted(self._scanned())
            return
        for number, (_, first) in enumerate(pages):
            entries = self._entries_of(number)
            if entries is None:
                self.damage.append(f"the page of its index that begins with {first!r} is damaged")
                end = pages[number + 1][1] if number + 1 < len(pages) else None
                yield from sorted(
                    entry
                    for entry in self._scanned()
                    if entry.execution_id >= first and (end is None or entry.execution_id < end)
                )
            else:
                yield from entries

    def _entries_of(self, number: int) -> list[Entry] | None:
        if self._page[0] != number:
            frame = self._frame_at(self.close_frame.pages[number][0]) if self.close_frame else None
            content = None if frame is None else self.payload(frame)
            if content is None:
                return None
            self._page = (number, [Entry(*fields) for fields in content])
        return self._page[1]

    def _scanned(self) -> list[Entry]:
        """Find executions without the index, by their first and last frames."""
        found: dict[str, Entry] = {}
        begun: tuple[str, int] | None = None
        for frame in self.frames(PREFIX_BYTES):
            if frame is None or frame.kind not in (Kind.BEGIN, Kind.END):
                continue
            content = self.payload(frame)
            if frame.kind == Kind.BEGIN:
                begun = None if content is None else (content, frame.start)
            elif begun is not None and content is not None:
                ending = Ending(*content)
                found[begun[0]] = Entry(
                    begun[0], ending.part, begun[1],
                    ending.digest, ending.checkpoints, ending.writes,
                )  # fmt: skip
        return list(found.values())

    def find(self, execution_id: str) -> Entry | None:
        """Return the entry of an execution; None if there is none."""
        pages = self.close_frame.pages if self.close_frame is not None else []
        number = bisect_right([first for _, first in pages], execution_id) - 1
        entries = self._entries_of(number) if number >= 0 else []
        if entries is None or not pages:
            entries = self._scanned()
        return next((entry for entry in entries if entry.execution_id == execution_id), None)

    def content(self, entry: Entry) -> Content:
        """Return the rows of an execution that is here."""
        content = Content([], [], None, [])
        for frame in self._frames_of(entry):
            if frame is None:
                content.damage.append("frames between its first and last are damaged")
                continue
            if frame.kind == Kind.CHUNKS:
                continue
            payload = self.payload(frame)
            try:
                if payload is None:
                    raise CorruptData(f"the frame at {frame.start} is damaged")  # noqa: TRY301 -- noted below like others
                if frame.kind == Kind.ROWS:
                    content.rows.extend(parse_row(entry.execution_id, one) for one in payload)
                elif frame.kind == Kind.WRITES:
                    content.writes.extend(parse_write(entry.execution_id, one) for one in payload)
                elif frame.kind == Kind.END:
                    content = content._replace(ending=Ending(*payload))
            except CorruptData as error:
                content.damage.append(str(error))
        return content

    def chunks(self, entry: Entry) -> Iterator[list[tuple[str, bytes]]]:
        """Yield the chunks of an execution that are here, some at a time; skips damaged ones."""
        for frame in self._frames_of(entry):
            if frame is not None and frame.kind == Kind.CHUNKS:
                yield self.payload(frame) or []

    def _frames_of(self, entry: Entry) -> Iterator[Frame | None]:
        """Yield the frames of an execution, from its first to its last."""
        for number, frame in enumerate(self.frames(entry.offset)):
            if number and frame is not None and frame.kind in (Kind.BEGIN, Kind.INDEX, Kind.CLOSE):
                return
            yield frame
            if frame is not None and frame.kind == Kind.END:
                return


def _close(content: Any) -> Close:
    pages, *counts = content
    return Close([(offset, first) for offset, first in pages], *counts)
