"""Dictionaries where something is missing, forged, moved, or used by others at the same time."""

from __future__ import annotations

import random
import subprocess
import sys
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from langcairn import (
    AccessDenied,
    Checkpoint,
    CheckpointStore,
    CorruptData,
    DecryptionFailed,
    InvalidInput,
    MissingChunks,
    abackup,
    arestore,
    backup,
    matching,
    migrate,
    open_store,
    restore,
    verify,
)
from langcairn.backends.base import RESERVED, ChunkId, Commit
from langcairn.codec.chunks import ChunkFormat, Kind, Payload, chunk_id
from langcairn.codec.dictionaries import Dictionary, dictionary_of, payload_of, train
from langcairn.testing import MemoryStorage, SqliteStorage
from langcairn.testing.dictionaries import packings, some_checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.testing import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with SqliteStorage(tmp_path / "a.db") as storage:
        yield storage


@pytest.fixture
def store(storage: Storage) -> CheckpointStore:
    """A store whose ten executions are packed with a dictionary."""
    store = storage.open()
    fill(store)
    return store


def fill(store: CheckpointStore) -> None:
    store.save_many(some_checkpoints(0, 10))
    assert store.train_dictionary(samples=100, size=4096).stored
    assert store.repack().chunks > 100


def check(store: CheckpointStore) -> None:
    for one in some_checkpoints(0, 10):
        assert store.load("1", execution_id=one.execution_id).state == one.state


def texts(count: int) -> list[Payload]:
    logs = [text for one in some_checkpoints(0, count // 12 + 1) for text in one.state["log"]]
    return [Payload(Kind.MSGPACK, text.encode()) for text in logs[:count]]


def trained(size: int = 4096) -> Dictionary:
    dictionary = train(ChunkFormat(), texts(200), size, 0.1).dictionary
    assert dictionary is not None
    return dictionary


DICTIONARY = trained()
KEY = bytes(range(32))


class TestFormat:
    @given(
        st.binary(max_size=300) | st.text("order delivered", max_size=4000).map(str.encode),
        st.sampled_from([kind for kind in Kind if kind is not Kind.DICTIONARY]),
        st.sampled_from([-7, 1, 3, 19]),
    )
    def test_round_trip(self, data: bytes, kind: Kind, level: int) -> None:
        format = ChunkFormat(level)
        plain = format.seal(Payload(kind, data))
        format.learn(DICTIONARY)
        payload = Payload(kind, data)
        id = chunk_id(payload)
        sealed = format.seal(payload)
        assert len(sealed) <= len(data) + 2
        assert format.unseal(id, sealed) == format.unseal(id, plain) == payload
        portable = format.portable(id, sealed)
        assert portable[1] < 2
        assert ChunkFormat().unseal(id, portable) == payload
        again = format.repacked(id, plain)
        assert again is None or len(again) < len(plain)

    @given(st.integers(0, 200), st.integers(1, 255))
    def test_changed_bytes_are_noticed(self, place: int, change: int) -> None:
        format = ChunkFormat()
        format.learn(DICTIONARY)
        payload = texts(1)[0]
        sealed = bytearray(format.seal(payload))
        assert sealed[1] == 2
        sealed[place % len(sealed)] ^= change
        try:
            opened = format.unseal(chunk_id(payload), bytes(sealed))
        except CorruptData:
            return
        assert opened == payload  # a frame of zstd has a few bits that mean nothing

    def test_a_frame_that_claims_too_much_is_refused(self) -> None:
        format = ChunkFormat()
        format.learn(DICTIONARY)
        payload = Payload(Kind.MSGPACK, bytes(1000))
        frame = zstandard.ZstdCompressor(
            dict_data=zstandard.ZstdCompressionDict(DICTIONARY.data), write_dict_id=False
        )
        forged = frame.compressobj(size=2**31)
        head = forged.compress(b"x") + forged.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        with pytest.raises(CorruptData, match="claims a size"):
            format.unseal(chunk_id(payload), b"\x01\x02" + DICTIONARY.key + head[4:])

    def test_a_dictionary_of_a_later_version(self) -> None:
        payload = payload_of(DICTIONARY)
        assert dictionary_of(payload) == DICTIONARY
        later = payload.data.replace(b"\xa1v\x02", b"\xa1v\x03")
        with pytest.raises(CorruptData, match="update langcairn"):
            dictionary_of(Payload(Kind.DICTIONARY, later))

    @pytest.mark.parametrize("data", [b"", b"\xc0", b"\x81\xa1v\x02", b"\x90"])
    def test_malformed_dictionaries(self, data: bytes) -> None:
        with pytest.raises(CorruptData):
            dictionary_of(Payload(Kind.DICTIONARY, data))

    def test_what_zstd_does_not_take(self) -> None:
        with pytest.raises(CorruptData, match="is none"):
            ChunkFormat().learn(Dictionary(b"1234", 1, 1, b"12345678", b"no dictionary at all"))

    def test_random_bytes_are_refused(self) -> None:
        source = random.Random(1)
        samples = [Payload(Kind.MSGPACK, source.randbytes(400)) for _ in range(200)]
        assert train(ChunkFormat(), samples, 4096, 0.1).refusal

    def test_too_few_samples_are_refused(self) -> None:
        assert "too few" in train(ChunkFormat(), texts(99), 4096, 0.1).refusal

    def test_a_second_dictionary_must_be_better_than_the_first(self) -> None:
        format = ChunkFormat()
        format.learn(DICTIONARY)
        again = train(format, texts(200), 4096, 0.1)
        assert "would save" in again.refusal
        assert again.dictionary is not None
        assert again.dictionary.key != DICTIONARY.key
        assert again.dictionary.trained > DICTIONARY.trained


class TestDamage:
    def test_a_dictionary_that_is_gone(self, store: CheckpointStore, storage: Storage) -> None:
        (id,) = storage.chunks(RESERVED)
        storage.drop_chunk(RESERVED, id)
        another = storage.open()
        with pytest.raises(MissingChunks, match="a dictionary that is not stored"):
            another.load("1", execution_id="thread-1")
        report = verify(another)
        assert {finding.execution_id for finding in report.findings} == {
            f"thread-{number}" for number in range(10)
        }
        check(store)  # who knows it goes on

    @pytest.mark.parametrize("cut", [0, 1, 2, 40, -1])
    def test_a_dictionary_that_is_cut(
        self, store: CheckpointStore, storage: Storage, cut: int
    ) -> None:
        ((id, data),) = storage.chunks(RESERVED).items()
        storage.replace_chunk(RESERVED, id, data[:cut])
        another = storage.open()
        with pytest.raises(CorruptData, match=f"dictionary {id} can't be used"):
            another.load("1", execution_id="thread-1")
        with pytest.raises(CorruptData, match=f"dictionary {id}"):
            another.dictionaries()
        assert any(id in finding.what for finding in verify(another).findings)
        storage.replace_chunk(RESERVED, id, data)
        check(another)
        assert verify(another).ok

    def test_a_forged_dictionary(self, store: CheckpointStore, storage: Storage) -> None:
        """One that takes the key of another makes nothing load as something else."""
        (real,) = store.codec.format.dictionaries
        source = [Payload(Kind.MSGPACK, f"{n:>50} other".encode() * 9) for n in range(300)]
        other = train(ChunkFormat(), source, 4096, 0).dictionary
        assert other is not None
        forged = payload_of(Dictionary(real.number, 1, 1, real.key, other.data))
        storage.drop_chunk(RESERVED, *storage.chunks(RESERVED))
        storage.replace_chunk(RESERVED, chunk_id(forged), ChunkFormat().seal(forged))
        with pytest.raises(CorruptData):
            storage.open().load("1", execution_id="thread-1")

    def test_a_chunk_that_is_none_in_its_place(
        self, store: CheckpointStore, storage: Storage
    ) -> None:
        page = Payload(Kind.PAGE, b"[]")
        storage.replace_chunk(RESERVED, chunk_id(page), ChunkFormat().seal(page))
        check(storage.open())  # what doesn't need it isn't hurt
        assert not verify(storage.open()).ok

    def test_a_state_that_refers_to_a_dictionary(
        self, store: CheckpointStore, storage: Storage
    ) -> None:
        payload = payload_of(DICTIONARY)
        id = chunk_id(payload)
        storage.replace_chunk("thread-1", id, ChunkFormat().seal(payload))
        state = b'{"log":{"$cairn":["c","%b"]}}' % id.encode()
        storage.forge_column("thread-1", "", "1", "state", state)
        with pytest.raises(CorruptData):
            storage.open().load("1", execution_id="thread-1")


class TestMoving:
    @pytest.mark.parametrize("encrypted", [False, True])
    def test_backup_and_restore(self, tmp_path: Path, *, encrypted: bool) -> None:
        options: dict[str, Any] = {"encryption": token_bytes(32)} if encrypted else {}
        source = open_store("memory:", **options)
        fill(source)
        assert backup(source, tmp_path / "a.cairn").ok
        target = open_store("memory:", **options)
        assert restore(tmp_path / "a.cairn", target).ok
        check(target)
        assert target.dictionaries() == []
        assert packings_of(target) <= {0, 1}
        # Back into the store with the dictionary.
        assert restore(tmp_path / "a.cairn", source, existing="replace").ok
        check(source)
        assert verify(source).ok

    async def test_by_coroutines(self, tmp_path: Path) -> None:
        source, target = open_store("memory:"), open_store("memory:")
        await source.asave_many(some_checkpoints(0, 10))
        assert (await source.atrain_dictionary(samples=100, size=4096)).stored
        assert (await source.arepack()).chunks
        assert (await abackup(source, tmp_path / "a.cairn")).ok
        assert (await arestore(tmp_path / "a.cairn", target)).ok
        check(target)

    def test_migration(self, store: CheckpointStore, storage: Storage) -> None:
        target = open_store("memory:")
        assert migrate(storage.open(), target).ok
        check(target)
        assert packings_of(target) <= {0, 1}
        # A store that has one packs with its own.
        with MemoryStorage() as other:
            second = other.open()
            second.save_many(some_checkpoints(100, 10))
            assert second.train_dictionary(samples=100, size=4096).stored
            assert migrate(storage.open(), other.open()).ok
            assert packings(second, "thread-1") == {2}
            fresh = other.open()
            check(fresh)
            assert [one.name for one in fresh.dictionaries()] == [
                one.name for one in second.dictionaries()
            ]

    def test_an_encrypted_dictionary(self) -> None:
        with MemoryStorage() as storage:
            key, new = token_bytes(32), token_bytes(32)
            store = storage.open(encryption=key)
            fill(store)
            (sealed,) = storage.chunks(RESERVED).values()
            assert b"delivered" not in sealed
            check(storage.open(encryption=key))
            with pytest.raises(DecryptionFailed):
                storage.open(encryption=new).load("1", execution_id="thread-1")
            assert storage.open(encryption=[new, key]).rotate_keys()
            check(storage.open(encryption=new))

    def test_a_signed_store(self) -> None:
        with MemoryStorage() as storage:
            fill(storage.open(signing_key=KEY))
            check(storage.open(signing_key=KEY))


def packings_of(store: CheckpointStore) -> set[int]:
    return {packing for id in store.executions() for packing in packings(store, id)}


class TestPlace:
    def test_the_reserved_execution_is_nobodys(self, store: CheckpointStore) -> None:
        for call in (store.clear, store.list, store.stats, store.forks):
            with pytest.raises(InvalidInput, match="reserved"):
                call(RESERVED)
        with pytest.raises(InvalidInput, match="reserved"):
            store.save(Checkpoint(id="1", execution_id=RESERVED, state={}))
        assert store.executions(limit=3) == ["thread-0", "thread-1", "thread-2"]

    def test_a_guard_lets_everybody_read_with_it(
        self, store: CheckpointStore, storage: Storage
    ) -> None:
        guarded = storage.open().guard(matching("thread-1"), who="somebody")
        assert len(guarded.load("1", execution_id="thread-1").state["log"]) == 12
        with pytest.raises(AccessDenied):
            guarded.train_dictionary(executions=["thread-2"])
        assert guarded.executions() == ["thread-1"]
        assert not hasattr(guarded.dictionaries()[0], "data")

    @pytest.mark.parametrize(
        "options", [{"samples": 99}, {"size": 10}, {"least_gain": 1}, {"least_gain": "much"}]
    )
    def test_bad_arguments(self, store: CheckpointStore, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput, match=next(iter(options))):
            store.train_dictionary(**options)
        with pytest.raises(InvalidInput, match="limit"):
            store.repack(limit=0)

    def test_repacking_goes_on_where_it_stopped(self, storage: Storage) -> None:
        store = storage.open()
        store.save_many(some_checkpoints(0, 10))
        assert store.repack() == (0, 0, 0, 0, None)
        assert store.train_dictionary(samples=100, size=4096).stored
        after, rounds = "", 0
        while (done := store.repack(after=after, limit=20)).after is not None:
            after, rounds = done.after, rounds + 1
        assert rounds == 5
        assert packings_of(store) == {2}
        check(storage.open())

    def test_a_store_without_dictionaries_is_asked_no_more(self) -> None:
        store = open_store("memory:")
        asked: list[str] = []
        execute = store.backend.execute

        def counted(request: Any) -> object:
            asked.append(type(request).__name__)
            return execute(request)

        store.backend.execute = counted  # type: ignore[method-assign]
        store.save(some_checkpoints(0, 1)[0])
        fresh = CheckpointStore(store.backend)
        fresh.load("1", execution_id="thread-0")
        assert asked == ["Commit", "FindCheckpoints", "FetchChunks"]

    def test_samples_of_chosen_executions(self, storage: Storage) -> None:
        store = storage.open()
        store.save_many(some_checkpoints(0, 10))
        assert "too few" in store.train_dictionary(executions=["thread-1", "nobody"]).refusal
        assert store.dictionaries() == []

    def test_a_lookout_that_fails_looks_again(
        self, storage: Storage, store: CheckpointStore
    ) -> None:
        eager = storage.open(dictionary=True)
        execute = eager.backend.execute

        def fails(request: Any) -> object:
            raise ConnectionError

        eager.backend.execute = fails  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            eager.executions()
        eager.backend.execute = execute  # type: ignore[method-assign]
        eager.executions()
        assert len(eager.codec.format.dictionaries) == 1


_WRITER = """
import sys
from langcairn import open_store
from langcairn.testing.dictionaries import some_checkpoints
store = open_store(sys.argv[1], synchronous="OFF")
print("ready", flush=True)
number = 100
for line in sys.stdin:
    number += 1
    (one,) = some_checkpoints(number, 1)
    store.save(one)
    if line.strip() == "read":
        assert store.load("1", execution_id="thread-5").state == some_checkpoints(0, 10)[5].state
    assert store.load("1", execution_id=one.execution_id).state == one.state
    print(len(store.codec.format.dictionaries), flush=True)
"""


def test_another_process_writes_and_reads_meanwhile(storage: Storage) -> None:
    store = storage.open()
    store.save_many(some_checkpoints(0, 10))
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(storage.url)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        words, answers = process.stdin, process.stdout
        assert words is not None
        assert answers is not None

        def tell(word: str) -> str:
            words.write(word + "\n")
            words.flush()
            return answers.readline().strip()

        assert answers.readline() == "ready\n"
        assert tell("write") == "0"
        assert store.train_dictionary(samples=100, size=4096).stored
        assert tell("write") == "0"  # it has met nothing that is packed with it
        assert store.repack().chunks
        assert tell("read") == "1"
        assert tell("write") == "1"
        words.close()
        assert process.wait(30) == 0
    assert packings(store, "thread-104") == {2}
    assert verify(storage.open()).ok


def test_a_commit_of_the_reserved_execution_has_no_rows() -> None:
    """What a search over all executions finds is what it found before."""
    store = open_store("memory:")
    store.backend.execute(Commit(RESERVED, None, [(ChunkId("a" * 22), b"\x06\x00")]))
    assert store.executions() == []
    assert store.stats().executions == 0
