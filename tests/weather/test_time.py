"""
Weather that is about time, on a virtual clock: how long a lie lasts, how slow a server is, and how
many rings there are.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter

import anyio
import pytest

from knet import (
    Answer,
    Endpoint,
    NameNotFound,
    NoData,
    RefreshPolicy,
    ResolveError,
    Ring,
    ServerFailure,
)
from knet.hashring import HashRing
from tests.fakes import A, B, C, FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time
from tests.weather.rings import picks, traffic

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]
weather = pytest.mark.weather

REAL = {pod.address for pod in (A, B, C)}
STEADY = RefreshPolicy(jitter=0)
NOTHING = [NameNotFound("NXDOMAIN"), NoData("NODATA"), Answer([])]


def ring_of(resolver: FakeResolver, refresh: RefreshPolicy = STEADY) -> Ring:
    return Ring("web.prod", resolver=resolver, refresh=refresh)


@weather("NXDOMAIN or an empty answer")
@pytest.mark.parametrize("nothing", NOTHING, ids=["NXDOMAIN", "NODATA", "empty"])
async def test_a_blip_of_nothing_below_the_hold_is_not_felt(
    nothing: Answer | ResolveError,
) -> None:
    """
    It is asked about every second, and 29 s of it change nothing.
    """
    resolver = FakeResolver(A, B, C)
    async with ring_of(resolver) as ring, traffic(ring, REAL, pause=0.1):
        before = ring.snapshot
        await anyio.sleep(4.5)
        resolver.outcome = nothing
        asked = len(resolver.asked)
        await anyio.sleep(29)
        assert len(resolver.asked) - asked == pytest.approx(29, abs=1)
        assert ring.state == "stale"

        resolver.answer(A, B, C)
        await anyio.sleep(1.1)
        assert ring.stats().state == "fresh"
        assert ring.snapshot is before


@pytest.mark.long
@weather("NXDOMAIN or an empty answer")
@pytest.mark.parametrize("nothing", NOTHING, ids=["NXDOMAIN", "NODATA", "empty"])
async def test_a_hold_without_end_never_empties(nothing: Answer | ResolveError) -> None:
    """
    `empty_hold=math.inf`: an hour of it changes nothing.
    """
    resolver = FakeResolver(A, B, C)
    forever = RefreshPolicy(empty_hold=math.inf)
    async with ring_of(resolver, forever) as ring, traffic(ring, REAL, pause=10):
        before = ring.snapshot
        resolver.outcome = nothing
        await anyio.sleep(3600)

        assert ring.snapshot is before
        assert ring.state == "stale"


@weather("SERVFAIL")
async def test_an_outage_of_hours_is_asked_about_less_and_less() -> None:
    """
    First within half a second, in the end every 15 to 30 s; and its end is noticed within that.
    """
    resolver = FakeResolver(A, B, C)
    async with ring_of(resolver, RefreshPolicy()) as ring, traffic(ring, REAL, pause=60):
        before = ring.snapshot
        resolver.outcome = ServerFailure("SERVFAIL")
        await anyio.sleep(21_600)
        asked = resolver.asked[1:]
        pauses = [later - sooner for sooner, later in itertools.pairwise(asked)]

        assert 0.25 <= pauses[0] <= 0.5
        assert all(15 <= pause <= 30 for pause in pauses[6:])
        assert ring.snapshot is before
        assert ring.stats().consecutive_failures == len(asked)

        resolver.answer(A, B)
        await anyio.sleep(31.2)
        assert ring.snapshot.endpoints == (A, B)


@weather("Replicas of CoreDNS answer old and new in turns")
async def test_a_ring_believes_the_youngest_cache() -> None:
    """
    One cache still names the old pod, another already the new one: that is one change, not twenty.
    """
    began = anyio.current_time()
    turns = 0

    def in_turns() -> Answer:
        nonlocal turns
        turns += 1
        left = 30 - (anyio.current_time() - began)
        if turns % 2 and left > 0:
            return Answer([A, B], ttl=float(int(left)))
        return (
            Answer([A, C], ttl=30) if anyio.current_time() > began + 10 else Answer([A, B], ttl=30)
        )

    resolver = FakeResolver()
    resolver.outcome = in_turns
    quick = RefreshPolicy(interval=0.5, min_interval=0.5)
    async with ring_of(resolver, quick) as ring, traffic(ring, REAL, pause=0.1):
        await anyio.sleep(60)

        assert ring.snapshot.endpoints == (A, C)
        assert ring.stats().generation <= 3


@weather("The server is slow")
@pytest.mark.parametrize("delay", [0.9, 4.0, 60.0])
async def test_a_slow_server_is_asked_once_at_a_time(delay: float) -> None:
    """
    The next lookup is an interval after the end of the last, however many callers are impatient.
    """
    resolver = FakeResolver(A, B)
    async with ring_of(resolver) as ring, traffic(ring, REAL, pause=0.5):
        resolver.delay = delay
        resolver.answer(A, B, C)
        await anyio.sleep(600)

        gaps = [b - a for a, b in zip(resolver.asked[1:], resolver.asked[2:], strict=False)]
        assert gaps
        assert gaps == pytest.approx([delay + 5] * len(gaps))
        assert resolver.at_once == 1
        assert ring.snapshot.endpoints == (A, B, C)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ring.refresh)
        assert resolver.at_once == 1


@weather("A TTL of 0, a huge or a negative one")
async def test_a_huge_ttl_is_forgotten_within_a_minute() -> None:
    """
    An answer that claims to be good for a week makes later ones look old, but not for long.
    """
    resolver = FakeResolver(A, B, ttl=604_800)
    async with ring_of(resolver) as ring, traffic(ring, REAL, pause=0.5):
        resolver.answer(A, C, ttl=5)
        await anyio.sleep(62)

        assert ring.snapshot.endpoints == (A, C)


@weather("A pod refuses your connection")
async def test_a_thousand_refused_connections_are_one_lookup_a_second() -> None:
    """
    All that ask at the same time share one, and the dead pod is gone with the second.
    """
    resolver = FakeResolver(A, B, C)
    async with ring_of(resolver) as ring, traffic(ring, REAL, pause=0.1):
        before = picks(ring)
        await anyio.sleep(2)
        resolver.answer(A, B)
        asked_at = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(ring.refresh)
        assert len(resolver.asked) == 2
        assert picks(ring) == before

        await ring.refresh()
        assert ring.snapshot.endpoints == (A, B)
        assert anyio.current_time() - asked_at == pytest.approx(1)
        assert len(resolver.asked) == 3


@pytest.mark.long
@weather("Thousands of rings in one process")
async def test_ten_thousand_rings_do_not_keep_step() -> None:
    """
    All started at once, they never ask at once again: jitter keeps them apart.
    """
    pods = endpoints(5)
    small = functools.partial(HashRing[Endpoint], points=1, slots=8)
    resolver = FakeResolver(*pods)
    resolver.delay = 0.001
    rings = [
        Ring(f"web-{n}.prod", resolver=resolver, placement=small, refresh=RefreshPolicy())
        for n in range(10_000)
    ]
    async with anyio.create_task_group() as tasks:
        for ring in rings:
            tasks.start_soon(ring.run)
        await anyio.sleep(1)
        first, resolver.asked = resolver.asked, []
        assert len(first) == 10_000

        await anyio.sleep(5)
        per_centisecond = Counter(int(time * 100) for time in resolver.asked)
        assert len(resolver.asked) == 10_000
        assert max(per_centisecond.values()) < 500

        assert {ring.state for ring in rings} == {"fresh"}
        assert {ring.get_nowait("user-42") for ring in rings} <= set(pods)
        tasks.cancel_scope.cancel()
    assert {ring.state for ring in rings} == {"closed"}
