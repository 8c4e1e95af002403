"""The growth of bytes and of put time over the turns, as a picture for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.rows import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.results import WorkloadResult


class _Style(NamedTuple):
    label: str
    colour: str
    line: str


STYLES = {
    "official sqlite": _Style("langgraph-checkpoint-sqlite", "#c2410c", "-"),
    "official memory": _Style("InMemorySaver", "#d97706", "--"),
    "langcairn sqlite": _Style("langcairn, SQLite", "#1d4ed8", "-"),
    "langcairn memory": _Style("langcairn, memory", "#0891b2", "--"),
}
"""Warm colours for the official savers, blue for ours; dashes for those in memory."""

SMOOTHING = 9
"""Put times are shown as a running median over this many turns."""

DPI = 110
LABEL_SPACING = 28  # [points] two lines of text


class _Line(NamedTuple):
    style: _Style
    points: Sequence[tuple[int, float]]


def draw(result: WorkloadResult, path: Path) -> None:
    """Draw one workload's growth: bytes, which differ by hundreds, on a logarithmic axis."""
    mpl.rcParams["font.size"] = 11
    figure = Figure(figsize=(13, 4.8), dpi=DPI)
    # Fixed margins, with room for the labels on the right of each panel: a layout engine would
    # move the axes after the labels are placed.
    figure.subplots_adjust(left=0.065, right=0.84, bottom=0.11, top=0.84, wspace=0.62)
    bytes_axes, put_axes = figure.subplots(1, 2)
    styles = [
        (STYLES.get(name, _Style(name, "#525252", ":")), figures)
        for name, figures in result.figures.items()
    ]
    byte_lines = [_Line(style, figures.bytes_series) for style, figures in styles]
    put_lines = [_Line(style, _smoothed(figures.put_series)) for style, figures in styles]
    bytes_axes.set_yscale("log")
    _draw_panel(bytes_axes, "Bytes kept (logarithmic)", _size_tick, byte_lines)
    _draw_panel(put_axes, "Time of a put (median of the turn)", _time_tick, put_lines)
    put_axes.set_ylim(bottom=0)
    _label_ends(bytes_axes, format_bytes, byte_lines)
    _label_ends(put_axes, format_seconds, put_lines)
    figure.suptitle(
        f"{result.workload.turns} turns of an agent, replayed on each saver", fontweight="bold"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _size_tick(size: float) -> str:
    return f"{size / 1e6:g} MB"


def _time_tick(seconds: float) -> str:
    return f"{seconds * 1e3:g} ms"


def _smoothed(series: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    half = SMOOTHING // 2
    smoothed = []
    for index, (turn, _) in enumerate(series):
        window = sorted(value for _, value in series[max(0, index - half) : index + half + 1])
        smoothed.append((turn, window[len(window) // 2]))
    return smoothed


def _draw_panel(
    axes: Axes, title: str, tick: Callable[[float], str], lines: Sequence[_Line]
) -> None:
    for style, points in lines:
        turns, values = zip(*points, strict=True)
        axes.plot(turns, values, style.line, color=style.colour, linewidth=2.2, label=style.label)
    axes.set_title(title)
    axes.set_xlabel("turn")
    axes.margins(x=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label_ends(axes: Axes, unit: Callable[[float], str], lines: Sequence[_Line]) -> None:
    """Write each line's name and last value to its right, pushed apart where they'd overlap."""
    axes.autoscale_view()  # else the scale is found only when the picture is drawn
    lowest_free = float("-inf")
    for style, points in sorted(lines, key=lambda line: line.points[-1][1]):
        end = points[-1]
        height = float(axes.transData.transform(end)[1]) * 72 / DPI
        placed = max(height, lowest_free)
        lowest_free = placed + LABEL_SPACING
        axes.annotate(
            f"{style.label}\n{unit(end[1])}",
            end,
            xytext=(8, placed - height),
            textcoords="offset points",
            verticalalignment="center",
            color=style.colour,
            fontsize=10,
            annotation_clip=False,
        )
