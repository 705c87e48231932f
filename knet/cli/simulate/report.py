"""
What a simulation found, as tables of 80 columns or as one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from knet.cli.simulate.bounded import Bounded
from knet.cli.simulate.luck import Bars
from knet.cli.simulate.model import MOST_A, MOST_SRV, Cost, News, Range
from knet.cli.simulate.moves import Outcome
from knet.cli.simulate.plan import Plan
from knet.cli.simulate.traffic import Traffic

__all__ = ["Report", "as_json", "show"]

# Steps, and placements, for which there is a table of each step.
_MOST_ROWS = 20
_MOST_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Report:
    """
    Everything that a simulation found.

    Attributes:
        plan: What happened to the pods.
        traffic: The keys.
        seed: What was drawn by.
        outcomes: One for each placement.
        bars: Their error bars; empty where none were drawn.
        bound: What bounded the load, or `None`.
        in_flight: How many requests were under way with it.
        bounded: What that did, for each placement; empty without a bound.
        clients: How many.
        news: How soon they hear of the change; empty where there is none.
        costs: What they cost.
    """

    plan: Plan
    traffic: Traffic
    seed: int
    outcomes: tuple[Outcome, ...]
    bars: tuple[Bars, ...]
    bound: float | None
    in_flight: int
    bounded: tuple[Bounded, ...]
    clients: int
    news: tuple[News, ...]
    costs: tuple[Cost, ...]


def as_json(report: Report) -> str:
    """
    Return *report* as an object on one line, without the single pods and keys.
    """

    def load(outcome: Outcome, when: str) -> dict[str, Any]:
        found = getattr(outcome, when)
        return {"keys": found.busiest_keys, "requests": found.busiest_requests}

    placements = [
        {
            "placement": each.placement,
            "busiest_before": load(each, "before"),
            "busiest_after": load(each, "after"),
            "moved": each.moved,
            "net": each.net,
            "least": each.least,
            "misses": each.misses,
            "requests_by_pod": each.after.requests,
            "steps": [asdict(step) for step in each.steps],
        }
        for each in report.outcomes
    ]
    return json.dumps(
        {
            "change": report.plan.told,
            "pods_before": len(report.plan.before),
            "pods_after": len(report.plan.after),
            "keys": len(report.traffic.keys),
            "traffic": report.traffic.told,
            "seed": report.seed,
            "placements": placements,
            "bars": [asdict(each) for each in report.bars],
            "bound": report.bound,
            "in_flight": report.in_flight if report.bound is not None else None,
            "bounded": [asdict(each) for each in report.bounded],
            "clients": report.clients,
            "news": [asdict(each) for each in report.news],
            "costs": [asdict(each) for each in report.costs],
        }
    )


def show(report: Report) -> None:
    """
    Print *report*.
    """
    changes = len(report.plan.steps) > 1
    _print(report.plan.told, "bold")
    _print(f"{report.traffic.told}; seed {report.seed}", "bold")
    _show_loads(report, changes=changes)
    if changes:
        _show_moves(report)
    _show_bars(report, changes=changes)
    if report.bounded:
        _show_bounded(report, changes=changes)
    if report.news:
        _show_news(report)
    _show_costs(report, changes=changes)


def _show_loads(report: Report, *, changes: bool) -> None:
    def row(outcome: Outcome) -> list[str]:
        before, after = outcome.before, outcome.after
        values = [before.busiest_keys, before.busiest_requests]
        if changes:
            values = [values[0], after.busiest_keys, values[1], after.busiest_requests]
        return [outcome.placement, *(f"{value:.2f}" for value in values)]

    headers = ["placement", "keys", "requests"]
    if changes:
        headers = ["placement", "keys before", "after", "requests before", "after"]
    _print_table("The busiest pod, over its fair share", headers, map(row, report.outcomes))


def _show_moves(report: Report) -> None:
    keys, steps = len(report.traffic.keys), len(report.plan.steps) - 1

    def row(outcome: Outcome) -> list[str]:
        worst = outcome.worst
        return [
            outcome.placement,
            f"{outcome.moved:,}",
            f"{outcome.moved / keys:.1%}",
            f"{outcome.least:,}",
            f"{outcome.moved / outcome.least:.2f}" if outcome.least else "-",
            f"{outcome.misses:,}",
            f"{worst.requests:.1%}" if worst else "-",
        ]

    title = "Keys that move" if steps == 1 else f"Keys that move, in {steps:,} steps"
    at_first = "miss at first" if steps == 1 else "at worst"
    headers = ("placement", "moved", "of all", "least", "over", "misses", at_first)
    _print_table(title, headers, map(row, report.outcomes))
    _print(
        "least: what the pods that have more now have gained. misses: keys at a pod that\n"
        "never had them. "
        f"{at_first}: their part of all requests{', after the worst step' if steps > 1 else ''}.",
        "dim",
    )
    if 1 < steps <= _MOST_ROWS and len(report.outcomes) <= _MOST_COLUMNS:
        _show_steps(report)
    elif steps > 1:
        _print("--json and --plot have every step.", "dim")


def _show_steps(report: Report) -> None:
    rows = []
    for number, step in enumerate(report.outcomes[0].steps):
        moved = [f"{each.steps[number].moved:,}" for each in report.outcomes]
        rows.append([f"{number + 1}. {step.told}", f"{step.pods:,}", *moved])
    names = [each.placement for each in report.outcomes]
    _print_table("Keys moved, step by step", ("step", "pods", *names), rows)


def _show_bars(report: Report, *, changes: bool) -> None:
    if not report.bars:
        _print("\n--draws 19 says how much of it is luck, of names and of batches.", "dim")
        return
    keys = len(report.traffic.keys)

    def row(bars: Bars) -> list[str]:
        busiest = [bars.busiest_keys_after, bars.busiest_requests_after]
        cells = [bars.placement, *(f"{each.low:.2f}-{each.high:.2f}" for each in busiest)]
        if changes:
            parts = [(each.low / keys, each.high / keys) for each in (bars.moved, bars.misses)]
            parts.append((bars.worst.low, bars.worst.high))
            cells += [_between(*part) for part in parts]
        return cells

    headers = ["placement", "busiest, keys", "requests"]
    headers += ["moved, of all", "misses", "at worst"] if changes else []
    first = report.bars[0]
    title = f"Luck: the least and the most of {first.draws:,} clusters, this one among them"
    _print_table(title, headers, map(row, report.bars))
    _print(
        f"{first.coverage:.0%} of clusters are within. Their pods have other names"
        + (
            ", get ready in\nother batches, and clients see one or several steps at a time."
            if changes
            else "."
        ),
        "dim",
    )


def _show_bounded(report: Report, *, changes: bool) -> None:
    rows = [
        [each.placement, f"{each.own:.1%}", f"{each.requests:.2f}", f"{each.in_flight:.2f}"]
        for each in report.bounded
    ]
    headers = ("placement", "served by their pod", "busiest, requests", "in flight")
    title = f"bound={report.bound:g}, {report.in_flight:,} requests of one client in flight"
    _print_table(f"{title}, afterwards" if changes else title, headers, rows)


def _show_news(report: Report) -> None:
    def row(news: News) -> list[str]:
        ranges = news.join_half, news.join_all, news.leave_half, news.leave_all
        return [news.source, *map(_seconds, ranges)]

    headers = ("until", "half know", "all know", "half drop it", "all drop it")
    title = f"A pod that is new, and one that is gone: a model of {_clients(report)}"
    _print_table(title, headers, map(row, report.news))
    _print(
        "In brackets: 90 % of changes. DNS: two servers, each with its cache, and the\n"
        "defaults of RefreshPolicy. EndpointSlices: as measured, and 1 Gbit/s of the API.",
        "dim",
    )
    latest = (f"{each.join_latest:.3g} and {each.leave_latest:.3g} s" for each in report.news)
    _print(f"All at the latest, by row: {'; '.join(latest)}.", "dim")


def _show_costs(report: Report, *, changes: bool) -> None:
    def row(cost: Cost) -> list[str]:
        queries = f"{cost.queries:,.{0 if cost.queries >= 9.95 else 1}f}"
        by_dns = [queries, "-", _bytes(cost.start), f"{_bytes(cost.steady)}/s", "-"]
        by_api = ["-", f"{cost.watches:,}", _bytes(cost.start), "-", _bytes(cost.event)]
        if changes:
            by_dns.append("-")
            by_api.append(_bytes(cost.change))
        return [cost.source, *(by_api if cost.watches else by_dns)]

    headers = ["", "queries/s", "watches", "start", "steady", "an event"]
    headers += ["all events"] if changes else []
    _print_table(f"The cost of {_clients(report)}, by arithmetic", headers, map(row, report.costs))
    _print("A client is a process: its rings of one service share a lookup, or a watch.", "dim")
    most = MOST_SRV if any(pod.name != pod.address for pod in report.plan.after) else MOST_A
    if max(len(step.pods) for step in report.plan.steps) > most:
        _print(f"An answer of DNS holds {most:,} pods: the others are missing from it.", "dim")


def _clients(report: Report) -> str:
    return f"{report.clients:,} client{'' if report.clients == 1 else 's'}"


def _seconds(of: Range) -> str:
    if of.median < 0.0995:
        return f"{1000 * of.median:.0f}ms ({1000 * of.low:.0f}-{1000 * of.high:.0f})"
    digits = 1 if of.median < 9.95 else 0
    return f"{of.median:.{digits}f}s ({of.low:.{digits}f}-{of.high:.{digits}f})"


def _between(low: float, high: float) -> str:
    """
    Return what lies between two parts of a whole, in percent.
    """
    digits = 0 if high >= 0.995 else 1
    return f"{100 * low:.{digits}f}-{100 * high:.{digits}f}%"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _print_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    _print("")
    _print(title, "bold")
    table = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        style = "italic" if row is headers else ""
        _print("  ".join((row[0].ljust(widths[0]), *numbers)).rstrip(), style)


def _print(text: str, style: str = "") -> None:
    # Never cut, so that what is piped is whole.
    Console(highlight=False).print(text, style=style, markup=False, emoji=False, soft_wrap=True)
    sys.stdout.flush()
