"""
`knet.Ring` against a real CoreDNS: which pod owns a key, while pods come and go.
"""

from __future__ import annotations

from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from knet import NameNotFound, NoEndpoints, RefreshPolicy
from tests.waiting import until_state

from .coredns import CoreDNS
from .fake_kube_api import FakeKubeAPI, Pod, Port
from .rings import (
    HTTP_PORTS,
    KEYS,
    QUICK,
    WEB,
    addresses,
    deployment,
    picks,
    picks_of_addresses,
    resolver_at,
    ring_at,
    shown,
    stateful_set,
    until,
)

pytestmark = pytest.mark.anyio


# --- whose key is it


@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_pods_of_a_deployment_own_keys_by_address(
    kube_api: FakeKubeAPI, coredns: CoreDNS, port: int | str
) -> None:
    """
    Whichever way the port is given, picks are those of a `HashRing` of the addresses.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(5)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=port) as ring:
        assert ring.state == "fresh"
        assert shown(ring) == addresses(pods)
        assert [await ring.get(key) for key in KEYS] == picks(ring)
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods)
        assert {e.port for e in picks(ring)} == {8080}


@pytest.mark.weather("A pod of a StatefulSet restarts")
async def test_pods_of_a_stateful_set_own_keys_by_hostname(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A pod that restarts gets its keys back under its new address, and no other key has moved.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = stateful_set(4)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port="http") as ring:
        before = picks(ring)
        assert {e.name for e in before} == {f"web-{n}.{WEB}" for n in range(4)}

        web.set_pods([replace(pods[1], terminating=True), pods[0], *pods[2:]])
        await until(lambda: shown(ring), addresses([pods[0], *pods[2:]]))
        pods[1] = replace(pods[1], ipv4="10.1.7.7")
        web.set_pods(pods)
        await until(lambda: shown(ring), addresses(pods))

        assert [e.name for e in picks(ring)] == [e.name for e in before]
        (restarted,) = {e.address for e in picks(ring) if e.name == f"web-1.{WEB}"}
        assert restarted == "10.1.7.7"


@pytest.mark.parametrize("service", ["web.prod", "web.prod.svc", f"{WEB}."])
async def test_every_spelling_of_a_service_has_the_same_picks(
    kube_api: FakeKubeAPI, coredns: CoreDNS, service: str
) -> None:
    """
    Two programs that write the name differently still send a key to the same pod.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(5)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, service) as ring:
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods)


async def test_dual_stack_pods_own_their_keys_once(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    A pod with two addresses is one member: by IPv4, unless the ring is told otherwise.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = [Pod(f"10.1.0.{n}", f"fd00::{n}") for n in range(1, 5)]
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))
    coredns.wait_for(WEB, {f"fd00::{n}" for n in range(1, 5)}, "AAAA")

    async with ring_at(coredns, port=8080) as ring:
        assert shown(ring) == addresses(pods)
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods)
    async with ring_at(coredns, port=8080, family="ipv6") as ring:
        assert shown(ring) == {pod.ipv6 for pod in pods}


@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_a_thousand_pods_own_their_keys(
    kube_api: FakeKubeAPI, coredns: CoreDNS, port: int | str
) -> None:
    """
    None of them is missing, although they fit into no UDP answer and not whole into an SRV one.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(1_000)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=port) as ring:
        await until(lambda: shown(ring), addresses(pods))
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods)


# --- pods come and go


@pytest.mark.weather("A pod becomes ready")
async def test_keys_follow_a_deployment_up_and_down(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Up, only the new pods receive; down, only the keys of the pods that left move.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(5))
    coredns.wait_for(WEB, addresses(deployment(5)))

    async with ring_at(coredns, port=8080) as ring:
        five = picks(ring)

        web.set_pods(deployment(8))
        await until(lambda: shown(ring), addresses(deployment(8)))
        eight = picks(ring)
        new = addresses(deployment(3, start=6))
        assert all(b == a or b.address in new for a, b in zip(five, eight, strict=True))
        assert eight != five

        web.set_pods(deployment(5))
        await until(lambda: shown(ring), addresses(deployment(5)))
        assert picks(ring) == five


@pytest.mark.weather("A pod is deleted, dies or gets unready")
async def test_pods_that_are_not_ready_or_terminate_lose_their_keys(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A failing probe takes a pod out and a passing one brings it back; deletion takes it out at
    once, while it still shuts down.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(5)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    async with ring_at(coredns, port=8080) as ring:
        before = picks(ring)

        web.set_pods([replace(pods[0], ready=False), *pods[1:]])
        await until(lambda: shown(ring), addresses(pods[1:]))
        web.set_pods(pods)
        await until(lambda: shown(ring), addresses(pods))
        assert picks(ring) == before

        web.set_pods([*pods[:4], replace(pods[4], terminating=True)])
        await until(lambda: shown(ring), addresses(pods[:4]))
        kept = [
            (a, b) for a, b in zip(before, picks(ring), strict=True) if a.address != pods[4].address
        ]
        assert all(a == b for a, b in kept)


async def test_a_ring_waits_for_its_first_pod(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    A client that starts before its service has ready pods comes up with the first one.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    ring = ring_at(coredns, port=8080)

    async def first_owner() -> None:
        async with ring:
            assert (await ring.get("user:1")).address == "10.1.0.1"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first_owner)
        await until(lambda: ring.stats().lookups >= 2, True)
        assert ring.state == "starting"
        web.set_pods(deployment(1))


async def test_a_ring_of_a_service_that_does_not_exist_does_not_start(coredns: CoreDNS) -> None:
    """
    Once `start_timeout` has passed, the last answer is raised as it was.
    """
    with pytest.raises(NameNotFound, match=WEB):
        async with ring_at(coredns, start_timeout=0.5):
            pytest.fail("there is nothing to enter")


async def test_pods_stay_for_a_while_after_a_service_answers_nxdomain(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Nobody can tell "scaled to zero" from a slip of the cluster, so the ring keeps its pods for
    `empty_hold`, is stale meanwhile, and fresh again with the first pod that is back.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(3))
    coredns.wait_for(WEB, addresses(deployment(3)))

    async with ring_at(coredns, port=8080) as ring:
        before = picks(ring)
        web.set_pods([])
        await until_state(ring, "stale")
        assert picks(ring) == before

        web.set_pods(deployment(2, start=3))
        await until(lambda: (ring.state, shown(ring)), ("fresh", {"10.1.0.3", "10.1.0.4"}))


@pytest.mark.weather("The Service is scaled to zero")
async def test_a_service_scaled_to_zero_empties_the_ring_after_the_hold(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Then a key has no pod, and says so, until there are pods again.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(3))
    coredns.wait_for(WEB, addresses(deployment(3)))

    brief = replace(QUICK, empty_hold=0.5)
    async with ring_at(coredns, port=8080, refresh=brief) as ring:
        web.set_pods([])
        await until_state(ring, "empty")
        with pytest.raises(NoEndpoints):
            await ring.get("user:1")

        web.set_pods(deployment(2))
        await until(lambda: (ring.state, shown(ring)), ("fresh", {"10.1.0.1", "10.1.0.2"}))
        assert [e.address for e in picks(ring)] == picks_of_addresses(deployment(2))


@pytest.mark.weather("Most pods vanish at once")
async def test_a_whole_new_set_of_pods_takes_over(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    All pods replaced at a stroke: the new ones serve, and the old ones go once that is sure.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(6))
    coredns.wait_for(WEB, addresses(deployment(6)))

    async with ring_at(coredns, port=8080) as ring:
        new = deployment(6, start=101)
        web.set_pods(new)
        await until(lambda: shown(ring), addresses(new))
        assert [e.address for e in picks(ring)] == picks_of_addresses(new)


@pytest.mark.weather("A pod of a Deployment restarts")
async def test_a_rolling_update_fails_no_request(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    While pods are replaced one by one, every key always has an owner that is or was a pod, and in
    the end all is as if the new pods had been there from the start.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(5)
    ever = addresses(pods)
    web.set_pods(pods)
    coredns.wait_for(WEB, ever)

    async with ring_at(coredns, port=8080) as ring, anyio.create_task_group() as tasks:
        owners: set[str] = set()

        async def traffic() -> None:
            while True:
                for key in KEYS[::50]:
                    owners.add((await ring.get(key)).address)
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(traffic)
        for new in deployment(5, start=101):
            ever |= addresses([new])
            old = pods[0]
            web.set_pods([*pods, replace(new, ready=False)])
            web.set_pods([*pods, new])
            await until(lambda: shown(ring), addresses([*pods, new]))
            pods = [*pods[1:], new]
            web.set_pods([replace(old, terminating=True), *pods])
            await until(lambda: shown(ring), addresses(pods))
            web.set_pods(pods)
        tasks.cancel_scope.cancel()

        assert owners <= ever
        assert owners >= addresses(deployment(5, start=101))
        assert [e.address for e in picks(ring)] == picks_of_addresses(pods)


# --- CoreDNS comes and goes


@pytest.mark.weather("no server")
async def test_a_ring_outlives_its_dns_server(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    With CoreDNS gone the ring is stale and serves what it knew; back, it is fresh and knows what
    changed meanwhile.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(3))
    coredns.wait_for(WEB, addresses(deployment(3)))

    async with ring_at(coredns, port=8080) as ring:
        before = picks(ring)

        coredns.stop()
        await until_state(ring, "stale")
        web.set_pods(deployment(4))
        assert [await ring.get(key) for key in KEYS] == before

        coredns.start()
        await until(lambda: (ring.state, shown(ring)), ("fresh", addresses(deployment(4))))


@pytest.mark.weather("no answer")
async def test_a_dns_server_that_hangs_holds_nobody_up(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Silence ends in a deadline and makes the ring stale; picks go on, and so does leaving the ring.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(3))
    coredns.wait_for(WEB, addresses(deployment(3)))

    async with ring_at(coredns, resolver=resolver_at(coredns, deadline=0.3)) as ring:
        before = picks(ring)

        coredns.pause()
        await until_state(ring, "stale")
        assert [await ring.get(key) for key in KEYS] == before

        coredns.resume()
        await until_state(ring, "fresh")
        assert picks(ring) == before

        coredns.pause()
        await until_state(ring, "stale")


async def test_refresh_asks_at_once(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    A program that knows better need not wait for the next interval.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(2))
    coredns.wait_for(WEB, addresses(deployment(2)))

    seldom = RefreshPolicy(interval=3600, min_interval=0.001)
    async with ring_at(coredns, port=8080, refresh=seldom) as ring:
        web.set_pods(deployment(3))
        coredns.wait_for(WEB, addresses(deployment(3)))
        await ring.refresh()
        assert shown(ring) == addresses(deployment(3))
