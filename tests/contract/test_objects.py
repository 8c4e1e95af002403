"""The contract of the saver on what is moved to objects as soon as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from langcairn.backends.base import Backend, ChunkId, Commit, FetchChunks
from langcairn.objects import ObjectStorage
from langcairn.running import arun, run
from langcairn.testing import SqliteStorage, Storage
from langcairn.testing.saver_crowds import SaverCrowds
from langcairn.testing.saver_puts import SaverPuts
from langcairn.testing.saver_removals import SaverRemovals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.backends.base import Request
    from langcairn.store import CheckpointStore


class Eager(Backend):
    """Moves all content of an execution after each commit to it, and sweeps its packs."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self.inner = store.backend

    def execute(self, request: Request) -> object:
        answer = self.inner.execute(request)
        if isinstance(request, Commit):
            run(self.inner.execute, self._store._moving(request.execution_id, None))
        return answer

    async def aexecute(self, request: Request) -> object:
        answer = await self.inner.aexecute(request)
        if isinstance(request, Commit):
            await arun(self.inner.aexecute, self._store._moving(request.execution_id, None))
        return answer

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


class MovedStorage(SqliteStorage):
    """A SQLite file with a folder of objects beside it, where nothing is left that may move."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.url = None
        self.objects = ObjectStorage(
            url=f"file://{path.parent}/objects",
            after=0, larger=0, smaller=0, least_bytes=0, grace=0, every=None,
        )  # fmt: skip

    def _open(self, **options: Any) -> CheckpointStore:
        store = super()._open(objects=self.objects, **options)
        store.backend = Eager(store)
        return store

    def chunks(self, execution_id: str) -> dict[str, bytes]:
        ids = [ChunkId(id) for id in super().chunks(execution_id)]
        found = self.backend.execute(FetchChunks(execution_id, ids))
        return cast("dict[str, bytes]", found)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with MovedStorage(tmp_path / "contract.db") as storage:
        yield storage


class TestSaver(SaverPuts, SaverRemovals, SaverCrowds):
    pass
