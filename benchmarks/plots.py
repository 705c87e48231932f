"""
Draws the pictures of README.md:

    python -m benchmarks.plots

Lookup and build times against the number of members, and how even the shares are, for knet and the
peers that are installed. Times are relative: to the floor of a lookup, which is encoding and hashing the
key, and to a build of `HashRing`. And what serving is worth, simulated. Takes some minutes, writes `plots/*.svg` beside this file.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import bounded, changes, ejection
from benchmarks.cases import KEYS, PLACEMENTS, floor, names
from benchmarks.peers import PEERS
from knet import EjectionPolicy

PLOTS = Path(__file__).parent / "plots"
SIZES = (3, 10, 30, 100, 300, 1000)
OURS = ("HashRing", "HashRing, balance=1.1", "Maglev", "Rendezvous", "EnvoyRing")
ROUNDS = 7
# Whoever asks all members for each key gets fewer keys, and none of the largest sizes.
KEYS_TO_ALL = 20_000

Series = dict[str, list[tuple[int, float]]]


def seconds_for_each(get: Callable[[str], object], keys: Sequence[str]) -> float:
    started = time.thread_time()
    for key in keys:
        get(key)
    return (time.thread_time() - started) / len(keys)


def makers() -> dict[str, tuple[Callable[[list[str]], Any], Callable[[Any], Any], bool]]:
    """
    Everything that is drawn: how to build it, how to ask it, and whether it asks all members.
    """
    ours = {
        f"knet {name}": (PLACEMENTS[name], lambda made: made.get, name == "Rendezvous")
        for name in OURS
    }
    return ours | {
        peer.name: (peer.build, peer.get, peer.asks_all)
        for peer in PEERS.values()
        if peer.name != "pymemcache"  # a hundred times slower than all the rest
    }


def lookups() -> Series:
    """
    Seconds for a pick, divided by seconds for encoding and hashing its key.
    """
    series: Series = {}
    for count in SIZES:
        members = names(count)
        cases = {
            name: (get(build(members)), KEYS[: KEYS_TO_ALL // count] if asks_all else KEYS[:5000])
            for name, (build, get, asks_all) in makers().items()
        }
        cases["floor"] = (floor, KEYS[:5000])
        times: dict[str, list[float]] = {name: [] for name in cases}
        gc.disable()
        for number in range(ROUNDS):
            turns = list(cases.items())
            for name, (get, keys) in turns if number % 2 else reversed(turns):
                times[name].append(seconds_for_each(get, keys))
        gc.enable()
        least = statistics.median(times.pop("floor"))
        for name, taken in times.items():
            series.setdefault(name, []).append((count, statistics.median(taken) / least))
    return series


def builds() -> Series:
    """
    Seconds for a build, divided by seconds for one of `HashRing`.
    """
    series: Series = {}
    for count in SIZES:
        members = names(count)
        times: dict[str, list[float]] = {}
        for number in range(3):
            turns = [
                (name, build) for name, (build, _, asks_all) in makers().items() if not asks_all
            ]
            for name, build in turns if number % 2 else reversed(turns):
                if name.startswith("jump"):
                    continue  # builds nothing
                gc.collect()
                gc.disable()
                started = time.thread_time()
                made = build(members)
                times.setdefault(name, []).append(time.thread_time() - started)
                gc.enable()
                del made
        ours = statistics.median(times["knet HashRing"])
        for name, taken in times.items():
            series.setdefault(name, []).append((count, statistics.median(taken) / ours))
    return series


def changes_by_size() -> Series:
    """
    Milliseconds of CPU for a build, and for a change of one member.
    """
    series: Series = {}
    for count in changes.SIZES:
        for case, taken in changes.measure(count, ROUNDS).items():
            name = case if case.startswith(changes.PEER) else f"knet {case}"
            series.setdefault(name, []).append((count, statistics.median(taken) * 1e3))
    return series


def balance() -> Series:
    """
    The share of the busiest member, divided by the fair one.
    """
    series: Series = {}
    samples = [f"key-{number}" for number in range(200_000)]
    for count in SIZES:
        members = names(count)
        for name, (build, get, asks_all) in makers().items():
            made = build(members)
            if name.startswith("knet"):
                most = max(made.share().values())
            elif asks_all:
                continue  # even, but for the luck of the samples
            else:
                most = max(Counter(map(get(made), samples)).values()) / len(samples)
            series.setdefault(name, []).append((count, most * count))
    return series


def draw(name: str, title: str, unit: str, series: Series, *, log: bool) -> None:
    """
    Write one picture.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for label, points in series.items():
        ours = label.startswith("knet")
        axes.plot(
            [count for count, _ in points],
            [value for _, value in points],
            label=label,
            marker="o" if ours else "x",
            markersize=4,
            linewidth=2 if ours else 1,
            linestyle="-" if ours else "--",
        )
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
    sizes = sorted({count for points in series.values() for count, _ in points})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("members")
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})


def serving() -> None:
    """
    Write the picture of both simulations: what ejection saves, and what a bound costs and brings.
    """
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    scenes = [scene for scene in ejection.SCENES if scene.pods > 3 and "thirds" in scene.name]
    scenes += [scene for scene in ejection.SCENES if scene.pods > 3 and "a third" in scene.name]
    for place, (label, policy) in enumerate(
        (("without ejection", EjectionPolicy(max_share=0)), ("with it", EjectionPolicy()))
    ):
        results = [ejection.play(scene, policy) for scene in scenes]
        left.barh(
            [number + 0.4 * place for number in range(len(scenes))],
            [100 * each.failed / each.requests for each in results],
            height=0.38,
            label=label,
        )
    left.set_yticks(
        [number + 0.2 for number in range(len(scenes))], [scene.name for scene in scenes]
    )
    left.set_xlabel("% of requests that no pod served, three tries each")
    left.set_title("A dead or frozen pod")
    left.legend()
    for pods, marker in ((10, "o"), (100, "s")):
        for name in ("no bound", "1.1", "1.5", "2", "less of 2", "least of 3"):
            choose = bounded.POLICIES[name]
            o = bounded.play(choose, pods=pods, zipf=1.0, load=0.8)
            right.scatter(100 * o.first, o.p99, marker=marker, color="C0" if pods == 10 else "C1")
            right.annotate(
                name,
                (100 * o.first, o.p99),
                xytext=(4, 5 if pods == 10 else -10),
                textcoords="offset points",
                fontsize="x-small",
            )
        right.scatter(
            [], [], marker=marker, color="C0" if pods == 10 else "C1", label=f"{pods} pods"
        )
    right.set_yscale("log")
    right.set_xlabel("% of requests that the first pod of their key serves")
    right.set_ylabel("99th percentile, in requests that are alone")
    right.set_title("Bounded load, at 80 % of what the pods can do")
    right.grid(visible=True, alpha=0.3)
    right.legend(loc="upper left")
    figure.savefig(PLOTS / "serving.svg", metadata={"Date": None})


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "knet"  # the same identifiers in every run
    PLOTS.mkdir(exist_ok=True)
    serving()
    draw("lookup", "Finding a member", "times encode + hash", lookups(), log=True)
    draw("build", "Building from nothing", "times a build of HashRing", builds(), log=True)
    draw("changes", "A change of one member", "ms of CPU", changes_by_size(), log=True)
    draw("balance", "The busiest member", "times its fair share", balance(), log=False)


if __name__ == "__main__":
    main()
