"""Asking before something is deleted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from langcairn.cli.escaping import escaped
from langcairn.cli.failing import FOUND_SOMETHING
from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 10  # [lines]


def confirm(question: str, things: Sequence[str], *, yes: bool) -> None:
    """Ask, on stderr, unless the answer was given with the command.

    Args:
        question: What to ask.
        things: What it is about, a line for each.
        yes: Don't ask.

    Raises:
        InvalidInput: There is nobody to ask.
        typer.Exit: The answer was no.
    """
    if yes:
        return
    for line in [
        *things[:_SHOWN],
        *([f"… and {len(things) - _SHOWN:,} more"][len(things) <= _SHOWN :]),
    ]:
        typer.echo(f"  {escaped(line)}", err=True)
    if sys.stdin is None or sys.stdin.closed:
        raise InvalidInput("nobody is there to be asked; give --yes if it shall be done")
    try:
        agreed = typer.confirm(escaped(question), err=True)
    except typer.Abort:
        # The end of the input is no answer.
        typer.echo("", err=True)
        raise InvalidInput("there was no answer; nothing was done. --yes does it unasked") from None
    if not agreed:
        typer.echo("nothing was done", err=True)
        raise typer.Exit(FOUND_SOMETHING)
