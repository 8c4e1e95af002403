"""What hangs on what among the checkpoints of an execution, and so must stay together."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from langcairn.maintenance import Key, metadata_of, needed, orphans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from langcairn.backends.base import CheckpointRow, WriteRow
    from langcairn.operations import Codec

    Wanted = Callable[[int, CheckpointRow], bool]

# LangGraph's channel for what a node waits for.
_INTERRUPT = "__interrupt__"


class Plan:
    """The checkpoints of an execution, and what hangs on each.

    What stays besides those that are wanted:

    - the ancestors that a `DeltaChannel` of a kept checkpoint is rebuilt from;
    - the end of a branch that waits in an interrupt, or whose subgraph is at work, and in both
      cases the subgraph's checkpoints: its namespace is one of its own;
    - of a subgraph that keeps its state between calls, what each kept checkpoint of its parent
      goes back to when it is replayed.

    The namespace of one call of a subgraph goes with the checkpoint that made the call.

    Args:
        codec: How to read metadata.
        rows: All of them, the newest first.
        writes: All pending writes.

    Attributes:
        by_key: The rows by namespace and id.
        newest: The newest id of each namespace.
        orphans: Keys of checkpoints that don't exist, and won't, but have pending writes.

    Raises:
        CorruptData: The metadata of a row is damaged.
    """

    def __init__(
        self, codec: Codec, rows: Sequence[CheckpointRow], writes: Sequence[WriteRow]
    ) -> None:
        self._codec = codec
        self.by_key: Mapping[Key, CheckpointRow] = {(row.namespace, row.id): row for row in rows}
        self._by_namespace: dict[str, list[CheckpointRow]] = {}
        for row in rows:
            self._by_namespace.setdefault(row.namespace, []).append(row)
        self.newest = {name: own[0].id for name, own in self._by_namespace.items()}
        self.orphans = orphans_of(writes, self.by_key, self.newest)
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

    def kept(self, wanted: Wanted, protected: Container[Key] = ()) -> set[Key]:
        """Return the keys of what stays.

        Args:
            wanted: Tells which checkpoints stay for their own sake: is given how many of the same
                namespace are newer, and the row.
            protected: Keys of what stays even if its namespace goes.
        """
        kept: set[Key] = set()
        # Callers before the called.
        for name in sorted(self._by_namespace, key=len):
            for row in self._stay(name, wanted, protected, kept):
                kept.update(
                    (one.namespace, one.id) for one in needed(self._codec, row, self.by_key)
                )
        return kept

    def _stay(
        self, name: str, wanted: Wanted, protected: Container[Key], kept: set[Key]
    ) -> list[CheckpointRow]:
        """Return the checkpoints of a namespace that stay for their own sake."""
        rows, call = self._by_namespace[name], self._calls[name]
        stay = [row for row in rows if (name, row.id) in protected]
        if ":" in name:  # ``node:task``, one call's own
            if call is not None and self._is_gone(call, kept):
                return stay
        elif call is not None:  # ``node``: all calls share it
            stay += _last_before(rows, [id for parent, id in kept if not parent])
        return stay + [
            row
            for number, row in enumerate(rows)
            if wanted(number, row) or self._unfinished((name, row.id))
        ]

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
    oldest_first = rows[::-1]
    own = [row.id for row in oldest_first]
    places = {bisect_left(own, id) for id in ids}
    return [oldest_first[place - 1] for place in sorted(places) if place]
