"""Our saver on Valkey, and the floor below it: the same new bytes as plain SETs.

The floor sends, for each call, what our saver would store because of it, one SET for each chunk,
checkpoint and pending write, with redis-py, in one pipeline and round trip. What to send is found
before the clock runs.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import redis
from langgraph.checkpoint.base import BaseCheckpointSaver

from benchmarks.savers.base import Adapter, Session
from benchmarks.servers import url_of
from langcairn import CheckpointSaver, CheckpointStore, RedisCheckpointStore
from langcairn.backends.base import Commit
from langcairn.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from langchain_core.runnables import RunnableConfig

    from benchmarks.recording import Call
    from langcairn.backends.base import Request

NOTE = "prefix"

Payload = list[tuple[str, bytes]]
"""Names and what is stored under them because of one call."""


class _ValkeySession(Session):
    """A session on the keys whose prefix the directory's note has."""

    def __init__(self, directory: Path) -> None:
        note = directory / NOTE
        if not note.exists():
            note.write_text(f"bench-{uuid.uuid4().hex[:8]}:")
        self._prefix = note.read_text()
        self._client = _connect()

    def bytes_kept(self) -> int:
        """Sum what the server says each key takes, counting every member."""
        keys = _keys(self._client, self._prefix)
        return sum(self._client.memory_usage(key, samples=0) or 0 for key in keys)

    def close(self) -> int:
        kept = self.bytes_kept()
        self._client.close()
        return kept


class _ValkeyAdapter(Adapter):
    server = "valkey"

    def remove(self, directory: Path) -> None:
        note = directory / NOTE
        if note.exists():
            with _connect() as client:
                for key in _keys(client, note.read_text()):
                    client.unlink(key)
        super().remove(directory)


class _LangcairnValkeySession(_ValkeySession):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._store = RedisCheckpointStore(url_of("valkey"), prefix=self._prefix)
        self.saver: CheckpointSaver = CheckpointSaver(self._store)

    def close(self) -> int:
        self._store.close()
        return super().close()


class LangcairnValkey(_ValkeyAdapter):
    name = "langcairn valkey"
    persistent = True

    def open(self, directory: Path) -> Session:
        return _LangcairnValkeySession(directory)


class _NotingBackend(MemoryBackend):
    """Notes what is new in each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: Payload = []

    def execute(self, request: Request) -> object:
        answer = super().execute(request)
        if isinstance(request, Commit):
            self.noted += ((str(id), data) for id, data in request.chunks)
            self.noted += (
                (row.id, row.state + row.metadata + row.graph) for row in request.checkpoints
            )
            self.noted += (
                (f"{write.checkpoint_id}:{write.task_id}:{write.idx}", write.value)
                for write in request.writes
            )
        return answer


def payloads_of(calls: Sequence[Call]) -> list[Payload]:
    """Return what our saver stores because of each call."""
    backend = _NotingBackend()
    payloads = []
    with CheckpointStore(backend) as store:
        saver = CheckpointSaver(store)
        for call in calls:
            call.replay(saver)
            payloads.append(backend.noted)
            backend.noted = []
    return payloads


class _RawSaver(BaseCheckpointSaver[int]):
    """Sends the next payload whenever it is called, whatever it is given."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        super().__init__()
        self._client = client
        self._prefix = prefix
        self._payloads: Iterator[Payload] = iter(())

    def set_payloads(self, payloads: Sequence[Payload]) -> None:
        named = [[(self._prefix + name, data) for name, data in payload] for payload in payloads]
        self._payloads = iter(named)

    def get_next_version(self, current: int | None, channel: None) -> int:  # noqa: ARG002 -- LangGraph's
        return (current or 0) + 1  # as ours, so that both replay one recording

    def put(self, config: RunnableConfig, *_: Any) -> RunnableConfig:
        self._send()
        return config

    def put_writes(self, *_: Any) -> None:
        self._send()

    def _send(self) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for name, data in next(self._payloads):
                pipeline.set(name, data)
            pipeline.execute()


class _RawValkeySession(_ValkeySession):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.saver: _RawSaver = _RawSaver(self._client, self._prefix)

    def prepare(self, calls: Sequence[Call]) -> None:
        self.saver.set_payloads(payloads_of(calls))


class RawValkey(_ValkeyAdapter):
    name = "raw valkey"
    persistent = False
    reads = False

    def open(self, directory: Path) -> Session:
        return _RawValkeySession(directory)


def _connect() -> redis.Redis:
    return redis.Redis.from_url(url_of("valkey"))


def _keys(client: redis.Redis, prefix: str) -> list[bytes]:
    return list(client.scan_iter(match=f"{prefix}*", count=1000))
