"""`langcairn show`, `state` and `writes`: what a thread and its checkpoints hold."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from langcairn import operations
from langcairn.backends.base import FindCheckpoints, FindWrites
from langcairn.cli.arguments import CheckpointName, Namespace, ThreadId
from langcairn.cli.escaping import escaped
from langcairn.cli.naming import LATEST, Thread, short_id
from langcairn.cli.paths import at_path
from langcairn.cli.plain import plain, time
from langcairn.cli.printing import Column, counted, size, when
from langcairn.cli.rendering import one_line, rendered
from langcairn.errors import CheckpointNotFound
from langcairn.forks import step_of
from langcairn.tasks import find_nodes, nodes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langcairn.backends.base import CheckpointRow, WriteRow
    from langcairn.cli.session import Session
    from langcairn.figures import ExecutionStats
    from langcairn.records import Loaded
    from langcairn.store import CheckpointStore

app = typer.Typer()


def load(store: CheckpointStore, row: CheckpointRow) -> Loaded:
    """Return a checkpoint with its state and pending writes.

    Raises:
        CheckpointNotFound: It was deleted meanwhile.
    """
    query = FindCheckpoints(row.execution_id, row.namespace, row.id)
    found = store.run(operations.find(store.codec, query))
    if not found:
        raise CheckpointNotFound(f"checkpoint {row.id!r} was deleted just now")
    return found[0]


def described(loaded: Loaded, nodes: Mapping[str, str]) -> dict[str, Any]:
    """Return a checkpoint as JSON data.

    Args:
        loaded: The checkpoint.
        nodes: The nodes of the tasks that have written to it, by task id.
    """
    row = loaded.row
    return {
        "thread": row.execution_id,
        "namespace": row.namespace,
        "checkpoint": row.id,
        "parent": row.parent_id,
        "node": row.node_name,
        "time": time(row.timestamp),
        "version": row.version,
        "metadata": plain(loaded.metadata),
        "state": plain(loaded.state),
        "writes": [written(*write, nodes) for write in loaded.writes],
    }


def written(task_id: str, channel: str, value: Any, nodes: Mapping[str, str]) -> dict[str, Any]:
    """Return a pending write as JSON data."""
    return {
        "node": nodes.get(task_id),
        "task": task_id,
        "channel": channel,
        "value": plain(value),
    }


@app.command("show")
def show(
    ctx: typer.Context,
    thread: ThreadId,
    checkpoint: CheckpointName = "",
    namespace: Namespace = "",
    full: Annotated[bool, typer.Option("--full", help="Don't fold what is long.")] = False,
) -> None:
    """Show a thread, or one of its checkpoints.

    Without CHECKPOINT: the thread, and its newest checkpoint. Messages are shown as a conversation,
    other values as a tree; what is long is folded.
    """
    session: Session = ctx.obj
    with session.open(exact=False) as store:
        found = Thread(store, thread)
        row = found.find(checkpoint or LATEST, namespace)
        loaded = load(store, row)
        nodes = store.run(find_nodes(loaded))
        stats = None if checkpoint else store.execution_stats(execution_ids=[found.id])[0]
        forks = found.forks(namespace)
    out = session.out
    if session.as_json:
        about = {} if stats is None else {"thread_stats": _thread_facts(stats, found, len(forks))}
        out.json({**described(loaded, nodes), **about})
        return
    if stats is not None:
        out.facts(
            [
                ("thread", Text(escaped(found.id), "bold")),
                (
                    "checkpoints",
                    f"{stats.checkpoints:,} in {counted(len(forks), 'branch', 'branches')}",
                ),
                ("stored", f"{size(stats.stored_bytes)} in {stats.chunks:,} chunks"),
                ("from", when(stats.oldest)),
                ("to", when(stats.newest)),
                *[("subgraph", name) for name in found.namespaces if name],
            ]
        )
        out.say("")
    _show_checkpoint(session, loaded, nodes, full=full)
    note_rebuilt(session, loaded)


def note_rebuilt(session: Session, loaded: Loaded) -> None:
    """Say of which channels the state holds no value, although the graph has one."""
    for channel in loaded.rebuilt:
        session.out.note(
            f"{channel} is a DeltaChannel: its value isn't in checkpoint "
            f"{short_id(loaded.row.id)}; LangGraph rebuilds it from earlier ones"
        )


def _thread_facts(stats: ExecutionStats, found: Thread, forks: int) -> dict[str, Any]:
    return {
        "checkpoints": stats.checkpoints,
        "branches": forks,
        "stored_bytes": stats.stored_bytes,
        "chunks": stats.chunks,
        "namespaces": found.namespaces,
    }


def _show_checkpoint(
    session: Session, loaded: Loaded, nodes: Mapping[str, str], *, full: bool
) -> None:
    row, out = loaded.row, session.out
    number = step_of(row, loaded.metadata).number
    facts: list[tuple[str, str | Text]] = [
        ("checkpoint", Text(escaped(row.id), "bold")),
        ("parent", row.parent_id or "none"),
        ("node", row.node_name or "unknown"),
        ("version", str(row.version)) if number is None else ("step", str(number)),
        ("taken", when(row.timestamp)),
    ]
    if row.namespace:
        facts.append(("namespace", row.namespace))
    hidden = ("step", "parents")
    facts += [
        (f"metadata {key}", one_line(value, 120))
        for key, value in loaded.metadata.items()
        if key not in hidden
    ]
    out.facts(facts)
    state = loaded.state if isinstance(loaded.state, dict) else {"state": loaded.state}
    for channel, value in state.items():
        out.say("", Text(escaped(str(channel)), "bold underline"))
        for line in rendered(value, full=full):
            out.console.print(line, overflow="fold")
    if loaded.writes:
        out.say("", Text("pending writes", "bold underline"))
        for task_id, channel, value in loaded.writes:
            source = nodes.get(task_id) or f"task {short_id(task_id)}"
            out.say(f"{channel} ({source}): {one_line(value, 200)}")


@app.command("state")
def state(
    ctx: typer.Context,
    thread: ThreadId,
    checkpoint: CheckpointName = LATEST,
    namespace: Namespace = "",
    path: Annotated[
        str, typer.Option("--path", "-p", help="Only what is there: messages[-1].content")
    ] = "",
) -> None:
    """Print a checkpoint's state as JSON, or a part of it.

    What JSON has no form for has a $type, or is $bytes in base64.
    """
    session: Session = ctx.obj
    with session.open(exact=False) as store:
        loaded = load(store, Thread(store, thread).find(checkpoint, namespace))
    note_rebuilt(session, loaded)
    session.out.json(at_path(plain(loaded.state), path))


@app.command("writes")
def writes(
    ctx: typer.Context,
    thread: ThreadId,
    checkpoint: CheckpointName = "",
    namespace: Namespace = "",
) -> None:
    """Show the pending writes of checkpoints.

    They are what tasks of a step brought before the step was done: results that are kept in a
    crash, interrupts, errors. Without CHECKPOINT: those of all checkpoints of the namespace.
    """
    session: Session = ctx.obj
    with session.open(exact=False) as store:
        found = Thread(store, thread)
        if checkpoint:
            loaded = [load(store, found.find(checkpoint, namespace))]
        else:
            query = FindCheckpoints(found.id, found.of(namespace)[0].namespace)
            loaded = list(store.pages(query, {}, None))
        rows: list[WriteRow] = store.backend.execute(FindWrites(found.id))  # type: ignore[assignment]  # see FindWrites
    paths = _by_checkpoint(rows)
    told = [
        (one, nodes, write)
        for one in loaded
        for nodes in [nodes_of(paths[one.row.namespace, one.row.id], one.state)]
        for write in one.writes
    ]
    if session.as_json:
        session.out.json(
            [{"checkpoint": one.row.id, **written(*write, nodes)} for one, nodes, write in told]
        )
        return
    cells = [
        (
            short_id(one.row.id),
            nodes.get(task_id, "-"),
            short_id(task_id),
            channel,
            one_line(value, 100),
        )
        for one, nodes, (task_id, channel, value) in told
    ]
    if not cells:
        session.out.note("no pending writes")
        return
    columns = [Column(name) for name in ("checkpoint", "node", "task", "channel", "value")]
    session.out.table(columns, cells)


def _by_checkpoint(writes: Iterable[WriteRow]) -> Mapping[tuple[str, str], list[WriteRow]]:
    found: dict[tuple[str, str], list[WriteRow]] = defaultdict(list)
    for write in writes:
        found[write.namespace, write.checkpoint_id].append(write)
    return found
