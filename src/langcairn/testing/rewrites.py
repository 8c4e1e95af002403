"""The contract of `Rewrite` and `Move`: what is stored, in another form."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.backends.base import (
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    Move,
    Remove,
    Request,
    Rewrite,
    Sweep,
)
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.rows import chunk_id, row, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.storage import Storage


class RewriteContract(Fixtures):
    """What every `Backend` does when it is asked to rewrite."""

    @pytest.fixture
    def ask(self, storage: Storage, calling: Calling) -> Callable[[Request], Any]:
        """Return what makes requests of an empty backend."""
        backend = calling(storage.backend)
        return backend.execute

    @pytest.fixture
    def only(self, ask: Callable[[Request], Any]) -> Callable[[], Any]:
        """Return what reads the one checkpoint that is there."""

        def read() -> Any:
            (found,) = ask(FindCheckpoints("run"))
            return found

        return read

    def test_rewriting_changes_the_form_and_not_the_epoch(
        self, ask: Callable[[Request], Any], only: Callable[[], Any]
    ) -> None:
        chunks = [(chunk_id(1), b"one"), (chunk_id(2), b"two")]
        epoch = ask(Commit("run", None, chunks, [row("c1")], [write(), write(idx=-1)]))
        before = only()
        row_now = before.row._replace(
            state=b'{"$cairn": ["e", "x"]}', metadata=b'{"m": 2}', graph=b'{"g": [3]}'
        )
        writes_now = [one._replace(value=b'{"new": %d}' % one.idx) for one in before.writes]
        ask(
            Rewrite(
                "run",
                [(chunk_id(2), b"2" * 5000)],
                [(before.row, row_now)],
                list(zip(before.writes, writes_now, strict=True)),
            )
        )
        after = only()
        assert after.epoch == epoch
        assert json.loads(after.row.state) == {"$cairn": ["e", "x"]}
        assert json.loads(after.row.metadata) == {"m": 2}
        assert json.loads(after.row.graph) == {"g": [3]}
        assert after.row[:5] == before.row[:5]
        assert [json.loads(one.value) for one in after.writes] == [
            {"new": one.idx} for one in before.writes
        ]
        assert ask(FetchChunks("run", [chunk_id(1), chunk_id(2)])) == {
            chunk_id(1): b"one",
            chunk_id(2): b"2" * 5000,
        }
        # And it can be rewritten again, from what is there now.
        ask(Rewrite("run", (), [(after.row, before.row)]))
        assert json.loads(only().row.state) == json.loads(before.row.state)

    def test_rewriting_leaves_what_is_gone_or_another(
        self, ask: Callable[[Request], Any], only: Callable[[], Any]
    ) -> None:
        ask(Commit("run", None, [(chunk_id(1), b"one")], [row("c1")], [write(idx=-1)]))
        before = only()
        newer = before.row._replace(state=b'{"a": 2}')
        ask(Commit("run", None, (), [newer], [write(idx=-1, value=b'{"v": 2}')]))
        ask(
            Rewrite(
                "run",
                [(chunk_id(7), b"never stored")],
                [
                    (before.row, before.row._replace(state=b'{"a": 3}')),
                    (row("c9"), row("c9", state=b"{}")),
                ],
                [
                    (before.writes[0], before.writes[0]._replace(value=b'{"v": 3}')),
                    (write("nobody"), write("nobody", value=b"1")),
                ],
            )
        )
        after = only()
        assert json.loads(after.row.state) == {"a": 2}
        assert [json.loads(one.value) for one in after.writes] == [{"v": 2}]
        assert ask(FetchChunks("run", [chunk_id(7)])) == {}
        ask(Rewrite("nobody", [(chunk_id(1), b"x")], [(row("c1"), row("c1", state=b"{}"))]))
        assert ask(FetchChunks("nobody", [chunk_id(1)])) == {}
        assert ask(FindCheckpoints("nobody")) == []

    def test_a_rewritten_chunk_is_shared_and_swept_as_before(
        self, ask: Callable[[Request], Any]
    ) -> None:
        ask(Commit("run", None, [(chunk_id(1), b"one")], [row("c1"), row("c2")]))
        ask(Rewrite("run", [(chunk_id(1), b"uno")]))
        ask(Commit("run", None, [(chunk_id(1), b"one")]))  # known already: it keeps its data
        assert ask(FetchChunks("run", [chunk_id(1)])) == {chunk_id(1): b"uno"}
        epoch = ask(Remove("run", [("", "c2")]))
        assert ask(FindOldChunks("run", epoch)) == [chunk_id(1)]
        assert ask(Sweep("run", epoch, [chunk_id(1)])) is True
        assert ask(FetchChunks("run", [chunk_id(1)])) == {}

    def test_moving_changes_the_form_in_its_epoch_only(self, ask: Callable[[Request], Any]) -> None:
        ids = [chunk_id(n) for n in range(4)]
        chunks = [(id, b"data of %d" % n * 100) for n, id in enumerate(ids)]
        epoch = ask(Commit("run", None, chunks, [row("c1")]))
        moves = [(id, data, b"moved %d" % n) for n, (id, data) in enumerate(chunks)]
        assert ask(Move("run", epoch, moves[:2])) is True
        expected = {**dict(chunks), ids[0]: b"moved 0", ids[1]: b"moved 1"}
        assert ask(FetchChunks("run", ids)) == expected
        assert ask(FindCheckpoints("run"))[0].epoch == epoch
        newer = ask(Remove("run", ()))
        assert ask(Move("run", epoch, moves[2:])) is False
        assert ask(FetchChunks("run", ids)) == expected
        assert ask(Move("run", newer, [(ids[0], b"moved 0", b"moved again")])) is True
        assert ask(FetchChunks("run", ids[:1])) == {ids[0]: b"moved again"}
        # It keeps its place among those that a sweep removes.
        last = ask(Remove("run", [("", "c1")]))
        assert sorted(ask(FindOldChunks("run", last))) == sorted(ids)
        assert ask(Sweep("run", last, ids)) is True
        assert ask(FetchChunks("run", ids)) == {}

    def test_moving_leaves_what_is_not_as_it_was_read(self, ask: Callable[[Request], Any]) -> None:
        ids = [chunk_id(n) for n in range(2)]
        epoch = ask(Commit("run", None, [(id, b"as it was") for id in ids], [row("c1")]))
        ask(Rewrite("run", [(ids[0], b"with another key")]))
        gone = chunk_id(7)
        moves = [(id, b"as it was", b"moved") for id in (*ids, gone)]
        assert ask(Move("run", epoch, moves)) is True
        assert ask(FetchChunks("run", [*ids, gone])) == {
            ids[0]: b"with another key",
            ids[1]: b"moved",
        }
        assert ask(Move("nobody", epoch, moves)) is False
        assert ask(FetchChunks("nobody", ids)) == {}
        ask(Clear("run"))
        assert ask(Move("run", epoch, moves)) is False
        assert ask(FindExecutions()) == []
