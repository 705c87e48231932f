"""
`StaticResolver`: the same endpoints for whoever asks.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import ConfigError, Endpoint, StaticResolver

WEB_0 = Endpoint("web-0", "10.0.0.7", 80, 2)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.1", Endpoint("10.0.0.1", "10.0.0.1")),
        ("10.0.0.1:8080", Endpoint("10.0.0.1", "10.0.0.1", 8080)),
        ("fd00::1", Endpoint("fd00::1", "fd00::1")),
        ("[fd00::1]", Endpoint("fd00::1", "fd00::1")),
        ("[fd00::1]:8080", Endpoint("fd00::1", "fd00::1", 8080)),
        ("[FD00:0::0:1]:1", Endpoint("fd00::1", "fd00::1", 1)),
        ("::ffff:10.0.0.1", Endpoint("10.0.0.1", "10.0.0.1")),
        ("127.0.0.1:65535", Endpoint("127.0.0.1", "127.0.0.1", 65535)),
    ],
)
def test_a_text_is_an_endpoint_named_by_its_address(text: str, endpoint: Endpoint) -> None:
    assert StaticResolver([text]).endpoints == (endpoint,)


def test_endpoints_are_taken_as_they_are_beside_texts() -> None:
    assert StaticResolver(["10.0.0.1:80", WEB_0]).endpoints == (
        Endpoint("10.0.0.1", "10.0.0.1", 80),
        WEB_0,
    )


def test_texts_that_share_an_address_are_named_by_address_and_port() -> None:
    resolver = StaticResolver(["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.2:8001"])

    assert [endpoint.name for endpoint in resolver.endpoints] == [
        "127.0.0.1:8001",
        "127.0.0.1:8002",
        "127.0.0.2",
    ]


def test_a_text_given_twice_is_one_endpoint_with_its_usual_name() -> None:
    """
    A line too many in a list must not rename a pod, which would move its keys.
    """
    resolver = StaticResolver(["10.0.0.1:80", "10.0.0.1:80", "10.0.0.2:80"])

    assert resolver.endpoints == StaticResolver(["10.0.0.1:80", "10.0.0.2:80"]).endpoints


def test_two_endpoints_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'web-0'"):
        StaticResolver([WEB_0, Endpoint("web-0", "10.0.0.8", 80)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "web.prod",
        "web:80",
        "10.0.0",
        "10.0.0.1:",
        "10.0.0.1:http",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:-1",
        "10.0.0.1:\N{FULLWIDTH DIGIT ONE}",
        "10.0.0.1:" + "9" * 5000,
        " 10.0.0.1",
        "[10.0.0.1",
        "[::1]80",
        "[::1]:",
        "[]:80",
        "fe80::1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1:80",
        "10.0.0.1\0",
    ],
)
def test_a_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        StaticResolver([text])


@given(st.text() | st.text("0123456789.:[]af"))
def test_any_text_is_an_endpoint_or_a_config_error(text: str) -> None:
    try:
        (endpoint,) = StaticResolver([text]).endpoints
    except ConfigError:
        return

    assert StaticResolver([str(endpoint)]).endpoints == (endpoint,)


@pytest.mark.parametrize("endpoints", ["10.0.0.1", [1], [None], [b"10.0.0.1"], 7])
def test_what_is_no_list_of_endpoints_is_refused(endpoints: Any) -> None:
    with pytest.raises(TypeError):
        StaticResolver(endpoints)


@pytest.mark.anyio
async def test_every_service_and_port_gets_the_same_answer() -> None:
    resolver = StaticResolver(["10.0.0.1"])

    answer = await resolver.resolve("web")

    assert answer.endpoints == resolver.endpoints
    assert answer.ttl is None
    assert answer.complete
    assert await resolver.resolve("other", port="http", family="ipv6") == answer


@pytest.mark.anyio
async def test_it_answers_what_it_was_last_told() -> None:
    resolver = StaticResolver()
    assert (await resolver.resolve("web")).endpoints == ()

    resolver.set(["10.0.0.2", "10.0.0.1"])

    assert [str(e) for e in (await resolver.resolve("web")).endpoints] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.anyio
async def test_a_refused_list_leaves_the_last_one_in_place() -> None:
    resolver = StaticResolver(["10.0.0.1"])

    with pytest.raises(ConfigError):
        resolver.set(["10.0.0.2", "nonsense"])

    assert [str(e) for e in (await resolver.resolve("web")).endpoints] == ["10.0.0.1"]


def test_its_repr_counts_the_endpoints() -> None:
    assert repr(StaticResolver(["10.0.0.1", "10.0.0.2"])) == "<StaticResolver endpoints=2>"
