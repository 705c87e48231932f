"""
When clients hear of a change, and what it costs to ask: a model, and no measurement.

By DNS: a server's cache keeps its entry for the TTL, and somebody asks as soon as it has run out. Each client
asks one of the servers as `RefreshPolicy` does by default: after what is left of the TTL, which is told in
whole seconds, at least `min_interval` and at most `interval`, and up to `jitter` longer. A pod that
is new is believed at once, one that is missing after `confirm` answers. When the change comes, caches
and clients are anywhere in their rounds.

By EndpointSlices: the API server tells after as long as was seen on a real control plane, and
sends its event to one client after the other, at `API_RATE`. Where several pods come or go, a client takes what
follows within a moment together, and waits for it.

Bytes are of messages, without what TCP, UDP and IP put around them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles

from knet import RefreshPolicy

__all__ = [
    "API_RATE",
    "MOST_A",
    "MOST_CLIENTS",
    "MOST_SRV",
    "TTLS",
    "Cost",
    "News",
    "Range",
    "costs",
    "news",
]

MOST_CLIENTS = 1_000_000

# Seconds that CoreDNS tells by itself, and as kubeadm sets it up.
TTLS = (5, 30)

# Bytes a second that an API server sends: 1 Gbit/s.
API_RATE = 125_000_000

# Seconds from the status of a pod to a ring that is told: least, most, and in the middle; docs/kubernetes.md, on a real
# control plane.
_TOLD_JOIN = (0.023, 0.094, 0.040)
_TOLD_LEAVE = (0.019, 0.060, 0.044)
# What follows soon is told together by the source, and believed together by the ring.
_SETTLES = (0.05, 0.05)
# Seconds for which a pod is kept that is in no slice any more, without a word that it is not ready.
_KEPT = 1.0

# CoreDNS servers, each with a cache of its own; changes that are played, and clients that are drawn for each.
_SERVERS = 2
_CHANGES = 100
_CLIENTS = 100

# Bytes: `web.prod.svc.cluster.local` in a query; a query, and an answer without records, with EDNS; an A record
# whose name is a pointer, and one with the whole name; an SRV record with the address of its target.
_NAME = 28
_QUERY = 12 + _NAME + 4 + 11
_A_SHORT, _A_LONG, _SRV = 16, 14 + _NAME, 73
# What fits into an answer by UDP, as c-ares asks for it, and by TCP. CoreDNS compresses what does not fit.
_UDP, _TCP = 1232, 65_535
# Pods that CoreDNS gets into one answer by TCP, by address and by hostname.
MOST_A, MOST_SRV = 4_093, 896

# Bytes of an event of a slice, of one of its endpoints, and how many of them a slice has at most.
_SLICE, _ENDPOINT, _PER_SLICE = 1_385, 276, 100
# Events of a pod that comes: it is there, it is ready; and of one that goes: it is terminating, it is gone.
_EVENTS = 2


@dataclass(frozen=True, slots=True)
class Range:
    """
    Seconds, over many changes: the median, and between what 90 % of them lie.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class News:
    """
    How long after a change clients know of it.

    Attributes:
        source: Who tells them.
        join_half: Until half of them know a new pod.
        join_all: Until all of them do.
        leave_half: Until half of them have dropped one that is gone.
        leave_all: Until all of them have.
        join_latest: Until all of them know a new pod at the very latest, however unlucky they are.
        leave_latest: The same of one that is gone.
    """

    source: str
    join_half: Range
    join_all: Range
    leave_half: Range
    leave_all: Range
    join_latest: float
    leave_latest: float


@dataclass(frozen=True, slots=True)
class Cost:
    """
    What all clients cost together. A client is a process: its rings of one service share a lookup or a watch.

    Attributes:
        source: What they ask.
        queries: At the DNS of the cluster, each second.
        watches: At the API server.
        start: Bytes until all of them know all pods.
        steady: Bytes each second, while nothing changes.
        event: Bytes for one event, such as a pod that gets ready, told to all of them.
        change: Bytes for all events of the change; at most, since what comes together is told together.
    """

    source: str
    queries: float
    watches: int
    start: int
    steady: float
    event: int
    change: int


def news(clients: int, pods: int, *, alone: bool = True, seed: int = 0) -> tuple[News, ...]:
    """
    Return how soon *clients* know that one of *pods* came or went: by DNS for each of `TTLS`, and by slices.

    Args:
        clients: How many.
        pods: Of the service.
        alone: No other pod comes or goes meanwhile.
        seed: What is drawn by.
    """
    chance = random.Random(seed)
    told = [_by_dns(ttl, min(clients, _CLIENTS), chance) for ttl in TTLS]
    return *told, _by_slices(clients, pods, chance, alone=alone)


def costs(
    clients: int, pods: int, changed: int, *, hostnames: bool = False, seed: int = 0
) -> tuple[Cost, ...]:
    """
    Return what *clients* cost, by DNS for each of `TTLS`, and by slices.

    Args:
        clients: How many.
        pods: Of the service.
        changed: How many of them come or go.
        hostnames: They are asked for by SRV, for the names of a StatefulSet.
        seed: What is drawn by.
    """
    chance = random.Random(seed)
    queries, size = _lookup(pods, hostnames=hostnames)
    found = []
    for ttl in TTLS:
        rate = clients / fmean(_waits(ttl, 2_000, chance))
        found.append(
            Cost(
                source=f"DNS, TTL {ttl} s",
                queries=rate * queries,
                watches=0,
                start=clients * size,
                steady=rate * size,
                event=0,
                change=0,
            )
        )
    slices, rest = divmod(pods, _PER_SLICE)
    whole = slices * _event(_PER_SLICE) + (_event(rest) if rest else 0)
    event = clients * _event(min(pods, _PER_SLICE))
    told = Cost(
        source="EndpointSlices",
        queries=0.0,
        watches=clients,
        start=clients * whole,
        steady=0.0,
        event=event,
        change=_EVENTS * changed * event,
    )
    return *found, told


def _by_dns(ttl: int, clients: int, chance: random.Random) -> News:
    policy = RefreshPolicy()
    joins: list[list[float]] = []
    leaves: list[list[float]] = []
    for _ in range(_CHANGES):
        expiries = [chance.uniform(0, ttl) for _ in range(_SERVERS)]
        join, leave = [], []
        for _ in range(clients):
            now = first_after(chance.choice(expiries), ttl, chance)
            join.append(now)
            for _ in range(policy.confirm - 1):
                now += policy.shortest * (1 + policy.jitter * chance.random())
            leave.append(now)
        joins.append(join)
        leaves.append(leave)
    latest = ttl + policy.interval * (1 + policy.jitter)
    confirmed = latest + (policy.confirm - 1) * policy.shortest * (1 + policy.jitter)
    return _news(f"DNS, TTL {ttl} s", joins, leaves, (latest, confirmed))


def _by_slices(clients: int, pods: int, chance: random.Random, *, alone: bool) -> News:
    sending = clients * _event(min(pods, _PER_SLICE)) / API_RATE

    settles = () if alone else _SETTLES

    def drawn(low: float, high: float, mode: float) -> list[list[float]]:
        # The last one is among those that are drawn.
        turns = [n / max(1, min(clients, _CLIENTS) - 1) for n in range(min(clients, _CLIENTS))]
        return [
            [
                chance.triangular(low, high, mode)
                + sum(chance.uniform(0, settle) for settle in settles)
                + turn * sending
                for turn in turns
            ]
            for _ in range(_CHANGES)
        ]

    longest = sum(settles) + sending
    latest = _TOLD_JOIN[1] + longest, _TOLD_LEAVE[1] + _KEPT + longest
    return _news("EndpointSlices", drawn(*_TOLD_JOIN), drawn(*_TOLD_LEAVE), latest)


def _news(
    source: str,
    joins: Sequence[list[float]],
    leaves: Sequence[list[float]],
    latest: tuple[float, float],
) -> News:
    def over(values: Sequence[list[float]], of: Callable[[list[float]], float]) -> Range:
        found = [of(each) for each in values]
        cuts = quantiles(found, n=20)
        return Range(median(found), cuts[0], cuts[-1])

    return News(
        *(source, over(joins, median), over(joins, max), over(leaves, median), over(leaves, max)),
        *latest,
    )


def first_after(expiry: float, ttl: int, chance: random.Random) -> float:
    """
    Return when a client asks first once an entry has expired that expires at *expiry*, and every *ttl*.
    """
    policy = RefreshPolicy()
    # Begin early enough to have fallen into step with the cache.
    now = expiry - 2 * ttl - chance.uniform(policy.interval, 2 * policy.interval)
    while now < expiry:
        now += _wait(_left(now, expiry, ttl), policy, chance)
    return now


def _waits(ttl: int, count: int, chance: random.Random) -> list[float]:
    """
    Return how long a client waits between lookups, *count* times.
    """
    policy = RefreshPolicy()
    now, waits = chance.uniform(0, ttl), []
    for _ in range(count):
        waits.append(_wait(_left(now, 0.0, ttl), policy, chance))
        now += waits[-1]
    return waits


def _left(now: float, expiry: float, ttl: int) -> int:
    """
    Return the TTL that is told at *now*: in whole seconds, never 0.
    """
    return max(1, math.ceil((expiry - now) % ttl))


def _wait(left: int, policy: RefreshPolicy, chance: random.Random) -> float:
    wait = min(max(left, policy.shortest), policy.interval)
    return wait * (1 + policy.jitter * chance.random())


def _lookup(pods: int, *, hostnames: bool) -> tuple[int, int]:
    """
    Return how many queries a lookup is, and how many bytes with its answers: one by UDP, and where that is cut
    off another one by TCP.
    """
    short, long = (_SRV, _SRV) if hostnames else (_A_SHORT, _A_LONG)
    if _QUERY + short * pods <= _UDP:
        return 1, 2 * _QUERY + short * pods
    answer = _QUERY + long * pods
    if answer > _TCP:
        answer = _QUERY + short * min(pods, MOST_SRV if hostnames else MOST_A)
    return 2, 2 * _QUERY + _UDP + answer


def _event(endpoints: int) -> int:
    return _SLICE + _ENDPOINT * endpoints
