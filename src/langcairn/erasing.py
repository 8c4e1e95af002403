"""Erasing a user: everything that is stored under his ids, and a look whether anything is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langcairn.backends.base import (
    ChunkId,
    FindCheckpoints,
    FindOldChunks,
    FindWrites,
    FoundCheckpoint,
    WriteRow,
)
from langcairn.errors import CorruptData, LeaseHeld, StoreError, StoreUnavailable
from langcairn.executions import Wanted, find_executions
from langcairn.maintenance import clear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langcairn.operations import Codec, Operation

_EVER = 2**62  # later than every epoch
_ROUNDS = 10


@dataclass(frozen=True)
class ErasureReport:
    """That no execution of a user is left.

    A dictionary that was trained on them holds pieces of their texts until it is retired
    (docs/compression.md).

    Attributes:
        user_id: The user.
        executions: The ids of his executions that were there, in ascending order. Each was removed;
            then it was asked for again, and neither checkpoints nor pending writes nor chunks were
            found, nor any other id of his.
    """

    user_id: str
    executions: list[str]


def erase_user(
    codec: Codec, user_id: str, objects_left: Callable[[str], Operation[int]] | None = None
) -> Operation[ErasureReport]:
    """Remove all executions whose `ThreadId` names a user, and see that nothing is left.

    Args:
        codec: Whose caches to keep right.
        user_id: The user.
        objects_left: Removes the objects of an execution, and returns how many are left; None: the
            store has no object storage.

    Raises:
        LeaseHeld: Somebody has a lease on some of them; all others are erased.
        StoreUnavailable: They come again and again: something is still writing them.
        CorruptData: The storage has something of theirs although it was removed.
    """
    erased: set[str] = set()
    wanted = Wanted(user_id=user_id)
    for _ in range(_ROUNDS):
        # What begins while others are erased is found in the next round.
        ids = yield from find_executions(wanted, "", None)
        if not ids:
            remains = yield from _remains(sorted(erased))
            if remains is None:
                if objects_left is not None:
                    yield from _check_objects(sorted(erased), objects_left)
                return ErasureReport(user_id, sorted(erased))
            if not (yield from find_executions(wanted, "", 1)):
                raise CorruptData(
                    f"{remains} although it was cleared and isn't listed: an index of the storage "
                    "is damaged; verify() says what there is"
                )
            continue
        leased: list[LeaseHeld] = []
        for execution_id in ids:
            try:
                yield from clear(codec, execution_id)
                erased.add(execution_id)
            except LeaseHeld as error:
                leased.append(error)
        if leased:
            raise LeaseHeld(
                f"{len(leased)} executions of user {user_id!r} were not erased, because somebody "
                f"has a lease on them: {leased[0]}. {len(erased)} were; when the leases have "
                "ended, call erase_user again",
                owner=leased[0].owner,
                left=max(error.left for error in leased),
            )
    raise StoreUnavailable(
        f"executions of user {user_id!r} were written again {_ROUNDS} times while they were "
        "erased: stop what is running for this user, and call erase_user again"
    )


def _check_objects(
    execution_ids: Iterable[str], objects_left: Callable[[str], Operation[int]]
) -> Operation[None]:
    """Check that nothing is left in object storage."""
    for id in execution_ids:
        try:
            left = yield from objects_left(id)
        except StoreError as error:
            error.add_note(
                "the user is erased from the database, but perhaps not from object storage: "
                "move_to_objects() removes there what nothing refers to"
            )
            raise
        if left:
            raise StoreUnavailable(
                f"{left} objects of execution {id!r}, which was erased, are still in object "
                "storage: move_to_objects() removes there what nothing refers to"
            )


def _remains(execution_ids: Iterable[str]) -> Operation[str | None]:
    """Say what is left of an execution, the first of which there is something; None: of none."""
    for id in execution_ids:
        rows: list[FoundCheckpoint] = yield FindCheckpoints(id, limit=1, with_writes=False)
        writes: list[WriteRow] = yield FindWrites(id)
        chunks: list[ChunkId] = yield FindOldChunks(id, _EVER)
        for what, found in (("checkpoints", rows), ("pending writes", writes), ("chunks", chunks)):
            if found:
                return f"execution {id!r} still has {what}"
    return None
