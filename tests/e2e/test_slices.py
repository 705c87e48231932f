"""
`knet.Ring` against a real CoreDNS while EndpointSlices are written one by one, under traffic.

A Service of more than a hundred pods, or of two address families, is several objects, and DNS shows
what is between two writes: a part of the pods, a pod twice, one family ahead of the other.
"""

from __future__ import annotations

from functools import partial

import pytest

from knet import RefreshPolicy
from tests.waiting import until_state

from .coredns import CoreDNS
from .fake_kube_api import FakeKubeAPI, HeadlessService, Pod, Port
from .rings import (
    HTTP_PORTS,
    WEB,
    addresses,
    asked,
    deployment,
    picks,
    picks_of_addresses,
    ring_at,
    shown,
    stateful_set,
    until,
)
from .traffic import traffic

pytestmark = pytest.mark.anyio

# So seldom that what a test takes back in the meantime has been in one answer only.
SELDOM = RefreshPolicy(interval=1.0, min_interval=1.0)


def write_slices(web: HeadlessService, pods: list[Pod]) -> None:
    """
    Put *pods* in slices of a hundred, first to last.
    """
    for number in range(0, len(pods), 100):
        web.set_slice(number // 100, pods[number : number + 100])


# --- more than a hundred pods


@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_pods_of_three_slices_come_and_go_slice_by_slice(
    kube_api: FakeKubeAPI, coredns: CoreDNS, port: int | str
) -> None:
    """
    Each slice that is written is one change. On the way up no pod leaves, and on the way down none
    joins.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(250)
    web.set_slice(0, pods[:50])
    coredns.wait_for(WEB, addresses(pods[:50]))

    async with ring_at(coredns, port=port) as ring:
        async with traffic(ring, pods[:50]) as flow:
            for number, (begin, end) in enumerate([(0, 100), (100, 200), (200, 250)]):
                flow.announce(pods[:end])
                web.set_slice(number, pods[begin:end])
                await until(lambda: shown(ring), addresses(pods[:end]))
            assert [e.address for e in picks(ring)] == picks_of_addresses(pods)
            for number, left in ((2, 200), (1, 100)):
                web.set_slice(number, [])
                await until(lambda: shown(ring), addresses(pods[:left]))
            web.set_slice(0, pods[:20])
            await until(lambda: shown(ring), addresses(pods[:20]))

        sizes = [len(snapshot.endpoints) for snapshot in flow.snapshots]
        assert sizes == [50, 100, 200, 250, 200, 100, 20]
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods[:20])


async def test_a_slice_that_vanishes_for_a_moment_is_not_felt(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    An answer without a hundred of 250 pods is doubted, and the next one has them again.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(250)
    write_slices(web, pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=8080, refresh=SELDOM) as ring:
        async with traffic(ring, pods) as flow:
            web.set_slice(1, [])
            await until(lambda: ring.stats().held, 100)
            web.set_slice(1, pods[100:200])
            await until(lambda: ring.stats().held, 0)

        assert len(flow.snapshots) == ring.snapshot.generation == 1


async def test_a_service_that_comes_back_from_zero_in_parts_is_not_felt(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    NXDOMAIN, then the first hundred of 250 pods, then all: the ring had all of them throughout.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(250)
    write_slices(web, pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=8080, refresh=SELDOM) as ring:
        async with traffic(ring, pods) as flow:
            web.set_pods([])
            await until_state(ring, "stale")
            web.set_slice(0, pods[:100])
            await until(lambda: (ring.state, ring.stats().held), ("fresh", 150))
            write_slices(web, pods)
            await until(lambda: ring.stats().held, 0)

        assert len(flow.snapshots) == ring.snapshot.generation == 1


@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_a_pod_in_two_slices_at_once_is_one_member(
    kube_api: FakeKubeAPI, coredns: CoreDNS, port: int | str
) -> None:
    """
    While the controller moves pods from one slice to another they are in both, and perhaps ready
    in one of them only.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(4)
    web.set_slice(0, pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=port) as ring:
        async with traffic(ring, pods) as flow:
            web.set_slice(1, pods[2:])
            await asked(ring, 2)
            web.set_slice(0, [*pods[:2], *(Pod(pod.ipv4, ready=False) for pod in pods[2:])])
            await asked(ring, 2)
            web.set_slice(0, pods[:2])
            await asked(ring, 3)

        assert len(flow.snapshots) == ring.snapshot.generation == 1
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods)


# --- two families


@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_a_service_with_ipv6_only_changes_as_any_other(
    kube_api: FakeKubeAPI, coredns: CoreDNS, port: int | str
) -> None:
    """
    Up, down and at another address, without an option that says so.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = [Pod(ipv6=f"fd00::{n}") for n in range(1, 6)]
    web.set_pods(pods[:3])
    coredns.wait_for(WEB, addresses(pods[:3]), "AAAA")

    async with ring_at(coredns, port=port) as ring:
        async with traffic(ring, pods[:3]) as flow:
            for begin, end in ((0, 5), (1, 5), (1, 3)):
                flow.announce(pods[begin:end])
                web.set_pods(pods[begin:end])
                wanted = addresses(pods[begin:end])
                await until(lambda: shown(ring), wanted)

        assert [len(snapshot.endpoints) for snapshot in flow.snapshots] == [3, 5, 4, 2]
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods[1:3])


@pytest.mark.parametrize("port", HTTP_PORTS)
@pytest.mark.parametrize("first", ["ipv4", "ipv6"])
async def test_each_family_of_a_dual_stack_service_changes_with_its_own_slice(
    kube_api: FakeKubeAPI, coredns: CoreDNS, port: int | str, first: str
) -> None:
    """
    A new pod is seen as soon as the slice of the family that a ring wants is written, whichever of
    the two comes first, and once.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    ipv4 = deployment(4)
    ipv6 = [Pod(ipv6=f"fd00::{n}") for n in range(1, 5)]
    slices = {"ipv4": (0, ipv4), "ipv6": (1, ipv6)}
    for number, pods in slices.values():
        web.set_slice(number, pods[:3])
    coredns.wait_for(WEB, addresses(ipv4[:3]))
    coredns.wait_for(WEB, addresses(ipv6[:3]), "AAAA")

    order = [first, *(family for family in slices if family != first)]
    async with (
        ring_at(coredns, port=port) as auto,
        ring_at(coredns, port=port, family="ipv6") as six,
        traffic(auto, ipv4) as by_ipv4,
        traffic(six, ipv6) as by_ipv6,
    ):
        for family in order:
            number, pods = slices[family]
            web.set_slice(number, pods)
            ring = {"ipv4": auto, "ipv6": six}[family]
            await until(partial(shown, ring), addresses(pods))
            await asked(auto, 2)
            await asked(six, 2)

        assert [len(snapshot.endpoints) for snapshot in by_ipv4.snapshots] == [3, 4]
        assert [len(snapshot.endpoints) for snapshot in by_ipv6.snapshots] == [3, 4]
        assert [e.address for e in picks(auto)] == picks_of_addresses(ipv4)
        assert [e.address for e in picks(six)] == picks_of_addresses(ipv6)


async def test_a_stateful_pod_joins_a_dual_stack_ring_with_its_ipv4_address(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    All pods of a ring are of one family, so one that is known by IPv6 only has to wait.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    ipv4 = stateful_set(4)
    ipv6 = [Pod(ipv6=f"fd00::{n}", hostname=pod.hostname) for n, pod in enumerate(ipv4, start=1)]
    web.set_slice(0, ipv4[:3])
    web.set_slice(1, ipv6[:3])
    coredns.wait_for(WEB, addresses(ipv4[:3]))
    coredns.wait_for(WEB, addresses(ipv6[:3]), "AAAA")

    async with ring_at(coredns, port="http") as ring:
        async with traffic(ring, ipv4) as flow:
            web.set_slice(1, ipv6)
            coredns.wait_for(WEB, addresses(ipv6), "AAAA")
            await asked(ring, 2)
            assert ring.snapshot.generation == 1
            web.set_slice(0, ipv4)
            await until(lambda: shown(ring), addresses(ipv4))

        assert len(flow.snapshots) == ring.snapshot.generation == 2
