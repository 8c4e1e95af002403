"""`langcairn verify`, `backup`, `restore`, `migrate`, `rotate-keys`: long work on whole stores."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langcairn import transfer
from langcairn.cli.arguments import Threads, Yes
from langcairn.cli.asking import confirm
from langcairn.cli.escaping import without_passwords
from langcairn.cli.failing import FOUND_SOMETHING
from langcairn.cli.printing import counted, size
from langcairn.cli.session import read_options
from langcairn.cli.sources import Kind, kind_of, open_source
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langcairn.cli.session import Session
    from langcairn.security.rotation import Rotation
    from langcairn.transfer.reports import Counts, Progress

app = typer.Typer()

_FINDINGS = 50  # [lines]


class OnExisting(StrEnum):
    """What to do with a thread that the store has already."""

    REFUSE = "refuse"
    SKIP = "skip"
    REPLACE = "replace"


@app.command("verify")
def verify(
    ctx: typer.Context,
    threads: Threads = None,
    repair: Annotated[
        Path | None,
        typer.Option("--repair", metavar="FILE", help="Back up to FILE, then drop what is lost."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Check that everything is as it was written.

    Reads it all and compares it with its hashes. The exit code is 1 if something is wrong. With
    --repair, checkpoints and writes that can't be read are dropped, after a backup of everything,
    so that the rest of their threads can be used again.
    """
    session: Session = ctx.obj
    with session.open() as store:
        with _progress(session, "verifying") as show:
            report = transfer.verify(store, executions=threads or None, progress=show)
        if repair is not None and not report.ok:
            lost = [str(finding) for finding in report.findings]
            confirm(f"Drop what can't be read, after a backup to {repair}?", lost, yes=yes)
            _refuse_overwriting(repair, yes=yes)
            with _progress(session, "backing up") as show:
                repaired = transfer.repair(store, repair, executions=threads or None, progress=show)
            done = f"dropped {repaired.checkpoints:,} checkpoints and {repaired.writes:,} writes"
            where = "" if repaired.backup is None else f"; the backup before is {repair}"
            _tell(session, repaired, done + where)
            return
    extra = []
    if report.garbage:
        extra.append(f"{report.garbage:,} chunks that nothing refers to")
    if report.orphans:
        extra.append(f"{report.orphans:,} pending writes without their checkpoint")
    more = f" ({', '.join(extra)}: that is no damage)" if extra else ""
    _tell(session, report, f"checked {_counts(report)}{more}")


@app.command("backup")
def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    threads: Threads = None,
    since: Annotated[
        Path | None,
        typer.Option(help="An earlier backup of this store: only what changed since."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Write a store into one file.

    The store may be in use meanwhile; each thread is as of one moment.
    """
    session: Session = ctx.obj
    _refuse_overwriting(file, yes=yes)
    with session.open() as store, _progress(session, "backing up") as show:
        report = transfer.backup(
            store, file, executions=threads or None, since=since, progress=show
        )
    changes = ""
    if since is not None:
        changes = f"; {report.unchanged:,} threads unchanged, {report.gone:,} deleted since"
    _tell(session, report, f"wrote {_counts(report)} to {file}, {size(report.size)}{changes}")


@app.command("restore")
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The backup.")],
    threads: Threads = None,
    existing: Annotated[
        OnExisting, typer.Option(help="What to do if the store has a thread already.")
    ] = OnExisting.REFUSE,
    parent: Annotated[
        list[Path] | None,
        typer.Option(help="A backup that this one builds on, if it isn't beside it; repeatable."),
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Take what is whole in a backup that is cut off.")
    ] = False,
    backup_key: Annotated[
        str | None,
        typer.Option(
            metavar="env:NAME|file:PATH",
            help="Where the key of an encrypted backup is, if it isn't one of the store's.",
        ),
    ] = None,
    trusted: Annotated[
        bool,
        typer.Option(
            "--trusted",
            help="Restore a backup that isn't encrypted or signed into a store that is.",
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Put what a backup holds into a store.

    By default nothing is written if the store has one of the threads. An interrupted restore is
    continued with --existing skip.
    """
    session: Session = ctx.obj
    if existing is OnExisting.REPLACE:
        question = "Replace what the store has of the backup's threads?"
        confirm(question, [f"store: {session.place}", f"backup: {file}"], yes=yes)
    with session.open(must_exist=False) as store, _progress(session, "restoring") as show:
        report = transfer.restore(
            file,
            store,
            executions=threads or None,
            existing=existing.value,
            parents=parent or None,
            salvage=salvage,
            encryption=backup_key,
            trusted=trusted,
            progress=show,
        )
    skipped = f"; left {report.skipped:,} as they were" if report.skipped else ""
    _tell(session, report, f"restored {_counts(report)}{skipped}")


@app.command("migrate")
def migrate(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE_URL", help="sqlite:///…, postgresql://…, redis://…")
    ],
    kind: Annotated[
        Kind, typer.Option("--from", help="Whose the source is; auto looks at its tables or keys.")
    ] = Kind.AUTO,
    threads: Threads = None,
    source_option: Annotated[
        list[str] | None,
        typer.Option("--source-option", metavar="NAME=VALUE", help="As --option, of the source."),
    ] = None,
) -> None:
    """Copy from another store or saver.

    The source is a store of langcairn's, a database of langgraph-checkpoint-sqlite, -postgres or
    -redis, or tables or keys of LangGraphGo; the target is --store. Every checkpoint is read back
    and compared. The source isn't changed, what the target has already is skipped, and what else it
    has stays.
    """
    session: Session = ctx.obj
    session.import_modules()
    options = read_options(source_option or ())
    same = source == session.url and options == session.options
    if kind is Kind.AUTO:
        kind = kind_of(source, options, is_target=same)
    if same and kind is Kind.LANGCAIRN:
        raise InvalidInput("source and target are the same store")
    with ExitStack() as stack:
        origin = stack.enter_context(open_source(session, source, kind, options))
        store = stack.enter_context(session.open(must_exist=False))
        with _progress(session, "migrating") as show:
            report = transfer.migrate(origin, store, executions=threads or None, progress=show)
    shrunk = ""
    if report.bytes_before is not None and report.bytes_after is not None:
        shrunk = f"; {size(report.bytes_before)} before, {size(report.bytes_after)} now"
    skipped = f", {report.skipped:,} were there already" if report.skipped else ""
    _tell(
        session,
        report,
        f"migrated {_counts(report)} from {without_passwords(source)}{skipped}; "
        f"{report.compared:,} compared{shrunk}",
    )


@app.command("rotate-keys")
def rotate_keys(ctx: typer.Context) -> None:
    """Encrypt everything with the newest key.

    --encryption must give the new key first, then the old ones, separated by commas or line breaks.
    When it is done and no process writes with an old key any more, those aren't needed any longer.
    """
    session: Session = ctx.obj
    with session.open() as store, session.out.progress("rotating") as advance:
        total = len(store.executions())

        def show(rotation: Rotation) -> None:
            advance(rotation.executions, total)

        rewritten = store.rotate_keys(show)
    if session.as_json:
        session.out.json({"rewritten": rewritten})
    else:
        session.out.say(f"encrypted {rewritten:,} of rows, writes and chunks anew")


@contextmanager
def _progress(session: Session, title: str) -> Iterator[Callable[[Progress], None]]:
    with session.out.progress(title) as advance:

        def show(progress: Progress) -> None:
            advance(progress.done, progress.total)

        yield show


def _refuse_overwriting(file: Path, *, yes: bool) -> None:
    if file.exists():
        confirm(f"{file} exists. Overwrite it?", [], yes=yes)


def _counts(report: Counts) -> str:
    parts = [
        counted(report.executions, "thread"),
        counted(report.checkpoints, "checkpoint"),
        counted(report.writes, "write"),
    ]
    if report.bytes:  # what other savers store isn't counted
        parts.append(size(report.bytes))
    return ", ".join(parts)


def _tell(session: Session, report: Counts, text: str) -> None:
    """Print a report and its findings.

    Raises:
        typer.Exit: There are findings.
    """
    if session.as_json:
        session.out.json({"ok": report.ok, **_described(report)})
    else:
        _print_findings(session, report)
        session.out.say(text)
        if not report.ok:
            session.out.note(counted(len(report.findings), "finding"))
    if not report.ok:
        raise typer.Exit(FOUND_SOMETHING)


def _described(report: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for field in fields(report):
        value = getattr(report, field.name)
        if field.name == "findings":
            value = [
                {("thread" if k == "execution_id" else k): v for k, v in one._asdict().items()}
                for one in value
            ]
        elif hasattr(value, "findings"):
            value = _described(value)
        told["threads" if field.name == "executions" else field.name] = value
    return told


def _print_findings(session: Session, report: Counts) -> None:
    findings: Sequence[object] = report.findings
    for finding in findings[:_FINDINGS]:
        session.out.say(f"✗ {finding}" if session.out.unicode else f"! {finding}")
    if len(findings) > _FINDINGS:
        session.out.say(f"… and {len(findings) - _FINDINGS:,} more (--json has all)")
