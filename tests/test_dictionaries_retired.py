"""Dictionaries that are retired: interrupted, raced, beside damage, and by who stood still."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_dictionaries import _WRITER, DICTIONARY, check, fill, packings_of

from langcairn import (
    AccessDenied,
    CheckpointStore,
    CorruptData,
    ObjectStorage,
    compressing,
    matching,
    open_store,
    verify,
)
from langcairn.backends.base import RESERVED, FindOldChunks
from langcairn.codec.dictionaries import RetiredDictionary, dictionary_of, payload_of
from langcairn.repacking import retire
from langcairn.testing import MemoryStorage, SqliteStorage
from langcairn.testing.cases import case
from langcairn.testing.dictionaries import is_legible, packings, some_checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn.testing import Storage


@pytest.fixture
def storage() -> Iterator[Storage]:
    with MemoryStorage() as storage:
        yield storage


@pytest.fixture
def store(storage: Storage) -> CheckpointStore:
    """A store whose ten executions are packed with a dictionary."""
    store = storage.open()
    fill(store)
    return store


def name_in(store: CheckpointStore) -> str:
    (info,) = store.dictionaries()
    return info.name


RETIRED = DICTIONARY.retired()


class TestFormat:
    def test_only_its_key_opens_it(self) -> None:
        assert RETIRED.opened(DICTIONARY.key) == DICTIONARY
        assert RETIRED.opened(token_bytes(8)) is None
        assert RETIRED.size == len(DICTIONARY.data)
        assert b"delivered" in DICTIONARY.data
        payload = payload_of(RETIRED)
        assert b"delivered" not in payload.data
        assert DICTIONARY.key not in payload.data
        assert dictionary_of(payload) == RETIRED
        # Whoever retires it makes the same of it, so that two don't leave two.
        assert DICTIONARY.retired() == RETIRED

    @given(st.integers(0, RETIRED.size + 15), st.integers(1, 255))
    def test_changed_bytes_open_nothing(self, place: int, change: int) -> None:
        sealed = bytearray(RETIRED.sealed)
        sealed[place] ^= change
        changed = RetiredDictionary(RETIRED.number, 1, 1, bytes(sealed))
        assert changed.opened(DICTIONARY.key) is None

    def test_names_tell_nothing_of_keys(self, store: CheckpointStore) -> None:
        (one,) = store.codec.format.dictionaries
        assert one.name == one.number.hex()
        assert one.key.hex() not in repr(one)
        assert one.number not in one.key


def test_an_interruption_anywhere_loses_nothing() -> None:
    with MemoryStorage() as whole:
        store = whole.open()
        fill(store)
        steps = len(asked(store, None))
    for stop in (*range(9), steps // 2, steps - 1):  # the first ones retire it, the rest pack anew
        with case(stop), MemoryStorage() as storage:
            store = storage.open()
            fill(store)
            name = name_in(store)
            asked(store, stop)
            check(storage.open())
            late = storage.open()
            check(late)
            late.save_many(some_checkpoints(20, 1))
            assert verify(storage.open()).ok
            finisher = storage.open()
            finisher.retire_dictionary(name)
            assert finisher.retire_dictionary(name).chunks == 0
            assert not is_legible(storage.open())
            check(storage.open())


def asked(store: CheckpointStore, stop: int | None) -> list[object]:
    """Retire a store's dictionary, as far as so many requests. Returns those that were made."""
    operation: Any = retire(store.codec.format, name_in(store), None)
    made: list[object] = []
    try:
        request = next(operation)
        while stop is None or len(made) < stop:
            made.append(request)
            request = operation.send(store.execute(request))
    except StopIteration:
        pass
    return made


def test_one_that_is_retired_while_it_is_looked_for(
    storage: Storage, store: CheckpointStore
) -> None:
    """Listed under one id, and stored under another when it is fetched."""
    reader: Any = storage.open()
    execute, name = reader.backend.execute, name_in(store)
    waiting = [name]

    def slow(request: Any) -> object:
        answer = execute(request)
        if isinstance(request, FindOldChunks) and request.execution_id == RESERVED and waiting:
            store.retire_dictionary(waiting.pop())
        return answer

    reader.backend.execute = slow
    check(reader)
    assert not waiting
    assert [one.retired for one in reader.dictionaries()] == [True]


def test_one_that_is_stored_while_others_are_looked_for(storage: Storage) -> None:
    """Another thread has listed them before it was, and goes on afterwards: it isn't gone."""
    store: Any = storage.open()
    execute, waiting = store.backend.execute, [store]

    def slow(request: Any) -> object:
        answer = execute(request)
        if isinstance(request, FindOldChunks) and request.execution_id == RESERVED and waiting:
            fill(waiting.pop())
        return answer

    store.backend.execute = slow
    assert len(store.dictionaries()) == 1
    assert not waiting
    assert store.codec.format.packs
    store.save_many(some_checkpoints(20, 1))
    assert packings(store, "thread-20") == {2}


def test_a_process_that_stood_still(tmp_path: Path) -> None:
    """It may commit whenever it likes what it packed before it was told."""
    with SqliteStorage(tmp_path / "a.db") as storage:
        store = storage.open()
        fill(store)
        name = name_in(store)
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(storage.url)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            words, answers = process.stdin, process.stdout
            assert words is not None
            assert answers is not None
            assert answers.readline() == "ready\n"

            def tell(word: str) -> str:
                words.write(word + "\n")
                words.flush()
                return answers.readline().strip()

            assert tell("read") == "1"
            os.kill(process.pid, signal.SIGSTOP)
            assert store.retire_dictionary(name).chunks > 100
            assert store.retire_dictionary(name).chunks == 0
            os.kill(process.pid, signal.SIGCONT)
            assert tell("write") == "1"
            words.close()
            assert process.wait(30) == 0
        assert packings(store, "thread-102") == {2}
        assert verify(storage.open()).ok
        assert storage.open().load("1", execution_id="thread-102").state == (
            some_checkpoints(102, 1)[0].state
        )
        assert storage.open().retire_dictionary(name).chunks >= 12
        assert packings_of(store) <= {0, 1}
        check(storage.open())


def test_who_packs_with_one_looks_whether_it_is_retired(
    storage: Storage, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressing, "_PERIOD", 0)
    other = storage.open()
    check(other)
    other.save_many(some_checkpoints(20, 1))
    assert packings(other, "thread-20") == {2}
    store.retire_dictionary(name_in(store))
    other.save_many(some_checkpoints(21, 1))
    assert 2 not in packings(other, "thread-21")


async def test_coroutines_look_too(
    storage: Storage, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressing, "_PERIOD", 0)
    other = storage.open()
    await other.aload("1", execution_id="thread-1")
    await other.asave_many(some_checkpoints(20, 1))
    assert packings(other, "thread-20") == {2}
    await store.aretire_dictionary(name_in(store))
    await other.asave_many(some_checkpoints(21, 1))
    assert 2 not in packings(other, "thread-21")


def test_two_at_once_beside_writers(storage: Storage, store: CheckpointStore) -> None:
    name, done = name_in(store), threading.Event()
    faults: list[BaseException] = []

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 -- for the test to see
                faults.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def write(first: int) -> None:
        unaware, source = storage.open(), random.Random(first)
        check(unaware)
        for number in range(first, first + 20):
            unaware.save_many(some_checkpoints(number, 1))
            storage.open().load("1", execution_id=f"thread-{source.randint(first, number)}")

    def end() -> None:
        while not done.is_set():
            storage.open().retire_dictionary(name)

    retiring = [guarded(end) for _ in range(2)]
    for writer in [guarded(lambda first=first: write(first)) for first in (100, 200)]:
        writer.join(60)
    done.set()
    for thread in retiring:
        thread.join(60)
    assert not faults
    storage.open().retire_dictionary(name)
    assert storage.open().retire_dictionary(name).chunks == 0
    assert not is_legible(storage.open())
    assert verify(storage.open()).ok


def test_keys_that_were_changed(storage: Storage) -> None:
    """Ids of chunks depend on the key: it counts under which one a dictionary was found."""
    old, new = token_bytes(32), token_bytes(32)
    fill(storage.open(encryption=old))
    both = storage.open(encryption=[new, old])
    assert both.rotate_keys()
    check(both)
    (info,) = both.dictionaries()
    assert not info.retired
    both.save_many(some_checkpoints(20, 1))
    assert both.retire_dictionary(info.name).chunks > 100
    fresh = storage.open(encryption=new)
    assert [one.retired for one in fresh.dictionaries()] == [True]
    check(fresh)
    assert len(storage.chunks(RESERVED)) == 1


def test_damaged_chunks_are_told(storage: Storage, store: CheckpointStore) -> None:
    id, sealed = next(
        (id, data) for id, data in storage.chunks("thread-4").items() if data[1:2] == b"\2"
    )
    storage.replace_chunk("thread-4", id, sealed[:-3])
    with pytest.raises(CorruptData, match="1 chunks that are packed with dictionary"):
        store.retire_dictionary(name_in(store))
    assert {key: packings(store, key) <= {0, 1} for key in store.executions()} == {
        f"thread-{number}": number != 4 for number in range(10)
    }


def test_a_guard_decides(storage: Storage, store: CheckpointStore) -> None:
    name = name_in(store)
    guarded = storage.open().guard(matching("thread-1"), who="somebody")
    with pytest.raises(AccessDenied):
        guarded.retire_dictionary(name)
    assert is_legible(storage.open())
    assert packings(store, "thread-1") == {2}


def test_packs_in_object_storage(tmp_path: Path) -> None:
    """What was moved comes back packed otherwise, and the next move removes the old packs."""
    objects = ObjectStorage(
        url=f"file://{tmp_path}/objects", after=0, every=None, least_bytes=0, grace=0, smaller=0
    )
    with open_store(f"sqlite:///{tmp_path}/a.db", objects=objects) as store:
        fill(store)
        (one,) = store.codec.format.dictionaries
        assert store.move_to_objects().chunks > 100
        assert holds(tmp_path, one.key)
        assert store.retire_dictionary(one.name).chunks > 100
        assert store.move_to_objects().removed
        assert not holds(tmp_path, one.key)
        assert store.retire_dictionary(one.name).chunks == 0
    with open_store(f"sqlite:///{tmp_path}/a.db", objects=objects) as store:
        check(store)


def holds(path: Path, key: bytes) -> bool:
    return any(
        b"\2" + key in file.read_bytes() for file in (path / "objects").rglob("*") if file.is_file()
    )
