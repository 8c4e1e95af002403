"""`langcairn watch`: checkpoints as they are saved."""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from langcairn.backends.base import FindCheckpoints
from langcairn.cli.completing import threads
from langcairn.cli.escaping import escaped
from langcairn.cli.history import MARKS, numbered
from langcairn.cli.naming import short_id
from langcairn.cli.plain import time
from langcairn.cli.printing import when
from langcairn.errors import StoreUnavailable
from langcairn.forks import step_of
from langcairn.maintenance import metadata_of
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.backends.base import CheckpointRow, FoundCheckpoint
    from langcairn.cli.session import Session
    from langcairn.store import CheckpointStore

app = typer.Typer()

_AT_ONCE = 200  # [checkpoints that are read in one look, and so told between two]
_FIRST = 5  # [checkpoints that are told at the beginning]


@app.command("watch")
def watch(
    ctx: typer.Context,
    thread: Annotated[
        str,
        typer.Argument(metavar="THREAD", help="Only this thread.", autocompletion=threads),
    ] = "",
    every: Annotated[float, typer.Option(min=0.05, help="How often to look [s].")] = 1.0,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="End after so many checkpoints.")
    ] = None,
) -> None:
    """Follow checkpoints as they are saved.

    Begins with the last few. With --json, each is one line. Ends with Ctrl-C. While the store can't
    be reached it waits.
    """
    session: Session = ctx.obj
    left = count
    with session.open(exact=False) as store:
        for found in _saved(session, store, thread, every, min(count or _FIRST, _FIRST)):
            _tell(session, store, found)
            if left is not None:
                left -= 1
                if not left:
                    return


def _saved(
    session: Session, store: CheckpointStore, thread: str, every: float, first: int
) -> Iterator[FoundCheckpoint]:
    """Yield checkpoints, the oldest first, as they come, and again when what they wait for changes.

    If more come between two looks than are read at once, the older ones of them are passed over.
    """
    query = FindCheckpoints(valid_execution_id(thread) if thread else None, limit=_AT_ONCE)
    known: dict[tuple[str, str, str], list[str]] | None = None
    floor = ""
    away = False
    while True:
        try:
            found: list[FoundCheckpoint] = store.backend.execute(query)  # type: ignore[assignment]  # see FindCheckpoints
        except StoreUnavailable as error:
            if known is None:
                raise
            if not away:
                session.out.note(f"langcairn: {error}; waiting")
            away = True
        else:
            away = False
            if known is None:
                yield from reversed(found[:first])
            else:
                # What was removed lets older ones into sight: they are not new.
                new = [one for one in found if one.row.id >= floor]
                yield from (
                    one for one in reversed(new) if known.get(_key(one.row)) != pending_of(one)
                )
            known = {_key(one.row): pending_of(one) for one in found}
            floor = found[-1].row.id if len(found) == _AT_ONCE else ""
        clock.sleep(every)


def pending_of(found: FoundCheckpoint) -> list[str]:
    """Return what a checkpoint's step waits for, or that it failed."""
    return sorted({MARKS[one.channel] for one in found.writes if one.channel in MARKS})


def _key(row: CheckpointRow) -> tuple[str, str, str]:
    return row.execution_id, row.namespace, row.id


def _tell(session: Session, store: CheckpointStore, found: FoundCheckpoint) -> None:
    row = found.row
    pending = pending_of(found)
    step = step_of(row, metadata_of(store.codec, row))
    if session.as_json:
        told: dict[str, Any] = {
            "thread": row.execution_id,
            "namespace": row.namespace,
            "checkpoint": row.id,
            "parent": row.parent_id,
            "node": row.node_name,
            "time": time(row.timestamp),
            "version": row.version,
            "step": step.number,
            "source": step.source,
            "pending": pending,
        }
        session.out.json(told, indent=False)
        return
    text = Text(when(row.timestamp), "dim")
    text.append(f" {escaped(row.execution_id)}", "bold")
    if row.namespace:
        text.append(f" {escaped(row.namespace)}", "dim")
    text.append(f" {escaped(short_id(row.id))} {numbered(step):>3} ")
    text.append(escaped(row.node_name or step.source or "-"), "cyan")
    for mark in pending:
        text.append(f" {mark}", "bold red" if mark == "failed" else "bold yellow")
    session.out.console.print(text, overflow="fold")
