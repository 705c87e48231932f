"""
What a bound on load costs and brings: how often a key's first pod serves it, and how long requests take.

    python -m benchmarks.bounded

Pods that do four things at once and let the rest wait in line, keys by Zipf's law, and clients that each
know what they have in flight themselves. Simulated event by event; `knet.routing.load` decides. Times are
in units of one request alone, whose 99th percentile is 4.6.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from knet import Bound, Endpoint
from knet.hashring import HashRing
from knet.routing.load import Load

__all__ = ["POLICIES", "Outcome", "lines", "play"]

KEYS = 5_000
WORKERS = 4
REQUESTS = 20_000

# Chooses among the pods of a key, by what the client has in flight and who is ejected.
Choose = Callable[[Sequence[Endpoint], Load, Sequence[Endpoint], frozenset[Endpoint]], Endpoint]


def bounded(factor: float, slack: int = 1) -> Choose:
    bound = Bound(factor, slack)

    def choose(
        walk: Sequence[Endpoint], load: Load, pods: Sequence[Endpoint], out: frozenset[Endpoint]
    ) -> Endpoint:
        able = [pod for pod in walk if pod not in out]
        return load.room(bound, pods, out).first(able) or able[0]

    return choose


def least_of(n: int) -> Choose:
    def choose(
        walk: Sequence[Endpoint], load: Load, _: Sequence[Endpoint], out: frozenset[Endpoint]
    ) -> Endpoint:
        at = load.at
        return min([pod for pod in walk if pod not in out][:n], key=lambda pod: at.get(pod, 0))

    return choose


POLICIES: dict[str, Choose] = {
    "no bound": least_of(1),
    "1.1": bounded(1.1),
    "1.25": bounded(1.25),
    "1.5": bounded(1.5),
    "2": bounded(2),
    "1.5, slack 2": bounded(1.5, 2),
    "1.5, slack 4": bounded(1.5, 4),
    "1.5, slack 8": bounded(1.5, 8),
    "less of 2": least_of(2),
    "least of 3": least_of(3),
}


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        first: What part of the requests the first pod of their key served.
        busiest: What the busiest pod had in flight, on average, over the mean.
        p99: Of the times that requests took.
    """

    first: float
    busiest: float
    p99: float


def play(
    choose: Choose,
    *,
    pods: int,
    zipf: float,
    load: float,
    clients: int = 1,
    ejected: int = 0,
    seed: int = 0,
) -> Outcome:
    """
    Send some thousand requests.

    Args:
        choose: Which pod takes one.
        pods: How many there are.
        zipf: The exponent of the popularity of keys.
        load: What part of all that the pods can do is asked of them.
        clients: How many there are, who know nothing of each other.
        ejected: How many pods are out.
        seed: Of all chance.
    """
    chance = random.Random(seed)
    members = [Endpoint(f"pod-{n}", f"10.0.0.{n}", 80) for n in range(pods)]
    out = frozenset(members[:ejected])
    ring = HashRing(members)
    popularity = list(itertools.accumulate(1 / (rank + 1) ** zipf for rank in range(KEYS)))
    walks: dict[int, tuple[Endpoint, ...]] = {}
    loads = [Load() for _ in range(clients)]
    waiting: dict[Endpoint, list[tuple[float, int]]] = {pod: [] for pod in members}
    busy = dict.fromkeys(members, 0)
    done: list[tuple[float, int, Endpoint, float, int]] = []
    number = itertools.count()
    rate = load * WORKERS * (pods - ejected)
    now = next_at = 0.0
    sent = firsts = counted = 0
    taken: list[float] = []
    area = dict.fromkeys(members, 0.0)
    flying = dict.fromkeys(members, 0)
    changed = dict.fromkeys(members, 0.0)

    def count(pod: Endpoint, by: int) -> None:
        area[pod] += flying[pod] * (now - changed[pod])
        flying[pod] += by
        changed[pod] = now

    def start(pod: Endpoint, arrived: float, client: int) -> None:
        busy[pod] += 1
        heapq.heappush(done, (now + chance.expovariate(1), next(number), pod, arrived, client))

    while sent < REQUESTS or done:
        if sent < REQUESTS and (not done or next_at <= done[0][0]):
            now = next_at
            next_at += chance.expovariate(rate)
            sent += 1
            key = bisect.bisect(popularity, chance.random() * popularity[-1])
            if key not in walks:
                walks[key] = ring.get_n(f"key-{key}", pods)
            client = chance.randrange(clients)
            walk = walks[key]
            pod = choose(walk, loads[client], members, out)
            if sent > REQUESTS // 5:
                counted += 1
                firsts += pod is next(p for p in walk if p not in out)
            loads[client].begin(pod)
            count(pod, 1)
            if busy[pod] < WORKERS:
                start(pod, now, client)
            else:
                waiting[pod].append((now, client))
            continue
        now, _, pod, arrived, client = heapq.heappop(done)
        busy[pod] -= 1
        count(pod, -1)
        loads[client].end(pod)
        if sent > REQUESTS // 5:
            taken.append(now - arrived)
        if waiting[pod]:
            start(pod, *waiting[pod].pop(0))
    able = [pod for pod in members if pod not in out]
    mean = fmean(area[pod] for pod in able) or 1.0
    taken.sort()
    return Outcome(firsts / counted, max(area.values()) / mean, taken[int(0.99 * len(taken))])


def lines() -> Iterator[str]:
    """
    Show one client by load, and then many clients.
    """
    head = "".join(f"{name:>17}" for name in POLICIES)
    yield f"{'':28}{head}"
    yield f"{'share at the first pod, busiest over mean, 99th percentile':28}"
    worlds: list[tuple[str, dict[str, float]]] = [
        (f"{pods} pods, Zipf {zipf}, load {load}", {"pods": pods, "zipf": zipf, "load": load})
        for pods, zipf, load in (
            (10, 1.0, 0.5),
            (10, 1.0, 0.8),
            (10, 1.2, 0.8),
            (100, 1.0, 0.5),
            (100, 1.0, 0.8),
        )
    ]
    worlds += [
        (
            f"{clients} clients, {pods} pods",
            {"pods": pods, "zipf": 1.0, "load": 0.65, "clients": clients},
        )
        for clients, pods in ((5, 10), (20, 10), (20, 100), (100, 100))
    ]
    worlds.append(("10 pods, 3 ejected", {"pods": 10, "zipf": 1.0, "load": 0.8, "ejected": 3}))
    for name, world in worlds:
        cells = []
        for choose in POLICIES.values():
            o = play(choose, **world)  # type: ignore[arg-type]
            cells.append(f"{o.first:7.0%}{o.busiest:5.1f}{o.p99:5.0f}")
        yield f"{name:28}" + "".join(cells)


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
