"""The queries of a store's methods."""

from __future__ import annotations

from langcairn.backends.base import FindCheckpoints
from langcairn.records import valid_execution_id, valid_name


def by_id(checkpoint_id: str, execution_id: str | None, namespace: str | None) -> FindCheckpoints:
    """Return the query for the one checkpoint with an id, or two to tell that there are more."""
    return FindCheckpoints(
        execution_id=None if execution_id is None else valid_execution_id(execution_id),
        namespace=namespace,
        id=valid_name(checkpoint_id, "checkpoint id"),
        limit=2,
        with_writes=False,
    )
