"""docs/file-format.md says what is stored."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.sqlite_rows import find

from langcairn.backends.base import CheckpointRow, ChunkId, Commit, FetchChunks, WriteRow
from langcairn.backends.file import FileBackend
from langcairn.backends.file.directory import Directory

DOCUMENT = Path(__file__).parent.parent / "docs" / "file-format.md"
EPOCH = 3676545529667839674
CHUNK = ChunkId("Dpz1AqsSVBOqkmUCLrNSDw"), b"\x01\x00\xa5stone"
ROW = CheckpointRow(
    "thread-1", "", "c1", None, "agent", b'{"n":1}', b'{"step":0}',
    datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), 1, b"{}",
)  # fmt: skip
WRITE = WriteRow("thread-1", "", "c1", "task", 0, "", "out", b"2")


def documented() -> bytes:
    (dump,) = re.findall(r"```hexdump\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    content = b""
    for line in dump.splitlines():
        offset, shown = line[:4], line[6:53]
        assert int(offset, 16) == len(content)
        content += bytes.fromhex(shown)
    return content


def test_the_example_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    path = Directory(directory, fsync=False).path_of("thread-1")
    path.parent.mkdir(parents=True)
    path.write_bytes(documented())
    with closing(FileBackend(directory)) as backend:
        (found,) = find(backend)
        assert found == (ROW, [WRITE], EPOCH)
        assert backend.execute(FetchChunks("thread-1", [CHUNK[0]])) == dict([CHUNK])


def test_the_example_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    log_id = documented()[16:32]
    monkeypatch.setattr("secrets.token_bytes", lambda _: log_id)
    monkeypatch.setattr("langcairn.backends.file.writes.next_epoch", lambda: EPOCH)
    with closing(FileBackend(tmp_path / "store")) as backend:
        backend.execute(Commit("thread-1", None, [CHUNK], [ROW], [WRITE]))
    (path,) = (tmp_path / "store" / "logs").iterdir()
    content = path.read_bytes()
    assert content.rstrip(b"\0") == documented()
    assert len(content) % 4096 == 0
