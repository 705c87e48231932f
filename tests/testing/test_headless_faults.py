"""
Things go wrong, exactly as told, and heal.
"""

from __future__ import annotations

import socket
import threading
import time

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from knet.errors import ConfigError
from knet.testing import FaultKind, HeadlessService

from .asking import addresses, ask, ask_raw, data, owners, where

WEB = "web.prod.svc.cluster.local."
QUERY = dns.message.make_query(WEB, "A", id=0x1234).to_wire()


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("kind", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR", "NXDOMAIN"])
def test_a_code_is_answered_until_healed(kind: FaultKind, tcp: bool) -> None:
    with HeadlessService("web.prod") as service:
        service.fail(kind)
        for _ in range(2):
            reply = ask(service, tcp=tcp)
            assert dns.rcode.to_text(reply.rcode()) == kind
            assert data(reply) == []
        service.heal()
        assert len(addresses(service, tcp=tcp)) == 3


def test_nodata_is_an_empty_success_with_soa() -> None:
    with HeadlessService("web.prod") as service:
        service.fail("NODATA")
        reply = ask(service)

    assert (reply.rcode(), data(reply)) == (dns.rcode.NOERROR, [])
    assert owners(reply, "authority") == {"cluster.local."}


def test_silence_is_no_answer_at_all() -> None:
    with HeadlessService("web.prod") as service, service.failing("SILENCE"):
        for tcp in (False, True):
            with pytest.raises(dns.exception.Timeout):
                ask(service, tcp=tcp, timeout=0.05)


def test_garbage_has_the_right_id_and_is_no_dns() -> None:
    with HeadlessService("web.prod") as service, service.failing("GARBAGE"):
        wire = ask_raw(service, QUERY)

    assert wire[:2] == QUERY[:2]
    with pytest.raises(dns.exception.DNSException):
        dns.message.from_wire(wire)


def test_the_wrong_id_is_right_in_everything_else() -> None:
    with HeadlessService("web.prod") as service, service.failing("WRONG_ID"):
        wire = ask_raw(service, QUERY)

    assert wire[:2] != QUERY[:2]
    assert len(data(dns.message.from_wire(wire))) == 3


def test_the_wrong_question_is_right_in_everything_else() -> None:
    with HeadlessService("web.prod") as service, service.failing("WRONG_QUESTION"):
        reply = dns.message.from_wire(ask_raw(service, QUERY))

    assert reply.id == 0x1234
    assert owners(reply, "question") == {"elsewhere.test."}
    assert owners(reply) == {WEB}
    assert len(data(reply)) == 3


def test_the_wrong_source_is_another_port_over_udp() -> None:
    with HeadlessService("web.prod") as service, service.failing("WRONG_SOURCE"):
        host, port = where(service)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(5)
            udp.sendto(QUERY, (host, port))
            wire, source = udp.recvfrom(65535)
        assert len(addresses(service, tcp=True)) == 3

    assert source[0] == host
    assert source[1] != port
    assert len(data(dns.message.from_wire(wire))) == 3


def test_truncation_halves_udp_and_leaves_tcp_whole() -> None:
    with HeadlessService("web.prod", pods=4) as service, service.failing("TRUNCATE"):
        reply = ask(service)
        assert reply.flags & dns.flags.TC
        assert len(data(reply)) == 2
        assert len(addresses(service, tcp=True)) == 4


def test_truncation_over_tcp_is_there_for_the_asking() -> None:
    with HeadlessService("web.prod", pods=4) as service:
        service.fail("TRUNCATE", transport="tcp")
        reply = ask(service, tcp=True)
        assert reply.flags & dns.flags.TC
        assert len(data(reply)) == 2
        assert len(addresses(service)) == 4


def test_a_closed_connection_is_the_end_of_a_tcp_query_only() -> None:
    with HeadlessService("web.prod") as service, service.failing("CLOSE"):
        with pytest.raises(EOFError):
            ask(service, tcp=True)
        assert len(addresses(service)) == 3


def test_a_fault_can_end_after_a_number_of_queries() -> None:
    with HeadlessService("web.prod") as service:
        service.fail("SERVFAIL", times=2)
        codes = [ask(service).rcode() for _ in range(3)]

    assert codes == [dns.rcode.SERVFAIL, dns.rcode.SERVFAIL, dns.rcode.NOERROR]


def test_a_fault_can_meet_one_type_of_record_only() -> None:
    with HeadlessService("web.prod") as service:
        service.fail("SERVFAIL", rdtype="srv")
        assert ask(service, WEB, "SRV").rcode() == dns.rcode.SERVFAIL
        assert ask(service, WEB, "A").rcode() == dns.rcode.NOERROR


def test_the_newest_fault_that_matches_is_the_one_met() -> None:
    with HeadlessService("web.prod") as service:
        service.fail("SERVFAIL")
        with service.failing("REFUSED"):
            assert ask(service).rcode() == dns.rcode.REFUSED
        assert ask(service).rcode() == dns.rcode.SERVFAIL


def test_a_block_of_failing_may_be_healed_inside() -> None:
    with HeadlessService("web.prod") as service:
        with service.failing("SERVFAIL"):
            service.heal()
            assert ask(service).rcode() == dns.rcode.NOERROR
        assert ask(service).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("servfail", {}),
        ("BOOM", {}),
        ("SERVFAIL", {"times": 0}),
        ("SERVFAIL", {"rdtype": "NONSENSE"}),
        ("SERVFAIL", {"transport": "quic"}),
    ],
)
def test_a_fault_there_is_not_is_a_config_error(kind: str, options: dict[str, object]) -> None:
    service = HeadlessService("web.prod")

    with pytest.raises(ConfigError):
        service.fail(kind, **options)  # type: ignore[arg-type] # wrong on purpose


def test_a_delayed_answer_is_late_and_tells_what_was_true_when_asked() -> None:
    with HeadlessService("web.prod", pods=3) as service:
        service.delay(0.1)
        late: list[set[str]] = []
        start = time.monotonic()
        client = threading.Thread(target=lambda: late.append(addresses(service)))
        client.start()
        service.wait_for_queries(1)
        service.scale(1)
        client.join()

        assert time.monotonic() - start >= 0.1
        assert len(late[0]) == 3
        service.heal()
        assert len(addresses(service)) == 1


def test_a_delay_does_not_hold_up_other_queries_or_the_end() -> None:
    start = time.monotonic()
    with HeadlessService("web.prod") as service:
        service.delay(60)
        with pytest.raises(dns.exception.Timeout):
            ask(service, timeout=0.02)
        service.delay(0)
        assert len(addresses(service)) == 3
    assert time.monotonic() - start < 30


def test_blocked_tcp_refuses_connections_and_comes_back() -> None:
    with HeadlessService("web.prod", tcp=False) as service:
        for _ in range(2):
            with pytest.raises(OSError):
                ask(service, tcp=True)
            assert len(addresses(service)) == 3
            service.set_tcp(True)
            assert len(addresses(service, tcp=True)) == 3
            service.set_tcp(False)
        service.heal()
        assert len(addresses(service, tcp=True)) == 3


# --- exact answers


def test_records_can_be_answered_word_for_word() -> None:
    with HeadlessService("web.prod") as service:
        service.answer_with(
            f"{WEB} 5 IN CNAME other.example.",
            "other.example. 5 IN A 10.0.0.1",
            additional=["elsewhere.example. 5 IN A 10.0.0.2"],
        )
        reply = ask(service)
        assert owners(reply) == {WEB, "other.example."}
        assert data(reply, "additional") == ["10.0.0.2"]

        service.answer_with(rdtype="AAAA")
        assert data(ask(service, rdtype="AAAA")) == []
        assert len(addresses(service)) == 3

        service.respond = None
        assert ask(service, rdtype="AAAA").authority != []


def test_what_is_no_record_is_a_config_error() -> None:
    service = HeadlessService("web.prod")

    for line in ("10.0.0.1", f"{WEB} 5 IN A elsewhere", f"{WEB} soon IN A 10.0.0.1"):
        with pytest.raises(ConfigError, match="expected a record"):
            service.answer_with(line)


def test_a_hook_can_alter_the_usual_answer() -> None:
    with HeadlessService("web.prod", pods=2) as service:

        def without_additional(query: dns.message.Message) -> dns.message.Message:
            reply = service.answer(query)
            reply.additional.clear()
            return reply

        service.respond = without_additional
        reply = ask(service, WEB, "SRV")

    assert len(data(reply)) == 2
    assert reply.additional == []


def test_a_hook_can_answer_with_bytes_or_leave_it() -> None:
    def noise(query: dns.message.Message) -> bytes | None:
        return b"noise" if query.question[0].rdtype == dns.rdatatype.TXT else None

    with HeadlessService("web.prod") as service:
        service.respond = noise
        assert ask_raw(service, dns.message.make_query(WEB, "TXT").to_wire()) == b"noise"
        assert len(addresses(service)) == 3


def test_a_hook_may_use_the_controls() -> None:
    """
    A pod that leaves between two answers.
    """
    with HeadlessService("web.prod", pods=3) as service:

        def leave(query: dns.message.Message) -> None:
            service.scale(len(service.pods) - 1)

        service.respond = leave
        assert [len(addresses(service)) for _ in range(3)] == [2, 1, 0]


def test_a_hook_may_wait_for_a_thread_that_uses_the_controls() -> None:
    """
    A query held in flight while the Service changes.
    """
    scaled = threading.Event()

    def hold(query: dns.message.Message) -> None:
        assert scaled.wait(5)

    with HeadlessService("web.prod", pods=3) as service:
        service.respond = hold
        held: list[set[str]] = []
        client = threading.Thread(target=lambda: held.append(addresses(service)))
        client.start()
        service.scale(1)
        scaled.set()
        client.join()

    assert len(held[0]) == 1


def test_faults_go_before_the_hook() -> None:
    with HeadlessService("web.prod") as service:
        service.answer_with()
        service.fail("REFUSED")
        assert ask(service).rcode() == dns.rcode.REFUSED


def test_a_hook_that_raises_is_servfail_and_comes_up_on_closing() -> None:
    def broken(query: dns.message.Message) -> None:
        raise ZeroDivisionError("mine")

    service = HeadlessService("web.prod").start()
    service.respond = broken
    assert ask(service).rcode() == dns.rcode.SERVFAIL
    with pytest.raises(ZeroDivisionError, match="mine"):
        service.close()
    service.close()


def test_a_hook_that_raises_does_not_hide_what_the_body_raised() -> None:
    def broken(query: dns.message.Message) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(KeyError) as caught, HeadlessService("web.prod") as service:
        service.respond = broken
        ask(service)
        raise KeyError("body")

    assert "ZeroDivisionError" in caught.value.__notes__[0]


# --- what was asked


def test_queries_are_recorded_with_name_type_and_transport() -> None:
    with HeadlessService("web.prod") as service:
        before = time.monotonic()
        ask(service, "Web.prod.svc.cluster.local")
        ask(service, f"_http._tcp.{WEB}", "SRV", tcp=True)
        first, second = service.queries

    assert (first.name, first.rdtype, first.transport) == (
        "Web.prod.svc.cluster.local",
        "A",
        "udp",
    )
    assert (second.name, second.rdtype, second.transport) == (
        "_http._tcp.web.prod.svc.cluster.local",
        "SRV",
        "tcp",
    )
    assert before <= first.time <= second.time <= time.monotonic()


def test_queries_that_failed_are_recorded_too() -> None:
    with HeadlessService("web.prod") as service:
        service.fail("SILENCE")
        with pytest.raises(dns.exception.Timeout):
            ask(service, timeout=0.05)
        assert [query.rdtype for query in service.queries] == ["A"]
        service.forget_queries()
        assert list(service.queries) == []


def test_waiting_for_queries_ends_with_them_or_in_time() -> None:
    with HeadlessService("web.prod") as service:
        ask(service)
        assert len(service.wait_for_queries(1)) == 1
        with pytest.raises(TimeoutError, match="1 of 2 queries"):
            service.wait_for_queries(2, timeout=0.01)
