"""
EndpointSlices to an answer.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import Answer, Endpoint, Question
from knet.kubernetes.slices import answer_from, read_slice

DOMAIN = "web.prod.svc.cluster.local"


def endpoint(address: str, *, ready: bool | None = True, **more: Any) -> dict[str, Any]:
    conditions = {} if ready is None else {"ready": ready}
    return {
        "addresses": [address],
        "conditions": {**conditions, **more.pop("conditions", {})},
        **more,
    }


def told(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    ports = [{"name": "http", "protocol": "TCP", "port": 8080}]
    return {"addressType": "IPv4", "endpoints": list(endpoints), "ports": ports, **more}


def answer(*slices: dict[str, Any], port: Any = None, **more: Any) -> Answer:
    question = Question("web.prod", port, **more.pop("question", {}))
    return answer_from(map(read_slice, slices), question, domain=DOMAIN, **more)


def names(*slices: dict[str, Any], **more: Any) -> list[str]:
    return [each.name for each in answer(*slices, **more).endpoints]


def test_pods_are_named_by_address_and_have_the_port_that_was_asked_for() -> None:
    found = answer(told(endpoint("10.0.0.1", hostname="web-0")), port=9090)

    assert found.endpoints == (Endpoint("10.0.0.1", "10.0.0.1", 9090),)
    assert found.name == f"{DOMAIN}."
    assert found.complete


def test_a_named_port_names_pods_by_their_hostname_if_they_have_one() -> None:
    found = answer(told(endpoint("10.0.0.1", hostname="web-0"), endpoint("10.0.0.2")), port="http")

    assert found.endpoints == (
        Endpoint("10.0.0.2", "10.0.0.2", 8080),
        Endpoint(f"web-0.{DOMAIN}", "10.0.0.1", 8080),
    )


def test_slices_with_other_ports_count_for_other_names_only() -> None:
    other = [{"name": "http", "protocol": "UDP", "port": 1}, {"name": "grpc", "port": 9000}]
    slices = told(endpoint("10.0.0.1")), told(endpoint("10.0.0.2"), ports=other)

    assert names(*slices, port="http") == ["10.0.0.1"]
    assert names(*slices, port="grpc") == ["10.0.0.2"]
    assert names(*slices, port="http", question={"protocol": "udp"}) == ["10.0.0.2"]
    assert names(*slices) == ["10.0.0.1", "10.0.0.2"]


def test_who_is_not_ready_is_no_endpoint_and_a_missing_condition_is_true() -> None:
    slices = told(
        endpoint("10.0.0.1", ready=False),
        endpoint("10.0.0.2", ready=None),
        {"addresses": ["10.0.0.3"]},
        {"addresses": ["10.0.0.4"], "conditions": None},
    )

    assert names(slices) == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_who_drains_counts_where_that_is_asked_for_and_nobody_is_ready() -> None:
    draining = endpoint("10.0.0.1", ready=False, conditions={"serving": True, "terminating": True})
    dead = endpoint("10.0.0.2", ready=False, conditions={"serving": False, "terminating": True})

    assert names(told(draining, dead)) == []
    assert names(told(draining, dead), serve_terminating=True) == ["10.0.0.1"]
    assert names(told(draining, endpoint("10.0.0.3")), serve_terminating=True) == ["10.0.0.3"]


def test_families_are_as_by_dns() -> None:
    four, six = told(endpoint("10.0.0.1")), told(endpoint("fd00::1"), addressType="IPv6")

    assert names(four, six) == ["10.0.0.1"]
    assert names(six) == ["fd00::1"]
    assert names(four, six, question={"family": "ipv6"}) == ["fd00::1"]
    assert names(four, question={"family": "ipv6"}) == []


def test_a_zone_is_told_and_not_compared() -> None:
    (found,) = answer(told(endpoint("10.0.0.1", zone="eu-1a"))).endpoints

    assert (found, found.zone) == (Endpoint("10.0.0.1", "10.0.0.1"), "eu-1a")


def test_of_two_at_one_address_the_later_word_of_one_pod_counts() -> None:
    ready = endpoint("10.0.0.1", targetRef={"uid": "a", "name": "web-a"})
    gone = endpoint("10.0.0.1", ready=False, targetRef={"uid": "a", "name": "web-a"})

    assert names(told(ready), told(gone)) == []
    assert names(told(gone), told(ready)) == ["10.0.0.1"]


def test_of_two_pods_at_one_address_the_ready_one_counts() -> None:
    ready = endpoint("10.0.0.1", targetRef={"uid": "a", "name": "web-a"})
    gone = endpoint("10.0.0.1", ready=False, targetRef={"uid": "b", "name": "web-b"})

    assert names(told(ready), told(gone)) == names(told(gone), told(ready)) == ["10.0.0.1"]


def test_one_hostname_at_two_addresses_is_the_same_pod_for_all() -> None:
    slices = [told(endpoint(f"10.0.0.{n}", hostname="web-0")) for n in (1, 2)]

    assert answer(*slices, port="http") == answer(*reversed(slices), port="http")
    assert len(answer(*slices, port="http").endpoints) == 1


@pytest.mark.parametrize(
    "endpoints",
    [
        None,
        7,
        [None, 7, {}],
        [{"addresses": None}, {"addresses": []}, {"addresses": [7]}, {"addresses": ["x" * 9999]}],
        [
            {"addresses": ["web.example"]},
            {"addresses": ["127.0.0.1/8"]},
            {"addresses": ["fd00::1"]},
        ],
    ],
)
def test_what_makes_no_sense_is_left_out(endpoints: Any) -> None:
    assert names({**told(), "endpoints": endpoints}) == []


def test_what_was_left_out_is_counted() -> None:
    slices = (
        told(endpoint("nowhere"), endpoint("10.0.0.1")),
        told(endpoint("x"), endpoint("y")),
    )

    assert answer(*slices).ignored == 3


@pytest.mark.parametrize(
    "ports", [None, 7, [None], [{"port": None}], [{"name": "http", "port": 0}]]
)
def test_ports_that_are_none(ports: Any) -> None:
    slices = told(endpoint("10.0.0.1"), ports=ports)

    assert names(slices, port="http") == []
    assert names(slices, port=80) == ["10.0.0.1"]


def test_names_are_nobodys_address() -> None:
    assert names(told(endpoint("10.0.0.1"), addressType="FQDN")) == []


@pytest.mark.parametrize("hostname", ["", "a.b", "-a", "a-", "x" * 64, "ä", "a b", 7])
def test_a_hostname_that_cannot_be_one_names_nobody(hostname: Any) -> None:
    assert names(told(endpoint("10.0.0.1", hostname=hostname)), port="http") == ["10.0.0.1"]


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["addressType", "endpoints", "ports", "metadata"]),
        JSON
        | st.just("IPv4")
        | st.lists(
            st.fixed_dictionaries(
                {"addresses": st.just(["10.0.0.1"])},
                optional={"conditions": JSON, "hostname": JSON, "zone": JSON, "targetRef": JSON},
            ),
            max_size=3,
        ),
    )
)
def test_whatever_is_sent_is_read(slice_: dict[str, Any]) -> None:
    for port in (None, 80, "http"):
        assert isinstance(answer(slice_, port=port), Answer)
