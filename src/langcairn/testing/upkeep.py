"""The contract of maintenance: what goes, what stays, and that others may be at work meanwhile."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from langcairn.backends.base import Clear, Commit, FindOldChunks, Remove
from langcairn.checkpoint import Checkpoint
from langcairn.errors import CorruptData, InvalidInput, LeaseHeld
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.retention import Candidate, Retention
from langcairn.testing.audit import CLEAN, audit
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import config_of, put, values_of
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.testing.rows import chunk_id, row, write
from langcairn.thread_id import ThreadId

if TYPE_CHECKING:
    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage
    from langcairn.upkeep import MaintainedExecution, MaintenanceReport

_NOW = datetime.now(UTC)
_DAY = timedelta(days=1)


def _text(seed: int, size: int = 3000) -> str:
    """Return text that can't be compressed by much."""
    return Random(seed).randbytes(size // 2).hex()  # noqa: S311 -- no secret


def _fill(store: Caller, execution_id: str, days: range, namespace: str = "") -> None:
    """Save a checkpoint for each day, by its age; each has a text of its own."""
    for age in sorted(days, reverse=True):
        store.save(
            Checkpoint(
                id=f"{namespace}c{999 - age}",
                execution_id=execution_id,
                namespace=namespace,
                state={"text": _text(age), "all": "shared " * 500},
                timestamp=_NOW - age * _DAY,
                metadata={"pinned": age == 7},
            )
        )


def _ages(store: Caller, execution_id: str) -> list[int]:
    return [round((_NOW - one.timestamp) / _DAY) for one in store.list(execution_id)]


def _counts(report: MaintenanceReport) -> tuple[int, ...]:
    return (
        report.executions, report.changed, report.cleared,
        report.checkpoints, report.writes, report.chunks, report.bytes,
    )  # fmt: skip


class MaintenanceContract(Fixtures):
    """What every store's `maintain` and `erase_user` do.

    Needs a fixture ``storage`` that yields a fresh `langcairn.testing.Storage`.
    """

    @pytest.fixture
    def store(self, storage: Storage, calling: Calling) -> Caller:
        """Return an empty store."""
        return calling(storage.open())

    # Rules

    def test_a_rule(self, store: Caller, storage: Storage) -> None:
        rules = [
            (Retention(max_checkpoints=3), [1, 2, 3]),
            (Retention(max_age=4.5 * _DAY), [1, 2, 3, 4]),
            (Retention(max_age=0), [1]),
            (Retention(max_age=4.5 * _DAY, keep_latest=False), [1, 2, 3, 4]),
            (Retention(max_age=0, keep_latest=False), []),
            (Retention(max_checkpoints=3, max_age=2.5 * _DAY), [1, 2]),
            (Retention(max_checkpoints=2, keep=lambda one: one.metadata["pinned"]), [1, 2, 7]),
            (Retention(max_age=0, keep_latest=False, keep=lambda one: one.id == "c993"), [1, 6]),
            (Retention(max_bytes=0), [1]),
            (Retention(max_bytes=10**9), list(range(1, 10))),
            (Retention(), list(range(1, 10))),
            (Retention(max_checkpoints=1, threads="other"), list(range(1, 10))),
            (Retention(max_checkpoints=3, idle=0.5 * _DAY), [1, 2, 3]),
            (Retention(max_checkpoints=3, idle=1.5 * _DAY), list(range(1, 10))),
            (Retention(max_age=0, keep_latest=False, idle=timedelta.max), list(range(1, 10))),
        ]
        for rule, left in rules:
            with case(rule):
                store.clear("run")
                self._assert_leaves(store, storage, rule, left)

    def _assert_leaves(
        self, store: Caller, storage: Storage, rule: Retention, left: list[int]
    ) -> None:
        _fill(store, "run", range(1, 10))
        planned = store.maintain(rule, dry_run=True)
        assert _ages(store, "run") == list(range(1, 10))
        report = store.maintain(rule)
        assert _ages(store, "run") == left
        assert _counts(report) == _counts(planned)
        assert (report.checkpoints, report.ok, report.next) == (9 - len(left), True, None)
        assert audit(storage, "run") == CLEAN
        assert store.executions() == (["run"] if left else [])
        if not left:
            assert (report.cleared, storage.chunks("run")) == (1, {})
        for one in store.list("run"):
            age = round((_NOW - one.timestamp) / _DAY)
            assert one.state == {"text": _text(age), "all": "shared " * 500}
        # What goes is named, and what it took, too.
        named = [key for one in planned.details for key in one.checkpoints]
        gone = [age for age in range(9, 0, -1) if age not in left]
        assert sorted(named) == [("", f"c{999 - age}") for age in gone]
        if left != list(range(1, 10)):
            assert report.bytes > 1000 * report.checkpoints
        again = store.maintain(rule)
        assert (again.changed, again.bytes) == (0, 0)

    def test_the_largest_size(self, store: Caller, storage: Storage) -> None:
        _fill(store, "run", range(1, 30))
        (before,) = store.execution_stats()
        most = before.stored_bytes // 3
        for _ in range(3):  # Redis can't foretell how much memory it will take
            store.maintain(Retention(max_bytes=most))
        (after,) = store.execution_stats()
        assert most * 0.6 <= after.stored_bytes <= most
        assert _ages(store, "run") == list(range(1, after.checkpoints + 1))
        assert audit(storage, "run") == CLEAN

    def test_the_first_pattern_that_fits_counts(self, store: Caller) -> None:
        for name in ("team-a", "team-b", "legal", "x"):
            _fill(store, name, range(1, 5))
        rules = [
            Retention(threads="legal"),
            Retention(threads="team-?", max_checkpoints=1),
            Retention(threads="*-a", max_checkpoints=3),
            Retention(threads="TEAM*", max_checkpoints=2),
            Retention(max_checkpoints=2),
        ]
        store.maintain(iter(rules))
        left = [len(store.list(name)) for name in ("team-a", "team-b", "legal", "x")]
        assert left == [1, 1, 4, 2]

    def test_idle_executions_have_rules_of_their_own(self, store: Caller) -> None:
        for name, days in (("busy", range(1, 5)), ("idle", range(3, 7)), ("gone", range(9, 12))):
            _fill(store, name, days)
        rules = [
            Retention(idle=7.5 * _DAY, max_age=7.5 * _DAY, keep_latest=False),
            Retention(idle=2.5 * _DAY, max_checkpoints=2),
        ]
        assert store.maintain(rules).cleared == 1
        assert _ages(store, "busy") == [1, 2, 3, 4]
        assert _ages(store, "idle") == [3, 4]
        assert store.executions() == ["busy", "idle"]

    def test_the_rules_of_the_store(self, storage: Storage, calling: Calling) -> None:
        store = calling(storage.open(retention=Retention(max_checkpoints=2)))
        _fill(store, "run", range(1, 5))
        assert store.maintain(dry_run=True).checkpoints == 2
        assert store.maintain([]).checkpoints == 0
        assert store.maintain().checkpoints == 2

    def test_namespaces_are_counted_each(self, store: Caller) -> None:
        for namespace in ("", "child", "child|x"):
            _fill(store, "run", range(1, 5), namespace)
        assert store.maintain(Retention(max_checkpoints=1)).checkpoints == 9
        assert len(store.list("run")) == 3

    def test_clear_old_checkpoints(self, store: Caller) -> None:
        for name in ("a", "b", "old"):
            _fill(store, name, range(1, 5) if name != "old" else range(8, 10))
        assert store.clear_old_checkpoints(2.5 * _DAY, threads="a", dry_run=True).checkpoints == 2
        assert store.clear_old_checkpoints(2.5 * _DAY, threads="a").checkpoints == 2
        assert [len(store.list(name)) for name in ("a", "b", "old")] == [2, 4, 2]
        assert store.clear_old_checkpoints(2.5 * _DAY).checkpoints == 3
        assert [len(store.list(name)) for name in ("a", "b", "old")] == [2, 2, 1]
        assert store.clear_old_checkpoints(5 * _DAY, keep_latest=False).cleared == 1
        assert store.executions() == ["a", "b"]

    def test_a_keep_that_fails_keeps_everything(self, store: Caller) -> None:
        def keep(one: Candidate) -> bool:
            return bool({"b": 1}[one.execution_id])

        for name in ("a", "b", "c"):
            _fill(store, name, range(1, 5))
        report = store.maintain(Retention(max_checkpoints=1, keep=keep))
        assert sorted(report.errors) == ["a", "c"]
        assert all(type(error) is InvalidInput for error in report.errors.values())
        assert "keep= failed for checkpoint" in str(report.errors["a"])
        assert (report.ok, report.checkpoints) == (False, 0)
        assert [len(store.list(name)) for name in ("a", "b", "c")] == [4, 4, 4]

    # What crashes leave

    def test_chunks_that_nothing_refers_to(self, store: Caller, storage: Storage) -> None:
        _fill(store, "swept", range(1, 5))
        _fill(store, "run", range(1, 5))
        # Removed, and not swept: the process died in between.
        storage.backend.execute(Remove("run", [("", "c995"), ("", "c996")]))
        assert len(audit(storage, "run").garbage) == 2
        planned = store.maintain(dry_run=True)
        assert store.maintain(garbage=False).changed == 0
        assert len(audit(storage, "run").garbage) == 2
        report = store.maintain()
        assert _counts(report) == _counts(planned)
        assert (report.changed, report.checkpoints, report.chunks) == (1, 0, 2)
        assert report.bytes > 2000
        assert audit(storage, "run") == audit(storage, "swept") == CLEAN
        assert len(store.list("run")) == 2

    def test_fresh_chunks_without_rows_may_be_somebodys(
        self, store: Caller, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _fill(store, "run", range(1, 3))
        # As a copy stores them, before the rows.
        storage.backend.execute(Commit("run", None, [(chunk_id(1), b"x" * 100)]))
        assert store.maintain().chunks == 0
        assert len(audit(storage, "run").garbage) == 1
        monkeypatch.setattr("langcairn.upkeep._GRACE", -(10**12))
        assert store.maintain(dry_run=True).chunks == 1
        report = store.maintain()
        assert (report.chunks, report.bytes) == (1, 100)
        assert audit(storage, "run") == CLEAN
        store.save(Checkpoint(id="c999", execution_id="run", state={"text": _text(1)}))
        assert store.load("c999").state == {"text": _text(1)}

    def test_writes_whose_checkpoint_never_came(
        self, store: Caller, storage: Storage, calling: Calling
    ) -> None:
        saver = calling(CheckpointSaver(storage.open()))
        for number in (1, 3):
            put(saver, number, {"n": number})
        for number in (2, 4):  # 4 may still come
            saver.put_writes(put_config(number), [("x", _text(number))], "task")
        planned = store.maintain(dry_run=True)
        report = store.maintain()
        assert _counts(report) == _counts(planned)
        assert (report.writes, report.chunks, report.checkpoints) == (1, 1, 0)
        put(saver, 4, {"n": 4}, parent=3)
        (found,) = saver.get_tuple(config_of("thread")).pending_writes
        assert found[2] == _text(4)
        assert audit(storage, "thread") == CLEAN

    def test_empty_executions_go(self, store: Caller, storage: Storage) -> None:
        _fill(store, "run", range(1, 3))
        storage.backend.execute(Remove("run", [("", "c997"), ("", "c998")]))
        _fill(store, "other", range(1, 3))
        assert storage.chunks("run")
        assert store.maintain(dry_run=True).cleared == 1
        report = store.maintain()
        assert (report.cleared, store.executions()) == (1, ["other"])
        assert storage.chunks("run") == {}

    def test_only_what_is_empty_is_cleared(self, storage: Storage, calling: Calling) -> None:
        ask = calling(storage.backend).execute
        assert ask(Clear("nobody", only_empty=True)) is False
        ask(Commit("run", None, [(chunk_id(1), b"one")], [row("c1")]))
        assert ask(Clear("run", only_empty=True)) is False
        ask(Remove("run", [("", "c1")]))
        ask(Commit("run", None, (), (), [write()]))
        assert ask(Clear("run", only_empty=True)) is False
        epoch = ask(Remove("run", [("", "c1")]))
        assert ask(FindOldChunks("run", epoch)) == [chunk_id(1)]
        assert ask(Clear("run", only_empty=True)) is True
        assert ask(FindOldChunks("run", 2**62)) == []
        assert ask(Clear("run", only_empty=True)) is False

    # Others

    def test_a_lease_is_respected(self, store: Caller, storage: Storage) -> None:
        for name in ("a", "b", "c"):
            _fill(store, name, range(1, 5))
        rule = Retention(max_checkpoints=1)
        with storage.open().lease("b", owner="worker"):
            report = store.maintain(rule)
            assert (report.leased, report.errors, report.checkpoints) == (["b"], {}, 6)
            assert len(store.list("b")) == 4
            whole = store.maintain(Retention(max_age=0, keep_latest=False))
            assert (whole.leased, whole.cleared) == (["b"], 2)
        assert store.maintain(rule).checkpoints == 3
        # Whose lease it is, may.
        with store.target.lease("b"):
            report = store.maintain(Retention(max_age=0, keep_latest=False))
            assert (report.leased, report.checkpoints, report.cleared) == ([], 1, 0)
        assert store.maintain().cleared == 1
        assert store.executions() == []

    def test_a_damaged_execution_stops_no_other(self, store: Caller, storage: Storage) -> None:
        for name in ("a", "b", "c"):
            _fill(store, name, range(1, 5))
        storage.replace_column("b", "", "c998", "metadata", b"[1]")
        report = store.maintain(Retention(max_checkpoints=1))
        assert list(report.errors) == ["b"]
        assert isinstance(report.errors["b"], CorruptData)
        assert (report.executions, report.checkpoints) == (3, 6)
        assert [len(store.list(name)) for name in ("a", "c")] == [1, 1]

    def test_a_lost_page_keeps_chunks_and_is_said(
        self, store: Caller, storage: Storage, calling: Calling
    ) -> None:
        state = {"log": [_text(number, 300) for number in range(40)]}
        for number in (1, 2):
            store.save(Checkpoint(id=f"c{number}", execution_id="run", state=state))
        for id in storage.chunks("run"):
            storage.drop_chunk("run", id)
        storage.replace_chunk("run", chunk_id(1), b"what refers to it, can't be known")
        report = calling(storage.open()).maintain(Retention(max_checkpoints=1))
        assert list(report.errors) == ["run"]
        assert report.checkpoints == 1
        assert list(storage.chunks("run")) == [chunk_id(1)]

    def test_part_by_part(self, store: Caller) -> None:
        names = [f"run {number}" for number in range(7)]
        for name in names:
            _fill(store, name, range(1, 3))
        rule = Retention(max_checkpoints=1)
        seen: list[str] = []

        def note(done: MaintainedExecution) -> None:
            seen.append(done.execution_id)
            assert done.checkpoints == [("", "c997")]

        assert store.maintain(rule, limit=0).next == ""
        assert store.maintain(rule, seconds=0).executions == 0
        report = store.maintain(rule, limit=3, progress=note)
        assert (report.next, report.executions, seen) == (names[2], 3, names[:3])
        report = store.maintain(rule, limit=3, after=report.next, progress=note)
        report = store.maintain(rule, limit=3, after=report.next, progress=note)
        assert (report.next, report.executions, seen) == (None, 1, names)
        assert store.maintain(rule).changed == 0

    def test_beside_running_threads(self, store: Caller, storage: Storage) -> None:
        """Whatever was acknowledged and is to be kept, is there and whole."""
        last = 40
        failed: list[BaseException] = []

        def run(thread: str) -> None:
            saver = CheckpointSaver(storage.open())
            try:
                for number in range(1, last + 1):
                    log = [_text(i, 400) for i in range(number)]
                    before = number - 1 or None
                    config = put(saver, number, {"log": log}, thread=thread, parent=before)
                    saver.put_writes(config, [("log", [_text(-number, 400)])], "task")
                    assert values_of(saver, config_of(thread)) == {"log": log}
            except BaseException as error:  # noqa: BLE001 -- told below
                failed.append(error)

        threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        rule = Retention(max_checkpoints=3)
        while any(thread.is_alive() for thread in threads):
            assert store.maintain(rule).ok
        assert not failed
        store.maintain(rule)
        reader = CheckpointSaver(storage.open())
        for name in ("a", "b"):
            found = list(reader.list(config_of(name)))
            assert [one.metadata["step"] for one in found] == [last, last - 1, last - 2]
            for one in found:
                number = int(one.metadata["step"])
                assert one.checkpoint["channel_values"]["log"] == [
                    _text(i, 400) for i in range(number)
                ]
                assert one.pending_writes == [("task", "log", [_text(-number, 400)])]
            assert audit(storage, name) == CLEAN

    # Erasing

    def test_erasing_a_user(self, store: Caller, storage: Storage) -> None:
        own = [str(ThreadId.new("ada", kind)) for kind in ("chat", "mail", "chat")]
        others = [str(ThreadId.new(user)) for user in ("ada2", "Ada", "ad", "ada~x")]
        for name in [*own, *others, "ada"]:
            _fill(store, name, range(1, 4))
        reader = storage.open()
        assert len(reader.list(own[0])) == 3  # another process, whose cache knows it
        report = store.erase_user("ada")
        assert (report.user_id, report.executions) == ("ada", sorted(own))
        assert store.executions(user_id="ada") == []
        assert store.executions() == sorted([*others, "ada"])
        for name in own:
            assert store.list(name) == reader.list(name) == []
            assert storage.chunks(name) == {}
        for name in [*others, "ada"]:
            assert len(store.list(name)) == 3
        assert store.erase_user("ada").executions == []
        with pytest.raises(InvalidInput, match="user_id"):
            store.erase_user("")
        # Who wrote to it may do so again, from the beginning.
        _fill(store, own[0], range(1, 4))
        assert audit(storage, own[0]) == CLEAN

    def test_erasing_does_not_pass_over_a_lease(self, store: Caller, storage: Storage) -> None:
        own = sorted(str(ThreadId.new("ada")) for _ in range(3))
        for name in own:
            _fill(store, name, range(1, 4))
        with (
            storage.open().lease(own[1], owner="worker"),
            pytest.raises(LeaseHeld, match="call erase_user again") as caught,
        ):
            store.erase_user("ada")
        assert caught.value.owner.startswith("worker")
        assert store.executions(user_id="ada") == [own[1]]
        assert store.erase_user("ada").executions == [own[1]]

    def test_bad_arguments(self, store: Caller) -> None:
        for arguments in (
            {"retention": "keep all"},
            {"retention": 5},
            {"limit": -1},
            {"seconds": "soon"},
            {"after": 5},
        ):
            with pytest.raises(InvalidInput):
                store.maintain(**arguments)
        with pytest.raises(InvalidInput, match="max_age"), suppress(KeyError):
            store.clear_old_checkpoints(-1)


def put_config(number: int) -> Any:
    """Return the config of a checkpoint by its number."""
    return config_of("thread", id=f"1f000000-0000-6000-8000-{number:012x}")
