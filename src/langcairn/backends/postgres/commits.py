"""Commits as PostgreSQL makes them: any number of them in one statement, one round trip.

The statement runs in a transaction of its own (autocommit) and does, in this order:

1. It locks the rows of the executions, in the order of their ids, so that two statements never
   wait for each other. From then on their epochs stand still.
2. It adds executions that are new. If another transaction adds the same one at the same time, this
   waits for it, then leaves the execution alone; commits to it are tried again.
3. It stores the checkpoints and writes of the executions whose epoch and lease are as they should
   be.
4. It raises the epochs of those in which that replaced a state or a value by another.
5. It stores their chunks, as of the epoch that holds now.
6. It answers, for each execution: its epoch, and whether the one expected was the right one.

All data goes in with ON CONFLICT, which sees the newest committed rows. Nothing is read from the
statement's snapshot, which may be older than the lock. Commits whose conditions need that, and
those without the token of a lease that is there, are made in a transaction of several statements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn.backends.base import Commit
from langcairn.backends.postgres.appending import addition
from langcairn.backends.postgres.drafts import Draft, Leased
from langcairn.backends.postgres.transactions import commit_in_transaction
from langcairn.errors import CairnError, StoreMisconfigured, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langcairn.backends.base import ChunkId, Transaction
    from langcairn.backends.postgres.drafts import Outcome
    from langcairn.backends.postgres.schema import Tables
    from langcairn.backends.postgres.values import Plan

# From here on a further commit goes into the next statement, and a single one is made in parts.
_LARGE = 2**26  # [bytes]


def commit_all(tables: Tables, commits: Sequence[Commit]) -> Plan[list[Outcome]]:
    """Make commits, each all or nothing, and each with an outcome of its own, in their order."""
    outcomes: list[Outcome] = []
    for batch in _batches(commits):
        if batch[0].is_conditional:
            made: list[Outcome] = [Leased()]
        elif len(batch) == 1 and _size(batch[0]) > _LARGE:
            made = [(yield from _commit_in_parts(tables, batch[0]))]
        else:
            made = yield from _commit_together(tables, batch)
        for commit, outcome in zip(batch, made, strict=True):
            if isinstance(outcome, Leased):
                outcome = yield from _commit_carefully(tables, commit)  # noqa: PLW2901 -- a better one
            outcomes.append(outcome)
    return outcomes


def transact(tables: Tables, transaction: Transaction) -> Plan[list[int]]:
    """Make commits to different executions, all of them or none."""
    return commit_in_transaction(tables, transaction.commits, _parts)


def _batches(commits: Sequence[Commit]) -> Iterable[list[Commit]]:
    """Divide commits into those that one statement can make.

    In a statement, an execution's commits are good or stale together, so that equal chunks of
    theirs can be stored once. Those that expect another epoch come in a later statement. One with
    conditions is alone.
    """
    batch: list[Commit] = []
    states: dict[str, tuple[int | None, int | None]] = {}
    size = 0
    for commit in commits:
        size += _size(commit)
        state = (commit.epoch, commit.fence)
        if batch and (
            size > _LARGE
            or states.get(commit.execution_id, state) != state
            or commit.is_conditional
            or batch[0].is_conditional
        ):
            yield batch
            batch, states, size = [], {}, _size(commit)
        batch.append(commit)
        states[commit.execution_id] = state
    if batch:
        yield batch


def _commit_together(tables: Tables, commits: Sequence[Commit]) -> Plan[list[Outcome]]:
    """Make commits in one statement, or one by one if it fails because of one of them."""
    try:
        found = yield from _commit_known(tables, commits)
    except (StoreUnavailable, StoreMisconfigured):
        raise
    except CairnError as error:
        if len(commits) == 1:
            return [error]
        outcomes = []
        for commit in commits:
            outcomes += yield from _commit_together(tables, [commit])
        return outcomes
    return [found[commit.execution_id] for commit in commits]


def _commit_known(tables: Tables, commits: Sequence[Commit]) -> Plan[dict[str, Outcome]]:
    """Make commits. Returns the outcome for each execution."""
    outcomes: dict[str, Outcome] = {}
    if len(commits) == 1:
        ((execution_id, epoch, *_),) = commits
        usual = addition(tables, commits[0])
        if epoch is not None and usual is not None and (yield usual):
            return {execution_id: epoch}
    while commits:
        draft = Draft(commits)
        outcomes.update(draft.outcomes((yield draft.statement(tables))))
        # Another transaction added the execution while this statement ran.
        commits = [commit for commit in commits if commit.execution_id not in outcomes]
    return outcomes


def _commit_in_parts(tables: Tables, commit: Commit) -> Plan[Outcome]:
    """Make a commit too large for one statement: its chunks first, its rows last.

    If it ends in between, chunks are left that nothing refers to, and a sweep will find them.
    """
    epoch = commit.epoch
    for part in _parts(commit):
        (outcome,) = yield from _commit_together(tables, [part._replace(epoch=epoch)])
        if isinstance(outcome, Exception):
            return outcome
        epoch = outcome
    return outcome


def _commit_carefully(tables: Tables, commit: Commit) -> Plan[Outcome]:
    """Make a commit that depends on what is stored."""
    try:
        (epoch,) = yield from commit_in_transaction(tables, [commit], _parts)
    except (StoreUnavailable, StoreMisconfigured):
        raise
    except CairnError as error:
        return error
    return epoch


def _parts(commit: Commit) -> list[Commit]:
    """Divide a commit into those that a statement can make, the one with the rows last."""
    if _size(commit) <= _LARGE:
        return [commit]
    bare = Commit(commit.execution_id, commit.epoch, fence=commit.fence)
    portions = [bare._replace(chunks=portion) for portion in _portions(commit.chunks)]
    return [*portions, commit._replace(chunks=())]


def _portions(chunks: Sequence[tuple[ChunkId, bytes]]) -> Iterable[list[tuple[ChunkId, bytes]]]:
    portion: list[tuple[ChunkId, bytes]] = []
    size = 0
    for chunk in chunks:
        size += len(chunk[1])
        if portion and size > _LARGE:
            yield portion
            portion, size = [], len(chunk[1])
        portion.append(chunk)
    if portion:
        yield portion


def _size(commit: Commit) -> int:
    return (
        sum(len(data) for _, data in commit.chunks)
        + sum(len(row.state) + len(row.metadata) + len(row.graph) for row in commit.checkpoints)
        + sum(len(write.value) for write in commit.writes)
    )
