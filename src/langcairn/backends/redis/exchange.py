"""From steps to what is sent, and from replies to outcomes: the part that no driver sees."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from redis.exceptions import NoPermissionError, NoScriptError

from langcairn.backends.redis.commands import Command, Step
from langcairn.backends.redis.faults import translation
from langcairn.errors import CairnError, StoreUnavailable

Outcome = list[Any] | CairnError
"""The replies to a step, or what failed it."""
Sending = Generator[Sequence[Command], list[Any], list[Outcome]]
"""Yields what to send, as ``words``; is sent the replies, errors among them; returns outcomes."""

_log = logging.getLogger("langcairn")


class Exchange:
    """How the steps of one store are sent.

    Args:
        server: The server's name, for messages.
        wait_aof: How long to wait until what was written is in the server's append-only file
            [ms]; 0: not at all.
    """

    def __init__(self, server: str, wait_aof: int) -> None:
        self._server = server
        self._wait_aof = wait_aof
        self._policy_known = False
        self._lock = threading.Lock()

    def begin(self, steps: Sequence[Step], node: Callable[[bytes], str]) -> Sending:
        """Send steps together; each has an outcome of its own.

        Args:
            steps: What to send.
            node: Names the node of a key.
        """
        commands = [command for step in steps for command in step.commands]
        barriers = self._barriers(steps, node)
        inquiry = self._inquiry(commands)
        replies = yield [*commands, *barriers, *inquiry]
        if inquiry:
            self._note_policy(replies.pop())
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # Those that the server knew are done. It knows the others from now on.
            again = [commands[i]._replace(words=commands[i].full or ()) for i in unknown]
            late = yield [*again, *barriers]
            for i, reply in zip(unknown, late, strict=False):
                replies[i] = reply
            replies[len(commands) :] = late[len(again) :]
        lasting = [self._lasting(reply) for reply in replies[len(commands) :]]
        return self._outcomes(steps, replies, [error for error in lasting if error is not None])

    def failure(self, error: Exception) -> CairnError:
        """Return what it means that nothing could be sent, or nothing was answered."""
        return error if isinstance(error, CairnError) else translation(error, self._server)

    def _outcomes(
        self, steps: Sequence[Step], replies: list[Any], not_lasting: list[CairnError]
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        at = 0
        for step in steps:
            part = replies[at : at + len(step.commands)]
            at += len(part)
            errors = [
                self.failure(reply)
                for reply in part
                if isinstance(reply, Exception)
                and not (step.optional and isinstance(reply, NoPermissionError))
            ]
            if step.writes:
                errors += not_lasting
            outcomes.append(errors[0] if errors else part)
        return outcomes

    def _barriers(self, steps: Sequence[Step], node: Callable[[bytes], str]) -> list[Command]:
        """Return the commands that wait for the append-only file, one for each node written to."""
        if not self._wait_aof:
            return []
        keys = {node(c.key): c.key for step in steps if step.writes for c in step.commands}
        return [Command(key, ("WAITAOF", 1, 0, self._wait_aof)) for key in keys.values()]

    def _lasting(self, reply: Any) -> CairnError | None:
        """Return what failed a wait for the append-only file, None if nothing did."""
        if isinstance(reply, Exception):
            return self.failure(reply)
        if reply[0] < 1:
            return StoreUnavailable(
                f"{self._server}: what was written is in memory, but after "
                f"{self._wait_aof / 1000} s not on disk yet (wait_aof)"
            )
        return None

    def _inquiry(self, commands: Sequence[Command]) -> list[Command]:
        """Return the command that asks, once, whether the server may evict what it stores."""
        if self._policy_known or not commands:
            return []
        return [Command(commands[0].key, ("INFO", "memory"))]

    def _note_policy(self, reply: Any) -> None:
        with self._lock:
            known, self._policy_known = self._policy_known, True
        # An error says that the user has no right to ask; that is all right.
        policy = reply.get("maxmemory_policy") if isinstance(reply, dict) else None
        if policy not in (None, "noeviction") and not known:
            _log.warning(
                "%s has the maxmemory-policy %s: when memory runs short it removes executions as "
                "if they had never been. Set it to noeviction to be told (StoreFull) instead.",
                self._server,
                policy,
            )
