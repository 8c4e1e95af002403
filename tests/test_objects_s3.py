"""Objects in S3, over a network that fails."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from tests.s3_server import BUCKET, S3Server, broken_off, changed, failing, shortened
from tests.test_objects import Place, load, messages, moved, save, tiers, wait_until

from langcairn import (
    CheckpointStore,
    CorruptData,
    MissingChunks,
    ObjectStorage,
    StoreMisconfigured,
    StoreUnavailable,
    open_store,
)
from langcairn.backends.base import FetchChunks
from langcairn.objects.requests import DeleteObjects, GetObject, ListObjects, PutObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


class Bucket(Place):
    """A SQLite file and a prefix in a bucket."""

    def __init__(self, path: Path, server: S3Server) -> None:
        super().__init__(path)
        self.server = server
        self.url = f"s3://{BUCKET}/{path.name}/some prefix"

    def open(
        self, name: str = "agent", store: dict[str, Any] | None = None, **settings: Any
    ) -> Any:
        given = {"url": self.url, "options": self.server.options, **EAGER, **settings}
        url = f"sqlite:///{self.path}/{name}.db?synchronous=OFF"
        opened = open_store(url, objects=ObjectStorage(**given), **(store or {}))
        self._opened.append(opened)
        return opened

    def names(self) -> list[str]:
        found: Any = tiers(self.open()).objects.execute(ListObjects(""))
        return [one.path for one in found]


EAGER: dict[str, Any] = {"after": 0, "every": None, "least_bytes": 0, "grace": 0}


@pytest.fixture
def place(tmp_path: Path, server: S3Server) -> Iterator[Bucket]:
    server.heal()
    place = Bucket(tmp_path, server)
    yield place
    server.heal()
    place.close()


@pytest.fixture
def store(place: Bucket) -> CheckpointStore:
    opened: CheckpointStore = place.open()
    return opened


STATE = {"messages": messages(30)}


async def on(side: str, store: CheckpointStore, method: str, *args: Any) -> Any:
    """Call a method or its async twin."""
    if side == "sync":
        return getattr(store, method)(*args)
    return await getattr(store, f"a{method}")(*args)


def test_content_moves_merges_and_goes(place: Bucket, store: CheckpointStore) -> None:
    all = messages(90)
    for end in (30, 60, 90):
        save(store, f"c{end}", {"messages": all[:end]})
        assert store.move_to_objects().chunks == 30
    assert len(place.names()) == 1
    assert load(place, "c90") == {"messages": all}
    for id in ("c30", "c60", "c90"):
        store.delete(id)
    assert store.move_to_objects().removed == 1
    save(store, "c1", STATE)
    store.move_to_objects()
    assert len(place.names()) == 1
    store.clear("thread")
    assert place.names() == []


async def test_content_moves_merges_and_goes_async(place: Bucket) -> None:
    all = messages(60)
    async with place.open() as store:
        for end in (20, 40, 60):
            save(store, f"c{end}", {"messages": all[:end]})
            assert (await store.amove_to_objects()).chunks == 20
    async with place.open() as store:
        assert (await store.aload("c60")).state == {"messages": all}
        await store.aclear("thread")
    assert place.names() == []


def test_eight_hundred_messages_in_three_requests(place: Bucket, server: S3Server) -> None:
    all = messages(800)
    for end in range(100, 900, 100):
        store = place.open()
        save(store, f"c{end}", {"messages": all[:end]})
        store.move_to_objects()
    server.heal()
    assert load(place, "c800") == {"messages": all}
    assert 1 <= server.counts.total() <= 3


@pytest.mark.parametrize("side", ["sync", "async"])
async def test_many_packs_are_read_at_once(place: Bucket, server: S3Server, side: str) -> None:
    store = place.open(pack_bytes=2000)
    save(store, "c1", STATE)
    assert store.move_to_objects("thread").packs == len(place.names()) > 4
    fetch = FetchChunks("thread", sorted(moved(store)))
    server.heal()
    together, tickets = threading.Barrier(4, timeout=20), itertools.count()

    def wait() -> None:
        with suppress(threading.BrokenBarrierError):
            if next(tickets) < 4:
                together.wait()
                server.counts["together"] = 1

    server.before["RANGE"] = wait
    options = {**server.options, "retry_config": {"max_retries": 0}}
    async with place.open(options=options) as fresh:
        backend = fresh.backend
        found = backend.execute(fetch) if side == "sync" else await backend.aexecute(fetch)
    assert len(found) == 30
    assert server.counts["together"] == 1
    assert server.counts["RANGE"] == len(place.names())


# Outages


KINDS = ("GET", "RANGE", "PUT", "POST", "DELETE", "LIST")
OUTAGES: dict[str, Callable[[S3Server], None]] = {
    "errors": lambda server: server.faults.update({kind: failing() for kind in KINDS}),
    "throttled": lambda server: server.faults.update(
        {kind: failing("429 Too Many Requests") for kind in KINDS}
    ),
    "too slow": lambda server: server.before.update(dict.fromkeys(KINDS, lambda: time.sleep(3))),
}


@pytest.mark.parametrize("side", ["sync", "async"])
@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage(place: Bucket, server: S3Server, outage: str, side: str) -> None:
    short: dict[str, Any] = {
        "options": {**server.options, "retry_config": {"max_retries": 0}}
        | {"client_options": {"allow_http": True, "timeout": "500ms"}}
    }
    store = place.open(**short)
    save(store, "c1", STATE)
    store.move_to_objects()
    OUTAGES[outage](server)
    server.counts.clear()
    fresh = place.open(**short)
    save(fresh, "c2", {"messages": messages(30)})
    save(fresh, "c3", {"messages": messages(3)}, "another")
    assert server.counts.total() == 0
    async with fresh:
        with pytest.raises(StoreUnavailable, match=rf"object \S+ of s3://{BUCKET}/"):
            await on(side, fresh, "load", "c1")
        with pytest.raises(StoreUnavailable, match=f"s3://{BUCKET}/"):
            await on(side, fresh, "move_to_objects")
        assert fresh.load("c2").id == "c2"
    server.heal()
    assert load(place, "c1") == STATE
    assert place.open().move_to_objects().chunks == 33


def test_the_server_is_down(tmp_path: Path) -> None:
    with S3Server() as server:
        place = Bucket(tmp_path, server)
        store = place.open()
        save(store, "c1", STATE)
        store.move_to_objects()
    with pytest.raises(StoreUnavailable, match="can't be reached"):
        load(place, "c1")
    save(store, "c2", STATE)
    place.close()


@pytest.mark.parametrize("kind", ["GET", "RANGE", "PUT", "POST", "LIST"])
def test_a_few_errors_are_no_outage(place: Bucket, server: S3Server, kind: str) -> None:
    store = place.open()
    save(store, "c1", STATE)
    server.faults[kind] = failing(times=2)
    done = store.move_to_objects()
    assert done.chunks == 30
    assert load(place, "c1") == STATE
    store.clear("thread")
    assert place.names() == []


@pytest.mark.parametrize("fault", [broken_off, shortened, changed])
def test_nothing_leaves_the_database_before_it_was_read_back(
    place: Bucket, server: S3Server, store: CheckpointStore, fault: Any
) -> None:
    save(store, "c1", STATE)
    # An answer that breaks off is resumed by a request for the rest.
    server.faults |= {"GET": fault, "RANGE": fault}
    with pytest.raises(StoreUnavailable):
        store.move_to_objects()
    assert moved(store) == set()
    server.heal()
    assert load(place, "c1") == STATE
    assert store.move_to_objects().chunks == 30
    assert len(place.names()) == 1


@pytest.mark.parametrize("fault", [broken_off, shortened])
def test_an_answer_that_is_cut_is_no_damage(
    place: Bucket, server: S3Server, store: CheckpointStore, fault: Any
) -> None:
    save(store, "c1", STATE)
    store.move_to_objects()
    server.faults["RANGE"] = fault
    with pytest.raises(StoreUnavailable):
        load(place, "c1")
    server.heal()
    assert load(place, "c1") == STATE


def test_an_upload_whose_answer_is_lost(
    place: Bucket, server: S3Server, store: CheckpointStore
) -> None:
    save(store, "c1", STATE)
    server.faults["PUT"] = failing()  # it is stored, and nobody hears of it
    with pytest.raises(StoreUnavailable):
        store.move_to_objects()
    assert len(place.names()) == 1
    assert moved(store) == set()
    server.heal()
    done = store.move_to_objects()
    assert (done.chunks, done.packs, done.removed) == (30, 1, 1)
    assert load(place, "c1") == STATE


# Damage and bad input


def test_packs_that_are_gone_cut_or_changed(place: Bucket, store: CheckpointStore) -> None:
    save(store, "c1", STATE)
    store.move_to_objects()
    (name,) = place.names()
    bucket = tiers(store).objects
    data: Any = bucket.execute(GetObject(name))
    bucket.execute(PutObject(name, data[:2000]))
    with pytest.raises(CorruptData, match=r"is cut: it has 2,000 bytes"):
        load(place, "c1")
    bucket.execute(PutObject(name, data[:100] + b"!" + data[101:]))
    with pytest.raises(CorruptData, match="is damaged in pack"):
        load(place, "c1")
    bucket.execute(DeleteObjects([name]))
    with pytest.raises(MissingChunks, match=f"{name} of s3://{BUCKET}/.* the pack is not there"):
        load(place, "c1")
    bucket.execute(PutObject(name, data))
    assert load(place, "c1") == STATE


@pytest.mark.parametrize("side", ["sync", "async"])
async def test_a_bucket_that_is_not_there(place: Bucket, store: CheckpointStore, side: str) -> None:
    save(store, "c1", STATE)
    store.move_to_objects()
    lost = place.open(url=place.url.replace(BUCKET, "another-bucket"))
    save(lost, "c2", {"messages": messages(3)})
    with pytest.raises(StoreMisconfigured, match="there is no s3://another-bucket"):
        await on(side, lost, "load", "c1")
    with pytest.raises(StoreMisconfigured, match="there is no s3://another-bucket"):
        await on(side, lost, "move_to_objects", "thread")


def test_wrong_credentials(place: Bucket, server: S3Server, store: CheckpointStore) -> None:
    save(store, "c1", STATE)
    store.move_to_objects()
    server.require_signatures(True)
    try:
        with pytest.raises(StoreMisconfigured, match="refuses access; check the credentials"):
            load(place, "c1")
        with pytest.raises(StoreMisconfigured, match="refuses access"):
            place.open().move_to_objects()
        save(store, "c2", STATE)
    finally:
        server.require_signatures(False)
    assert load(place, "c1") == STATE


def test_no_credentials(place: Bucket, server: S3Server) -> None:
    options = {name: value for name, value in server.options.items() if "key" not in name}
    nowhere = "http://127.0.0.1:1"  # where a machine's role would be asked for
    store = place.open(options={**options, "metadata_endpoint": nowhere})
    save(store, "c1", STATE)
    with pytest.raises(StoreMisconfigured, match="no credentials for s3://"):
        store.move_to_objects()


def test_the_background_goes_on_after_an_outage(
    place: Bucket, server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults["PUT"] = failing()
    options = {**server.options, "retry_config": {"max_retries": 0}}
    store = place.open(every=0.05, options=options)
    save(store, "c1", STATE)
    wait_until(lambda: "stays in the database for now" in caplog.text)
    server.heal()
    wait_until(lambda: len(moved(store)) == 30)
    store.close()
    assert load(place, "c1") == STATE


_FORKING = """
import os, sys
from langcairn import Checkpoint, ObjectStorage, StoreMisconfigured, open_store

options = {"endpoint": sys.argv[3], "region": "us-east-1", "access_key_id": "a",
           "secret_access_key": "b", "client_options": {"allow_http": True}}
objects = ObjectStorage(url=sys.argv[2], after=0, every=None, least_bytes=0, options=options)
store = open_store(sys.argv[1], objects=objects)
state = {"t": os.urandom(900)}
store.save(Checkpoint(id="c", execution_id="t", node_name="", state=state, metadata={}))
assert store.move_to_objects().chunks == 1
pid = os.fork()
if pid == 0:
    try:
        store.move_to_objects()
    except StoreMisconfigured as error:
        assert "forked" in str(error)
        store.save(Checkpoint(id="d", execution_id="t", node_name="", state={}, metadata={}))
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert store.move_to_objects().failed == 0
"""


def test_a_forked_process_is_told_rather_than_hanging(place: Bucket, server: S3Server) -> None:
    url = f"sqlite:///{place.path}/fork.db"
    command = [sys.executable, "-c", _FORKING, url, place.url, server.endpoint]
    subprocess.run(command, check=True, timeout=60)
