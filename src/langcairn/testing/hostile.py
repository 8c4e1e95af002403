"""Damaged and forged data: an error that says so, or the right value, and nothing runs."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import json
import pickle
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ormsgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from langcairn.backends.base import Backend
from langcairn.codec.chunks import ChunkFormat, Kind, Payload, chunk_id
from langcairn.errors import CairnError, CorruptData, UnsafeType
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import checkpoint_id, config_of, put, values_of
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.models import Trap

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.backends.base import Request
    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage

_ID = checkpoint_id(1)
_CONFIG = config_of("thread")
_MODULE = Trap.__module__


def _ext(code: int, *parts: object) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(list(parts))))


def _custom(tag: str, data: bytes) -> bytes:
    return ormsgpack.packb([tag, data])


class _Limited(Backend):
    """A backend that answers only so many requests: forged data must not keep a loop going."""

    def __init__(self, backend: Backend, limit: int = 5_000) -> None:
        self._backend = backend
        self._left = limit

    def _count(self) -> None:
        self._left -= 1
        assert self._left > 0, "it asks the backend for ever"

    def execute(self, request: Request) -> object:
        self._count()
        return self._backend.execute(request)

    async def aexecute(self, request: Request) -> object:
        self._count()
        return await self._backend.aexecute(request)

    def close(self) -> None:
        self._backend.close()

    async def aclose(self) -> None:
        await self._backend.aclose()


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Trap.method, ("unpickled",)


_CONSTRUCTOR = {"lc": 2, "type": "constructor", "id": [*_MODULE.split("."), "Trap"], "args": [1]}
# What an attacker would store: each asks for something to be called.
_CALLS: dict[str, tuple[Kind, bytes]] = {
    "constructor with one argument": (Kind.MSGPACK, _ext(0, _MODULE, "Trap", 1)),
    "constructor with arguments": (Kind.MSGPACK, _ext(1, _MODULE, "Trap", [1])),
    "constructor with names": (Kind.MSGPACK, _ext(2, _MODULE, "Trap", {"a": 1})),
    "method": (Kind.MSGPACK, _ext(3, _MODULE, "Trap", 1, "method")),
    "method of a safe type": (Kind.MSGPACK, _ext(3, "pathlib", "Path", "x", "unlink")),
    "v1 model": (Kind.MSGPACK, _ext(4, _MODULE, "Trap", {"a": 1}, "construct")),
    "v2 model": (Kind.MSGPACK, _ext(5, _MODULE, "Trap", {"a": 1}, "method")),
    "function": (Kind.MSGPACK, _ext(0, _MODULE, "trap", 1)),
    "function with arguments": (Kind.MSGPACK, _ext(1, _MODULE, "trap", [1])),
    "system": (Kind.MSGPACK, _ext(0, "os", "system", "touch /tmp/hostile")),
    "eval": (Kind.MSGPACK, _ext(0, "builtins", "eval", f"__import__('{_MODULE}')")),
    "alias": (Kind.MSGPACK, _ext(1, "subprocess", "Popen", [["true"]])),
    "dotted name": (Kind.MSGPACK, _ext(0, _MODULE, "Trap.method", 1)),
    "module that isn't loaded": (Kind.MSGPACK, _ext(0, "antigravity", "fly", 1)),
    "in a list": (Kind.MSGPACK, b"\x92\x01" + _ext(0, _MODULE, "Trap", 1)),
    "in a safe type": (
        Kind.MSGPACK,
        ormsgpack.packb(
            ormsgpack.Ext(
                0, b"\x93" + ormsgpack.packb("builtins") + ormsgpack.packb("set") + b"\x91"
                + _ext(0, _MODULE, "Trap", 1),
            )
        ),
    ),
    "pickle": (Kind.CUSTOM, _custom("pickle", pickle.dumps(_Bomb()))),
    "json": (Kind.CUSTOM, _custom("json", json.dumps(_CONSTRUCTOR).encode())),
    "custom msgpack": (Kind.CUSTOM, _custom("msgpack", _ext(0, _MODULE, "Trap", 1))),
    "message with an ext": (
        Kind.MESSAGE,
        b"\x93\xacHumanMessage\x81\xa7content" + _ext(0, _MODULE, "Trap", 1) + b"\xc0",
    ),
    "message of another class": (Kind.MESSAGE, ormsgpack.packb(["Trap", {"content": 1}, None])),
    "message with missing fields": (Kind.MESSAGE, ormsgpack.packb(["ToolMessage", {}, None])),
    "message that is none": (Kind.MESSAGE, ormsgpack.packb([1, 2])),
}  # fmt: skip

_HEADER = bytes((Kind.MSGPACK, 1))
_ZSTD = b"\x28\xb5\x2f\xfd"
# Frames that claim what no chunk has.
_FRAMES = {
    "2**40 bytes": _ZSTD + b"\xe0" + (2**40).to_bytes(8, "little") + b"\x01\x00\x00",
    "2**63 bytes": _ZSTD + b"\xe0" + (2**63).to_bytes(8, "little") + b"\x01\x00\x00",
    "1 TiB in an RLE block": _ZSTD + b"\xe0" + (2**40).to_bytes(8, "little") + b"\xfb\xff\xff\x41",
    "a size that isn't said": _ZSTD + b"\x00\x58" + b"\xfb\xff\xff\x41" * 100,
    "nothing": b"",
    "no frame": b"not zstd at all",
    "a cut frame": _ZSTD,
}

_NO_OBJECTS = (
    b"", b"{", b"[]", b"1", b'"x"', b"null", b'{"a": NaN}', b"\xff\xfe", b"[" * 5000,
)  # fmt: skip

_FORMAT = ChunkFormat()
_CAIRN = "$cairn"
_NAMES = st.sampled_from(["c", "n", "m", "u", "s", "l", "d", "o", "x", ""])


def _nodes(id: str, page: str) -> st.SearchStrategy[Any]:
    """Return JSON that is mostly almost a node."""
    ids = st.sampled_from([id, page, "A" * 22, id + page, page * 3, id[:-1], "", id * 17])
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(-9, 2**70), st.floats(allow_nan=False,
            allow_infinity=False), st.text(max_size=5), ids,
        st.binary(max_size=12).map(lambda data: b64encode(data).decode()),
        st.sampled_from(list(_CALLS.values())).map(lambda call: b64encode(call[1]).decode()),
    )  # fmt: skip

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        marker = st.builds(lambda name, rest: [name, *rest], _NAMES, st.lists(inner, max_size=4))
        return st.one_of(
            st.lists(inner, max_size=3),
            st.builds(lambda value: {_CAIRN: value}, marker),
            st.builds(lambda value, rest: {**rest, _CAIRN: value}, marker | inner,
                      st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
            st.dictionaries(st.text(max_size=3), inner, max_size=3),
        )  # fmt: skip

    return st.recursive(leaves, grow, max_leaves=12)


class SaverUnderAttack(Fixtures):
    """Tests on data that was damaged or forged below the store."""

    @pytest.fixture(autouse=True)
    def no_trap_springs(self) -> Any:
        """Check after each test that nothing forged was called."""
        Trap.sprung.clear()
        yield
        assert Trap.sprung == []

    @pytest.fixture
    def another(self, storage: Storage, calling: Calling) -> Callable[[], Caller]:
        """Return what makes savers that can't ask their backend for ever."""

        def another() -> Caller:
            store = storage.open()
            store.backend = _Limited(store.backend)
            return calling(CheckpointSaver(store))

        return another

    @pytest.fixture
    def plant(self, saver: Caller, storage: Storage) -> Callable[[Any], None]:
        """Return what replaces a channel of the only checkpoint with a node."""
        put(saver, 1, {"a": "x" * 300})

        def plant(node: Any) -> None:
            state = json.dumps({"a": node}).encode()
            storage.forge_column("thread", "", _ID, "state", state)

        return plant

    # Damage

    @pytest.mark.parametrize(
        "value",
        [
            bytes(range(101)),
            "x" * 101,
            HumanMessage("hi", id="1"),
            [f"{i:>101}" for i in range(17)],
        ],
        ids=["raw", "compressed", "message", "pages"],
    )
    def test_a_flipped_byte_is_found(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage, value: object
    ) -> None:
        put(saver, 1, {"a": value})
        chunks = storage.chunks("thread")
        assert chunks
        reader = another()
        caches = reader.target.store.codec.caches
        found = 0
        for id, data in sorted(chunks.items())[:3]:
            for position in range(len(data)):
                for flip in (0x01, 0x80):
                    damaged = bytearray(data)
                    damaged[position] ^= flip
                    storage.replace_chunk("thread", id, bytes(damaged))
                    caches.drop("thread")
                    try:
                        # A bit of a compressed frame that means nothing may change.
                        assert values_of(reader, _CONFIG) == {"a": value}
                    except CorruptData:
                        found += 1
            storage.replace_chunk("thread", id, data)
        assert found > 100
        caches.drop("thread")
        assert values_of(reader, _CONFIG) == {"a": value}

    def test_cut_and_extended_chunks_are_found(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        values = {"a": bytes(range(150)), "b": "x" * 5000}
        put(saver, 1, values)
        for id, data in storage.chunks("thread").items():
            for damaged in (*(data[:n] for n in range(0, len(data), 7)), data + b"\0", data * 2):
                storage.replace_chunk("thread", id, damaged)
                with pytest.raises(CorruptData) if damaged in data else suppress(CorruptData):
                    # What follows a whole compressed frame changes nothing.
                    assert values_of(another(), _CONFIG) == values
            storage.replace_chunk("thread", id, data)
        assert values_of(another(), _CONFIG) == values

    def test_swapped_chunks_are_found(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        put(saver, 1, {"a": "x" * 300, "b": "y" * 300, "c": [f"{i:>120}" for i in range(40)]})
        chunks = storage.chunks("thread")
        for one, other in zip(chunks, list(chunks)[1:], strict=False):
            storage.replace_chunk("thread", one, chunks[other])
            storage.replace_chunk("thread", other, chunks[one])
            with pytest.raises(CorruptData):
                another().get_tuple(_CONFIG)
            with pytest.raises(CorruptData):
                another().target.store.list("thread")
            storage.replace_chunk("thread", one, chunks[one])
            storage.replace_chunk("thread", other, chunks[other])

    def test_a_missing_chunk_is_found(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        put(saver, 1, {"a": "x" * 300, "c": [f"{i:>120}" for i in range(40)]})
        put(saver, 2, {"b": 1}, thread="intact")
        for id, data in storage.chunks("thread").items():
            storage.drop_chunk("thread", id)
            with pytest.raises(CorruptData, match="thread"):
                another().get_tuple(_CONFIG)
            with pytest.raises(CorruptData):
                list(another().list(_CONFIG))
            with pytest.raises(CorruptData):
                another().copy_thread("thread", "copy")
            assert another().get_tuple(config_of("copy")) is None
            storage.replace_chunk("thread", id, data)
        assert values_of(another(), config_of("intact")) == {"b": 1}
        assert values_of(another(), _CONFIG)["a"] == "x" * 300

    def test_damage_of_one_checkpoint_leaves_the_others(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        put(saver, 1, {"a": "x" * 300})
        (id,) = storage.chunks("thread")
        put(saver, 2, {"a": "y" * 300}, parent=1)
        storage.drop_chunk("thread", id)
        assert values_of(another(), _CONFIG) == {"a": "y" * 300}
        assert len(list(another().list(_CONFIG, limit=1))) == 1
        assert another().target.store.delete(_ID, execution_id="thread")
        assert len(list(another().list(_CONFIG))) == 1

    def test_forged_compression_headers_are_refused(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage
    ) -> None:
        put(saver, 1, {"a": "x" * 300})
        (id,) = storage.chunks("thread")
        for name, frame in _FRAMES.items():
            storage.replace_chunk("thread", id, _HEADER + frame)
            with case(name), pytest.raises(CorruptData):
                another().get_tuple(_CONFIG)

    def test_chunks_of_another_execution_are_out_of_reach(
        self,
        plant: Callable[[Any], None],
        saver: Caller,
        another: Callable[[], Caller],
        storage: Storage,
    ) -> None:
        put(saver, 1, {"secret": "s" * 300}, thread="other")
        (secret,) = storage.chunks("other")
        plant({_CAIRN: ["c", secret]})
        assert values_of(another(), config_of("other")) == {"secret": "s" * 300}
        warm = another()
        values_of(warm, config_of("other"))
        for reader in (warm, another()):
            with pytest.raises(CorruptData):
                reader.get_tuple(_CONFIG)

    # Forgery

    def test_forged_chunks_run_nothing(
        self, plant: Callable[[Any], None], another: Callable[[], Caller], storage: Storage
    ) -> None:
        reader, loader = another(), another()
        for name, call in _CALLS.items():
            payload = Payload(*call)
            id = chunk_id(payload)
            storage.replace_chunk("thread", id, _FORMAT.seal(payload))
            for tag, inner in (("c", id), ("l", id), ("s", {_CAIRN: ["c", id]})):
                plant({_CAIRN: [tag, inner]})
                _forget(reader, loader)
                with case(name, tag):
                    with pytest.raises(CorruptData):
                        reader.get_tuple(_CONFIG)
                    with pytest.raises(CorruptData):
                        loader.target.store.load(_ID)
                    assert Trap.sprung == []

    def test_forged_small_values_run_nothing(
        self, plant: Callable[[Any], None], another: Callable[[], Caller], storage: Storage
    ) -> None:
        reader = another()
        for name, (kind, data) in _CALLS.items():
            if kind is Kind.MESSAGE and name != "message with an ext":
                continue  # plain lists, where nothing takes them for a message
            node = {_CAIRN: ["u" if kind is Kind.CUSTOM else "m", b64encode(data).decode()]}
            with case(name):
                plant(node)
                _forget(reader)
                with pytest.raises(CorruptData):
                    reader.get_tuple(_CONFIG)
                plant(1)
                for column in ("metadata", "graph"):
                    _forget(reader)
                    assert values_of(reader, _CONFIG) == {"a": 1}
                    forged = json.dumps({"x": [node]}).encode()
                    storage.forge_column("thread", "", _ID, column, forged)
                    _forget(reader)
                    with pytest.raises(CorruptData):
                        reader.get_tuple(_CONFIG)
                    storage.forge_column("thread", "", _ID, column, b'{"channel_versions": {}}')
                assert Trap.sprung == []

    def test_a_pickle_is_named_unsafe(
        self, plant: Callable[[Any], None], another: Callable[[], Caller]
    ) -> None:
        data = b64encode(_CALLS["pickle"][1]).decode()
        plant({_CAIRN: ["u", data]})
        with pytest.raises(UnsafeType, match="pickle"):
            another().get_tuple(_CONFIG)

    def test_pages_and_values_cannot_stand_in_for_each_other(
        self, plant: Callable[[Any], None], another: Callable[[], Caller], storage: Storage
    ) -> None:
        pages = {kind: Payload(kind, b'["a"]') for kind in (Kind.PAGE, Kind.MSGPACK)}
        ids = {kind: chunk_id(payload) for kind, payload in pages.items()}
        assert ids[Kind.PAGE] != ids[Kind.MSGPACK]
        for kind, payload in pages.items():
            storage.replace_chunk("thread", ids[kind], _FORMAT.seal(payload))
        plant({_CAIRN: ["n", ids[Kind.PAGE]]})
        assert values_of(another(), _CONFIG) == {"a": ["a"]}
        for tag, kind in (("c", Kind.PAGE), ("n", Kind.MSGPACK)):
            plant({_CAIRN: [tag, ids[kind]]})
            with pytest.raises(CorruptData):
                another().get_tuple(_CONFIG)

    @pytest.mark.parametrize("column", ["state", "metadata", "graph"])
    def test_columns_that_hold_no_object(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage, column: str
    ) -> None:
        put(saver, 1, {"a": 1}, thread="intact")
        reader, remover, forged = another(), another(), []
        for number, data in enumerate(_NO_OBJECTS):
            config = config_of(number)
            put(saver, 1, {"a": 1}, thread=number)
            try:
                storage.forge_column(f"{number}", "", _ID, column, data)
            except ValueError:
                continue  # the system keeps such bytes out by itself
            forged.append(config)
            with case(data):
                try:
                    reader.get_tuple(config)
                    assert column == "state"
                    json.loads(data)  # plain JSON of any kind may be a state saved by hand
                except CorruptData:
                    pass
                with pytest.raises(CorruptData) if column != "state" else suppress(CorruptData):
                    list(reader.list(config, filter={"step": 1}))
        assert values_of(another(), config_of("intact")) == {"a": 1}
        for config in forged:
            with case(config):
                remover.delete_thread(config["configurable"]["thread_id"])
                assert another().get_tuple(config) is None
        assert values_of(another(), config_of("intact")) == {"a": 1}

    def test_deep_and_wide_nodes(
        self, plant: Callable[[Any], None], another: Callable[[], Caller], storage: Storage
    ) -> None:
        for levels in (100, 400, 5000):
            deep = '{"$cairn": ["s", [' * levels + "1" + "]]}" * levels
            storage.forge_column("thread", "", _ID, "state", f'{{"a": {deep}}}'.encode())
            _load_or_refuse(another())
        # A page that names another sixteen times, on many levels: small to store, huge to expand.
        page = Payload(Kind.PAGE, b'["x"]')
        storage.replace_chunk("thread", chunk_id(page), _FORMAT.seal(page))
        for _ in range(40):
            inner = {_CAIRN: ["n", chunk_id(page)]}
            page = Payload(Kind.PAGE, json.dumps([inner]).encode())
            storage.replace_chunk("thread", chunk_id(page), _FORMAT.seal(page))
        plant({_CAIRN: ["n", chunk_id(page)]})
        _load_or_refuse(another())

    def test_malformed_nodes_give_a_value_or_an_error_of_ours(
        self, saver: Caller, storage: Storage
    ) -> None:
        put(saver, 1, {"a": "x" * 300})
        payload = Payload(Kind.PAGE, b'["a", {"$cairn": ["m", "AQ=="]}]')
        storage.replace_chunk("thread", chunk_id(payload), _FORMAT.seal(payload))
        page = chunk_id(payload)
        id = next(id for id in storage.chunks("thread") if id != page)
        store = storage.open()
        backend = store.backend
        target = CheckpointSaver(store)

        @given(node=_nodes(id, page), inside=st.booleans())
        @example(node={_CAIRN: ["l", id * 16, id]}, inside=True)
        @example(node={_CAIRN: ["d", [["a"], id], page]}, inside=True)
        @example(node={_CAIRN: ["o", "a", "a"], "a": 1, "b": 2}, inside=True)
        @example(node={_CAIRN: ["o", ["a"]], "a": 1}, inside=True)
        @example(node={_CAIRN: ["l"]}, inside=False)
        @example(node={_CAIRN: ["d", [[[]], [1]]]}, inside=True)
        @example(node={_CAIRN: ["c", {}]}, inside=True)
        def check(node: Any, *, inside: bool) -> None:
            state = json.dumps({"a": node} if inside else node).encode()
            try:
                storage.forge_column("thread", "", _ID, "state", state)
            except ValueError:
                return  # the database refuses it (jsonb has no NUL)
            store.backend = _Limited(backend, 500)
            store.codec.caches.drop("thread")
            for use in (
                lambda: target.get_tuple(_CONFIG),
                lambda: target.store.list("thread"),
                lambda: target.get_delta_channel_history(config=_CONFIG, channels=["a"]),
                lambda: target.copy_thread("thread", "copy"),
            ):
                with suppress(CorruptData):
                    use()
            target.delete_thread("copy")

        check()


def _forget(*readers: Caller) -> None:
    """Empty the caches of readers, as if they had just been opened."""
    for reader in readers:
        reader.target.store.codec.caches.drop("thread")


def _load_or_refuse(reader: Caller) -> None:
    try:
        reader.get_tuple(_CONFIG)
    except CairnError as error:
        assert isinstance(error, CorruptData)  # noqa: PT017 -- a value would do as well
