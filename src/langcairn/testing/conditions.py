"""The contract of `Backend`: commits with conditions, and several commits at once."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.backends.base import (
    Clear,
    Commit,
    Expected,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindWrites,
    Newest,
    Request,
    Transaction,
    WriteRow,
)
from langcairn.errors import ConcurrentWriter, Conflict, StaleEpoch, VersionConflict
from langcairn.testing.cases import case
from langcairn.testing.rows import chunk_id, row, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.storage import Storage


def _versions(ask: Callable[[Request], Any], execution_id: str = "run") -> dict[str, int]:
    return {one.row.id: one.row.version for one in ask(FindCheckpoints(execution_id))}


def _version(backend: Any) -> int:
    (found,) = backend.execute(FindCheckpoints("run", "", "a"))
    return found.row.version  # type: ignore[no-any-return]  # of any backend


class ConditionalCommits:
    """Tests of conditions; a part of `BackendContract`, whose fixtures it needs."""

    # Versions

    def test_an_expected_version_is_met(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, (), [row("a")], expected=[Expected("", "a", None)]))
        ask(Commit("run", None, (), [row("a", version=2)], expected=[Expected("", "a", 1)]))
        other = row("a", namespace="sub", version=7)
        ask(Commit("run", None, (), [other], expected=[Expected("sub", "a", None)]))
        third = Expected("", "a", 2), Expected("sub", "a", 7), Expected("", "b", None)
        epoch = ask(Commit("run", None, (), [row("a", version=3)], expected=third))
        assert _versions(ask)["a"] == 3
        ask(
            Commit("run", epoch, (), [row("a", version=2**31 - 1)], expected=[Expected("", "a", 3)])
        )
        expected = [Expected("", "a", 2**31 - 1)]
        ask(Commit("run", None, (), [row("a", version=0)], expected=expected))
        assert [one.row.version for one in ask(FindCheckpoints("run", ""))] == [0]

    def test_another_version_is_refused(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, (), [row("a", version=5)], [write("before", checkpoint_id="a")]))
        before = ask(FindCheckpoints("run"))
        cases: tuple[tuple[Expected, int | None], ...] = (
            (Expected("", "a", 4), 5), (Expected("", "a", None), 5),
            (Expected("", "b", 5), None), (Expected("sub", "a", 5), None),
        )  # fmt: skip
        for expected, found in cases:
            change = Commit(
                "run", None, [(chunk_id(1), b"x")], [row("a", version=6), row("z")],
                [write("after")], removals=[("", "a")], expected=[expected],
            )  # fmt: skip
            with case(expected):
                with pytest.raises(VersionConflict, match=repr(expected.id)) as caught:
                    ask(change)
                assert (caught.value.expected, caught.value.found) == (expected.version, found)
                assert ask(FindCheckpoints("run")) == before
                assert ask(FetchChunks("run", [chunk_id(1)])) == {}
                assert len(ask(FindWrites("run"))) == 1

    def test_an_execution_that_is_not_there_has_no_versions(
        self, ask: Callable[[Request], Any]
    ) -> None:
        with pytest.raises(VersionConflict) as caught:
            ask(Commit("run", None, (), [row("a")], expected=[Expected("", "a", 1)]))
        assert caught.value.found is None
        with pytest.raises(ConcurrentWriter) as late:
            ask(Commit("run", None, (), [row("b")], newest=[Newest("", "a", "b")]))
        assert (late.value.parent_id, late.value.newest_id) == ("a", None)
        assert ask(FindExecutions()) == []

    def test_a_stale_epoch_is_found_first(self, ask: Callable[[Request], Any]) -> None:
        epoch = ask(Commit("run", None, (), [row("a")]))
        stale = Commit("run", epoch + 1, (), [row("a")], expected=[Expected("", "a", 9)])
        with pytest.raises(StaleEpoch):
            ask(stale)

    def test_one_of_many_racing_writers_wins(self, storage: Storage) -> None:
        storage.backend.execute(Commit("run", None, (), [row("a", version=0)]))
        backends = [storage.open().backend for _ in range(4)]

        def count(number: int) -> int:
            """Add one, 5 times, as optimistic writers do."""
            backend, conflicts = backends[number], 0
            for _ in range(5):
                while True:
                    version = _version(backend)
                    expected = [Expected("", "a", version)]
                    put = row("a", version=version + 1)
                    try:
                        backend.execute(Commit("run", None, (), [put], expected=expected))
                        break
                    except VersionConflict:
                        conflicts += 1
            return conflicts

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(4)))
        assert _version(storage.backend) == 20

    # The newest

    def test_a_parent_that_is_the_newest(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, (), [row("b")], newest=[Newest("", None, "b")]))
        ask(Commit("run", None, (), [row("d")], newest=[Newest("", "b", "d")]))
        ask(Commit("run", None, (), [row("d")], newest=[Newest("", "b", "d")]))  # again
        sub = row("a", namespace="sub")
        ask(Commit("run", None, (), [sub], newest=[Newest("sub", None, "a")]))
        deeper = row("x", namespace="sub|deeper")
        ask(Commit("run", None, (), [deeper], newest=[Newest("sub|deeper", None, "x")]))
        ask(Commit("run", None, (), [row("e")], newest=[Newest("", "d", "e")]))
        assert len(ask(FindCheckpoints("run"))) == 5

    def test_a_parent_that_is_not_the_newest(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, (), [row("a"), row("b")]))
        for parent in (None, "a", "c", "bb"):
            put = Commit("run", None, (), [row("d")], newest=[Newest("", parent, "d")])
            with case(parent):
                with pytest.raises(ConcurrentWriter, match="'b'") as caught:
                    ask(put)
                assert (caught.value.parent_id, caught.value.newest_id) == (parent, "b")
                assert "'d'" in str(caught.value)
                assert list(_versions(ask)) == ["b", "a"]

    def test_ids_that_begin_alike(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, (), [row("a"), row("a1", namespace="n"), row("b", namespace="n2")]))
        ask(Commit("run", None, (), [row("a2", namespace="n")], newest=[Newest("n", "a1", "a2")]))
        with pytest.raises(ConcurrentWriter) as caught:
            ask(
                Commit("run", None, (), [row("a3", namespace="n")], newest=[Newest("n", "a", "a3")])
            )
        assert caught.value.newest_id == "a2"

    # Removals

    def test_removals_come_before_what_is_put(self, ask: Callable[[Request], Any]) -> None:
        epoch = ask(
            Commit(
                "run", None, [(chunk_id(1), b"x")], [row("a"), row("b"), row("c")],
                [write("w", checkpoint_id="a"), write("w", checkpoint_id="b")],
            )
        )  # fmt: skip
        change = Commit("run", epoch, (), [row("a", version=2)], removals=[("", "a"), ("", "b")])
        newer = ask(change)
        assert newer > epoch
        assert _versions(ask) == {"a": 2, "c": 1}
        assert ask(FindWrites("run")) == []
        assert ask(FindCheckpoints(id="b")) == []
        assert len(ask(FindCheckpoints(id="a"))) == 1
        assert ask(FetchChunks("run", [chunk_id(1)])) == {chunk_id(1): b"x"}
        with pytest.raises(StaleEpoch):
            ask(Commit("run", epoch, (), [row("d")]))

    def test_what_is_not_there_may_be_removed(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("run", None, removals=[("", "x")]))
        ask(Commit("run", None, (), [row("a")], removals=[("", "x"), ("sub", "a")]))
        assert _versions(ask) == {"a": 1}

    def test_chunks_of_a_commit_that_removes_are_of_the_new_epoch(
        self, ask: Callable[[Request], Any]
    ) -> None:
        chunk = (chunk_id(1), b"x")
        epoch = ask(Commit("run", None, [chunk], [row("a")]))
        newer = ask(Commit("run", None, [chunk], [row("b")], removals=[("", "a")]))
        assert newer > epoch
        again = Commit("run", newer, (), [row("c")])
        assert ask(again) == newer

    # Several executions

    def test_a_transaction_of_one(self, ask: Callable[[Request], Any]) -> None:
        (epoch,) = ask(Transaction([Commit("run", None, [(chunk_id(1), b"x")], [row("a")])]))
        assert ask(Commit("run", epoch, (), [row("b")])) == epoch
        with pytest.raises(VersionConflict):
            ask(Transaction([Commit("run", None, expected=[Expected("", "a", 2)])]))


class TransactionContract:
    """Tests of commits to several executions at once, which a Redis Cluster can't make."""

    def test_all_is_made(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("two", None, (), [row("x", "two")]))
        commits = [
            Commit(
                id, None, [(chunk_id(1), id.encode())], [row("a", id)],
                [WriteRow(id, "", "a", "t", 0, "", "channel", b"1")],
                removals=[("", "x")] if id == "two" else [],
            )
            for id in ("two", "one", "three")
        ]  # fmt: skip
        epochs = ask(Transaction(commits))
        for commit, epoch in zip(commits, epochs, strict=True):
            id = commit.execution_id
            (found,) = ask(FindCheckpoints(id))
            assert (found.row.id, found.epoch, len(found.writes)) == ("a", epoch, 1)
            assert ask(FetchChunks(id, [chunk_id(1)])) == {chunk_id(1): id.encode()}
        assert len(ask(FindCheckpoints(id="a"))) == 3
        assert ask(FindCheckpoints(id="x")) == []
        assert ask(FindExecutions()) == ["one", "three", "two"]
        assert ask(Commit("one", epochs[1], (), [row("b", "one")])) == epochs[1]

    def test_one_refusal_refuses_all(self, ask: Callable[[Request], Any]) -> None:
        ask(Commit("old", None, (), [row("x", "old")]))
        bad: dict[str, dict[str, Any]] = {
            "version": {"expected": [Expected("", "x", 9)]},
            "newest": {"newest": [Newest("", "w", "y")]},
            "epoch": {"epoch": 1},
            "fence": {"fence": 1},
        }
        for place, kind in product(range(3), bad):
            ids = ["new", "newer"]
            ids.insert(place, "old")
            commits = [
                Commit(id, None, (), [row("y", id)], removals=[("", "x")])._replace(
                    **(bad[kind] if id == "old" else {})
                )
                for id in ids
            ]
            with case(place, kind):
                with pytest.raises((Conflict, StaleEpoch)):
                    ask(Transaction(commits))
                assert ask(FindExecutions()) == ["old"]
                assert [one.row.id for one in ask(FindCheckpoints("old"))] == ["x"]
                assert ask(FindCheckpoints()) == ask(FindCheckpoints("old"))

    def test_transactions_that_cross(self, storage: Storage) -> None:
        """Transfers in both directions between the same executions neither hang nor get lost."""
        ids = [f"account-{number}" for number in range(3)]
        for id in ids:
            storage.backend.execute(Commit(id, None, (), [row("balance", id, version=100)]))
        backends = [storage.open().backend for _ in range(4)]

        def balances(backend: Any) -> dict[str, int]:
            return {id: backend.execute(FindCheckpoints(id, ""))[0].row.version for id in ids}

        def transfer(number: int) -> int:
            backend, made = backends[number], 0
            for turn in range(40):
                payer, payee = ids[(number + turn) % 3], ids[(number + turn + 1 + turn % 2) % 3]
                now = balances(backend)
                commits = [
                    Commit(
                        id, None, (), [row("balance", id, version=now[id] + change)],
                        expected=[Expected("", "balance", now[id])],
                    )
                    for id, change in ((payer, -1), (payee, 1))
                ]  # fmt: skip
                try:
                    backend.execute(Transaction(commits))
                except VersionConflict:
                    continue
                made += 1
            return made

        with ThreadPoolExecutor(4) as pool:
            made = sum(pool.map(transfer, range(4)))
        assert made > 0
        assert sum(balances(storage.backend).values()) == 300

    def test_a_cleared_execution_can_take_part(self, ask: Callable[[Request], Any]) -> None:
        epoch = ask(Commit("one", None, (), [row("a", "one")]))
        ask(Clear("one"))
        with pytest.raises(StaleEpoch):
            ask(Transaction([Commit("one", epoch, (), [row("b", "one")]), Commit("two", None)]))
        assert ask(FindExecutions()) == []
