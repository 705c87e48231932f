"""
`knet.Resolver` against a real CoreDNS: which pods a name gives, and what a failure says.
"""

from __future__ import annotations

from typing import Literal

import pytest

from knet import Endpoint, NameNotFound, NoData, ServerUnreachable

from .coredns import ZONE, CoreDNS
from .fake_kube_api import FakeKubeAPI, Pod, Port
from .rings import HTTP_PORTS, WEB, addresses, deployment, resolver_at, stateful_set

pytestmark = pytest.mark.anyio


async def test_a_numbered_port_gives_the_ready_pods_by_address(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Pods of a Deployment have no names of their own, so their addresses name them.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods([*deployment(2), Pod("10.1.0.3", ready=False), Pod("10.1.0.4", terminating=True)])
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})

    answer = await resolver_at(coredns).resolve(WEB, port=8080)

    assert answer.endpoints == (
        Endpoint("10.1.0.1", "10.1.0.1", 8080),
        Endpoint("10.1.0.2", "10.1.0.2", 8080),
    )
    assert answer.ttl == 30
    assert answer.complete


async def test_a_named_port_gives_the_pods_of_a_stateful_set_by_hostname(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Name and port are the SRV record's, the address is the one that came with it.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(stateful_set(2))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})

    answer = await resolver_at(coredns).resolve(WEB, port="http")

    assert answer.endpoints == (
        Endpoint(f"web-0.{WEB}", "10.1.0.1", 8080),
        Endpoint(f"web-1.{WEB}", "10.1.0.2", 8080),
    )


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_both_kinds_of_port_agree_about_a_deployment(
    kube_api: FakeKubeAPI, coredns: CoreDNS, family: Literal["ipv4", "ipv6"]
) -> None:
    """
    The hostname that CoreDNS makes of an address names nothing: a client that asks for SRV records
    and one that asks for addresses have the same endpoints, so the same picks.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods([Pod("10.1.0.1", "fd00::1"), Pod("10.1.0.2", "fd00:1::10:0:2")])
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    coredns.wait_for(WEB, {"fd00::1", "fd00:1::10:0:2"}, "AAAA")
    resolver = resolver_at(coredns)

    by_number = await resolver.resolve(WEB, port=8080, family=family)
    by_name = await resolver.resolve(WEB, port="http", family=family)

    assert len(by_name.endpoints) == 2
    assert by_name.endpoints == by_number.endpoints


async def test_each_named_port_is_its_own(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    Of a service with two ports, the one that was asked for is given, and each pod once.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080), Port("metrics", 9090))
    web.set_pods(stateful_set(3))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2", "10.1.0.3"})
    resolver = resolver_at(coredns)

    http = await resolver.resolve(WEB, port="http")
    metrics = await resolver.resolve(WEB, port="metrics")

    assert [e.port for e in http.endpoints] == [8080] * 3
    assert [e.port for e in metrics.endpoints] == [9090] * 3
    assert [e.name for e in http.endpoints] == [e.name for e in metrics.endpoints]


async def test_a_wrong_port_name_is_not_found(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    The message names what was asked for, of whom, and that the port's name may be the mistake.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(1))
    coredns.wait_for(WEB, {"10.1.0.1"})

    with pytest.raises(NameNotFound) as caught:
        await resolver_at(coredns).resolve(WEB, port="grpc")

    assert caught.value.name.rstrip(".") == f"_grpc._tcp.{WEB}"
    assert caught.value.servers == (coredns.address,)
    assert f"_grpc._tcp.{WEB}" in str(caught.value)
    assert coredns.address in str(caught.value)
    assert "a port named 'grpc'" in str(caught.value)


async def test_a_wrong_protocol_is_not_found(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    A TCP port does not answer to a client that asks for UDP.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(1))
    coredns.wait_for(WEB, {"10.1.0.1"})

    with pytest.raises(NameNotFound, match="udp"):
        await resolver_at(coredns).resolve(WEB, port="http", protocol="udp")


async def test_a_service_without_ports_has_addresses_only(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Asked for addresses it gives its pods; a port of it does not exist, and it has no SRV records.
    """
    web = kube_api.create_service("web", "prod")
    web.set_pods(deployment(2))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    resolver = resolver_at(coredns)

    assert addresses((await resolver.resolve(WEB)).endpoints) == {"10.1.0.1", "10.1.0.2"}
    with pytest.raises(NameNotFound, match="a port named 'http'"):
        await resolver.resolve(WEB, port="http")
    with pytest.raises(NoData):
        await resolver.lookup_srv("web", "prod")


async def test_every_spelling_of_a_name_is_the_same_service(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Short, shorter, whole, absolute, or shouted.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(3))
    coredns.wait_for(WEB, addresses(deployment(3)))
    resolver = resolver_at(coredns)

    for port in HTTP_PORTS:
        expected = await resolver.resolve(WEB, port=port)
        for spelling in (
            "web.prod",
            "web.prod.svc",
            f"{WEB}.",
            WEB.upper(),
            f"WEB.prod.svc.{ZONE}",
        ):
            assert await resolver.resolve(spelling, port=port) == expected


async def test_a_bare_name_is_looked_for_in_the_resolvers_namespace(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    `"web"` is another service in each namespace.
    """
    kube_api.create_service("web", "prod").set_pods([Pod("10.1.0.1")])
    kube_api.create_service("web", "test").set_pods([Pod("10.2.0.1")])
    coredns.wait_for(WEB, {"10.1.0.1"})
    coredns.wait_for(f"web.test.svc.{ZONE}", {"10.2.0.1"})

    for namespace, address in (("prod", "10.1.0.1"), ("test", "10.2.0.1")):
        answer = await resolver_at(coredns, namespace=namespace).resolve("web")
        assert addresses(answer.endpoints) == {address}


async def test_a_service_that_does_not_exist_is_not_found(coredns: CoreDNS) -> None:
    """
    The message names the service, the server, and what is usually wrong.
    """
    with pytest.raises(NameNotFound) as caught:
        await resolver_at(coredns).resolve(WEB)

    for text in (WEB, coredns.address, "headless", "ready"):
        assert text in str(caught.value)


async def test_a_server_that_is_gone_is_unreachable(coredns: CoreDNS) -> None:
    """
    A closed port is told from a name that does not exist.
    """
    coredns.stop()

    with pytest.raises(ServerUnreachable, match=coredns.address):
        await resolver_at(coredns).resolve(WEB)


async def test_dual_stack_pods_are_listed_once(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    By IPv4 unless the caller wants IPv6, whichever kind of port is asked for.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods([Pod("10.1.0.1", "fd00::1"), Pod("10.1.0.2", "fd00::2")])
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    coredns.wait_for(WEB, {"fd00::1", "fd00::2"}, "AAAA")
    resolver = resolver_at(coredns)

    for port in HTTP_PORTS:
        auto = await resolver.resolve(WEB, port=port)
        ipv6 = await resolver.resolve(WEB, port=port, family="ipv6")
        assert [e.address for e in auto.endpoints] == ["10.1.0.1", "10.1.0.2"]
        assert [e.address for e in ipv6.endpoints] == ["fd00::1", "fd00::2"]
        assert str(ipv6.endpoints[0]) == "[fd00::1]:8080"


async def test_dual_stack_pods_of_a_stateful_set_are_listed_once(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A hostname with two addresses is one endpoint, and has the same name in both families.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(
        [Pod("10.1.0.1", "fd00::1", hostname="web-0"), Pod("10.1.0.2", "fd00::2", hostname="web-1")]
    )
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    coredns.wait_for(WEB, {"fd00::1", "fd00::2"}, "AAAA")
    resolver = resolver_at(coredns)

    auto = await resolver.resolve(WEB, port="http")
    ipv6 = await resolver.resolve(WEB, port="http", family="ipv6")

    assert [e.address for e in auto.endpoints] == ["10.1.0.1", "10.1.0.2"]
    assert [e.address for e in ipv6.endpoints] == ["fd00::1", "fd00::2"]
    assert [e.name for e in auto.endpoints] == [f"web-0.{WEB}", f"web-1.{WEB}"]
    assert [e.name for e in ipv6.endpoints] == [f"web-0.{WEB}", f"web-1.{WEB}"]


async def test_a_service_with_ipv6_only_needs_no_option(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    `family="auto"` takes IPv6 where there is no IPv4; `"ipv4"` then has no data.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods([Pod(ipv6="fd00::1"), Pod(ipv6="fd00::2")])
    coredns.wait_for(WEB, {"fd00::1", "fd00::2"}, "AAAA")
    resolver = resolver_at(coredns)

    for port in HTTP_PORTS:
        answer = await resolver.resolve(WEB, port=port)
        assert [str(e) for e in answer.endpoints] == ["[fd00::1]:8080", "[fd00::2]:8080"]
        with pytest.raises(NoData):
            await resolver.resolve(WEB, port=port, family="ipv4")


async def test_an_answer_is_never_older_than_the_question(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Records are good for 30 seconds, and no cache of ours keeps them for one: a pod that left is
    gone from the next answer, and a service that had no pods has some.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    async with resolver_at(coredns) as resolver:
        for count in (3, 1, 0, 2):
            web.set_pods(deployment(count))
            coredns.wait_for(WEB, addresses(deployment(count)))
            for port in HTTP_PORTS:
                try:
                    answer = await resolver.resolve(WEB, port=port)
                except NameNotFound:
                    assert count == 0
                else:
                    assert addresses(answer.endpoints) == addresses(deployment(count))


@pytest.mark.parametrize("count", [200, 1_000])
@pytest.mark.parametrize("port", HTTP_PORTS)
async def test_answers_too_large_for_udp_are_complete(
    kube_api: FakeKubeAPI, coredns: CoreDNS, count: int, port: int | str
) -> None:
    """
    What is cut off over UDP is asked for again over TCP, and what SRV leaves out one by one.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = stateful_set(count)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    answer = await resolver_at(coredns).resolve(WEB, port=port)

    assert addresses(answer.endpoints) == addresses(pods)
    assert answer.complete


async def test_an_answer_too_large_for_tcp_is_known_to_be_incomplete(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    SRV records of 1,300 pods do not fit in a DNS message, and the server leaves out some.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = stateful_set(1_300)
    web.set_pods(pods)
    coredns.wait_for(WEB, addresses(pods))

    answer = await resolver_at(coredns).resolve(WEB, port="http")

    assert addresses(answer.endpoints) < addresses(pods)
    assert not answer.complete


async def test_lookups_of_the_original_give_addresses_and_records(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    `lookup_host` gives addresses and `lookup_srv` the records of every port.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080), Port("metrics", 9090))
    web.set_pods(stateful_set(2))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    resolver = resolver_at(coredns)

    assert await resolver.lookup_host("web", "prod") == ("10.1.0.1", "10.1.0.2")
    assert [(r.target, r.port) for r in await resolver.lookup_srv("web", "prod")] == [
        (f"web-0.{WEB}", 8080),
        (f"web-0.{WEB}", 9090),
        (f"web-1.{WEB}", 8080),
        (f"web-1.{WEB}", 9090),
    ]
