"""
DNS lies: answers that are well-formed and not true, or not the whole truth.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from knet import NoEndpoints, Ring
from knet.belief.absence import EMPTY_ANSWERS
from knet.testing import FaultKind, HeadlessService, Pod
from tests.waiting import until_state
from tests.weather.rings import (
    FORGED,
    PATIENT,
    QUICK,
    SRV,
    WEB,
    addresses,
    lookups,
    picks,
    resolver_at,
    ring_at,
    shown,
    traffic,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]
weather = pytest.mark.weather

Message = dns.message.Message
NOTHING: list[FaultKind] = ["NXDOMAIN", "NODATA"]


class Once:
    """
    Answers one query with what *alter* makes of the usual answer, and all others as usual.
    """

    def __init__(self, service: HeadlessService, alter: Callable[[Message], None]) -> None:
        self.told = threading.Event()
        self._service = service
        self._alter = alter

    def __call__(self, query: Message) -> Message | None:
        if self.told.is_set():
            return None
        reply = self._service.answer(query)
        self._alter(reply)
        self.told.set()
        return reply


def only(*kept: str) -> Callable[[Message], None]:
    """
    Leave an answer the records with these addresses.
    """

    def alter(reply: Message) -> None:
        reply.answer = rrsets(line for line in lines(reply.answer) if line.split()[-1] in kept)

    return alter


def lines(section: Iterable[dns.rrset.RRset]) -> list[str]:
    """
    Return the records of a section, one a line.
    """
    return [line for one in section for line in one.to_text().splitlines()]


def rrsets(records: Iterable[str]) -> list[dns.rrset.RRset]:
    """
    Return *records* as a section, in this order.
    """
    found = []
    for line in records:
        owner, ttl, rdclass, rdtype, data = line.split(None, 4)
        found.append(dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, data))
    return found


def adding(service: HeadlessService, *records: str) -> Callable[[Message], Message]:
    """
    Answer as usual, with these records on top.
    """

    def answer(query: Message) -> Message:
        reply = service.answer(query)
        reply.answer[:0] = rrsets(records)
        return reply

    return answer


# --- there is nothing


@weather("NXDOMAIN or an empty answer")
@pytest.mark.parametrize("port", [8080, "http"])
@pytest.mark.parametrize("fault", NOTHING)
@pytest.mark.sampled(4)
async def test_pods_are_held_while_dns_says_that_there_are_none(
    fault: FaultKind, port: int | str
) -> None:
    """
    However often it says so; the first answer that names them ends it.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web, port=port, refresh=PATIENT) as ring, traffic(ring):
            before = ring.snapshot
            web.fail(fault)
            await until(lambda: ring.stats().failures.get(fault.lower(), 0) >= 10)

            assert ring.snapshot is before
            assert ring.state == "stale"

            web.heal()
            await until_state(ring, "fresh")
            assert ring.snapshot is before


@pytest.mark.sampled(5)
@weather("NXDOMAIN or an empty answer")
@weather("The Service is scaled to zero")
@pytest.mark.parametrize("port", [8080, "http"])
@pytest.mark.parametrize("fault", [*NOTHING, "scaled"])
async def test_after_the_hold_a_key_has_no_pod_and_says_so(fault: str, port: int | str) -> None:
    """
    Until an answer names a pod again, which counts at once.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web, port=port, refresh=QUICK) as ring:
            if fault == "scaled":
                web.scale(0)
            else:
                web.fail("NXDOMAIN" if fault == "NXDOMAIN" else "NODATA")
            await until_state(ring, "empty")

            assert ring.stats().lookups >= 4
            assert (ring.stats().endpoints, ring.stats().generation) == (0, 2)
            with pytest.raises(NoEndpoints, match=f"no endpoints.*{WEB}"):
                await ring.get("user-42")

            web.heal()
            web.scale(2)
            await until_state(ring, "fresh")
            async with traffic(ring):
                assert shown(ring) == addresses(web)


@weather("NXDOMAIN or an empty answer")
async def test_a_failure_in_between_begins_nothing_anew() -> None:
    """
    A Service is scaled to zero while every third lookup fails: the ring is empty all the same.
    """
    with HeadlessService("web.prod", pods=3) as web:
        once_each = resolver_at(web, tries=1)
        async with ring_at(web, resolver=once_each, refresh=QUICK) as ring:
            turns = 0

            def alternate(query: Message) -> Message:
                nonlocal turns
                turns += 1
                reply = dns.message.make_response(query)
                reply.set_rcode(dns.rcode.NXDOMAIN if turns % 3 else dns.rcode.REFUSED)
                return reply

            web.respond = alternate
            await until_state(ring, "empty")

            assert ring.stats().failures["refused"] >= 1
            assert ring.stats().failures["nxdomain"] >= EMPTY_ANSWERS


# --- some are missing


@weather("Most pods vanish at once")
async def test_most_pods_missing_once_are_asked_about_again() -> None:
    """
    A new pod in the same answer is there at once; nobody has left.
    """
    with HeadlessService("web.prod", pods=40) as web:
        async with ring_at(web) as ring, traffic(ring):
            here = addresses(web)

            def only_the_new_one(reply: Message) -> None:
                new = web.add("10.244.9.9").address
                reply.answer = rrsets([f"{WEB}. 5 IN A {new}"])

            web.respond = Once(web, only_the_new_one)
            await until(lambda: ring.stats().generation == 2)
            assert shown(ring) == here | {"10.244.9.9"}

            await lookups(ring, 4)
            assert shown(ring) == here | {"10.244.9.9"}
            assert (ring.stats().generation, ring.stats().held) == (2, 0)


@weather("Most pods vanish at once")
async def test_most_pods_that_are_gone_are_gone_with_the_second_answer() -> None:
    """
    Who stays keeps its keys.
    """
    with HeadlessService("web.prod", pods=40) as web:
        async with ring_at(web) as ring, traffic(ring):
            before = picks(ring)
            web.scale(2)
            await until(lambda: shown(ring) == addresses(web))

            kept = addresses(web)
            after = picks(ring)
            assert all(a == b for a, b in zip(before, after, strict=True) if a.address in kept)
            assert ring.stats().generation == 2


@weather("A pod is missing from one answer")
async def test_a_pod_that_one_answer_leaves_out_was_never_away() -> None:
    """
    The next one is asked for soon, and names it.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web) as ring, traffic(ring):
            before = ring.snapshot
            for _ in range(5):
                once = web.respond = Once(web, only("10.244.0.2", "10.244.0.3"))
                await until(once.told.is_set)
                await lookups(ring, 3)

            assert ring.snapshot is before
            assert ring.stats().failures == {}


@pytest.mark.long
@weather("The answer is as large as DNS can carry")
async def test_an_answer_that_was_cut_off_over_tcp_adds_and_never_removes() -> None:
    """
    The mark of it is not shown by c-ares, so its size has to tell.
    """
    with HeadlessService("web.prod", pods=4_200, shuffle=False) as web:
        async with ring_at(web, start_timeout=60) as ring:
            seen = shown(ring)
            assert 4_000 < len(seen) < 4_096
            first, *_ = web.pods

            web.remove(first)
            await until(lambda: ring.stats().generation == 2)
            await lookups(ring, 5)

            assert shown(ring) > seen
            assert first.address in shown(ring)
            assert ring.stats().held >= 1
            assert (ring.state, ring.stats().gap) == ("fresh", "cut off")

            web.scale(3)
            await until(lambda: shown(ring) == addresses(web))
            assert ring.stats().held == 0


def without_glue(service: HeadlessService) -> Callable[[Message], Message]:
    def answer(query: Message) -> Message:
        reply = service.answer(query)
        reply.additional.clear()
        return reply

    return answer


@weather("Addresses of SRV targets are missing")
async def test_addresses_that_did_not_come_along_are_asked_for() -> None:
    """
    The ring does not notice.
    """
    with HeadlessService("web.prod", pods=5, stateful=True) as web:
        async with ring_at(web, port="http") as ring, traffic(ring):
            before = ring.snapshot
            web.respond = without_glue(web)
            await lookups(ring, 5)

            assert ring.snapshot is before
            assert {query.rdtype for query in web.queries} == {"SRV", "A"}


@weather("Addresses of SRV targets are missing")
@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "SILENCE"])
@pytest.mark.sampled(4)
async def test_a_target_without_an_address_is_kept_while_the_server_fails(
    fault: FaultKind,
) -> None:
    """
    New pods whose addresses came along join; nobody leaves.
    """
    with HeadlessService("web.prod", pods=3, stateful=True) as web:
        resolver = resolver_at(web, deadline=0.15 if fault == "SILENCE" else 10.0)
        async with ring_at(web, port="http", resolver=resolver) as ring, traffic(ring):
            before = shown(ring)

            def half(query: Message) -> Message | None:
                reply = web.answer(query)
                reply.additional = [
                    one for one in reply.additional if not one.name.to_text().startswith("web-1.")
                ]
                return reply

            web.respond = half
            web.fail(fault, rdtype="A")
            web.scale(4)
            await until(lambda: len(shown(ring)) == 4)
            await lookups(ring, 4)

            assert shown(ring) == addresses(web) > before
            await until(lambda: (ring.state, ring.stats().held) == ("fresh", 1))
            assert ring.stats().gap == "targets"
            assert "web-1" in ring.stats().gap_reason


# --- what does not belong there


@weather("Records of another name")
@pytest.mark.parametrize("port", [8080, "http"])
async def test_records_of_another_name_are_not_believed(port: int | str) -> None:
    """
    Beside the right ones they are left out.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web, port=port) as ring, traffic(ring):
            before = ring.snapshot
            web.respond = adding(
                web,
                f"evil.test. 5 IN A {FORGED}",
                f"evil.{WEB}. 5 IN A {FORGED}",
                f"_http._tcp.evil.test. 5 IN SRV 0 0 80 evil.{WEB}.",
            )
            await lookups(ring, 5)

            assert ring.snapshot is before
            assert ring.stats().failures == {}


NO_WAY = {
    "another name": [f"evil.test. 5 IN A {FORGED}"],
    "a circle": [
        f"{WEB}. 5 IN CNAME a.{WEB}.",
        f"a.{WEB}. 5 IN CNAME b.{WEB}.",
        f"b.{WEB}. 5 IN CNAME {WEB}.",
        f"c.{WEB}. 5 IN A {FORGED}",
    ],
    "itself": [f"{WEB}. 5 IN CNAME {WEB}.", f"{WEB}. 5 IN A {FORGED}"],
    "nowhere": [f"{WEB}. 5 IN CNAME gone.{WEB}."],
    "an endless chain": [
        f"{WEB}. 5 IN CNAME n0.{WEB}.",
        *(f"n{n}.{WEB}. 5 IN CNAME n{n + 1}.{WEB}." for n in range(20)),
        f"n20.{WEB}. 5 IN A {FORGED}",
    ],
}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    "records",
    [
        pytest.param(NO_WAY["another name"], marks=weather("Records of another name")),
        pytest.param(NO_WAY["a circle"], marks=weather("CNAMEs in a circle, or to nowhere")),
        pytest.param(NO_WAY["itself"], marks=weather("CNAMEs in a circle, or to nowhere")),
        pytest.param(NO_WAY["nowhere"], marks=weather("CNAMEs in a circle, or to nowhere")),
        pytest.param(
            NO_WAY["an endless chain"], marks=weather("CNAMEs in a circle, or to nowhere")
        ),
    ],
    ids=list(NO_WAY),
)
@pytest.mark.sampled(5)
async def test_an_answer_that_leads_to_no_pod_is_an_empty_one(
    records: list[str], external: bool
) -> None:
    """
    So it is held, and what it names besides is not believed.
    """
    with HeadlessService("web.prod", pods=3) as web:
        resolver = resolver_at(web, external=external)
        async with ring_at(web, resolver=resolver) as ring, traffic(ring):
            before = ring.snapshot
            web.answer_with(*records, rdtype="A")
            await until(lambda: ring.stats().failures.get("nodata", 0) >= 5)
            assert ring.snapshot is before
            assert ring.state == "stale"

            web.respond = None
            await until_state(ring, "fresh")
            assert ring.snapshot is before


@weather("An answer leads out of the service's own domain")
async def test_an_alias_that_leads_outside_is_not_followed() -> None:
    """
    It is an empty answer, so it is held; the error says where it leads, and what the opt-in is.
    """
    with HeadlessService("web.prod", pods=3) as web:
        async with ring_at(web) as ring, traffic(ring):
            before = ring.snapshot
            web.answer_with(f"{WEB}. 5 IN CNAME evil.test.", f"evil.test. 5 IN A {FORGED}")
            await until(lambda: ring.stats().failures.get("nodata", 0) >= 5)

            assert ring.snapshot is before
            assert ring.state == "stale"
            assert "it leads to evil.test" in str(ring.stats().last_error)
            assert "external=True" in str(ring.stats().last_error)
            assert {query.name for query in web.queries} == {WEB}


@weather("An answer leads out of the service's own domain")
async def test_targets_that_lie_outside_are_left_out() -> None:
    """
    Those beside them are served; nobody asks for the others.
    """
    with HeadlessService("web.prod", pods=3, stateful=True) as web:

        def one_more(query: Message) -> Message:
            reply = web.answer(query)
            reply.answer += rrsets([f"{SRV}. 5 IN SRV 0 0 80 evil.test."])
            reply.additional += rrsets([f"evil.test. 5 IN A {FORGED}"])
            return reply

        async with ring_at(web, port="http") as ring, traffic(ring):
            before = ring.snapshot
            web.respond = one_more
            await until(lambda: ring.stats().ignored > 0)
            await lookups(ring, 5)

            assert ring.snapshot is before
            assert ring.state == "fresh"
            assert {query.name for query in web.queries} == {SRV}


@weather("An answer leads out of the service's own domain")
async def test_an_alias_is_followed_by_those_who_want_it() -> None:
    """
    `Resolver(external=True)`: the ring of an ExternalName Service follows its target's pods.
    """
    with HeadlessService("web.prod", pods=3) as web:
        web.alias("shop.prod", WEB)
        resolver = resolver_at(web, external=True)
        ring = Ring("shop.prod", port=8080, resolver=resolver, refresh=PATIENT)
        async with ring, traffic(ring):
            assert shown(ring) == addresses(web)
            web.replace(web.pods[0])
            await until(lambda: shown(ring) == addresses(web))


# --- records that are odd


@pytest.mark.sampled(6)
@weather("A TTL of 0, a huge or a negative one")
@pytest.mark.parametrize("ttl", [0, 604_800, 2**31 - 1, 2**31, 2**32 - 1])
async def test_a_ttl_without_sense_neither_hurries_nor_blinds_a_ring(ttl: int) -> None:
    """
    It asks as often as ever, and sees who joins and who leaves.
    """
    with HeadlessService("web.prod", pods=3) as web:

        def with_ttl(query: Message) -> Message:
            reply = web.answer(query)
            for one in reply.answer:
                one.ttl = ttl
            return reply

        web.respond = with_ttl
        async with ring_at(web) as ring, traffic(ring):
            web.scale(5)
            await until(lambda: shown(ring) == addresses(web))
            web.scale(2)
            await until(lambda: shown(ring) == addresses(web))

            assert ring.stats().failures == {}


@weather("Duplicates, another order, another case")
@pytest.mark.parametrize("port", [8080, "http"])
async def test_an_answer_that_only_looks_different_changes_nothing(port: int | str) -> None:
    """
    The snapshot stays the very same.
    """
    with HeadlessService("web.prod", pods=5, shuffle=True, stateful=True) as web:

        def dressed_up(query: Message) -> Message:
            reply = web.answer(query)
            for section in (reply.answer, reply.additional):
                once = lines(section)
                section[:] = rrsets(line.replace("web", "WeB") for line in (*reversed(once), *once))
            return reply

        async with ring_at(web, port=port) as ring, traffic(ring):
            before = ring.snapshot
            web.respond = dressed_up
            await lookups(ring, 5)

            assert ring.snapshot is before
            assert (ring.stats().failures, ring.stats().held) == ({}, 0)


@weather("Addresses that no pod can have")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_addresses_that_no_pod_can_have_get_no_keys(family: str) -> None:
    """
    Unspecified, link-local, multicast, broadcast; and an IPv4 address in IPv6 clothes is just that.
    """
    with HeadlessService("web.prod", pods=3, families=["ipv4", "ipv6"]) as web:
        unusable = {
            "ipv4": ["0.0.0.0", "0.1.2.3", "169.254.1.1", "224.0.0.1", "255.255.255.255"],
            "ipv6": ["::", "fe80::1", "ff02::1", "::ffff:169.254.1.1"],
        }[family]
        rdtype = "A" if family == "ipv4" else "AAAA"
        async with ring_at(web, family=family) as ring, traffic(ring):
            before = ring.snapshot
            odd = [f"{WEB}. 5 IN {rdtype} {address}" for address in unusable]
            web.respond = adding(web, *odd)
            await lookups(ring, 5)
            assert ring.snapshot is before

            web.answer_with(*odd)
            await until(lambda: ring.stats().failures.get("nodata", 0) >= 5)
            assert ring.snapshot is before
            assert ring.state == "stale"

            if family == "ipv6":
                web.respond = adding(web, f"{WEB}. 5 IN AAAA ::ffff:10.244.9.9")
                await until(lambda: "10.244.9.9" in shown(ring))


# --- one family of two


@pytest.mark.sampled(8)
@weather("One family of a dual-stack Service fails")
@pytest.mark.parametrize("port", [8080, "http"])
@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "SILENCE", "GARBAGE"])
async def test_a_family_that_fails_does_not_hand_over_to_the_other(
    fault: FaultKind, port: int | str
) -> None:
    """
    The same pods under other names would be other keys for all of them.
    """
    with HeadlessService("web.prod", pods=3, families=["ipv4", "ipv6"]) as web:
        resolver = resolver_at(web, deadline=0.15 if fault == "SILENCE" else 10.0)
        if port == "http":
            web.respond = without_glue(web)
        async with ring_at(web, port=port, resolver=resolver) as ring, traffic(ring):
            before = ring.snapshot
            web.fail(fault, rdtype="A")
            await lookups(ring, 4)
            assert ring.snapshot is before

            web.heal()
            web.fail(fault, rdtype="AAAA")
            await lookups(ring, 4)
            await until_state(ring, "fresh")
            assert ring.snapshot is before


@weather("One family of a dual-stack Service fails")
@pytest.mark.parametrize("port", [8080, "http"])
async def test_a_family_that_is_missing_for_a_moment_is_held(port: int | str) -> None:
    """
    The slices of the two families are written one after the other. That IPv4 is gone is an empty
    answer, whatever there is of IPv6.
    """
    with HeadlessService("web.prod", pods=3, families=["ipv4", "ipv6"]) as web:

        def only_ipv6(query: Message) -> Message:
            reply = web.answer(query)
            reply.answer = [one for one in reply.answer if one.rdtype != dns.rdatatype.A]
            reply.additional = [one for one in reply.additional if one.rdtype != dns.rdatatype.A]
            return reply

        async with ring_at(web, port=port) as ring, traffic(ring):
            before = ring.snapshot
            web.respond = only_ipv6
            await lookups(ring, 6)
            assert ring.snapshot is before

            web.respond = None
            await until_state(ring, "fresh")
            assert ring.snapshot is before


@weather("One family of a dual-stack Service fails")
@pytest.mark.parametrize("port", [8080, "http"])
async def test_a_service_that_moves_to_ipv6_is_followed_after_the_hold(port: int | str) -> None:
    """
    All at once, so that no key ever has an IPv4 pod beside an IPv6 one.
    """
    with HeadlessService("web.prod", pods=3, families=["ipv4", "ipv6"]) as web:
        async with ring_at(web, port=port, refresh=QUICK) as ring, traffic(ring):
            for pod in web.pods:
                web.replace(pod, Pod(pod.addresses[1]))
            await until(lambda: shown(ring) == addresses(web))
            assert ring.state == "fresh"
