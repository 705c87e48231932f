"""
What the pretended Service answers: the same as CoreDNS, whose answers are written down here.
"""

from __future__ import annotations

import struct
from collections import Counter

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from knet.testing import HeadlessService, Pod, Port

from .asking import addresses, ask, ask_raw, data, needs_ipv6, owners, where

WEB = "web.prod.svc.cluster.local."


@pytest.mark.parametrize("tcp", [False, True])
def test_a_query_for_the_service_gives_the_address_of_every_pod(tcp: bool) -> None:
    with HeadlessService("web.prod", pods=3) as service:
        reply = ask(service, tcp=tcp)

    assert sorted(data(reply)) == ["10.244.0.2", "10.244.0.3", "10.244.0.4"]
    assert owners(reply) == {WEB}
    assert {rrset.ttl for rrset in reply.answer} == {5}


def test_answers_are_authoritative_and_offer_no_recursion() -> None:
    """
    The flags are those of a CoreDNS without upstream: AA, and RD as it was asked.
    """
    with HeadlessService("web.prod") as service:
        asked = dns.message.make_query(service.name, "A")
        asked.flags = dns.flags.Flag(0)
        host, port = where(service)

        assert dns.flags.to_text(ask(service).flags) == "QR AA RD"
        reply = dns.query.udp(asked, host, port=port, timeout=5)
        assert dns.flags.to_text(reply.flags) == "QR AA"


@needs_ipv6
def test_the_server_can_listen_on_the_ipv6_loopback() -> None:
    with HeadlessService("web.prod", pods=2, host="::1") as service:
        assert service.nameserver.startswith("[::1]:")
        assert len(addresses(service)) == 2
        assert len(addresses(service, tcp=True)) == 2


def test_an_address_has_another_order_each_time_unless_shuffling_is_off() -> None:
    with HeadlessService("web.prod", pods=20, seed=1) as service:
        assert len({tuple(data(ask(service))) for _ in range(5)}) > 1
    with HeadlessService("web.prod", pods=20, shuffle=False) as service:
        assert len({tuple(data(ask(service))) for _ in range(5)}) == 1


def test_the_same_seed_gives_the_same_orders() -> None:
    def orders() -> list[list[str]]:
        with HeadlessService("web.prod", pods=20, seed=7) as service:
            return [data(service.answer(dns.message.make_query(WEB, "A"))) for _ in range(3)]

    assert orders() == orders()


def test_srv_records_name_port_weight_and_dashed_address() -> None:
    """
    The weight is 100 shared by all records, rounded down; addresses are in the additional section.
    """
    with HeadlessService("web.prod", pods=3, ports={"http": 8080, "grpc": 9090}) as service:
        reply = ask(service, f"_http._tcp.{WEB}", "SRV")

    assert data(reply) == [f"0 33 8080 10-244-0-{n}.{WEB}" for n in (2, 3, 4)]
    assert owners(reply, "additional") == {f"10-244-0-{n}.{WEB}" for n in (2, 3, 4)}
    assert set(data(reply, "additional")) == {"10.244.0.2", "10.244.0.3", "10.244.0.4"}


def test_srv_targets_of_a_stateful_service_are_its_hostnames() -> None:
    with HeadlessService("web.prod", pods=2, stateful=True) as service:
        reply = ask(service, f"_http._tcp.{WEB}", "SRV")

    assert data(reply) == [f"0 50 8080 web-0.{WEB}", f"0 50 8080 web-1.{WEB}"]


def test_srv_at_the_bare_name_gives_every_port_of_every_pod() -> None:
    with HeadlessService("web.prod", pods=3, ports={"http": 8080, "grpc": 9090}) as service:
        reply = ask(service, WEB, "SRV", tcp=True)

    assert len(data(reply)) == 6
    assert {record.split()[1] for record in data(reply)} == {"16"}
    assert len(data(reply, "additional")) == 3


def test_srv_weights_never_fall_below_one() -> None:
    with HeadlessService("web.prod", pods=150) as service:
        reply = ask(service, f"_http._tcp.{WEB}", "SRV", tcp=True)

    assert {record.split()[1] for record in data(reply)} == {"1"}


def test_pods_may_share_an_address_and_differ_in_port() -> None:
    """
    Three real servers on one loopback address are three pods to SRV, and one address to A.
    """
    pods = [Pod("127.0.0.1", hostname=f"web-{n}", ports={"http": 40000 + n}) for n in range(3)]

    with HeadlessService("web.prod", pods=pods) as service:
        reply = ask(service, f"_http._tcp.{WEB}", "SRV")
        assert data(reply) == [f"0 33 {40000 + n} web-{n}.{WEB}" for n in range(3)]
        assert addresses(service) == {"127.0.0.1"}


@pytest.mark.parametrize("prefix", ["_http._udp.", "_other._tcp.", "_tcp.", "x._http._tcp.", "*."])
def test_a_port_or_pod_that_is_not_there_is_nxdomain(prefix: str) -> None:
    with HeadlessService("web.prod") as service:
        reply = ask(service, prefix + WEB, "SRV")

    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert "SOA" in reply.to_text()


def test_ports_have_protocols_and_may_be_unnamed() -> None:
    ports = (Port("dns", 53, "udp"), Port("", 80))

    with HeadlessService("web.prod", pods=1, ports=ports) as service:
        assert data(ask(service, f"_dns._udp.{WEB}", "SRV")) == [f"0 100 53 10-244-0-2.{WEB}"]
        assert data(ask(service, f"_._tcp.{WEB}", "SRV")) == [f"0 100 80 10-244-0-2.{WEB}"]
        assert len(data(ask(service, WEB, "SRV"))) == 2


def test_a_service_without_ports_has_addresses_and_no_srv_records() -> None:
    with HeadlessService("web.prod", pods=2, ports={}) as service:
        reply = ask(service, WEB, "SRV")

        assert len(addresses(service)) == 2
    assert reply.rcode() == dns.rcode.NOERROR
    assert data(reply) == []


def test_the_name_of_a_port_answers_with_addresses_too() -> None:
    with HeadlessService("web.prod", pods=2) as service:
        assert len(data(ask(service, f"_http._tcp.{WEB}", "A"))) == 2


def test_each_pod_has_a_name_of_its_own() -> None:
    with HeadlessService("web.prod", pods=2, stateful=True) as service:
        assert data(ask(service, f"web-1.{WEB}")) == ["10.244.0.3"]
        # A pod with a hostname has no dashed name besides.
        assert ask(service, f"10-244-0-3.{WEB}").rcode() == dns.rcode.NXDOMAIN
    with HeadlessService("web.prod", pods=2) as service:
        assert data(ask(service, f"10-244-0-3.{WEB}")) == ["10.244.0.3"]


def test_a_dual_stack_service_answers_each_family_alone() -> None:
    with HeadlessService("web.prod", pods=2, families=("ipv4", "ipv6")) as service:
        assert sorted(data(ask(service, WEB, "A"))) == ["10.244.0.2", "10.244.0.3"]
        assert sorted(data(ask(service, WEB, "AAAA"))) == ["fd00:244::2", "fd00:244::3"]
        # Without hostnames each address is a target of its own.
        assert len(data(ask(service, WEB, "SRV"))) == 4


def test_a_dual_stack_hostname_is_one_srv_target_with_two_addresses() -> None:
    with HeadlessService("web.prod", pods=1, families=("ipv4", "ipv6"), stateful=True) as service:
        reply = ask(service, WEB, "SRV")

    # Both addresses count for the weight.
    assert data(reply) == [f"0 50 8080 web-0.{WEB}"]
    assert set(data(reply, "additional")) == {"10.244.0.2", "fd00:244::2"}


@pytest.mark.parametrize("rdtype", ["AAAA", "TXT", "MX", "CNAME", "NS", "ANY"])
def test_another_type_of_record_is_no_data(rdtype: str) -> None:
    with HeadlessService("web.prod") as service:
        reply = ask(service, WEB, rdtype)

    assert reply.rcode() == dns.rcode.NOERROR
    assert data(reply) == []
    (soa,) = data(reply, "authority")
    start, serial, rest = soa.split(" ", 2)[0], soa.split()[2], soa.split()[3:]
    assert start == "ns.dns.cluster.local."
    assert int(serial) > 1_700_000_000
    assert rest == ["7200", "1800", "86400", "5"]


@pytest.mark.parametrize("name", ["prod.svc.cluster.local", "svc.cluster.local", "cluster.local"])
def test_names_above_a_service_exist_and_hold_nothing(name: str) -> None:
    with HeadlessService("web.prod") as service:
        reply = ask(service, name)

    assert (reply.rcode(), data(reply)) == (dns.rcode.NOERROR, [])
    assert owners(reply, "authority") == {"cluster.local."}


@pytest.mark.parametrize("name", ["api.prod.svc", "web.test.svc", "test.svc", "a.b.c.d.svc", "x"])
def test_unknown_names_in_the_zone_are_nxdomain(name: str) -> None:
    with HeadlessService("web.prod") as service:
        reply = ask(service, f"{name}.cluster.local")

    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert owners(reply, "authority") == {"cluster.local."}


@pytest.mark.parametrize("rdtype", ["A", "SRV", "TXT"])
def test_no_ready_pod_is_nxdomain_like_a_missing_service(rdtype: str) -> None:
    with HeadlessService("web.prod", pods=1) as service:
        service.unready("10.244.0.2")
        assert ask(service, WEB, rdtype).rcode() == dns.rcode.NXDOMAIN
        service.scale(0)
        assert ask(service, WEB, rdtype).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("name", ["example.com", "local", "."])
def test_names_outside_the_zone_are_servfail_without_soa(name: str) -> None:
    with HeadlessService("web.prod") as service:
        reply = ask(service, name)

    assert reply.rcode() == dns.rcode.SERVFAIL
    assert reply.authority == []
    assert not reply.flags & dns.flags.AA


def test_the_case_of_the_question_is_repeated() -> None:
    with HeadlessService("web.prod", pods=1) as service:
        assert owners(ask(service, "WeB.PROD.svc.Cluster.LOCAL")) == {"WeB.PROD.svc.Cluster.LOCAL."}


def test_srv_targets_keep_their_case_but_for_the_zone() -> None:
    """
    A client that varies the case of its questions sees the case of its answers vary.
    """
    with HeadlessService("web.prod", pods=1) as service:
        for zone in ("Cluster.LOCAL.", "cluster.local."):
            reply = ask(service, f"_HTTP._tcp.Web.PROD.svc.{zone}", "SRV")
            assert data(reply) == [f"0 100 8080 10-244-0-2.web.prod.svc.{zone}"]


def test_a_service_lives_in_the_zone_it_was_given() -> None:
    with HeadlessService("web.prod.svc.example.org.") as service:
        assert service.name == "web.prod.svc.example.org"
        assert len(addresses(service)) == 3
        assert ask(service, WEB).rcode() == dns.rcode.SERVFAIL


def test_an_external_name_answers_with_a_cname() -> None:
    with HeadlessService("web.prod", pods=2) as service:
        service.alias("shop.prod", "example.com")
        service.alias("cache.prod", "web.prod.svc.cluster.local.")
        service.alias("lost.prod", "nowhere.prod.svc.cluster.local")

        assert data(ask(service, "shop.prod.svc.cluster.local")) == ["example.com."]
        inside = data(ask(service, "cache.prod.svc.cluster.local"))
        assert inside[0] == WEB
        assert set(inside[1:]) == {"10.244.0.2", "10.244.0.3"}
        assert data(ask(service, "lost.prod.svc.cluster.local")) == []


# --- EDNS and size


def test_edns_is_answered_only_where_it_was_asked() -> None:
    with HeadlessService("web.prod") as service:
        assert ask(service).edns == -1
        reply = ask(service, payload=1400)

    assert (reply.edns, reply.payload) == (0, 1400)


def test_a_cookie_comes_back_as_it_went() -> None:
    with HeadlessService("web.prod") as service:
        cookie = dns.edns.CookieOption(b"12345678", b"")
        query = dns.message.make_query(WEB, "A", use_edns=0, options=[cookie])
        host, port = where(service)
        reply = dns.query.udp(query, host, port=port, timeout=5)

    assert [option.otype for option in reply.options] == [dns.edns.OptionType.COOKIE]


def test_an_unknown_edns_version_is_badvers() -> None:
    with HeadlessService("web.prod") as service:
        query = dns.message.make_query(WEB, "A", use_edns=1)
        host, port = where(service)
        reply = dns.query.udp(query, host, port=port, timeout=5)

    assert reply.rcode() == dns.rcode.BADVERS


@pytest.mark.parametrize(
    ("payload", "records"), [(None, 29), (0, 28), (512, 28), (1232, 73), (4096, 200)]
)
def test_udp_answers_are_cut_to_the_size_the_client_takes(
    payload: int | None, records: int
) -> None:
    """
    The counts are CoreDNS's for this name.
    """
    with HeadlessService("web.prod", pods=200) as service:
        reply = ask(service, payload=payload)

    assert len(data(reply)) == records
    assert bool(reply.flags & dns.flags.TC) == (records < 200)


@pytest.mark.parametrize(("payload", "records"), [(None, 8), (512, 7), (1232, 20), (4096, 69)])
def test_a_cut_srv_answer_loses_its_additional_section_first(
    payload: int | None, records: int
) -> None:
    """
    The counts are CoreDNS's for these addresses; their digits are part of the targets.
    """
    pods = [f"10.244.0.{n}" for n in range(1, 201)]
    with HeadlessService("web.prod", pods=pods) as service:
        reply = ask(service, f"_http._tcp.{WEB}", "SRV", payload=payload)

    assert len(data(reply)) == records
    assert data(reply, "additional") == []
    assert reply.flags & dns.flags.TC


def test_each_cut_answer_holds_other_pods() -> None:
    with HeadlessService("web.prod", pods=200, seed=3) as service:
        seen = Counter(address for _ in range(20) for address in data(ask(service)))

    assert len(seen) > 100


def test_tcp_carries_a_thousand_pods_whole() -> None:
    with HeadlessService("web.prod", pods=1000) as service:
        assert len(addresses(service, tcp=True)) == 1000


def test_a_large_answer_has_few_orders_and_never_outlives_a_change() -> None:
    with HeadlessService("web.prod", pods=300, seed=1) as service:
        orders = {tuple(data(ask(service, tcp=True))) for _ in range(20)}
        assert 1 < len(orders) <= 8
        service.scale(299)
        assert len(addresses(service, tcp=True)) == 299


@pytest.mark.long
def test_tcp_too_has_a_ceiling() -> None:
    """
    64 KiB hold 4093 addresses, of whatever there are, and the rest is missing without a word.
    """
    name = "s.prod.svc.cluster.local"
    with HeadlessService(name, pods=4200) as service:
        reply = ask(service, tcp=True)
        assert len(data(reply)) == 4093
        assert reply.flags & dns.flags.TC

        service.scale(1000)
        reply = ask(service, name, "SRV", tcp=True)
        assert len(data(reply)) == 1000
        assert 300 < len(data(reply, "additional")) < 400
        assert reply.flags & dns.flags.TC


# --- what is not quite a query


def header(flags: int, questions: int) -> bytes:
    return struct.pack("!HHHHHH", 1, flags, questions, 0, 0, 0)


@pytest.mark.parametrize(
    ("wire", "rcode"),
    [
        (header(0x0100, 0), dns.rcode.FORMERR),
        (header(0x0100, 2) + b"\0\0\1\0\1" * 2, dns.rcode.FORMERR),
        (header(0x0100, 1) + b"\xff\xff", dns.rcode.FORMERR),
        (header(0x1100, 1) + b"\0\0\1\0\1", dns.rcode.NOTIMP),
        (header(0x0100, 1) + b"\0\0\1\0\3", dns.rcode.REFUSED),
    ],
)
def test_broken_queries_are_told_so(wire: bytes, rcode: int) -> None:
    with HeadlessService("web.prod") as service:
        reply = dns.message.from_wire(ask_raw(service, wire))

    assert reply.rcode() == rcode


@pytest.mark.parametrize("wire", [b"", b"\0\1\0", header(0x8100, 1) + b"\0\0\1\0\1"])
def test_noise_and_answers_meet_silence(wire: bytes) -> None:
    with HeadlessService("web.prod") as service:
        with pytest.raises(TimeoutError):
            ask_raw(service, wire, timeout=0.05)
        assert service.queries == ()


def test_labels_that_are_no_text_are_nxdomain() -> None:
    question = b"\2\xff\xfe\4prod\3svc\7cluster\5local\0\0\1\0\1"
    with HeadlessService("web.prod") as service:
        reply = dns.message.from_wire(ask_raw(service, header(0x0100, 1) + question))

    assert reply.rcode() == dns.rcode.NXDOMAIN
