"""The commands, and the options that stand before any of them, or behind.

What a command does is imported when it is called: ``langcairn --help`` needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from langcairn.cli.failing import told
from langcairn.cli.session import Session, read_options

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "demo": ("running", "Watch an agent be killed, resumed, rewound and forked."),
    "threads": ("threads", "List threads: search, sort, sizes."),
    "show": ("showing", "Show a thread, or one of its checkpoints."),
    "log": ("history", "Draw a thread's checkpoints and forks."),
    "diff": ("comparing", "Show what changed between two checkpoints."),
    "state": ("showing", "Print a checkpoint's state as JSON, or a part of it."),
    "writes": ("showing", "Show the pending writes of checkpoints."),
    "fork": ("changing", "Copy a checkpoint and what led to it, or name its fork."),
    "delete": ("changing", "Delete threads, or one checkpoint."),
    "prune": ("changing", "Delete all but the newest checkpoints of threads."),
    "stats": ("figures", "Say how much is stored, and what sharing saves."),
    "doctor": ("doctor", "Look for what is wrong with a store, and say what to do."),
    "verify": ("transfer", "Check that everything is as it was written."),
    "backup": ("transfer", "Write a store into one file."),
    "restore": ("transfer", "Put what a backup holds into a store."),
    "migrate": ("transfer", "Copy from another store or saver."),
    "rotate-keys": ("transfer", "Encrypt everything with the newest key."),
    "dictionaries": ("dictionaries", "List the dictionaries chunks are packed with; retire one."),
    "move-to-objects": ("moving", "Move older and larger content to object storage."),
    "maintain": ("maintaining", "Remove what isn't to be kept, and what crashes have left."),
    "watch": ("watching", "Follow checkpoints as they are saved."),
    "view": ("viewing", "Show the store in the browser."),
    "advise": ("advising", "Measure stores here, and say which suits."),
    "bench": ("running", "Compare with the official savers (in a checkout)."),
}
"""Name of a command to its module in this package and the first line of its help."""

# Those of `_options`; the second ones take a value.
_SWITCHES = ("--json", "--debug")
_VALUED = ("--store", "--option", "--encryption", "--signing-key", "--objects", "--import")


class Commands(TyperGroup):
    """The group of all commands, each imported when it is needed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # For "did you mean"; `get_command` makes the command.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # None: not made yet

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002 -- typer's
        """Return the names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ARG002 -- typer's
        """Return a command; None if there is none of the name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"langcairn.cli.{COMMANDS[cmd_name][0]}")
        command: Any = typer.main.get_group(module.app).commands[cmd_name]
        command.rich_markup_mode = None  # as `program` has it
        command.epilog = "--store, --json and others are those of all commands: langcairn --help."
        return command

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ARG002 -- typer's
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list[Any]:  # type: ignore[override]
        """Complete the name of a command without importing it."""
        from typer._click.shell_completion import (  # noqa: PLC0415 -- only shells need it
            CompletionItem,
        )

        found = [
            CompletionItem(name, help=line)
            for name, (_, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        # Past the group's own commands: those would all be imported.
        return [*found, *super(TyperGroup, self).shell_complete(ctx, incomplete)]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the options of all commands, wherever they stand."""
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run a command; an error of langcairn's ends it with a message and an exit code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:
            session = ctx.obj if isinstance(ctx.obj, Session) else Session()
            raise typer.Exit(told(error, debug=session.debug, hint=session.hint)) from error


def hoisted(args: Sequence[str]) -> list[str]:
    """Return arguments with the options of all commands moved to the front, up to a ``--``."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _SWITCHES or word.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(word)
        elif word in _VALUED:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            rest.append(word)
    return [*front, *rest]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 -- slow to import

        typer.echo(f"langcairn {version('langcairn')}")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    store: Annotated[
        str,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="LANGCAIRN_STORE",
            help="The store: sqlite:///file.db, postgresql://…, redis://…, file:///directory.",
        ),
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of the store, such as table_name=agents or prefix=app:. Repeatable.",
        ),
    ] = None,
    encryption: Annotated[
        str,
        typer.Option(
            metavar="env:NAME|file:PATH",
            envvar="LANGCAIRN_ENCRYPTION",
            help="Where the key is that the store is encrypted with.",
        ),
    ] = "",
    signing_key: Annotated[
        str,
        typer.Option(
            metavar="env:NAME|file:PATH",
            envvar="LANGCAIRN_SIGNING_KEY",
            help="Where the key is that the store is signed with.",
        ),
    ] = "",
    objects: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="LANGCAIRN_OBJECTS",
            help="The object storage that the store's content is moved to: s3://bucket/prefix, ….",
        ),
    ] = "",
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module, so that values of its types are loaded as such. Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    version: Annotated[  # noqa: ARG001 -- its callback does it
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Look after stores of LangGraph checkpoints.

    These options may stand before the command or behind it.
    """
    named = {"encryption": encryption, "signing_key": signing_key, "objects": objects}
    options = {**read_options(option or ()), **{k: v for k, v in named.items() if v}}
    ctx.obj = Session(store, options, as_json, debug, tuple(modules or ()))


program = typer.Typer(
    name="langcairn",
    cls=Commands,
    callback=_options,
    # Plain help: rich's takes twice the time.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
