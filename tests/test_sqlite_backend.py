"""The SQLite backend: each request, and the same answers as in memory."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.sqlite_rows import NOON, chunk, fetch, find, ids, put, row, write

from langcairn.backends.base import (
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Position,
    Remove,
    Sweep,
    WriteRow,
)
from langcairn.backends.memory import MemoryBackend
from langcairn.backends.sqlite import SqliteBackend
from langcairn.errors import (
    InvalidInput,
    StaleEpoch,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from langcairn.backends.base import Backend, Request

ODD = [
    "",
    " ",
    'a"b',
    "a'b",
    "a;--",
    "a\0b",
    "a\nb",
    "%",
    "_",
    "*",
    "../../x",
    "ä",
    "😀",
    "x" * 9999,
]
"""Texts that a careless query would trip over."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(path)) as backend:
        yield backend


class TestCommit:
    def test_what_was_committed_is_found(self, backend: SqliteBackend) -> None:
        stored = row("1", parent_id="0", state='{"x":"ä😀"}'.encode(), version=7)
        epoch = backend.execute(Commit("e", None, [chunk("c")], [stored], [write("1", "t", 0)]))
        assert find(backend) == [FoundCheckpoint(stored, [write("1", "t", 0)], cast("int", epoch))]
        assert fetch(backend, "c", "missing") == {"c": b"ccc"}

    def test_all_or_nothing(self, backend: SqliteBackend) -> None:
        bad = row("2", version=2**63)
        with pytest.raises(InvalidInput):
            backend.execute(Commit("e", None, [chunk("c")], [row("1"), bad]))
        assert not find(backend)
        assert not fetch(backend, "c")
        assert not backend.execute(FindExecutions())

    def test_a_key_is_replaced(self, backend: SqliteBackend) -> None:
        put(backend, row("1"))
        changed = row("1", parent_id="p", node_name="m", state=b"{}", metadata=b'{"a":1}')
        changed = changed._replace(timestamp=NOON + timedelta(1), version=2, graph=b"{}")
        put(backend, changed)
        assert [found.row for found in find(backend)] == [changed]

    def test_an_execution_keeps_its_epoch(self, backend: SqliteBackend) -> None:
        epoch = put(backend, row("1"))
        assert put(backend, row("2"), epoch=epoch) == epoch == put(backend, row("3"))
        assert put(backend, row("1", "other")) != epoch

    def test_a_stale_epoch_is_refused_whole(self, backend: SqliteBackend) -> None:
        with pytest.raises(StaleEpoch):
            put(backend, row("1"), epoch=1)
        old = put(backend, row("1"))
        new = backend.execute(Remove("e", []))
        with pytest.raises(StaleEpoch):
            backend.execute(Commit("e", old, [chunk("c")], [row("2")], [write("2", "t", 0)]))
        assert ids(find(backend)) == ["1"]
        assert not fetch(backend, "c")
        assert not backend.execute(FindWrites("e"))
        assert put(backend, row("2"), epoch=cast("int", new)) == new

    def test_a_write_stays_unless_its_index_is_negative(self, backend: SqliteBackend) -> None:
        for value in (b'"first"', b'"second"'):
            writes = [write("1", "t", 0, value), write("1", "t", -1, value)]
            backend.execute(Commit("e", None, writes=writes))
        found = cast("list[WriteRow]", backend.execute(FindWrites("e")))
        assert {w.idx: w.value for w in found} == {0: b'"first"', -1: b'"second"'}

    def test_a_chunk_keeps_its_data_but_not_its_epoch(self, backend: SqliteBackend) -> None:
        backend.execute(Commit("e", None, [chunk("c"), chunk("d")]))
        epoch = cast("int", backend.execute(Remove("e", [])))
        backend.execute(Commit("e", None, [(ChunkId("c"), b"other")]))
        assert fetch(backend, "c") == {"c": b"ccc"}
        assert backend.execute(FindOldChunks("e", epoch)) == ["d"]

    @pytest.mark.parametrize("text", ODD)
    def test_odd_texts_are_kept(self, backend: SqliteBackend, text: str) -> None:
        stored = row(text, text, text, parent_id=text, node_name=text)
        written = WriteRow(text, text, text, text, 0, text, text, b"1")
        backend.execute(Commit(text, None, [chunk("c")], [stored], [written]))
        put(backend, row("1"))
        assert [(f.row, f.writes) for f in find(backend, text)] == [(stored, [written])]
        assert backend.execute(FetchChunks(text, [ChunkId("c")])) == {"c": b"ccc"}
        assert backend.execute(Remove(text, [(text, text)]))
        assert not find(backend, text)
        assert backend.execute(Clear(text)) is True

    @pytest.mark.parametrize(
        "fields",
        [{"node_name": "\ud800"}, {"version": 2**64}, {"node_name": None}, {"node_name": object()}],
    )
    def test_a_value_that_cannot_be_stored(
        self, backend: SqliteBackend, fields: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInput) as caught:
            put(backend, row("1", **fields))
        assert caught.value.__cause__ is not None
        assert not find(backend)

    def test_times_are_kept_to_the_microsecond_in_utc(self, backend: SqliteBackend) -> None:
        times = {
            "1": NOON,
            "2": NOON.replace(microsecond=0),
            "3": NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
            "4": datetime(1, 1, 1, tzinfo=UTC),
            "5": datetime.max.replace(tzinfo=UTC),
        }
        put(backend, *(row(id, timestamp=time) for id, time in times.items()))
        found = {f.row.id: f.row.timestamp for f in find(backend)}
        assert found == times
        assert {time.tzinfo for time in found.values()} == {UTC}


class TestFind:
    @pytest.fixture
    def filled(self, backend: SqliteBackend) -> SqliteBackend:
        for execution_id in ("e", "f"):
            rows = [row(str(n), execution_id, ns) for ns in ("", "sub") for n in range(1, 6)]
            put(backend, *random.Random(1).sample(rows, len(rows)))
        return backend

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({"execution_id": "e", "namespace": ""}, "54321"),
            ({"execution_id": "e", "namespace": "", "limit": 1}, "5"),
            ({"execution_id": "e", "limit": 3}, "554"),
            ({"execution_id": "e", "namespace": "", "before_id": "3"}, "21"),
            ({"execution_id": "e", "namespace": "", "id": "3"}, "3"),
            ({"id": "3"}, "3333"),
            ({"before_id": "2"}, "1111"),
            ({"namespace": "sub", "limit": 3}, "554"),
            ({"execution_id": "e", "after": Position("4", "e", "")}, "332211"),
            ({"execution_id": "e", "after": Position("4", "e", "sub"), "limit": 2}, "43"),
            ({"after": Position("2", "e", "sub")}, "21111"),
            ({"execution_id": "e", "limit": 0}, ""),
            ({"execution_id": "missing"}, ""),
            ({"execution_id": "e", "namespace": "missing", "limit": 1}, ""),
            ({"execution_id": ""}, ""),
            ({}, "55554444333322221111"),
        ],
    )
    def test_conditions(
        self, filled: SqliteBackend, conditions: dict[str, Any], expected: str
    ) -> None:
        found = find(filled, **conditions)
        assert "".join(ids(found)) == expected
        keys = [(f.row.id, f.row.execution_id, f.row.namespace) for f in found]
        assert keys == sorted(keys, reverse=True)

    def test_reading_on_reaches_each_checkpoint_once(self, filled: SqliteBackend) -> None:
        pages, after = [], None
        while page := find(filled, after=after, limit=3):
            pages += [found.row for found in page]
            after = Position(page[-1].row.id, page[-1].row.execution_id, page[-1].row.namespace)
        assert pages == [found.row for found in find(filled)]

    def test_by_time(self, backend: SqliteBackend) -> None:
        put(backend, *(row(str(n), timestamp=NOON + timedelta(microseconds=n)) for n in range(5)))
        since, until = NOON + timedelta(microseconds=1), NOON + timedelta(microseconds=3)
        assert ids(find(backend, since=since)) == ["4", "3", "2", "1"]
        assert ids(find(backend, until=until, execution_id="e")) == ["2", "1", "0"]
        assert ids(find(backend, since=since, until=until)) == ["2", "1"]
        assert not find(backend, since=since, until=since)

    def test_writes_come_in_langgraphs_order(self, backend: SqliteBackend) -> None:
        ordered = [
            write("1", "b", 0, task_path="a"),
            write("1", "a", -1, task_path="b"),
            write("1", "a", 2, task_path="b"),
            write("1", "a", 10, task_path="b"),
        ]
        others = [write("2", "a", 0), write("1", "a", 0, namespace="sub")]
        backend.execute(Commit("e", None, (), [row("1")], [*reversed(ordered), *others]))
        assert [found.writes for found in find(backend)] == [ordered]
        assert not find(backend, with_writes=False)[0].writes
        found = cast("list[WriteRow]", backend.execute(FindWrites("e")))
        assert sorted(found) == sorted([*ordered, *others])
        assert backend.execute(FindWrites("f")) == []

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"source": "loop"}, "1"),
            ({"step": 3}, "1"),
            ({"source": "loop", "step": 4}, ""),
            ({"flag": True}, "1"),
            ({"flag": False}, ""),
            ({"a.b": "dots"}, "1"),
            ({'a"b': "quote"}, "1"),
            ({"$.step": 3}, ""),
            ({"step": "3"}, ""),
            ({"ä😀": "ü"}, "1"),
            ({"source": "' OR 1=1 --"}, ""),
            ({"list": "loop"}, ""),
        ],
    )
    def test_by_metadata(
        self, backend: SqliteBackend, wanted: Mapping[str, str | int | bool], expected: str
    ) -> None:
        metadata = (
            '{"source":"loop","step":3,"flag":true,"a.b":"dots","a\\"b":"quote","ä😀":"ü",'
            '"nested":{"nested":"in"},"list":["loop"]}'
        )
        put(backend, row("1", metadata=metadata.encode()), row("2"))
        assert "".join(ids(find(backend, metadata=wanted))) == expected

    @pytest.mark.parametrize(
        ("metadata", "wanted"),
        [
            (rb'{"k":"a\u0000b"}', {"k": "a\0b"}),
            (rb'{"a\u0000b":1}', {"a\0b": 1}),
            (b'{"k":100000000000000000000}', {"k": 10**20}),
            (b'{"k":1.0}', {"k": 1}),
            (b'{"k":1}', {"k": True}),
            (b'{"k":{"$cairn":["m","an enum, say"]}}', {"k": 1}),
            (b"this is no JSON", {"k": 1}),
            (b"[]", {"k": 1}),
            (b"null", {"k": 1}),
        ],
    )
    def test_metadata_that_may_match_is_never_left_out(
        self, backend: SqliteBackend, metadata: bytes, wanted: Mapping[str, str | int | bool]
    ) -> None:
        put(backend, row("1", metadata=metadata))
        assert ids(find(backend, metadata=wanted)) == ["1"]

    def test_thousands_of_chunks_at_once(self, backend: SqliteBackend) -> None:
        chunks = dict(chunk(f"{n:022}") for n in range(5000))
        backend.execute(Commit("e", None, list(chunks.items())))
        assert fetch(backend, *chunks, "missing") == chunks
        assert fetch(backend) == {}
        assert backend.execute(FetchChunks("f", list(chunks))) == {}

    def test_executions(self, backend: SqliteBackend) -> None:
        assert backend.execute(FindExecutions()) == []
        for execution_id in ("b", "c", "a"):
            put(backend, row("1", execution_id))
        assert backend.execute(FindExecutions()) == ["a", "b", "c"]
        assert backend.execute(FindExecutions(limit=2)) == ["a", "b"]
        assert backend.execute(FindExecutions("a", 1)) == ["b"]

    def test_a_row_written_by_hand_is_found(self, backend: SqliteBackend, path: Path) -> None:
        find(backend)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO checkpoints (id, execution_id, state) VALUES (1, 2, 3)")
        (found,) = find(backend, "2")
        assert (found.row.id, found.row.state, found.row.namespace) == ("1", b"3", "")
        assert abs(found.row.timestamp - datetime.now(UTC)) < timedelta(minutes=5)
        with pytest.raises(StaleEpoch):
            put(backend, row("3", "2"), epoch=found.epoch)
        assert backend.execute(Clear("2")) is True


class TestRemove:
    def test_checkpoints_go_with_their_writes(self, backend: SqliteBackend) -> None:
        writes = [write("1", "t", 0), write("2", "t", 0), write("3", "t", 0, namespace="sub")]
        rows = [row("1"), row("2"), row("1", namespace="sub")]
        old = cast("int", backend.execute(Commit("e", None, [chunk("c")], rows, writes)))
        put(backend, row("1", "f"))
        new = backend.execute(Remove("e", [("", "1"), ("sub", "3"), ("", "missing")]))
        assert cast("int", new) > old
        assert [(f.row.namespace, f.row.id, f.epoch) for f in find(backend, "e")] == [
            ("", "2", new),
            ("sub", "1", new),
        ]
        assert backend.execute(FindWrites("e")) == [write("2", "t", 0)]
        assert ids(find(backend, "f")) == ["1"]
        assert fetch(backend, "c")

    def test_nothing_happens_without_the_execution(self, backend: SqliteBackend) -> None:
        assert backend.execute(Remove("e", [("", "1")])) is None
        assert backend.execute(FindExecutions()) == []

    def test_a_sweep_spares_what_was_committed_again(self, backend: SqliteBackend) -> None:
        first = cast("int", backend.execute(Commit("e", None, [chunk("c"), chunk("d")])))
        assert backend.execute(FindOldChunks("e", first)) == []
        epoch = cast("int", backend.execute(Remove("e", [])))
        old = cast("list[ChunkId]", backend.execute(FindOldChunks("e", epoch)))
        assert sorted(old) == ["c", "d"]
        backend.execute(Commit("e", epoch, [chunk("d")]))
        assert backend.execute(Sweep("e", first, old)) is False
        assert len(fetch(backend, "c", "d")) == 2
        assert backend.execute(Sweep("e", epoch, old)) is True
        assert list(fetch(backend, "c", "d")) == ["d"]
        assert backend.execute(Sweep("missing", epoch, old)) is False

    def test_clear_leaves_nothing(self, backend: SqliteBackend, path: Path) -> None:
        for execution_id in ("e", "f"):
            written = write("1", "t", 0, execution_id=execution_id)
            commit = Commit(execution_id, None, [chunk("c")], [row("1", execution_id)], [written])
            old = backend.execute(commit)
        assert backend.execute(Clear("e")) is True
        assert backend.execute(Clear("e")) is False
        with closing(sqlite3.connect(path)) as connection:
            tables = ["s", "_chunks", "_writes", "_executions"]
            sizes = [
                connection.execute(f"SELECT COUNT(*) FROM checkpoint{table}").fetchone()[0]
                for table in tables
            ]
        assert sizes == [1, 1, 1, 1]
        assert put(backend, row("1")) != old


class TestAgainstMemory:
    """The same random requests get the same answers from both backends."""

    def requests(self, chance: random.Random, epochs: dict[str, int]) -> Request:
        execution_id = chance.choice("ef")
        namespace, id = chance.choice(("", "sub")), str(chance.randrange(6))
        chunks = [chunk(str(n)) for n in chance.sample(range(8), 3)]
        match chance.randrange(8):
            case 0 | 1 | 2:
                writes = [
                    WriteRow(execution_id, namespace, id, "t", idx, "p", "c", str(n).encode())
                    for n, idx in enumerate(chance.choices(range(-2, 3), k=2))
                ]
                epoch = chance.choice((None, epochs.get(execution_id)))
                rows = [row(id, execution_id, namespace, version=chance.randrange(99))]
                return Commit(execution_id, epoch, chunks, rows, writes)
            case 3:
                return Remove(execution_id, [(namespace, id)])
            case 4:
                return Sweep(execution_id, epochs.get(execution_id, 0), [id for id, _ in chunks])
            case 5 if chance.random() < 0.2:
                return Clear(execution_id)
            case 5:
                return FindOldChunks(execution_id, epochs.get(execution_id, 0))
            case 6:
                return FetchChunks(execution_id, [ChunkId(str(n)) for n in range(8)])
            case _:
                return FindCheckpoints(
                    chance.choice((None, execution_id)),
                    chance.choice((None, namespace)),
                    before_id=chance.choice((None, id)),
                    after=chance.choice((None, Position(id, execution_id, namespace))),
                    limit=chance.choice((None, 1, 3)),
                )

    @staticmethod
    def comparable(answer: Any, epochs: Mapping[str, int]) -> Any:
        """Epochs differ between backends: say only whose they are."""
        names = {epoch: name for name, epoch in epochs.items()}
        if isinstance(answer, list) and answer and isinstance(answer[0], FoundCheckpoint):
            return [(f.row, list(f.writes), names[f.epoch]) for f in answer]
        if isinstance(answer, list):
            return sorted(answer)
        if isinstance(answer, Exception):
            return type(answer)
        return "epoch" if type(answer) is int else answer

    @pytest.mark.parametrize("seed", range(20))
    def test_random_requests(self, path: Path, seed: int) -> None:
        with (
            closing(SqliteBackend(path, synchronous="OFF")) as ours,
            closing(MemoryBackend()) as memory,
        ):
            backends: Sequence[Backend] = (ours, memory)
            epochs: list[dict[str, int]] = [{}, {}]
            for step in range(150):
                answers = []
                for backend, known in zip(backends, epochs, strict=True):
                    request = self.requests(random.Random(seed * 1000 + step), known)
                    answer: object
                    try:
                        answer = backend.execute(request)
                    except StaleEpoch as error:
                        answer = error
                    if isinstance(request, Commit | Remove) and type(answer) is int:
                        known[request.execution_id] = answer
                    answers.append(self.comparable(answer, known))
                assert answers[0] == answers[1], request
