"""The viewer on every kind of store, and on those that can't be used."""

from __future__ import annotations

import sqlite3
import sys
import types
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from pydantic import BaseModel, SecretStr
from tests.ports import hold_port, number_of
from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer
from tests.viewer_client import viewing

from langcairn import Checkpoint, InvalidInput, MemoryCheckpointStore, UnsafeType, open_store
from langcairn.viewer import open_viewed
from langcairn.viewer.demo import CLAIM, REPORT, TRAIL, fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def place(kind: str, directory: Path) -> Iterator[str]:
    """Yield the URL of an empty store."""
    if kind == "valkey":
        with ValkeyServer() as valkey:
            yield valkey.url
    elif kind == "postgresql":
        postgres = PostgresServer()
        try:
            yield postgres.start().url()
        finally:
            postgres.remove()
    else:
        yield {"sqlite": f"sqlite:///{directory}/a.db", "file": f"file://{directory}/a"}[kind]


@pytest.mark.parametrize("kind", ["sqlite", "file", "valkey", "postgresql"])
async def test_every_store(kind: str, tmp_path: Path) -> None:
    with place(kind, tmp_path) as url:
        async with open_viewed(url) as store:
            fill(store)
            async with viewing(store, write=True) as client:
                page = await client.page("/")
                assert page.text.index(TRAIL) < page.text.index(REPORT) < page.text.index(CLAIM)
                page = await client.page(f"/thread?id={REPORT}")
                assert "18 checkpoints" in page.text
                assert "2 subgraph calls" in page.text
                assert "446" in (await client.page("/storage")).text
                page = await client.page(f"/thread?id={TRAIL}&tab=changes")
                assert "winter guide, 8 stages" in page.text
                form = await client.page(page.link("action=fork"))
                answer = await client.submit(form, name="again")
                assert "again" in (await client.page(answer.headers["location"])).text


async def test_store_of_the_official_saver(tmp_path: Path) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        saver.setup()
    async with open_store(f"sqlite:///{tmp_path}/a.db") as store, viewing(store) as client:
        page = await client.page("/", 500)
    assert "made by langgraph-checkpoint-sqlite" in page.text
    assert "<code>langcairn migrate</code>" in page.html


async def test_store_of_a_newer_version(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with open_store(url) as store:
        await store.asave(Checkpoint(execution_id="t", id="1", state={}))
    with closing(sqlite3.connect(tmp_path / "a.db")) as db, db:
        db.execute("UPDATE langcairn_schema SET version = 99")
    async with open_store(url) as store, viewing(store) as client:
        page = await client.page("/", 500)
    assert "schema version 99" in page.text
    assert "newer langcairn" in page.text


async def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("<script>" * 1000)
    async with open_store(f"sqlite:///{tmp_path}/a.db") as store, viewing(store) as client:
        assert "can't be used as it is" in (await client.page("/", 500)).text


async def test_server_is_away() -> None:
    with hold_port() as held:
        url = f"redis://127.0.0.1:{number_of(held)}/0"
        async with open_viewed(url, deadline=0) as store, viewing(store) as client:
            for path in ("/", "/thread?id=t", "/value?id=t&at=1"):
                page = await client.page(path, 503)
                assert "can't be reached" in page.text
                assert "tries again by itself" in page.text
            assert (await client.http.get("/live?id=t")).status_code == 503
            assert "could not be measured" in (await client.page("/storage")).text


async def test_damaged_checkpoint_among_others(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with open_store(f"sqlite:///{path}") as store:
        for id, parent in (("1", None), ("2", "1"), ("3", "2")):
            record = Checkpoint(execution_id="t", id=id, parent_id=parent, state={"text": id * 999})
            await store.asave(record)
        with closing(sqlite3.connect(path)) as db, db:
            done = db.execute("UPDATE checkpoints SET metadata = '{' WHERE id = '2'").rowcount
            done += db.execute("UPDATE checkpoints SET state = '[' WHERE id = '3'").rowcount
        assert done == 2
    async with open_store(f"sqlite:///{path}") as store, viewing(store) as client:
        page = await client.page("/thread?id=t")
        assert "What is stored is damaged" in page.text
        assert page.classes.count("step") == 3
        assert "damaged" in (await client.page("/thread?id=t&at=2")).text
        assert "111" in (await client.page("/thread?id=t&at=1")).text
        assert "damaged" in (await client.page("/compare?id=t&b=0:3&a=0:1", 500)).text


async def test_an_encrypted_checkpoint_without_its_key(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with open_store(url, encryption=b"k" * 32) as store:
        await store.asave(Checkpoint(execution_id="t", id="1", state={"text": "x" * 999}))
    async with open_store(url) as store, viewing(store) as client:
        page = await client.page("/thread?id=t")
        assert "This can't be decrypted" in page.text
        assert "--encryption env:NAME" in page.text


class Rude(BaseModel):
    """Fails when it is looked at."""

    def __iter__(self) -> Any:
        raise RuntimeError("no")

    def __getattribute__(self, name: str) -> Any:
        if name == "__pydantic_extra__" and rude:
            raise RuntimeError("no")
        return super().__getattribute__(name)


rude: list[bool] = []


async def test_class_that_fails_when_it_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with MemoryCheckpointStore() as store, viewing(store) as client:
        await store.asave(Checkpoint(execution_id="t", id="1", state={"x": Rude()}))
        rude.append(True)
        try:
            page = await client.page("/thread?id=t", 500)
        finally:
            rude.clear()
        assert "could not be made" in page.text
        assert "RuntimeError: no" in caplog.text


async def test_closed_store() -> None:
    store = MemoryCheckpointStore()
    async with viewing(store) as client:
        await store.aclose()
        assert "was closed" in (await client.page("/thread?id=t", 503)).text


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("langcairn.viewer")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"langcairn\[viewer\]"):
        __import__("langcairn.viewer")


def test_bad_url() -> None:
    with pytest.raises(InvalidInput):
        open_viewed("nothing://x")


async def test_types_that_are_not_loaded_are_shown(tmp_path: Path) -> None:
    module = types.ModuleType("tests_viewer_gone")
    model: Any = type("Plan", (BaseModel,), {"__module__": module.__name__,
                      "__annotations__": {"steps": list[str]}})  # fmt: skip
    module.Plan = model  # type: ignore[attr-defined]  # a module made here
    sys.modules[module.__name__] = module
    url = f"sqlite:///{tmp_path}/a.db"
    try:
        async with open_store(url) as store:
            for id, parent, step in (("1", None, "first"), ("2", "1", "second")):
                state = {"p": model(steps=[step, "last"]), "key": SecretStr("sesame")}
                record = Checkpoint(execution_id="t", id=id, parent_id=parent, state=state)
                await store.asave(record)
    finally:
        del sys.modules[module.__name__]
    async with open_store(url) as store, viewing(store, write=True) as client:
        page = await client.page("/thread?id=t")
        assert "tests_viewer_gone.Plan" in page.text
        assert "second" in page.text
        assert "sesame" not in page.text
        assert "first" in (await client.page("/thread?id=t&tab=changes")).text
        assert "second" in (await client.page("/value?id=t&at=2&path=0.0")).text
        # What is copied is what was stored, not what was shown.
        form = await client.page("/confirm?action=fork&id=t&at=2")
        assert (await client.submit(form)).status_code == 303
        with pytest.raises(UnsafeType):
            await store.aload("2", execution_id="t")
    assert module.__name__ not in sys.modules
