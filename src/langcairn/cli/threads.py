"""`langcairn threads`: which threads there are, and how large."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langcairn.cli.plain import time
from langcairn.cli.printing import Column, size, when
from langcairn.cli.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.cli.session import Session
    from langcairn.figures import ExecutionStats

app = typer.Typer()

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Order(StrEnum):
    """What to sort by."""

    ID = "id"
    NEWEST = "newest"
    OLDEST = "oldest"
    SIZE = "size"
    CHECKPOINTS = "checkpoints"


_KEYS: dict[Order, Callable[[ExecutionStats], Any]] = {
    Order.ID: lambda one: one.execution_id,
    Order.NEWEST: lambda one: one.newest or _LONG_AGO,
    Order.OLDEST: lambda one: one.newest or _LONG_AGO,
    Order.SIZE: lambda one: one.stored_bytes,
    Order.CHECKPOINTS: lambda one: one.checkpoints,
}
_ASCENDING = (Order.ID, Order.OLDEST)
_COLUMNS = (
    Column("thread", style="bold"),
    Column("checkpoints", "right"),
    Column("size", "right"),
    Column("newest"),
)


@app.command("threads")
def threads(
    ctx: typer.Context,
    search: Annotated[
        str, typer.Argument(help="A part of the id, or a pattern with * and ?.")
    ] = "",
    sort: Annotated[Order, typer.Option("--sort", "-s", help="What to sort by.")] = Order.ID,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, help="The most to show.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only threads of this user (ThreadId).")] = None,
    session_type: Annotated[
        str | None, typer.Option("--session", help="Only of this session type (ThreadId).")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only begun since: 2026-01-31, 7d, 12h (ThreadId).")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only begun before (ThreadId).")] = None,
) -> None:
    """List threads: search, sort, sizes.

    With --user, --session, --since and --until only threads whose id is a ThreadId are meant; they
    are found by an index. All other searches look at all ids, and every order but --sort id
    measures all that match.
    """
    session: Session = ctx.obj
    with session.open(exact=False) as store:
        # One more, to see that there is one.
        enough = limit + 1 if limit is not None and sort is Order.ID and not search else None
        ids = store.executions(
            user_id=user,
            session_type=session_type,
            since=moment(since),
            until=moment(until),
            limit=enough,
        )
        ids = [id for id in ids if matches(id, search)]
        total = len(ids)
        if sort is Order.ID:
            ids = ids[:limit]
        measured = store.execution_stats(execution_ids=ids)
    measured.sort(key=_KEYS[sort], reverse=sort not in _ASCENDING)
    measured = measured[:limit]
    if session.as_json:
        session.out.json([described(one) for one in measured])
        return
    rows = [
        (one.execution_id, f"{one.checkpoints:,}", size(one.stored_bytes), when(one.newest))
        for one in measured
    ]
    if rows:
        session.out.table(_COLUMNS, rows)
    else:
        found = "no threads" + (" match" if search else "")
        by_index = any(one is not None for one in (user, session_type, since, until))
        session.out.note(found + (" among those whose id is a ThreadId" if by_index else ""))
    if total > len(rows):
        counted = f"{len(rows)} of {total:,} threads"
        session.out.note("there are more threads" if enough else counted)


def matches(id: str, search: str) -> bool:
    """Tell whether a thread is searched for: by a part of its id, or a pattern."""
    if "*" in search or "?" in search:
        return fnmatchcase(id, search)
    return search.lower() in id.lower()


def described(one: ExecutionStats) -> dict[str, Any]:
    """Return what is stored of a thread as JSON data."""
    return {
        "thread": one.execution_id,
        "checkpoints": one.checkpoints,
        "writes": one.writes,
        "chunks": one.chunks,
        "stored_bytes": one.stored_bytes,
        "oldest": None if one.oldest is None else time(one.oldest),
        "newest": None if one.newest is None else time(one.newest),
    }
