"""`langcairn fork`, `delete` and `prune`: what changes a store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langcairn import retention
from langcairn.cli.arguments import CheckpointName, Namespace, ThreadId, Yes
from langcairn.cli.asking import confirm
from langcairn.cli.completing import threads as complete_threads
from langcairn.cli.failing import NotThere
from langcairn.cli.naming import LATEST, Thread
from langcairn.cli.printing import counted, size
from langcairn.cli.threads import matches
from langcairn.cli.times import span
from langcairn.errors import InvalidInput
from langcairn.forks import copy_line
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.cli.session import Session
    from langcairn.figures import ExecutionStats
    from langcairn.store import CheckpointStore

app = typer.Typer()

Threads = Annotated[
    list[str] | None,
    typer.Argument(metavar="THREAD", help="Thread ids.", autocompletion=complete_threads),
]
Matching = Annotated[
    str, typer.Option("--matching", metavar="TEXT", help="All whose id has this, or fits * and ?.")
]
Idle = Annotated[
    str,
    typer.Option(metavar="SPAN", help="All whose newest checkpoint is older: 12h, 30d, 8w."),
]


@app.command("fork")
def fork(
    ctx: typer.Context,
    thread: ThreadId,
    checkpoint: CheckpointName = LATEST,
    to: Annotated[
        str, typer.Option("--to", metavar="THREAD", help="Copy into this new thread.")
    ] = "",
    name: Annotated[
        str | None, typer.Option("--name", help="Name the fork of the checkpoint; '' unnames it.")
    ] = None,
    namespace: Namespace = "",
) -> None:
    """Copy a checkpoint and what led to it, or name its fork.

    --to THREAD copies the checkpoint, and all before it on its branch, into a new thread, where a
    graph can go on from it; the first thread stays as it is. --name NAME gives the branch on which
    the checkpoint lies a name, by which this program finds its end.
    """
    session: Session = ctx.obj
    if bool(to) == (name is not None):
        raise InvalidInput("say either --to THREAD, to copy, or --name NAME, to name the fork")
    with session.open() as store:
        row = Thread(store, thread).find(checkpoint, namespace)
        told: dict[str, Any] = {"thread": thread, "checkpoint": row.id}
        if name is not None:
            store.name_fork(row.id, name or None, execution_id=thread, namespace=namespace)
            told["name"] = name or None
            text = f"the fork of {row.id} is called {name!r} now" if name else "it has no name now"
        else:
            target = valid_execution_id(to)
            copied = store.run(copy_line(store.codec, row.execution_id, row[1:3], target))
            told |= {"to": target, "checkpoints": copied}
            text = f"copied {counted(copied, 'checkpoint')} into thread {target!r}"
    if session.as_json:
        session.out.json(told)
    else:
        session.out.say(text)


@app.command("delete")
def delete(
    ctx: typer.Context,
    threads: Threads = None,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", "-c", help="Only this checkpoint of the one thread.")
    ] = "",
    namespace: Namespace = "",
    matching: Matching = "",
    idle: Idle = "",
    yes: Yes = False,
) -> None:
    """Delete threads, or one checkpoint.

    Says before what will go, and asks. What is deleted can't be brought back, but from a backup.
    """
    session: Session = ctx.obj
    with session.open() as store:
        if checkpoint:
            _delete_checkpoint(session, store, threads or [], checkpoint, namespace, yes=yes)
            return
        found = _chosen(store, threads or [], matching, idle)
        checkpoints = sum(one.checkpoints for one in found)
        stored = sum(one.stored_bytes for one in found)
        what = f"{counted(len(found), 'thread')} with {counted(checkpoints, 'checkpoint')}"
        if found:
            lines = [f"{one.execution_id}: {_size_of(one)}" for one in found]
            confirm(f"Delete {what}, {size(stored)}?", lines, yes=yes)
            with session.out.progress("deleting") as advance:
                for done, one in enumerate(found, 1):
                    store.clear(one.execution_id)
                    advance(done, len(found))
    told = {
        "threads": [one.execution_id for one in found],
        "checkpoints": checkpoints,
        "freed_bytes": stored,
    }
    _tell(session, told, f"deleted {what}, {size(stored)}")


def _delete_checkpoint(
    session: Session,
    store: CheckpointStore,
    threads: Sequence[str],
    name: str,
    namespace: str,
    *,
    yes: bool,
) -> None:
    if len(threads) != 1:
        raise InvalidInput("--checkpoint is of one thread: name one")
    found = Thread(store, threads[0])
    row = found.find(name, namespace)
    lines = []
    if any(one.parent_id == row.id for one in found.rows):
        lines.append("others continue it: they stay, and begin a branch without it")
    confirm(f"Delete checkpoint {row.id} of thread {found.id}?", lines, yes=yes)
    store.delete(row.id, execution_id=found.id, namespace=row.namespace)
    told = {"threads": [found.id], "checkpoint": row.id, "checkpoints": 1}
    _tell(session, told, f"deleted checkpoint {row.id}")


@app.command("prune")
def prune(
    ctx: typer.Context,
    threads: Threads = None,
    keep: Annotated[
        int, typer.Option("--keep", "-k", min=1, help="How many to keep of each namespace.")
    ] = 1,
    every: Annotated[bool, typer.Option("--all", help="All threads.")] = False,
    matching: Matching = "",
    idle: Idle = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Yes = False,
) -> None:
    """Delete all but the newest checkpoints of threads.

    What the kept ones need stays too: ancestors that a DeltaChannel is rebuilt from, and branches
    that wait for an answer. Says before what will go, and asks.
    """
    session: Session = ctx.obj
    with session.open() as store:
        found = _chosen(store, threads or [], matching or ("*" if every else ""), idle)
        surplus: dict[str, int] = {}
        with session.out.progress("looking") as advance:
            for done, one in enumerate(found, 1):
                keys, _ = store.run(retention.surplus_of(store.codec, one.execution_id, keep))
                if keys:
                    surplus[one.execution_id] = len(keys)
                advance(done, len(found))
        total = sum(surplus.values())
        affected = [one for one in found if one.execution_id in surplus]
        what = f"{counted(total, 'checkpoint')} of {counted(len(surplus), 'thread')}"
        before = sum(one.stored_bytes for one in affected)
        freed = 0
        if surplus and not dry_run:
            lines = [f"{one.execution_id}: {surplus[one.execution_id]:,} of {_size_of(one)}"
                     for one in affected]  # fmt: skip
            confirm(f"Delete {what}, which take {size(before)} in all?", lines, yes=yes)
            total = _prune(session, store, list(surplus), keep)
            after = store.execution_stats(execution_ids=list(surplus))
            freed = before - sum(one.stored_bytes for one in after)
    told = {
        "threads": list(surplus),
        "checkpoints": total,
        "freed_bytes": freed,
        "dry_run": dry_run,
    }
    verb = "would delete" if dry_run else "deleted"
    tail = "" if dry_run else f", which freed {size(freed)}"
    _tell(session, told, f"{verb} {what}{tail}")


def _prune(session: Session, store: CheckpointStore, ids: Sequence[str], keep: int) -> int:
    removed = 0
    with session.out.progress("pruning") as advance:
        for done, id in enumerate(ids, 1):
            removed += store.run(retention.keep_newest(store.codec, id, keep))
            advance(done, len(ids))
    return removed


def _chosen(
    store: CheckpointStore, threads: Sequence[str], matching: str, idle: str
) -> list[ExecutionStats]:
    """Return the threads that are meant: named ones, or all that fit.

    Raises:
        InvalidInput: None were named, or both.
        NotThere: A named one isn't there.
    """
    if bool(threads) == bool(matching or idle):
        raise InvalidInput("name threads, or say which with --matching or --idle")
    if threads:
        ids = [valid_execution_id(id) for id in threads]
        found = store.execution_stats(execution_ids=ids)
        missing = set(ids) - {one.execution_id for one in found}
        if missing:
            raise NotThere(
                f"there is no thread {min(missing)!r} in this store; nothing was done. "
                "`langcairn threads` lists them"
            )
    else:
        ids = [id for id in store.executions() if matches(id, matching)]
        found = store.execution_stats(execution_ids=ids)
    if idle:
        limit = datetime.now(UTC) - span(idle)
        found = [one for one in found if one.newest is not None and one.newest < limit]
    return found


def _size_of(one: ExecutionStats) -> str:
    return f"{counted(one.checkpoints, 'checkpoint')}, {size(one.stored_bytes)}"


def _tell(session: Session, told: dict[str, Any], text: str) -> None:
    if session.as_json:
        session.out.json(told)
    else:
        session.out.say(text)
