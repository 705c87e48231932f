"""
What a ring remembers of its changes, and what it tells of its requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

import knet.blocking
from knet import Endpoint, HashRing, RefreshPolicy, Ring, RingClosed, RingNotReady, Snapshot
from knet.hashring import Maglev, Rendezvous
from knet.hashring.steps import exhaust
from knet.ring.history import MOST_CHANGES
from tests.fakes import FakeResolver, endpoints
from tests.virtual_time import anyio_backend  # noqa: F401 - shadows the fixture in real time

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

PODS = endpoints(6)
QUICK = RefreshPolicy(jitter=0, confirm=1)
WITHIN = 30.0


@contextlib.asynccontextmanager
async def ring_and_resolver(**options: Any) -> AsyncIterator[tuple[Ring, FakeResolver]]:
    resolver = FakeResolver(*PODS[:3])
    async with Ring("web.prod", resolver=resolver, refresh=QUICK, **options) as ring:
        yield ring, resolver


async def to(ring: Ring, resolver: FakeResolver, *pods: Endpoint) -> None:
    """
    Let these be the pods, and wait until what moved is counted.
    """
    resolver.answer(*pods)
    await ring.refresh()
    await counted(ring)


async def counted(ring: Ring) -> None:
    """
    Return once it is known how much each change has moved.
    """
    with anyio.fail_after(WITHIN):
        while any(change.moved is None for change in ring.history()):
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("placement", [HashRing, Rendezvous, Maglev])
async def test_changes_are_remembered_latest_first(
    placement: Callable[..., Any],
) -> None:
    """
    Who joined, who left, how much moved, and how long ago.
    """
    async with ring_and_resolver(placement=placement) as (ring, resolver):
        assert ring.history() == ()
        assert ring.previous is None
        first = ring.snapshot

        await to(ring, resolver, *PODS[:4])
        second = ring.snapshot
        await anyio.sleep(2)
        await to(ring, resolver, *PODS[1:4])

        left, joined = ring.history()
        assert (joined.added, joined.removed) == ((PODS[3],), ())
        assert (left.added, left.removed) == ((), (PODS[0],))
        assert (joined.generation, left.generation) == (2, 3)
        near = 0.03 if placement is Rendezvous else 0.0
        assert joined.moved == pytest.approx(first.diff(second).moved, abs=near)
        assert left.moved == pytest.approx(second.diff(ring.snapshot).moved, abs=near)
        assert joined.age - left.age >= 2
        assert ring.previous is second


async def test_only_the_last_changes_are_kept_and_no_snapshots() -> None:
    async with ring_and_resolver() as (ring, resolver):
        pods = endpoints(MOST_CHANGES + 6)
        for number in range(MOST_CHANGES + 2):
            await to(ring, resolver, *pods[: 4 + number])

        history = ring.history()
        assert len(history) == MOST_CHANGES
        assert history[0].generation == ring.snapshot.generation


async def test_each_endpoint_has_an_age() -> None:
    """
    Since the start, or since it joined; who came back and who moved has come anew.
    """
    async with ring_and_resolver() as (ring, resolver):
        await anyio.sleep(10)
        await to(ring, resolver, *PODS[:4])
        await anyio.sleep(5)
        ages = ring.ages()
        assert tuple(ages) == tuple(pod.name for pod in ring.snapshot.endpoints)
        first, *_, last = (int(age) for age in ages.values())
        assert first - last >= 9
        assert 5 <= last < 9

        elsewhere = replace(PODS[0], address="10.9.9.9")
        await to(ring, resolver, elsewhere, *PODS[1:3])
        await anyio.sleep(1)
        await to(ring, resolver, elsewhere, *PODS[1:4])
        moved, stayed, _, back = ring.ages().values()
        assert back < 1 <= moved < 5
        assert stayed > 15
    with pytest.raises(RingClosed):
        ring.ages()


async def test_changes_outlive_the_ring_and_the_snapshot_before_does_not() -> None:
    """
    What was not yet counted at the end stays uncounted.
    """
    async with ring_and_resolver() as (ring, resolver):
        await to(ring, resolver, *PODS[:4])
        resolver.answer(*PODS[:5])
        await ring.refresh()
    assert [change.added for change in ring.history()] == [(PODS[4],), (PODS[3],)]
    assert ring.previous is None
    before = ring.history()[0].moved
    for _ in range(100):
        await anyio.lowlevel.checkpoint()
    assert ring.history()[0].moved == before


async def test_a_ring_that_never_started_has_no_history() -> None:
    ring = Ring.static(PODS)

    assert ring.history() == ()
    assert ring.previous is None
    assert ring.in_flight == {}


class Odd(HashRing[Endpoint]):
    """
    A placement that fails when it is asked for the owner of a hash.
    """

    __slots__ = ()

    def get_hash(self, h64: int) -> Endpoint:
        raise ValueError("odd")


async def test_a_placement_that_fails_is_not_asked_how_much_has_moved() -> None:
    """
    What moves without it is what has to, by weights.
    """
    resolver = FakeResolver(*PODS[:3])
    async with Ring("web.prod", resolver=resolver, refresh=QUICK, placement=Odd) as ring:
        for count in (4, 5):
            resolver.answer(*PODS[:count])
            await ring.refresh()
            await counted(ring)
        assert [change.moved for change in ring.history()] == [1 / 5, 1 / 4]
        assert ring.state == "fresh"


async def test_what_is_in_flight_is_told_by_endpoint() -> None:
    async with ring_and_resolver() as (ring, _):
        async with ring.acquire("a") as pod, ring.acquire("a", bound=None) as again:
            assert again == pod
            assert ring.in_flight == {pod: 2}
            assert ring.stats().in_flight == 2
        assert ring.in_flight == {}


def test_the_blocking_ring_tells_the_same() -> None:
    with knet.blocking.Ring("web.prod", resolver=FakeResolver(*PODS[:3])) as ring:
        with ring.acquire("a") as pod:
            assert ring.in_flight == {pod: 1}
        assert ring.history() == ()
        assert ring.previous is None
    with pytest.raises((RingNotReady, RingClosed)):
        ring.history()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("placement", [HashRing, Rendezvous, Maglev])
def test_steps_give_what_one_go_gives(placement: Callable[..., Any]) -> None:
    """
    `sharing` is `share`, and `moving` is `moved`; those with a table take many steps.
    """
    many = [Endpoint(f"pod-{n}", f"10.0.{n // 250}.{n % 250}", 80) for n in range(600)]
    before = Snapshot(placement(many))
    after = Snapshot(placement([*many[1:], Endpoint("new", "10.9.9.9", 80)]))

    assert exhaust(before.sharing()) == before.share()
    assert exhaust(before.diff(after).moving()) == before.diff(after).moved > 0
    assert sum(1 for _ in before.diff(after).moving()) > 10
    assert exhaust(Snapshot(placement([])).sharing()) == {}
