"""From URLs to stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from langcairn import (
    Checkpoint,
    CheckpointSaver,
    FileCheckpointStore,
    InvalidInput,
    MemoryCheckpointStore,
    SqliteCheckpointStore,
    open_store,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, kind in {
        "memory:": MemoryCheckpointStore,
        "sqlite:///relative.db": SqliteCheckpointStore,
        f"sqlite:///{tmp_path}/absolute%20with%23.db": SqliteCheckpointStore,
        f"file://{tmp_path}/files": FileCheckpointStore,
    }.items():
        with open_store(url) as store:
            assert type(store) is kind
            store.save(Checkpoint(execution_id="e", state=1))
            assert store.executions() == ["e"]
    assert {path.name for path in tmp_path.iterdir()} >= {
        "relative.db", "absolute with#.db", "files",
    }  # fmt: skip


def test_options_in_the_url(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db?table_name=other&synchronous=NORMAL&busy_timeout=1.5"
    with open_store(url) as store:
        store.save(Checkpoint(execution_id="e", state=1))
    with SqliteCheckpointStore(tmp_path / "x.db", "other") as store:
        assert store.executions() == ["e"]
    with open_store(url, table_name="third") as store:  # an argument counts more
        assert store.executions() == []


@pytest.mark.parametrize(
    "url",
    [
        "", "agent.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite://host/x.db", "memory:x",
        "memory://x", "mysql://x", "postgresql+psycopg://x@y/z", "sqlite+aiosqlite:///x.db",
        "file:", "file://host/x", "sqlite:///x.db#y",
        "memory:?no_such_option=1", "sqlite:///x.db?synchronous=SOMETIMES", None, 7,
    ],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidInput):
        open_store(url)


def test_a_savers_store() -> None:
    with pytest.raises(InvalidInput, match="a store or its URL"):
        CheckpointSaver(7)  # type: ignore[arg-type]  # that is the test
    with open_store("memory:") as store, pytest.raises(InvalidInput, match="give `serde` to"):
        CheckpointSaver(store, serde=store.codec.serde)


def test_no_password_stands_in_a_message() -> None:
    with pytest.raises(InvalidInput) as raised:
        open_store("mysql://ada:geheim@pw@host/db")
    assert "geheim" not in str(raised.value)
    assert "mysql://ada:…@host/db" in str(raised.value)
