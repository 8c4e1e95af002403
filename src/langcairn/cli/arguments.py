"""Arguments and options that several commands have, and how shells complete them."""

from __future__ import annotations

from typing import Annotated

import typer

from langcairn.cli.completing import checkpoints, threads

ThreadId = Annotated[
    str, typer.Argument(metavar="THREAD", help="A thread id.", autocompletion=threads)
]
CheckpointName = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="An id, its beginning or end, the name of a fork, latest, or latest~2.",
        autocompletion=checkpoints,
    ),
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-N", help="The namespace of a subgraph; '' is the graph's own."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Threads = Annotated[
    list[str] | None,
    typer.Option(
        "--thread",
        "-t",
        metavar="THREAD",
        help="Only this thread; repeatable.",
        autocompletion=threads,
    ),
]
