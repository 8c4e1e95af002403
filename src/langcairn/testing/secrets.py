"""The contract of encrypted and of signed stores."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langcairn.backends.base import ChunkId, Commit, FindCheckpoints, FindWrites
from langcairn.checkpoint import Checkpoint
from langcairn.errors import CairnError, CorruptData, DecryptionFailed, ForgedData, InvalidInput
from langcairn.forking import fork_at
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.security.keys import KEY_BYTES
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import checkpoint_id, config_of, put
from langcairn.testing.fixtures import Calling, Fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.security.rotation import Rotation
    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage

CANARY = "KANARIENVOGEL"
_A, _B = b"a" * KEY_BYTES, b"b" * KEY_BYTES
_CONFIG = config_of("thread")


def _state() -> dict[str, Any]:
    return {
        "small": CANARY,
        "number": 7,
        "messages": [HumanMessage(f"{CANARY} {i} " * 40, id=f"m{i}") for i in range(40)],
        "document": {f"{CANARY} {i}": f"{CANARY} {i}" * 50 for i in range(40)},
    }


class SecretContract(Fixtures):
    """What a store with a key promises, on every backend."""

    @pytest.fixture
    def opened(self, storage: Storage, calling: Calling) -> Callable[..., Caller]:
        """Return what opens a saver with options of the store's."""
        return lambda **options: calling(CheckpointSaver(storage.open(**options)))

    def _fill(self, saver: Caller) -> None:
        put(saver, 1, _state(), who=CANARY, nr=1)
        writes = [("small", CANARY), ("messages", [AIMessage(CANARY * 20)])]
        saver.put_writes(config_of("thread", "", checkpoint_id(1)), writes, "t1")

    def _assert_filled(self, saver: Caller) -> None:
        found = saver.get_tuple(_CONFIG)
        assert found.checkpoint["channel_values"] == _state()
        assert found.metadata["who"] == CANARY
        assert [write[2] for write in found.pending_writes] == [CANARY, [AIMessage(CANARY * 20)]]

    # Encryption

    def test_what_is_encrypted_comes_back(self, opened: Callable[..., Caller]) -> None:
        self._fill(opened(encryption=_A))
        self._assert_filled(opened(encryption=_A))
        changed = _state()
        changed["messages"].append(HumanMessage("more " * 50, id="more"))
        saver = opened(encryption=_A)
        put(saver, 2, changed, parent=1)
        assert opened(encryption=_A).get_tuple(_CONFIG).checkpoint["channel_values"] == changed
        assert len(list(saver.list(_CONFIG, filter={"nr": 1}))) == 1
        saver.prune(["thread"])
        assert opened(encryption=_A).get_tuple(_CONFIG).checkpoint["channel_values"] == changed

    def test_nothing_that_was_said_is_readable(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        self._fill(opened(encryption=_A, encrypt_metadata=True))
        backend = storage.backend
        rows: Any = backend.execute(FindCheckpoints("thread"))
        writes: Any = backend.execute(FindWrites("thread"))
        everything = repr((rows, writes, storage.chunks("thread")))
        assert len(writes) == 2
        assert len(storage.chunks("thread")) > 80
        assert CANARY not in everything

    def test_equal_content_can_not_be_recognised(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        saver = opened(encryption=_A)
        for thread in ("thread", "other"):
            put(saver, 1, _state(), thread=thread)
        ids, others = storage.chunks("thread"), storage.chunks("other")
        assert len(ids) == len(others)
        assert not ids.keys() & others.keys()
        assert not set(ids.values()) & set(others.values())

    def test_metadata_that_stays_readable_can_be_searched(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        saver = opened(encryption=_A, readable_metadata={"nr"})
        for i in range(3):
            put(saver, i, {"a": i}, who=CANARY, nr=i)
        assert [t.metadata["nr"] for t in saver.list(_CONFIG, filter={"nr": 1})] == [1]
        assert [t.metadata["nr"] for t in saver.list(_CONFIG, filter={"who": CANARY})] == [2, 1, 0]
        found: Any = storage.backend.execute(FindCheckpoints("thread"))
        assert all(CANARY.encode() not in one.row.metadata for one in found)
        assert all(b'"nr"' in one.row.metadata for one in found)

    def test_a_wrong_key_and_no_key_are_refused(self, opened: Callable[..., Caller]) -> None:
        self._fill(opened(encryption=_A))
        with pytest.raises(DecryptionFailed, match="give the store the key"):
            opened(encryption=_B).get_tuple(_CONFIG)
        with pytest.raises(DecryptionFailed, match="encrypted"):
            opened().get_tuple(_CONFIG)
        self._assert_filled(opened(encryption=[_B, _A]))

    def test_nothing_is_changed_without_the_key(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        plain = storage.open()
        for options in ({"encryption": _A}, {"signing_key": _A}):
            with case(*options):
                self._fill(opened(**options))
                with pytest.raises(CorruptData):
                    plain.name_fork(checkpoint_id(1), "named")
                with pytest.raises(CorruptData):
                    plain.run(fork_at(plain.codec, "thread", checkpoint_id(1), None))
                with pytest.raises(CorruptData):
                    CheckpointSaver(plain).copy_thread("thread", "other")
                assert plain.executions() == ["thread"]
                self._assert_filled(opened(**options))
                plain.clear("thread")

    def test_plain_rows_and_chunks_are_refused(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        self._fill(opened())
        with pytest.raises(DecryptionFailed, match="not encrypted"):
            opened(encryption=_A).get_tuple(_CONFIG)
        opened().delete_thread("thread")
        self._fill(opened(encryption=_A))
        id = min(storage.chunks("thread"))
        storage.replace_chunk("thread", id, b"\x01\x00\xa1x")
        with pytest.raises(DecryptionFailed, match="not encrypted"):
            opened(encryption=_A).get_tuple(_CONFIG)

    def test_what_was_moved_is_refused(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        saver = opened(encryption=_A)
        self._fill(saver)
        chunks = storage.chunks("thread")
        one, two = sorted(chunks)[:2]
        storage.replace_chunk("thread", one, chunks[two])
        with pytest.raises(DecryptionFailed, match="moved"):
            opened(encryption=_A).get_tuple(_CONFIG)
        storage.replace_chunk("thread", one, chunks[one])
        self._assert_filled(opened(encryption=_A))
        # A whole row under another key, with all that it needs.
        (found,) = self._rows(storage)
        moved = found.row._replace(execution_id="thief")
        storage.backend.execute(Commit("thief", None, _pairs(chunks), [moved]))
        with pytest.raises(DecryptionFailed, match="moved"):
            opened(encryption=_A).get_tuple(config_of("thief"))
        renamed = found.row._replace(id=checkpoint_id(2))
        storage.backend.execute(Commit("thread", None, (), [renamed]))
        with pytest.raises(DecryptionFailed, match="moved"):
            opened(encryption=_A).get_tuple(_CONFIG)

    def test_changed_metadata_is_refused(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        self._fill(opened(encryption=_A))
        storage.replace_column(
            "thread", "", checkpoint_id(1), "metadata", b'{"who": "me", "nr": 1}'
        )
        with pytest.raises(DecryptionFailed, match="metadata"):
            opened(encryption=_A).get_tuple(_CONFIG)

    def test_copies_and_records_are_encrypted_for_their_place(
        self, opened: Callable[..., Caller], storage: Storage, calling: Calling
    ) -> None:
        saver = opened(encryption=_A)
        self._fill(saver)
        saver.copy_thread("thread", "copy")
        saver.delete_thread("thread")
        found = opened(encryption=_A).get_tuple(config_of("copy"))
        assert found.checkpoint["channel_values"] == _state()
        store = calling(storage.open(encryption=_A))
        store.save(Checkpoint(id="r", execution_id="run", state=_state()))
        assert calling(storage.open(encryption=_A)).load("r").state == _state()

    # Changing keys

    def test_keys_are_changed_while_the_store_is_in_use(
        self, storage: Storage, opened: Callable[..., Caller], calling: Calling
    ) -> None:
        saver = opened(encryption=_A)
        self._fill(saver)
        put(saver, 1, {"a": "other " * 100}, thread="other")
        both = calling(storage.open(encryption=[_B, _A]))
        writer = calling(CheckpointSaver(storage.open(encryption=[_B, _A])))
        self._assert_filled(writer)
        seen: list[Rotation] = []

        def progress(rotation: Rotation) -> None:
            seen.append(rotation)

        rewritten = both.rotate_keys(progress)
        assert rewritten == seen[-1].rewritten > 80
        assert [one.execution_id for one in seen] == ["other", "thread"]
        # It goes on with what it remembers from before, and with chunks under their old names.
        changed = _state()
        changed["messages"].append(HumanMessage("more " * 50, id="more"))
        put(writer, 2, changed, parent=1)
        assert opened(encryption=_B).get_tuple(_CONFIG).checkpoint["channel_values"] == changed
        assert both.rotate_keys() == 0
        with pytest.raises(DecryptionFailed):
            opened(encryption=_A).get_tuple(_CONFIG)

    def test_a_change_of_keys_that_fails_goes_on_where_it_was(
        self, storage: Storage, opened: Callable[..., Caller], calling: Calling
    ) -> None:
        self._fill(opened(encryption=_A))
        put(opened(encryption=_A), 1, {"a": "other " * 100}, thread="another")

        class Enough(Exception):
            pass

        def stop(_: Rotation) -> None:
            raise Enough

        store = calling(storage.open(encryption=[_B, _A]))
        with pytest.raises(Enough):
            store.rotate_keys(stop)
        self._assert_filled(opened(encryption=[_A, _B]))
        left = store.rotate_keys()
        assert left > 80
        self._assert_filled(opened(encryption=_B))

    def test_a_running_process_learns_of_a_new_key(self, opened: Callable[..., Caller]) -> None:
        keys = [_A]
        saver = opened(encryption=lambda: list(keys))
        self._fill(saver)
        keys.insert(0, _B)
        put(opened(encryption=_B), 1, {"a": 1}, thread="new")
        found = saver.get_tuple(config_of("new"))
        assert found.checkpoint["channel_values"] == {"a": 1}
        self._assert_filled(saver)

    # Signatures

    def test_what_is_signed_comes_back_and_stays_readable(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        self._fill(opened(signing_key=_A))
        self._assert_filled(opened(signing_key=_A))
        self._assert_filled(opened(signing_key=[_B, _A]))
        (found,) = self._rows(storage)
        assert CANARY.encode() in found.row.state

    def test_only_who_has_the_key_makes_states(self, opened: Callable[..., Caller]) -> None:
        self._fill(opened())  # unsigned
        with pytest.raises(ForgedData, match="not signed"):
            opened(signing_key=_A).get_tuple(_CONFIG)
        opened().delete_thread("thread")
        self._fill(opened(signing_key=_B))
        with pytest.raises(ForgedData, match="another key"):
            opened(signing_key=_A).get_tuple(_CONFIG)

    @pytest.mark.parametrize("column", ["state", "metadata"])
    def test_what_was_changed_is_refused(
        self, storage: Storage, opened: Callable[..., Caller], column: str
    ) -> None:
        self._fill(opened(signing_key=_A))
        storage.replace_column("thread", "", checkpoint_id(1), column, b'{"small": "mine"}')
        with pytest.raises(ForgedData, match="changed"):
            opened(signing_key=_A).get_tuple(_CONFIG)

    def test_what_was_signed_for_another_place_is_refused(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        self._fill(opened(signing_key=_A))
        (found,) = self._rows(storage)
        chunks = _pairs(storage.chunks("thread"))
        moved = [found.row._replace(execution_id="thief")]
        storage.backend.execute(Commit("thief", None, chunks, moved))
        with pytest.raises(ForgedData, match="moved"):
            opened(signing_key=_A).get_tuple(config_of("thief"))
        write = found.writes[0]._replace(task_id="t2")
        storage.backend.execute(Commit("thread", None, (), (), [write]))
        with pytest.raises(ForgedData, match="pending write"):
            opened(signing_key=_A).get_tuple(_CONFIG)

    def test_chunks_can_not_be_exchanged(
        self, storage: Storage, opened: Callable[..., Caller]
    ) -> None:
        self._fill(opened(signing_key=_A))
        chunks = storage.chunks("thread")
        one, two = sorted(chunks)[:2]
        storage.replace_chunk("thread", one, chunks[two])
        with pytest.raises(CorruptData):
            opened(signing_key=_A).get_tuple(_CONFIG)

    # Bad input

    def test_bad_keys_are_refused(self, opened: Callable[..., Caller]) -> None:
        bad: list[tuple[dict[str, Any], str]] = [
            ({"encryption": b"short"}, "32 bytes"),
            ({"encryption": []}, "no key"),
            ({"encryption": "secret"}, "env:NAME"),
            ({"encryption": "env:LANGCAIRN_NO_SUCH_VARIABLE"}, "LANGCAIRN_NO_SUCH_VARIABLE"),
            ({"encryption": "file:/no/such/file"}, "/no/such/file"),
            ({"encryption": 7}, "32 bytes"),
            ({"encryption": _A, "signing_key": _B}, "signing_key"),
            ({"encrypt_metadata": True}, "encryption"),
            ({"encryption": _A, "readable_metadata": "step"}, "string"),
            ({"signing_key": b"short"}, "32 bytes"),
        ]
        for options, says in bad:
            with case(options), pytest.raises(CairnError, match=says):
                opened(**options)

    def test_a_plain_store_has_no_keys_to_change(self, storage: Storage, calling: Calling) -> None:
        with pytest.raises(InvalidInput, match="isn't encrypted"):
            calling(storage.open()).rotate_keys()

    def _rows(self, storage: Storage) -> Any:
        return storage.backend.execute(FindCheckpoints("thread"))


def _pairs(chunks: dict[str, bytes]) -> list[tuple[ChunkId, bytes]]:
    return [(ChunkId(id), data) for id, data in chunks.items()]
