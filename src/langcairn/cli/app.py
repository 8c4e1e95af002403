"""Where the command begins: it says so if what it is made of isn't installed."""

from __future__ import annotations

import io
import sys

MISSING_EXTRA = 11
"""The exit code if something isn't installed."""


def main() -> None:
    """Run the command with the program's arguments, and exit."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character shows its number instead of ending the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from langcairn.cli.commands import program  # noqa: PLC0415 -- so that its lack has a message
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(  # noqa: T201 -- there is nothing else to print with
            f"langcairn: {error.name} is not installed. The command line needs the extra 'cli': "
            "pip install 'langcairn[cli]'",
            file=sys.stderr,
        )
        sys.exit(MISSING_EXTRA)
    program(prog_name="langcairn")
