"""Which checkpoints of an execution stay when only the newest are to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn.backends.base import CheckpointRow, FindCheckpoints, FindWrites, WriteRow
from langcairn.maintenance import Key, metadata_of, needed, orphans_of, read_rows, remove

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from langcairn.operations import Codec, Operation

# LangGraph's channel for what a node waits for.
_INTERRUPT = "__interrupt__"


def slack(keep: int) -> int:
    """Return how many checkpoints may be there beyond those to keep before a clean-up is due.

    A clean-up looks at all rows of an execution, so it is made once for many puts.
    """
    return max(keep // 2, 10)


def count(execution_id: str, limit: int) -> Operation[int]:
    """Return how many checkpoints an execution has, at most ``limit``."""
    found: Sequence[object] = yield FindCheckpoints(execution_id, limit=limit, with_writes=False)
    return len(found)


def keep_newest(codec: Codec, execution_id: str, keep: int) -> Operation[int]:
    """Remove all but the newest checkpoints of each namespace, and what these need.

    What stays besides the newest:

    - the ancestors that a `DeltaChannel` of a kept checkpoint is rebuilt from;
    - the end of a branch that waits in an interrupt, or whose subgraph is at work, and in both
      cases the subgraph's checkpoints: its namespace is one of its own;
    - of a subgraph that keeps its state between calls, what each kept checkpoint of its parent
      goes back to when it is replayed.

    The namespace of one call of a subgraph goes with the checkpoint that made the call.

    Args:
        codec: How to read metadata, and whose caches to keep right.
        execution_id: The execution.
        keep: How many of each namespace to keep, at least 1.

    Returns:
        How many checkpoints were removed.

    Raises:
        CorruptData: A row is damaged; nothing was removed.
    """
    surplus, orphans = yield from surplus_of(codec, execution_id, keep)
    if surplus or orphans:
        yield from remove(codec, execution_id, [*surplus, *orphans])
    return len(surplus)


def surplus_of(
    codec: Codec, execution_id: str, keep: int
) -> Operation[tuple[list[Key], list[Key]]]:
    """Return what `keep_newest` would remove.

    Returns:
        The keys of checkpoints, and of those that don't exist but have pending writes.

    Raises:
        CorruptData: A row is damaged.
    """
    rows = yield from read_rows(FindCheckpoints(execution_id, with_writes=False))
    writes: list[WriteRow] = yield FindWrites(execution_id)
    plan = _Plan(codec, rows, writes)
    kept = plan.kept(keep)
    surplus = [key for key in plan.by_key if key not in kept]
    return surplus, orphans_of(writes, plan.by_key, plan.newest)


class _Plan:
    """The checkpoints of an execution, and what hangs on each."""

    def __init__(
        self, codec: Codec, rows: Sequence[CheckpointRow], writes: Iterable[WriteRow]
    ) -> None:
        self._codec = codec
        self.by_key: Mapping[Key, CheckpointRow] = {(row.namespace, row.id): row for row in rows}
        self._by_namespace: dict[str, list[CheckpointRow]] = {}
        for row in rows:
            self._by_namespace.setdefault(row.namespace, []).append(row)
        # Rows come newest first.
        self.newest = {name: own[0].id for name, own in self._by_namespace.items()}
        self._continued = {(row.namespace, row.parent_id) for row in rows}
        self._calls = {name: self._call(own[0]) for name, own in self._by_namespace.items()}
        # Whose step isn't finished: a node waits for an answer, or a subgraph is at work.
        self._busy = {
            (write.namespace, write.checkpoint_id)
            for write in writes
            if write.channel == _INTERRUPT
        }
        self._busy.update(call for call in self._calls.values() if call is not None)

    def _call(self, row: CheckpointRow) -> Key | None:
        """Return the checkpoint whose step called the subgraph of a row."""
        parents = metadata_of(self._codec, row).get("parents")
        if not isinstance(parents, dict) or not parents:
            return None
        namespace = max(parents, key=len)  # the others are its callers
        return namespace, str(parents[namespace])

    def kept(self, keep: int) -> set[Key]:
        """Return the keys of what stays."""
        kept: set[Key] = set()
        # Callers before the called.
        for name in sorted(self._by_namespace, key=len):
            for row in self._stay(name, keep, kept):
                kept.update(
                    (one.namespace, one.id) for one in needed(self._codec, row, self.by_key)
                )
        return kept

    def _stay(self, name: str, keep: int, kept: set[Key]) -> list[CheckpointRow]:
        """Return the checkpoints of a namespace that stay for their own sake."""
        rows, call = self._by_namespace[name], self._calls[name]
        stay = rows[:keep]
        if ":" in name:  # ``node:task``, one call's own
            if call is not None and self._is_gone(call, kept):
                return []
        elif call is not None:  # ``node``: all calls share it
            stay += _last_before(rows, [id for parent, id in kept if not parent])
        stay += [row for row in rows[keep:] if self._unfinished((name, row.id))]
        return stay

    def _is_gone(self, call: Key, kept: set[Key]) -> bool:
        """Tell whether the checkpoint that made a call is none that stays or will still come."""
        if call in kept:
            return False
        oldest = min((id for namespace, id in kept if namespace == call[0]), default="")
        return call in self.by_key or call[1] < oldest

    def _unfinished(self, key: Key) -> bool:
        return key in self._busy and key not in self._continued


def _last_before(rows: Sequence[CheckpointRow], ids: Iterable[str]) -> list[CheckpointRow]:
    """Return, for each id, the newest row that is older; rows come newest first."""
    return [row for id in ids for row in [next((r for r in rows if r.id < id), None)] if row]
