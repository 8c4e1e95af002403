"""What each request takes on Redis, whoever sends it: commands out, replies in.

Everything of an execution is in one sorted set, so that a script on it is atomic, in a cluster
too. Two kinds of keys can't be in that script, because they may live on other nodes: the notes
which executions may hold a checkpoint of some id, and the registers of executions. They only say
where to look; what they say is checked in the execution itself. What must not happen is that one
is missing for something that was acknowledged. Against that:

- A note is written before its checkpoint is committed, so that a crash in between costs nothing.
- A removal takes back only the notes that it read before it removed the checkpoints: each writing
  puts a new token in. So it takes back none that a later commit has made. An earlier one can't be
  committed any more, because the removal has raised the epoch. A commit that is welcome in any
  epoch therefore writes its notes once more when it is done.
- An execution can begin only with a commit that is welcome in any epoch. Such a commit enters it
  in its register before and after. Who strikes one out looks once more whether it is gone.

Where executions expire, notes live up to four times as long as they must, and are renewed all
together before the first could expire. The time until which none does is the execution's horizon,
which every commit looks at. A store that keeps executions for ever takes both expiry and horizon
away from those that it writes to.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from langcairn.backends.base import (
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    Remove,
    Request,
    Rewrite,
    Sweep,
    WriteRow,
    next_epoch,
)
from langcairn.backends.measures import Measure, MeasureExecutions, Ping
from langcairn.backends.redis import table
from langcairn.backends.redis.commands import (
    COMMIT,
    FETCH,
    FORGET,
    NOTE,
    REMOVE,
    REWRITE,
    SWEEP,
    Argument,
    Command,
    Plan,
    Step,
    batches,
    command,
)
from langcairn.backends.redis.finding import UNCHANGED, Finding
from langcairn.backends.redis.measuring import Measuring
from langcairn.backends.redis.registers import Registers
from langcairn.errors import InvalidInput, StaleEpoch, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langcairn.backends.redis.keys import Keys

T = TypeVar("T")
_Part = Generator[Step, list[Any], T]

_NAMES = 2000  # [names read at a time]
_VALUES = 500  # [writes or chunks read at a time]
# Redis' largest value is 512 MB, and a server drops a client that sends more than 1 GB at once.
_LARGEST_VALUE = 511 * 2**20  # [bytes]
_LARGEST_COMMIT = 1000 * 2**20  # [bytes]
_ATTEMPTS = 20


class Plans:
    """Plans for the requests to one store.

    Args:
        keys: The names of its keys.
        ttl: How long an execution lives after it was last written [ms]; 0: for ever.
        renew_on_read: Whether it lives on when it is read, too.
    """

    def __init__(self, keys: Keys, ttl: int, *, renew_on_read: bool) -> None:
        self._keys = keys
        self._ttl = ttl
        self._registers = Registers(keys)
        self._finding = Finding(
            keys, self._registers, ttl if renew_on_read else UNCHANGED, self._renew_notes
        )
        measuring = Measuring(keys, self._registers)
        self._makers: dict[type, Callable[[Any], Plan]] = {
            Commit: self._commit,
            FindCheckpoints: self._finding.find,
            FindWrites: self._find_writes,
            FetchChunks: self._fetch_chunks,
            FindExecutions: self._registers.find,
            Remove: self._remove,
            FindOldChunks: self._find_old_chunks,
            Sweep: self._sweep,
            Rewrite: self._rewrite,
            Clear: self._clear,
            Ping: measuring.ping,
            Measure: measuring.all,
            MeasureExecutions: measuring.by_execution,
        }

    def make(self, request: Request) -> Plan:
        """Return a plan that answers a request. It may be made anew as often as necessary."""
        return self._makers[type(request)](request)

    # Committing

    def _commit(self, commit: Commit) -> Plan:
        execution_id = commit.execution_id
        ids = {row.id for row in commit.checkpoints}
        script = self._script(execution_id, commit.epoch, b"", _items(commit))
        if commit.epoch is not None:
            *_, answer = yield Step([*self._notes(execution_id, ids), script], writes=True)
        else:
            entry = self._registers.entry(execution_id)
            *_, answer = yield Step([entry, *self._notes(execution_id, ids), script], writes=True)
            # With another token than before: the first may have been read meanwhile.
            yield Step([entry, *self._notes(execution_id, ids)], writes=True)
            if self._ttl:
                yield from self._registers.tidy(execution_id)
        if answer is None:
            raise StaleEpoch(f"execution {execution_id!r} has left epoch {commit.epoch}")
        epoch, due = table.epoch_number(answer[0]), answer[1]
        if due:
            yield from self._renew_notes(execution_id, epoch, due)
        return epoch

    def _script(
        self, execution_id: str, epoch: int | None, horizon: Argument, items: Sequence[Argument]
    ) -> Command:
        expected = b"" if epoch is None else table.epoch_bytes(epoch)
        fresh = table.epoch_bytes(next_epoch(epoch or 0))
        key = self._keys.execution(execution_id)
        return COMMIT.on(key, expected, fresh, self._ttl, horizon, *items)

    def _notes(self, execution_id: str, ids: Iterable[str]) -> list[Command]:
        """Return the commands that note where checkpoints with these ids may be."""
        token, lifetime = secrets.token_bytes(6), 4 * self._ttl
        return [NOTE.on(self._keys.checkpoint(id), execution_id, token, lifetime) for id in ids]

    def _renew_notes(self, execution_id: str, epoch: int, now: int) -> _Part[None]:
        """Let the notes of an execution live on, and store the new horizon."""
        ids = yield from self._ids(execution_id)
        for batch in batches(ids, _VALUES):
            yield Step(self._notes(execution_id, batch), writes=True)
        # If the epoch is another by now, nothing is stored, and the next commit renews again.
        nothing = (0, 0, 0)
        horizon = now + 3 * self._ttl if self._ttl else 0
        script = self._script(execution_id, epoch, horizon, nothing)
        yield Step([script], writes=True)

    # Reading

    def _find_writes(self, find: FindWrites) -> _Part[list[WriteRow]]:
        members = yield from self._all(find.execution_id, b"w", _VALUES)
        return [table.write_from(find.execution_id, member) for member in members]

    def _fetch_chunks(self, fetch: FetchChunks) -> _Part[dict[ChunkId, bytes]]:
        key = self._keys.execution(fetch.execution_id)
        found: dict[ChunkId, bytes] = {}
        pending = list(batches(list(fetch.ids), _VALUES))
        while pending:
            replies = yield Step([FETCH.on(key, *ids) for ids in pending])
            for ids, members in zip(pending, replies, strict=True):
                for id, member in zip(ids, members, strict=False):
                    if member is not None:
                        found[id] = table.chunk_from(id, member)
            # What didn't fit into an answer is asked for again.
            rests = (ids[len(members) :] for ids, members in zip(pending, replies, strict=True))
            pending = [ids for ids in rests if ids]
        return found

    def _find_old_chunks(self, find: FindOldChunks) -> _Part[list[ChunkId]]:
        members = yield from self._all(find.execution_id, b"c", _NAMES)
        chunks = map(table.chunk_epoch_from, members)
        return [id for id, epoch in chunks if epoch < find.epoch]

    def _ids(self, execution_id: str) -> _Part[list[str]]:
        """Return the ids of an execution's checkpoints, each once."""
        members = yield from self._all(execution_id, b"i", _NAMES)
        return sorted({table.place_from(execution_id, member)[0] for member in members})

    def _all(self, execution_id: str, kind: bytes, page: int) -> _Part[list[bytes]]:
        """Read all members of a kind, some at a time, so that no one waits long for the server."""
        key = self._keys.execution(execution_id)
        members: list[bytes] = []
        ends = table.beginning_with(kind)
        while True:
            (found,) = yield Step([command("ZRANGEBYLEX", key, *ends, "LIMIT", 0, page)])
            members += found
            if len(found) < page:
                return members
            ends = table.behind(found[-1], kind)

    # Removing

    def _remove(self, remove: Remove) -> _Part[int | None]:
        execution_id = remove.execution_id
        key = self._keys.execution(execution_id)
        words = [table.part(word) for place in remove.checkpoints for word in place]
        ids = sorted({id for _, id in remove.checkpoints})
        for _ in range(_ATTEMPTS):
            epoch, tokens = yield from self._tokens(execution_id, ids)
            if epoch is None:
                return None
            newer = next_epoch(epoch)
            ends = table.epoch_bytes(epoch), table.epoch_bytes(newer)
            (gone,) = yield Step([REMOVE.on(key, *ends, *words)], writes=True)
            if gone is not None:
                yield from self._forget(
                    execution_id, {id: tokens[id] for id in map(bytes.decode, gone)}
                )
                return newer
        raise StoreUnavailable(
            f"execution {execution_id!r} was changed by other clean-ups {_ATTEMPTS} times while "
            "one was under way; try again"
        )

    def _sweep(self, sweep: Sweep) -> _Part[bool]:
        key = self._keys.execution(sweep.execution_id)
        words = (table.epoch_bytes(sweep.epoch), *map(table.part, sweep.chunks))
        (done,) = yield Step([SWEEP.on(key, *words)], writes=True)
        return bool(done)

    def _rewrite(self, rewrite: Rewrite) -> _Part[None]:
        items: list[Argument] = [len(rewrite.chunks)]
        for id, data in rewrite.chunks:
            items += (table.part(id), data)
        for old, new in rewrite.checkpoints:
            items += (table.row_entry(old)[0], table.row_entry(old)[2], table.row_entry(new)[2])
        for before, after in rewrite.writes:
            items += (*table.write_entry(before)[:2], table.write_entry(after)[1])
        _refuse_too_much(items)
        yield Step([REWRITE.on(self._keys.execution(rewrite.execution_id), *items)], writes=True)

    def _clear(self, clear: Clear) -> _Part[bool]:
        execution_id = clear.execution_id
        ids = yield from self._ids(execution_id)
        _, tokens = yield from self._tokens(execution_id, ids)
        key = self._keys.execution(execution_id)
        (removed,) = yield Step([command("UNLINK", key)], writes=True)
        yield from self._forget(execution_id, tokens)
        yield from self._registers.strike_out([execution_id])
        return bool(removed)

    def _tokens(
        self, execution_id: str, ids: Sequence[str]
    ) -> _Part[tuple[int | None, dict[str, bytes | None]]]:
        """Return the epoch of an execution, and the tokens of its notes."""
        tokens: dict[str, bytes | None] = {}
        for batch in batches(ids, _NAMES):
            notes = map(self._keys.checkpoint, batch)
            replies = yield Step([command("HGET", note, execution_id) for note in notes])
            tokens.update(zip(batch, replies, strict=True))
        key = self._keys.execution(execution_id)
        (found,) = yield Step([command("ZRANGEBYLEX", key, *table.EPOCH)])
        return table.epoch_of(found), tokens

    def _forget(self, execution_id: str, tokens: dict[str, bytes | None]) -> _Part[None]:
        """Take back notes that still have these tokens."""
        commands = [
            FORGET.on(self._keys.checkpoint(id), execution_id, token)
            for id, token in tokens.items()
            if token is not None
        ]
        for batch in batches(commands, _NAMES):
            yield Step(batch, writes=True)


def _items(commit: Commit) -> list[Argument]:
    """Return what a commit stores, as its script takes it.

    Raises:
        InvalidInput: It is more than Redis can store.
    """
    items: list[Argument] = [len(commit.chunks), len(commit.checkpoints), len(commit.writes)]
    for id, data in commit.chunks:
        items += (table.part(id), data)
    for row in commit.checkpoints:
        items += table.row_entry(row)
    for write in commit.writes:
        items += table.write_entry(write)
    _refuse_too_much(items)
    return items


def _refuse_too_much(items: Sequence[Argument]) -> None:
    sizes = [len(item) for item in items if isinstance(item, bytes)]
    if max(sizes, default=0) > _LARGEST_VALUE or sum(sizes) > _LARGEST_COMMIT:
        raise InvalidInput(
            f"this is too much for Redis: a value of {max(sizes):,} bytes, {sum(sizes):,} at once. "
            f"A value may have {_LARGEST_VALUE:,} bytes, and a put {_LARGEST_COMMIT:,}. "
            "Keep large objects elsewhere and their addresses in the state."
        )
