"""A thread as a drawing: its checkpoints from top to bottom, its branches side by side.

The drawing is an SVG beside a list; both have rows of the same height. Only a window of the rows
is drawn, however long the thread is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from langcairn.viewer import text as words
from langcairn.viewer.lanes import MOST_LANES, Lane, Lanes, lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langcairn.backends.base import WriteRow
    from langcairn.headers import Header, Key

ROW = 48  # [px]
COLUMN = 18  # [px]
WINDOW = 100
"""How many checkpoints a page draws."""
_BARS = 90  # [bars of the plot of activity]
_PLOT = (900, 44)  # [px]

INTERRUPT, ERROR, RESUME = "__interrupt__", "__error__", "__resume__"


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint as a row of the list.

    Attributes:
        header: The checkpoint.
        lane: Its lane.
        is_selected: It is shown beside the list.
        is_newest: A run that names no checkpoint goes on here.
        is_tip: It is the newest of its branch.
        is_waiting: A node waits for an answer.
        has_failed: A node failed.
    """

    header: Header
    lane: Lane
    is_selected: bool
    is_newest: bool
    is_tip: bool
    is_waiting: bool
    has_failed: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """A window of a thread's rows, and the thread as a whole.

    Attributes:
        rows: The rows of the window, the newest first.
        start: How many newer rows there are.
        total: How many rows there are.
        lanes: All lanes.
        drawing: The lines and dots of the window, as SVG.
        activity: When the thread was at work, as SVG; empty for threads of one window.
        width: How wide the drawing is [px].
    """

    rows: list[Row]
    start: int
    total: int
    lanes: Lanes
    drawing: Markup
    activity: Markup
    width: int

    @property
    def stop(self) -> int:
        """The first row behind the window."""
        return self.start + len(self.rows)


def draw(
    headers: Sequence[Header],
    written: Mapping[Key, Sequence[WriteRow]],
    start: int,
    selected: Key | None,
    link: str,
) -> Timeline:
    """Draw the window of a thread that begins at a row.

    Args:
        headers: All checkpoints, the newest first.
        written: Their pending writes, at least of the window's.
        start: The first row.
        selected: The checkpoint that is shown beside.
        link: Where a window is to be had, up to the number of its first row.
    """
    lanes = lay_out(headers)
    newest = next((header.key for header in headers if not header.namespace), None)
    continued = {(header.namespace, header.step.parent_id) for header in headers}
    rows = []
    for header in headers[start : start + WINDOW]:
        lane, writes = lanes.of[header.key], written.get(header.key, ())
        channels = {write.channel for write in writes}
        rows.append(
            Row(
                header,
                lane,
                header.key == selected,
                header.key == newest,
                lane.fork.tip.id == header.step.id,
                INTERRUPT in channels and header.key not in continued,
                ERROR in channels,
            )
        )
    columns = 1 + max((lane.column for lane in _visible(lanes, start, len(rows))), default=0)
    width = COLUMN * min(columns, MOST_LANES) + 10
    return Timeline(
        rows,
        start,
        len(headers),
        lanes,
        _drawing(rows, lanes, start, width),
        _activity(headers, lanes, start, link) if len(headers) > WINDOW else Markup(),
        width,
    )


def _visible(lanes: Lanes, start: int, count: int) -> list[Lane]:
    stop = start + count
    return [lane for lane in lanes.all if lane.top < stop and _low(lane) >= start]


def _low(lane: Lane) -> int:
    return lane.bottom if lane.origin is None else lane.origin


def _x(column: int) -> float:
    return COLUMN * column + COLUMN / 2 + 5


def _drawing(rows: Sequence[Row], lanes: Lanes, start: int, width: int) -> Markup:
    height = ROW * len(rows)
    pieces = [_line(lane, start, height) for lane in _visible(lanes, start, len(rows))]
    pieces += [_dot(row, number) for number, row in enumerate(rows)]
    return Markup(
        '<svg class="lanes" width="{0}" height="{1}" viewBox="0 0 {0} {1}" aria-hidden="true">'
        "{2}</svg>"
    ).format(width, height, Markup().join(pieces))


def _line(lane: Lane, start: int, height: int) -> Markup:
    def y(row: int) -> float:
        # Lines leave the window, they don't end at its edge.
        return min(max(ROW * (row - start) + ROW / 2, -ROW), height + ROW)

    x, path = _x(lane.column), ""
    if lane.origin is not None:
        from_x, from_y = _x(lane.origin_column), ROW * (lane.origin - start) + ROW / 2
        bend = from_y - ROW * 0.6
        if bend > height + ROW:
            path = f"M{x:g} {height + ROW:g}"
        else:
            middle = (from_y + bend) / 2
            path = f"M{from_x:g} {from_y:g}C{from_x:g} {middle:g} {x:g} {middle:g} {x:g} {bend:g}"
    else:
        path = f"M{x:g} {y(lane.bottom):g}"
    path += f"L{x:g} {y(lane.top):g}"
    kind = " sub" if lane.namespace else ""
    return Markup('<path class="lane hue-{}{}" d="{}"/>').format(lane.hue, kind, path)


def _dot(row: Row, number: int) -> Markup:
    x, y = _x(row.lane.column), ROW * number + ROW / 2
    hue, sub = row.lane.hue, bool(row.lane.namespace)
    pieces = []
    if row.is_selected:
        pieces.append(
            Markup('<circle class="halo hue-{}" cx="{}" cy="{}" r="11"/>').format(hue, x, y)
        )
    if row.has_failed:
        pieces.append(
            Markup(
                '<circle class="dot failed" cx="{0}" cy="{1}" r="7.5"/>'
                '<path class="glyph" d="M{2} {3}l5 5m0 -5l-5 5"/>'
            ).format(x, y, x - 2.5, y - 2.5)
        )
    elif row.is_waiting:
        pieces.append(
            Markup(
                '<circle class="dot waiting" cx="{0}" cy="{1}" r="7.5"/>'
                '<path class="glyph" d="M{2} {3}v6m4 -6v6"/>'
            ).format(x, y, x - 2, y - 3)
        )
    elif sub:
        pieces.append(
            Markup('<rect class="dot hue-{}" x="{}" y="{}" width="7" height="7" rx="2"/>').format(
                hue, x - 3.5, y - 3.5
            )
        )
    elif row.header.step.source == "input":
        pieces.append(
            Markup('<circle class="dot hollow hue-{}" cx="{}" cy="{}" r="5"/>').format(hue, x, y)
        )
    else:
        pieces.append(
            Markup('<circle class="dot hue-{}" cx="{}" cy="{}" r="5.5"/>').format(hue, x, y)
        )
    return Markup().join(pieces)


def _activity(headers: Sequence[Header], lanes: Lanes, start: int, link: str) -> Markup:
    """Return how many checkpoints were taken when; each bar leads to its part of the thread."""
    width, height = _PLOT
    newest, oldest = headers[0].step.timestamp, headers[-1].step.timestamp
    span = max((newest - oldest).total_seconds(), 1e-6)
    bars: dict[int, list[int]] = {}
    for row, header in enumerate(headers):
        at = (header.step.timestamp - oldest).total_seconds() / span
        bars.setdefault(min(max(int(at * _BARS), 0), _BARS - 1), []).append(row)
    most = max(map(len, bars.values()))
    step = width / _BARS
    pieces = []
    for bar, rows in sorted(bars.items()):
        tall = max(3.0, (height - 8) * (len(rows) / most) ** 0.5)
        here = any(start <= row < start + WINDOW for row in (rows[0], rows[-1])) or (
            rows[0] < start < rows[-1]
        )
        pieces.append(
            Markup(
                '<a href="{}{}"><rect class="beat{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" '
                'height="{:.1f}" rx="2"><title>{}</title></rect></a>'
            ).format(
                link,
                max(0, rows[0] // WINDOW * WINDOW),
                " here" if here else "",
                bar * step + 1,
                height - tall,
                step - 2,
                tall,
                f"{words.count(len(rows), 'checkpoint')} from "
                f"{words.exactly(headers[rows[-1]].step.timestamp)}",
            )
        )
    for lane in lanes.branches[1:60]:
        at = (headers[lane.bottom].step.timestamp - oldest).total_seconds() / span
        pieces.append(
            Markup('<circle class="dot hue-{}" cx="{:.1f}" cy="4" r="3"/>').format(
                lane.hue, min(max(at, 0.0), 1.0) * (width - 8) + 4
            )
        )
    return Markup(
        '<svg class="activity" viewBox="0 0 {0} {1}" preserveAspectRatio="none" role="img" '
        'aria-label="When checkpoints were taken">{2}</svg>'
    ).format(width, height, Markup().join(pieces))
