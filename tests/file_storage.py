"""A place for the contract's tests on the file backend, and what its other tests share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import ChunkId
from langcairn.backends.file import FileBackend
from langcairn.backends.file.directory import Directory
from langcairn.backends.file.layout import (
    CommitEntry,
    SweepEntry,
    microseconds,
    pack_checkpoint,
    seal,
)
from langcairn.backends.file.logs import Logs
from langcairn.store import CheckpointStore
from langcairn.testing import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from langcairn.backends.file.layout import Entry
    from langcairn.backends.file.log import Log


class FileStorage(Storage):
    """A directory of logs. It need not survive a loss of power, so that tests are fast."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.url = f"file://{path}"
        self._directory = Directory(path, fsync=False)
        self._logs = Logs(self._directory, fsync=False, busy_timeout=10)

    def _open(self, **options: Any) -> CheckpointStore:
        names = ("fsync", "busy_timeout", "max_threads")
        chosen = {name: options.pop(name) for name in names if name in options}
        return CheckpointStore(FileBackend(self._path, **{"fsync": False, **chosen}), **options)

    def chunks(self, execution_id: str) -> dict[str, bytes]:
        with self._logs.reading(self._directory.path_of(execution_id)) as log:
            if log is None:
                return {}
            return {id: log.chunk(stored) for id, stored in log.index.chunks.items()}

    def replace_chunk(self, execution_id: str, id: str, data: bytes) -> None:
        with self._log(execution_id) as log:
            stored = log.index.chunks.get(ChunkId(id))
            entry = CommitEntry.of(0 if stored is None else stored.epoch)
            entry.chunks.append((id, len(seal(data))))
            _append(log, [SweepEntry([id]), entry], [seal(data)])

    def drop_chunk(self, execution_id: str, id: str) -> None:
        with self._log(execution_id) as log:
            _append(log, [SweepEntry([id])], [])

    def replace_column(
        self, execution_id: str, namespace: str, id: str, column: str, data: bytes
    ) -> None:
        with self._log(execution_id) as log:
            stored = next(
                c for c in log.index.checkpoints() if (c.namespace, c.id) == (namespace, id)
            )
            changes: dict[str, Any] = {column: data}
            row = log.checkpoint(stored)._replace(**changes)
            blob = seal(pack_checkpoint(row))
            entry = CommitEntry.of(log.index.epoch)
            entry.checkpoints.append((namespace, id, microseconds(row.timestamp), len(blob)))
            _append(log, [entry], [blob])

    @contextmanager
    def _log(self, execution_id: str) -> Iterator[Log]:
        with self._logs.for_writing(self._directory.path_of(execution_id)) as log:
            assert log is not None
            yield log


def _append(log: Log, entries: Sequence[Entry], blobs: Sequence[bytes]) -> None:
    log.index.apply(entries, log.data_at)
    log.append(entries, blobs)
