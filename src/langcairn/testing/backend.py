"""The contract of `Backend`: each request by itself."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.backends.base import (
    CheckpointRow,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    Position,
    Remove,
    Request,
    Survey,
    Sweep,
)
from langcairn.errors import StaleEpoch, StoreClosed
from langcairn.testing.conditions import ConditionalCommits
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.leases import BackendLeases
from langcairn.testing.rewrites import RewriteContract
from langcairn.testing.rows import chunk_id, row, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.storage import Storage


class BackendContract(RewriteContract, ConditionalCommits, BackendLeases, Fixtures):
    """What every `Backend` does with each request.

    Needs a fixture ``storage`` that yields a fresh `langcairn.testing.Storage`.
    """

    @pytest.fixture
    def find(self, ask: Callable[[Request], Any]) -> Callable[..., list[str]]:
        """Return what finds checkpoints and returns their ids."""
        return lambda **query: [one.row.id for one in ask(FindCheckpoints(**query))]

    def _same(self, found: CheckpointRow, stored: CheckpointRow) -> None:
        """Compare rows; a database may write JSON in its own way."""
        assert found._replace(state=b"", metadata=b"", graph=b"") == stored._replace(
            state=b"", metadata=b"", graph=b""
        )
        for column in ("state", "metadata", "graph"):
            given, kept = getattr(stored, column), getattr(found, column)
            assert isinstance(kept, bytes)
            assert json.loads(kept) == json.loads(given)

    # Surveys

    def test_surveys_name_what_there_is(self, ask: Callable[[Request], Any]) -> None:
        assert ask(Survey(deep=True)) == ([], [], [])
        assert ask(Survey("run", deep=True)) == ([], [], [])
        rows = [row("c1"), row("c2"), row("c1", namespace="a|b:c")]
        ask(Commit("run", None, [(chunk_id(1), b"x")], rows, [write("t", 0)]))
        ask(Commit("other", None, (), [row("c3", "other")]))
        executions, keys, problems = ask(Survey(deep=True))
        assert (list(executions), list(keys), list(problems)) == (["other", "run"], [], [])
        executions, keys, problems = ask(Survey("run", deep=True))
        assert (list(executions), list(problems)) == ([], [])
        assert sorted(keys) == [("", "c1"), ("", "c2"), ("a|b:c", "c1")]

    # Commits

    def test_rows_come_back(self, ask: Callable[[Request], Any]) -> None:
        state = {"s": "Grüße 🪨 \u2028", "n": [2**63 - 1, -(2**63), 0.1, 1.0, None, True], "": {}}
        stored = row(
            "c1", namespace="a|b:c", parent_id="c0", node_name="x, y", version=2**31 - 1,
            state=json.dumps(state).encode(), metadata=b'{"a.b": {"c": []}}',
            graph=json.dumps({"ts": "x" * 5000}, ensure_ascii=False).encode(),
        )  # fmt: skip
        writes = [
            write("t1", i, namespace="a|b:c", value=b'{"a": [1, "\xc3\xa4"]}') for i in (0, 1)
        ]
        epoch = ask(Commit("run", None, (), [stored], writes))
        (found,) = ask(FindCheckpoints("run"))
        self._same(found.row, stored)
        assert [w._replace(value=b"") for w in found.writes] == [
            w._replace(value=b"") for w in writes
        ]
        assert [json.loads(w.value) for w in found.writes] == [{"a": [1, "ä"]}] * 2
        assert found.epoch == epoch
        (bare,) = ask(FindCheckpoints("run", with_writes=False))
        assert list(bare.writes) == []

    def test_several_commits_at_once(self, storage: Storage) -> None:
        executions = [f"run {n}" for n in range(70)]
        first = storage.backend.execute(Commit("run 3", None, (), [row("c1", "run 3")]))
        commits = [
            Commit(name, None, [(chunk_id(1), name.encode())], [row("c2", name), row("c3", name)])
            for name in executions
        ]
        commits[5] = commits[5]._replace(epoch=1)
        outcomes = storage.backend.execute_all(commits)
        assert isinstance(outcomes[5], StaleEpoch)
        assert outcomes[3] == first
        for name, outcome in zip(executions, outcomes, strict=True):
            found: Any = storage.backend.execute(FindCheckpoints(name))
            kept = storage.backend.execute(FetchChunks(name, [chunk_id(1)]))
            if isinstance(outcome, StaleEpoch):
                assert (found, kept) == ([], {})
            else:
                assert [one.epoch for one in found] == [outcome] * (3 if name == "run 3" else 2)
                assert kept == {chunk_id(1): name.encode()}
        assert storage.backend.execute_all([]) == []
        storage.backend.close()
        with suppress(StoreClosed):
            outcomes = storage.backend.execute_all(commits[:2])
            assert all(isinstance(outcome, StoreClosed) for outcome in outcomes)

    def test_chunks_come_back_as_they_are(self, ask: Callable[[Request], Any]) -> None:
        chunks = {chunk_id(0): b"", chunk_id(1): bytes(range(256)), chunk_id(2): b"x" * 3_000_000}
        ask(Commit("run", None, list(chunks.items())))
        assert ask(FetchChunks("run", [*chunks, chunk_id(9)])) == chunks
        assert ask(FetchChunks("run", [])) == {}
        assert ask(FetchChunks("other", list(chunks))) == {}

    def test_many_chunks_at_once(self, ask: Callable[[Request], Any]) -> None:
        chunks = {chunk_id(i): b"%d" % i for i in range(5000)}
        ask(Commit("run", None, list(chunks.items())))
        assert ask(FetchChunks("run", list(chunks))) == chunks

    def test_stored_chunks_keep_their_data(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, [(chunk_id(1), b"first")]))
        ask(Commit("run", None, [(chunk_id(1), b"second"), (chunk_id(2), b"new")]))
        assert ask(FetchChunks("run", [chunk_id(1)])) == {chunk_id(1): b"first"}

    def test_executions_share_nothing(self, ask: Callable[[Request], Any]) -> None:
        for name in ("a", "b"):
            ask(Commit(name, None, [(chunk_id(1), name.encode())], [row("c1", name)]))
        assert ask(FetchChunks("a", [chunk_id(1)])) == {chunk_id(1): b"a"}
        ask(Clear("a"))
        assert ask(FetchChunks("b", [chunk_id(1)])) == {chunk_id(1): b"b"}
        assert len(ask(FindCheckpoints())) == 1

    def test_a_stale_commit_is_refused_whole(self, ask: Callable[[Request], Any]) -> None:
        epoch = ask(Commit("run", None, (), [row("c1")]))
        assert ask(Commit("run", epoch, (), [row("c2")])) == epoch
        newer = ask(Remove("run", [("", "c2")]))
        assert newer > epoch
        stale = Commit("run", epoch, [(chunk_id(1), b"x")], [row("c3")], [write()])
        with pytest.raises(StaleEpoch):
            ask(stale)
        assert ask(FetchChunks("run", [chunk_id(1)])) == {}
        assert [one.row.id for one in ask(FindCheckpoints("run"))] == ["c1"]
        assert ask(FindWrites("run")) == []
        assert ask(stale._replace(epoch=newer)) == newer
        with pytest.raises(StaleEpoch):
            ask(stale._replace(epoch=newer + 1))

    def test_an_epoch_of_an_execution_that_is_gone_is_stale(
        self, ask: Callable[[Request], Any]
    ) -> None:
        epoch = ask(Commit("run", None, (), [row("c1")]))
        ask(Clear("run"))
        for _ in range(2):
            with pytest.raises(StaleEpoch):
                ask(Commit("run", epoch, (), [row("c2")]))
            assert ask(FindExecutions()) == []
        again = ask(Commit("run", None, (), [row("c3")]))
        assert again != epoch
        with pytest.raises(StaleEpoch):
            ask(Commit("run", epoch, (), [row("c2")]))

    def test_a_commit_may_be_repeated(self, ask: Callable[[Request], Any]) -> None:
        commit = Commit("run", None, [(chunk_id(1), b"x")], [row("c1")], [write(), write(idx=-1)])
        epoch = ask(commit)
        assert ask(commit._replace(epoch=epoch)) == epoch
        (found,) = ask(FindCheckpoints("run"))
        assert len(found.writes) == 2

    def test_an_empty_commit_makes_an_execution(self, ask: Callable[[Request], Any]) -> None:
        epoch = ask(Commit("run", None))
        assert ask(Commit("run", epoch)) == epoch
        assert ask(FindCheckpoints("run")) == []

    def test_rows_are_replaced_and_writes_by_their_sign(
        self, ask: Callable[[Request], Any]
    ) -> None:
        ask(
            Commit("run", None, (), [row("c1", version=1)], [write("t", i) for i in (-4, -1, 0, 1)])
        )
        changed = [
            write("t", i, value=b'"new"', channel="new", task_path="p") for i in (-4, -1, 0, 1)
        ]
        ask(Commit("run", None, (), [row("c1", version=2, parent_id="p")], changed))
        (found,) = ask(FindCheckpoints("run"))
        assert (found.row.version, found.row.parent_id) == (2, "p")
        assert {w.idx: (w.channel, w.task_path) for w in found.writes} == {
            -4: ("new", "p"), -1: ("new", "p"), 0: ("channel", ""), 1: ("channel", ""),
        }  # fmt: skip

    # Finding

    def test_what_drops_references_raises_the_epoch(self, ask: Callable[[Request], Any]) -> None:
        """A cache that says what is stored must not outlive a reference to it."""
        epoch = ask(Commit("run", None, (), [row("c1")], [write(), write(idx=-1)]))
        assert ask(Commit("run", epoch, (), [row("c1")], [write(), write(idx=-1)])) == epoch
        assert ask(Commit("run", epoch, (), (), [write(value=b"2")])) == epoch  # kept out
        replaced = ask(Commit("run", epoch, (), [row("c1", state=b'{"a": 2}')]))
        assert replaced > epoch
        with pytest.raises(StaleEpoch):
            ask(Commit("run", epoch))
        chunks = [(chunk_id(1), b"1")]
        again = ask(Commit("run", replaced, chunks, (), [write(idx=-1, value=b"2")]))
        assert again > replaced
        assert ask(FindOldChunks("run", again)) == []  # committed as of the new epoch

    def test_writes_are_in_order(self, ask: Callable[[Request], Any]) -> None:
        keys = [
            ("b", "z", 0),
            ("", "y", 11),
            ("", "y", 2),
            ("a", "x", -1),
            ("", "Y", 0),
            ("", "ä", 0),
        ]
        writes = [write(task, idx, task_path=path) for path, task, idx in keys]
        ask(Commit("run", None, (), [row("c1")], writes))
        (found,) = ask(FindCheckpoints("run"))
        assert [(w.task_path, w.task_id, w.idx) for w in found.writes] == sorted(keys)

    def test_writes_without_a_checkpoint(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, (), (), [write(), write("u", checkpoint_id="c9")]))
        assert ask(FindCheckpoints("run")) == []
        assert {w.checkpoint_id for w in ask(FindWrites("run"))} == {"c1", "c9"}
        assert ask(FindWrites("other")) == []
        ask(Remove("run", [("", "c9")]))
        assert {w.checkpoint_id for w in ask(FindWrites("run"))} == {"c1"}

    def test_conditions(
        self, ask: Callable[[Request], Any], find: Callable[..., list[str]]
    ) -> None:
        for execution in ("a", "b"):
            rows = [row(f"c{i}", execution, namespace=ns) for i in range(4) for ns in ("", "n")]
            ask(Commit(execution, None, (), rows))
        order = [f"c{i}" for i in (3, 2, 1, 0)]
        assert find() == [id for id in order for _ in range(4)]
        assert find(execution_id="a") == [id for id in order for _ in range(2)]
        assert find(execution_id="a", namespace="n") == order
        assert find(namespace="n") == [id for id in order for _ in range(2)]
        assert find(id="c2") == ["c2"] * 4
        assert find(execution_id="a", namespace="", id="c2") == ["c2"]
        assert find(execution_id="a", namespace="", before_id="c2") == ["c1", "c0"]
        assert find(execution_id="a", namespace="", id="c2", before_id="c2") == []
        assert find(execution_id="a", namespace="", limit=2) == ["c3", "c2"]
        assert find(limit=0) == []
        assert find(execution_id="nobody") == []
        assert find(execution_id="a", namespace="nowhere") == []

    def test_order_and_position(self, ask: Callable[[Request], Any]) -> None:
        places = [
            (id, e, ns) for id in ("c1", "C1", "c10", "c2", "ç") for e in "ab" for ns in ("", "n")
        ]
        for execution in "ab":
            rows = [row(id, e, namespace=ns) for id, e, ns in places if e == execution]
            ask(Commit(execution, None, (), rows))
        expected = sorted(places, reverse=True)

        def found(**query: Any) -> list[tuple[str, str, str]]:
            answer = ask(FindCheckpoints(**query))
            return [(one.row.id, one.row.execution_id, one.row.namespace) for one in answer]

        assert found() == expected
        pages, after = [], None
        while page := found(after=after, limit=3):
            pages.extend(page)
            after = Position(*page[-1])
        assert pages == expected
        after = Position("c10", "a", "n")
        assert found(after=after) == [place for place in expected if place < tuple(after)]
        assert found(after=after, execution_id="b", namespace="n", before_id="c10") == [
            ("c1", "b", "n"), ("C1", "b", "n"),
        ]  # fmt: skip

    def test_metadata_excludes_no_match(
        self, ask: Callable[[Request], Any], find: Callable[..., list[str]]
    ) -> None:
        values: list[Any] = ["x", "", "1", 1, 0, True, False, "a'b\"c\\", "🪨", "%", 2**53 + 1]
        rows = [
            row(f"c{i:02}", metadata=json.dumps({"k": v, "a.b": v, "other": "x"}).encode())
            for i, v in enumerate(values)
        ]
        ask(Commit("run", None, (), rows))
        for i, value in enumerate(values):
            for key in ("k", "a.b"):
                assert f"c{i:02}" in find(metadata={key: value})
                assert f"c{i:02}" in find(metadata={key: value, "other": "x"}, execution_id="run")

    def test_executions_are_sorted(self, ask: Callable[[Request], Any]) -> None:
        names = ["b", "a", "A", "ä", "a:b", "%", "🪨", "a1", "a10", "a2"]
        for name in names:
            ask(Commit(name, None))
        expected = sorted(names)
        assert ask(FindExecutions()) == expected
        assert ask(FindExecutions(limit=3)) == expected[:3]
        assert ask(FindExecutions(after=expected[3], limit=2)) == expected[4:6]
        assert ask(FindExecutions(after=expected[-1])) == []

    # Removing

    def test_remove(self, ask: Callable[[Request], Any], find: Callable[..., list[str]]) -> None:
        rows = [row(f"c{i}", namespace=ns) for i in range(3) for ns in ("", "n")]
        epoch = ask(
            Commit("run", None, [(chunk_id(1), b"x")], rows, [write(), write(namespace="n")])
        )
        newer = ask(Remove("run", [("", "c1"), ("n", "c2"), ("", "nothing")]))
        assert newer > epoch
        assert find() == ["c2", "c1", "c0", "c0"]
        assert [w.namespace for w in ask(FindWrites("run"))] == ["n"]
        assert ask(FetchChunks("run", [chunk_id(1)])) != {}
        assert ask(Remove("run", [])) > newer
        assert ask(Remove("nobody", [("", "c1")])) is None
        assert ask(FindExecutions()) == ["run"]

    def test_sweep_spares_what_was_committed_again(self, ask: Callable[[Request], Any]) -> None:
        ids = [chunk_id(i) for i in range(4)]
        epoch = ask(Commit("run", None, [(id, b"x") for id in ids]))
        assert ask(FindOldChunks("run", epoch)) == []
        newer = ask(Remove("run", []))
        assert sorted(ask(FindOldChunks("run", newer))) == sorted(ids)
        ask(Commit("run", None, [(ids[0], b"y")]))
        ask(Commit("run", newer, [(ids[1], b"y")]))
        assert sorted(ask(FindOldChunks("run", newer))) == sorted(ids[2:])
        assert ask(Sweep("run", newer, [*ids[:3], chunk_id(99)])) is True
        assert sorted(ask(FetchChunks("run", ids))) == sorted([ids[0], ids[1], ids[3]])
        assert ask(FetchChunks("run", [ids[0]])) == {ids[0]: b"x"}

    def test_sweep_in_another_epoch_removes_nothing(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, [(chunk_id(1), b"x")]))
        first = ask(Remove("run", []))
        second = ask(Remove("run", []))
        for epoch in (first, second + 1, 0):
            assert ask(Sweep("run", epoch, [chunk_id(1)])) is False
        assert ask(Sweep("nobody", first, [chunk_id(1)])) is False
        assert ask(Sweep("run", second, ())) is True
        assert ask(FetchChunks("run", [chunk_id(1)])) != {}

    def test_clear_leaves_nothing(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, [(chunk_id(1), b"x")], [row("c1")], [write()]))
        ask(Commit("other", None, (), [row("c1", "other")]))
        assert ask(Clear("run")) is True
        assert ask(Clear("run")) is False
        assert ask(FindCheckpoints("run")) == []
        assert ask(FindWrites("run")) == []
        assert ask(FetchChunks("run", [chunk_id(1)])) == {}
        assert ask(FindOldChunks("run", 2**62)) == []
        assert ask(FindExecutions()) == ["other"]
        ask(Commit("run", None))
        assert ask(FetchChunks("run", [chunk_id(1)])) == {}
        assert ask(FindWrites("run")) == []

    def test_a_page_of_one_execution_is_read_at_one_moment(self, storage: Storage) -> None:
        """Row, writes and epoch belong together, also while another commits and removes."""
        backend = storage.backend
        rounds = 150

        def churn() -> None:
            for number in range(rounds):
                value = b'{"n": %d}' % number
                backend.execute(Commit("run", None, (), [row("c1", state=value)],
                                       [write(idx=-1, value=value)]))  # fmt: skip
                backend.execute(Remove("run", [("", "c1")]))

        with ThreadPoolExecutor(1) as pool:
            churning = pool.submit(churn)
            while not churning.done():
                answer: Any = backend.execute(FindCheckpoints("run"))
                for found in answer:
                    assert [json.loads(w.value) for w in found.writes] == [
                        json.loads(found.row.state)
                    ]
            churning.result()

    # Closing

    def test_closing(self, storage: Storage, calling: Calling) -> None:
        target = storage.open().backend
        backend = calling(target)
        backend.execute(Commit("run", None, (), [row("c1")]))
        backend.close()
        backend.close()
        for request in (FindCheckpoints("run"), Commit("run", None), Clear("run")):
            with pytest.raises(StoreClosed):
                backend.execute(request)
