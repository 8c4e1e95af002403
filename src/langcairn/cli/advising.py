"""`langcairn advise`: which store suits, by figures from this machine."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from langcairn import transfer
from langcairn.cli.completing import threads as complete_threads
from langcairn.cli.escaping import without_passwords
from langcairn.cli.failing import FOUND_SOMETHING, NotThere
from langcairn.cli.naming import Thread
from langcairn.cli.printing import Column, size
from langcairn.cli.session import LOCAL
from langcairn.cli.trials import Trial, conversation, middle, percentile, steps_of, try_out
from langcairn.cli.urls import scheme_of
from langcairn.errors import CairnError, InvalidInput
from langcairn.opening import open_store
from langcairn.stores import MemoryCheckpointStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.cli.session import Session
    from langcairn.cli.trials import Step
    from langcairn.store import CheckpointStore

app = typer.Typer()


class Shared(StrEnum):
    """Who uses the store at once."""

    PROCESS = "process"
    MACHINE = "machine"
    NETWORK = "network"


class Loss(StrEnum):
    """What a loss of power may cost."""

    NOTHING = "nothing"
    SECONDS = "seconds"
    ALL = "all"


_USERS = {
    Shared.PROCESS: "one process",
    Shared.MACHINE: "several processes on one machine",
    Shared.NETWORK: "several machines",
}
_SHARED = list(Shared)
_LOSS = list(Loss)
_LEVELS = (1, 3, 9)  # of compression
_DEFAULT_LEVEL = 3
_NEAR = 1.2  # times the least; what is nearer changes places from run to run
_SLOW = 0.005  # [s] from here on a run feels its saves
_COLUMNS = (
    Column("store", style="bold"),
    Column("put", "right"),
    Column("95 %", "right"),
    Column("crowded 95 %", "right"),
    Column("puts/s", "right"),
    Column("get", "right"),
    Column("thread", "right"),
    Column("suits"),
)


@dataclass(frozen=True)
class Candidate:
    """A store to be tried.

    Attributes:
        name: What to call it.
        open: Opens it.
        shared: Who may use such a store at once.
        loss: What a loss of power may cost there.
        url: As for `open_store`, without a password.
    """

    name: str
    open: Callable[[], CheckpointStore]
    shared: Shared
    loss: Loss
    url: str


@app.command("advise")
def advise(
    ctx: typer.Context,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate", "-c", metavar="URL", help="A store of yours to measure; repeatable."
        ),
    ] = None,
    like: Annotated[
        str,
        typer.Option(
            metavar="THREAD",
            help="Replay this thread of --store (or of --trace), not a made-up one.",
            autocompletion=complete_threads,
        ),
    ] = "",
    trace: Annotated[
        Path | None,
        typer.Option(metavar="BACKUP", help="Replay a thread out of this backup: the largest one."),
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Turns of the made-up conversation.")] = 30,
    message: Annotated[int, typer.Option(min=1, help="Length of its messages.")] = 1500,
    most: Annotated[
        int, typer.Option("--checkpoints", min=1, help="The most checkpoints to replay.")
    ] = 200,
    crowd: Annotated[int, typer.Option(min=1, max=256, help="Threads at once.")] = 8,
    shared: Annotated[
        Shared, typer.Option(help="Who uses it at once: one process, one machine, several.")
    ] = Shared.MACHINE,
    lose: Annotated[Loss, typer.Option(help="What a loss of power may cost.")] = Loss.NOTHING,
    directory: Annotated[
        Path, typer.Option(help="Where to try files: on the disk that would be used.")
    ] = Path(),
) -> None:
    """Measure stores here, and say which suits.

    A thread is replayed on SQLite and files in --directory and on the stores given with
    --candidate: by one thread alone, then by several at once. What is written is deleted again.
    Other work on this machine makes the figures worse.
    """
    session: Session = ctx.obj
    steps = _steps(session, like, trace, turns, message, most)
    mark = f"langcairn-advise-{os.urandom(6).hex()}"
    try:
        place = tempfile.TemporaryDirectory(prefix=f"{mark}-", dir=directory)
    except OSError as error:
        raise InvalidInput(f"--directory {directory}: {error.strerror}") from error
    with place as path, session.out.progress("measuring") as advance:
        candidates = [*_local(Path(path).resolve()), *(_given(url) for url in candidate or ())]
        total = len(candidates) + len(_LEVELS)
        trials = []
        for done, one in enumerate(candidates, 1):
            trials.append(try_out(one.name, one.open, steps, crowd, mark))
            advance(done, total)
        levels = []
        for done, level in enumerate(_LEVELS, len(candidates) + 1):
            store = MemoryCheckpointStore(compression=level)
            levels.append(try_out("memory", partial(_same, store), steps, 1, mark))
            advance(done, total)
    pairs = list(zip(candidates, trials, strict=True))
    fitting = [pair for pair in pairs if not pair[1].error and _suits(pair[0], shared, lose)]
    leading = leaders(fitting)
    best = leading[0] if leading else None
    advice = _advice(best, pairs, levels, lose) if best else []
    if session.as_json:
        session.out.json(
            {
                "steps": len(steps),
                "crowd": crowd,
                "needs": {"shared": shared.value, "lose": lose.value},
                "stores": [_described(*pair, shared, lose) for pair in pairs],
                "best": None if best is None else best[0].url,
                "level": [one.url for one, _ in leading],
                "advice": advice,
            }
        )
    else:
        _print(session, pairs, leading, advice, (shared, lose), len(steps), crowd)
    if best is None:
        raise typer.Exit(FOUND_SOMETHING)


def _steps(
    session: Session, like: str, trace: Path | None, turns: int, message: int, most: int
) -> list[Step]:
    """Return what is to be replayed.

    Raises:
        CheckpointNotFound: There is no such thread.
        CorruptData: The backup is damaged.
    """
    if trace is not None:
        with MemoryCheckpointStore() as store:
            transfer.restore(trace, store, executions=[like] if like else None)
            measured = store.execution_stats()
            if not measured:
                raise NotThere(f"the backup {trace} has no threads")
            largest = max(measured, key=lambda one: one.stored_bytes)
            return steps_of(store, largest.execution_id, most)
    if like:
        with session.open() as store:
            return steps_of(store, Thread(store, like).id, most)
    return conversation(turns, message)[:most]


def _same(store: CheckpointStore) -> CheckpointStore:
    return store


def _local(path: Path) -> list[Candidate]:
    place = quote(str(path))
    return [
        _made("SQLite", f"sqlite:///{place}/full.db", "sqlite:///…", Loss.NOTHING),
        _made(
            "SQLite NORMAL",
            f"sqlite:///{place}/normal.db?synchronous=NORMAL",
            "sqlite:///…?synchronous=NORMAL",
            Loss.SECONDS,
        ),
        _made("files", f"file://{place}/files", "file:///…", Loss.NOTHING),
    ]


def _made(name: str, url: str, shown: str, loss: Loss) -> Candidate:
    return Candidate(name, partial(open_store, url), Shared.MACHINE, loss, shown)


def _given(url: str) -> Candidate:
    scheme = scheme_of(url)
    place = without_passwords(url)
    if scheme in LOCAL:
        loss = Loss.SECONDS if "NORMAL" in url or "fsync=false" in url else Loss.NOTHING
        loss = Loss.ALL if scheme == "memory" or "synchronous=OFF" in url else loss
        shared = Shared.PROCESS if scheme == "memory" else Shared.MACHINE
        return Candidate(place, partial(open_store, url), shared, loss, place)
    try:
        loss = _loss(scheme, url)
    except CairnError:
        loss = Loss.ALL  # the trial says what is wrong
    return Candidate(place, partial(open_store, url, deadline=5.0), Shared.NETWORK, loss, place)


def _loss(scheme: str, url: str) -> Loss:
    """Ask a server what a loss of power may cost."""
    if scheme in ("postgresql", "postgres"):
        from langcairn.cli.checks_postgres import may_lose  # noqa: PLC0415 -- its driver may not be there

        return Loss(may_lose(url))
    from langcairn.cli.checks_redis import may_lose as may_redis_lose  # noqa: PLC0415 -- likewise

    return Loss(may_redis_lose(url))


def _suits(one: Candidate, shared: Shared, lose: Loss) -> bool:
    return _SHARED.index(one.shared) >= _SHARED.index(shared) and (
        _LOSS.index(one.loss) <= _LOSS.index(lose)
    )


def _why_not(one: Candidate, trial: Trial, shared: Shared, lose: Loss) -> str:
    if trial.error:
        return "no: see below"
    if _SHARED.index(one.shared) < _SHARED.index(shared):
        return f"no: only for {_USERS[one.shared]}"
    if _LOSS.index(one.loss) > _LOSS.index(lose):
        return f"no: a loss of power may cost {one.loss}"
    return "yes"


def leaders(pairs: Sequence[tuple[Candidate, Trial]]) -> list[tuple[Candidate, Trial]]:
    """Return the quickest store and those that are about as quick, in the order given.

    Their order is one of preference: which of them is the quickest differs from run to run.
    """
    least = min((_crowded(trial) for _, trial in pairs), default=0.0)
    return [pair for pair in pairs if _crowded(pair[1]) <= _NEAR * least]


def _crowded(trial: Trial) -> float:
    return percentile(trial.crowded, 0.95)


def _advice(
    best: tuple[Candidate, Trial],
    pairs: Sequence[tuple[Candidate, Trial]],
    levels: Sequence[Trial],
    lose: Loss,
) -> list[str]:
    """Return what else the figures say."""
    one, trial = best
    advice = []
    base = levels[_LEVELS.index(_DEFAULT_LEVEL)]
    for level, other in zip(_LEVELS, levels, strict=True):
        smaller = 1 - other.stored_bytes / max(base.stored_bytes, 1)
        extra = middle(other.puts) - middle(base.puts)
        if smaller > 0.1 and extra < 0.1 * middle(trial.puts):
            advice.append(
                f"compression={level}: {smaller:.0%} less space than with {_DEFAULT_LEVEL}, for "
                f"{_ms(extra)} more a put"
            )
    if middle(trial.puts) > _SLOW:
        advice.append(
            f"a put takes {_ms(middle(trial.puts))}: WriteBehind takes saves off the path of runs, "
            "at the price of what a crash can lose (docs/write-behind.md)"
        )
    faster = [
        (other, figures)
        for other, figures in pairs
        if not figures.error
        and other.shared is one.shared
        and _LOSS.index(other.loss) > _LOSS.index(lose)
        and other.loss is not Loss.ALL
        and middle(figures.puts) < 0.5 * middle(trial.puts)
    ]
    advice += [
        f"{other.name} takes {_ms(middle(figures.puts))} a put, if a loss of power may cost "
        f"{other.loss}"
        for other, figures in faster
    ]
    return advice


def _described(one: Candidate, trial: Trial, shared: Shared, lose: Loss) -> dict[str, Any]:
    why = _why_not(one, trial, shared, lose)
    return {
        "store": one.url,
        "suits": why == "yes",
        "why_not": without_passwords(trial.error) or ("" if why == "yes" else why),
        "shared": one.shared.value,
        "loss": one.loss.value,
        "put_ms": _rounded(middle(trial.puts)),
        "put_p95_ms": _rounded(percentile(trial.puts, 0.95)),
        "crowded_put_p95_ms": _rounded(_crowded(trial)),
        "puts_per_second": round(trial.rate, 1),
        "get_ms": _rounded(middle(trial.gets)),
        "thread_bytes": trial.stored_bytes,
    }


def _rounded(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _print(
    session: Session,
    pairs: Sequence[tuple[Candidate, Trial]],
    leading: Sequence[tuple[Candidate, Trial]],
    advice: Sequence[str],
    needs: tuple[Shared, Loss],
    steps: int,
    crowd: int,
) -> None:
    out = session.out
    rows = []
    for one, trial in pairs:
        figures = [""] * 6
        if not trial.error:
            figures = [
                _ms(middle(trial.puts)),
                _ms(percentile(trial.puts, 0.95)),
                _ms(_crowded(trial)),
                f"{trial.rate:,.0f}",
                _ms(middle(trial.gets)),
                size(trial.stored_bytes),
            ]
        rows.append((one.name, *figures, _why_not(one, trial, *needs)))
    out.say(f"{steps} checkpoints replayed, by one thread and by {crowd} at once")
    out.table(_COLUMNS, rows)
    for one, trial in pairs:
        if trial.error:
            out.say("", f"{one.name}: {without_passwords(trial.error)}")
    out.say("")
    if not leading:
        shared, lose = needs
        out.say(
            f"None of these suits {_USERS[shared]}, if a loss of power may cost {lose}: measure "
            "others with --candidate"
            + (", such as a PostgreSQL server." if shared is Shared.NETWORK else ".")
        )
        return
    out.say(_verdict(leading, crowd))
    for line in advice:
        out.say(f"- {line}")


def _verdict(leading: Sequence[tuple[Candidate, Trial]], crowd: int) -> str:
    (one, trial), *others = leading
    within = _ms(_crowded(trial))
    if not others:
        return (
            f"Use {one.url}: of those that suit, its saves are the quickest with {crowd} threads "
            f"at once: 95 % within {within}."
        )
    named = ", ".join(f"{other.name} ({_ms(_crowded(figures))})" for other, figures in others)
    return (
        f"Use {one.url}: with {crowd} threads at once, 95 % of its saves are within {within}. "
        f"Level with it, at most {(_NEAR - 1) * 100:.0f} % behind the quickest: {named}. Of level "
        "stores, the uppermost is advised."
    )
