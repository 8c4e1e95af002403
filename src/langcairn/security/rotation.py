"""Encrypting what is stored anew, after the keys were changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from langcairn.backends.base import (
    ChunkId,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Position,
    Rewrite,
    WriteRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from langcairn.backends.base import Request
    from langcairn.security.encrypted import EncryptedBackend

_EXECUTIONS = 100  # [executions asked for at a time]
_ROWS = 100
_CHUNKS = 200
_EVERY_EPOCH = 2**63 - 1


class Rotation(NamedTuple):
    """How far a change of keys has come."""

    execution_id: str
    """The execution that was just done."""
    executions: int
    """How many were done so far."""
    rewritten: int
    """How many rows, pending writes and chunks had another key than the present one."""


def rotate(
    backend: EncryptedBackend, progress: Callable[[Rotation], None] | None
) -> Generator[Request, Any, int]:
    """Encrypt with the first key all that was encrypted with another one.

    The requests are for the backend behind the encrypted one. What is rewritten already is passed
    over, so after an interruption it may simply be run again. Readers and writers go on meanwhile.

    Args:
        backend: What encrypts.
        progress: Called after each execution.

    Returns:
        How many rows, pending writes and chunks were rewritten.

    Raises:
        DecryptionFailed: Something can't be decrypted; what came before it is rewritten.
    """
    done = rewritten = 0
    after = ""
    while True:
        executions: list[str] = yield FindExecutions(after, limit=_EXECUTIONS)
        for execution_id in executions:
            rewritten += yield from _rotate_rows(backend, execution_id)
            rewritten += yield from _rotate_writes(backend, execution_id)
            rewritten += yield from _rotate_chunks(backend, execution_id)
            done += 1
            if progress is not None:
                progress(Rotation(execution_id, done, rewritten))
        if len(executions) < _EXECUTIONS:
            return rewritten
        after = executions[-1]


def _rotate_rows(backend: EncryptedBackend, execution_id: str) -> Generator[Request, Any, int]:
    query = FindCheckpoints(execution_id, limit=_ROWS, with_writes=False)
    rewritten = 0
    while True:
        found: list[FoundCheckpoint] = yield query
        rows = [one.row for one in found]
        changes = [
            (row, backend.seal_row(backend.open_row(row)))
            for row in rows
            if backend.is_outdated(row.state)
        ]
        if changes:
            yield Rewrite(execution_id, checkpoints=changes)
            rewritten += len(changes)
        if len(found) < _ROWS:
            return rewritten
        last = rows[-1]
        query = query._replace(after=Position(last.id, last.execution_id, last.namespace))


def _rotate_writes(backend: EncryptedBackend, execution_id: str) -> Generator[Request, Any, int]:
    writes: list[WriteRow] = yield FindWrites(execution_id)
    old = [write for write in writes if backend.is_outdated(write.value)]
    for start in range(0, len(old), _ROWS):
        part = old[start : start + _ROWS]
        changes = [(write, backend.seal_write(backend.open_write(write))) for write in part]
        yield Rewrite(execution_id, writes=changes)
    return len(old)


def _rotate_chunks(backend: EncryptedBackend, execution_id: str) -> Generator[Request, Any, int]:
    ids: list[ChunkId] = yield FindOldChunks(execution_id, _EVERY_EPOCH)
    rewritten = 0
    for start in range(0, len(ids), _CHUNKS):
        chunks: dict[ChunkId, bytes] = yield FetchChunks(execution_id, ids[start : start + _CHUNKS])
        changes = [
            (id, backend.seal_chunk(execution_id, id, backend.open_chunk(execution_id, id, data)))
            for id, data in chunks.items()
            if backend.is_outdated(data)
        ]
        if changes:
            yield Rewrite(execution_id, changes)
            rewritten += len(changes)
    return rewritten
