"""The contract of guarded stores."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from langcairn.backends.base import Commit
from langcairn.checkpoint import Checkpoint
from langcairn.errors import AccessDenied, CheckpointNotFound, InvalidInput
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.security.guard import Action, matching, own_executions, read_only
from langcairn.testing.checkpoints import checkpoint_id, config_of, put, values_of
from langcairn.testing.fixtures import Calling, Fixtures
from langcairn.thread_id import ThreadId

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.store import CheckpointStore
    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage

_ADA, _BOB = str(ThreadId.new("ada")), str(ThreadId.new("bob"))


def _record(execution_id: str, id: str = "c1") -> Checkpoint:
    return Checkpoint(id=id, execution_id=execution_id, state={"whose": execution_id})


def _assert_denied(*operations: Callable[[], object]) -> None:
    for operation in operations:
        with pytest.raises(AccessDenied, match=r"may not (read|write|delete) execution"):
            operation()


class GuardContract(Fixtures):
    """What a guard lets through, and what it doesn't, on every backend."""

    @pytest.fixture
    def whole(self, storage: Storage, calling: Calling) -> CheckpointStore:
        """Return a store with a checkpoint of two users each."""
        store = storage.open()
        calling(store).save_many([_record(_ADA), _record(_BOB)])
        return store

    @pytest.fixture
    def adas(self, whole: CheckpointStore, calling: Calling) -> Caller:
        """Return the store as ada may use it."""
        return calling(whole.guard(own_executions, "ada"))

    def test_who_owns_an_execution_may_do_all_with_it(self, adas: Caller) -> None:
        assert [one.execution_id for one in adas.list(_ADA)] == [_ADA]
        adas.save(_record(_ADA, "c2"))
        assert adas.load("c2").state == {"whose": _ADA}
        assert adas.delete("c2", execution_id=_ADA) is True
        assert adas.clear(_ADA) is True
        assert adas.list(_ADA) == []

    def test_nobody_else_may_do_anything_with_it(
        self, adas: Caller, whole: CheckpointStore, calling: Calling
    ) -> None:
        _assert_denied(
            lambda: adas.list(_BOB),
            lambda: adas.load("c1", execution_id=_BOB),
            lambda: adas.save(_record(_BOB, "c2")),
            lambda: adas.delete("c1", execution_id=_BOB),
            lambda: adas.clear(_BOB),
        )
        (left,) = calling(whole).list(_BOB)
        assert left.state == {"whose": _BOB}

    def test_refusals_do_not_tell_what_exists(
        self, adas: Caller, whole: CheckpointStore, calling: Calling
    ) -> None:
        nobody = str(ThreadId.new("bob"))

        def refusal(execution_id: str) -> str:
            with pytest.raises(AccessDenied) as raised:
                adas.load("c1", execution_id=execution_id)
            return str(raised.value).replace(execution_id, "")

        assert refusal(_BOB) == refusal(nobody)
        calling(whole).save(_record(_BOB, "secret"))
        with pytest.raises(CheckpointNotFound):
            adas.load("secret")
        assert adas.delete("secret") is False
        assert len(calling(whole).list(_BOB)) == 2

    def test_searches_see_what_may_be_read(
        self, adas: Caller, whole: CheckpointStore, calling: Calling
    ) -> None:
        assert adas.load("c1").execution_id == _ADA  # not ambiguous: bob's isn't seen
        assert adas.executions() == [_ADA]
        others = [str(ThreadId.new("bob")) for _ in range(120)]
        calling(whole).save_many([_record(other, f"o{i}") for i, other in enumerate(others)])
        last = str(ThreadId.new("ada"))
        calling(whole).save(_record(last, "c0"))
        assert adas.executions() == sorted([_ADA, last])
        assert adas.executions(limit=1) == [_ADA]
        saver = calling(CheckpointSaver(adas.target))
        assert [one.config["configurable"]["thread_id"] for one in saver.list(None)] == [_ADA, last]
        assert len(list(saver.list(None, limit=1))) == 1

    def test_a_saver_works_on_a_guarded_store(
        self, whole: CheckpointStore, calling: Calling
    ) -> None:
        saver = calling(CheckpointSaver(whole.guard(own_executions, "ada")))
        put(saver, 1, {"a": "x" * 500}, thread=_ADA)
        saver.put_writes(config_of(_ADA, "", checkpoint_id(1)), [("a", "y")], "task")
        assert values_of(saver, config_of(_ADA, "", checkpoint_id(1))) == {"a": "x" * 500}
        _assert_denied(
            lambda: put(saver, 2, {"a": 1}, thread=_BOB),
            lambda: saver.put_writes(config_of(_BOB, "", "c1"), [("a", "y")], "task"),
            lambda: saver.get_tuple(config_of(_BOB)),
            lambda: list(saver.list(config_of(_BOB))),
            lambda: saver.delete_thread(_BOB),
            lambda: saver.prune([_ADA, _BOB]),
            lambda: saver.copy_thread(_BOB, _ADA),
            lambda: saver.copy_thread(_ADA, _BOB),
        )
        assert [one.id for one in calling(whole).list(_BOB)] == ["c1"]

    def test_read_only(self, whole: CheckpointStore, calling: Calling) -> None:
        store = calling(whole.guard(read_only(), "auditor"))
        assert sorted(store.executions()) == sorted([_ADA, _BOB])
        assert store.load("c1", execution_id=_BOB).id == "c1"
        _assert_denied(
            lambda: store.save(_record(_ADA, "c2")),
            lambda: store.delete("c1", execution_id=_ADA),
            lambda: store.clear(_ADA),
        )
        own = calling(whole.guard(read_only(own_executions), "ada"))
        assert own.executions() == [_ADA]

    def test_patterns(self, storage: Storage, calling: Calling) -> None:
        store = storage.open()
        guarded = calling(store.guard(matching("team-a/*", actions=["read", "write"]), "me"))
        guarded.save(_record("team-a/1"))
        _assert_denied(
            lambda: guarded.save(_record("team-b/1")),
            lambda: guarded.save(_record("Team-a/1")),
            lambda: guarded.clear("team-a/1"),
        )
        with pytest.raises(InvalidInput, match="actions are read, write, delete"):
            matching("*", actions=["look"])

    def test_who_asks_may_stand_in_the_context(
        self, whole: CheckpointStore, calling: Calling
    ) -> None:
        user: ContextVar[str] = ContextVar("user")
        store = whole.guard(own_executions, user)
        with pytest.raises(AccessDenied, match="not known who asks"):
            store.list(_ADA)
        token = user.set("ada")
        try:
            assert len(store.list(_ADA)) == 1
            with pytest.raises(AccessDenied):
                store.list(_BOB)
        finally:
            user.reset(token)
        assert len(calling(whole.guard(own_executions, lambda: "bob")).list(_BOB)) == 1
        with pytest.raises(AccessDenied, match="no name"):
            whole.guard(own_executions, "").list(_ADA)

    def test_what_a_guard_does_not_know_is_refused(self, adas: Caller) -> None:
        class NewRequest(NamedTuple):
            execution_id: str

        request: Any = NewRequest(_ADA)
        with pytest.raises(AccessDenied, match="NewRequest"):
            adas.target.backend.execute(request)

    def test_a_policy_that_fails_allows_nothing(
        self, whole: CheckpointStore, calling: Calling
    ) -> None:
        def broken(who: str, action: Action, execution_id: str) -> bool:
            raise RuntimeError(who + action + execution_id)

        async def forgotten(who: str, action: Action, execution_id: str) -> bool:
            return bool(who and action and execution_id)

        for policy in (broken, lambda *_: "yes", lambda: True):
            guarded: Any = calling(whole.guard(policy, "ada"))  # type: ignore[arg-type]  # bad ones
            with pytest.raises(AccessDenied):
                guarded.save(_record(_ADA, "c2"))
        guarded = whole.guard(forgotten, "ada")  # type: ignore[arg-type]  # a mistake of a user's
        with (
            pytest.warns(RuntimeWarning, match="never awaited"),
            pytest.raises(AccessDenied),
        ):
            guarded.clear(_ADA)
        with pytest.raises(InvalidInput, match="policy is a function"):
            whole.guard("all", "ada")  # type: ignore[arg-type]  # a mistake of a user's
        with pytest.raises(InvalidInput, match="who="):
            whole.guard(own_executions, 7)  # type: ignore[arg-type]  # likewise

    def test_closing_a_guard_closes_nothing(self, adas: Caller, whole: CheckpointStore) -> None:
        adas.close()
        assert len(whole.list(_ADA)) == 1

    def test_a_commit_is_asked_about_by_its_execution(self, adas: Caller) -> None:
        with pytest.raises(AccessDenied):
            adas.target.backend.execute(Commit(_BOB, None))
