"""`langcairn move-to-objects`, into a folder and S3, and commands on a store that was moved."""

from __future__ import annotations

import secrets
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.cli_calls import Called, call
from tests.s3_server import BUCKET, S3Server, failing

from langcairn.checkpoint import Checkpoint
from langcairn.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path

TEXT = secrets.token_hex(100_000)  # some 100 kB compressed: too little to move by its size


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A file with a thread of a month ago and one of now."""
    url = f"sqlite:///{tmp_path}/agent.db"
    with open_store(url) as store:
        for id, age in (("new", 0), ("old", 30)):
            taken = datetime.now(UTC) - timedelta(days=age)
            store.save(Checkpoint(execution_id=id, id="1", state={"x": TEXT}, timestamp=taken))
    return url


def move(url: str, objects: str, *words: str, **env: str) -> Called:
    return call("--store", url, "--objects", objects, "move-to-objects", *words, **env)


def test_a_folder(url: str, tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/objects"
    said = move(url, folder)
    assert said.code == 0
    assert said.out.startswith("looked at 2 threads; moved 1 chunk, ")
    assert said.out.endswith("; stored 1 pack, removed 0 objects\n")
    assert not said.err
    assert move(url, folder, "--json").json == {
        "ok": True, "threads": 2, "chunks": 0, "bytes": 0, "packs": 0, "removed": 0, "failed": 0
    }  # fmt: skip
    assert call("--store", url, "--objects", folder, "state", "old").json == {"x": TEXT}
    with open_store(url, objects=folder) as store:
        store.delete("1", execution_id="old")
    told = move(url, folder, "--after", "60d", "--larger", "1000", "--json").json
    assert (told["chunks"], told["packs"]) == (1, 1)
    assert call("verify", LANGCAIRN_STORE=url, LANGCAIRN_OBJECTS=folder).code == 0


def test_threads_by_name(url: str, tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/objects"
    assert move(url, folder, "-t", "old", "-t", "older").code == 3
    assert not (tmp_path / "objects").exists()
    told = move(url, folder, "--after", "0s", "-t", "new", "--json").json
    assert (told["threads"], told["chunks"]) == (1, 1)
    assert move(url, folder, "--json").json["chunks"] == 1


@pytest.mark.parametrize("words", [["--after", "soon"], ["--larger", "-1"]])
def test_what_is_refused(url: str, tmp_path: Path, words: list[str]) -> None:
    assert move(url, f"file://{tmp_path}/objects", *words).code == 2
    assert move(url, "ftp://somewhere").code == 2
    said = call("--store", url, "move-to-objects")
    assert said.code == 2
    assert "--objects" in said.err


def test_a_store_that_was_moved_is_not_taken_for_a_damaged_one(url: str, tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/objects"
    assert move(url, folder, "--after", "0s").code == 0
    other = f"sqlite:///{tmp_path}/b.db"
    with open_store(other) as store:
        store.save(Checkpoint(execution_id="other", id="1", state={}))
    for words in (["state", "old"], ["verify", "--repair", str(tmp_path / "b"), "--yes"],
                  ["--store", other, "migrate", url], ["migrate", other]):  # fmt: skip
        said = call("--store", url, *words)
        assert said.code == 7
        assert "--objects" in said.err
    said = call("--store", url, "doctor")
    assert said.code == 1
    assert "✗ contents: content of this store was moved" in said.out
    assert call("--store", url, "--option", f"objects={folder}", "verify").code == 0
    # Objects of the source aren't those of the target.
    told = call("--store", other, "migrate", url, "--source-option", f"objects={folder}", "--json")
    assert told.json["ok"]


def test_a_damaged_thread_is_left_and_said(url: str, tmp_path: Path) -> None:
    path = url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute('UPDATE checkpoints SET state = \'{"x": {"$cairn": 7}}\'')
    connection.close()
    said = move(url, f"file://{tmp_path}/objects")
    assert said.code == 1
    assert "2 threads left" in said.err
    assert "verify" in said.err


def test_completion_of_threads_of_a_store_that_was_moved(url: str, tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/objects"
    assert move(url, folder).code == 0
    said = call(
        LANGCAIRN_STORE=url,
        LANGCAIRN_OBJECTS=folder,
        _LANGCAIRN_COMPLETE="complete_bash",
        COMP_WORDS="langcairn move-to-objects -t ol",
        COMP_CWORD="3",
    )
    assert said.out.split() == ["old"]


def test_s3(url: str) -> None:
    with S3Server() as server:
        environment = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
        }
        bucket = f"s3://{BUCKET}/agents"
        away = move(url, "s3://nowhere/agents", **environment)
        assert away.code == 7
        assert "make the bucket" in away.err
        server.require_signatures(True)
        assert move(url, bucket, **environment).code == 7
        server.require_signatures(False)
        server.faults["PUT"] = failing()
        assert move(url, bucket, **environment).code == 6
        server.heal()
        assert call("--store", url, "state", "old", "--objects", bucket, **environment).json == {
            "x": TEXT
        }
        told = move(url, bucket, "--json", **environment).json
        assert (told["ok"], told["chunks"], told["packs"]) == (True, 1, 1)
        server.counts.clear()
        state = call("--store", url, "state", "old", LANGCAIRN_OBJECTS=bucket, **environment)
        assert state.json == {"x": TEXT}
        assert server.counts["RANGE"] == 1
    said = move(url, bucket, "--after", "0s", **environment)
    assert said.code == 6
    assert "can't be reached" in said.err
