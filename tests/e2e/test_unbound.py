"""
`knet.Ring` behind a real Unbound: a cache between it and CoreDNS, and a server of another make.

Unbound keeps an answer for its TTL and "no such name" too, calls SERVFAIL what it cannot find out,
answers from an expired cache if told to, and can be had without UDP or without TCP. Records are good
for one second here, so that a cache is never far behind.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from knet import Resolver, ResolveTimeout, Ring, ServerFailure, ServerUnreachable
from tests.waiting import until_state

from .coredns import ZONE, CoreDNS
from .fake_kube_api import FakeKubeAPI, HeadlessService, Pod, Port
from .ports import HOST
from .rings import (
    HTTP_PORTS,
    QUICK,
    WEB,
    addresses,
    asked,
    deployment,
    picks,
    ring_at,
    shown,
    stateful_set,
    until,
)
from .traffic import traffic
from .unbound import Unbound

pytestmark = pytest.mark.anyio

NewUnbound = Callable[..., Unbound]
Server = CoreDNS | Unbound


@pytest.fixture
def coredns(new_coredns: Callable[..., CoreDNS]) -> CoreDNS:
    return new_coredns(ttl=1)


@pytest.fixture
def web(kube_api: FakeKubeAPI) -> HeadlessService:
    return kube_api.create_service("web", "prod", Port("http", 8080))


def publish(web: HeadlessService, coredns: CoreDNS, pods: Sequence[Pod]) -> None:
    """
    Put *pods* behind the Service and return once CoreDNS says so; Unbound may say so later.
    """
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))


def resolver_of(*servers: Server, **options: Any) -> Resolver:
    return Resolver(nameservers=[server.address for server in servers], zone=ZONE, **options)


def ring_of(*servers: Server, **options: Any) -> Ring:
    return Ring(WEB, **{"resolver": resolver_of(*servers), "refresh": QUICK, **options})


# --- a cache


@pytest.mark.parametrize(
    ("port", "kind", "options"),
    [
        pytest.param(8080, "stub", (), id="over UDP"),
        # As NodeLocal DNSCache asks, whose upstream is `force_tcp`.
        pytest.param("http", "forward", ("tcp-upstream: yes",), id="over TCP"),
    ],
)
async def test_a_ring_behind_a_cache_follows_its_pods(
    web: HeadlessService,
    coredns: CoreDNS,
    new_unbound: NewUnbound,
    port: int | str,
    kind: str,
    options: tuple[str, ...],
) -> None:
    """
    However the cache asks CoreDNS, it adds its TTL and nothing else: no key is without a pod, and
    none goes to a stranger.
    """
    publish(web, coredns, deployment(40))

    unbound = new_unbound(coredns, *options, kind=kind)
    async with ring_of(unbound, port=port) as ring, traffic(ring, deployment(120)):
        publish(web, coredns, deployment(90, start=31))
        await until(lambda: shown(ring), addresses(deployment(90, start=31)))

        assert not ring.stats().failures


async def test_a_restarted_pod_of_a_stateful_set_keeps_its_keys_behind_a_cache(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    The SRV record of a pod and its address are two entries of the cache, each with an age of its
    own; once both are new, so is the pod's address, and its keys are where they were.
    """
    pods = stateful_set(4)
    publish(web, coredns, pods)
    restarted = replace(pods[1], ipv4="10.1.7.7")

    unbound = new_unbound(coredns)
    async with ring_of(unbound, port="http") as ring, traffic(ring, [*pods, restarted]):
        before = [e.name for e in picks(ring)]
        pods[1] = restarted
        publish(web, coredns, pods)

        await until(lambda: shown(ring), addresses(pods))
        assert [e.name for e in picks(ring)] == before


async def test_answers_in_another_order_change_nothing(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    A cache that turns its records round at each answer, and sends along what nobody asked for, has
    no news.
    """
    publish(web, coredns, stateful_set(9))

    unbound = new_unbound(coredns, "rrset-roundrobin: yes", "minimal-responses: no")
    for port in HTTP_PORTS:
        async with ring_of(unbound, port=port) as ring:
            await asked(ring, 3)
            assert (ring.state, ring.snapshot.generation) == ("fresh", 1)


async def test_questions_in_mixed_case_have_the_same_answers(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    A resolver that writes the name in random case, against forgers, gets answers in that case.
    """
    publish(web, coredns, stateful_set(5))

    unbound = new_unbound(coredns, "use-caps-for-id: yes", kind="forward")
    for port in HTTP_PORTS:
        async with ring_of(unbound, port=port) as ring, ring_at(coredns, port=port) as direct:
            await asked(ring, 3)
            assert picks(ring) == picks(direct)
            assert not ring.stats().failures


async def test_a_cached_nxdomain_is_not_felt(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    A service that was away for a moment stays away in the cache for the negative TTL. The ring
    keeps its pods, and then they are simply there again.
    """
    publish(web, coredns, deployment(5))

    unbound = new_unbound(coredns)
    async with ring_of(unbound) as ring, traffic(ring, deployment(5)):
        publish(web, coredns, [])
        await until_state(ring, "stale")
        publish(web, coredns, deployment(5))
        before = ring.stats().failures["nxdomain"]
        await until_state(ring, "fresh")

        assert ring.stats().failures["nxdomain"] > before  # it was in the cache
        assert ring.snapshot.generation == 1


async def test_expired_answers_keep_a_ring_as_it_is(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    A cache that serves what has expired calls an outage of CoreDNS a success, with a TTL of 30
    seconds where it had one. The ring is as it was, and when CoreDNS is back, it follows.
    """
    publish(web, coredns, deployment(5))

    unbound = new_unbound(coredns, "serve-expired: yes")
    async with ring_of(unbound) as ring, traffic(ring, deployment(10)):
        coredns.stop()
        await until(lambda: unbound.query(WEB).answer[0].ttl, 30)
        await asked(ring)
        assert (ring.state, shown(ring)) == ("fresh", addresses(deployment(5)))

        coredns.start()
        publish(web, coredns, deployment(8, start=3))
        await until(lambda: shown(ring), addresses(deployment(8, start=3)))


# --- two servers


@pytest.mark.parametrize("first", ["a cache", "CoreDNS"])
@pytest.mark.parametrize("fault", ["gone", "silent"])
async def test_a_ring_is_fresh_by_its_other_server(
    web: HeadlessService,
    new_coredns: Callable[..., CoreDNS],
    new_unbound: NewUnbound,
    first: str,
    fault: str,
) -> None:
    """
    Whichever of two servers dies or falls silent, no lookup fails, and what changes is seen, also
    once the server is back. With a TTL of zero nobody keeps an answer.
    """
    behind, beside = new_coredns(ttl=0), new_coredns(ttl=0)
    publish(web, behind, deployment(5))
    publish(web, beside, deployment(5))

    unbound = new_unbound(behind)
    servers: list[Server] = [unbound, beside] if first == "a cache" else [beside, unbound]
    async with ring_of(*servers) as ring, traffic(ring, deployment(9)):
        servers[0].stop() if fault == "gone" else servers[0].pause()
        web.set_pods(deployment(7))
        await until(lambda: shown(ring), addresses(deployment(7)))

        servers[0].start() if fault == "gone" else servers[0].resume()
        web.set_pods(deployment(6, start=4))
        await until(lambda: shown(ring), addresses(deployment(6, start=4)))
        assert not ring.stats().failures


async def test_a_cache_without_its_upstream_is_no_word_on_the_service(
    web: HeadlessService, new_coredns: Callable[..., CoreDNS], new_unbound: NewUnbound
) -> None:
    """
    Unbound says SERVFAIL while its CoreDNS is gone, and for a while after it is back. Who has
    another server hears from that one, and who has none keeps what it knows.
    """
    behind, beside = new_coredns(ttl=1), new_coredns(ttl=1)
    publish(web, behind, deployment(5))
    publish(web, beside, deployment(5))

    unbound = new_unbound(behind)
    async with (
        ring_of(unbound) as alone,
        ring_of(unbound, beside) as ring,
        traffic(alone, deployment(7)),
        traffic(ring, deployment(7)),
    ):
        behind.stop()
        web.set_pods(deployment(7))
        await until(lambda: (ring.state, shown(ring)), ("fresh", addresses(deployment(7))))
        await until_state(alone, "stale")
        with pytest.raises(ServerFailure, match=f"SERVFAIL from {unbound.address}"):
            await alone.refresh()
        assert shown(alone) == addresses(deployment(5))

        behind.start()
        await until(lambda: (alone.state, shown(alone)), ("fresh", addresses(deployment(7))))
        assert not ring.stats().failures


# --- without UDP, without TCP


async def test_a_server_without_udp_is_unreachable(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    Questions go out by UDP, and TCP is for answers that were too large for it. So nothing is had
    of a server that listens on TCP alone, and the error says that there was no connection.
    """
    publish(web, coredns, deployment(5))

    unbound = new_unbound(coredns, "do-udp: no")
    assert unbound.query(WEB, tcp=True).answer
    with pytest.raises(ServerUnreachable, match=f"no connection to {unbound.address}"):
        async with ring_of(unbound, start_timeout=0.5):
            pytest.fail("there is nothing to enter")

    async with ring_of(unbound, coredns) as ring:  # what makes up for it is another server
        await asked(ring, 3)
        assert not ring.stats().failures


async def test_a_server_whose_udp_is_dropped_times_out(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    A firewall that lets only TCP through looks like silence. A running ring keeps its pods.
    """
    publish(web, coredns, deployment(5))

    unbound = new_unbound(coredns)
    resolver = resolver_of(unbound, deadline=0.5)
    async with ring_of(unbound, resolver=resolver) as ring, traffic(ring, deployment(5)):
        unbound.stop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as firewall:
            firewall.bind((HOST, unbound.port))
            unbound.options = ("do-udp: no",)
            unbound.start()
            await until_state(ring, "stale")
            assert unbound.query(WEB, tcp=True).answer
            with pytest.raises(ResolveTimeout, match=f"no answer from {unbound.address}"):
                await ring.refresh()
        unbound.stop()
        unbound.options = ()
        unbound.start()
        await until_state(ring, "fresh")


async def test_an_answer_too_large_for_udp_needs_tcp(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    Where TCP is closed a ring grows as far as UDP goes, some 70 pods, and no further. It is stale,
    serves what it had, and takes nothing from an answer that was cut off.
    """
    publish(web, coredns, deployment(60))

    unbound = new_unbound(coredns, "incoming-num-tcp: 0")
    async with ring_of(unbound) as ring, traffic(ring, deployment(60)):
        assert shown(ring) == addresses(deployment(60))

        publish(web, coredns, deployment(90, start=11))
        await until_state(ring, "stale")
        with pytest.raises(ServerUnreachable, match=f"no connection to {unbound.address}"):
            await ring.refresh()
        assert shown(ring) == addresses(deployment(60))


# --- the size of an answer


@pytest.mark.parametrize("size", [512, 1232, 4096])
@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_answers_are_complete_at_every_size(
    kube_api: FakeKubeAPI, coredns: CoreDNS, new_unbound: NewUnbound, size: int, port: int | str
) -> None:
    """
    29 pods fit into 512 octets and 30 do not, 73 into the 1,232 that are asked for and 74 do not:
    none is missing, however much a server sends by UDP and hears from its own.
    """
    counts = (29, 30, 73, 74)
    for count in counts:
        service = kube_api.create_service(f"web{count}", "prod", Port("http", 8080))
        service.set_pods(deployment(count))
    for count in counts:
        coredns.wait_for(f"web{count}.prod.svc.{ZONE}", addresses(deployment(count)))

    unbound = new_unbound(coredns, f"max-udp-size: {size}", f"edns-buffer-size: {size}")
    async with resolver_of(unbound) as resolver:
        for count in counts:
            answer = await resolver.resolve(f"web{count}.prod", port=port)
            assert answer.complete
            assert addresses(answer.endpoints) == addresses(deployment(count))


async def test_what_coredns_cuts_off_a_cache_does_not_pass_on(
    web: HeadlessService, coredns: CoreDNS, new_unbound: NewUnbound
) -> None:
    """
    SRV records of 1,000 pods do not fit into a DNS message together with their addresses. CoreDNS
    sends what does and sets TC, and Unbound says SERVFAIL to that, so a ring behind it is stale and
    keeps its pods.
    """
    publish(web, coredns, deployment(300))

    unbound = new_unbound(coredns)
    async with ring_of(unbound, port="http") as ring, traffic(ring, deployment(300)):
        publish(web, coredns, deployment(1_000))
        await until_state(ring, "stale", within=40)

        assert ring.stats().failures["servfail"]
        assert shown(ring) == addresses(deployment(300))
