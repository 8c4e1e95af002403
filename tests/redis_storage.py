"""Where the contract's tests store on Redis, and hands that reach below the stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langcairn.backends.redis import RedisBackend, table
from langcairn.backends.redis.keys import Keys
from langcairn.store import CheckpointStore
from langcairn.testing import Storage

if TYPE_CHECKING:
    import redis

    from langcairn.backends.base import CheckpointRow


class RedisStorage(Storage):
    """A server or cluster, emptied for each test.

    Args:
        url: Its URL.
        client: A client that bypasses the backend.
        options: How backends are opened.
    """

    def __init__(self, url: str, client: redis.Redis | redis.RedisCluster, **options: Any) -> None:
        super().__init__()
        self.url: str = url
        self._client: Any = client
        self._options = options
        self._keys = Keys("langgraph:")
        client.flushall()

    def _open(self, **options: Any) -> CheckpointStore:
        return CheckpointStore(RedisBackend(self.url, **self._options), **options)

    def chunks(self, execution_id: str) -> dict[str, bytes]:
        found = self._range(execution_id, b"d")
        return {id.decode(): data for id, _, data in (m[1:].partition(b"\0") for m in found)}

    def replace_chunk(self, execution_id: str, id: str, data: bytes) -> None:
        key, name = self._keys.execution(execution_id), table.name(id)
        old = self._range(execution_id, b"d" + name)
        if old:
            self._client.zrem(key, *old)
        else:
            self._client.zadd(key, {b"c" + name + table.epoch_bytes(0): 0})
        self._client.zadd(key, {b"d" + name + data: 0})

    def drop_chunk(self, execution_id: str, id: str) -> None:
        for kind in (b"c", b"d"):
            for member in self._range(execution_id, kind + table.name(id)):
                self._client.zrem(self._keys.execution(execution_id), member)

    def replace_column(
        self, execution_id: str, namespace: str, id: str, column: str, data: bytes
    ) -> None:
        key = self._keys.execution(execution_id)
        (old,) = self._range(execution_id, b"n" + table.name(namespace, id))
        changes: dict[str, Any] = {column: data}
        row: CheckpointRow = table.row_from(execution_id, old)._replace(**changes)
        name, _, value = table.row_entry(row)
        self._client.zrem(key, old)
        self._client.zadd(key, {name + value: 0})

    def _range(self, execution_id: str, start: bytes) -> list[bytes]:
        key = self._keys.execution(execution_id)
        return list(self._client.zrangebylex(key, *table.beginning_with(start)))
