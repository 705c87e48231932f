"""
What a plan does to keys and pods: exactly, since the placement itself is asked for every key.

Knows nothing of time: all clients agree at every step.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from operator import is_not

from knet import Endpoint
from knet.cli.simulate.plan import Plan
from knet.cli.simulate.traffic import Traffic
from knet.hashring import Placement

__all__ = ["Had", "Load", "Make", "Moved", "Outcome", "busiest", "follow"]

Make = Callable[[tuple[Endpoint, ...]], Placement[Endpoint]]

# Keys that are looked up at once; in between whoever waits is told.
_CHUNK = 100_000


@dataclass(frozen=True, slots=True)
class Load:
    """
    Who has how much, at one step.

    Attributes:
        keys: How many keys each pod has, in the order of the plan's pods.
        requests: What part of all requests each pod has; together 1.
        busiest_keys: Of the pod that has the most for its weight: over its fair share.
        busiest_requests: The same of requests.
    """

    keys: tuple[int, ...]
    requests: tuple[float, ...]
    busiest_keys: float
    busiest_requests: float


@dataclass(frozen=True, slots=True)
class Moved:
    """
    What one step moved.

    Attributes:
        told: What happened, as the plan says it.
        pods: How many there are now.
        moved: How many keys have another pod than before.
        least: How many had to, for the pods to have as many keys as they have now: what the pods that
            have more now have gained.
        misses: How many of the moved keys their pod has never had before, so that it cannot have them
            cached.
        requests: What part of all requests are for those: what misses at first.
        busiest_requests: As of `Load`.
    """

    told: str
    pods: int
    moved: int
    least: int
    misses: int
    requests: float
    busiest_requests: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a plan does where one placement decides.

    Attributes:
        placement: Its name.
        before: Who had how much.
        after: Who has how much in the end.
        net: How many keys have another pod in the end than at first.
        steps: What each step moved.
    """

    placement: str
    before: Load
    after: Load
    net: int
    steps: tuple[Moved, ...]

    @property
    def moved(self) -> int:
        return sum(step.moved for step in self.steps)

    @property
    def least(self) -> int:
        return sum(step.least for step in self.steps)

    @property
    def misses(self) -> int:
        return sum(step.misses for step in self.steps)

    @property
    def worst(self) -> Moved | None:
        """
        The step after which most requests miss at first.
        """
        return max(self.steps, key=lambda step: step.requests, default=None)


def follow(
    plan: Plan,
    traffic: Traffic,
    name: str,
    make: Make,
    looked_up: Callable[[int, int], None],
    had: Had | None = None,
) -> Outcome:
    """
    Return what *plan* does to *traffic*.

    Args:
        plan: Whose steps.
        traffic: The keys.
        name: That of the placement.
        make: It.
        looked_up: Is told how many keys have been looked up, and among how many pods, now and then.
        had: Where it is kept which pods keys have been at; what they had before is no miss.
    """
    placement = make(plan.before)
    first = picks = _picks(placement, traffic, looked_up)
    load = before = _load(plan.before, picks, traffic)
    had = had or Had(len(traffic.keys))
    steps: list[Moved] = []
    for earlier, step in pairwise(plan.steps):
        placement = placement.replace(step.pods)
        previous, picks = picks, _picks(placement, traffic, looked_up)
        moved = _differing(previous, picks)
        missed = had.misses(moved, previous, picks)
        last, load = load, _load(step.pods, picks, traffic)
        steps.append(
            Moved(
                told=step.told,
                pods=len(step.pods),
                moved=traffic.count(moved),
                least=_least(
                    dict(zip(map(id, earlier.pods), last.keys, strict=True)),
                    dict(zip(map(id, step.pods), load.keys, strict=True)),
                ),
                misses=traffic.count(missed),
                requests=sum(map(traffic.shares.__getitem__, missed)),
                busiest_requests=load.busiest_requests,
            )
        )
    net = traffic.count(_differing(first, picks))
    return Outcome(name, before, load, net, tuple(steps))


def busiest(amounts: Sequence[float], pods: Sequence[Endpoint]) -> float:
    """
    Return how much the busiest pod has over its fair share, by weight.

    A pod of weight 0 has no share, and nothing.
    """
    total, weights = sum(amounts), sum(pod.weight for pod in pods)
    if not total or not weights:
        return 0.0
    return max(
        amount * weights / (total * pod.weight)
        for amount, pod in zip(amounts, pods, strict=True)
        if pod.weight
    )


class Had:
    """
    Which pods a key has been at, of the keys that moved.

    Attributes:
        missed: Keys, by number, and the pods that they came to and had never been at, by identity.
    """

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._numbers: dict[int, int] = {}
        self._seen: set[int] = set()
        self._missed = array("q")

    @property
    def missed(self) -> set[tuple[int, int]]:
        pods = {number: pod for pod, number in self._numbers.items()}
        return {(each % self._keys, pods[each // self._keys]) for each in self._missed}

    def misses(
        self, moved: Sequence[int], previous: Sequence[Endpoint], picks: Sequence[Endpoint]
    ) -> Sequence[int]:
        """
        Return which of the keys that *moved* are at a pod that never had them.
        """
        seen, number = self._seen, self._number
        missed = array("q")
        for key in moved:
            seen.add(number(previous[key]) * self._keys + key)
            here = number(picks[key]) * self._keys + key
            if here not in seen:
                seen.add(here)
                self._missed.append(here)
                missed.append(key)
        return missed

    def _number(self, pod: Endpoint) -> int:
        # By identity, which is stable as the plan holds them all; to hash an endpoint takes longer.
        return self._numbers.setdefault(id(pod), len(self._numbers))


def _picks(
    placement: Placement[Endpoint], traffic: Traffic, looked_up: Callable[[int, int], None]
) -> list[Endpoint]:
    picks: list[Endpoint] = []
    for start in range(0, len(traffic.keys), _CHUNK):
        part = placement.get_many(traffic.keys[start : start + _CHUNK])
        picks += part
        looked_up(len(part), len(placement.members))
    return picks


def _differing(before: Sequence[Endpoint], after: Sequence[Endpoint]) -> list[int]:
    """
    Return which keys have another pod.
    """
    return list(compress(range(len(after)), map(is_not, before, after)))


def _load(pods: tuple[Endpoint, ...], picks: Sequence[Endpoint], traffic: Traffic) -> Load:
    counts: Counter[int] = Counter()
    if traffic.counts is None:
        counts.update(map(id, picks))
    else:
        for pod, count in zip(map(id, picks), traffic.counts, strict=True):
            counts[pod] += count
    requests = dict.fromkeys(map(id, pods), 0.0)
    for pod, share in zip(map(id, picks), traffic.shares, strict=True):
        requests[pod] += share
    keys = tuple(counts[id(pod)] for pod in pods)
    shares = tuple(requests[id(pod)] for pod in pods)
    return Load(keys, shares, busiest(keys, pods), busiest(shares, pods))


def _least(before: Mapping[int, int], after: Mapping[int, int]) -> int:
    return sum(max(0, count - before.get(pod, 0)) for pod, count in after.items())
