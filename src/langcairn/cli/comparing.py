"""`langcairn diff`: what changed between two checkpoints, by channel and message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from langchain_core.messages import BaseMessage
from rich.text import Text

from langcairn.cli.arguments import Namespace, ThreadId
from langcairn.cli.completing import checkpoints
from langcairn.cli.escaping import escaped
from langcairn.cli.naming import LATEST, Thread, short_id
from langcairn.cli.plain import plain
from langcairn.cli.rendering import content_of, one_line, two_lines
from langcairn.cli.showing import load, note_rebuilt
from langcairn.comparing import compare_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.cli.session import Session
    from langcairn.comparing import ChannelDiff, ItemDiff

app = typer.Typer()

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"),
          "moved": ("→", "blue")}  # fmt: skip
_LINE = 160  # [characters of a value that are shown]


@app.command("diff")
def diff(
    ctx: typer.Context,
    thread: ThreadId,
    before: Annotated[
        str, typer.Argument(help="A checkpoint, as for show.", autocompletion=checkpoints)
    ] = f"{LATEST}~1",
    after: Annotated[str, typer.Argument(help="Another one.", autocompletion=checkpoints)] = LATEST,
    other: Annotated[
        str, typer.Option("--other", metavar="THREAD", help="The thread of the second checkpoint.")
    ] = "",
    namespace: Namespace = "",
) -> None:
    """Show what changed between two checkpoints.

    By default the newest one is compared with the one before. Lists of messages are compared by
    the ids of the messages, other lists by position.
    """
    session: Session = ctx.obj
    with session.open(exact=False) as store:
        found = Thread(store, thread)
        one = load(store, found.find(before, namespace))
        second = Thread(store, other) if other else found
        two = load(store, second.find(after, namespace))
    channels = compare_states(one.state, two.state)
    for loaded in (one, two):
        note_rebuilt(session, loaded)
    if session.as_json:
        session.out.json(
            {
                "before": {"thread": found.id, "checkpoint": one.row.id},
                "after": {"thread": second.id, "checkpoint": two.row.id},
                "channels": [_described(channel) for channel in channels],
            }
        )
        return
    out = session.out
    out.say(Text(f"--- {escaped(short_id(one.row.id))} {escaped(one.row.node_name)}", "red"))
    out.say(Text(f"+++ {escaped(short_id(two.row.id))} {escaped(two.row.node_name)}", "green"))
    for channel in channels:
        for line in _lines(channel):
            out.console.print(line, overflow="fold")
    if not channels:
        out.note("the states are the same")


def _described(channel: ChannelDiff) -> dict[str, Any]:
    return {
        "channel": channel.name,
        "kind": channel.kind,
        # Where the items say what is different, the whole values would say it again.
        **(
            {}
            if channel.items
            else {"before": plain(channel.before), "after": plain(channel.after)}
        ),
        "items": [
            {
                "key": item.key if isinstance(item.key, int) else str(item.key),
                "kind": item.kind,
                "before": plain(item.before),
                "after": plain(item.after),
            }
            for item in channel.items
        ],
    }


def _lines(channel: ChannelDiff) -> Iterator[Text]:
    sign, colour = _SIGNS[channel.kind]
    yield Text(f"{sign} {escaped(channel.name or 'state')}", f"bold {colour}")
    if channel.items:
        for item in channel.items:
            yield from _item(item)
        return
    yield from _values(channel, "  ")


def _item(item: ItemDiff) -> Iterator[Text]:
    sign, colour = _SIGNS[item.kind]
    message = item.after if item.after is not None else item.before
    if isinstance(message, BaseMessage):
        yield Text(f"  {sign} {message.type} {escaped(str(item.key))}", colour)
        if item.kind == "changed":
            yield from _changed(*_told(item.before, item.after), "      ")
        elif item.kind != "moved":
            yield Text(f"      {one_line(content_of(message), _LINE)}")
        return
    yield Text(f"  {sign} {escaped(str(item.key))}", colour)
    yield from _values(item, "      ")


def _values(diff: ChannelDiff | ItemDiff, indent: str) -> Iterator[Text]:
    if diff.kind == "added":
        yield Text(f"{indent}+ {one_line(diff.after, _LINE)}", "green")
    elif diff.kind == "removed":
        yield Text(f"{indent}- {one_line(diff.before, _LINE)}", "red")
    else:
        yield from _changed(diff.before, diff.after, indent)


def _changed(before: Any, after: Any, indent: str) -> Iterator[Text]:
    old, new = two_lines(before, after, _LINE)
    yield Text(f"{indent}- {old}", "red")
    yield Text(f"{indent}+ {new}", "green")


def _told(before: Any, after: Any) -> tuple[Any, Any]:
    """Return what two messages say, or if that is the same, all that they are."""
    if isinstance(before, BaseMessage) and isinstance(after, BaseMessage):
        said, now = content_of(before), content_of(after)
        if said != now:
            return said, now
    return plain(before), plain(after)
