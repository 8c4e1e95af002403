"""`langcairn move-to-objects`: move older and larger content out of the database."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langcairn.cli.arguments import Threads
from langcairn.cli.failing import FOUND_SOMETHING
from langcairn.cli.naming import no_thread
from langcairn.cli.printing import counted, size
from langcairn.cli.times import span
from langcairn.errors import InvalidInput
from langcairn.objects import Moved
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langcairn.cli.session import Session
    from langcairn.store import CheckpointStore

app = typer.Typer()


@app.command("move-to-objects")
def move_to_objects(
    ctx: typer.Context,
    after: Annotated[
        str,
        typer.Option(metavar="SPAN", help="How old checkpoints are whose content moves: 12h, 7d."),
    ] = "",
    larger: Annotated[
        int | None, typer.Option(min=0, help="Chunks that move whatever their age [bytes].")
    ] = None,
    threads: Threads = None,
) -> None:
    """Move older and larger content to object storage.

    --objects says where: s3://bucket/prefix, gs://…, az://… or file:///directory, with credentials
    from the environment. Removes there what nothing refers to any more, too. Graphs may run
    meanwhile, and after an interruption it is simply called again (docs/object-storage.md).
    """
    session: Session = ctx.obj
    given: dict[str, Any] = {}
    if after:
        given["after"] = span(after)
    if larger is not None:
        given["larger"] = larger
    with session.open() as store, session.out.progress("moving") as advance:
        tiers = store.tiered()
        if tiers is None:
            raise InvalidInput(
                "which object storage? Give --objects URL or set LANGCAIRN_OBJECTS: "
                "s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix, "
                "file:///directory"
            )
        tiers.settings = replace(tiers.settings, **given)
        moved = _move(store, threads, advance)
    _tell(session, moved)


def _move(
    store: CheckpointStore, threads: Iterable[str] | None, advance: Callable[[int, int], None]
) -> Moved:
    """Move the content of threads, or of all.

    Raises:
        CheckpointNotFound: There is no such thread; nothing was moved.
    """
    if not threads:
        total, numbers = len(store.executions()), count(1)
        return store.move_to_objects(progress=lambda *_: advance(next(numbers), total))
    ids = sorted({valid_execution_id(id) for id in threads})
    there = {one.execution_id for one in store.execution_stats(execution_ids=ids)}
    for id in ids:
        if id not in there:
            raise no_thread(store, id)
    moved = Moved()
    for number, id in enumerate(ids, 1):
        moved = moved.plus(store.move_to_objects(id))
        advance(number, len(ids))
    return moved


def _tell(session: Session, moved: Moved) -> None:
    """Print what was done.

    Raises:
        typer.Exit: Some threads could not be moved.
    """
    if session.as_json:
        session.out.json(_described(moved))
    else:
        session.out.say(
            f"looked at {counted(moved.executions, 'thread')}; moved "
            f"{counted(moved.chunks, 'chunk')}, {size(moved.bytes)}; stored "
            f"{counted(moved.packs, 'pack')}, removed {counted(moved.removed, 'object')}"
        )
        if moved.failed:
            session.out.note(
                f"{counted(moved.failed, 'thread')} left as it is, because something in it is "
                "damaged: langcairn verify"
            )
    if moved.failed:
        raise typer.Exit(FOUND_SOMETHING)


def _described(moved: Moved) -> dict[str, Any]:
    numbers = moved._asdict()
    return {"ok": not moved.failed, "threads": numbers.pop("executions"), **numbers}
