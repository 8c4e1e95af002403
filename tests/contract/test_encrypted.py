"""The contract of the saver on what is encrypted, and on what is signed."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, cast

import pytest

from langcairn.backends.base import ChunkId
from langcairn.security.keys import KEY_BYTES
from langcairn.testing import MemoryStorage, SqliteStorage, Storage
from langcairn.testing.saver_puts import SaverPuts
from langcairn.testing.saver_removals import SaverRemovals
from langcairn.testing.two_writers import TwoWriters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.security.encrypted import EncryptedBackend
    from langcairn.store import CheckpointStore

_KEY = b"k" * KEY_BYTES
_VARIABLE = "LANGCAIRN_TEST_KEY"


class EncryptedStorage(SqliteStorage):
    """A SQLite file whose stores have a key, from the environment as other processes, too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.url = f"sqlite:///{path}?encryption=env:{_VARIABLE}&encrypt_metadata=true"

    def _open(self, **options: Any) -> CheckpointStore:
        return super()._open(encryption=f"env:{_VARIABLE}", encrypt_metadata=True, **options)

    def chunks(self, execution_id: str) -> dict[str, bytes]:
        backend = cast("EncryptedBackend", self.backend)
        return {
            id: backend.open_chunk(execution_id, ChunkId(id), data)
            for id, data in super().chunks(execution_id).items()
        }


class SignedStorage(MemoryStorage):
    """Memory whose stores have a key to sign with."""

    def _open(self, **options: Any) -> CheckpointStore:
        return super()._open(signing_key=_KEY, **options)


@pytest.fixture(params=["encrypted", "signed"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Storage]:
    monkeypatch.setenv(_VARIABLE, b64encode(_KEY).decode())
    encrypted = request.param == "encrypted"
    with EncryptedStorage(tmp_path / "contract.db") if encrypted else SignedStorage() as storage:
        yield storage


# What kinds of values come back doesn't depend on it, and is tested elsewhere.
class TestSaver(SaverPuts, SaverRemovals, TwoWriters):
    pass
