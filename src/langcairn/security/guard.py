"""Access control: who may read, write and delete which executions.

A guard is a backend that stands before another one and asks a policy about each request. It looks
only at ids, before anything is asked of the storage, so a refusal says nothing about whether there
is such an execution. What it doesn't know is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextvars import ContextVar
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from langcairn.backends.base import (
    RESERVED,
    AcquireLease,
    Backend,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    Position,
    ReleaseLease,
    Remove,
    RenewLease,
    Request,
    Sweep,
    Transaction,
)
from langcairn.errors import AccessDenied, InvalidInput
from langcairn.running import arun, run
from langcairn.thread_id import ThreadId

if TYPE_CHECKING:
    from typing import TypeAlias

    from langcairn.backends.measures import Load


class Action(StrEnum):
    """What someone is about to do with an execution."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


Policy = Callable[[str, Action, str], bool]
"""Tells whether somebody may do something with an execution: ``policy(who, action, id)``."""

Who: TypeAlias = "str | ContextVar[str] | Callable[[], str]"
"""Who asks: a name, or where it stands during a request of a web service."""


def own_executions(who: str, action: Action, execution_id: str) -> bool:  # noqa: ARG001 -- a policy
    """Allow everything with the executions whose `ThreadId` names who asks as its user."""
    return _user_of(execution_id) == who


@lru_cache(4096)  # a run asks a dozen times for its thread
def _user_of(execution_id: str) -> str | None:
    try:
        return ThreadId.parse(execution_id).user_id
    except InvalidInput:
        return None


def matching(*patterns: str, actions: Iterable[Action | str] = tuple(Action)) -> Policy:
    """Return a policy that allows actions with the executions whose ids match a pattern.

    Args:
        *patterns: As of `fnmatch`, with upper and lower case told apart: ``"team-a/*"``.
        actions: What is allowed: ``"read"``, ``"write"``, ``"delete"``.

    Raises:
        InvalidInput: There is no such action.
    """
    try:
        allowed = frozenset(map(Action, actions))
    except ValueError as error:
        raise InvalidInput(f"{error}: actions are {', '.join(Action)}") from error

    def policy(who: str, action: Action, execution_id: str) -> bool:  # noqa: ARG001 -- a policy
        return action in allowed and any(fnmatchcase(execution_id, one) for one in patterns)

    return policy


def read_only(policy: Policy | None = None) -> Policy:
    """Return a policy that allows reading: what another policy allows to read, or everything."""

    def reading(who: str, action: Action, execution_id: str) -> bool:
        if action is not Action.READ:
            return False
        return policy is None or policy(who, action, execution_id)

    return reading


_ACTIONS: dict[type, Action] = {
    FindCheckpoints: Action.READ,
    FindWrites: Action.READ,
    FetchChunks: Action.READ,
    Remove: Action.DELETE,
    FindOldChunks: Action.DELETE,
    Sweep: Action.DELETE,
    Clear: Action.DELETE,
    AcquireLease: Action.WRITE,
    RenewLease: Action.WRITE,
    ReleaseLease: Action.WRITE,
}
_PAGE = 100  # [executions or checkpoints asked for at a time, where some may be passed over]

_Steps = Generator[Request, Any, object]


class GuardedBackend(Backend):
    """Passes on what a policy allows, and refuses the rest.

    Args:
        inner: The backend that stores. It stays open when this one is closed.
        policy: What is allowed.
        who: Who asks.
    """

    def __init__(self, inner: Backend, policy: Policy, who: Who) -> None:
        if not callable(policy):
            raise InvalidInput(f"a policy is a function, not {type(policy).__name__}")
        if not (isinstance(who, (str, ContextVar)) or callable(who)):
            raise InvalidInput(
                f"who= is a name, a ContextVar or a function, not {type(who).__name__}"
            )
        self.inner = inner
        self._policy = policy
        self._who = who

    @property
    def is_for_one(self) -> bool:
        """Whether it is always the same who asks."""
        return isinstance(self._who, str)

    @override
    def execute(self, request: Request) -> object:
        return run(self.inner.execute, self._steps(request))[0]

    @override
    async def aexecute(self, request: Request) -> object:
        return (await arun(self.inner.aexecute, self._steps(request)))[0]

    @property
    @override
    def name(self) -> str:
        return self.inner.name

    @override
    def load(self) -> Load:
        return self.inner.load()

    @override
    def close(self) -> None:
        """Do nothing: the store that is guarded goes on."""

    @override
    async def aclose(self) -> None:
        """Do nothing, as `close`."""

    def _steps(self, request: Request) -> _Steps:
        who = self._name()
        if isinstance(request, FindExecutions):
            return (yield from self._executions(who, request))
        if isinstance(request, FindCheckpoints) and request.execution_id is None:
            return (yield from self._checkpoints(who, request))
        if isinstance(request, Transaction):
            for commit in request.commits:
                self._check_commit(who, commit)
            return (yield request)
        if isinstance(request, Commit):
            self._check_commit(who, request)
            return (yield request)
        if isinstance(request, (FetchChunks, FindOldChunks)) and request.execution_id == RESERVED:
            return (yield request)  # what everybody's content is opened with
        action = _ACTIONS.get(type(request))
        if action is None:
            raise AccessDenied(f"a guard does not know {type(request).__name__}, and refuses it")
        self._check(who, action, cast("Commit", request).execution_id)  # as all above have one
        return (yield request)

    def _name(self) -> str:
        who = self._who
        try:
            if isinstance(who, ContextVar):
                who = who.get()
            elif not isinstance(who, str):
                who = who()
        except Exception as error:
            raise AccessDenied(f"it is not known who asks: {error!r}") from error
        if not isinstance(who, str) or not who:
            raise AccessDenied(f"it is not known who asks: {who!r} is no name")
        return who

    def _check_commit(self, who: str, commit: Commit) -> None:
        if commit.removals:
            self._check(who, Action.DELETE, commit.execution_id)
        self._check(who, Action.WRITE, commit.execution_id)

    def _check(self, who: str, action: Action, execution_id: str) -> None:
        if not self._allows(who, action, execution_id):
            raise AccessDenied(f"{who!r} may not {action} execution {execution_id!r}")

    def _allows(self, who: str, action: Action, execution_id: str) -> bool:
        try:
            # Only the very truth: a policy that forgot to await returns a coroutine.
            return self._policy(who, action, execution_id) is True
        except Exception as error:
            raise AccessDenied(
                f"{who!r} may not {action} execution {execution_id!r}: the policy failed"
            ) from error

    # What isn't about one execution shows those that may be read, as if there were no others.

    def _executions(self, who: str, request: FindExecutions) -> _Steps:
        allowed: list[str] = []
        while request.limit is None or len(allowed) < request.limit:
            found: list[str] = yield request._replace(limit=_PAGE)
            allowed += [id for id in found if self._allows(who, Action.READ, id)]
            if len(found) < _PAGE:
                break
            request = request._replace(after=found[-1])
        return allowed[: request.limit]

    def _checkpoints(self, who: str, request: FindCheckpoints) -> _Steps:
        allowed: list[FoundCheckpoint] = []
        while request.limit is None or len(allowed) < request.limit:
            found: list[FoundCheckpoint] = yield request._replace(limit=_PAGE)
            allowed += [one for one in found if self._allows(who, Action.READ, one.row[0])]
            if len(found) < _PAGE:
                break
            last = found[-1].row
            request = request._replace(after=Position(last.id, last.execution_id, last.namespace))
        return allowed[: request.limit]
