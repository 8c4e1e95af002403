"""How the command ends: an exit code for each kind of error, and what to say about it.

====  =========================================================================
code  meaning
====  =========================================================================
0     it is done
1     it is done, and something is wrong (`verify`, `doctor`); or the answer to a question was no
2     the command line, or an argument, can't be used as it is
3     there is no such thread, checkpoint, path or file
4     a name means several things
5     stored data is damaged, forged, or encrypted with another key
6     the store can't be reached, or is busy: it may work later
7     the store won't work until something is changed: rights, versions, another program's tables
8     no room is left
9     a policy doesn't allow it
10    something is there that must not be overwritten, or another writer was faster
11    something isn't installed
70    a bug of langcairn's
130   interrupted
====  =========================================================================
"""

from __future__ import annotations

import sys
from traceback import print_exception
from typing import TYPE_CHECKING

import typer

from langcairn import errors
from langcairn.cli.app import MISSING_EXTRA
from langcairn.cli.escaping import escaped, without_passwords

if TYPE_CHECKING:
    from collections.abc import Callable

FOUND_SOMETHING = 1
BUG = 70

# The first that fits.
_CODES: list[tuple[type[BaseException], int]] = [
    (errors.InvalidInput, 2),
    (errors.CheckpointNotFound, 3),
    (errors.AmbiguousCheckpoint, 4),
    (errors.CorruptData, 5),
    (errors.StoreUnavailable, 6),
    (errors.StoreMisconfigured, 7),
    (errors.StoreFull, 8),
    (errors.AccessDenied, 9),
    (errors.AlreadyThere, 10),
    (errors.Conflict, 10),
    (errors.CairnError, 7),
    (ImportError, MISSING_EXTRA),
    (FileNotFoundError, 3),
    (PermissionError, 7),
    (OSError, 7),
]


class NotThere(errors.CheckpointNotFound):
    """There is no such thread, path or file."""


def code_of(error: BaseException) -> int:
    """Return the exit code for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), BUG)


def told(error: Exception, *, debug: bool, hint: Callable[[Exception], str | None]) -> int:
    """Say on stderr what went wrong. Returns the exit code.

    Args:
        error: What went wrong.
        debug: Whether to show where, too.
        hint: Returns what else to say about an error, if anything.
    """
    code = code_of(error)
    if debug:
        print_exception(error)
    said = str(error) or type(error).__name__
    if code == BUG:
        said = (
            f"{type(error).__name__}: {said}. That is a bug in langcairn; please report it with "
            "what --debug shows."
        )
    elif isinstance(error, OSError) and error.filename is not None:
        said = f"{error.filename}: {error.strerror}"
    notes = [*getattr(error, "__notes__", ()), hint(error)]
    # Each is one line: what a line feed brought to the beginning of one could pass for ours.
    lines = [f"langcairn: {said}", *(f"  {note}" for note in notes if note)]
    typer.echo("\n".join(escaped(without_passwords(line)) for line in lines), file=sys.stderr)
    return code
