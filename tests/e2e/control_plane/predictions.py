"""
What `knet simulate` predicts, beside what a real control plane then shows.

    python -m tests.e2e.control_plane.predictions

Prints the tables that stand in docs/simulate.md.

Real controllers change the pods of several services: a rolling update of a Deployment and of a StatefulSet, up and down, a
third of the pods that crashes. Ten clients follow each service: five ask DNS, of one of two CoreDNS with a cache
each, and five are told by slices; all with the defaults. Each of them has a ring for every placement. What a client saw
is what its rings say by `changes()`, and when the API has said so of a pod is known from a watch of pods.

The addresses that pods get are drawn as those of a simulation are, by another seed, and always the same.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import anyio

from knet import Endpoint, RefreshPolicy, Resolver, Ring, Snapshot
from knet.cli.simulate import SIMULATED, Report, Wanted, simulate
from knet.cli.simulate.model import News, Range
from knet.cli.simulate.traffic import Traffic, zipf

from .plane import ControlPlane, Json, deployment, headless, stateful_set
from .test_rollouts import roll, rolling
from .world import World, address_of, coredns, is_serving, world

__all__ = [
    "KEYS",
    "SOURCES",
    "TRAFFIC",
    "TRIALS",
    "Figure",
    "Followed",
    "Phase",
    "Took",
    "Trial",
    "compare",
    "news_of",
    "play",
    "predicted",
    "shown",
]

KEYS, ZIPF = 4_000, 1.1
TRAFFIC = zipf(KEYS, ZIPF)

SOURCES = ("DNS", "slices")
# Of each source.
CLIENTS = 5

# Seconds until pods are ready, and until they are gone.
_DELAY, _GRACE = 1.0, 0.5

# Seconds between the openings of two clients, so that they do not keep step.
_APART = 1.1
_WITHIN = 90.0
_SEED = 1


@dataclass(frozen=True)
class Trial:
    """
    A change of one service.

    Attributes:
        told: What it is, for a table.
        service: Of whom; changes of one service come one after the other.
        wanted: The simulation that says the same.
        change: Has it happen; the API need not show it yet when it returns.
        kind: What has the pods: a Deployment, or a StatefulSet.
    """

    told: str
    service: str
    wanted: Wanted
    change: Callable[[World, str], Awaitable[None]]
    kind: Callable[[str, int], Json] = deployment


async def _roll(it: World, name: str) -> None:
    await roll(it, "deployments", name, strategy=rolling("25%", "25%"))


async def _restart(it: World, name: str) -> None:
    await roll(it, "statefulsets", name)


async def _grow(it: World, name: str) -> None:
    await it.scale("deployment", name, 12)


async def _shrink(it: World, name: str) -> None:
    await it.scale("deployment", name, 8)


async def _crash(it: World, name: str) -> None:
    """
    Let every third pod die, all at once; the same ones each time.
    """
    async with anyio.create_task_group() as tasks:
        for pod in sorted(await it.pods(f"app={name}"), key=address_of)[::3]:
            tasks.start_soon(it.kubelet.crash, pod["metadata"]["name"], 1, it.namespace)


_BOTH = ("hashring", "envoy")
_WANTED = Wanted(keys=KEYS, zipf=ZIPF, clients=CLIENTS, draws=39)
TRIALS = (
    Trial(
        "a Deployment of 12 is rolled, 25 % and 25 %",
        "rolled",
        replace(_WANTED, pods=12, rolling="deployment", placements=_BOTH),
        _roll,
    ),
    Trial(
        "a StatefulSet of 6 is restarted",
        "restarted",
        replace(_WANTED, pods=6, rolling="statefulset", placements=_BOTH),
        _restart,
        stateful_set,
    ),
    Trial("8 pods to 12", "scaled", replace(_WANTED, pods=8, scale=12), _grow),
    Trial("12 pods to 8", "scaled", replace(_WANTED, pods=12, scale=8), _shrink),
    Trial(
        "4 of 12 pods crash",
        "crashed",
        replace(_WANTED, pods=12, lose_zone=True, placements=_BOTH),
        _crash,
    ),
)


@dataclass(frozen=True)
class Took:
    """
    Attributes:
        seconds: How long something took.
        late: For how many of them this process had no time to look, or did something else.
    """

    seconds: float
    late: float


@dataclass(frozen=True)
class Followed:
    """
    What one ring did in one change.

    Attributes:
        steps: Its snapshots, the first of which stood before.
        moved: How many keys had another pod than before, over all steps.
        net: How many have another one in the end than at first.
        least: How many had to, as a simulation counts them.
        misses: How many keys came to a pod that never had them.
        worst: What part of all requests those of the worst step are.
    """

    steps: tuple[Snapshot, ...]
    moved: int
    net: int
    least: int
    misses: int
    worst: float
    busiest_keys: tuple[float, float]
    busiest_requests: tuple[float, float]
    had: frozenset[tuple[Endpoint, str | bytes]]


@dataclass
class Phase:
    """
    What was seen of one trial.

    Attributes:
        followed: By source and placement, one for each client.
        joins: By source, how long it took from the API's word that a pod is ready until all clients had it, of each pod.
        leaves: The same of pods that are gone.
    """

    trial: Trial
    followed: dict[tuple[str, str], list[Followed]] = field(default_factory=dict)
    joins: dict[str, list[Took]] = field(default_factory=dict)
    leaves: dict[str, list[Took]] = field(default_factory=dict)

    def missed(self, placement: str) -> int:
        """
        Return how many keys came to a pod that never had them, of all clients together.
        """
        everybody = [each for source in SOURCES for each in self.followed[source, placement]]
        had = {pair for each in everybody for pair in _owned(each.steps[0])}
        return len({pair for each in everybody for pair in each.had} - had)


@dataclass
class _Client:
    source: str
    rings: dict[str, Ring]
    # When it had which pods, by placement.
    seen: dict[str, list[tuple[float, Snapshot]]]


class _Service:
    """
    One service and those who follow it.
    """

    def __init__(self, it: World, name: str) -> None:
        self.it = it
        self.name = name
        self.clients: list[_Client] = []
        self.pods: dict[str, Json] = {}
        # Which addresses are ready, by the API, since when.
        self.truth: list[tuple[float, frozenset[str]]] = []

    def told(self, event: Json) -> None:
        pod = event["object"]
        self.pods[pod["metadata"]["uid"]] = pod
        if event["type"] == "DELETED":
            del self.pods[pod["metadata"]["uid"]]
        ready = frozenset(address_of(each) for each in self.pods.values() if is_serving(each))
        if not self.truth or ready != self.truth[-1][1]:
            self.truth.append((anyio.current_time(), ready))

    def is_settled(self, count: int) -> bool:
        ready = self.truth[-1][1] if self.truth else frozenset()
        return len(ready) == count and all(
            bool(seen) and {pod.address for pod in seen[-1][1].endpoints} == ready
            for client in self.clients
            for seen in client.seen.values()
        )

    async def until_settled(self, count: int) -> None:
        with anyio.fail_after(_WITHIN):
            while not self.is_settled(count):
                await anyio.sleep(0.05)


async def _watch(it: World, services: dict[str, _Service]) -> None:
    async for event in it.plane.watch(it.path("pods")):
        services[event["object"]["metadata"]["labels"]["app"]].told(event)


async def _record(ring: Ring, seen: list[tuple[float, Snapshot]]) -> None:
    changes = ring.changes()
    seen.append((anyio.current_time(), ring.snapshot))
    async for change in changes:
        seen.append((anyio.current_time(), change.after))


class _Lateness:
    """
    When this process was late, and by how much: it is given no time, or does too much at once.
    """

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []

    async def run(self) -> None:
        while True:
            due = anyio.current_time() + 0.02
            await anyio.sleep_until(due)
            self._found.append((anyio.current_time(), anyio.current_time() - due))

    def since(self, at: float, seconds: float) -> Took:
        """
        Return *seconds*, which began *at* some time, with what of them was late.
        """
        return Took(seconds, sum(late for when, late in self._found if at < when <= at + seconds))


def _numbers(seed: int) -> Iterator[int]:
    return iter(random.Random(seed).sample(range(1, 65_536), 1_000))


async def play(it: World, trials: Sequence[Trial] = TRIALS) -> list[Phase]:
    """
    Have all *trials* happen, those of several services at the same time.
    """
    found: list[Phase] = []
    late = _Lateness()
    services = {trial.service: _Service(it, trial.service) for trial in trials}
    it.kubelet.delay, it.kubelet.grace = _DELAY, _GRACE
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(coredns(it.plane, cached=True)) for _ in "ab"]
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(_watch, it, services)
        tasks.start_soon(late.run)
        async with anyio.create_task_group() as together:
            for number, name in enumerate(services):
                it.kubelet.numbers[name] = _numbers(_SEED + number)
                mine = [trial for trial in trials if trial.service == name]
                together.start_soon(_play, services[name], mine, servers, late, found)
        tasks.cancel_scope.cancel()
    return sorted(found, key=lambda phase: trials.index(phase.trial))


async def _play(
    service: _Service,
    trials: Sequence[Trial],
    servers: Sequence[str],
    late: _Lateness,
    found: list[Phase],
) -> None:
    it, first = service.it, trials[0]
    await it.apply(headless(service.name))
    await it.apply(first.kind(service.name, first.wanted.pods))
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        for number in range(CLIENTS):
            for source in SOURCES:
                client = await _open(stack, service, source, servers, number, first)
                service.clients.append(client)
                for placement, ring in client.rings.items():
                    tasks.start_soon(_record, ring, client.seen[placement])
            await anyio.sleep(_APART)
        for trial in trials:
            await service.until_settled(trial.wanted.pods)
            since = anyio.current_time()
            await trial.change(it, service.name)
            after = 8 if trial.wanted.lose_zone else trial.wanted.scale or trial.wanted.pods
            await service.until_settled(after)
            found.append(_seen(service, trial, since, late))
        tasks.cancel_scope.cancel()


async def _open(
    stack: AsyncExitStack,
    service: _Service,
    source: str,
    servers: Sequence[str],
    number: int,
    trial: Trial,
) -> _Client:
    """
    Open the rings of one client, which shares nothing with the others: its source is equal to none of theirs.
    """
    it = service.it
    resolver = (
        Resolver(
            nameservers=[servers[number % len(servers)]],
            zone=it.domain,
            timeout=1.0 + 0.001 * number,
        )
        if source == "DNS"
        else replace(it.slices, settle=0.05 + 0.0001 * number)
    )
    port = "http" if trial.kind is stateful_set else 8080
    rings = {
        placement: await stack.enter_async_context(
            Ring(
                f"{service.name}.{it.namespace}",
                port=port,
                resolver=resolver,
                refresh=RefreshPolicy(),
                placement=SIMULATED[placement],
            )
        )
        for placement in trial.wanted.placements
    }
    return _Client(source, rings, {placement: [] for placement in rings})


# --- what was seen


def _seen(service: _Service, trial: Trial, since: float, late: _Lateness) -> Phase:
    phase = Phase(trial)
    for source in SOURCES:
        clients = [client for client in service.clients if client.source == source]
        for placement in trial.wanted.placements:
            phase.followed[source, placement] = [
                follow(_since(client.seen[placement], since)) for client in clients
            ]
        phase.joins[source], phase.leaves[source] = [], []
        for (_, earlier), (at, ready) in pairwise(_since_truth(service.truth, since)):
            for address in ready ^ earlier:
                comes = address in ready
                took = max(
                    _learnt(client.seen[placement], address, at, comes=comes)
                    for client in clients
                    for placement in trial.wanted.placements[:1]
                )
                (phase.joins if comes else phase.leaves)[source].append(late.since(at, took))
    return phase


def _since(seen: list[tuple[float, Snapshot]], since: float) -> tuple[Snapshot, ...]:
    before = [snapshot for at, snapshot in seen if at <= since]
    return before[-1], *(snapshot for at, snapshot in seen if at > since)


def _since_truth(
    truth: list[tuple[float, frozenset[str]]], since: float
) -> list[tuple[float, frozenset[str]]]:
    first = max(n for n, (at, _) in enumerate(truth) if at <= since)
    return truth[first:]


def _learnt(
    seen: list[tuple[float, Snapshot]], address: str, since: float, *, comes: bool
) -> float:
    """
    Return how long after *since* a ring knew that *address* had come, or that it had gone.
    """
    for at, snapshot in seen:
        is_there = any(pod.address == address for pod in snapshot.endpoints)
        if at >= since and is_there == comes:
            return at - since
    return 0.0  # before this process heard of it


def _owned(snapshot: Snapshot) -> set[tuple[Endpoint, str | bytes]]:
    return set(zip(snapshot.get_many(TRAFFIC.keys), TRAFFIC.keys, strict=True))


def follow(steps: tuple[Snapshot, ...], traffic: Traffic = TRAFFIC) -> Followed:
    """
    Count what a ring moved that had these snapshots, each pod of which remembers what it was asked for.
    """
    shares = dict(zip(traffic.keys, traffic.shares, strict=True))
    owners = [dict(zip(traffic.keys, each.get_many(traffic.keys), strict=True)) for each in steps]
    had = {(pod, key) for key, pod in owners[0].items()}
    moved = least = misses = 0
    worst = 0.0
    for before, after in pairwise(owners):
        gone = [key for key in traffic.keys if after[key] != before[key]]
        missed = [key for key in gone if (after[key], key) not in had]
        had |= {(pod, key) for key, pod in after.items()}
        had_keys, has_keys = Counter(before.values()), Counter(after.values())
        moved += len(gone)
        least += (has_keys - had_keys).total()
        misses += len(missed)
        worst = max(worst, sum(shares[key] for key in missed))
    ends = owners[0], owners[-1]

    def busiest(weights: dict[str | bytes, float]) -> tuple[float, float]:
        found = []
        for owned, snapshot in zip(ends, (steps[0], steps[-1]), strict=True):
            loads: dict[Endpoint, float] = defaultdict(float)
            for key, pod in owned.items():
                loads[pod] += weights[key]
            found.append(max(loads.values()) * len(snapshot.endpoints) / sum(loads.values()))
        return found[0], found[1]

    return Followed(
        steps=steps,
        moved=moved,
        net=sum(ends[0][key] != ends[1][key] for key in traffic.keys),
        least=least,
        misses=misses,
        worst=worst,
        busiest_keys=busiest(dict.fromkeys(traffic.keys, 1.0)),
        busiest_requests=busiest(shares),
        had=frozenset(had),
    )


# --- beside what was predicted


@dataclass(frozen=True)
class Figure:
    """
    One figure of one change.

    Attributes:
        trial: Of which change.
        placement: By which placement.
        name: What it is, as of `knet.cli.simulate.luck.Bars`.
        predicted: Its error bars.
        seen: Of all clients, the least and the most.
    """

    trial: Trial
    placement: str
    name: str
    predicted: Range
    seen: tuple[float, float]

    @property
    def is_within(self) -> bool:
        return self.predicted.low <= self.seen[0] and self.seen[1] <= self.predicted.high


@functools.cache
def predicted(trial: Trial) -> Report:
    """
    Return what a simulation says of a change.
    """
    return simulate(trial.wanted)


def compare(phase: Phase, report: Report) -> list[Figure]:
    """
    Return all figures of what was seen, beside what was predicted.
    """
    found = []
    for bars in report.bars:
        everybody = [each for source in SOURCES for each in phase.followed[source, bars.placement]]
        values: dict[str, list[float]] = {
            "busiest_keys_before": [each.busiest_keys[0] for each in everybody],
            "busiest_keys_after": [each.busiest_keys[1] for each in everybody],
            "busiest_requests_before": [each.busiest_requests[0] for each in everybody],
            "busiest_requests_after": [each.busiest_requests[1] for each in everybody],
            "moved": [each.moved for each in everybody],
            "net": [each.net for each in everybody],
            "least": [each.least for each in everybody],
            "misses": [*(each.misses for each in everybody), phase.missed(bars.placement)],
            "worst": [each.worst for each in everybody],
        }
        for name, seen in values.items():
            predicted: Range = getattr(bars, name)
            figure = Figure(phase.trial, bars.placement, name, predicted, (min(seen), max(seen)))
            found.append(figure)
    return found


def shown(phases: Sequence[Phase], reports: Sequence[Report]) -> str:
    """
    Return the tables of what was predicted, and seen.
    """
    lines = [
        "| change | placement | moved: predicted | seen | misses: predicted | seen | at worst: predicted | seen | busiest: predicted | seen |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    within = total = 0
    for phase, report in zip(phases, reports, strict=True):
        figures = compare(phase, report)
        within, total = within + sum(each.is_within for each in figures), total + len(figures)
        for placement in phase.trial.wanted.placements:
            of = {each.name: each for each in figures if each.placement == placement}
            cells = [phase.trial.told, f"`{placement}`"]
            for name, whole, form in (
                ("moved", KEYS, ".0%"),
                ("misses", KEYS, ".0%"),
                ("worst", 1, ".0%"),
                ("busiest_requests_after", 1, ".2f"),
            ):
                bars, (least, most) = of[name].predicted, of[name].seen
                cells += [_between(bars.low / whole, bars.high / whole, form)]
                cells += [_between(least / whole, most / whole, form)]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"{within} of {total} figures lie within their error bars.", ""]
    lines += [
        "| change | source | a new pod: 90 % | latest | seen | one that is gone: 90 % | latest | seen |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for phase, report in zip(phases, reports, strict=True):
        for source, news in news_of(report).items():
            cells = [phase.trial.told, "EndpointSlices" if source == "slices" else source]
            for bars, latest, took in (
                (news.join_all, news.join_latest, phase.joins[source]),
                (news.leave_all, news.leave_latest, phase.leaves[source]),
            ):
                seconds = [each.seconds for each in took]
                cells += [_between(bars.low, bars.high, ".2f"), f"{latest:.3g}"]
                cells += [_between(min(seconds), max(seconds), ".2f") if seconds else "-"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def news_of(report: Report) -> dict[str, News]:
    """
    Return what was predicted of each source.
    """
    by_dns, _, by_slices = report.news
    return {"DNS": by_dns, "slices": by_slices}


def _between(low: float, high: float, form: str) -> str:
    first, last = format(low, form), format(high, form)
    return first if first == last else f"{first.removesuffix('%')} to {last}"


async def _main(plane: ControlPlane, loud: bool) -> None:
    phases: list[Phase] = []
    for name in dict.fromkeys(trial.service for trial in TRIALS):
        async with world(plane) as it:
            phases += await play(it, [trial for trial in TRIALS if trial.service == name])
    reports = [predicted(phase.trial) for phase in phases]
    print(shown(phases, reports))
    for phase, report in zip(phases, reports, strict=True):
        for each in compare(phase, report):
            if loud or not each.is_within:
                print(each.trial.told, each.placement, each.name, each.predicted, each.seen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--all", action="store_true", help="Print every figure.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        made = ControlPlane(Path(os.environ["CONTROLPLANE_BIN"]), Path(place))
        try:
            anyio.run(made.launch)
            anyio.run(_main, made, given.all)
        finally:
            made.halt()
