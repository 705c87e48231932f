"""
`NginxRing`, example by example; that it picks as nginx does is in `tests.conformance`.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import Member
from knet.hashring.proxies import NginxRing

PODS = [Endpoint("web", f"10.0.0.{n}", 8080) for n in range(1, 6)]
KEYS = [f"key-{n}" for n in range(200)]


def test_points_are_a_chain() -> None:
    """
    The first three, by hand: the point before, little-endian, follows host, NUL and port.
    """
    ring = NginxRing(["10.0.0.1:80", "10.0.0.2:80"])
    base = b"10.0.0.1\x0080"
    first = crc32(base + b"\0\0\0\0")
    second = crc32(base + first.to_bytes(4, "little"))
    third = crc32(base + second.to_bytes(4, "little"))

    for point in (first, second, third):
        assert ring.get_hash(point << 32) == "10.0.0.1:80"


def test_a_key_is_its_crc32() -> None:
    """
    Shifted up where 64 bits are asked for.
    """
    ring = NginxRing(PODS)

    assert [ring.get_hash(crc32(key.encode()) << 32) for key in KEYS] == ring.get_many(KEYS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.0.0.1:80", Endpoint("web-0", "10.0.0.1", 80)),
        ("10.0.0.1", Endpoint("web-0", "10.0.0.1")),
        ("[fd00::1]:80", Endpoint("web-0", "fd00::1", 80)),
        ("[fd00::1]", Endpoint("web-0", "fd00::1")),
        ("unix:/run/app.sock", Member("UNIX:/run/app.sock")),
    ],
)
def test_servers_are_hashed_as_they_are_written(one: str, other: Any) -> None:
    """
    Endpoints as somebody would write them, IPv6 in brackets; `unix:` does not count.
    """
    beside = "10.9.9.9:1"
    text = NginxRing[Any]([one, beside])
    value = NginxRing[Any]([other, beside])

    assert [text.get(k) == one for k in KEYS] == [value.get(k) == other for k in KEYS]


def test_host_and_port_are_told_apart() -> None:
    """
    A name without a port is not the one with it, and an empty port is none.
    """
    with_port, without = NginxRing(["a:80", "b"]), NginxRing(["a", "b"])

    assert with_port.share()["a:80"] != without.share()["a"]
    assert NginxRing(["a:", "b"]).share()["a:"] == without.share()["a"]


def test_get_n_follows_the_points() -> None:
    """
    As nginx does when a server fails; so the next one is who has the key once the first has left.
    """
    ring = NginxRing(PODS)
    for key in KEYS:
        first, second, *_ = ring.walk(key)
        rest = [pod for pod in PODS if pod != first]

        assert ring.get_n(key, 2) == (first, second)
        assert ring.replace(rest).get(key) == second


def test_only_the_keys_of_a_leaver_move() -> None:
    """
    nginx's points do not depend on who else is there.
    """
    ring = NginxRing(PODS)
    smaller = ring.replace(PODS[1:])

    for key in KEYS:
        assert ring.get(key) in (smaller.get(key), PODS[0])


def test_shares_follow_weights() -> None:
    """
    A weight of 0 has nothing.
    """
    ring = NginxRing([Member("a:1", 6), Member("b:1", 2), Member("c:1", 0)])
    share = {member.name: part for member, part in ring.share().items()}

    assert share["a:1"] == pytest.approx(0.75, rel=0.1)
    assert share["c:1"] == 0
    assert sum(share.values()) == pytest.approx(1)


@pytest.mark.parametrize("weight", [0.5, 1.5, 6554, 1e12])
def test_weights_are_whole_and_not_too_large(weight: float) -> None:
    """
    nginx would not take the configuration either.
    """
    with pytest.raises(ConfigError, match="the weight of 'a' must be"):
        NginxRing([Member("a", weight)])


def test_an_empty_ring_is_legal() -> None:
    """
    Until it is asked.
    """
    with pytest.raises(NoEndpoints):
        NginxRing[str]().get("key")


def test_spec_and_repr() -> None:
    """
    There are no options.
    """
    assert NginxRing(PODS).spec == "nginx/1"
    assert repr(NginxRing(PODS)) == "<NginxRing members=5>"
