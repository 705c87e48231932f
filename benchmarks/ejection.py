"""
What ejection is worth: requests that fail, tries a request, and keys that go elsewhere for nothing.

    python -m benchmarks.ejection

No sockets and no clock: pods that are dead, frozen, flaky or slow are simulated, event by event, and the
ring's own `knet.routing.ejection` decides. Each line is a minute of 200 requests a second for 2,000 keys,
of which each may try three pods.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from knet import EjectionPolicy, Endpoint
from knet.hashring import HashRing
from knet.routing.ejection import Ejections

__all__ = ["SCENES", "Result", "Scene", "lines", "play"]

SECONDS = 60.0
PER_SECOND = 200
KEYS = [f"user-{n}" for n in range(2_000)]
TRIES = 3
# Seconds: a request that is served, a connect that times out, a pod that is slow.
SERVED, TIMED_OUT, SLOW = 0.01, 0.5, 0.4

# What one exchange with a pod comes to: whether it is served, how much that speaks against the pod, and
# how long it takes.
Exchange = tuple[bool, int, float]
GOOD: Exchange = (True, 0, SERVED)


def healthy(_pod: int, _pods: int, _chance: random.Random) -> Exchange:
    return GOOD


def dead(part: float) -> Behaviour:
    """
    So many of the pods refuse every connection.
    """
    return lambda pod, pods, _: (False, 1, 0.001) if pod < pods * part else GOOD


def frozen(part: float) -> Behaviour:
    """
    So many accept no connection and refuse none.
    """
    return lambda pod, pods, _: (False, 2, TIMED_OUT) if pod < pods * part else GOOD


def flaky(pod: int, _pods: int, chance: random.Random) -> Exchange:
    """
    One pod refuses one connection in ten.
    """
    return (False, 1, 0.001) if pod == 0 and chance.random() < 0.1 else GOOD


def slow(pod: int, _pods: int, _chance: random.Random) -> Exchange:
    """
    One pod takes forty times as long.
    """
    return (True, 0, SLOW) if pod == 0 else GOOD


def lossy(_pod: int, _pods: int, chance: random.Random) -> Exchange:
    """
    One connect in a thousand times out, anywhere: a lost SYN.
    """
    return (False, 2, TIMED_OUT) if chance.random() < 0.001 else GOOD


Behaviour = Callable[[int, int, random.Random], Exchange]


@dataclass(frozen=True)
class Scene:
    name: str
    pods: int
    behaviour: Behaviour


SCENES = [
    *(
        Scene(f"{pods} pods, {text} {what}", pods, behaviour(part))
        for pods in (3, 10, 100)
        for what, behaviour in (("dead", dead), ("frozen", frozen))
        for text, part in (("a third", 1 / 3), ("two thirds", 2 / 3))
    ),
    *(
        Scene(f"10 pods, {name}", 10, behaviour)
        for name, behaviour in (
            ("one flaky", flaky),
            ("one slow", slow),
            ("a lost SYN now and then", lossy),
            ("all well", healthy),
        )
    ),
]


@dataclass
class Result:
    """
    Attributes:
        requests: How many there were.
        failed: How many of them no pod served.
        tries: At how many pods they were tried, in sum.
        waited: Seconds that they took, in sum.
        moved: How many were served elsewhere although their first pod was well then.
    """

    requests: int = 0
    failed: int = 0
    tries: int = 0
    waited: float = 0.0
    moved: int = 0


@dataclass(order=True)
class _Event:
    at: float
    number: int
    request: _Request = field(compare=False)


class _Request:
    def __init__(self, pods: list[Endpoint], first: Endpoint, began_at: float) -> None:
        self.pods = pods
        self.first = first
        self.began_at = began_at
        self.at = -1
        self.tried_at = 0.0
        self.is_trial = False
        self.outcome: Exchange | None = None


def play(scene: Scene, policy: EjectionPolicy, seed: int = 0) -> Result:
    """
    Live through a minute of *scene*.
    """
    chance = random.Random(seed)
    pods = [Endpoint(f"pod-{n}", f"10.0.0.{n}", 80) for n in range(scene.pods)]
    numbers = {pod: n for n, pod in enumerate(pods)}
    ring = HashRing(pods)
    ejections = Ejections(policy)
    ejections.follow(pods, 0.0)
    result, events, counter = Result(), list[_Event](), 0
    walks = {key: ring.get_n(key, scene.pods) for key in KEYS}

    def push(at: float, request: _Request) -> None:
        nonlocal counter
        counter += 1
        heapq.heappush(events, _Event(at, counter, request))

    def begin(request: _Request, now: float) -> None:
        request.at += 1
        pod = request.pods[request.at]
        result.tries += 1
        request.tried_at = now
        request.is_trial = ejections.begin(pod, now)
        request.outcome = scene.behaviour(numbers[pod], scene.pods, chance)
        push(now + request.outcome[2], request)

    arrival = 0.0
    while arrival < SECONDS or events:
        if arrival < SECONDS and (not events or arrival <= events[0].at):
            now, arrival = arrival, arrival + chance.expovariate(PER_SECOND)
            walk = walks[chance.choice(KEYS)]
            spared = [pod for pod in walk if ejections.is_spared(pod, now)]
            others = [pod for pod in walk if pod not in spared]
            request = _Request([*others, *spared][:TRIES], walk[0], now)
            result.requests += 1
            begin(request, now)
            continue
        event = heapq.heappop(events)
        now, request = event.at, event.request
        pod = request.pods[request.at]
        assert request.outcome is not None
        served, grade, _ = request.outcome
        if request.is_trial:
            ejections.end_trial(pod, request.tried_at)
        if served:
            ejections.succeed(pod, request.tried_at)
            well = scene.behaviour(numbers[request.first], scene.pods, random.Random(1))[0]
            result.moved += pod is not request.first and well and request.at == 0
        else:
            ejections.fail(pod, grade, request.tried_at, now)
            if request.at + 1 < len(request.pods):
                begin(request, now)
                continue
            result.failed += 1
        result.waited += now - request.began_at
    return result


def lines() -> Iterator[str]:
    """
    Show each scene, without ejection and with it.
    """
    yield (
        f"{'':32} {'failed':>16} {'tries a request':>17} {'ms a request':>16} {'moved for nothing':>18}"
    )
    for scene in SCENES:
        without = play(scene, EjectionPolicy(max_share=0))
        with_it = play(scene, EjectionPolicy())
        cells = [
            f"{without.failed / without.requests:7.2%} {with_it.failed / with_it.requests:8.2%}",
            f"{without.tries / without.requests:8.2f} {with_it.tries / with_it.requests:8.2f}",
            f"{1e3 * without.waited / without.requests:7.0f} {1e3 * with_it.waited / with_it.requests:8.0f}",
            f"{with_it.moved / with_it.requests:17.2%}",
        ]
        yield f"{scene.name:32} " + " ".join(cells)


if __name__ == "__main__":
    for line in lines():
        print(line)
