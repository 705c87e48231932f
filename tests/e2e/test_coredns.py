"""
What CoreDNS itself does, asked without knet: the facts that the other tests here rest on.

Where one of these fails, CoreDNS or the fake API has changed, and knet may have to follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from .coredns import ZONE, CoreDNS
from .fake_kube_api import FakeKubeAPI, Pod, Port
from .rings import WEB, deployment, stateful_set


def records(message: dns.message.Message, rdtype: str) -> set[str]:
    """
    Return the records of one type in the answer section, as text.
    """
    kind = dns.rdatatype.from_text(rdtype)
    return {str(record) for rrset in message.answer if rrset.rdtype == kind for record in rrset}


def test_a_headless_service_answers_with_its_ready_pods(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Pods that are not ready, or that terminate, are left out.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(
        [
            Pod("10.1.0.1"),
            Pod("10.1.0.2", "fd00::2"),
            Pod("10.1.0.3", ready=False),
            Pod("10.1.0.4", terminating=True),
        ]
    )

    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    assert coredns.addresses(WEB, "AAAA") == {"fd00::2"}


def test_srv_targets_are_hostnames_or_dashed_addresses(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A StatefulSet's pods are targets by hostname, any others by a name made of the address.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods([Pod("10.1.0.1", hostname="web-0"), Pod("10.1.0.2"), Pod(ipv6="fd00::3")])
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    coredns.wait_for(WEB, {"fd00::3"}, "AAAA")

    assert records(coredns.query(f"_http._tcp.{WEB}", "SRV"), "SRV") == {
        f"0 33 8080 web-0.{WEB}.",
        f"0 33 8080 10-1-0-2.{WEB}.",
        f"0 33 8080 fd00--3.{WEB}.",
    }


def test_a_service_without_ready_pods_does_not_exist(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Scaled to zero looks like a wrong name: NXDOMAIN.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(2))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    web.set_pods([])
    coredns.wait_for(WEB, set())

    assert coredns.query(WEB).rcode() == dns.rcode.NXDOMAIN


def test_two_hundred_pods_do_not_fit_into_udp(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    Over UDP the answer is partial and says so; over TCP a thousand pods come whole.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    pods = deployment(200)
    web.set_pods(pods)
    coredns.wait_for(WEB, {str(pod.ipv4) for pod in pods})

    over_udp = coredns.query(WEB)

    assert over_udp.flags & dns.flags.TC
    assert len(records(over_udp, "A")) < 40


def test_a_restarted_server_knows_what_changed_meanwhile(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    A CoreDNS that was away for a change answers with the new pods from its first answer on.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(stateful_set(2))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})

    coredns.stop()
    with pytest.raises(ConnectionRefusedError):
        coredns.addresses(WEB)
    web.set_pods(stateful_set(3))
    coredns.start()

    assert coredns.addresses(WEB) == {"10.1.0.1", "10.1.0.2", "10.1.0.3"}


def test_pods_that_are_not_ready_are_published_where_the_service_says_so(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    With `publishNotReadyAddresses` those that start, fail or terminate are answered too.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080), publish_not_ready=True)
    web.set_pods([Pod("10.1.0.1"), Pod("10.1.0.2", ready=False), Pod("10.1.0.3", terminating=True)])

    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2", "10.1.0.3"})


def test_a_pod_in_two_slices_is_answered_once(kube_api: FakeKubeAPI, coredns: CoreDNS) -> None:
    """
    Ready in one of them is enough.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_slice(0, deployment(2))
    web.set_slice(1, [Pod("10.1.0.2", ready=False), Pod("10.1.0.3")])
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2", "10.1.0.3"})

    (rrset,) = coredns.query(WEB).answer
    assert len(rrset) == 3


def test_a_server_that_loses_the_api_goes_on_with_what_it_knew(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    Nothing in its answers says so.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(2))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    kube_api.stop()
    web.set_pods(deployment(3))

    message = coredns.query(WEB)

    assert message.rcode() == dns.rcode.NOERROR
    assert records(message, "A") == {"10.1.0.1", "10.1.0.2"}
    assert message.answer[0].ttl == 30


def test_a_server_that_has_not_seen_the_api_answers_servfail(
    kube_api: FakeKubeAPI, coredns: CoreDNS
) -> None:
    """
    To a name that is there as to one that is not.
    """
    kube_api.create_service("web", "prod", Port("http", 8080)).set_pods(deployment(2))
    coredns.wait_for(WEB, {"10.1.0.1", "10.1.0.2"})
    coredns.stop()
    kube_api.stop()
    coredns.start(synced=False)

    for name in (WEB, f"nobody.prod.svc.{ZONE}"):
        assert coredns.query(name).rcode() == dns.rcode.SERVFAIL


def test_an_answer_from_a_cache_says_how_long_it_stays(
    kube_api: FakeKubeAPI, new_coredns: Callable[..., CoreDNS]
) -> None:
    """
    The TTL counts down, and while it does the answer is the old one.
    """
    web = kube_api.create_service("web", "prod", Port("http", 8080))
    web.set_pods(deployment(1))
    coredns = new_coredns(ttl=5, cache=30)

    assert coredns.query(WEB).answer[0].ttl == 5
    web.set_pods(deployment(2))
    while (message := coredns.query(WEB)).answer[0].ttl == 5:
        time.sleep(0.01)
    assert 0 < message.answer[0].ttl < 5
    assert records(message, "A") == {"10.1.0.1"}
