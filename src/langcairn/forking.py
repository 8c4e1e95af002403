"""Begin a branch: a copy of a checkpoint beside it, from which the next run goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langgraph.checkpoint.base.id import uuid6

from langcairn.backends.base import Commit, FindCheckpoints, FoundCheckpoint
from langcairn.errors import CheckpointNotFound, InvalidInput, StaleEpoch
from langcairn.forks import FORK_NAME, find_forks
from langcairn.maintenance import metadata_of
from langcairn.operations import ATTEMPTS, too_busy
from langcairn.records import valid_name, with_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import CheckpointRow
    from langcairn.operations import Codec, Operation


def fork_at(
    codec: Codec, execution_id: str, checkpoint_id: str, name: str | None
) -> Operation[str]:
    """Copy a checkpoint of a graph under a new id, as the newest of its execution.

    The copy has the same parent, as LangGraph's own copies have (``as_node="__copy__"``), and no
    pending writes: a run that names no checkpoint does its next step anew. Nothing of the state is
    stored a second time.

    Args:
        codec: How to read and write metadata.
        execution_id: The execution.
        checkpoint_id: The checkpoint, not one of a subgraph.
        name: What to call the branch; None: nothing.

    Returns:
        The id of the copy.

    Raises:
        CheckpointNotFound: There is no such checkpoint.
        InvalidInput: Another branch has the name, or it can't be stored.
    """
    if name is not None:
        valid_name(name, "the name of a fork", empty=False)
    for _ in range(ATTEMPTS):
        found: Sequence[FoundCheckpoint] = yield FindCheckpoints(
            execution_id, "", checkpoint_id, with_writes=False
        )
        if not found:
            raise CheckpointNotFound(
                f"there is no checkpoint {checkpoint_id!r} in execution {execution_id!r} to fork "
                "at; the checkpoints of subgraphs can't be forked alone"
            )
        if name is not None:
            yield from _check_name(codec, execution_id, name)
        copied = _copy(codec, found[0].row, name)
        try:
            # The same state: what it refers to is stored, as long as the epoch stands.
            yield Commit(execution_id, found[0].epoch, (), [copied])
        except StaleEpoch:
            continue  # something was removed: the checkpoint itself, maybe
        return copied.id
    raise too_busy(execution_id)


def _check_name(codec: Codec, execution_id: str, name: str) -> Operation[None]:
    for fork in (yield from find_forks(codec, execution_id, "")):
        if name in [step.name for step in fork.steps]:
            raise InvalidInput(
                f"there is a fork {name!r} already, which ends at checkpoint {fork.tip.id!r}; "
                "choose another name, or take it from that one first"
            )


def _copy(codec: Codec, row: CheckpointRow, name: str | None) -> CheckpointRow:
    metadata = {k: v for k, v in metadata_of(codec, row).items() if k != FORK_NAME}
    number = metadata.get("step")
    number = number + 1 if type(number) is int else row.version
    metadata |= {"source": "fork", "step": number}
    if name is not None:
        metadata[FORK_NAME] = name
    return with_metadata(
        row,
        metadata,
        codec.plain,
        id=str(uuid6(clock_seq=max(number, 0))),
        timestamp=datetime.now(UTC),
        version=row.version + 1,
    )
