"""The thread as a tree: a line for each checkpoint, a branch for each fork."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from langcairn.demo.storage import SHORT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langcairn.checkpoint import Checkpoint
    from langcairn.demo.narrate import Narrator


def build_timeline(
    checkpoints: Sequence[Checkpoint], marks: Mapping[str, Sequence[Text]], narrator: Narrator
) -> Tree:
    """Draw the checkpoints of a thread.

    The first continuation of a checkpoint goes on below it; later ones, the forks, hang from
    it as branches.

    Args:
        checkpoints: In the order of their ids, which is the order of time.
        marks: What else happened at a checkpoint, by its id; drawn right after it.
        narrator: Knows the names of the processes.
    """
    children: dict[str | None, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        children.setdefault(checkpoint.parent_id, []).append(checkpoint)

    def draw(branch: Tree, checkpoint: Checkpoint | None) -> None:
        while checkpoint is not None:
            node = branch.add(_line(checkpoint, narrator))
            for event in marks.get(checkpoint.id, ()):
                branch.add(event)
            following = children.get(checkpoint.id, [])
            for fork in following[1:]:
                node.add(mark("⑂", "another way from here", "bold blue"))
                draw(node, fork)
            checkpoint = following[0] if following else None

    title = f"{checkpoints[0].execution_id}: {len(checkpoints)} checkpoints"
    tree = Tree(Text(title, style="bold"), guide_style="dim")
    for root in children.get(None, ()):
        draw(tree, root)
    return tree


def find_tips(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return the last checkpoint of each branch, oldest first."""
    parents = {checkpoint.parent_id for checkpoint in checkpoints}
    return [checkpoint for checkpoint in checkpoints if checkpoint.id not in parents]


def mark(sign: str, text: str, style: str) -> Text:
    """Return a line that is no checkpoint."""
    return Text(f"{sign} {text}", style=style, no_wrap=True, overflow="ellipsis")


def _line(checkpoint: Checkpoint, narrator: Narrator) -> Text:
    messages = checkpoint.state.get("messages", [])
    step = checkpoint.metadata.get("step", "")
    updated = checkpoint.metadata.get("source") == "update"
    return Text.assemble(
        narrator.name(checkpoint.metadata.get("pid")),
        f" {step:>3} ",
        (f"{'(update)' if updated else checkpoint.node_name:<9}", "bold"),
        (f" {checkpoint.id[-SHORT_ID:]} ", "dim"),
        f"{len(messages):>3}  ",
        _said(messages),
        no_wrap=True,
        overflow="ellipsis",
    )


def _said(messages: Sequence[Any]) -> str:
    """Return the first line of the last message."""
    if not messages:
        return "(input)"
    return str(messages[-1].content).partition("\n")[0]
