"""
A picture of a simulation: requests by pod before and after, and the keys that each step moves.

The only importer of matplotlib, which the extra `plot` brings.
"""

from __future__ import annotations

from pathlib import Path

from knet import ConfigError
from knet.cli.simulate.moves import Load, Outcome
from knet.cli.simulate.report import Report

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "matplotlib":
        raise
    raise ImportError("--plot: matplotlib is missing: pip install 'knet-ring[cli,plot]'") from error

__all__ = ["draw"]

_BEFORE, _AFTER = "#c8ccd2", "#1f6feb"
_COLOURS = ("#1f6feb", "#d9822b", "#2e8b57", "#8e5bb5", "#b8464a", "#6b7280")
# From so much over an even share on, the axis is logarithmic.
_SKEWED = 20.0
# Of one picture, in inches, and how many there are in a row.
_WIDTH, _HEIGHT, _ABREAST = 4.2, 3.2, 4


def draw(report: Report, path: Path) -> None:
    """
    Write the picture of *report* to *path*; the same report gives the same file.

    Raises:
        ConfigError: It cannot be written.
    """
    steps = len(report.plan.steps) - 1
    pictures = len(report.outcomes) + (steps > 0)
    wide = min(pictures, _ABREAST)
    high = -(-pictures // wide)
    figure = Figure(figsize=(_WIDTH * wide, _HEIGHT * high), layout="constrained")
    axes = [figure.add_subplot(high, wide, number + 1) for number in range(pictures)]
    highest = max(max(_sorted(o.before)[0], _sorted(o.after)[0]) for o in report.outcomes)
    for where, outcome in zip(axes, report.outcomes, strict=False):
        _draw_requests(where, outcome, highest=highest)
    if steps:
        _draw_steps(axes[-1], report)
    # What differs from one run to the next is left out.
    with mpl.rc_context({"svg.hashsalt": "knet", "svg.fonttype": "none"}):
        kind = path.suffix.removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        try:
            figure.savefig(path, format=kind, dpi=100, metadata=metadata)
        except OSError as error:
            raise ConfigError(f"--plot: cannot write {path}: {error.strerror}") from error


def _draw_requests(where: Axes, outcome: Outcome, *, highest: float) -> None:
    """
    Draw the share of each pod over that of an even spread, the busiest first.
    """
    before, after = _sorted(outcome.before), _sorted(outcome.after)
    if outcome.steps:
        where.stairs(before, _edges(before), color=_BEFORE, fill=True, label="before")
    label = "after" if outcome.steps else None
    where.stairs(after, _edges(after), color=_AFTER, linewidth=1.6, baseline=None, label=label)
    where.axhline(1, color="black", linewidth=0.8, linestyle=":")
    where.set_title(outcome.placement)
    where.set_xlabel("pods, busiest first (%)")
    where.set_ylabel("requests over an even share")
    where.set_xlim(0, 100)
    if highest > _SKEWED:
        where.set_yscale("log")
        where.set_ylim(0.1, highest * 2)
    else:
        where.set_ylim(0, highest * 1.05)
    if outcome.steps:
        where.legend(frameon=False)


def _draw_steps(where: Axes, report: Report) -> None:
    """
    Draw what part of the keys each step moves: a bar for each placement where there is one step, else lines.
    """
    for number, outcome in enumerate(report.outcomes):
        moved = [100 * step.moved / len(report.traffic.keys) for step in outcome.steps]
        colour = _COLOURS[number % len(_COLOURS)]
        if len(moved) == 1:
            where.bar(number, moved[0], color=colour)
        else:
            steps = range(1, len(moved) + 1)
            where.plot(steps, moved, ".-", color=colour, label=outcome.placement)
    where.set_ylabel("of all keys (%)")
    where.set_ylim(bottom=0)
    if len(report.plan.steps) == 2:
        names = [each.placement for each in report.outcomes]
        least = 100 * min(each.least for each in report.outcomes) / len(report.traffic.keys)
        where.axhline(least, color="black", linewidth=0.8, linestyle=":", label="least")
        where.set_title("keys moved")
        where.set_xticks(range(len(names)), names, rotation=25, ha="right", rotation_mode="anchor")
        where.set_ylim(top=where.get_ylim()[1] * 1.15)  # room for the legend
        where.legend(frameon=False, loc="upper left")
        return
    where.set_title("keys moved by each step")
    where.set_xlabel("step")
    where.xaxis.set_major_locator(MaxNLocator(integer=True))
    where.legend(frameon=False)


def _sorted(load: Load) -> list[float]:
    return sorted((share * len(load.requests) for share in load.requests), reverse=True)


def _edges(values: list[float]) -> list[float]:
    return [100 * n / len(values) for n in range(len(values) + 1)]
