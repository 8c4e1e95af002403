"""`langcairn view`: a store in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from langcairn.cli.session import LOCAL
from langcairn.cli.urls import scheme_of
from langcairn.opening import open_store

if TYPE_CHECKING:
    from langcairn.cli.session import Session
    from langcairn.store import CheckpointStore

app = typer.Typer()

_PATIENCE = 6.0  # [s] for a server that is away; nobody looks at an empty page for longer


@app.command("view")
def view(
    ctx: typer.Context,
    write: Annotated[
        bool, typer.Option("--write", help="Allow to fork, name, prune and delete.")
    ] = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0: any that is free.")] = 0,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="LANGCAIRN_VIEW_TOKEN",
            help="What browsers must show. One is made if other machines reach the address.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name under which browsers reach it."),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Show examples, in a store in memory.")
    ] = False,
) -> None:
    """Show the store in the browser.

    Prints the address, and serves until Ctrl-C. Other machines can't reach it unless --host says
    so, and then need the token. Without --write nothing can be changed.
    """
    from langcairn.viewer import serve  # noqa: PLC0415 -- the help needs no extra

    session: Session = ctx.obj
    with _open(session, demo=demo) as store:
        serve(
            store,
            host=host,
            port=port,
            write=write,
            token=token,
            hosts=allow_host or (),
            title="memory: (examples)" if demo else session.place,
            open_browser=open_browser,
            announce=lambda address: _announce(session, address),
        )


def _open(session: Session, *, demo: bool) -> CheckpointStore:
    if demo:
        from langcairn.viewer.demo import fill  # noqa: PLC0415 -- as above

        store = open_store("memory:")
        fill(store)
        return store
    if session.url and scheme_of(session.url) not in LOCAL:
        return session.open_other(session.url, **{"deadline": _PATIENCE, **session.options})
    return session.open()


def _announce(session: Session, address: str) -> None:
    if session.as_json:
        session.out.json({"address": address}, indent=False)
    else:
        # Not through a table or a width: it is one word, to be clicked on.
        typer.echo(f"The viewer is at {address} (Ctrl-C ends it)")
