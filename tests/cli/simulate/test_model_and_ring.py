"""
The model of DNS beside rings that really ask, on a virtual clock.
"""

from __future__ import annotations

import math
import random
from statistics import fmean

import anyio
import pytest

from knet import Answer, Endpoint, RefreshPolicy, Ring
from knet.cli.simulate.model import TTLS, first_after
from tests.virtual_time import anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

A, B, C = (Endpoint(f"10.0.0.{n}", f"10.0.0.{n}", 80) for n in range(1, 4))
RINGS = 60


class CachedDNS:
    """
    A DNS server whose cache is filled anew as soon as an entry expires: at *expiry*, and every *ttl*.

    From *expiry* on there is another pod, and one pod fewer.
    """

    def __init__(self, expiry: float, ttl: int) -> None:
        self._expiry = expiry
        self._ttl = ttl

    async def resolve(self, service: str) -> Answer:
        now = anyio.current_time()
        left = max(1, math.ceil((self._expiry - now) % self._ttl))
        return Answer((A, B) if now < self._expiry else (A, C), ttl=float(left))


async def learn(expiry: float, ttl: int, begins: float) -> tuple[float, float]:
    """
    Return how long after *expiry* a ring that began at *begins* had the new pod, and had lost the old one.
    """
    await anyio.sleep_until(begins)
    async with Ring("web", resolver=CachedDNS(expiry, ttl)) as ring:
        joined = 0.0
        async for change in ring.changes():
            now = anyio.current_time()
            joined = now if C in change.added else joined
            if B in change.removed:
                return joined - expiry, now - expiry
    raise AssertionError("the ring has ended")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("ttl", TTLS)
async def test_rings_hear_of_a_change_as_the_model_says(ttl: int) -> None:
    """
    The mean of some rings and that of the model are within a quarter of a second, and a pod that is gone is
    dropped with the answer after that.
    """
    chance = random.Random(1)
    start = anyio.current_time()
    found: list[tuple[float, float]] = []

    async def one() -> None:
        expiry = start + 3 * ttl + 10 + chance.uniform(0, ttl)
        found.append(await learn(expiry, ttl, start + chance.uniform(0, 5)))

    async with anyio.create_task_group() as tasks:
        for _ in range(RINGS):
            tasks.start_soon(one)

    policy = RefreshPolicy()
    assert len(found) == RINGS
    joins = [join for join, _ in found]
    modelled = [first_after(0.0, ttl, chance) for _ in range(2_000)]
    assert fmean(joins) == pytest.approx(fmean(modelled), abs=0.25)
    assert max(joins) <= policy.interval * (1 + policy.jitter)
    for join, leave in found:
        assert policy.shortest <= leave - join <= policy.shortest * (1 + policy.jitter) + 1e-6
