"""`langcairn doctor`: what is wrong with a store, and what to do about it."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from langcairn.checkpoint import Checkpoint
from langcairn.cli import checks_files
from langcairn.cli.escaping import escaped, without_passwords
from langcairn.cli.failing import FOUND_SOMETHING
from langcairn.cli.findings import Level, ok, problem, warning
from langcairn.cli.printing import size
from langcairn.cli.session import (
    LACKS_OBJECTS,
    LOCAL,
    OFFICIAL_KEYS,
    SAY_OBJECTS,
    check_exists,
    lacks_objects,
    official_keys_instead,
)
from langcairn.cli.urls import path_of, scheme_of
from langcairn.codec.standins import InspectingSerializer
from langcairn.errors import CairnError, CorruptData, InvalidInput, StoreError
from langcairn.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.cli.findings import Finding
    from langcairn.cli.session import Session
    from langcairn.store import CheckpointStore

app = typer.Typer()

_MARKS = {Level.OK: ("✓", "+", "green"), Level.WARNING: ("!", "!", "yellow"),
          Level.PROBLEM: ("✗", "x", "bold red")}  # fmt: skip
# What servers don't tell unless they are told, and how.
_UNKNOWN_ROOM = {
    "postgres": "Say it to the database: ALTER DATABASE … SET langcairn.capacity = '500GB' "
    "(docs/postgresql.md).",
    "redis": "Set maxmemory, and let the user have INFO.",
}
_PINGS = 15
_THREADS = 10  # among which one with a checkpoint is looked for
_SLOW = 0.02  # [s] a put is one round trip and a commit
_NEARLY_FULL = 0.9
_PATIENCE = 5.0  # [s]


@app.command("doctor")
def doctor(
    ctx: typer.Context,
    write: Annotated[
        bool, typer.Option("--write", help="Also save a checkpoint, read it, and delete it again.")
    ] = False,
) -> None:
    """Look for what is wrong with a store, and say what to do.

    Looks at the connection, rights, the schema, latency, durability, the pool, eviction, space and
    clocks, and reads one checkpoint. The exit code is 1 if there is a problem; warnings are none.
    """
    session: Session = ctx.obj
    session.import_modules()
    if not session.url:
        session.open()  # says what is missing
    findings: list[Finding] = []
    for finding in _findings(session, write=write):
        findings.append(finding)
        if not session.as_json:
            _print(session, finding)
    bad = [one for one in findings if one.level is Level.PROBLEM]
    if session.as_json:
        told = [{**one._asdict(), "level": one.level.value} for one in findings]
        session.out.json({"store": session.place, "ok": not bad, "findings": told})
    if bad:
        raise typer.Exit(FOUND_SOMETHING)


def _findings(session: Session, *, write: bool) -> Iterator[Finding]:
    scheme = scheme_of(session.url)
    path = path_of(session.url)
    options = dict(session.options)
    try:
        check_exists(session.url, options)
    except StoreError as error:
        yield _fault(session, error)
        return
    if scheme not in LOCAL:
        options.setdefault("deadline", _PATIENCE)
    options["serde"] = InspectingSerializer()  # a type that isn't loaded here is no damage
    with open_store(session.url, **options) as store:
        try:
            yield from _in_general(session, store, write=write)
        except InvalidInput:
            raise
        except CairnError as error:
            yield _fault(session, error)
            return
    try:
        if path is not None:
            yield from checks_files.checks(scheme, path, session.url, session.options)
        elif scheme in ("postgresql", "postgres"):
            from langcairn.cli import checks_postgres  # noqa: PLC0415 -- its driver may not be there

            yield from checks_postgres.checks(session.url, session.options)
        elif scheme != "memory":
            from langcairn.cli import checks_redis  # noqa: PLC0415 -- likewise

            yield from checks_redis.checks(session.url, session.options)
    except StoreError as error:
        yield _fault(session, error)


def _fault(session: Session, error: Exception, check: str = "connection") -> Finding:
    remedy = session.hint(error)
    if remedy is None:
        remedy = {
            "StoreUnavailable": "Is the server running, and are host and port right? Is a firewall "
            "or a proxy in between?",
            "StoreMisconfigured": "The message says what to change.",
            "StoreFull": "Make room: `langcairn prune` deletes old checkpoints.",
        }.get(type(error).__name__, "`langcairn verify` says what exactly is damaged.")
    return problem(check, without_passwords(str(error)), remedy)


def _in_general(session: Session, store: CheckpointStore, *, write: bool) -> Iterator[Finding]:
    """Look at what every store has."""
    health = store.test_connection()
    yield ok("connection", f"{health.product} {health.version} at {session.place}")
    if health.writable:
        yield ok("rights", "it may be written to")
    else:
        yield problem(
            "rights",
            "it can only be read: a replica, a read-only file, or a role without rights",
            "Use the primary; give the role SELECT, INSERT, UPDATE and DELETE on the store's "
            "tables, or the user the right to write to the file and its directory.",
        )
    store.executions(limit=1)
    yield ok("schema", "the layout is one that this langcairn knows")
    if official_keys_instead(session.url, session.options, store):
        yield warning("contents", OFFICIAL_KEYS, session.takeover)
    if lacks_objects(store):
        yield problem("contents", LACKS_OBJECTS, SAY_OBJECTS)
    else:
        yield from _reading(session, store)
    yield _latency(store)
    stats = store.stats()
    room = stats.used_ratio
    if room is not None and stats.free_bytes is not None:
        what = f"{size(stats.free_bytes)} of {size(stats.total_bytes)} are free"
        if room > _NEARLY_FULL:
            yield warning("space", what, "Make room: `langcairn prune --all --keep 10 --idle 30d`.")
        else:
            yield ok("space", what)
    elif (remedy := _UNKNOWN_ROOM.get(store.backend.name)) is not None:
        what = "how much room there is isn't known: nothing can warn before it runs short"
        yield warning("space", what, remedy)
    if write:
        yield _trial(store)


def _reading(session: Session, store: CheckpointStore) -> Iterator[Finding]:
    """Read a checkpoint: nothing else shows that the keys and options are others than its own."""
    try:
        for id in store.executions(limit=_THREADS):
            if store.list(id, limit=1):
                yield ok("reading", "the newest checkpoint of a thread can be read")
                return
    except CorruptData as error:
        yield _fault(session, error, "reading")


def _latency(store: CheckpointStore) -> Finding:
    times = [store.test_connection().latency for _ in range(_PINGS)]
    middle, worst = statistics.median(times), max(times)
    what = f"a small request takes {middle * 1000:.2g} ms, at most {worst * 1000:.2g} ms"
    if middle > _SLOW:
        return warning(
            "latency",
            what,
            "Each step of a run waits for one at least: bring the store nearer to its users, or "
            "use WriteBehind (docs/write-behind.md).",
        )
    return ok("latency", what)


def _trial(store: CheckpointStore) -> Finding:
    """Save, load and delete."""
    mine = f"langcairn-doctor-{os.urandom(8).hex()}"
    begin = time.perf_counter()
    try:
        store.save(Checkpoint(execution_id=mine, id="trial", state={"text": "é" * 2000}))
        saved = time.perf_counter() - begin
        same = store.load("trial", execution_id=mine).state == {"text": "é" * 2000}
    finally:
        store.clear(mine)
    if not same:
        return problem("trial", "what was saved came back changed", "Please report it as a bug.")
    return ok("trial", f"saved in {saved * 1000:.1f} ms, loaded, and deleted again")


def _print(session: Session, finding: Finding) -> None:
    mark, plain, colour = _MARKS[finding.level]
    text = Text(f"{mark if session.out.unicode else plain} ", colour)
    text.append(f"{finding.check}: ", "bold")
    text.append(escaped(finding.what))
    session.out.console.print(text, overflow="fold")
    if finding.remedy:
        session.out.console.print(
            Text(f"  → {finding.remedy}" if session.out.unicode else f"  -> {finding.remedy}"),
            overflow="fold",
        )
