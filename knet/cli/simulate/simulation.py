"""
One simulation: what is wanted is checked and weighed, played, and told as a `Report`.

What it says of placements is exact, since the placements themselves are asked. What it says of time and bytes
is a model, in `model`.
"""

from __future__ import annotations

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
from knet.cli.simulate import bounded, model, traffic
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
# What a picture is.
_KINDS = (".svg", ".png")

# Some ten minutes.
_MOST_WORK = 1_500_000_000.0
_SECONDS = 0.4e-6


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
    work = _work(tuple(placements), planned, keys, in_flight)
    with _Bar(work) if progress else nullcontext(_Bar.silent) as did:
        outcomes = [
            follow(planned, keys, name, make, partial(_looked_up, did, name))
            for name, make in placements.items()
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
    return Report(
        plan=planned,
        traffic=keys,
        seed=wanted.seed,
        outcomes=tuple(outcomes),
        bound=wanted.bound,
        in_flight=in_flight,
        bounded=tuple(found),
        clients=wanted.clients,
        news=model.news(wanted.clients, most, seed=wanted.seed) if changes else (),
        costs=model.costs(wanted.clients, most, planned.joins + planned.leaves, seed=wanted.seed),
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
    fleet = Fleet(
        weights=wanted.weights,
        zones=(wanted.zones or 3) if wanted.lose_zone else 1,
        stateful=wanted.rolling == "statefulset",
        seed=wanted.seed,
    )
    if wanted.scale is not None:
        return fleet.scale(wanted.pods, wanted.scale)
    if wanted.lose_zone:
        return fleet.lose_zone(wanted.pods)
    if wanted.rolling == "deployment":
        surge, unavailable = wanted.surge or "25%", wanted.unavailable or "25%"
        return fleet.roll_deployment(wanted.pods, surge=surge, unavailable=unavailable)
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


def _work(names: Sequence[str], planned: Plan, keys: Traffic, in_flight: int) -> float:
    """
    Return how much there is to do, in look-ups of `HashRing`, unless that is too much.
    """
    work = sum(
        len(keys.keys) * _cost(name, len(step.pods)) for name in names for step in planned.steps
    )
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
