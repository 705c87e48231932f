"""
`Ketama`, example by example; that it picks as others do is in `tests.conformance`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import Member
from knet.hashring.proxies import Ketama
from knet.hashring.proxies.hashes import md5_word, one_at_a_time
from knet.hashring.proxies.servers import split_address

CACHES = [Endpoint("cache", f"10.0.0.{n}", 11211) for n in range(1, 6)]
KEYS = [f"key-{n}" for n in range(200)]


def points_of(ring: Ketama[Any], member: Any) -> int:
    return sum(owner is member for _, owner in ring.points)


def test_four_points_come_from_one_md5() -> None:
    """
    The words of the digest of the name, a dash and a number, little-endian.
    """
    ring = Ketama(CACHES)
    digest = hashlib.md5(b"10.0.0.3-7").digest()

    for at in range(0, 16, 4):
        point = int.from_bytes(digest[at : at + 4], "little")
        assert ring.get_hash(point << 32) == CACHES[2]
    assert points_of(ring, CACHES[2]) == 160


def test_plain_ketama_has_a_hundred_points() -> None:
    """
    With the hash of the keys.
    """
    ring = Ketama(CACHES, behavior="ketama")

    for number in range(100):
        point = one_at_a_time(b"10.0.0.3-%d" % number)
        assert ring.get_hash(point << 32) == CACHES[2]
    assert points_of(ring, CACHES[2]) == 100


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, md5_word),
        ({"behavior": "ketama"}, one_at_a_time),
        ({"behavior": "ketama", "hash": "md5"}, md5_word),
        ({"hash": "one_at_a_time"}, one_at_a_time),
        ({"behavior": "KETAMA_WEIGHTED", "hash": "DEFAULT"}, md5_word),
    ],
)
def test_the_default_hash_depends_on_the_behavior(options: dict[str, Any], expected: Any) -> None:
    """
    As in libmemcached, whose words may be in capitals here as there.
    """
    ring = Ketama(CACHES, **options)

    assert ring.get_many(KEYS) == [ring.get_hash(expected(k.encode()) << 32) for k in KEYS]


@pytest.mark.parametrize(
    ("member", "name"),
    [
        (Endpoint("x", "10.0.0.1", 11211), "10.0.0.1"),
        (Endpoint("x", "10.0.0.1", 11212), "10.0.0.1:11212"),
        (Endpoint("x", "10.0.0.1"), "10.0.0.1"),
        (Endpoint("x", "fd00::1", 11211), "fd00::1"),
        (Endpoint("x", "fd00::1", 11212), "fd00::1:11212"),
        ("10.0.0.1:11211", "10.0.0.1"),
        ("[fd00::1]:11212", "fd00::1:11212"),
        ("fd00::1", "fd00::1"),
        ("cache-0.cache:11211", "cache-0.cache"),
        (Member("shard-0"), "shard-0"),
    ],
)
def test_the_port_of_memcached_is_left_out(member: Any, name: str) -> None:
    """
    Of endpoints and of strings, and IPv6 is without brackets.
    """
    assert Ketama._default_name(member) == name


def test_a_name_of_ones_own_is_hashed_word_for_word() -> None:
    """
    As twemproxy's server names are, and as spymemcached writes its points.
    """
    spy = Ketama(CACHES, name=lambda endpoint: f"/{endpoint}")
    point = md5_word(b"/10.0.0.3:11211-0")

    assert spy.get_hash(point << 32) == CACHES[2]


@pytest.mark.parametrize(
    ("weights", "points"),
    [
        ((1, 1, 1), (160, 160, 160)),
        ((1, 2, 3), (80, 160, 240)),
        ((1, 1000), (0, 316)),
        ((0, 3, 1), (0, 240, 80)),
    ],
)
@pytest.mark.parametrize("behavior", ["ketama_weighted", "ketama"])
def test_points_follow_weights(
    behavior: str, weights: tuple[int, ...], points: tuple[int, ...]
) -> None:
    """
    Rounded down to whole fours, even to none; a weight above 1 makes the plain one weighted.
    """
    members = [Member(f"m{at}", weight) for at, weight in enumerate(weights)]
    ring = Ketama(members, behavior=behavior)
    if behavior == "ketama" and max(weights) == 1:
        points = (100,) * len(weights)

    assert tuple(points_of(ring, member) for member in members) == points


def test_counts_are_rounded_as_32_bit_floats() -> None:
    """
    25 equal servers: 160 / 25 * 25 is a little less than 160 there, which costs each four points.
    """
    ring = Ketama([f"m{n}" for n in range(25)])

    assert points_of(ring, ring.members[0]) == 156


def test_get_n_follows_the_points() -> None:
    """
    Distinct, beginning with the owner.
    """
    ring = Ketama(CACHES)
    for key in KEYS:
        assert ring.get_n(key, 1) == (ring.get(key),)
        assert set(ring.get_n(key, 9)) == set(CACHES)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"behavior": "modula"}, ConfigError, "behavior must be one of ketama_weighted, ketama"),
        ({"behavior": 1}, TypeError, "behavior must be a str"),
        ({"hash": "sha1"}, ConfigError, "hash must be one of default, md5"),
        ({"hash": None}, TypeError, "hash must be a str"),
        ({"name": "host"}, TypeError, "name must be a function"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """
    With what there is to choose from.
    """
    with pytest.raises(error, match=message):
        Ketama(["a"], **options)


@pytest.mark.parametrize("weight", [0.5, 2**32])
def test_weights_are_whole(weight: float) -> None:
    """
    And fit where the clients keep them.
    """
    with pytest.raises(ConfigError, match="the weight of 'a' must be"):
        Ketama([Member("a", weight)])


def test_one_server_under_two_names_is_refused() -> None:
    """
    With and without the port that does not count.
    """
    with pytest.raises(ConfigError, match=r"given more than once: '10\.0\.0\.1'"):
        Ketama(["10.0.0.1", "10.0.0.1:11211"])


def test_an_empty_ring_is_legal() -> None:
    """
    In both behaviors.
    """
    for behavior in ("ketama", "ketama_weighted"):
        ring = Ketama[str](behavior=behavior)
        with pytest.raises(NoEndpoints):
            ring.get("key")


def test_spec_and_repr() -> None:
    """
    The options, in lower case.
    """
    ring = Ketama(CACHES, behavior="KETAMA", hash="FNV1A_32")

    assert ring.spec == "ketama/1 behavior=ketama hash=fnv1a_32"
    assert repr(ring) == "<Ketama members=5 behavior=ketama hash=fnv1a_32>"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a:1", ("a", "1")),
        ("a", ("a", "")),
        ("a:", ("a:", "")),
        ("a:b", ("a:b", "")),
        ("a:²", ("a:²", "")),
        ("[::1]:1", ("::1", "1")),
        ("[::1]", ("::1", "")),
        ("::1", ("::1", "")),
        ("unix:/run/a", ("unix:/run/a", "")),
    ],
)
def test_addresses_are_split(text: str, parts: tuple[str, str]) -> None:
    """
    A port is digits after the last colon, and IPv6 has room for one only in brackets.
    """
    assert split_address(text) == parts
