"""
Arbitrary records, and what must hold of the endpoints they become.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet.question import Family
from knet.resolver.records import Record, RecordType
from tests.fuzz.properties import check_records

WEB = "web.prod.svc.cluster.local"
HTTP = f"_http._tcp.{WEB}"

# Few names, so that owners, targets and aliases meet: whole CNAME graphs with circles in them.
NAMES = [
    WEB,
    HTTP,
    f"web-0.{WEB}",
    f"10-0-0-1.{WEB}",
    f"fd00--1.{WEB}",
    f"10-6-6-6.{WEB}",
    f"a.b.{WEB}",
    f"_grpc._tcp.{WEB}",
    f"not{WEB}",
    f"evil\\.{WEB}",
    f"we b.{WEB}",
    f"-.{WEB}",
    f"{'x' * 64}.{WEB}",
    "prod.svc.cluster.local",
    "evil.test",
    "10.0.0.1",
    "",
    ".",
]
ADDRESSES = [
    "10.0.0.1",
    "10.0.0.2",
    "10.6.6.6",
    "fd00::1",
    "FD00:0::01",
    "::ffff:10.0.0.1",
    "0.0.0.0",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "::",
    "10.0.0.01",
    "10.0.0.1\n",
]

names = st.sampled_from(NAMES) | st.text("abW-_.\\ \n\u212a", max_size=300)
values = names | st.sampled_from(ADDRESSES) | st.ip_addresses().map(str)
ttls = st.sampled_from([0, 1, 30, -1, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers()
numbers = st.sampled_from([0, 1, 80, -1, 65535, 65536]) | st.integers()
types: st.SearchStrategy[RecordType] = st.sampled_from(["A", "AAAA", "SRV", "CNAME"])
records = st.lists(
    st.builds(Record, names, types, ttls, values, numbers, numbers, numbers), max_size=16
)
families: st.SearchStrategy[Family] = st.sampled_from(["auto", "ipv4", "ipv6"])
services = st.sampled_from([WEB, f"{WEB}.", WEB.upper(), "web", "evil.test", "x"]) | names


@given(services, records, records, families, st.booleans())
@example(WEB, [Record(WEB, "CNAME", 5, "evil.test")], [], "auto", False)
@example(WEB, [Record(HTTP, "SRV", 5, "evil.test", 80)], [], "auto", False)
@example("evil", [Record("evil", "CNAME", 5, "evil\\.evil")], [], "auto", False)
@example(WEB, [Record(HTTP, "SRV", 5, f"not{WEB}", 80)], [], "auto", False)
@example(WEB, [Record(HTTP, "SRV", 5, f"-.{WEB}", 80)], [], "auto", True)
def test_whatever_came_back_only_what_was_asked_for_becomes_an_endpoint(
    service: str,
    answer: list[Record],
    additional: list[Record],
    family: Family,
    external: bool,
) -> None:
    check_records(service, answer, additional, family=family, external=external)


def of_type(type: RecordType) -> st.SearchStrategy[list[Record]]:
    """
    Return lists of records that are of one *type* and nearly right.
    """
    inside = st.sampled_from([name for name in NAMES if name.endswith(f".{WEB}")])
    value = {"SRV": inside, "CNAME": inside}.get(type, st.sampled_from(ADDRESSES))
    owner = {"SRV": st.just(HTTP), "CNAME": st.sampled_from([WEB, HTTP])}.get(type, inside)
    ports = st.sampled_from([0, 80, 81])
    return st.lists(
        st.builds(Record, owner, st.just(type), ttls, value, ports, st.integers(0, 1), numbers),
        max_size=8,
    )


@given(of_type("CNAME"), of_type("SRV"), of_type("A"), of_type("AAAA"), families, st.booleans())
def test_answers_that_are_nearly_right_give_what_is_right_of_them(
    aliases: list[Record],
    srv: list[Record],
    ipv4: list[Record],
    ipv6: list[Record],
    family: Family,
    external: bool,
) -> None:
    addresses = [*ipv4, *ipv6]

    check_records(WEB, srv, addresses, family=family, external=external)
    check_records(WEB, [*aliases, *srv], addresses, family=family, external=external)
    check_records(WEB, [*aliases, *addresses], [], family=family, external=external)
    own = [r._replace(owner=WEB) for r in addresses]
    check_records(WEB, own, [], family=family, external=external)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4000])
def test_a_flood_gives_no_more_than_was_in_it(count: int, external: bool) -> None:
    addresses = [Record(WEB, "A", 5, f"10.1.{n >> 8}.{n & 255}") for n in range(count)]
    aliases = [Record(f"a{n}.{WEB}", "CNAME", 5, f"a{n + 1}.{WEB}") for n in range(count)]
    srv = [Record(HTTP, "SRV", 5, f"a{n}.{WEB}", 80) for n in range(min(count, 200))]

    check_records(WEB, [*addresses, *aliases, *srv], addresses, external=external)
