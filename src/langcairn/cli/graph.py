"""Branches drawn with characters, the newest checkpoint above, like ``git log --graph``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langcairn.forks import Step


@dataclass(frozen=True, slots=True)
class Strokes:
    """What lines are drawn with."""

    node: str
    down: str
    join: str
    across: str
    cross: str
    turn: str
    end: str


UNICODE = Strokes("●", "│", "├", "─", "┼", "┴", "┘")
ASCII = Strokes("*", "|", "|", "-", "+", "'", "'")


def drawn(steps: Iterable[Step], strokes: Strokes) -> Iterator[tuple[str, Step | None]]:
    """Yield lines: the drawing, and the checkpoint that stands beside it, if one does.

    Args:
        steps: Checkpoints of one namespace, the newest first.
        strokes: What to draw with.
    """
    ordered = list(steps)
    known = {step.id for step in ordered}
    lanes: list[str | None] = []  # the checkpoint that each lane leads down to
    for step in ordered:
        own = [lane for lane, id in enumerate(lanes) if id == step.id]
        if len(own) > 1:
            yield _joined(lanes, own, strokes), None
            for lane in own[1:]:
                lanes[lane] = None
            _trim(lanes)
        if not own:
            own = [lanes.index(None) if None in lanes else len(lanes)]
            if own[0] == len(lanes):
                lanes.append(None)
        lanes[own[0]] = step.id
        yield _standing(lanes, own[0], strokes), step
        lanes[own[0]] = step.parent_id if step.parent_id in known else None
        _trim(lanes)


def _trim(lanes: list[str | None]) -> None:
    while lanes and lanes[-1] is None:
        lanes.pop()


def _standing(lanes: list[str | None], own: int, strokes: Strokes) -> str:
    return " ".join(
        strokes.node if lane == own else strokes.down if id is not None else " "
        for lane, id in enumerate(lanes)
    )


def _joined(lanes: list[str | None], own: list[int], strokes: Strokes) -> str:
    """Draw how lanes that lead to the same checkpoint become one."""
    first, last = own[0], own[-1]
    line = ""
    for lane, id in enumerate(lanes):
        inside = first < lane < last
        if lane == first:
            line += strokes.join
        elif lane == last:
            line += strokes.end
        elif lane in own:
            line += strokes.turn
        elif id is not None:
            line += strokes.cross if inside else strokes.down
        else:
            line += strokes.across if inside else " "
        line += strokes.across if first <= lane < last else " "
    return line.rstrip()
