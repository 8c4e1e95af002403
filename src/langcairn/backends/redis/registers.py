"""The registers of executions: which there may be, in ascending order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langcairn.backends.redis.commands import Command, Step, command

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from langcairn.backends.base import FindExecutions
    from langcairn.backends.redis.keys import Keys

_PAGE = 1000  # [ids read at a time from each register]


class Registers:
    """Reads the registers of a store, and keeps them in order.

    They may name executions that are gone; each is looked for before it is believed.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def entry(self, execution_id: str) -> Command:
        """Return the command that enters an execution."""
        return command("ZADD", self._keys.register(execution_id), 0, execution_id)

    def find(self, query: FindExecutions) -> Generator[Step, list[Any], list[str]]:
        """Find executions as a query says."""
        found: list[str] = []
        after, limit = query.after, query.limit
        while limit is None or len(found) < limit:
            count = _PAGE if limit is None else min(limit, _PAGE)
            ids = yield from self.page(after, count, query.before)
            if not ids:
                break
            found += yield from self._existing(ids)
            after = ids[-1]
        return found[:limit]

    def page(
        self, after: str, count: int = _PAGE, before: str | None = None
    ) -> Generator[Step, list[Any], list[str]]:
        """Return the next ids behind one, at most ``count``; none if there are no more."""
        start = b"(" + after.encode()
        end = b"+" if before is None else b"(" + before.encode()
        pages = yield Step(
            [
                command("ZRANGEBYLEX", register, start, end, "LIMIT", 0, count)
                for register in self._keys.registers()
            ]
        )
        # Each register has answered with its first ones, so the first ones of all are among them.
        return sorted(id.decode() for page in pages for id in page)[:count]

    def tidy(self, execution_id: str) -> Generator[Step, list[Any], None]:
        """Strike out some executions that have expired, if the register has any.

        Every execution that begins looks at two others. So registers hold about as many that are
        gone as are there, and not all that ever were.
        """
        register = self._keys.register(execution_id)
        (sample,) = yield Step([command("ZRANDMEMBER", register, 2)])
        yield from self._existing([id.decode() for id in sample])

    def strike_out(self, ids: Sequence[str]) -> Generator[Step, list[Any], None]:
        """Strike out executions that are gone."""
        keys = self._keys
        yield Step([command("ZREM", keys.register(id), id) for id in ids], writes=True)
        # One that begins meanwhile may have been entered just before it was struck out.
        back = yield from self._look(ids)
        if back:
            yield Step([self.entry(id) for id in back], writes=True)

    def _existing(self, ids: Sequence[str]) -> Generator[Step, list[Any], list[str]]:
        """Return those executions that are there, and strike out the others."""
        existing = yield from self._look(ids)
        gone = set(ids).difference(existing)
        if gone:
            yield from self.strike_out(sorted(gone))
        return existing

    def _look(self, ids: Sequence[str]) -> Generator[Step, list[Any], list[str]]:
        replies = yield Step([command("EXISTS", self._keys.execution(id)) for id in ids])
        return [id for id, exists in zip(ids, replies, strict=True) if exists]
