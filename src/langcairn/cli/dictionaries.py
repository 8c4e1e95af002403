"""`langcairn dictionaries`: what chunks are packed with, and retiring one."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Annotated

import typer

from langcairn.cli.arguments import Yes
from langcairn.cli.asking import confirm
from langcairn.cli.printing import Column, counted, size, when

if TYPE_CHECKING:
    from langcairn.cli.session import Session
    from langcairn.store import CheckpointStore

app = typer.Typer()


@app.command("dictionaries")
def dictionaries(
    ctx: typer.Context,
    retire: Annotated[
        str, typer.Option(metavar="NAME", help="Pack nothing with it any more, and anew what is.")
    ] = "",
    yes: Yes = False,
) -> None:
    """List the dictionaries chunks are packed with; retire one.

    A dictionary holds pieces of the texts that it was trained on, also of threads that were
    deleted since; once nothing is packed with a retired one, nobody can open it. Graphs may run
    meanwhile (docs/compression.md).
    """
    session: Session = ctx.obj
    with session.open() as store:
        if retire:
            _ask(store, retire, yes=yes)
            _retire(session, store, retire)
        else:
            _list(session, store)


def _list(session: Session, store: CheckpointStore) -> None:
    found = store.dictionaries()
    if session.as_json:
        session.out.json(
            [
                {
                    "name": one.name,
                    "trained": one.trained_at,
                    "samples": one.samples,
                    "bytes": one.size,
                    "retired": one.retired,
                }
                for one in found
            ]
        )
        return
    if not found:
        session.out.note("no dictionaries: store.train_dictionary() trains one")
        return
    columns = [Column("name"), Column("trained"), Column("samples", "right"),
               Column("size", "right"), Column("state")]  # fmt: skip
    session.out.table(
        columns,
        (
            (one.name, when(one.trained_at), f"{one.samples:,}", size(one.size),
             "retired" if one.retired else "in use")
            for one in found
        ),
    )  # fmt: skip


def _ask(store: CheckpointStore, name: str, *, yes: bool) -> None:
    """Ask about a dictionary that is in use: one that is retired has nothing more to lose."""
    in_use = [one for one in store.dictionaries() if one.name == name and not one.retired]
    if in_use:
        lines = [f"{name}, {size(one.size)}, trained {when(one.trained_at)}" for one in in_use]
        confirm("Retire it, which can't be undone?", lines, yes=yes)


def _retire(session: Session, store: CheckpointStore, name: str) -> None:
    with session.out.progress("packing anew") as advance:
        total, numbers = len(store.executions()), count(1)
        done = store.retire_dictionary(name, progress=lambda _: advance(next(numbers), total))
    if session.as_json:
        session.out.json(
            {
                "dictionary": name,
                "threads": done.executions,
                "chunks": done.chunks,
                "bytes_before": done.bytes_before,
                "bytes_after": done.bytes_after,
            }
        )
        return
    session.out.say(
        f"looked at {counted(done.executions, 'thread')}; packed {counted(done.chunks, 'chunk')} "
        f"anew, {size(done.bytes_before)} before, {size(done.bytes_after)} now"
    )
    if done.chunks:
        session.out.note(
            "processes that know the dictionary may go on with it for ten minutes: call this "
            "again then, until it finds nothing"
        )
