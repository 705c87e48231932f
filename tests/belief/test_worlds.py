"""
What a ring promises of worlds in which answers contradict each other, lived through many times.

`python -m tests.belief.worlds` shows what comes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

import pytest

from knet import RefreshPolicy
from tests.belief.worlds import WORLDS, lives

POLICY = RefreshPolicy()
# Seconds, by the docstring of `RefreshPolicy`: until a new pod has keys, and a dead one has none.
JOINED = 5.5
GONE = 7.0
# What is added where nothing but older answers must come for a minute, or where one of them may be
# heard by chance for as long.
MINUTE = 60.0


@dataclass(frozen=True)
class Promise:
    """
    Attributes:
        snapshots: At most.
        gone: Seconds until the dead one has left, at most.
        joined: Seconds until the new one is there, at most.
        usually: Snapshots in the median.
        dropped: Pods that left and were there, a life.
    """

    snapshots: int = 2
    gone: float = GONE
    joined: float = JOINED
    usually: int = 2
    dropped: float = 0.0


def cached(ttl: int) -> Promise:
    return Promise(gone=ttl + GONE, joined=ttl + JOINED)


PROMISES = {
    "live, TTL 5": Promise(),
    "one cache, TTL 30": cached(30),
    "two caches, TTL 30": cached(30),
    "four caches, TTL 30": cached(30),
    "two caches, TTL 300": cached(300),
    "four caches, TTL 300": cached(300),
    "two caches, TTL 3600": cached(3600),
    "TTL 30 beside live 5": Promise(4, 30 + GONE, 30 + JOINED, dropped=0.1),
    "TTL 300 beside 30": Promise(2, 30 + GONE + MINUTE, 30 + JOINED + MINUTE),
    "TTL 3600 beside live 5": Promise(2, GONE + MINUTE, JOINED + MINUTE),
    "frozen replica, TTL 30": Promise(8, math.inf, JOINED + MINUTE, 6, 1),
    "frozen replica of three": Promise(8, math.inf, JOINED + MINUTE, 6, 1),
    "frozen replica, addresses": Promise(1, JOINED + MINUTE, JOINED + MINUTE, 1),
    "a lie of weeks, then live": Promise(),
    "a lie of an hour, then live": Promise(),
    "a lie, then one is gone": Promise(1, MINUTE + GONE, usually=1),
    "a lie of an hour, one gone": Promise(1, MINUTE + 2 * JOINED, usually=1),
    "live 5 beside one that makes up": Promise(8, JOINED, JOINED + MINUTE, 6, 2),
    "8 of 20 at random": Promise(2, 240, JOINED + MINUTE),
    "a pod flaps": Promise(2, math.inf),
}


@pytest.mark.weather("Replicas of CoreDNS answer old and new in turns")
@pytest.mark.weather("A cache beside a server that answers live")
@pytest.mark.weather("A replica of CoreDNS has lost its watch")
@pytest.mark.weather("A pod flaps")
@pytest.mark.weather("A server promises a longer life than it keeps")
@pytest.mark.weather("A server names some of its pods at random")
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", WORLDS)
def test_a_ring_keeps_its_promises_in_every_world(name: str) -> None:
    promise = PROMISES[name]
    lived = lives(WORLDS[name], 20)

    assert max(o.snapshots for o in lived) <= promise.snapshots
    assert median(o.snapshots for o in lived) <= promise.usually
    assert sum(o.dropped for o in lived) / len(lived) <= promise.dropped
    assert max(o.gone_after for o in lived) <= promise.gone
    assert max(o.joined_after for o in lived) <= promise.joined
    # And asks nobody more often for all that than for two answers at each change.
    assert max(o.queries for o in lived) <= 1.3 / POLICY.interval
