"""Plots of storage as SVG: over time, and by thread."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from markupsafe import Markup

from langcairn.viewer import text as words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langcairn.figures import ExecutionStats

_WIDTH, _HEIGHT = 960, 260  # [px]
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 28  # [px]
_POINTS = 160  # [points of the curve]
_STEPS = (1, 2, 2.5, 5, 10)


def over_time(figures: Iterable[ExecutionStats]) -> Markup:
    """Return how much of what is stored today was stored when.

    What a thread takes is spread evenly over the time between its oldest and newest checkpoint;
    what was deleted is gone from the past, too.
    """
    spans = [
        (one.oldest.timestamp(), one.newest.timestamp(), one.stored_bytes)
        for one in figures
        if one.oldest is not None and one.newest is not None
    ]
    if not spans:
        return Markup()
    first, last = min(begin for begin, _, _ in spans), max(end for _, end, _ in spans)
    if last - first < 1:
        first -= 1
    times = [first + (last - first) * n / (_POINTS - 1) for n in range(_POINTS)]
    sums = _sums(spans, first, (last - first) / (_POINTS - 1))
    top = _round_up(sums[-1])

    def x(time: float) -> float:
        return _LEFT + (time - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(amount: float) -> float:
        return _HEIGHT - _BOTTOM - amount / top * (_HEIGHT - _TOP - _BOTTOM)

    points = [f"{x(time):.1f} {y(amount):.1f}" for time, amount in zip(times, sums, strict=True)]
    curve = "L".join(points)
    base = y(0)
    grid = [
        Markup(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
        ).format(_LEFT, _WIDTH - _RIGHT, y(value), _LEFT - 8, y(value) + 4, words.size(value))
        for value in (top * part / 4 for part in range(5))
    ]
    labels = [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            x(time), _HEIGHT - 8, anchor, _date(time, last - first)
        )
        for time, anchor in ((first, "start"), ((first + last) / 2, "middle"), (last, "end"))
    ]
    return Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="Stored bytes over time">'
        '{}<path class="area" d="M{} {:.1f}L{}L{} {:.1f}Z"/><path class="curve" d="M{}"/>{}</svg>'
    ).format(
        _WIDTH,
        _HEIGHT,
        Markup().join(grid),
        _LEFT,
        base,
        curve,
        _WIDTH - _RIGHT,
        base,
        curve,
        Markup().join(labels),
    )


def _sums(spans: Sequence[tuple[float, float, int]], first: float, step: float) -> list[float]:
    """Return the bytes stored up to each point in time, in one pass over the threads."""
    rates, jumps = [0.0] * (_POINTS + 1), [0.0] * (_POINTS + 1)
    for begin, end, amount in spans:
        i = min(math.ceil((begin - first) / step), _POINTS - 1)
        j = min(math.ceil((end - first) / step), _POINTS - 1)
        if j <= i:
            jumps[j] += amount
            continue
        # By point n > i it has n - i of its j - i parts.
        rates[i + 1] += amount / (j - i)
        rates[j + 1] -= amount / (j - i)
    sums, rate, total = [], 0.0, 0.0
    for n in range(_POINTS):
        rate += rates[n]
        total += rate + jumps[n]
        sums.append(max(total, 0.0))
    return sums


def _round_up(value: float) -> float:
    """Return the next number that makes good marks on an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value * 0.999)


def _date(time: float, span: float) -> str:
    at = datetime.fromtimestamp(time, UTC)
    if span < 3 * 3600:
        return f"{at:%H:%M:%S}"
    return f"{at:%d %b %H:%M}" if span < 4 * 86_400 else f"{at:%d %b %Y}"
