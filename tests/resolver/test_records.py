"""
Records to endpoints, and all that must not become one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import Endpoint
from knet.resolver.names import Family
from knet.resolver.records import (
    Found,
    Record,
    RecordType,
    distinct_names,
    find_addresses,
    find_services,
    targets_without_address,
    usable_address,
)

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
    names = [WEB, *(f"n{n}.test" for n in range(1, length)), "end.test"]
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
    assert found.complete
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


def test_records_of_another_name_are_left_out_and_counted() -> None:
    found = find_addresses(WEB, [a("10.0.0.1"), a("10.6.6.6", owner="evil.test")], type="A")

    assert pods(found) == [("10.0.0.1", "10.0.0.1")]
    assert found.ignored == 1


def test_records_of_another_type_are_left_out_and_counted() -> None:
    found = find_addresses(WEB, [a("10.0.0.1"), aaaa("fd00::1"), srv("web-0.test")], type="A")

    assert pods(found) == [("10.0.0.1", "10.0.0.1")]
    assert found.ignored == 2


def test_an_answer_without_a_usable_record_has_no_ttl() -> None:
    assert find_addresses(WEB, [], type="A") == Found()
    assert find_addresses(WEB, [a("0.0.0.0")], type="A") == Found(ignored=1)


# --- aliases


@pytest.mark.parametrize("length", [1, 2, 8])
def test_a_chain_of_aliases_is_followed(length: int) -> None:
    records = [a("10.0.0.1", owner="end.test"), *reversed(chain(length))]

    assert pods(find_addresses(WEB, records, type="A")) == [("10.0.0.1", "10.0.0.1")]


@pytest.mark.parametrize(
    "aliases",
    [
        chain(9),
        [cname(WEB, WEB)],
        [cname(WEB, "b.test"), cname("b.test", WEB)],
        [cname(WEB, "elsewhere.test")],
        [cname("b.test", "end.test")],
    ],
    ids=["too long", "to itself", "in a circle", "to nothing", "of another name"],
)
def test_aliases_that_do_not_lead_to_the_records_give_nothing(aliases: list[Record]) -> None:
    records = [*aliases, a("10.0.0.1", owner="end.test")]

    found = find_addresses(WEB, records, type="A")

    assert found.endpoints == ()
    assert found.ttl is None
    assert found.ignored == 1


def test_an_address_at_an_alias_itself_does_not_count() -> None:
    """
    A name with a CNAME has no other records (RFC 1034, section 3.6.2).
    """
    records = [a("10.6.6.6"), cname(WEB, "end.test"), a("10.0.0.1", owner="end.test")]

    assert pods(find_addresses(WEB, records, type="A")) == [("10.0.0.1", "10.0.0.1")]


def test_of_two_aliases_of_one_name_every_client_follows_the_same() -> None:
    records = [
        cname(WEB, "b.test", ttl=1),
        cname(WEB, "a.test", ttl=9),
        cname(WEB, "a.test", ttl=8),
        a("10.0.0.1", owner="a.test", ttl=10),
        a("10.0.0.2", owner="b.test"),
    ]

    for answer in (records, records[::-1]):
        found = find_addresses(WEB, answer, type="A")
        assert pods(found) == [("10.0.0.1", "10.0.0.1")]
        assert found.ttl == 8


def test_services_are_found_behind_an_alias_too() -> None:
    answer = [cname(HTTP, "_x._tcp.test"), srv("web-0.test", owner="_x._tcp.test")]

    found = find_services(HTTP, answer, [a("10.0.0.1", "web-0.test")])

    assert pods(found) == [("web-0.test", "10.0.0.1:8080")]


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
def test_the_ttl_is_the_shortest_of_the_records_used(ttls: list[int], expected: float) -> None:
    records = [a(f"10.0.0.{n}", ttl=ttl) for n, ttl in enumerate(ttls, 1)]

    assert find_addresses(WEB, records, type="A").ttl == expected


def test_records_that_are_left_out_have_no_say_in_the_ttl() -> None:
    records = [a("10.0.0.1", ttl=30), a("10.6.6.6", "evil.test", ttl=1), a("0.0.0.0", ttl=2)]

    assert find_addresses(WEB, records, type="A").ttl == 30


def test_aliases_and_addresses_have_a_say_in_the_ttl() -> None:
    by_alias = [cname(WEB, "end.test", ttl=3), a("10.0.0.1", "end.test", ttl=30)]
    assert find_addresses(WEB, by_alias, type="A").ttl == 3

    found = find_services(HTTP, [srv("web-0.test", ttl=30)], [a("10.0.0.1", "web-0.test", ttl=4)])
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
        "web-0.test",
        "10.0.0.1\0",
        ":",
        "\ud800",
        "\N{FULLWIDTH DIGIT ONE}.1.1.1",
    ],
)
def test_an_address_that_no_pod_can_have_is_dropped(text: str) -> None:
    assert usable_address(text) is None
    assert find_addresses(WEB, [a(text), a("10.0.0.1")], type="A").ignored == 1


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
    assert found.complete
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
    found = find_services(HTTP, [srv("10-0-0-9.test")], [a("10.0.0.1", "10-0-0-9.test")])

    assert pods(found) == [("10-0-0-9.test", "10.0.0.1:8080")]


def test_a_target_without_an_address_is_left_out_and_counted() -> None:
    found = find_services(
        HTTP, [srv("web-0.test"), srv("web-1.test")], [a("10.0.0.1", "web-0.test")]
    )

    assert pods(found) == [("web-0.test", "10.0.0.1:8080")]
    assert found.ignored == 1


def test_of_several_addresses_of_one_target_every_client_takes_the_lowest() -> None:
    """
    By number, not by text: 10.0.0.9 comes before 10.0.0.10.
    """
    addresses = [a("10.0.0.10", "web-0.test", 9), a("10.0.0.9", "web-0.test", 7)]

    for additional in (addresses, addresses[::-1]):
        found = find_services(HTTP, [srv("web-0.test", ttl=60)], additional)
        assert pods(found) == [("web-0.test", "10.0.0.9:8080")]
        assert found.ttl == 7


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_service_without_a_port_is_left_out(port: int) -> None:
    """
    A headless Service without ports has SRV records with port -1 inside CoreDNS.
    """
    found = find_services(HTTP, [srv("web-0.test", port)], [a("10.0.0.1", "web-0.test")])

    assert found == Found(ignored=1)


def test_a_service_that_is_decidedly_not_available_is_left_out() -> None:
    """
    The target "." says so (RFC 2782).
    """
    assert find_services(HTTP, [srv("")], [a("10.0.0.1", "")]) == Found(ignored=1)


def test_only_the_preferred_priority_counts() -> None:
    answer = [srv("spare.test", priority=10), srv("web-0.test", priority=2)]
    additional = [a("10.0.0.1", "web-0.test"), a("10.0.0.9", "spare.test")]

    found = find_services(HTTP, answer, additional)

    assert pods(found) == [("web-0.test", "10.0.0.1:8080")]
    assert found.ignored == 1
    assert targets_without_address(HTTP, answer, []) == ("web-0.test",)


def test_an_unusable_record_of_a_better_priority_does_not_shut_out_the_rest() -> None:
    answer = [srv("web-0.test", 0, priority=0), srv("web-1.test", priority=1)]

    found = find_services(HTTP, answer, [a("10.0.0.1", "web-1.test")])

    assert pods(found) == [("web-1.test", "10.0.0.1:8080")]


def test_services_of_another_name_are_left_out_and_counted() -> None:
    answer = [srv("web-0.test"), srv("evil.test", owner="_http._tcp.evil.test")]
    additional = [a("10.0.0.1", "web-0.test"), a("10.6.6.6", "evil.test")]

    found = find_services(HTTP, answer, additional)

    assert pods(found) == [("web-0.test", "10.0.0.1:8080")]
    assert found.ignored == 1


def test_the_weight_of_an_srv_record_is_not_the_weight_of_the_pod() -> None:
    """
    Kubernetes sets it to 100 divided by the number of pods: it changes for all when one comes.
    """
    (endpoint,) = find_services(HTTP, [srv("web-0.test")], [a("10.0.0.1", "web-0.test")]).endpoints

    assert endpoint.weight == 1


def test_one_host_with_two_ports_is_two_endpoints_with_names_of_their_own() -> None:
    answer = [srv("one.test", 1), srv("one.test", 2), srv("two.test", 1)]
    additional = [a("10.0.0.1", "one.test"), a("10.0.0.2", "two.test")]

    assert pods(find_services(HTTP, answer, additional)) == [
        ("one.test/10.0.0.1:1", "10.0.0.1:1"),
        ("one.test/10.0.0.1:2", "10.0.0.1:2"),
        ("two.test", "10.0.0.2:1"),
    ]


# --- two families

STATEFUL = (
    [srv("web-0.test"), srv("web-1.test")],
    [
        a("10.0.0.1", "web-0.test"),
        aaaa("fd00::1", "web-0.test"),
        a("10.0.0.2", "web-1.test"),
        aaaa("fd00::2", "web-1.test"),
    ],
)
DASHED = (
    [srv("10-0-0-1.test"), srv("10-0-0-2.test"), srv("fd00--1.test"), srv("fd00--2.test")],
    [
        a("10.0.0.1", "10-0-0-1.test"),
        a("10.0.0.2", "10-0-0-2.test"),
        aaaa("fd00::1", "fd00--1.test"),
        aaaa("fd00::2", "fd00--2.test"),
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
    answer = [srv("web-2.test"), srv("web-0.test"), srv("web-0.test", 9), srv("web-1.test")]

    assert targets_without_address(HTTP, answer, [a("10.0.0.1", "web-1.test")]) == (
        "web-0.test",
        "web-2.test",
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
    [("auto", ("web-1.test",)), ("ipv4", ("web-1.test",)), ("ipv6", ("web-0.test",))],
)
def test_a_target_whose_address_of_the_family_was_cut_off_is_asked_for(
    family: Family, asked: tuple[str, ...]
) -> None:
    """
    The end of an additional section that does not fit is lost, anywhere in a pod's addresses.
    """
    additional = [a("10.0.0.1", "web-0.test"), aaaa("fd00::2", "web-1.test")]

    assert targets_without_address(HTTP, STATEFUL[0], additional, family=family) == asked


# --- answers that were cut off


@pytest.mark.parametrize(
    ("count", "complete"), [(1, True), (4000, True), (4092, False), (4093, False)]
)
def test_an_answer_as_large_as_a_message_counts_as_cut_off(count: int, complete: bool) -> None:
    """
    c-ares says nothing of the TC bit of an answer over TCP. CoreDNS packs 4,093 addresses into one.
    """
    name = "s.prod.svc.cluster.local"
    records = [a(f"10.1.{n >> 8}.{n & 255}", name) for n in range(count)]

    found = find_addresses(name, records, type="A")

    assert len(found.endpoints) == count
    assert found.complete is complete


@pytest.mark.parametrize(("count", "complete"), [(2300, True), (2339, False)])
def test_ipv6_addresses_fill_a_message_sooner(count: int, complete: bool) -> None:
    records = [aaaa(f"fd00::{n:x}") for n in range(1, count + 1)]

    assert find_addresses(WEB, records, type="AAAA").complete is complete


@pytest.mark.parametrize(("count", "complete"), [(800, True), (1000, True), (1200, False)])
def test_srv_records_fill_a_message_by_the_length_of_their_targets(
    count: int, complete: bool
) -> None:
    targets = [f"web-{n:04}.{WEB}" for n in range(count)]  # 35 octets and 20 around them
    answer = [srv(target) for target in targets]
    additional = [a(f"10.1.{n >> 8}.{n & 255}", target) for n, target in enumerate(targets)]

    found = find_services(HTTP, answer, additional)

    assert len(found.endpoints) == count
    assert found.complete is complete


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

NAMES = [WEB, HTTP, "web-0.test", "10-0-0-1.test", "fd00--1.test", ""]
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
    return [(set(f.endpoints), len(f.endpoints), f.ttl, f.complete, f.ignored) for f in found]


@given(any_records, any_records, families, st.randoms(use_true_random=False))
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
