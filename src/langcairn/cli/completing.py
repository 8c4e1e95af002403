"""What a shell offers when TAB is pressed: thread ids and checkpoints, if the store is quick."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from langcairn.cli.naming import LATEST, Thread
from langcairn.cli.session import Session, read_options

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 2.0
"""How long a store may take before nothing is offered [s]."""
_MOST = 50  # [words offered]


def threads(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return thread ids that begin with what was typed."""

    def find() -> list[str]:
        with _session(ctx).open(exact=False) as store:
            exact = store.executions(after=incomplete[:-1], limit=_MOST) if incomplete else []
            found = [*exact, *store.executions(after=incomplete, limit=_MOST)]
        return [one for one in dict.fromkeys(found) if one.startswith(incomplete)]

    return _offered(find)


def checkpoints(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return checkpoints of the thread on the command line."""

    def find() -> list[str]:
        with _session(ctx).open(exact=False) as store:
            found = Thread(store, str(ctx.params.get("thread") or ""))
        names = [LATEST, *(row.id for row in found.rows[:_MOST])]
        return [name for name in names if name.startswith(incomplete)]

    return _offered(find)


def _session(ctx: typer.Context) -> Session:
    if isinstance(ctx.obj, Session):
        return ctx.obj
    # Callbacks don't run while a shell completes.
    given = ctx.find_root().params
    named = {
        name: given.get(name) or os.environ.get(f"LANGCAIRN_{name.upper()}", "")
        for name in ("encryption", "signing_key", "objects")
    }
    options = read_options(given.get("option") or ())
    options |= {name: value for name, value in named.items() if value}
    return Session(given.get("store") or os.environ.get("LANGCAIRN_STORE", ""), options)


def _offered(find: Callable[[], list[str]]) -> list[str]:
    """Return what is found in time, and can be typed; nothing in case of an error."""
    found: list[str] = []

    def work() -> None:
        # A message would stand in the middle of what is being typed.
        with suppress(Exception):
            found.extend(find())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return [] if thread.is_alive() else [one for one in found if one.isprintable()]
