"""`langcairn demo` and `bench`: other programs of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langcairn.cli.failing import FOUND_SOMETHING, NotThere
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from langcairn.cli.session import Session

app = typer.Typer()

_ROOT = Path(__file__).parents[3]
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command("demo")
def demo(
    ctx: typer.Context,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Leave databases and journal in a new directory.")
    ] = None,
) -> None:
    """Watch an agent be killed, resumed, rewound and forked.

    It runs on SQLite in a temporary directory, with a scripted model, in some ten seconds.
    """
    _refuse_json(ctx, "the demo is for people: leave --json out")
    words = [] if keep is None else ["--keep", str(keep)]
    raise typer.Exit(_run([sys.executable, "-m", "langcairn.demo", *words]))


@app.command("bench", context_settings=_PASSED_ON)
def bench(ctx: typer.Context) -> None:
    """Compare with the official savers (in a checkout).

    All arguments are passed on to `python -m benchmarks`; with --help it tells its own.
    """
    _refuse_json(ctx, "`langcairn bench --output FILE` writes JSON: leave --json out")
    if not (_ROOT / "benchmarks" / "__main__.py").is_file():
        raise NotThere(
            "the benchmarks are in the repository only: clone it and run `make bench` there; "
            "`langcairn advise` measures your own stores anywhere"
        )
    raise typer.Exit(_run([sys.executable, "-m", "benchmarks", *ctx.args], _ROOT))


def _refuse_json(ctx: typer.Context, why: str) -> None:
    """Refuse what would be ignored.

    Raises:
        InvalidInput: JSON was asked for.
    """
    session: Session = ctx.obj
    if session.as_json:
        raise InvalidInput(why)


def _run(words: list[str], directory: Path | None = None) -> int:
    """Run a program on this terminal. Returns an exit code: 2 for bad arguments, 1 for the rest."""
    code = subprocess.run(words, cwd=directory, check=False).returncode  # noqa: S603 -- our own programs
    return code if code in (0, 2) else FOUND_SOMETHING
