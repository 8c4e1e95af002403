"""`langcairn maintain`: remove what isn't to be kept, and what crashes have left."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langcairn.cli.arguments import Yes
from langcairn.cli.asking import confirm
from langcairn.cli.failing import FOUND_SOMETHING
from langcairn.cli.printing import counted, size
from langcairn.cli.times import span
from langcairn.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langcairn.cli.session import Session
    from langcairn.upkeep import MaintainedExecution, MaintenanceReport

app = typer.Typer()


@app.command("maintain")
def maintain(
    ctx: typer.Context,
    max_checkpoints: Annotated[
        int | None, typer.Option(min=1, help="How many checkpoints of each namespace to keep.")
    ] = None,
    max_age: Annotated[
        str, typer.Option(metavar="SPAN", help="How old checkpoints may be: 12h, 30d, 8w.")
    ] = "",
    max_bytes: Annotated[
        int | None, typer.Option(min=0, help="How much a thread may take [bytes].")
    ] = None,
    drop_idle: Annotated[
        bool,
        typer.Option("--drop-idle", help="Delete threads whole if all of them is older."),
    ] = False,
    threads: Annotated[
        str, typer.Option(metavar="PATTERN", help="Apply the rules to these threads only.")
    ] = "*",
    idle: Annotated[
        str,
        typer.Option(
            metavar="SPAN", help="Apply them only to threads whose newest checkpoint is older."
        ),
    ] = "",
    garbage: Annotated[
        bool,
        typer.Option("--garbage/--no-garbage", help="Look for what crashes have left."),
    ] = True,
    after: Annotated[str, typer.Option(metavar="THREAD", help="Go on behind this thread.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="The most threads to look at.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Begin no thread after this time [s].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Yes = False,
) -> None:
    """Remove what isn't to be kept, and what crashes have left.

    Without a rule, nothing that can be read goes. The newest checkpoint of each namespace stays,
    but with --drop-idle, and what kept ones need stays with them (docs/retention.md). Graphs may
    run meanwhile. Says before what will go, and asks; with --yes it fits a cron job.
    """
    session: Session = ctx.obj
    rule = Retention(
        max_checkpoints=max_checkpoints,
        max_age=span(max_age) if max_age else None,
        max_bytes=max_bytes,
        keep_latest=not drop_idle,
        threads=threads,
        idle=span(idle) if idle else None,
    )
    options: dict[str, Any] = {"garbage": garbage, "after": after, "limit": limit,
                               "seconds": seconds}  # fmt: skip
    with session.open() as store:
        total = len(store.executions(after=after))
        if not yes or dry_run:
            with _progress(session, "looking", total) as show:
                planned = store.maintain(rule, dry_run=True, progress=show, **options)
            if dry_run or not planned.changed:
                _tell(session, planned)
                return
            confirm(f"Delete {_what(planned)}?", _lines(planned), yes=False)
        with _progress(session, "maintaining", total) as show:
            report = store.maintain(rule, progress=show, **options)
    _tell(session, report)


@contextmanager
def _progress(
    session: Session, title: str, total: int
) -> Iterator[Callable[[MaintainedExecution], None]]:
    with session.out.progress(title) as advance:
        numbers = count(1)
        yield lambda _: advance(next(numbers), total)


def _lines(report: MaintenanceReport) -> list[str]:
    return [
        f"{one.execution_id}: "
        + ("all of it" if one.cleared else counted(len(one.checkpoints), "checkpoint"))
        + f", {size(one.bytes)}"
        for one in report.details
    ]


def _what(report: MaintenanceReport) -> str:
    parts = [
        counted(report.checkpoints, "checkpoint"),
        counted(report.writes, "pending write"),
        counted(report.chunks, "chunk"),
    ]
    of = f" of {counted(report.changed, 'thread')}"
    whole = f", {report.cleared:,} of them whole" if report.cleared else ""
    return f"{', '.join(parts)}{of}{whole}, {size(report.bytes)}"


def _tell(session: Session, report: MaintenanceReport) -> None:
    """Print a report.

    Raises:
        typer.Exit: Some threads could not be maintained.
    """
    if session.as_json:
        session.out.json(_described(report))
    else:
        if report.dry_run:
            session.out.say(*_lines(report))
        verb = "would delete" if report.dry_run else "deleted"
        session.out.say(f"looked at {counted(report.executions, 'thread')}; {verb} {_what(report)}")
        if report.leased:
            session.out.say(
                f"{counted(len(report.leased), 'thread')} with a lease left as they are"
            )
        for id, error in report.errors.items():
            session.out.say(f"{id}: {error}")
        if report.next is not None:
            session.out.say(f"to go on: --after {report.next!r}")
    if not report.ok:
        raise typer.Exit(FOUND_SOMETHING)


def _described(report: MaintenanceReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "dry_run": report.dry_run,
        "threads": report.executions,
        "changed": report.changed,
        "cleared": report.cleared,
        "checkpoints": report.checkpoints,
        "writes": report.writes,
        "chunks": report.chunks,
        "bytes": report.bytes,
        "leased": report.leased,
        "errors": {id: str(error) for id, error in report.errors.items()},
        "next": report.next,
    }
