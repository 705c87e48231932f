"""
The dashboard of docs/monitoring as Grafana would read it: its panels, and what a Prometheus answers for each.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from .scraping import WITHIN, Asked

__all__ = ["DASHBOARD", "Board", "Curve", "Panel", "Target", "board"]

DASHBOARD = Path(__file__).parents[2] / "docs" / "monitoring" / "dashboard.json"

# What is chosen above the panels, where everything is.
EVERYTHING = {"service": ".*", "ring": ".*"}


@dataclass(frozen=True, slots=True)
class Curve:
    """
    One line of a panel.

    Attributes:
        legend: What it is called.
        at: When, in seconds since 1970.
        values: What it was then.
    """

    legend: str
    at: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """
    What a panel asks for.

    Attributes:
        expression: In PromQL, with variables.
        legend: With `{{label}}` for the value of one.
    """

    expression: str
    legend: str

    def filled(self, rate_interval: str) -> str:
        """
        Return the expression without variables.

        Args:
            rate_interval: What Grafana makes of the step and of how often is scraped.
        """
        variables = {**EVERYTHING, "__rate_interval": rate_interval}
        return re.sub(r"\$(\w+)", lambda match: variables[match[1]], self.expression)

    def called(self, labels: Mapping[str, str]) -> str:
        """
        Return the legend of the series with these *labels*.
        """
        return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), self.legend)


@dataclass(frozen=True, slots=True)
class Panel:
    """
    One panel, or the title of a row.

    Attributes:
        title: What stands above it.
        unit: By its name in Grafana.
        x, y, width, height: Its place in a grid that is 24 wide.
        targets: What it asks for; none in the title of a row.
        is_stacked: Whether its curves stand upon each other.
        most: Where its axis ends, if that is said.
        colours: Of curves that have one of their own, by legend.
    """

    title: str
    unit: str
    x: int
    y: int
    width: int
    height: int
    targets: tuple[Target, ...]
    is_stacked: bool
    most: float | None
    colours: Mapping[str, str]

    async def now(self, asked: Asked, rate_interval: str) -> dict[str, float]:
        """
        Return the last value of each curve, by its legend.
        """
        values: dict[str, float] = {}
        for target in self.targets:
            for labels, value in await asked.query(target.filled(rate_interval)):
                values[target.called(labels)] = value
        return values

    async def curves(
        self, asked: Asked, start: float, end: float, step: float, rate_interval: str
    ) -> list[Curve]:
        """
        Return what it shows from *start* to *end*, in seconds since 1970.
        """
        found = []
        for target in self.targets:
            expression = target.filled(rate_interval)
            answer = await asked.get(
                "query_range", query=expression, start=start, end=end, step=step
            )
            for series in answer["result"]:
                at, values = zip(*series["values"], strict=True)
                curve = Curve(target.called(series["metric"]), at, tuple(map(float, values)))
                found.append(curve)
        return found


@dataclass(frozen=True, slots=True)
class Board:
    """
    The dashboard.

    Attributes:
        rows: Panels by the title of the row that they stand under, in order.
    """

    rows: Mapping[str, Sequence[Panel]]

    def panel(self, title: str) -> Panel:
        """
        Return the panel of that *title*.
        """
        (found,) = (panel for row in self.rows.values() for panel in row if panel.title == title)
        return found

    async def until(
        self,
        asked: Asked,
        title: str,
        expected: Mapping[str, tuple[float, float]],
        rate_interval: str,
    ) -> dict[str, float]:
        """
        Wait until curves of a panel are where they are expected, and return the last value of each.

        Args:
            asked: Who is asked.
            title: Of the panel.
            expected: The least and the most, by legend.
            rate_interval: As for `Target.filled`.
        """
        panel, values = self.panel(title), dict[str, float]()
        try:
            with anyio.fail_after(WITHIN):
                while not all(
                    low <= values.get(legend, math.nan) <= high
                    for legend, (low, high) in expected.items()
                ):
                    await anyio.sleep(0.1)
                    values = await panel.now(asked, rate_interval)
        except TimeoutError:
            pytest.fail(f"{title} shows {values}, not {expected}")
        return values


def board() -> Board:
    """
    Read the dashboard.
    """
    rows: dict[str, list[Panel]] = {}
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        if panel["type"] == "row":
            rows[panel["title"]] = []
        else:
            rows[list(rows)[-1]].append(_panel(panel))
    return Board(rows)


def _panel(panel: dict[str, Any]) -> Panel:
    at, config = panel["gridPos"], panel["fieldConfig"]
    defaults = config["defaults"]
    return Panel(
        title=panel["title"],
        unit=defaults["unit"],
        x=at["x"],
        y=at["y"],
        width=at["w"],
        height=at["h"],
        targets=tuple(Target(each["expr"], each["legendFormat"]) for each in panel["targets"]),
        is_stacked="stacking" in defaults.get("custom", {}),
        most=defaults.get("max"),
        colours={
            override["matcher"]["options"]: each["value"]["fixedColor"]
            for override in config["overrides"]
            for each in override["properties"]
            if each["id"] == "color"
        },
    )
