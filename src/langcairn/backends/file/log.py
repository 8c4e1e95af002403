"""One execution's log: reading what was appended, appending, and judging its end."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langcairn.backends.file.index import Index
from langcairn.backends.file.layout import (
    FRAME_HEADER_BYTES,
    FRAME_MARK,
    LONGEST_HEADER,
    TRAILER_BYTES,
    Damaged,
    PreparedEntry,
    blob_sizes,
    pack_frame,
    parse_checkpoint,
    parse_frame_header,
    parse_index,
    parse_log_header,
    parse_write,
    unseal,
)
from langcairn.backends.file.system import Descriptor
from langcairn.errors import CorruptData, StoreMisconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from langcairn.backends.base import CheckpointRow, WriteRow
    from langcairn.backends.file.index import Span, StoredCheckpoint, StoredChunk, StoredWrite
    from langcairn.backends.file.layout import Entry, Frame, LogHeader

_WINDOW = 1 << 16  # [bytes read at once]
_SECTOR = 512  # [bytes] what a disk writes whole or not at all, at least

# Overwriting zeros costs a third to a tenth of growing the file: then fdatasync has no new length
# to journal. So a log grows by half, in steps between these.
_SMALLEST_STEP = 8 << 10  # [bytes]
_LARGEST_STEP = 512 << 10  # [bytes]
_BLOCK = 4 << 10  # [bytes]

_WORTH_COMPACTING = 256 << 10  # [bytes]


def decision_of(path: Path, transaction: str) -> Path:
    """Return the file which, if it exists, says that a transaction on a log counts."""
    return path.parent.parent / "transactions" / transaction


class Log:
    """An open log with its index.

    Its users hold `lock` while they use the index, and check `usable` first.

    Attributes:
        path: Its name, which may belong to a later generation by now.
        file: The open file.
        header: What it begins with.
        index: What is where in the frames up to `end`.
        end: Where the next frame goes.
        damage: What makes everything behind `end` unreadable, if something does.
        prepared: The transaction that the last frame is part of, if it is of one.
        usable: False while the index is being changed, and if that was interrupted: then the file
            has to be opened again.
        is_synced: All frames survive a loss of power, as far as is known here.
        is_named: Its name does, likewise.
    """

    def __init__(self, path: Path, file: Descriptor, header: LogHeader) -> None:
        self.path = path
        self.file = file
        self.header = header
        self.inode = file.inode()
        self.index = Index()
        self.end = header.size
        self.damage: CorruptData | None = None
        self.prepared: str | None = None
        self.usable = True
        self.is_synced = False
        # Reentrant: a signal handler may read from the store while this very thread holds it.
        self.lock = threading.RLock()
        self.is_named = False
        self._scanned = False
        self._torn = b""  # what begins the unfinished frame at the end, once that was judged
        self._is_undecided = False  # whether a whole frame at the end awaits its transaction

    @classmethod
    def open(cls, path: Path) -> Log:
        """Open a log, without reading its frames yet.

        Raises:
            FileNotFoundError: There is none.
            CorruptData: It isn't a log.
            StoreMisconfigured: It has a later version.
        """
        file = Descriptor.of(path)
        try:
            header = parse_log_header(file.read(0, LONGEST_HEADER))
        except Damaged as error:
            raise CorruptData(f"{path}, offset 0: {error}") from error
        except StoreMisconfigured as error:
            raise StoreMisconfigured(f"{path}: {error}") from error
        return cls(path, file, header)

    # Reading

    def catch_up(self) -> bool:
        """Take in what was appended since the last time.

        Returns:
            True if nothing stands behind the frames that were taken in. What does may be a frame
            that is being written at this moment; see `judge`.

        Raises:
            CorruptData: A whole frame has content that nobody writes.
        """
        if self._scanned and _is_zero(self._beginning()):
            return True
        self.usable = False
        self._take_frames()
        self.usable = True
        if self._scanned:
            beginning = self._beginning()
            return _is_zero(beginning) or beginning == self._torn
        # A loss of power may leave any sectors of an unfinished frame, without its beginning.
        self._scanned = all(_is_zero(block) for _, block in self._rest())
        return self._scanned

    def _beginning(self) -> bytes:
        """Return what stands where the next frame goes: zeros or nothing, if there is none."""
        return self.file.read(self.end, FRAME_HEADER_BYTES)

    def _take_frames(self) -> None:
        self._is_undecided = False
        window = _Window(self.file)
        last: tuple[Frame, Sequence[Entry]] | None = None
        offset = self.end
        while (found := self._frame_at(window, offset)) is not None:
            if last is not None:
                self._take(*last)
            last = found
            offset = found[0].end
        # A frame is begun only when the one before it is whole, so that only the last can be
        # torn. The content of the others isn't read here; what reads it compares its check.
        if last is not None and self._is_whole(window, *last):
            self._is_undecided = not self._is_decided(last[1])
            if not self._is_undecided:
                self._take(*last)

    def _is_decided(self, entries: Sequence[Entry]) -> bool:
        """Tell whether the last frame counts, which may be part of a transaction."""
        if not entries or not isinstance(entries[0], PreparedEntry):
            return True
        return decision_of(self.path, entries[0].transaction).exists()

    def is_empty(self) -> bool:
        """Tell whether nothing was ever stored, without reading all frames.

        So it is with what is left of a transaction that began the log and wasn't decided.
        """
        start = self.header.size
        if _is_zero(self.file.read(start, FRAME_HEADER_BYTES)):
            return True
        window = _Window(self.file)
        try:
            first = self._frame_at(window, start)
            return (
                first is not None
                and not self._is_decided(first[1])
                and self._frame_at(window, first[0].end) is None
            )
        except CorruptData:
            return False

    def _frame_at(self, window: _Window, start: int) -> tuple[Frame, Sequence[Entry]] | None:
        header = window.read(start, FRAME_HEADER_BYTES)
        frame = parse_frame_header(self.header.log_id, start, header)
        if frame is None:
            return None
        index = window.read(frame.index_at, frame.index_size + TRAILER_BYTES)
        try:
            entries = parse_index(self.header.log_id, frame, index)
        except Damaged as error:
            raise self._corrupt(start, str(error)) from error
        return None if entries is None else (frame, entries)

    def _is_whole(self, window: _Window, frame: Frame, entries: Sequence[Entry]) -> bool:
        offset = frame.data_at
        try:
            for entry in entries:
                for size in blob_sizes(entry):
                    unseal(window.read(offset, size))
                    offset += size
        except Damaged:
            return False
        return True

    def _take(self, frame: Frame, entries: Sequence[Entry]) -> None:
        try:
            self.index.apply(entries, frame.data_at)
        except Damaged as error:
            raise self._corrupt(frame.start, str(error)) from error
        self.end = frame.end
        self.is_synced = False
        self._torn = b""
        first = entries[0] if entries else None
        self.prepared = first.transaction if isinstance(first, PreparedEntry) else None

    # Contents. The lock isn't needed: what is written never changes.

    def chunk(self, stored: StoredChunk) -> bytes:
        """Return the data of a chunk.

        Raises:
            CorruptData: It isn't what was stored.
        """
        with self._located(stored.span):
            return self._content(stored.span)

    def checkpoint(self, stored: StoredCheckpoint) -> CheckpointRow:
        """Return a checkpoint.

        Raises:
            CorruptData: It isn't what was stored.
        """
        with self._located(stored.span):
            return parse_checkpoint(
                self.header.execution_id,
                stored.namespace,
                stored.id,
                stored.timestamp,
                self._content(stored.span),
            )

    def write(self, stored: StoredWrite) -> WriteRow:
        """Return a pending write.

        Raises:
            CorruptData: It isn't what was stored.
        """
        with self._located(stored.span):
            content = self._content(stored.span)
            return parse_write(self.header.execution_id, stored.key, content)

    def _content(self, span: Span) -> bytes:
        return unseal(self.file.read(*span))

    @contextmanager
    def _located(self, span: Span) -> Iterator[None]:
        """Say where the damage is."""
        try:
            yield
        except Damaged as error:
            raise self._corrupt(span.offset, str(error)) from error

    def _corrupt(self, offset: int, what: str) -> CorruptData:
        return CorruptData(
            f"{self.path}, offset {offset}: {what} (execution {self.header.execution_id!r})"
        )

    # The end

    def judge(self) -> None:
        """Find out what stands behind the last whole frame, while nobody can be writing.

        An unfinished frame is what a crash left: nothing that was acknowledged. Anything else is
        damage, which `damage` then tells.
        """
        if self.catch_up():
            return
        self._scanned = True
        beginning = self._beginning()
        frame = parse_frame_header(self.header.log_id, self.end, beginning)
        extent = FRAME_HEADER_BYTES if frame is None else frame.end - frame.start
        if self._has_frame_behind(self.end + (1 if frame is None else extent)):
            self.damage = self._corrupt(self.end, "damage, and commits that follow it")
        elif not (_is_zero(beginning) or self._is_undecided or self._is_torn(extent)):
            self.damage = self._corrupt(self.end, "damage in the last commit")
        else:
            self._torn = beginning

    def _is_torn(self, extent: int) -> bool:
        """Tell whether a part of the last frame was never written, be it its end or a sector."""
        end = self.end + extent
        if self.file.read(end - 1, 1) in (b"", b"\0"):
            return True
        sectors = range(self.end // _SECTOR, -(-end // _SECTOR))
        bounds = ((max(self.end, i * _SECTOR), min(end, (i + 1) * _SECTOR)) for i in sectors)
        return any(_is_zero(self.file.read(start, stop - start)) for start, stop in bounds)

    def _has_frame_behind(self, start: int) -> bool:
        for offset, block in self._rest(start, overlap=FRAME_HEADER_BYTES - 1):
            at = block.find(FRAME_MARK)
            while at >= 0:
                header = block[at : at + FRAME_HEADER_BYTES]
                if parse_frame_header(self.header.log_id, offset + at, header) is not None:
                    return True
                at = block.find(FRAME_MARK, at + 1)
        return False

    def _rest(self, start: int | None = None, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield what stands behind the last frame, a block at a time, with its offset."""
        offset = self.end if start is None else start
        while block := self.file.read(offset, _WINDOW + overlap):
            yield offset, block
            offset += _WINDOW

    def cut(self) -> None:
        """Remove the unfinished frame at the end, if there is one.

        The writer's lock must be held: what another one is writing would look the same.
        """
        if self._torn:
            self.cut_at(self.end)

    def cut_at(self, end: int) -> None:
        """Remove what stands behind a place. The writer's lock must be held."""
        os.ftruncate(self.file.fd, end)
        self._torn = b""

    # Writing

    @property
    def data_at(self) -> int:
        """Where the blobs of the next frame begin."""
        return self.end + FRAME_HEADER_BYTES

    def append(self, entries: Sequence[Entry], blobs: Sequence[bytes]) -> None:
        """Write a frame, whose entries the index has taken in already.

        Raises:
            OSError: It wasn't written. The index is of no more use.
        """
        frame = pack_frame(self.header.log_id, self.end, entries, blobs)
        self.usable = self.is_synced = False
        try:
            self._write(frame)
        except OSError:
            os.ftruncate(self.file.fd, self.end)  # it may have left its beginning
            raise
        self.end += len(frame)
        self.usable = True

    def _write(self, frame: bytes) -> None:
        end = self.end + len(frame)
        if end <= self.file.size():
            self.file.write(self.end, frame)
            return
        step = min(max(end // 2, _SMALLEST_STEP), _LARGEST_STEP)
        room = -(-(end + step) // _BLOCK) * _BLOCK - end
        try:
            self.file.write(self.end, frame + bytes(room))
        except OSError:
            # The disk may have room for the frame alone. The zeros are of no importance.
            self.file.write(self.end, frame)

    def sync(self) -> None:
        """Make what was written survive a loss of power."""
        os.fdatasync(self.file.fd)
        self.is_synced = True

    def is_wasteful(self) -> bool:
        """Tell whether it is large, and most of it is dead."""
        return self.end > _WORTH_COMPACTING and self.index.live < self.end // 2


class _Window:
    """Reads a file in large pieces for one who goes through it forwards in small steps."""

    def __init__(self, file: Descriptor) -> None:
        self._file = file
        self._start = 0
        self._data = b""

    def read(self, offset: int, size: int) -> bytes:
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            self._start, at = offset, 0
            self._data = self._file.read(offset, max(size, _WINDOW))
        return self._data[at : at + size]


def _is_zero(data: bytes) -> bool:
    return data == bytes(len(data))
