"""Which lane of the timeline each checkpoint is drawn in: one for each branch and subgraph."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langcairn.forks import Fork, forks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.headers import Header, Key

MOST_LANES = 14
"""What is beyond shares the last one."""
HUES = 7


@dataclass(frozen=True, slots=True)
class Lane:
    """A branch of the graph or of a subgraph, with its place in the drawing.

    Rows count from the top, where the newest checkpoint is.

    Attributes:
        namespace: The namespace that it belongs to.
        fork: The branch.
        column: Its place from the left.
        hue: The number of its colour.
        top: The row of its newest checkpoint.
        bottom: The row of its oldest one.
        origin: The row of the checkpoint that it comes from: of another branch, or of the step
            that called the subgraph; None if that isn't there.
        origin_column: The column of that checkpoint.
    """

    namespace: str
    fork: Fork
    column: int
    hue: int
    top: int
    bottom: int
    origin: int | None
    origin_column: int


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes of a thread.

    Attributes:
        all: The lanes, those that begin first first.
        of: The lane of each checkpoint.
    """

    all: tuple[Lane, ...]
    of: dict[Key, Lane]

    @property
    def branches(self) -> list[Lane]:
        """The lanes of the graph itself, without its subgraphs'."""
        return [lane for lane in self.all if not lane.namespace]

    @property
    def subgraphs(self) -> set[str]:
        """The namespaces of subgraphs."""
        return {lane.namespace for lane in self.all if lane.namespace}


@dataclass(slots=True)
class _Line:
    namespace: str
    fork: Fork
    top: int
    bottom: int
    origin: Key | None


def lay_out(headers: Sequence[Header]) -> Lanes:
    """Lay out the checkpoints of a thread.

    Args:
        headers: The checkpoints, the newest first.
    """
    rows = {header.key: row for row, header in enumerate(headers)}
    calls = {header.key: header.call for header in headers}
    by_namespace: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_namespace[header.namespace].append(header)
    lines = []
    for namespace, own in by_namespace.items():
        for fork in forks_of(header.step for header in own):
            first = (namespace, fork.steps[0].id)
            origin = calls[first]
            if fork.forked_from is not None:
                origin = namespace, fork.forked_from
            top = rows[namespace, fork.tip.id]
            lines.append(_Line(namespace, fork, top, rows[first], origin))
    return _place(lines, rows)


def _place(lines: list[_Line], rows: dict[Key, int]) -> Lanes:
    taken_to: list[int] = []  # by column, the highest row that is taken
    placed: dict[Key, Lane] = {}
    lanes = []
    # From the bottom up; of those that begin together, the graph's before the subgraph's.
    for number, line in enumerate(sorted(lines, key=lambda one: (-one.bottom, one.namespace))):
        origin = rows.get(line.origin) if line.origin is not None else None
        # Parents that aren't older are damage or a put with its own config: no line is drawn.
        if origin is not None and origin <= line.bottom:
            origin = None
        beside = placed[line.origin] if line.origin in placed and origin is not None else None
        low = line.bottom if origin is None else origin
        column = _free(taken_to, 0 if beside is None else beside.column + 1, low)
        taken_to[column] = line.top
        lane = Lane(
            line.namespace,
            line.fork,
            min(column, MOST_LANES - 1),
            number % HUES,
            line.top,
            line.bottom,
            origin if beside is not None else None,
            beside.column if beside is not None else 0,
        )
        lanes.append(lane)
        placed.update(((line.namespace, step.id), lane) for step in line.fork.steps)
    return Lanes(tuple(lanes), placed)


def _free(taken_to: list[int], first: int, bottom: int) -> int:
    """Return the leftmost column, from one on, that is free from a row up."""
    for column in range(first, len(taken_to)):
        if taken_to[column] > bottom:
            return column
    taken_to.extend([10**9] * (max(first + 1, len(taken_to) + 1) - len(taken_to)))
    return len(taken_to) - 1
