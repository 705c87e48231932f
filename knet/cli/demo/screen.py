"""
How the demo looks: live on a terminal, or as lines of text.

`Scene` is what there is to see; the two views show it and decide nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from types import TracebackType
from typing import Protocol, Self

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from knet.cli.demo.verdict import Act

__all__ = ["LiveView", "PlainView", "Row", "Scene", "View", "summary"]

# Told apart on dark and on light backgrounds, neighbours most of all; pods beyond them share.
_COLOURS = (
    "dodger_blue1",
    "dark_orange",
    "green3",
    "medium_orchid",
    "gold3",
    "deep_pink3",
    "turquoise4",
    "tan",
)
_STATES = {"fresh": "green", "stale": "yellow"}
_MARKS = {
    "joined": "bold green",
    "restarted": "bold cyan",
    "dead": "bold red",
    "left": "dim",
}

_NEWS = 5
# The lines of the border of a panel, and those around the rows of pods.
_BORDER = 2
_AROUND_PODS = 3
# From so many columns on there is room for all that is to be told of a pod, and for its address.
_WIDE = 72
_NARROW = 56
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class Row:
    """
    One pod, as it is shown.

    Attributes:
        address: Where the ring finds it.
        share: What part of all keys it has, from 0 to 1.
        colour: That of its keys.
        mark: What happened to it in this act: a key of `_MARKS`, or `""`.
    """

    address: str
    share: float
    colour: str
    mark: str = ""


@dataclass(slots=True)
class Scene:
    """
    What there is to see. One task changes it between awaits; views only read it.

    Attributes:
        service: The name that is resolved.
        acts: How many there are.
        number: Which act it is, from 1.
        title: What that is called.
        state: That of the ring.
        generation: That of its snapshot.
        rows: The pods that it knows, and those that left in this act, by name.
        owners: The pod of each key.
        gained: How many keys each pod won in this act, less those that it lost.
        news: The latest, oldest first.
        requests: How many each pod answered.
        unanswered: How many requests nobody answered.
        wrong: How many requests another pod than the picked one answered.
        failed_gets: How many picks failed.
    """

    service: str
    acts: int
    number: int = 0
    title: str = ""
    state: str = "starting"
    generation: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    gained: Counter[str] = field(default_factory=Counter)
    news: deque[str] = field(default_factory=lambda: deque(maxlen=_NEWS))
    requests: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    wrong: int = 0
    failed_gets: int = 0
    _colours: dict[str, str] = field(default_factory=dict)

    def begin(self, number: int, title: str) -> None:
        """
        Turn to another act.
        """
        self.number, self.title = number, title
        self.gained.clear()
        self.rows = {name: row for name, row in self.rows.items() if row.mark != "left"}
        for row in self.rows.values():
            row.mark = ""

    def learn(
        self, pods: Mapping[str, tuple[str, float]], owners: dict[str, str], generation: int
    ) -> None:
        """
        Show another snapshot.

        Args:
            pods: Address and share of each pod, by name.
            owners: The pod of each key.
            generation: Which snapshot it is.
        """
        for name, (address, share) in pods.items():
            row = self.rows.get(name)
            if row is None or row.mark == "left":
                colour = self._colours.setdefault(
                    name, _COLOURS[len(self._colours) % len(_COLOURS)]
                )
                mark = "joined" if self.number else ""
                self.rows[name] = Row(address, share, colour, mark)
            else:
                row.mark = "restarted" if row.address != address else row.mark
                row.address, row.share = address, share
        for name, row in self.rows.items():
            if name not in pods:
                row.share, row.mark = 0.0, "left"
        if self.owners:
            self.gained.update(Counter(owners.values()))
            self.gained.subtract(Counter(self.owners.values()))
        self.owners = owners
        self.generation = generation

    def mark_dead(self, name: str) -> None:
        """
        Show that a pod, which the ring still knows, answers no more.
        """
        self.rows[name].mark = "dead"


class View(Protocol):
    """
    What shows a demo.
    """

    def heading(self, text: str) -> None:
        """
        Show that an act begins.
        """
        ...

    def news(self, text: str) -> None:
        """
        Show one sentence of news.
        """
        ...

    def draw(self, scene: Scene) -> None:
        """
        Show *scene* as it is now; called ten times a second.
        """
        ...


class PlainView:
    """
    One line for each piece of news.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def heading(self, text: str) -> None:
        self._print(text)

    def news(self, text: str) -> None:
        self._print(f"    {text}")

    def draw(self, scene: Scene) -> None: ...

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """
    The whole terminal, until it is left: pods, keys and news.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: Scene | None = None
        # Drawn from the event loop: a thread of rich's own would read a scene that is changing.
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()
        if self._last is not None and error is None:
            # The other screen is gone, and the last picture with it.
            width, height = self._console.size
            picture = _picture(self._last, width, height - 1, self._console.no_color)
            self._console.print(picture, height=height - 1)

    def heading(self, text: str) -> None: ...

    def news(self, text: str) -> None: ...

    def draw(self, scene: Scene) -> None:
        self._last = scene
        width, height = self._console.size
        self._live.update(_picture(scene, width, height, self._console.no_color), refresh=True)


def _picture(scene: Scene, width: int, height: int, no_color: bool) -> RenderableType:
    """
    Return *scene* for so many columns and lines: the pods first, then news, and keys in what is left.
    """
    left = height - 1
    pods = min(len(scene.rows) + _AROUND_PODS, left)
    left -= pods
    news = min(_NEWS + _BORDER, left) if left > _BORDER else 0
    # Three lines of keys tell more than the oldest news.
    while news > _BORDER + 1 and left - news < _BORDER + 3:
        news -= 1
    left -= news
    keys = left if left > _BORDER else 0
    pods += left - keys
    layout = Layout()
    parts = [
        Layout(_title(scene), size=1),
        Layout(_pods(scene, width, pods - _AROUND_PODS), size=pods),
    ]
    if keys:
        parts.append(Layout(_keys(scene, width - 4, keys - _BORDER, no_color), size=keys))
    if news:
        parts.append(Layout(_news(scene, news - _BORDER), size=news))
    layout.split_column(*parts)
    return layout


def _title(scene: Scene) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    act = f"{scene.number}/{scene.acts} {scene.title}"
    line.add_row(Text(f" {act}", style="bold"), Text(f"{scene.service} ", style="dim"))
    return line


def _pods(scene: Scene, width: int, lines: int) -> RenderableType:
    table = Table(expand=True, box=None, pad_edge=False, header_style="dim")
    is_wide, has_room = width >= _WIDE, width >= _NARROW
    table.add_column("pod", no_wrap=True)
    if has_room:
        table.add_column("address", no_wrap=True)
    table.add_column("share", justify="right", min_width=5)
    if is_wide:
        table.add_column("", ratio=1)
    table.add_column("keys", justify="right", min_width=5)
    if is_wide:
        table.add_column("", justify="right", min_width=4)
    if has_room:
        table.add_column("answered", justify="right", min_width=8)
    table.add_column("", min_width=9, no_wrap=True)
    keys = Counter(scene.owners.values())
    most = max((row.share for row in scene.rows.values()), default=0) or 1
    rows = [(name, scene.rows[name]) for name in _in_order(scene.rows)]
    hidden = 0
    if len(rows) > lines:
        hidden = len(rows) - lines + 1
        rows.sort(key=lambda item: not item[1].mark)  # what something happens to is seen
    for name, row in rows[: len(rows) - hidden]:
        gone = row.mark in ("left", "dead")
        gained = scene.gained[name]
        cells: list[RenderableType] = [Text(name, style="dim strike" if gone else row.colour)]
        if has_room:
            cells.append(Text(row.address, style="dim" if gone else ""))
        cells.append(f"{row.share:.1%}")
        if is_wide:
            cells.append(Bar(most, 0, row.share, color="bright_black" if gone else row.colour))
        cells.append(f"{keys[name]:,}")
        if is_wide:
            style = "green" if gained > 0 else "red"
            cells.append(Text(f"{gained:+}" if gained else "", style=style))
        if has_room:
            cells.append(f"{scene.requests[name]:,}")
        cells.append(Text(row.mark, style=_MARKS.get(row.mark, "")))
        table.add_row(*cells)
    if hidden:
        table.add_row(Text(f"+ {hidden} more", style="dim"))
    ring = Text.assemble(
        "ring ",
        (scene.state, _STATES.get(scene.state, "red")),
        f"  generation {scene.generation}",
    )
    return Panel(
        table, title=ring, title_align="left", subtitle=_counts(scene), subtitle_align="left"
    )


def _counts(scene: Scene) -> Text:
    return Text.assemble(
        f"{sum(scene.requests.values()):,} requests answered",
        (f"  {scene.unanswered:,} unanswered", "yellow" if scene.unanswered else "dim"),
        (f"  {scene.wrong} by a wrong pod", "red" if scene.wrong else "dim"),
        (f"  {scene.failed_gets} failed picks", "red" if scene.failed_gets else "dim"),
    )


def _keys(scene: Scene, width: int, lines: int, no_color: bool) -> RenderableType:
    """
    A cell for each user, in the colour of its pod, two a character; without colours a digit each.
    """
    pods = [pod for pod in scene.owners.values() if pod in scene.rows]
    if no_color:
        digits = {pod: _DIGITS[at % len(_DIGITS)] for at, pod in enumerate(_in_order(scene.rows))}
        text = "".join(digits[pod] for pod in pods[: lines * width])
        cells = [Text(text[at : at + width], no_wrap=True) for at in range(0, len(text), width)]
        shown, how = len(text), "by their pod, the first is 0"
    else:
        cells = []
        colours = [scene.rows[pod].colour for pod in pods]
        for first in range(0, min(len(colours), lines * 2 * width), 2 * width):
            top = colours[first : first + width]
            bottom = colours[first + width : first + 2 * width]
            line = Text(no_wrap=True)
            for upper, lower in zip_longest(top, bottom):
                line.append("▀", style=f"{upper} on {lower}" if lower else upper)
            cells.append(line)
        shown, how = min(len(colours), lines * 2 * width), "in the colour of their pod"
    title = Text(f"{shown:,} of {len(pods):,} keys, {how}")
    return Panel(Group(*cells), title=title, title_align="left")


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (len(name), name))


def _news(scene: Scene, lines: int) -> RenderableType:
    news = list(scene.news)[-lines:]
    texts = [Text(text, no_wrap=True, overflow="ellipsis") for text in news]
    return Panel(Group(*texts), title=Text("news"), title_align="left")


def summary(acts: Iterable[Act], width: int) -> Table:
    """
    Return the table of what happened, a row an act; on narrow terminals the columns that matter most.
    """
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("act", no_wrap=True)
    is_wide = width >= _WIDE
    for header, is_shown in (
        ("keys\nmoved", True),
        ("\nshare", is_wide),
        ("\nideal", is_wide),
        ("without\ncause", is_wide),
        ("requests\nanswered", is_wide),
        ("no\nanswer", True),
        ("wrong\npod", is_wide),
        ("failed\nget", True),
    ):
        if is_shown:
            table.add_column(header, justify="right", no_wrap=True)
    for act in acts:
        cells: list[str | Text] = [
            str(len(act.moved)),
            f"{act.moved_share:.1%}",
            f"{act.ideal_share:.1%}",
            _bad_if(len(act.without_cause)),
            str(act.answered),
            str(act.unanswered),
            _bad_if(act.wrong),
            _bad_if(act.failed_gets),
        ]
        shown = cells if is_wide else [cells[0], cells[5], cells[7]]
        table.add_row(act.title, *shown)
    return table


def _bad_if(count: int) -> Text:
    return Text(str(count), style="bold red" if count else "green")
