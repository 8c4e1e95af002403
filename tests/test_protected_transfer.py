"""Backups, migrations and checks of stores that are encrypted or signed."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from tests.flips import THREADS, fill, flipped, loaded, newest, offsets

from langcairn import (
    CairnError,
    CheckpointSaver,
    DecryptionFailed,
    ForgedData,
    InvalidInput,
    MemoryCheckpointStore,
    abackup,
    arestore,
    backup,
    backup_contains,
    migrate,
    repair,
    restore,
    verify,
)
from langcairn.forms import form
from langcairn.security.keys import key_id
from langcairn.testing import MemoryStorage, SqliteStorage, Storage
from langcairn.testing.checkpoints import checkpoint_id, config_of, put, values_of
from langcairn.testing.mutations import mutations
from langcairn.transfer import backup_format
from langcairn.transfer.backup_files import BackupFile
from langcairn.transfer.protection import Keychain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langcairn import CheckpointStore

A, B = b"a" * 32, b"b" * 32
CANARY = "KANARIENVOGEL"
PROTECTED: list[dict[str, Any]] = [{"encryption": A, "encrypt_metadata": True}, {"signing_key": A}]
ENCRYPTED, SIGNED = PROTECTED


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    make = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "store.db")
    with make as storage:
        yield storage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backup.cairn"


def everything(store: CheckpointStore) -> Any:
    return loaded(store), newest(store), store.executions()


def filled(store: CheckpointStore) -> CheckpointStore:
    fill(store)
    return store


def check_all_from(expected: dict[Any, Any], got: dict[Any, Any]) -> None:
    """Check that everything was saved as it is; pending writes may be lost."""
    for key, (facts, writes) in got.items():
        assert facts == expected[key][0]
        assert set(writes) <= set(expected[key][1])


class TestBackups:
    @pytest.mark.parametrize("options", PROTECTED, ids=["encrypted", "signed"])
    def test_round_trip_with_increments(
        self, storage: Storage, path: Path, options: dict[str, Any]
    ) -> None:
        store = filled(storage.open(**options))
        assert backup(store, path).ok
        put(CheckpointSaver(store), 7, {"n": 7, "more": ["z" * 300]}, thread="thread-a", parent=2)
        store.clear("thread-b")
        newer = path.with_name("newer.cairn")
        report = backup(store, newer, since=path)
        assert (report.ok, report.unchanged, report.gone) == (True, 1, 1)
        with SqliteStorage(path.with_name("target.db")) as target:
            assert restore(newer, target.open(**options)).ok
            restored = target.open(**options)
            assert everything(restored) == everything(store)
            assert values_of(CheckpointSaver(restored), config_of("thread-a"))["n"] == 7
            assert target.chunks("thread-a").keys() <= storage.chunks("thread-a").keys()
            assert verify(restored).ok

    def test_nothing_that_was_said_is_in_the_file(self, storage: Storage, path: Path) -> None:
        store = storage.open(**ENCRYPTED)
        saver = CheckpointSaver(store)
        state = {"said": CANARY, "messages": [HumanMessage(CANARY * 30, id=str(i)) for i in "ab"]}
        put(saver, 1, state, thread=CANARY, by=CANARY)
        saver.put_writes(config_of(CANARY, "", checkpoint_id(1)), [("said", CANARY)], "task")
        report = backup(store, path)
        assert (report.ok, report.checkpoints, report.writes) == (True, 1, 1)
        data = path.read_bytes()
        assert CANARY.encode() not in data
        assert key_id(A) in data
        assert b"encrypted" in data
        # Nor is it packed in a way that hides it from a search.
        with BackupFile(path, Keychain.of(store)) as file:
            kinds = [frame.kind for frame in file.frames(32) if frame is not None]
            assert kinds == [1, 2, 3, 4, 5, 6, 7, 8]
            file._protection = Keychain().protection(
                file.header._replace(protection=""), file.id, ""
            )
            frames = [frame for frame in file.frames(32) if frame is not None]
            for frame in frames[1:]:
                assert CANARY not in repr(file.payload(frame))

    def test_without_the_key(self, path: Path) -> None:
        backup(filled(MemoryCheckpointStore(**ENCRYPTED)), path)
        for store in (MemoryCheckpointStore(), MemoryCheckpointStore(encryption=B)):
            with pytest.raises(DecryptionFailed, match="encryption="):
                restore(path, store)
            assert store.executions() == []
        with pytest.raises(DecryptionFailed):
            backup_contains(path, "ada")
        assert not backup_contains(path, "ada", encryption=A).damage

    def test_a_store_without_its_key_is_not_backed_up(self, storage: Storage, path: Path) -> None:
        filled(storage.open(**ENCRYPTED))
        for options in ({}, {"encryption": B}):
            with pytest.raises(DecryptionFailed):
                backup(storage.open(**options), path)
            assert not path.exists()

    def test_into_stores_with_other_keys_and_with_none(self, storage: Storage, path: Path) -> None:
        store = filled(MemoryCheckpointStore(**ENCRYPTED))
        expected = everything(store)
        backup(store, path)
        plain = storage.open()
        assert restore(path, plain, encryption=A).ok
        assert everything(plain) == expected
        assert verify(plain).ok
        # As if it had been saved there in the first place.
        with MemoryStorage() as other:
            fill(other.open())
            assert storage.chunks("thread-a").keys() == other.chunks("thread-a").keys()
        rekeyed = MemoryCheckpointStore(encryption=B)
        report = restore(path, rekeyed, encryption=[B, A])
        assert (report.ok, report.executions) == (True, 3)
        assert restore(path, rekeyed, encryption=A, existing="replace").ok
        assert restore(path, rekeyed, encryption=A, existing="skip").skipped == 3
        assert everything(rekeyed) == expected
        assert verify(rekeyed).ok
        signed = MemoryCheckpointStore(**SIGNED)
        assert restore(path, signed, encryption=A).ok
        assert everything(signed) == expected

    def test_after_the_keys_were_changed(self, storage: Storage, path: Path) -> None:
        store = filled(storage.open(encryption=A))
        expected = everything(store)
        backup(store, path)
        changed = storage.open(encryption=[B, A])
        changed.rotate_keys()
        put(CheckpointSaver(changed), 9, {"n": 9}, thread="thread-b")
        report = backup(changed, path.with_name("newer.cairn"), since=path)
        assert (report.ok, report.unchanged) == (True, 2)
        restored = MemoryCheckpointStore(encryption=[B, A])
        assert restore(path.with_name("newer.cairn"), restored).ok
        assert values_of(CheckpointSaver(restored), config_of("thread-b"))["n"] == 9
        assert loaded(restored) == expected[0]
        with pytest.raises(DecryptionFailed, match="key"):
            restore(path.with_name("newer.cairn"), MemoryCheckpointStore(encryption=B))

    @pytest.mark.parametrize("options", PROTECTED, ids=["encrypted", "signed"])
    def test_a_plain_one_must_be_trusted(
        self, storage: Storage, path: Path, options: dict[str, Any]
    ) -> None:
        plain = filled(MemoryCheckpointStore())
        backup(plain, path)
        store = storage.open(**options)
        with pytest.raises(ForgedData, match="trusted=True"):
            restore(path, store)
        assert store.executions() == []
        assert restore(path, store, trusted=True).ok
        assert everything(store) == everything(plain)
        assert verify(store).ok
        assert CANARY not in repr(storage.chunks("thread-a"))
        with MemoryStorage() as other:
            fill(other.open(**options))
            assert storage.chunks("thread-a").keys() == other.chunks("thread-a").keys()

    def test_a_signed_one_needs_no_key_where_nothing_is_signed(self, path: Path) -> None:
        signed = filled(MemoryCheckpointStore(**SIGNED))
        backup(signed, path)
        plain = MemoryCheckpointStore()
        assert restore(path, plain).ok
        assert everything(plain) == everything(signed)
        with pytest.raises(ForgedData, match="signing_key"):
            restore(path, MemoryCheckpointStore(signing_key=B))
        with pytest.raises(ForgedData, match="trusted=True"):
            restore(path, MemoryCheckpointStore(encryption=B))
        assert restore(path, MemoryCheckpointStore(signing_key=[B, A])).ok

    def test_a_forged_one_does_not_become_signed(self, path: Path) -> None:
        """Whoever makes a backup of his own, and says that it were signed, has no key."""
        forger = filled(MemoryCheckpointStore(signing_key=B))
        keychain = Keychain(None, (B,))
        backup(forger, path)
        data = path.read_bytes()
        with BackupFile(path, keychain) as file:
            header = file.header
        # The header as the owner's key would have made it, with its check.
        forged = backup_format.pack_frame(
            data[16:32], 32, backup_format.Kind.HEADER, tuple(header._replace(key=key_id(A)))
        )
        rest = backup_format.pack_frame(data[16:32], 32, backup_format.Kind.HEADER, tuple(header))
        assert data[32:].startswith(rest)
        path.write_bytes(data[:32] + forged + data[32 + len(rest) :])
        store = MemoryCheckpointStore(**SIGNED)
        with pytest.raises(ForgedData, match="forged"):
            restore(path, store)
        assert store.executions() == []

    @pytest.mark.parametrize("options", PROTECTED, ids=["encrypted", "signed"])
    def test_an_increment_of_another_kind(self, path: Path, options: dict[str, Any]) -> None:
        backup(filled(MemoryCheckpointStore()), path)
        newer = path.with_name("newer.cairn")
        with pytest.raises(InvalidInput, match="without since="):
            backup(filled(MemoryCheckpointStore(**options)), newer, since=path)
        assert not newer.exists()

    def test_a_plain_parent_of_a_signed_one(self, path: Path) -> None:
        """A forger may give his file the id that a backup builds on."""
        signed = filled(MemoryCheckpointStore(**SIGNED))
        backup(signed, path)
        newer = path.with_name("newer.cairn")
        backup(signed, newer, since=path)
        backup(filled(MemoryCheckpointStore()), path)
        with pytest.raises(ForgedData, match="not signed"):
            restore(newer, MemoryCheckpointStore(**SIGNED))

    @pytest.mark.parametrize("options", PROTECTED, ids=["encrypted", "signed"])
    def test_flipped_bytes_are_found(self, path: Path, options: dict[str, Any]) -> None:
        store = filled(MemoryCheckpointStore(**options))
        expected = loaded(store)
        backup(store, path)
        data = path.read_bytes()
        for offset in offsets(len(data), 60):
            path.write_bytes(flipped(data, offset))
            restored = MemoryCheckpointStore(**options)
            try:
                report = restore(path, restored, salvage=True)
            except CairnError:
                continue
            got = loaded(restored)
            assert not report.ok or got == expected, offset
            check_all_from(expected, got)

    def test_async(self, path: Path) -> None:
        async def there_and_back() -> None:
            store = MemoryCheckpointStore(**ENCRYPTED)
            fill(store)
            await abackup(store, path)
            plain = MemoryCheckpointStore()
            assert (await arestore(path, plain, encryption=A)).ok
            assert everything(plain) == everything(store)

        asyncio.run(there_and_back())


def forms(state: dict[str, Any]) -> dict[str, Any]:
    return {channel: form(value) for channel, value in state.items()}


class TestMigrations:
    def test_between_stores_with_and_without_keys(self, storage: Storage) -> None:
        origin = filled(MemoryCheckpointStore())
        expected = everything(origin)
        here: CheckpointStore = origin
        for options in (
            ENCRYPTED, {"encryption": B}, SIGNED, {"encryption": [A, B]}, {}
        ):  # fmt: skip
            there = MemoryCheckpointStore(**options)
            report = migrate(here, there)
            assert (report.ok, report.checkpoints, report.skipped) == (True, 7, 0), report.findings
            assert everything(there) == expected
            assert verify(there).ok
            again = migrate(here, there)
            assert (again.ok, again.checkpoints, again.skipped) == (True, 0, 7)
            here = there
        encrypted = storage.open(**ENCRYPTED)
        assert migrate(here, encrypted).ok
        everything_stored = repr([(storage.chunks(thread), storage.backend) for thread in THREADS])
        assert "says" not in everything_stored
        with MemoryStorage() as other:
            fill(other.open(**ENCRYPTED))
            for thread in THREADS:
                assert storage.chunks(thread).keys() == other.chunks(thread).keys()

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.lists(mutations(), min_size=1, max_size=12))
    def test_any_state(self, changes: list[Any]) -> None:
        """Trees of every shape keep their content under other ids."""
        plain, encrypted, back = (
            MemoryCheckpointStore(), MemoryCheckpointStore(encryption=A), MemoryCheckpointStore()
        )  # fmt: skip
        saver = CheckpointSaver(plain)
        state: dict[str, Any] = {"messages": [], "items": [], "document": {}}
        states = []
        for number, change in enumerate(changes, 1):
            change.apply(state)
            states.append(copy.deepcopy(state))
            put(saver, number, states[-1], parent=number - 1 or None)
        assert migrate(plain, encrypted).ok
        assert migrate(encrypted, back).ok
        for store in (encrypted, back):
            assert verify(store).ok
            reader = CheckpointSaver(store)
            for number, expected in enumerate(states, 1):
                found = values_of(reader, config_of("thread", "", checkpoint_id(number)))
                assert forms(found) == forms(expected)

    def test_damage_does_not_get_a_new_name(self, storage: Storage) -> None:
        expected = loaded(filled(storage.open()))
        for id, data in sorted(storage.chunks("thread-a").items())[:4]:
            storage.replace_chunk("thread-a", id, flipped(data, len(data) - 1))
        target = MemoryCheckpointStore(encryption=A)
        report = migrate(storage.open(), target)
        assert not report.ok
        assert {finding.execution_id for finding in report.findings} == {"thread-a"}
        got = loaded(target)
        check_all_from(expected, got)
        assert {key for key in expected if key[0] != "thread-a"} <= got.keys()


class TestChecks:
    @pytest.mark.parametrize("options", PROTECTED, ids=["encrypted", "signed"])
    def test_a_sound_store(self, storage: Storage, options: dict[str, Any]) -> None:
        report = verify(filled(storage.open(**options)))
        assert (report.ok, report.garbage, report.checkpoints) == (True, 0, 7)

    def test_a_damaged_chunk(self, storage: Storage, path: Path) -> None:
        store = filled(storage.open(**ENCRYPTED))
        expected = loaded(store)
        id, data = next(
            (id, data) for id, data in sorted(storage.chunks("thread-a").items())
            if len(data) < 400
        )  # fmt: skip
        storage.replace_chunk("thread-a", id, flipped(data, len(data) - 1))
        report = verify(storage.open(**ENCRYPTED))
        assert {f.execution_id for f in report.findings} == {"thread-a"}
        assert all(finding.repairable and id in finding.what for finding in report.findings)
        repaired = repair(storage.open(**ENCRYPTED), path)
        assert repaired.backup is not None
        assert CANARY.encode() not in path.read_bytes()
        after = storage.open(**ENCRYPTED)
        assert verify(after).ok
        check_all_from(expected, loaded(after))
        assert {key for key in expected if key[0] != "thread-a"} <= loaded(after).keys()

    @pytest.mark.parametrize(
        ("options", "others"),
        [
            (ENCRYPTED, {"encryption": B}),
            (ENCRYPTED, {}),
            (SIGNED, {"signing_key": B}),
            ({}, {"encryption": A}),
            ({}, {"signing_key": A}),
        ],
    )
    def test_nothing_is_repaired_away_for_want_of_a_key(
        self, storage: Storage, path: Path, options: dict[str, Any], others: dict[str, Any]
    ) -> None:
        expected = everything(filled(storage.open(**options)))
        wrong = storage.open(**others)
        report = verify(wrong)
        assert not report.ok
        assert not any(finding.repairable for finding in report.findings)
        assert repair(wrong, path).backup is None
        assert everything(storage.open(**options)) == expected
