"""Which checkpoints and pending writes suffer from a chunk that is missing or damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn.codec.reader import references
from langcairn.transfer.reports import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langcairn.backends.base import CheckpointRow, ChunkId, WriteRow
    from langcairn.codec.nodes import Node
    from langcairn.transfer.reading import Sound


def blame(
    execution_id: str, sound: Sound, bad: Mapping[ChunkId, str], pages: Mapping[ChunkId, Node]
) -> Iterator[Finding]:
    """Yield what is lost with bad chunks, for each checkpoint and write that refers to one.

    Args:
        execution_id: The execution.
        sound: Its rows.
        bad: Chunks, and what is wrong with each.
        pages: Its pages, as far as they are readable.
    """
    for row, nodes in sound.rows:
        for what in _harm(nodes, bad, pages):
            yield Finding(
                execution_id, row.namespace, row.id, what, "this checkpoint", repairable=True
            )
    for write, nodes in sound.writes:
        for what in _harm(nodes, bad, pages):
            yield Finding(
                execution_id, write.namespace, write.checkpoint_id, what,
                f"a pending write to {write.channel!r}", repairable=True,
            )  # fmt: skip


def unharmed(
    sound: Sound, bad: Mapping[ChunkId, str], pages: Mapping[ChunkId, Node]
) -> tuple[list[CheckpointRow], list[WriteRow]]:
    """Return the rows that refer to no bad chunk."""
    return (
        [row for row, nodes in sound.rows if not any(_harm(nodes, bad, pages))],
        [write for write, nodes in sound.writes if not any(_harm(nodes, bad, pages))],
    )


def _harm(
    nodes: list[Node], bad: Mapping[ChunkId, str], pages: Mapping[ChunkId, Node]
) -> Iterator[str]:
    """Yield what is wrong with the first bad chunk that nodes refer to."""
    if bad:
        opened, values = references(nodes, pages)
        hit = sorted(id for id in opened | values if id in bad)
        if hit:
            more = f" (and {len(hit) - 1} more)" if len(hit) > 1 else ""
            yield bad[hit[0]] + more
