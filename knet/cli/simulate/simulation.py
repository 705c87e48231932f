"""
One simulation: what is wanted is checked and weighed, played, and told as a `Report`.

What it says of placements is exact, since the placements themselves are asked. What it says of time and bytes
is a model, in `model`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from knet import Bound, ConfigError
from knet.cli.lookups import PLACEMENTS
from knet.cli.loop import run
from knet.cli.simulate import bounded, luck, model, traffic
from knet.cli.simulate.moves import Make, follow
from knet.cli.simulate.plan import Fleet, Plan, Rolling
from knet.cli.simulate.report import Report
from knet.cli.simulate.traffic import Traffic
from knet.hashring import HashRing

__all__ = ["SIMULATED", "Wanted", "picture", "simulate"]

_BALANCED: Make = partial(HashRing, balance=1.1)
SIMULATED: Mapping[str, Make] = {str(name): make for name, make in PLACEMENTS.items()} | {
    "balanced": _BALANCED
}

# What a look-up costs, in those of `HashRing`, of some 0.3 microseconds: where it is much more, and for each
# pod where all of them are asked.
_COSTS = {"haproxy": 12.0, "nginx": 10.0, "ketama": 18.0}
_COSTS_BY_POD = {"rendezvous": 1.3, "pymemcache": 30.0}
_COST = 1.5
# By `ring.acquire`, and for each look at all pods.
_COST_OF_REQUEST = 40.0
# To build a placement, and for each of its pods; where it is much more.
_COST_OF_BUILD = (5_000.0, 150.0)
_COSTS_OF_BUILD = {
    "maglev": (150_000.0, 50.0),
    "envoy-maglev": (150_000.0, 50.0),
    "nginx": (5_000.0, 600.0),
    "ketama": (5_000.0, 600.0),
    "balanced": (20_000.0, 300.0),
}
# What a picture is.
_KINDS = (".svg", ".png")

# Some ten minutes.
_MOST_WORK = 1_500_000_000.0
_SECONDS = 0.4e-6

# How many clusters are drawn, so that nine of ten lie between the least and the most of them; and what they
# may cost where nobody asked for them: some seconds.
_DRAWS = 19
_MOST_WORK_OF_DRAWS = 8_000_000.0
_MOST_DRAWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    What is to be simulated.

    Attributes:
        pods: How many there are.
        weights: Theirs, used again and again.
        placements: Names of `SIMULATED`.
        keys: How many keys, where they are made.
        zipf: The exponent of their law; 0: all alike.
        keys_file: Where the keys are instead, a key a line.
        hot: What part of all requests one key has, or `None`.
        scale: To how many pods, or `None`.
        rolling: What kind of rolling update, or `None`.
        surge: How many more there may be in it; `None`: 25 %.
        unavailable: How many fewer; `None`: 25 %, and 1 for a StatefulSet.
        lose_zone: A zone is lost.
        zones: Over how many the pods are spread.
        bound: As `Ring.acquire` has it, or `None`.
        in_flight: Requests under way, for that; `None`: 10 for each pod.
        clients: How many processes ask.
        draws: How many clusters are drawn for the error bars; `None`: 19, where that takes some seconds.
        seed: What is drawn, is drawn by this.
    """

    pods: int = 10
    weights: Sequence[float] = (1.0,)
    placements: Sequence[str] = ("hashring",)
    keys: int | None = None
    zipf: float | None = None
    keys_file: Path | None = None
    hot: float | None = None
    scale: int | None = None
    rolling: Rolling | None = None
    surge: str | None = None
    unavailable: str | None = None
    lose_zone: bool = False
    zones: int | None = None
    bound: float | None = None
    in_flight: int | None = None
    clients: int = 100
    draws: int | None = None
    seed: int = 0


def simulate(wanted: Wanted, *, progress: bool = False) -> Report:
    """
    Return what would happen.

    Args:
        wanted: What.
        progress: A bar on standard error shows how far it is.

    Raises:
        ConfigError: A value is out of range, values do not go together, or it would take too long.
    """
    placements = _placements(wanted)
    if not 1 <= wanted.clients <= model.MOST_CLIENTS:
        raise ConfigError(
            f"--clients must be from 1 to {model.MOST_CLIENTS:,}, got {wanted.clients:,}"
        )
    planned = _plan(wanted)
    for step in planned.steps:
        if not any(pod.weight for pod in step.pods):
            raise ConfigError("--weights: some pod must have a weight above 0, at every step")
    keys = _traffic(wanted)
    pods = len(planned.after)
    in_flight = _in_flight(wanted, pods)
    draws = _draws(wanted, tuple(placements), planned, keys)
    work = _work(tuple(placements), planned, keys, in_flight, draws)
    with _Bar(work) if progress else nullcontext(_Bar.silent) as did:
        outcomes = [
            follow(planned, keys, name, make, partial(_looked_up, did, name))
            for name, make in placements.items()
        ]
        bars = [
            luck.draw(
                planned,
                partial(_drawn, wanted),
                *(keys, name, make),
                draws=draws,
                seed=wanted.seed,
                drew=partial(did, _cost_of_draw(name, planned, keys)),
            )
            for name, make in placements.items()
            if draws
        ]
        found = []
        for name, make in placements.items() if wanted.bound is not None else ():
            assert wanted.bound is not None
            play = partial(
                bounded.play,
                *(planned.after, keys, name, make),
                bound=wanted.bound,
                in_flight=in_flight,
                seed=wanted.seed,
                sent=partial(_sent, did),
            )
            found.append(run(play))
    changes = len(planned.steps) > 1
    most = max(len(step.pods) for step in planned.steps)
    changed = planned.joins + planned.leaves
    news = model.news(wanted.clients, most, alone=changed == 1, seed=wanted.seed)
    return Report(
        plan=planned,
        traffic=keys,
        seed=wanted.seed,
        outcomes=tuple(outcomes),
        bars=tuple(bars),
        bound=wanted.bound,
        in_flight=in_flight,
        bounded=tuple(found),
        clients=wanted.clients,
        news=news if changes else (),
        costs=model.costs(wanted.clients, most, changed, seed=wanted.seed),
    )


def picture(path: Path) -> Callable[[Report], None]:
    """
    Return what draws a report at *path*; said at once, where it could not, and not after all the work.

    Raises:
        ConfigError: It is neither an SVG nor a PNG, or its directory is not there.
        ImportError: matplotlib is missing.
    """
    if path.suffix not in _KINDS:
        raise ConfigError(f"--plot must end in {' or '.join(_KINDS)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot: there is no directory {path.parent}")
    from knet.cli.simulate.plot import draw  # noqa: PLC0415 - an extra

    return partial(draw, path=path)


def _placements(wanted: Wanted) -> dict[str, Make]:
    for name in wanted.placements:
        if name not in SIMULATED:
            raise ConfigError(f"--placement must be one of {', '.join(SIMULATED)}, got {name!r}")
    return {name: SIMULATED[name] for name in wanted.placements}


def _plan(wanted: Wanted) -> Plan:
    changes = {
        "--scale": wanted.scale is not None,
        "--rolling": wanted.rolling is not None,
        "--lose-zone": wanted.lose_zone,
    }
    given = [option for option, is_there in changes.items() if is_there]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are two changes: simulate one after the other")
    for option, value in (
        ("--max-surge", wanted.surge),
        ("--max-unavailable", wanted.unavailable),
    ):
        if value is not None and wanted.rolling is None:
            raise ConfigError(f"{option} is for --rolling")
    if wanted.surge is not None and wanted.rolling == "statefulset":
        raise ConfigError("--max-surge is for a Deployment: a StatefulSet makes no pod too many")
    if wanted.zones is not None and not wanted.lose_zone:
        raise ConfigError("--zones is for --lose-zone")
    return _change(wanted, "prod", wanted.seed)


def _drawn(wanted: Wanted, chance: random.Random) -> Plan:
    """
    Return the same change of another cluster, which *chance* makes.
    """
    seed = chance.getrandbits(32)
    return _change(wanted, f"n{seed}", seed, ready=lambda made: chance.randint(1, made))


def _change(
    wanted: Wanted, namespace: str, seed: int, *, ready: Callable[[int], int] = lambda made: made
) -> Plan:
    fleet = Fleet(
        weights=wanted.weights,
        zones=(wanted.zones or 3) if wanted.lose_zone else 1,
        stateful=wanted.rolling == "statefulset",
        service=f"web.{namespace}.svc.cluster.local",
        seed=seed,
    )
    if wanted.scale is not None:
        return fleet.scale(wanted.pods, wanted.scale)
    if wanted.lose_zone:
        return fleet.lose_zone(wanted.pods)
    if wanted.rolling == "deployment":
        surge, unavailable = wanted.surge or "25%", wanted.unavailable or "25%"
        return fleet.roll_deployment(wanted.pods, surge=surge, unavailable=unavailable, ready=ready)
    if wanted.rolling == "statefulset":
        return fleet.roll_statefulset(wanted.pods, unavailable=wanted.unavailable or "1")
    return fleet.stay(wanted.pods)


def _traffic(wanted: Wanted) -> Traffic:
    if wanted.keys_file is None:
        count = 100_000 if wanted.keys is None else wanted.keys
        found = traffic.zipf(count, wanted.zipf or 0.0)
    elif wanted.keys is not None or wanted.zipf is not None:
        raise ConfigError("--keys-file has the keys: leave out --keys and --zipf")
    else:
        found = traffic.from_file(wanted.keys_file)
    return found if wanted.hot is None else traffic.with_hot_key(found, wanted.hot)


def _in_flight(wanted: Wanted, pods: int) -> int:
    if wanted.bound is None:
        if wanted.in_flight is not None:
            raise ConfigError("--in-flight is for --bound")
        return 0
    Bound(wanted.bound)
    in_flight = 10 * pods if wanted.in_flight is None else wanted.in_flight
    if not 1 <= in_flight <= bounded.MOST_IN_FLIGHT:
        raise ConfigError(
            f"--in-flight must be from 1 to {bounded.MOST_IN_FLIGHT:,}, got {in_flight:,}"
        )
    return in_flight


def _draws(wanted: Wanted, names: Sequence[str], planned: Plan, keys: Traffic) -> int:
    """
    Return how many other clusters are to be drawn.
    """
    if wanted.draws is None:
        work = _DRAWS * sum(_cost_of_draw(name, planned, keys) for name in names)
        return _DRAWS if work <= _MOST_WORK_OF_DRAWS else 0
    if wanted.draws and not 3 <= wanted.draws <= _MOST_DRAWS:
        raise ConfigError(f"--draws must be 0, or from 3 to {_MOST_DRAWS:,}, got {wanted.draws:,}")
    return wanted.draws


def _work(names: Sequence[str], planned: Plan, keys: Traffic, in_flight: int, draws: int) -> float:
    """
    Return how much there is to do, in look-ups of `HashRing`, unless that is too much.
    """
    work = sum(
        len(keys.keys) * _cost(name, len(step.pods)) for name in names for step in planned.steps
    )
    work += draws * sum(_cost_of_draw(name, planned, keys) for name in names)
    if in_flight:
        work += len(names) * bounded.requests_of(in_flight) * _COST_OF_REQUEST
    if work > _MOST_WORK:
        minutes = work * _SECONDS / 60
        raise ConfigError(
            f"{len(keys.keys):,} keys in {len(planned.steps):,} steps, by {', '.join(names)}, would take some "
            f"{minutes:,.0f} minutes, and the most is "
            f"{_MOST_WORK * _SECONDS / 60:.0f}: take fewer keys, or more pods at a time by --max-unavailable"
        )
    return work


def _cost(name: str, pods: int) -> float:
    return _COSTS.get(name, _COST) + _COSTS_BY_POD.get(name, 0.0) * pods


def _cost_of_draw(name: str, planned: Plan, keys: Traffic) -> float:
    """
    Return what another cluster costs: all keys before and after, and some of them in the steps between.
    """
    pods = max(len(step.pods) for step in planned.steps)
    build, by_pod = _COSTS_OF_BUILD.get(name, _COST_OF_BUILD)
    builds = ends = min(len(planned.steps), 2)
    looked_up = ends * len(keys.keys)
    if ends > 1:
        # Two clients, each of which sees half of what happens.
        seen = 2 + min(planned.joins + planned.leaves, luck.MOST_SEEN)
        builds += seen
        looked_up += seen * min(len(keys.keys), luck.SAMPLE)
    return looked_up * _cost(name, pods) + builds * (build + by_pod * pods)


def _looked_up(did: Callable[[float], None], name: str, keys: int, pods: int) -> None:
    did(keys * _cost(name, pods))


def _sent(did: Callable[[float], None], requests: int) -> None:
    did(requests * _COST_OF_REQUEST)


class _Bar:
    """
    Shows on standard error how much of the work is done, and is gone in the end.
    """

    def __init__(self, work: float) -> None:
        self._work = work
        self._progress = Progress(
            TextColumn("simulating"),
            BarColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    @staticmethod
    def silent(work: float) -> None:
        """
        Show nothing.
        """

    def __enter__(self) -> Callable[[float], None]:
        self._progress.start()
        return partial(self._progress.advance, self._progress.add_task("", total=self._work))

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
