"""
What CoreDNS itself does, asked without knet: the facts that the other tests here rest on.

Where one of these fails, CoreDNS or the fake API has changed, and knet may have to follow.
"""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from .coredns import CoreDNS
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
