"""
`knet.Ring` against a real CoreDNS that loses the Kubernetes API, under traffic.

A client cannot see that: CoreDNS goes on with what it knew, as if it were true. Only one that starts
without the API says SERVFAIL. Once the API is back CoreDNS takes its time, some seconds after a
short outage and up to a minute after a long one.
"""

from __future__ import annotations

import anyio
import pytest

from tests.waiting import until_state

from .coredns import CoreDNS
from .fake_kube_api import FakeKubeAPI, Port
from .rings import (
    WEB,
    addresses,
    asked,
    deployment,
    picks,
    picks_of_addresses,
    ring_at,
    shown,
    until,
)
from .traffic import traffic

pytestmark = pytest.mark.anyio

# Seconds; CoreDNS may wait for one, doubled at each failure and by chance doubled once more.
API_BACK = 90.0


async def test_a_dead_api_is_not_felt_and_what_it_missed_is_followed_when_it_is_back(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Meanwhile the ring is as fresh as its DNS server makes believe.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    old, new = deployment(4), deployment(4, start=3)
    web.set_pods(old)
    coredns.wait_for(WEB, addresses(old))

    async with ring_at(coredns, port=8080) as ring:
        async with traffic(ring, old) as flow:
            kube_api.stop()
            web.set_pods(new)
            await asked(ring, 2)
            assert ring.snapshot.generation == 1

            flow.announce(new)
            kube_api.start()
            await until(lambda: shown(ring), addresses(new), within=API_BACK)

        assert flow.states == ["fresh"]
        assert flow.fewest == 4
        assert [e.address for e in picks(ring)] == picks_of_addresses(new)


async def test_a_dns_server_that_starts_without_its_api_harms_no_ring(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    It answers SERVFAIL: a ring that runs is stale and serves, one that starts tries again, and both
    are fresh once the server has seen the API.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    old, new = deployment(3), deployment(4)
    web.set_pods(old)
    coredns.wait_for(WEB, addresses(old))
    starting = ring_at(coredns, port=8080, start_timeout=API_BACK)

    async with ring_at(coredns, port=8080) as ring:
        async with traffic(ring, old) as flow, anyio.create_task_group() as tasks:
            coredns.stop()
            kube_api.stop()
            web.set_pods(new)
            coredns.start(synced=False)
            tasks.start_soon(starting.start)
            await until(lambda: "servfail" in ring.stats().failures, True)
            await until(lambda: "servfail" in starting.stats().failures, True)
            assert ring.state == "stale"
            assert starting.state == "starting"
            assert ring.snapshot.generation == 1

            flow.announce(new)
            kube_api.start()
            await until(lambda: shown(ring), addresses(new), within=API_BACK)
            await until_state(starting, "fresh", within=API_BACK)

        assert flow.states == ["fresh", "stale", "fresh"]
        assert picks(starting) == picks(ring)
        await starting.aclose()
