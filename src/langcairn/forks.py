"""The branches of an execution: which there are, what they are called, where they part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langcairn.backends.base import CheckpointRow, Commit, FindCheckpoints, FoundCheckpoint
from langcairn.errors import AlreadyThere, CheckpointNotFound, InvalidInput, StaleEpoch
from langcairn.maintenance import copy, metadata_of, read_rows
from langcairn.operations import ATTEMPTS, too_busy
from langcairn.records import only_one, valid_name, with_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from langcairn.backends.base import WriteRow
    from langcairn.maintenance import Rows
    from langcairn.operations import Codec, Operation

FORK_NAME = "fork_name"
"""The key of a checkpoint's metadata that names the fork to which it belongs."""


@dataclass(frozen=True, slots=True)
class Step:
    """A checkpoint without its state.

    Attributes:
        id: Its id.
        parent_id: The checkpoint that it continues; that one may have been removed.
        node_name: The node after which it was taken.
        timestamp: When it was taken, in UTC.
        version: Its number.
        source: Why it was taken: LangGraph's ``input``, ``loop``, ``update`` or ``fork``.
        name: What its fork is called, if the name stands at this checkpoint.
        number: LangGraph's number of the step, from -1 on; None for records saved by hand.
    """

    id: str
    parent_id: str | None
    node_name: str
    timestamp: datetime
    version: int
    source: str
    name: str | None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """One branch: a checkpoint and its first continuations, up to one that has none.

    Where a checkpoint was continued several times, the eldest continuation belongs to its
    branch, and each other begins a branch of its own.

    Attributes:
        name: What it is called; None if nobody has named it.
        steps: Its own checkpoints, the oldest first.
        forked_from: The checkpoint of another branch at which it begins; None for the first one.
        is_newest: It has the newest checkpoint of all: a run that names no checkpoint goes on here.
    """

    name: str | None
    steps: tuple[Step, ...]
    forked_from: str | None
    is_newest: bool

    @property
    def tip(self) -> Step:
        """Its newest checkpoint."""
        return self.steps[-1]


def forks_of(steps: Iterable[Step]) -> list[Fork]:
    """Return the branches that checkpoints of one execution and namespace form.

    Args:
        steps: The checkpoints, in any order.

    Returns:
        The branches, by the age of their first checkpoint.
    """
    ordered = sorted(steps, key=lambda step: step.id)  # LangGraph's ids sort by time
    known = {step.id for step in ordered}
    lines: dict[str, list[Step]] = {}  # by the id of their newest checkpoint so far
    begun: list[list[Step]] = []
    for step in ordered:
        line = lines.pop(step.parent_id, None) if step.parent_id is not None else None
        if line is None:
            line = []
            begun.append(line)
        line.append(step)
        lines[step.id] = line
    return [
        Fork(
            next((step.name for step in reversed(line) if step.name), None),
            tuple(line),
            line[0].parent_id if line[0].parent_id in known else None,
            line[-1] is ordered[-1],
        )
        for line in begun
    ]


def find_forks(codec: Codec, execution_id: str, namespace: str) -> Operation[list[Fork]]:
    """Return the branches of an execution, without decoding a state."""
    rows = yield from read_rows(FindCheckpoints(execution_id, namespace, with_writes=False))
    return forks_of(step_of(row, metadata_of(codec, row)) for row in rows)


def name_fork(codec: Codec, query: FindCheckpoints, name: str | None) -> Operation[None]:
    """Name the branch of a checkpoint; the name stands in the checkpoint's metadata.

    Args:
        codec: How to read and write metadata.
        query: What finds the checkpoint.
        name: The name; None takes it away.

    Raises:
        CheckpointNotFound: There is no such checkpoint.
        AmbiguousCheckpoint: There are several.
        InvalidInput: Another branch has the name, or it can't be stored.
    """
    if name is not None:
        valid_name(name, "the name of a fork", empty=False)
    for _ in range(ATTEMPTS):
        found: Sequence[FoundCheckpoint] = yield query
        if not found:
            raise CheckpointNotFound(f"there is no checkpoint {query.id!r} to name the fork of")
        only_one([one.row for one in found])
        row, epoch = found[0].row, found[0].epoch
        forks = yield from find_forks(codec, row.execution_id, row.namespace)
        rows = [row, *(yield from _others(row, forks, name))]
        named = [_named(codec, one, name if one is row else None) for one in rows]
        try:
            # The same state again: what it refers to is stored, as long as the epoch stands.
            yield Commit(row.execution_id, epoch, (), named)
        except StaleEpoch:
            continue  # something was removed: the checkpoint itself, maybe
        return
    raise too_busy(row.execution_id)


def copy_line(codec: Codec, source: str, key: tuple[str, str], target: str) -> Operation[int]:
    """Copy a checkpoint and what led to it into an execution that isn't there yet.

    What its subgraphs saved on the way is copied with it. So are pending writes, but for those of
    a last step that was finished: a run that goes on in the copy does that step itself.

    Args:
        codec: How to read metadata.
        source: The execution.
        key: Namespace and id of the checkpoint.
        target: The new execution.

    Returns:
        How many checkpoints were copied.

    Raises:
        CheckpointNotFound: There is no such checkpoint.
        InvalidInput: It is a subgraph's.
        AlreadyThere: The target has checkpoints.
        CorruptData: Something that is to be copied is damaged; nothing was.
    """
    if key[0]:
        raise InvalidInput(
            f"checkpoint {key[1]!r} is a subgraph's: copy one of the graph itself, what its "
            "subgraphs saved comes with it"
        )
    there: Sequence[FoundCheckpoint] = yield FindCheckpoints(target, limit=1, with_writes=False)
    if there:
        raise AlreadyThere(f"there is an execution {target!r} already; choose another name")

    def choose(stored: Rows) -> Rows:
        return _line(codec, key, *stored)

    copied = yield from copy(codec, source, target, choose)
    if not copied:
        raise CheckpointNotFound(f"execution {source!r} has no checkpoint {key[1]!r} to copy")
    return copied


def _line(
    codec: Codec,
    key: tuple[str, str],
    rows: Sequence[CheckpointRow],
    writes: Sequence[WriteRow],
) -> Rows:
    """Return those rows and writes that led to a checkpoint."""
    namespace, id = key
    own = {row.id: row for row in rows if row.namespace == namespace}
    line: set[str] = set()
    at: str | None = id
    while at in own and at not in line:  # parents may go in a circle
        line.add(at)
        at = own[at].parent_id
    finished = {id} if any(row.parent_id == id for row in own.values()) else set()
    kept = [
        row
        for row in rows
        if (row.namespace == namespace and row.id in line)
        or _caller(codec, row, namespace) in line - finished
    ]
    keys = {(row.namespace, row.id) for row in kept} - {(namespace, one) for one in finished}
    return kept, [write for write in writes if (write.namespace, write.checkpoint_id) in keys]


def _caller(codec: Codec, row: CheckpointRow, namespace: str) -> object:
    """Return the checkpoint in a namespace whose step called the subgraph of a row; or None."""
    if row.namespace == namespace:
        return None
    parents = metadata_of(codec, row).get("parents")
    return parents.get(namespace) if isinstance(parents, dict) else None


def _others(
    row: CheckpointRow, forks: Sequence[Fork], name: str | None
) -> Operation[list[CheckpointRow]]:
    """Return the other checkpoints of a row's branch that bear a name.

    Raises:
        InvalidInput: Another branch has the name already.
    """
    others: list[CheckpointRow] = []
    for fork in forks:
        if row.id not in [step.id for step in fork.steps]:
            if name is not None and name in [step.name for step in fork.steps]:
                raise InvalidInput(
                    f"there is a fork {name!r} already, which ends at checkpoint {fork.tip.id!r}; "
                    "choose another name, or take it from that one first"
                )
            continue
        for step in fork.steps:
            if step.name is not None and step.id != row.id:
                found: Sequence[FoundCheckpoint] = yield FindCheckpoints(
                    row.execution_id, row.namespace, step.id, with_writes=False
                )
                others += [one.row for one in found]
    return others


def _named(codec: Codec, row: CheckpointRow, name: str | None) -> CheckpointRow:
    metadata = {k: v for k, v in metadata_of(codec, row).items() if k != FORK_NAME}
    if name is not None:
        metadata[FORK_NAME] = name
    return with_metadata(row, metadata, codec.plain)


def step_of(row: CheckpointRow, metadata: dict[str, Any]) -> Step:
    """Return what a row and its metadata tell of a checkpoint."""
    name, number = metadata.get(FORK_NAME), metadata.get("step")
    return Step(
        row.id,
        row.parent_id,
        row.node_name,
        row.timestamp,
        row.version,
        str(metadata.get("source", "")),
        name if isinstance(name, str) else None,
        number if type(number) is int else None,
    )
