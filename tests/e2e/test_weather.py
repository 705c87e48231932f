"""
`knet.Ring` against a real CoreDNS while the pods change as controllers change them, under traffic.

In each of these tests requests go on all the time: none may fail, none may go to a pod that never
was, and no key may move without a cause; `Traffic` looks after that.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from knet import RefreshPolicy
from tests.waiting import until_state

from .coredns import CoreDNS
from .fake_kube_api import FakeKubeAPI, Port
from .rings import (
    HTTP_PORTS,
    QUICK,
    WEB,
    addresses,
    asked,
    deployment,
    picks,
    picks_of_addresses,
    ring_at,
    rolling_update,
    shown,
    stateful_set,
    until,
)
from .traffic import traffic

pytestmark = pytest.mark.anyio

# So often that a ring sees most steps of a controller.
OFTEN = RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, max_retry=0.2)

# So seldom that what a test takes back in the meantime has been in one answer only.
SELDOM = RefreshPolicy(interval=1.0, min_interval=1.0)


# --- a rolling update


@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_a_rolling_update_never_shrinks_a_ring_below_the_ready_pods(
    kube_api: FakeKubeAPI, coredns: CoreDNS, port: int | str
) -> None:
    """
    Of eight pods six are ready at each moment, and the ring never has fewer. In the end its picks
    are those of a ring that is new.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    old, new = deployment(8), deployment(8, start=101)
    web.set_pods(old)
    coredns.wait_for(WEB, addresses(old))

    async with ring_at(coredns, port=port, refresh=OFTEN) as ring:
        async with traffic(ring, old) as flow:
            for pods in rolling_update(old, new):
                flow.announce(pods)
                web.set_pods(pods)
                await asked(ring)
            await until(lambda: shown(ring), addresses(new))

        assert flow.fewest >= 6
        assert flow.states == ["fresh"]
        async with ring_at(coredns, port=port) as fresh:
            assert picks(ring) == picks(fresh)
            assert ring.snapshot.digest == fresh.snapshot.digest


async def test_a_rolling_update_that_is_faster_than_the_ring_ends_well_too(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A ring that sees a few of the steps, or none, never has fewer than six pods either.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    old, new = deployment(8), deployment(8, start=101)
    web.set_pods(old)
    coredns.wait_for(WEB, addresses(old))

    async with ring_at(coredns, port=8080) as ring:
        async with traffic(ring, old) as flow:
            for pods in rolling_update(old, new):
                flow.announce(pods)
                web.set_pods(pods)
            await until(lambda: shown(ring), addresses(new))

        assert flow.fewest >= 6
        assert [e.address for e in picks(ring)] == picks_of_addresses(new)


async def test_a_rolling_update_of_a_stateful_set_brings_every_key_back(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Pods restart one by one, from the last on, each under another address: only the keys of the one
    that is away are elsewhere, and in the end all are where they were.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = stateful_set(4)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port="http", refresh=OFTEN) as ring:
        before = picks(ring)
        async with traffic(ring, pods) as flow:
            for number, new in reversed(list(enumerate(deployment(4, start=101)))):
                others = [*pods[:number], *pods[number + 1 :]]
                web.set_pods([*others, replace(pods[number], terminating=True)])
                await until(lambda: shown(ring), addresses(others))
                pods[number] = replace(new, hostname=f"web-{number}")
                flow.announce(pods)
                web.set_pods(pods)
                await until(lambda: shown(ring), addresses(pods))

        assert [e.name for e in picks(ring)] == [e.name for e in before]
        assert [len(snapshot.endpoints) for snapshot in flow.snapshots] == [
            4,
            3,
            4,
            3,
            4,
            3,
            4,
            3,
            4,
        ]


async def test_a_pod_that_changes_its_address_keeps_its_keys(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A hostname that has another address from one answer to the next is one change, and moves no key.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = stateful_set(4)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port="http") as ring:
        before = picks(ring)
        moved = [pods[0], replace(pods[1], ipv4="10.1.7.7"), *pods[2:]]
        async with traffic(ring, pods) as flow:
            flow.announce(moved)
            web.set_pods(moved)
            await until(lambda: shown(ring), addresses(moved))
            await asked(ring, 2)

        assert len(flow.snapshots) == ring.snapshot.generation == 2
        assert [e.name for e in picks(ring)] == [e.name for e in before]
        assert {e.address for e in picks(ring)} == addresses(moved)


async def test_a_dns_server_that_dies_during_a_rolling_update_hides_the_rest_of_it(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    The ring stays with the pods that it last heard of, and has caught up once the server is back.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    old, new = deployment(8), deployment(8, start=101)
    web.set_pods(old)
    coredns.wait_for(WEB, addresses(old))
    steps = list(rolling_update(old, new))
    middle = len(steps) // 2

    async with ring_at(coredns, port=8080, refresh=OFTEN) as ring:
        async with traffic(ring, old) as flow:
            for pods in steps[:middle]:
                flow.announce(pods)
                web.set_pods(pods)
                await asked(ring)
            coredns.stop()
            await until_state(ring, "stale")
            last = ring.snapshot
            for pods in steps[middle:]:
                web.set_pods(pods)
                await asked(ring)
            assert ring.snapshot is last

            flow.announce(new)
            coredns.start(synced=False)
            await until(lambda: (ring.state, shown(ring)), ("fresh", addresses(new)))

        assert flow.fewest >= 6
        assert flow.states == ["fresh", "stale", "fresh"]
        assert [e.address for e in picks(ring)] == picks_of_addresses(new)


# --- down to zero


async def test_scaling_to_zero_and_back_within_the_hold_is_not_felt(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    However often DNS says that the name does not exist: same pods, same snapshot.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(3)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=8080) as ring:
        async with traffic(ring, pods) as flow:
            web.set_pods([])
            await until_state(ring, "stale")
            await asked(ring, 5)
            web.set_pods(pods)
            await until_state(ring, "fresh")
            await asked(ring, 2)

        assert flow.states == ["fresh", "stale", "fresh"]
        assert len(flow.snapshots) == ring.snapshot.generation == 1


async def test_scaling_to_zero_for_longer_empties_the_ring_and_the_first_answer_fills_it(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    First held, then empty, and nothing in between: one snapshot has no pods, and the next all.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(3)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    brief = replace(QUICK, empty_hold=0.5)
    async with ring_at(coredns, port=8080, refresh=brief) as ring:
        async with traffic(ring, pods) as flow:
            flow.may_be_empty = True
            web.set_pods([])
            await until_state(ring, "empty")
            web.set_pods(pods)
            await until_state(ring, "fresh")

        assert flow.states == ["fresh", "stale", "empty", "fresh"]
        assert [len(snapshot.endpoints) for snapshot in flow.snapshots] == [3, 0, 3]
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods)


# --- ready or not


async def test_a_pod_that_is_unready_for_one_answer_keeps_its_keys(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A probe that fails once in a while costs nobody a cache.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(4)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=8080, refresh=SELDOM) as ring:
        async with traffic(ring, pods) as flow:
            web.set_pods([replace(pods[0], ready=False), *pods[1:]])
            await until(lambda: ring.stats().held, 1)
            web.set_pods(pods)
            await until(lambda: ring.stats().held, 0)

        assert len(flow.snapshots) == ring.snapshot.generation == 1


async def test_pods_that_are_published_before_they_are_ready_have_keys_until_they_are_gone(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    With `publishNotReadyAddresses` neither a probe nor a shutdown is felt; the end of a pod is.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080), publish_not_ready=True)
    pods = stateful_set(4)
    starting = [replace(pods[0], ready=False), *pods[1:]]
    web.set_pods(starting)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port="http") as ring:
        async with traffic(ring, pods) as flow:
            assert shown(ring) == addresses(pods)
            for state in (pods, [*pods[:3], replace(pods[3], ready=False, terminating=True)]):
                web.set_pods(state)
                await asked(ring, 3)
            assert len(flow.snapshots) == ring.snapshot.generation == 1

            web.set_pods(pods[:3])
            await until(lambda: shown(ring), addresses(pods[:3]))

        assert len(flow.snapshots) == ring.snapshot.generation == 2
