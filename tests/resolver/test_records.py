"""
Records to endpoints, and all that must not become one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import Endpoint
from knet.hashring.steps import Steps
from knet.pods import distinct_names, usable_address
from knet.question import Family
from knet.resolver.records import (
    Found,
    Record,
    RecordType,
    addresses_of,
    dangling_alias,
    finding_addresses,
    finding_services,
)
from tests.resolver.reading import find_addresses, find_services, targets_without_address

WEB = "web.prod.svc.cluster.local"
HTTP = f"_http._tcp.{WEB}"


def a(address: str, owner: str = WEB, ttl: int = 5) -> Record:
    return Record(owner, "A", ttl, address)


def aaaa(address: str, owner: str = WEB, ttl: int = 5) -> Record:
    return Record(owner, "AAAA", ttl, address)


def cname(owner: str, target: str, ttl: int = 5) -> Record:
    return Record(owner, "CNAME", ttl, target)


def srv(
    target: str, port: int = 8080, *, owner: str = HTTP, ttl: int = 5, priority: int = 0
) -> Record:
    return Record(owner, "SRV", ttl, target, port, priority, 33)


def chain(length: int) -> list[Record]:
    """
    Return *length* CNAMEs that lead from the service to `end.test`.
    """
    names = [WEB, *(f"n{n}.{WEB}" for n in range(1, length)), f"end.{WEB}"]
    return [cname(*pair) for pair in pairwise(names)]


def pods(found: Found) -> list[tuple[str, str]]:
    return sorted((e.name, str(e)) for e in found.endpoints)


# --- addresses


def test_each_a_record_is_a_pod_named_by_its_address() -> None:
    found = find_addresses(f"{WEB}.", [a("10.0.0.2"), a("10.0.0.1")], type="A", port=8080)

    assert sorted(found.endpoints) == [
        Endpoint("10.0.0.1", "10.0.0.1", 8080),
        Endpoint("10.0.0.2", "10.0.0.2", 8080),
    ]
    assert found.ttl == 5
    assert not found.cut_off
    assert found.ignored == 0


def test_each_aaaa_record_is_a_pod_by_its_shortest_spelling() -> None:
    found = find_addresses(WEB, [aaaa("FD00:0:0::1"), aaaa("fd00::0001")], type="AAAA", port=80)

    assert pods(found) == [("fd00::1", "[fd00::1]:80")]


def test_without_a_port_an_endpoint_is_a_bare_address() -> None:
    assert pods(find_addresses(WEB, [a("10.0.0.1")], type="A")) == [("10.0.0.1", "10.0.0.1")]


def test_a_record_listed_twice_is_one_pod() -> None:
    """
    While a pod moves between EndpointSlices it can be in two.
    """
    found = find_addresses(WEB, [a("10.0.0.1"), a("10.0.0.1", ttl=3)], type="A")

    assert pods(found) == [("10.0.0.1", "10.0.0.1")]
    assert found.ttl == 3
    assert found.ignored == 0


def test_the_case_of_the_question_does_not_matter() -> None:
    found = find_addresses("WEB.Prod.SVC.cluster.local.", [a("10.0.0.1")], type="A")

    assert len(found.endpoints) == 1


@pytest.mark.weather("Records of another name")
def test_records_of_another_name_are_left_out_and_counted() -> None:
    found = find_addresses(WEB, [a("10.0.0.1"), a("10.6.6.6", owner="evil.test")], type="A")

    assert pods(found) == [("10.0.0.1", "10.0.0.1")]
    assert found.ignored == 1


def test_records_of_another_type_are_left_out_and_counted() -> None:
    found = find_addresses(WEB, [a("10.0.0.1"), aaaa("fd00::1"), srv(f"web-0.{WEB}")], type="A")

    assert pods(found) == [("10.0.0.1", "10.0.0.1")]
    assert found.ignored == 2


def test_an_answer_without_a_usable_record_has_no_ttl() -> None:
    assert find_addresses(WEB, [], type="A") == Found()
    assert find_addresses(WEB, [a("0.0.0.0")], type="A") == Found(ignored=1)


def test_large_answers_are_read_with_pauses() -> None:
    """
    A thousand records take milliseconds, and the event loop has other things to do.
    """
    given = [f"10.{n // 250}.0.{n % 250 + 1}" for n in range(1000)]
    addresses = [a(address) for address in given]
    services = [srv(f"web-{n}.{WEB}") for n in range(1000)]
    glue = [a(address, owner=f"web-{n}.{WEB}") for n, address in enumerate(given)]
    readings: list[tuple[object, Steps[Any]]] = [
        (find_addresses(WEB, addresses, type="A"), finding_addresses(WEB, addresses, type="A")),
        (find_services(HTTP, services, glue), finding_services(HTTP, services, glue)),
    ]

    def read(slices: Steps[Any]) -> Steps[None]:
        read_so.append((yield from slices))

    for found, slices in readings:
        read_so: list[object] = []
        assert len(list(read(slices))) >= 1000 / 64
        assert read_so == [found]


# --- aliases


@pytest.mark.parametrize("length", [1, 2, 8])
def test_a_chain_of_aliases_is_followed(length: int) -> None:
    records = [a("10.0.0.1", owner=f"end.{WEB}"), *reversed(chain(length))]

    assert pods(find_addresses(WEB, records, type="A")) == [("10.0.0.1", "10.0.0.1")]


@pytest.mark.parametrize(
    "aliases",
    [
        chain(9),
        [cname(WEB, WEB)],
        [cname(WEB, f"b.{WEB}"), cname(f"b.{WEB}", WEB)],
        [cname(WEB, "elsewhere.test")],
        [cname(f"b.{WEB}", f"end.{WEB}")],
    ],
    ids=["too long", "to itself", "in a circle", "to nothing", "of another name"],
)
@pytest.mark.weather("CNAMEs in a circle, or to nowhere")
def test_aliases_that_do_not_lead_to_the_records_give_nothing(aliases: list[Record]) -> None:
    records = [*aliases, a("10.0.0.1", owner=f"end.{WEB}")]

    found = find_addresses(WEB, records, type="A")

    assert found.endpoints == ()
    assert found.ttl is None
    assert found.ignored == 1


def test_an_address_at_an_alias_itself_does_not_count() -> None:
    """
    A name with a CNAME has no other records (RFC 1034, section 3.6.2).
    """
    records = [a("10.6.6.6"), cname(WEB, f"end.{WEB}"), a("10.0.0.1", owner=f"end.{WEB}")]

    assert pods(find_addresses(WEB, records, type="A")) == [("10.0.0.1", "10.0.0.1")]


def test_of_two_aliases_of_one_name_every_client_follows_the_same() -> None:
    records = [
        cname(WEB, f"b.{WEB}", ttl=1),
        cname(WEB, f"a.{WEB}", ttl=9),
        cname(WEB, f"a.{WEB}", ttl=8),
        a("10.0.0.1", owner=f"a.{WEB}", ttl=10),
        a("10.0.0.2", owner=f"b.{WEB}"),
    ]

    for answer in (records, records[::-1]):
        found = find_addresses(WEB, answer, type="A")
        assert pods(found) == [("10.0.0.1", "10.0.0.1")]
        assert found.ttl == 8


def test_services_are_found_behind_an_alias_too() -> None:
    answer = [cname(HTTP, f"_x._tcp.{WEB}"), srv(f"web-0.{WEB}", owner=f"_x._tcp.{WEB}")]

    found = find_services(HTTP, answer, [a("10.0.0.1", f"web-0.{WEB}")])

    assert pods(found) == [(f"web-0.{WEB}", "10.0.0.1:8080")]


# --- names outside of the service's own domain


def test_an_alias_that_leads_outside_is_not_followed_even_if_its_addresses_came_along() -> None:
    """
    CoreDNS's ExternalName does so: whoever may write one could send keys anywhere.
    """
    records = [cname(WEB, "db.example.com"), a("203.0.113.1", "db.example.com"), a("10.6.6.6")]

    found = find_addresses(WEB, records, type="A")

    assert found == Found(ignored=2, outside="db.example.com")
    assert pods(find_addresses(WEB, records, type="A", external=True)) == [
        ("203.0.113.1", "203.0.113.1")
    ]


@pytest.mark.parametrize(
    "alias",
    [
        "prod.svc.cluster.local",
        "shop.prod.svc.cluster.local",
        f"not{WEB}",
        f"{WEB}.evil.test",
        "cluster.local",
        "localhost",
    ],
)
def test_only_what_is_below_the_service_label_by_label_is_its_own(alias: str) -> None:
    records = [cname(WEB, alias), a("10.6.6.6", alias)]

    assert find_addresses(WEB, records, type="A") == Found(ignored=1, outside=alias)
    assert dangling_alias(WEB, records[:1], type="A") is None


def test_the_case_of_the_question_does_not_make_a_name_foreign() -> None:
    records = [cname(WEB, f"end.{WEB}"), a("10.0.0.1", f"end.{WEB}")]

    assert len(find_addresses(WEB.upper() + ".", records, type="A").endpoints) == 1
    answer = [srv(f"web-0.{WEB}")]
    assert targets_without_address(HTTP.upper() + ".", answer, []) == (f"web-0.{WEB}",)


def test_a_chain_ends_where_it_leaves_the_domain() -> None:
    records = [
        cname(WEB, f"a.{WEB}"),
        cname(f"a.{WEB}", "evil.test"),
        cname("evil.test", f"b.{WEB}"),
        a("10.6.6.6", f"b.{WEB}"),
    ]

    assert find_addresses(WEB, records, type="A") == Found(ignored=1, outside="evil.test")


def test_a_target_outside_is_left_out_counted_and_never_asked_for() -> None:
    answer = [
        srv("b.evil.test", priority=0),
        srv("a.evil.test", priority=0),
        srv(f"web-0.{WEB}", priority=1),
        srv(f"web-1.{WEB}", priority=1),
    ]
    additional = [a("10.6.6.6", "a.evil.test"), a("10.0.0.1", f"web-0.{WEB}")]

    found = find_services(HTTP, answer, additional)

    assert pods(found) == [(f"web-0.{WEB}", "10.0.0.1:8080")]
    assert found.ignored == 3
    assert found.outside == "a.evil.test"
    assert targets_without_address(HTTP, answer, additional) == (f"web-1.{WEB}",)


def test_with_the_opt_in_targets_may_be_anywhere() -> None:
    answer = [srv("a.example.com"), srv("b.example.com")]
    additional = [a("203.0.113.1", "a.example.com")]

    assert targets_without_address(HTTP, answer, additional, external=True) == ("b.example.com",)
    found = find_services(HTTP, answer, additional, external=True)
    assert pods(found) == [("a.example.com", "203.0.113.1:8080")]
    assert found.outside is None


def test_an_alias_of_a_named_port_may_lead_to_another_port_of_the_service_only() -> None:
    for alias, count in ((f"_grpc._tcp.{WEB}", 1), ("_http._tcp.evil.test", 0)):
        answer = [cname(HTTP, alias), srv(f"web-0.{WEB}", owner=alias)]

        found = find_services(HTTP, answer, [a("10.0.0.1", f"web-0.{WEB}")])

        assert len(found.endpoints) == count
        assert found.outside == (None if count else alias)


# --- aliases that end in nothing


def test_an_alias_without_records_is_told() -> None:
    """
    CoreDNS answers so where it cannot look up the target of an ExternalName itself.
    """
    records = [cname(WEB, "db.example.com")]

    assert dangling_alias(WEB, records, type="A") is None
    assert dangling_alias(WEB, records, type="A", external=True) == "db.example.com"
    assert dangling_alias(f"{WEB}.", chain(8), type="A") == f"end.{WEB}"


@pytest.mark.parametrize(
    "records",
    [
        [],
        [a("10.0.0.1")],
        [cname(WEB, f"end.{WEB}"), a("10.0.0.1", f"end.{WEB}")],
        [cname(WEB, WEB)],
        [cname(WEB, f"b.{WEB}"), cname(f"b.{WEB}", WEB)],
        [cname(f"b.{WEB}", f"end.{WEB}")],
        [cname(WEB, "we b.evil.test")],
        chain(9),
    ],
    ids=["nothing", "no alias", "whole", "to itself", "circle", "foreign", "no name", "too long"],
)
@pytest.mark.parametrize("external", [False, True])
def test_an_alias_that_is_whole_or_leads_nowhere_is_not_told(
    records: list[Record], external: bool
) -> None:
    assert dangling_alias(WEB, records, type="A", external=external) is None


def test_an_alias_of_a_named_port_is_told_within_the_domain_of_the_service() -> None:
    records = [cname(HTTP, f"_x._tcp.{WEB}")]

    assert dangling_alias(HTTP, records, type="SRV") == f"_x._tcp.{WEB}"


# --- names that no host can have

NO_HOSTNAMES = [
    "",
    "*",
    "we b",
    "a\\010b",
    'a\\"b',
    "evil\\",
    "\\.\\./x",
    "%s",
    "\n",
    "\x1b[31m",
    "\u212a",
    "-rf",
    "web-",
    "a..b",
    ".a",
    "A",
    "x" * 64,
    ".".join(["x" * 63] * 4),
]


@pytest.mark.parametrize("label", NO_HOSTNAMES)
@pytest.mark.parametrize("external", [False, True])
def test_a_target_that_is_no_hostname_is_left_out_and_never_asked_for(
    label: str, external: bool
) -> None:
    """
    c-ares hands on whatever octets a name has, most of them behind a backslash.
    """
    bad = f"{label}.{WEB}"
    answer = [srv(bad), srv(f"web-0.{WEB}")]
    additional = [a("10.6.6.6", bad), a("10.0.0.1", f"web-0.{WEB}")]

    found = find_services(HTTP, answer, additional, external=external)

    assert pods(found) == [(f"web-0.{WEB}", "10.0.0.1:8080")]
    assert found.ignored == 1
    assert found.outside is None
    assert targets_without_address(HTTP, answer, [], external=external) == (f"web-0.{WEB}",)


@pytest.mark.parametrize("label", NO_HOSTNAMES)
@pytest.mark.parametrize("external", [False, True])
def test_an_alias_that_is_no_hostname_is_not_followed(label: str, external: bool) -> None:
    records = [cname(WEB, f"{label}.{WEB}"), a("10.6.6.6", f"{label}.{WEB}")]

    found = find_addresses(WEB, records, type="A", external=external)

    assert found == Found(ignored=1)


def test_an_address_is_no_target() -> None:
    """
    It would be a pod named by an address that is not its own.
    """
    answer = [srv("10.0.0.1"), srv("1.example.com")]
    additional = [a("10.6.6.6", "10.0.0.1"), a("10.0.0.2", "1.example.com")]

    found = find_services(HTTP, answer, additional, external=True)

    assert pods(found) == [("1.example.com", "10.0.0.2:8080")]


# --- what is kept of the answer for one target


def test_of_the_answer_for_a_target_its_lowest_address_of_each_family_is_kept() -> None:
    target = f"web-0.{WEB}"
    records = [
        a("10.0.0.10", target),
        a("10.0.0.9", target, ttl=9),
        a("10.0.0.9", target, ttl=7),
        a("0.0.0.0", target),
        a("10.0.0.1", f"web-1.{WEB}"),
        aaaa("fd00::b", target),
        aaaa("FD00::A", target),
        cname(target, WEB),
    ]

    assert addresses_of(target, records) == (a("10.0.0.9", target, 7), aaaa("fd00::a", target))
    assert addresses_of(target, [aaaa("::ffff:10.0.0.1", target)]) == (a("10.0.0.1", target),)
    assert addresses_of(target, []) == ()


@pytest.mark.parametrize("family", ["auto", "ipv4", "ipv6"])
def test_what_is_kept_of_a_target_gives_the_same_pod_as_all_of_it(family: Family) -> None:
    answer, additional = [srv(f"web-0.{WEB}")], []
    for n in (30, 4, 200):
        additional += [a(f"10.0.0.{n}", f"web-0.{WEB}", n), aaaa(f"fd00::{n}", f"web-0.{WEB}", n)]

    kept = addresses_of(f"web-0.{WEB}", additional)

    assert len(kept) == 2
    assert find_services(HTTP, answer, kept, family=family) == find_services(
        HTTP, answer, additional, family=family
    )


# --- times to live


@pytest.mark.parametrize(
    ("ttls", "expected"),
    [
        ([5], 5.0),
        ([30, 5, 60], 5.0),
        ([0, 30], 0.0),
        ([2**31 - 1], float(2**31 - 1)),
        # With the top bit set it means zero (RFC 2181, section 8).
        ([2**31], 0.0),
        ([4294967295, 30], 0.0),
        ([-1, 30], 0.0),
    ],
)
@pytest.mark.weather("A TTL of 0, a huge or a negative one")
def test_the_ttl_is_the_shortest_of_the_records_used(ttls: list[int], expected: float) -> None:
    records = [a(f"10.0.0.{n}", ttl=ttl) for n, ttl in enumerate(ttls, 1)]

    assert find_addresses(WEB, records, type="A").ttl == expected


def test_records_that_are_left_out_have_no_say_in_the_ttl() -> None:
    records = [a("10.0.0.1", ttl=30), a("10.6.6.6", "evil.test", ttl=1), a("0.0.0.0", ttl=2)]

    assert find_addresses(WEB, records, type="A").ttl == 30


def test_aliases_and_addresses_have_a_say_in_the_ttl() -> None:
    by_alias = [cname(WEB, f"end.{WEB}", ttl=3), a("10.0.0.1", f"end.{WEB}", ttl=30)]
    assert find_addresses(WEB, by_alias, type="A").ttl == 3

    found = find_services(
        HTTP, [srv(f"web-0.{WEB}", ttl=30)], [a("10.0.0.1", f"web-0.{WEB}", ttl=4)]
    )
    assert found.ttl == 4


# --- addresses that no pod can have


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("223.255.255.254", "223.255.255.254"),
        ("169.253.0.1", "169.253.0.1"),
        ("fd00::1", "fd00::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:a00:1", "10.0.0.1"),
    ],
)
def test_an_address_that_a_pod_can_have_gets_its_one_spelling(text: str, usable: str) -> None:
    assert usable_address(text) == usable


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "169.254.169.254",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "ff02::1",
        "::ffff:0.0.0.0",
        "::ffff:169.254.1.1",
        "::ffff:224.0.0.1",
        "",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.01",
        f"web-0.{WEB}",
        "10.0.0.1\0",
        ":",
        "\ud800",
        "\N{FULLWIDTH DIGIT ONE}.1.1.1",
    ],
)
@pytest.mark.weather("Addresses that no pod can have")
def test_an_address_that_no_pod_can_have_is_dropped(text: str) -> None:
    assert usable_address(text) is None
    assert find_addresses(WEB, [a(text), a("10.0.0.1")], type="A").ignored == 1


@pytest.mark.weather("Addresses that no pod can have")
def test_an_ipv4_address_in_ipv6_clothes_is_the_ipv4_pod() -> None:
    found = find_addresses(WEB, [aaaa("::ffff:10.0.0.1")], type="AAAA", port=80)

    assert pods(found) == [("10.0.0.1", "10.0.0.1:80")]


# --- services


def test_a_service_takes_port_and_hostname_from_its_srv_record() -> None:
    found = find_services(
        f"{HTTP}.",
        [srv(f"web-1.{WEB}", 8081), srv(f"web-0.{WEB}", 8080)],
        [a("10.0.0.2", f"web-1.{WEB}"), a("10.0.0.1", f"web-0.{WEB}")],
    )

    assert sorted(found.endpoints) == [
        Endpoint(f"web-0.{WEB}", "10.0.0.1", 8080),
        Endpoint(f"web-1.{WEB}", "10.0.0.2", 8081),
    ]
    assert not found.cut_off
    assert found.ttl == 5


@pytest.mark.parametrize(
    ("target", "record", "family"),
    [
        (f"10-0-0-1.{WEB}", a("10.0.0.1", f"10-0-0-1.{WEB}"), "ipv4"),
        (f"fd00--1.{WEB}", aaaa("fd00::1", f"fd00--1.{WEB}"), "ipv6"),
        (f"fd00-1-2--a-b.{WEB}", aaaa("FD00:1:2::0A:b", f"fd00-1-2--a-b.{WEB}"), "ipv6"),
    ],
)
def test_a_hostname_made_of_the_address_is_no_name(
    target: str, record: Record, family: Family
) -> None:
    """
    A Deployment's pod is named by its address, whichever records were asked for.
    """
    found = find_services(HTTP, [srv(target)], [record], family=family)

    (endpoint,) = found.endpoints
    assert endpoint.name == endpoint.address
    (by_address,) = find_addresses(record.owner, [record], type=record.type, port=8080).endpoints
    assert by_address == endpoint


def test_a_hostname_that_only_looks_like_an_address_is_kept() -> None:
    found = find_services(HTTP, [srv(f"10-0-0-9.{WEB}")], [a("10.0.0.1", f"10-0-0-9.{WEB}")])

    assert pods(found) == [(f"10-0-0-9.{WEB}", "10.0.0.1:8080")]


def test_a_target_without_an_address_is_left_out_and_counted() -> None:
    found = find_services(
        HTTP, [srv(f"web-0.{WEB}"), srv(f"web-1.{WEB}")], [a("10.0.0.1", f"web-0.{WEB}")]
    )

    assert pods(found) == [(f"web-0.{WEB}", "10.0.0.1:8080")]
    assert found.ignored == 1


def test_of_several_addresses_of_one_target_every_client_takes_the_lowest() -> None:
    """
    By number, not by text: 10.0.0.9 comes before 10.0.0.10.
    """
    addresses = [a("10.0.0.10", f"web-0.{WEB}", 9), a("10.0.0.9", f"web-0.{WEB}", 7)]

    for additional in (addresses, addresses[::-1]):
        found = find_services(HTTP, [srv(f"web-0.{WEB}", ttl=60)], additional)
        assert pods(found) == [(f"web-0.{WEB}", "10.0.0.9:8080")]
        assert found.ttl == 7


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_service_without_a_port_is_left_out(port: int) -> None:
    """
    A headless Service without ports has SRV records with port -1 inside CoreDNS.
    """
    found = find_services(HTTP, [srv(f"web-0.{WEB}", port)], [a("10.0.0.1", f"web-0.{WEB}")])

    assert found == Found(ignored=1)


def test_a_service_that_is_decidedly_not_available_is_left_out() -> None:
    """
    The target "." says so (RFC 2782).
    """
    assert find_services(HTTP, [srv("")], [a("10.0.0.1", "")]) == Found(ignored=1)


def test_only_the_preferred_priority_counts() -> None:
    answer = [srv(f"spare.{WEB}", priority=10), srv(f"web-0.{WEB}", priority=2)]
    additional = [a("10.0.0.1", f"web-0.{WEB}"), a("10.0.0.9", f"spare.{WEB}")]

    found = find_services(HTTP, answer, additional)

    assert pods(found) == [(f"web-0.{WEB}", "10.0.0.1:8080")]
    assert found.ignored == 1
    assert targets_without_address(HTTP, answer, []) == (f"web-0.{WEB}",)


def test_an_unusable_record_of_a_better_priority_does_not_shut_out_the_rest() -> None:
    answer = [srv(f"web-0.{WEB}", 0, priority=0), srv(f"web-1.{WEB}", priority=1)]

    found = find_services(HTTP, answer, [a("10.0.0.1", f"web-1.{WEB}")])

    assert pods(found) == [(f"web-1.{WEB}", "10.0.0.1:8080")]


def test_services_of_another_name_are_left_out_and_counted() -> None:
    answer = [srv(f"web-0.{WEB}"), srv("evil.test", owner="_http._tcp.evil.test")]
    additional = [a("10.0.0.1", f"web-0.{WEB}"), a("10.6.6.6", "evil.test")]

    found = find_services(HTTP, answer, additional)

    assert pods(found) == [(f"web-0.{WEB}", "10.0.0.1:8080")]
    assert found.ignored == 1


def test_the_weight_of_an_srv_record_is_not_the_weight_of_the_pod() -> None:
    """
    Kubernetes sets it to 100 divided by the number of pods: it changes for all when one comes.
    """
    (endpoint,) = find_services(
        HTTP, [srv(f"web-0.{WEB}")], [a("10.0.0.1", f"web-0.{WEB}")]
    ).endpoints

    assert endpoint.weight == 1


def test_one_host_with_two_ports_is_two_endpoints_with_names_of_their_own() -> None:
    answer = [srv(f"one.{WEB}", 1), srv(f"one.{WEB}", 2), srv(f"two.{WEB}", 1)]
    additional = [a("10.0.0.1", f"one.{WEB}"), a("10.0.0.2", f"two.{WEB}")]

    assert pods(find_services(HTTP, answer, additional)) == [
        (f"one.{WEB}/10.0.0.1:1", "10.0.0.1:1"),
        (f"one.{WEB}/10.0.0.1:2", "10.0.0.1:2"),
        (f"two.{WEB}", "10.0.0.2:1"),
    ]


# --- two families

FAMILIES: tuple[Family, ...] = ("auto", "ipv4", "ipv6")

STATEFUL = (
    [srv(f"web-0.{WEB}"), srv(f"web-1.{WEB}")],
    [
        a("10.0.0.1", f"web-0.{WEB}"),
        aaaa("fd00::1", f"web-0.{WEB}"),
        a("10.0.0.2", f"web-1.{WEB}"),
        aaaa("fd00::2", f"web-1.{WEB}"),
    ],
)
DASHED = (
    [srv(f"10-0-0-1.{WEB}"), srv(f"10-0-0-2.{WEB}"), srv(f"fd00--1.{WEB}"), srv(f"fd00--2.{WEB}")],
    [
        a("10.0.0.1", f"10-0-0-1.{WEB}"),
        a("10.0.0.2", f"10-0-0-2.{WEB}"),
        aaaa("fd00::1", f"fd00--1.{WEB}"),
        aaaa("fd00::2", f"fd00--2.{WEB}"),
    ],
)


@pytest.mark.parametrize(("answer", "additional"), [STATEFUL, DASHED], ids=["hostnames", "dashed"])
@pytest.mark.parametrize(
    ("family", "addresses"),
    [
        ("auto", {"10.0.0.1", "10.0.0.2"}),
        ("ipv4", {"10.0.0.1", "10.0.0.2"}),
        ("ipv6", {"fd00::1", "fd00::2"}),
    ],
)
def test_a_dual_stack_pod_is_never_listed_twice(
    answer: list[Record], additional: list[Record], family: Family, addresses: set[str]
) -> None:
    found = find_services(HTTP, answer, additional, family=family)

    assert {e.address for e in found.endpoints} == addresses
    assert len(found.endpoints) == 2


def test_a_service_with_ipv6_alone_gives_ipv6() -> None:
    answer, additional = STATEFUL
    only = [r for r in additional if r.type == "AAAA"]

    assert {e.address for e in find_services(HTTP, answer, only).endpoints} == {
        "fd00::1",
        "fd00::2",
    }
    assert find_services(HTTP, answer, only, family="ipv4").endpoints == ()


# --- which targets have to be asked for


def test_targets_that_came_without_an_address_are_asked_for() -> None:
    answer = [srv(f"web-2.{WEB}"), srv(f"web-0.{WEB}"), srv(f"web-0.{WEB}", 9), srv(f"web-1.{WEB}")]

    assert targets_without_address(HTTP, answer, [a("10.0.0.1", f"web-1.{WEB}")]) == (
        f"web-0.{WEB}",
        f"web-2.{WEB}",
    )
    assert targets_without_address(HTTP, [], []) == ()


@pytest.mark.parametrize(("answer", "additional"), [STATEFUL, DASHED], ids=["hostnames", "dashed"])
@pytest.mark.parametrize("family", ["auto", "ipv4", "ipv6"])
def test_nothing_is_asked_where_all_addresses_came_along(
    answer: list[Record], additional: list[Record], family: Family
) -> None:
    assert targets_without_address(HTTP, answer, additional, family=family) == ()


def test_an_ipv6_service_is_not_asked_for_ipv4() -> None:
    answer, additional = STATEFUL
    only = [r for r in additional if r.type == "AAAA"]

    assert targets_without_address(HTTP, answer, only) == ()


@pytest.mark.parametrize(
    ("family", "asked"),
    [("auto", (f"web-1.{WEB}",)), ("ipv4", (f"web-1.{WEB}",)), ("ipv6", (f"web-0.{WEB}",))],
)
def test_a_target_whose_address_of_the_family_was_cut_off_is_asked_for(
    family: Family, asked: tuple[str, ...]
) -> None:
    """
    The end of an additional section that does not fit is lost, anywhere in a pod's addresses.
    """
    additional = [a("10.0.0.1", f"web-0.{WEB}"), aaaa("fd00::2", f"web-1.{WEB}")]

    assert targets_without_address(HTTP, STATEFUL[0], additional, family=family) == asked


def test_a_target_whose_only_address_cannot_be_used_is_asked_for() -> None:
    answer = [srv(f"web-0.{WEB}"), srv(f"web-1.{WEB}")]
    additional = [a("0.0.0.0", f"web-0.{WEB}"), aaaa("fe80::1", f"web-1.{WEB}")]

    assert targets_without_address(HTTP, answer, additional) == (f"web-0.{WEB}", f"web-1.{WEB}")


def test_a_target_with_an_ipv4_address_in_ipv6_clothes_is_not_asked_for() -> None:
    """
    What `find_services` takes for an address is one here too.
    """
    answer, additional = [srv(f"web-0.{WEB}")], [aaaa("::ffff:10.0.0.1", f"web-0.{WEB}")]

    for family in FAMILIES:
        found = find_services(HTTP, answer, additional, family=family)
        missing = targets_without_address(HTTP, answer, additional, family=family)
        assert len(found.endpoints) + len(missing) == 1
    assert targets_without_address(HTTP, answer, additional, family="ipv4") == ()


# --- answers that were cut off


@pytest.mark.parametrize(
    ("count", "complete"), [(1, True), (4000, True), (4092, False), (4093, False)]
)
@pytest.mark.weather("The answer is as large as DNS can carry")
def test_an_answer_as_large_as_a_message_counts_as_cut_off(count: int, complete: bool) -> None:
    """
    c-ares says nothing of the TC bit of an answer over TCP. CoreDNS packs 4,093 addresses into one.
    """
    name = "s.prod.svc.cluster.local"
    records = [a(f"10.1.{n >> 8}.{n & 255}", name) for n in range(count)]

    found = find_addresses(name, records, type="A")

    assert len(found.endpoints) == count
    assert bool(found.cut_off) is not complete


@pytest.mark.parametrize(("count", "complete"), [(2300, True), (2339, False)])
def test_ipv6_addresses_fill_a_message_sooner(count: int, complete: bool) -> None:
    records = [aaaa(f"fd00::{n:x}") for n in range(1, count + 1)]

    assert bool(find_addresses(WEB, records, type="AAAA").cut_off) is not complete


@pytest.mark.parametrize(("count", "complete"), [(800, True), (1000, True), (1200, False)])
def test_srv_records_fill_a_message_by_the_length_of_their_targets(
    count: int, complete: bool
) -> None:
    targets = [f"web-{n:04}.{WEB}" for n in range(count)]  # 35 octets and 20 around them
    answer = [srv(target) for target in targets]
    additional = [a(f"10.1.{n >> 8}.{n & 255}", target) for n, target in enumerate(targets)]

    found = find_services(HTTP, answer, additional)

    assert len(found.endpoints) == count
    assert bool(found.cut_off) is not complete


# --- names


def test_names_that_differ_stay_as_they_are() -> None:
    endpoints = (Endpoint("a", "10.0.0.1", 1), Endpoint("b", "10.0.0.1", 2))

    assert distinct_names(endpoints) == endpoints


def test_names_that_are_shared_get_the_address_and_port() -> None:
    assert distinct_names(
        [
            Endpoint("10.0.0.1", "10.0.0.1", 1),
            Endpoint("10.0.0.1", "10.0.0.1", 2),
            Endpoint("a", "fd00::1", 1),
            Endpoint("a", "fd00::2", 1),
        ]
    ) == (
        Endpoint("10.0.0.1:1", "10.0.0.1", 1),
        Endpoint("10.0.0.1:2", "10.0.0.1", 2),
        Endpoint("a/[fd00::1]:1", "fd00::1", 1),
        Endpoint("a/[fd00::2]:1", "fd00::2", 1),
    )


def test_an_endpoint_listed_twice_keeps_its_name() -> None:
    endpoint = Endpoint("10.0.0.1", "10.0.0.1", 1)

    assert distinct_names([endpoint, endpoint]) == (endpoint,)


# --- whatever comes

NAMES = [WEB, HTTP, f"web-0.{WEB}", f"10-0-0-1.{WEB}", f"fd00--1.{WEB}", ""]
owners = st.sampled_from(NAMES) | st.text(max_size=10)
values = (
    owners
    | st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "::ffff:10.0.0.1", "0.0.0.0", "fe80::1"])
    | st.ip_addresses().map(str)
)
numbers = st.integers(0, 3) | st.integers(-(2**32), 2**32)
types: st.SearchStrategy[RecordType] = st.sampled_from(["A", "AAAA", "SRV", "CNAME"])
any_records = st.lists(
    st.builds(Record, owners, types, numbers, values, numbers, numbers, numbers), max_size=12
)
families: st.SearchStrategy[Family] = st.sampled_from(["auto", "ipv4", "ipv6"])


def everything(answer: list[Record], additional: list[Record], family: Family) -> list[Found]:
    return [
        find_addresses(WEB, answer, type="A"),
        find_addresses(WEB, answer, type="AAAA", port=80),
        find_services(HTTP, answer, additional, family=family),
    ]


def unordered(found: Iterable[Found]) -> list[tuple[object, ...]]:
    return [(set(f.endpoints), len(f.endpoints), f.ttl, (not f.cut_off), f.ignored) for f in found]


@given(any_records, any_records, families, st.randoms(use_true_random=False))
@pytest.mark.weather("Duplicates, another order, another case")
def test_the_order_of_records_never_matters(
    answer: list[Record], additional: list[Record], family: Family, rng: random.Random
) -> None:
    expected = unordered(everything(answer, additional, family))
    missing = targets_without_address(HTTP, answer, additional, family=family)

    rng.shuffle(answer)
    rng.shuffle(additional)

    assert unordered(everything(answer, additional, family)) == expected
    assert targets_without_address(HTTP, answer, additional, family=family) == missing


@given(any_records, any_records, families)
def test_every_address_was_in_a_record_and_every_name_is_there_once(
    answer: list[Record], additional: list[Record], family: Family
) -> None:
    said = {usable_address(r.value) for r in (*answer, *additional)}

    for found in everything(answer, additional, family):
        assert {e.address for e in found.endpoints} <= said
        assert len({e.name for e in found.endpoints}) == len(found.endpoints)
        assert (found.ttl is None) == (not found.endpoints)
        assert found.ttl is None or 0 <= found.ttl < 2**31


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ((10, 10), (1, 1)),
        ((33, 33, 33), (1, 1, 1)),
        ((0, 0), (1, 1)),
        ((1, 3), (1, 3)),
        ((30, 10, 20), (3, 1, 2)),
        ((1, 65535), (100 / 65535, 100)),
        ((0, 5, 10), (0.001, 1, 2)),
        ((65535,), (1,)),
    ],
)
def test_srv_weights_count_relative_to_each_other(
    given: tuple[int, ...], counted: tuple[float, ...]
) -> None:
    """
    Where they are wanted; else every endpoint has the same.
    """
    targets = [f"pod-{number}.{WEB}" for number in range(len(given))]
    services = [srv(target)._replace(weight=w) for target, w in zip(targets, given, strict=True)]
    glue = [a(f"10.0.0.{number + 1}", target) for number, target in enumerate(targets)]

    for records in (services, services[::-1]):
        found = find_services(HTTP, records, glue, weighted=True).endpoints
        weights = {endpoint.name: endpoint.weight for endpoint in found}
        assert [weights[target] for target in targets] == pytest.approx(counted)
    assert {e.weight for e in find_services(HTTP, services, glue).endpoints} == {1}


def test_srv_weights_do_not_depend_on_who_is_missing() -> None:
    """
    A target that could not be resolved leaves the others what they are; a known endpoint is used again
    if its weight is the same.
    """
    names = [f"pod-{number}.{WEB}" for number in range(2)]
    services = [srv(names[0])._replace(weight=2), srv(names[1])._replace(weight=6)]
    (found,) = find_services(HTTP, services, [a("10.0.0.2", names[1])], weighted=True).endpoints

    assert found.weight == 3
    known = {(e.name, e.address, e.port): e for e in [found]}
    for other, is_same in (([2, 6], True), ([2, 4], False)):
        again = [r._replace(weight=w) for r, w in zip(services, other, strict=True)]
        (now,) = find_services(
            HTTP, again, [a("10.0.0.2", names[1])], weighted=True, known=known
        ).endpoints
        assert (now is found) == is_same


def test_the_same_pod_twice_has_the_greater_weight() -> None:
    services = [srv(f"pod.{WEB}")._replace(weight=w) for w in (1, 4, 2)]
    (found,) = find_services(HTTP, services, [a("10.0.0.1", f"pod.{WEB}")], weighted=True).endpoints

    assert found.weight == 4
