"""
Bounded load: what `ring.acquire` does with the requests of one client that has many in flight.

The ring itself decides. Requests last for an exponential time, so that any one of them is as likely as
the others to end next; no clock is needed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import accumulate

from anyio.lowlevel import checkpoint

from knet import Endpoint, Ring
from knet.cli.simulate.moves import Make, busiest
from knet.cli.simulate.traffic import Traffic

__all__ = ["MOST_IN_FLIGHT", "Bounded", "play", "requests_of"]

MOST_IN_FLIGHT = 100_000

# Requests until which nothing is counted, and that are counted, for each that is in flight; and at least.
_WARM_UP = 3
_COUNTED = 10
_AT_LEAST = 20_000

# Looks at who has how much in flight.
_LOOKS = 500

Place = AbstractAsyncContextManager[Endpoint]

# Requests between two moments at which Ctrl-C is heard.
_TURN = 512


@dataclass(frozen=True, slots=True)
class Bounded:
    """
    What a bound did.

    Attributes:
        placement: Its name.
        own: What part of the requests the pod of their key served.
        requests: Of the pod that served most for its weight: over its fair share.
        in_flight: Of the pod that had most in flight for its weight, on average: over its fair share.
    """

    placement: str
    own: float
    requests: float
    in_flight: float


def requests_of(in_flight: int) -> int:
    """
    Return how many requests `play` sends.
    """
    return _WARM_UP * in_flight + max(_AT_LEAST, _COUNTED * in_flight)


async def play(
    pods: tuple[Endpoint, ...],
    traffic: Traffic,
    name: str,
    make: Make,
    *,
    bound: float,
    in_flight: int,
    seed: int,
    sent: Callable[[int], None],
) -> Bounded:
    """
    Send requests of one client, of which always *in_flight* are under way, and count who serves them.

    Args:
        pods: Of the service.
        traffic: What requests are drawn from.
        name: That of the placement.
        make: It.
        bound: As `Ring.acquire` has it.
        in_flight: How many, at least 1.
        seed: What they are drawn by.
        sent: Is told how many were sent, now and then.
    """
    chance = random.Random(seed)
    total = requests_of(in_flight)
    warm = _WARM_UP * in_flight
    drawn = chance.choices(
        range(len(traffic.keys)), cum_weights=list(accumulate(traffic.shares)), k=total
    )
    served, own = Counter[str](), 0
    peaks: list[float] = []
    at = dict.fromkeys((pod.name for pod in pods), 0)
    async with Ring.static(pods, service="simulation", placement=make) as ring:
        under_way: list[tuple[Place, Endpoint]] = []
        for number, index in enumerate(drawn):
            if number % _TURN == 0:
                sent(min(_TURN, total - number))
                await checkpoint()
            if len(under_way) == in_flight:
                ended = chance.randrange(in_flight)
                under_way[ended], under_way[-1] = under_way[-1], under_way[ended]
                done, pod = under_way.pop()
                await done.__aexit__(None, None, None)
                at[pod.name] -= 1
            key = traffic.keys[index]
            place: Place = ring.acquire(key, bound=bound)
            pod = await place.__aenter__()
            under_way.append((place, pod))
            at[pod.name] += 1
            if number >= warm:
                served[pod.name] += 1
                own += pod.name == ring.get_nowait(key).name
                if number % max(1, (total - warm) // _LOOKS) == 0:
                    peaks.append(busiest([at[each.name] for each in pods], pods))
        for done, _ in under_way:
            await done.__aexit__(None, None, None)
    return Bounded(
        placement=name,
        own=own / (total - warm),
        requests=busiest([served[pod.name] for pod in pods], pods),
        in_flight=sum(peaks) / len(peaks),
    )
