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

from redis.crc import key_slot

from langcairn.backends.base import (
    RESERVED,
    AcquireLease,
    ChunkId,
    Clear,
    Commit,
    FetchChunks,
    FindCheckpoints,
    FindExecutions,
    FindOldChunks,
    FindWrites,
    Move,
    ReleaseLease,
    Remove,
    RenewLease,
    Request,
    Rewrite,
    Survey,
    Surveyed,
    Sweep,
    Transaction,
    WriteRow,
    next_epoch,
)
from langcairn.backends.conditions import concurrent_writer, lost, version_conflict
from langcairn.backends.measures import Measure, MeasureExecutions, Ping
from langcairn.backends.redis import table
from langcairn.backends.redis.commands import (
    CLEAR,
    COMMIT,
    FETCH,
    FORGET,
    MOVE,
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
from langcairn.backends.redis.leases import ANY, Leases, fence_word, refusal
from langcairn.backends.redis.measuring import Measuring
from langcairn.backends.redis.registers import Registers
from langcairn.errors import CorruptData, InvalidInput, StaleEpoch, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from langcairn.backends.redis.keys import Keys
    from langcairn.errors import Conflict

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
        clustered: Whether the server is a cluster, in which scripts get keys of one slot only.
    """

    def __init__(
        self, keys: Keys, ttl: int, *, renew_on_read: bool, clustered: bool = False
    ) -> None:
        self._keys = keys
        self._ttl = ttl
        self._clustered = clustered
        self._registers = Registers(keys)
        self._finding = Finding(
            keys, self._registers, ttl if renew_on_read else UNCHANGED, self._renew_notes
        )
        measuring = Measuring(keys, self._registers)
        leases = Leases(keys, self._registers, ttl)
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
            Survey: self._survey,
            Move: self._move,
            Clear: self._clear,
            Ping: measuring.ping,
            Measure: measuring.all,
            MeasureExecutions: measuring.by_execution,
            Transaction: self._transaction,
            AcquireLease: leases.acquire,
            RenewLease: leases.renew,
            ReleaseLease: leases.release,
        }

    def make(self, request: Request) -> Plan:
        """Return a plan that answers a request. It may be made anew as often as necessary."""
        return self._makers[type(request)](request)

    # Committing

    def _commit(self, commit: Commit) -> Plan:
        (epoch,) = yield from self._make([commit])
        return epoch

    def _transaction(self, transaction: Transaction) -> Plan:
        executions = [commit.execution_id for commit in transaction.commits]
        if self._clustered and len({key_slot(self._keys.execution(id)) for id in executions}) > 1:
            raise InvalidInput(
                f"the executions {', '.join(map(repr, executions))} can't be changed in one "
                "transaction: in a Redis Cluster each lives in the slot of its own id, and these "
                "are in different ones. Nothing was written; save to one execution at a time, or "
                "use a single server"
            )
        return (yield from self._make(transaction.commits))

    def _make(self, commits: Sequence[Commit]) -> _Part[list[int]]:
        """Make commits, all or none. Returns the epochs of their executions."""
        tokens = {}
        for commit in commits:
            if commit.removals:
                removed = sorted({id for _, id in commit.removals})
                _, tokens[commit.execution_id] = yield from self._tokens(
                    commit.execution_id, removed
                )
        new = [commit for commit in commits if commit.epoch is None]
        places = self._places(commits, new)
        step = Step([*places, self._script(commits)], writes=True)
        if any(commit.expected for commit in commits):
            step = step._replace(again=[*places, self._script(commits, again=b"1")])
        *_, answer = yield step
        if new:
            # With another token than before: the first may have been read meanwhile.
            yield Step(self._places(new, new), writes=True)
            if self._ttl:
                for commit in new:
                    yield from self._registers.tidy(commit.execution_id)
        _raise_refusal(commits, answer)
        epochs = []
        for (execution_id, *_), (stored, due, gone) in zip(commits, answer, strict=True):
            epochs.append(table.epoch_number(stored))
            if due:
                yield from self._renew_notes(execution_id, epochs[-1], due)
            if gone:
                known = tokens[execution_id]
                yield from self._forget(
                    execution_id, {id: known[id] for id in map(bytes.decode, gone)}
                )
        return epochs

    def _places(self, commits: Sequence[Commit], new: Sequence[Commit]) -> list[Command]:
        """Return the commands that note where commits store, some of which may be the first."""
        entries = [self._registers.entry(commit.execution_id) for commit in new]
        for commit in commits:
            ids = {row.id for row in commit.checkpoints}
            entries += self._notes(commit.execution_id, ids)
        return entries

    def _script(self, commits: Sequence[Commit], again: bytes = b"") -> Command:
        keys = [self._keys.execution(commit.execution_id) for commit in commits]
        words = [word for commit in commits for word in _words(commit, b"")]
        # What all others need must outlive them.
        ttl = 0 if commits[0].execution_id == RESERVED else self._ttl
        return COMMIT.on_all(keys, ttl, again, *words)

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
        horizon = now + 3 * self._ttl if self._ttl else 0
        words = _words(Commit(execution_id, epoch), horizon, ANY)
        key = self._keys.execution(execution_id)
        yield Step([COMMIT.on(key, self._ttl, b"", *words)], writes=True)

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

    def _survey(self, survey: Survey) -> _Part[Surveyed]:
        execution_id = survey.execution_id
        if execution_id is None:
            ids = yield from self._registers.find(FindExecutions())
            return Surveyed(ids, [], [])
        places = set()
        problems = []
        for kind in (b"i", b"n"):  # a checkpoint is lost if one of its two names is
            for member in (yield from self._all(execution_id, kind, _NAMES)):
                try:
                    id, namespace = table.place_from(execution_id, member)
                    places.add((namespace, id))
                except CorruptData as error:
                    problems.append(str(error))
        key = self._keys.execution(execution_id)
        gaps = [command("ZRANGEBYLEX", key, *gap, "LIMIT", 0, 1) for gap in table.GAPS]
        for members in (yield Step(gaps)):
            problems += [
                f"execution {execution_id!r} has a member of unknown kind: {member[:80]!r}"
                for member in members
            ]
        return Surveyed([], list(places), problems)

    # Removing

    def _remove(self, remove: Remove) -> _Part[int | None]:
        execution_id = remove.execution_id
        key = self._keys.execution(execution_id)
        words = [table.part(word) for place in remove.checkpoints for word in place]
        ids = sorted({id for _, id in remove.checkpoints})
        for _ in range(_ATTEMPTS):
            epoch, tokens = yield from self._tokens(execution_id, ids)
            if epoch is None:
                if remove.fence is not None:
                    raise lost(execution_id, remove.fence)
                return None
            newer = next_epoch(epoch)
            ends = table.epoch_bytes(epoch), table.epoch_bytes(newer)
            fence = fence_word(remove.fence)
            (answer,) = yield Step([REMOVE.on(key, *ends, fence, *words)], writes=True)
            if answer is not None:
                kind, *rest = answer
                if kind == b"refused":
                    raise refusal(execution_id, remove.fence, rest)
                (gone,) = rest
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

    def _move(self, move: Move) -> _Part[bool]:
        items: list[Argument] = [table.epoch_bytes(move.epoch)]
        for id, old, new in move.chunks:
            items += (table.part(id), old, new)
        _refuse_too_much(items)
        key = self._keys.execution(move.execution_id)
        (done,) = yield Step([MOVE.on(key, *items)], writes=True)
        return bool(done)

    def _clear(self, clear: Clear) -> _Part[bool]:
        execution_id = clear.execution_id
        ids = yield from self._ids(execution_id)
        _, tokens = yield from self._tokens(execution_id, ids)
        key = self._keys.execution(execution_id)
        words = (
            table.epoch_bytes(next_epoch()),
            fence_word(clear.fence),
            b"1" if clear.only_empty else b"",
        )
        ((kind, *rest),) = yield Step([CLEAR.on(key, *words)], writes=True)
        if kind == b"refused":
            raise refusal(execution_id, clear.fence, rest)
        (removed,) = rest
        if clear.only_empty and not removed:
            return False
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


def _raise_refusal(commits: Sequence[Commit], answer: Any) -> None:
    """Raise the error that the script's answer means, if it means one."""
    if answer is None:
        stated = (f"execution {c.execution_id!r} has left epoch {c.epoch}" for c in commits)
        raise StaleEpoch(" or ".join(stated))
    if answer[0] == b"refused":
        raise _refusal(commits[answer[1] - 1], answer[2:])


def _refusal(commit: Commit, why: Sequence[Any]) -> Conflict:
    """Return the error for a condition that isn't met, from what the script says."""
    id, kind = commit.execution_id, why[0]
    if kind not in (b"version", b"newest"):
        return refusal(id, commit.fence, why)
    number, found = int(why[1]), why[2].decode()
    if kind == b"version":
        expected = commit.expected[number]
        return version_conflict(id, expected.id, expected.version, int(found) if found else None)
    namespace, parent_id, row_id = commit.newest[number]
    return concurrent_writer(id, namespace, row_id, parent_id, found or None)


def _words(commit: Commit, horizon: Argument, fence: bytes | None = None) -> list[Argument]:
    """Return a commit as its script takes it.

    Raises:
        InvalidInput: It is more than Redis can store.
    """
    words: list[Argument] = [
        b"" if commit.epoch is None else table.epoch_bytes(commit.epoch),
        table.epoch_bytes(next_epoch(commit.epoch or 0)),
        horizon,
        fence_word(commit.fence) if fence is None else fence,
    ]
    words += _items(commit)
    return words


def _items(commit: Commit) -> list[Argument]:
    parts = (commit.chunks, commit.checkpoints, commit.writes, commit.removals, commit.expected)
    items: list[Argument] = [*map(len, parts), len(commit.newest), len(commit.witnesses)]
    for id, data in commit.chunks:
        items += (table.part(id), data)
    for row in commit.checkpoints:
        items += table.row_entry(row)
    for write in commit.writes:
        items += table.write_entry(write)
    for place in commit.removals:
        items += map(table.part, place)
    for want in commit.expected:
        version = b"" if want.version is None else b"%d" % want.version
        items += (table.row_name(want.namespace, want.id), version)
    for newest in commit.newest:
        ids = map(table.part, (newest.parent_id or "", newest.id))
        items += (table.row_name(newest.namespace), *ids)
    items += map(table.part, commit.witnesses)
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
