"""
Every placement as the placement of a `Ring`, by its class and by a `partial` of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from knet import Endpoint, Ring, StaticResolver
from tests.hashring.placements_under_test import PLACEMENTS, UnderTest
from tests.hashring.tools import KEYS

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "tested",
        [tested for tested in PLACEMENTS if "ids" not in tested.name],
        ids=lambda tested: tested.name,
    ),
]

PODS = [Endpoint(f"web-{number}", f"10.0.0.{number}", 8080) for number in (3, 1, 2, 5, 4)]


@pytest.mark.sampled(4)
async def test_a_ring_picks_as_its_placement_does(tested: UnderTest) -> None:
    """
    Given the endpoints sorted by name, in whatever order they were resolved.
    """
    kind: Callable[..., Any] = type(tested.make([]))
    by_name = sorted(PODS, key=lambda pod: pod.name)
    placements: list[Callable[..., Any]] = [kind, partial(kind, name=str), tested.make]
    for placement in placements:
        alone = placement(by_name)

        async with Ring.static(PODS, placement=placement) as ring:
            assert ring.snapshot.placement == alone
            assert [await ring.get(key) for key in KEYS[:50]] == alone.get_many(KEYS[:50])
            assert await ring.get(b"alice") == alone.get("alice")
            assert await ring.get_n("alice", 3) == alone.get_n("alice", 3)
            assert await ring.get_many(KEYS) == alone.get_many(KEYS)
            assert ring.snapshot.share() == alone.share()
            assert pickle.loads(pickle.dumps(ring.snapshot)).get("alice") == alone.get("alice")


@pytest.mark.sampled(4)
async def test_a_ring_follows_its_endpoints(tested: UnderTest) -> None:
    """
    Rebuilt in slices, with the options kept, and compared with what was before.
    """
    resolver = StaticResolver(PODS[:4])
    async with Ring("web", resolver=resolver, placement=tested.make) as ring:
        before = ring.snapshot
        resolver.set(PODS)
        await ring.refresh()
        change = before.diff(ring.snapshot)

        assert change.added == (PODS[4],)
        assert ring.snapshot.placement == tested.make(sorted(PODS, key=lambda pod: pod.name))
        # A fifth, more or less: the placements under test are small, HAProxy's has 80 points.
        assert 0.05 < change.moved < 0.5
        assert change.gained(PODS[4]).share == pytest.approx(
            ring.snapshot.share()[PODS[4]], abs=0.03
        )
