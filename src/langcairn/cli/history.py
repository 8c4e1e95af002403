"""`langcairn log`: a thread's checkpoints and forks as a drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from langcairn.backends.base import FindWrites, WriteRow
from langcairn.cli.arguments import Namespace, ThreadId
from langcairn.cli.escaping import escaped
from langcairn.cli.graph import ASCII, UNICODE, drawn
from langcairn.cli.naming import Thread, short_id
from langcairn.cli.plain import time
from langcairn.cli.printing import counted, when

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langcairn.cli.printing import Printer
    from langcairn.cli.session import Session
    from langcairn.forks import Fork, Step

app = typer.Typer()

# LangGraph's channels for what a node waits for, and for how it failed.
MARKS = {"__interrupt__": "waits", "__error__": "failed"}


@app.command("log")
def log(
    ctx: typer.Context,
    thread: ThreadId,
    namespace: Namespace = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also the namespaces of subgraphs, one after another.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, help="The most checkpoints to show.")
    ] = None,
) -> None:
    """Draw a thread's checkpoints and forks.

    The newest stands above. A line has the end of the checkpoint's id, LangGraph's number of the
    step (of records saved by hand: their version), the node after which it was taken, when, and
    what it waits for.
    """
    session: Session = ctx.obj
    with session.open(exact=False) as store:
        found = Thread(store, thread)
        namespaces = found.namespaces if every else [found.of(namespace)[0].namespace]
        forks = {name: found.forks(name) for name in namespaces}
        writes: list[WriteRow] = store.backend.execute(FindWrites(found.id))  # type: ignore[assignment]  # see FindWrites
    marks = _marks(writes)
    if session.as_json:
        steps = [
            described(found.id, name, step, fork, marks)
            for name, branches in forks.items()
            for step, fork in _newest(branches, limit)
        ]
        session.out.json(steps)
        return
    for name, branches in forks.items():
        if name:
            session.out.say(Text(f"namespace {escaped(name)}", "bold"))
        _draw(session.out, name, branches, marks, limit)
    others = len(found.namespaces) - len(namespaces)
    if others:
        session.out.note(f"not shown: {counted(others, 'namespace')} of subgraphs (--all)")


def described(
    thread: str,
    namespace: str,
    step: Step,
    fork: Fork,
    marks: dict[tuple[str, str], set[str]],
) -> dict[str, Any]:
    """Return a checkpoint without its state as JSON data."""
    return {
        "thread": thread,
        "namespace": namespace,
        "checkpoint": step.id,
        "parent": step.parent_id,
        "node": step.node_name,
        "time": time(step.timestamp),
        "version": step.version,
        "step": step.number,
        "source": step.source,
        "fork": fork.name,
        "tip": step is fork.tip,
        "pending": sorted(marks.get((namespace, step.id), ())),
    }


def numbered(step: Step) -> int:
    """Return what counts a checkpoint: LangGraph's number of the step, or else the version."""
    return step.version if step.number is None else step.number


def _marks(writes: Iterable[WriteRow]) -> dict[tuple[str, str], set[str]]:
    """Return, by namespace and checkpoint, what its step waits for or failed with."""
    marks: dict[tuple[str, str], set[str]] = {}
    for write in writes:
        if write.channel in MARKS:
            key = (write.namespace, write.checkpoint_id)
            marks.setdefault(key, set()).add(MARKS[write.channel])
    return marks


def _newest(forks: Iterable[Fork], limit: int | None) -> list[tuple[Step, Fork]]:
    """Return the checkpoints of branches, the newest first, with the branch of each."""
    pairs = [(step, fork) for fork in forks for step in fork.steps]
    return sorted(pairs, key=lambda pair: pair[0].id, reverse=True)[:limit]


def _draw(
    out: Printer,
    namespace: str,
    forks: list[Fork],
    marks: dict[tuple[str, str], set[str]],
    limit: int | None,
) -> None:
    pairs = _newest(forks, limit)
    fork_of = {step.id: fork for step, fork in pairs}
    continued = {step.parent_id for step, _ in pairs}
    for line, step in drawn((step for step, _ in pairs), UNICODE if out.unicode else ASCII):
        text = Text(line, "yellow")
        if step is not None:
            fork = fork_of[step.id]
            text.append(f" {escaped(short_id(step.id))}", "bold" if step is fork.tip else "")
            text.append(f" {numbered(step):>3}", "dim")
            text.append(f" {escaped(step.node_name or '-')}", "cyan")
            text.append(f" {when(step.timestamp)}", "dim")
            if step is fork.tip and fork.name:
                text.append(f" [{escaped(fork.name)}]", "bold green")
            if fork.is_newest and step is fork.tip:
                text.append(" (latest)", "bold green")
            if step.source in ("update", "fork"):
                text.append(f" {step.source}", "magenta")
            # What was waited for was answered if a run went on from here.
            if step.id not in continued:
                for mark in sorted(marks.get((namespace, step.id), ())):
                    text.append(f" {mark}", "bold red" if mark == "failed" else "bold yellow")
        out.console.print(text, overflow="ellipsis", no_wrap=True)
