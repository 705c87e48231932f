"""
Rows of the dashboard as a picture, by matplotlib: what Grafana would show, without Grafana.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from .board import Curve, Panel

__all__ = ["drawn", "reduced"]

_COLOURS = (
    *("#5794f2", "#e0a11b", "#73bf69", "#d6543f", "#b877d9", "#3aa7a3"),
    *("#8a6f3c", "#e377b0", "#5b6b82", "#a3b421"),
)
_NAMED = {
    "green": "#56a64b",
    "orange": "#f0850c",
    "red": "#d6293e",
    "blue": "#3274d9",
    "gray": "#7f8793",
}
# Inches of a cell of the grid.
_WIDE, _HIGH = 0.52, 0.315
_DPI = 80
_TITLE = 0.3
# How many names of curves stand under a panel.
_MOST_NAMED = 8


def written(value: float, unit: str) -> str:
    """
    Return *value* with its *unit*, as at an axis.
    """
    if unit == "percentunit":
        return f"{100 * value:g} %"
    if unit == "s":
        return f"{value * 1e3:g} ms" if 0 < abs(value) < 0.5 else f"{value:g} s"
    return f"{value:g}{ {'reqps': ' req/s', 'ops': ' ops/s'}.get(unit, '') }"


def drawn(
    rows: Mapping[str, Sequence[tuple[Panel, Sequence[Curve]]]],
    span: tuple[float, float],
    path: Path,
    marks: Sequence[tuple[float, str]] = (),
) -> None:
    """
    Draw rows of panels into a PNG.

    Args:
        rows: Panels with their curves, by the title of the row.
        span: From when to when, in seconds since 1970.
        path: The file.
        marks: When something happened, and what: letters at the top of each panel.
    """
    heights = [
        max(p.y + p.height for p, _ in row) - min(p.y for p, _ in row) for row in rows.values()
    ]
    high = sum(heights) * _HIGH + _TITLE * len(rows)
    with mpl.rc_context({"font.size": 8.5, "axes.titlesize": 9.5}):
        figure = Figure(figsize=(24 * _WIDE, high), dpi=_DPI, facecolor="#f4f5f8")
        top = high
        for (title, row), height in zip(rows.items(), heights, strict=True):
            figure.text(
                0.006, (top - _TITLE / 2) / high, title, va="center", weight="bold", size=10.5
            )
            top -= _TITLE
            first = min(panel.y for panel, _ in row)
            for panel, curves in row:
                bottom = top - (panel.y - first + panel.height) * _HIGH
                box = (panel.x * _WIDE, bottom, panel.width * _WIDE, panel.height * _HIGH)
                _panel(figure, high, box, panel, curves, span, marks)
            top -= height * _HIGH
        figure.savefig(str(path))
    reduced(path)


def _panel(
    figure: Figure,
    high: float,
    box: tuple[float, float, float, float],
    panel: Panel,
    curves: Sequence[Curve],
    span: tuple[float, float],
    marks: Sequence[tuple[float, str]],
) -> None:
    wide = 24 * _WIDE
    x, y, width, height = box
    gap = 0.04
    card: Any = figure.add_axes(
        ((x + gap) / wide, (y + gap) / high, (width - 2 * gap) / wide, (height - 2 * gap) / high)
    )
    card.set(xticks=[], yticks=[], facecolor="white")
    card.spines[:].set_color("#d8dce3")
    names = sorted({curve.legend for curve in curves})
    longest = max(map(len, names), default=1)
    per_line = max(1, int((width - 0.2) / (0.35 + 0.068 * longest)))
    lines = -(-min(len(names), _MOST_NAMED) // per_line)
    left, right, under, over = 0.72, 0.12, 0.36 + 0.17 * lines, 0.38
    axes: Any = figure.add_axes(
        (
            (x + left) / wide,
            (y + under) / high,
            (width - left - right) / wide,
            (height - under - over) / high,
        )
    )
    figure.text((x + 0.12) / wide, (y + height - 0.19) / high, panel.title, va="center", size=9.5)
    axes.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color("#b9c0ca")
    axes.grid(color="#e6e9ee", linewidth=0.6)
    axes.set_axisbelow(True)
    free = iter(_COLOURS * (1 + len(curves) // len(_COLOURS)))
    colours = {
        name: _NAMED[panel.colours[name]] if name in panel.colours else next(free) for name in names
    }
    times = sorted({when for curve in curves for when in curve.at})
    at = [datetime.fromtimestamp(when, UTC) for when in times]
    below = [0.0] * len(times)
    for name in names:
        # Several series may go by one name: one that ended, and one that came after it.
        known = {
            when: value
            for curve in curves
            if curve.legend == name
            for when, value in zip(curve.at, curve.values, strict=True)
        }
        values = [known.get(when, math.nan) for when in times]
        colour = colours[name]
        if panel.is_stacked:
            heights = [0.0 if math.isnan(value) else value for value in values]
            up = [base + height for base, height in zip(below, heights, strict=True)]
            axes.fill_between(at, below, up, color=colour, alpha=0.3, linewidth=0)
            # What is not there would else be a line upon the curve below.
            line = [y if height else math.nan for y, height in zip(up, heights, strict=True)]
            axes.plot(at, line, color=colour, linewidth=1.3)
            axes.plot([], [], color=colour, linewidth=3, label=name)
            below = up
        else:
            axes.plot(at, values, color=colour, linewidth=1.5, label=name)
    start, end = (datetime.fromtimestamp(when, UTC) for when in span)
    axes.set_xlim(start, end)
    highest = max((value for curve in curves for value in curve.values), default=0.0)
    axes.set_ylim(0, panel.most or (axes.get_ylim()[1] if highest > 0 else 1))
    if not curves:
        axes.set_ylim(0, 1)
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color="#7f8793")
        axes.set_yticks([])
    # Without annotations, all of them.
    locator_of: Any = AutoDateLocator
    formatter_of: Any = ConciseDateFormatter
    number_of: Any = date2num
    locator = locator_of(minticks=3, maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter_of(locator, show_offset=False))
    if curves:
        whole = panel.unit == "short" and axes.get_ylim()[1] > 1
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: written(v, panel.unit)))
    axes.tick_params(length=0, colors="#4b5462")
    for when, letter in marks:
        at_mark = datetime.fromtimestamp(when, UTC)
        axes.axvline(at_mark, color="#4b5462", linewidth=0.8, linestyle=(0, (3, 3)))
        axes.annotate(
            letter, (number_of(at_mark), 1), xycoords=axes.get_xaxis_transform(), xytext=(3, -1),
            textcoords="offset points", va="top", size=8, weight="bold", color="#4b5462",
        )  # fmt: skip
    if names:
        axes.legend(
            *_few(axes.get_legend_handles_labels()),
            loc="lower left", bbox_to_anchor=((x + 0.1) / wide, (y + 0.04) / high),
            bbox_transform=figure.transFigure, ncols=per_line, frameon=False, fontsize=8,
            handlelength=1.0, columnspacing=1.0, borderpad=0, handletextpad=0.4, labelspacing=0.25,
        )  # fmt: skip


def _few(handles: tuple[list[Any], list[str]]) -> tuple[list[Any], list[str]]:
    return handles[0][:_MOST_NAMED], handles[1][:_MOST_NAMED]


def reduced(path: Path) -> None:
    """
    Write a PNG again, with 256 colours.
    """
    with Image.open(path) as picture:
        # Without the last, small areas of a strong colour, as in a legend, are mixed into grey.
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE, kmeans=3)
    few.save(path, optimize=True)
