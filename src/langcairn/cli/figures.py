"""`langcairn stats`: how much is stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from langcairn.cli.completing import threads
from langcairn.cli.naming import no_thread
from langcairn.cli.plain import time
from langcairn.cli.printing import size, when

if TYPE_CHECKING:
    from langcairn.cli.session import Session

app = typer.Typer()


@app.command("stats")
def stats(
    ctx: typer.Context,
    thread: Annotated[
        str,
        typer.Argument(metavar="THREAD", help="Only this thread.", autocompletion=threads),
    ] = "",
    logical: Annotated[
        bool,
        typer.Option("--logical", help="Read everything, to see what sharing saves."),
    ] = False,
) -> None:
    """Say how much is stored, and what sharing saves.

    Figures with ~ are estimates of the storage system's.
    """
    session: Session = ctx.obj
    with session.open(exact=False) as store, session.out.progress("reading") as advance:
        if thread and not store.execution_stats(execution_ids=[thread]):
            raise no_thread(store, thread)
        found = store.stats(thread or None, logical=logical, on_progress=advance)
    if session.as_json:
        told = asdict(found)
        told |= {
            "oldest": None if found.oldest is None else time(found.oldest),
            "newest": None if found.newest is None else time(found.newest),
            "estimated": sorted(found.estimated),
            "sharing_ratio": found.sharing_ratio,
        }
        session.out.json(told)
        return

    def about(name: str, text: str) -> str:
        return f"~{text}" if name in found.estimated else text

    facts = [
        ("backend", found.backend),
        ("threads", about("executions", f"{found.executions:,}")),
        ("checkpoints", about("checkpoints", f"{found.checkpoints:,}")),
        ("pending writes", about("writes", f"{found.writes:,}")),
        ("chunks", about("chunks", f"{found.chunks:,}")),
        ("stored", about("stored_bytes", size(found.stored_bytes))),
    ]
    if found.logical_bytes is not None:
        ratio = found.sharing_ratio
        saved = "" if ratio is None else f", {ratio:.1f} times as much"
        facts.append(("without sharing", f"{size(found.logical_bytes)}{saved}"))
    if found.disk_bytes is not None:
        facts.append(("takes", about("disk_bytes", size(found.disk_bytes))))
    if found.free_bytes is not None:
        total = "" if found.total_bytes is None else f" of {size(found.total_bytes)}"
        facts.append(("free", f"{size(found.free_bytes)}{total}"))
    facts += [("oldest", when(found.oldest)), ("newest", when(found.newest))]
    session.out.facts([(name, text) for name, text in facts if text])
