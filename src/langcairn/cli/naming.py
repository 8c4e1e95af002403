"""Which checkpoint is meant: ``latest``, ``latest~2``, the name of a fork, an id or a part of one.

LangGraph's ids begin alike and end at random, so that the end of one is as good as its beginning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langcairn.backends.base import FindCheckpoints
from langcairn.cli.failing import NotThere
from langcairn.errors import AmbiguousCheckpoint, CheckpointNotFound
from langcairn.maintenance import read_rows
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import CheckpointRow
    from langcairn.forks import Fork
    from langcairn.store import CheckpointStore

LATEST = "latest"
SHORT = 8
"""So many characters of a LangGraph id are shown: its last ones, which are random."""

_BACK = re.compile(r"(.+?)?~(\d+)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = 5  # [ids in a message]


class Thread:
    """The rows of one thread, without their states.

    Args:
        store: The store.
        thread_id: The thread.

    Raises:
        CheckpointNotFound: There is no such thread.
        InvalidInput: This can't be the id of one.
    """

    def __init__(self, store: CheckpointStore, thread_id: str) -> None:
        self.store = store
        self.id = valid_execution_id(thread_id)
        self.rows = store.run(read_rows(FindCheckpoints(self.id, with_writes=False)))
        if not self.rows:
            raise no_thread(store, self.id)

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of its checkpoints; ``""`` is that of the graph itself."""
        return sorted({row.namespace for row in self.rows})

    def of(self, namespace: str) -> list[CheckpointRow]:
        """Return the rows of a namespace, the newest first.

        Raises:
            CheckpointNotFound: There are none.
        """
        found = [row for row in self.rows if row.namespace == namespace]
        if not found:
            there = ", ".join(repr(one) for one in self.namespaces[:_SHOWN])
            raise NotThere(
                f"thread {self.id!r} has no checkpoint in the namespace {namespace!r}, but in "
                f"{there}: give one of them with --namespace"
            )
        return found

    def forks(self, namespace: str) -> list[Fork]:
        """Return the branches of a namespace, by the age of their first checkpoint."""
        return self.store.forks(self.id, namespace=namespace)

    def find(self, name: str, namespace: str) -> CheckpointRow:
        """Return the row that a name means.

        Args:
            name: ``latest``, an id, its beginning or end if that is unique, or the name of a fork;
                each perhaps with ``~N`` behind it, for the Nth checkpoint before.
            namespace: Where to look.

        Raises:
            CheckpointNotFound: There is none.
            AmbiguousCheckpoint: There are several.
        """
        rows = self.of(namespace)
        exact = [row for row in rows if row.id == name]
        if exact:
            return exact[0]
        back = _BACK.fullmatch(name)
        if back is None:
            return self._named(rows, name)
        row = self._named(rows, back[1] or LATEST)
        by_id = {one.id: one for one in rows}
        for steps in range(int(back[2] or 1)):
            parent = by_id.get(row.parent_id or "")
            if parent is None:
                raise NotThere(
                    f"checkpoint {name!r} of thread {self.id!r}: there are only {steps} before it"
                )
            row = parent
        return row

    def _named(self, rows: Sequence[CheckpointRow], name: str) -> CheckpointRow:
        if name == LATEST:
            return rows[0]
        found = [row for row in rows if name == row.id]
        found = found or [row for row in rows if row.id.startswith(name) or row.id.endswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(row.id for row in found[:_SHOWN])
            raise AmbiguousCheckpoint(
                f"{name!r} means {len(found)} checkpoints of thread {self.id!r}: {ids}"
                f"{', …' if len(found) > _SHOWN else ''}. Give more of the id"
            )
        for fork in self.forks(rows[0].namespace):
            if fork.name == name:
                return next(row for row in rows if row.id == fork.tip.id)
        raise NotThere(
            f"thread {self.id!r} has no checkpoint {name!r}: give an id or its end, the name of a "
            f"fork, or latest, or latest~2; `langcairn log` shows them"
        )


def no_thread(store: CheckpointStore, thread_id: str) -> CheckpointNotFound:
    """Return the error that says so, and which thread may be meant."""
    near = store.executions(after=thread_id, limit=1)
    alike = [one for one in near if one.startswith(thread_id)]
    more = f"; did you mean {alike[0]!r}?" if alike else "; `langcairn threads` lists them"
    return NotThere(f"there is no thread {thread_id!r} in this store{more}")


def short_id(id: str) -> str:
    """Return what stands for an id in tables: the end of LangGraph's ids, others whole."""
    return id[-SHORT:] if _UUID.fullmatch(id) else id
