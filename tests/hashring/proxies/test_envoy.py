"""
`EnvoyRing` and `EnvoyMaglev`, example by example; that they pick as Envoy does is in `tests.conformance`.
"""

from __future__ import annotations

from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.hashring import Maglev, Member, hash_key
from knet.hashring.hashing import xxh64
from knet.hashring.proxies import EnvoyMaglev, EnvoyRing
from knet.hashring.proxies.murmur import murmur2_64
from knet.hashring.steps import exhaust
from tests.hashring.tools import KEYS, parts_of

PODS = [Endpoint(f"web-{number}", f"10.0.0.{number}", 8080) for number in range(1, 8)]


def test_points_are_the_hashes_of_address_and_number() -> None:
    """
    From 0 on, the port included.
    """
    ring = EnvoyRing(PODS[:2], min_size=4)

    for pod in PODS[:2]:
        for index in (0, 1):
            assert ring.get_hash(xxh64(f"{pod}_{index}".encode())) is pod
    assert len(ring.points) == 4


def test_a_host_gets_whole_points() -> None:
    """
    1024 by 3 is 341.33, so 342 each.
    """
    assert len(EnvoyRing(PODS[:3]).points) == 1026
    assert len(EnvoyRing(PODS[:3], max_size=1024).points) == 1024
    assert len(EnvoyRing([Member("a"), Member("b", 3), Member("c", 0)]).points) == 1024


def test_75_hosts_have_a_point_more_than_they_should() -> None:
    """
    14 each are 1050; doubles sum up to a little more, and Envoy's loop makes 1051 of it.
    """
    assert len(EnvoyRing(map(str, range(75))).points) == 1051


def test_some_hosts_may_have_no_point() -> None:
    """
    When there is less room than hosts; they get no keys and are in no walk.
    """
    ring = EnvoyRing(PODS, min_size=2, max_size=2)

    assert len(ring.get_n("key", 9)) == 2
    assert sorted(map(bool, ring.share().values())) == [False] * 5 + [True] * 2


def test_murmur2_places_points_and_never_keys() -> None:
    """
    As in Envoy, where the hash of a request does not depend on the balancer.
    """
    ring = EnvoyRing(PODS, hash="murmur2")

    assert all(ring.get_hash(murmur2_64(f"{pod}_0".encode())) is pod for pod in PODS)
    assert [ring.get_hash(hash_key(key)) for key in KEYS] == ring.get_many(KEYS)


TEXT = b"10.0.0.1:8080_0, and then some more"

# What `std::hash<std::string>` of GCC 12 on x86-64 returns for so many bytes of the text.
MURMUR2 = [
    (0, 6142509188972423790),
    (1, 10159970873491820195),
    (2, 2594088158685378223),
    (3, 13562144813845494497),
    (4, 14636758478307216286),
    (5, 1906189250287118614),
    (6, 17934894006567335637),
    (7, 11932505579148581743),
    (8, 3356155023850515770),
    (9, 9398960550408275778),
    (10, 7660137991479222826),
    (11, 13815994490552752904),
    (12, 15345306833109174591),
    (13, 15748839866900676383),
    (14, 10628008996345485428),
    (15, 2887472326060304709),
    (16, 167542436148828811),
    (17, 5248237816933629594),
    (35, 420928440917165963),
]


@pytest.mark.parametrize(("length", "h64"), MURMUR2)
def test_murmur2_is_that_of_libstdcxx(length: int, h64: int) -> None:
    """
    Whole blocks, and every length of what is left over.
    """
    assert murmur2_64(TEXT[:length]) == h64


def test_murmur2_takes_bytes_for_unsigned() -> None:
    """
    As `std::hash<std::string>` does, which was asked for this too.
    """
    assert murmur2_64(b"\xff\x00\x80\xfe\xc3\xa9\x7f\x01\x90") == 10642941031751231184


def test_envoy_maglev_is_maglev_over_addresses() -> None:
    """
    The names of the pods play no part.
    """
    by_address = Maglev(PODS, name=str)

    assert parts_of(EnvoyMaglev(PODS)) == parts_of(by_address)
    assert EnvoyMaglev(PODS) != by_address
    assert EnvoyMaglev(PODS).members == tuple(sorted(PODS, key=str))
    assert parts_of(EnvoyMaglev(PODS, name=lambda pod: pod.name)) == parts_of(Maglev(PODS))


def test_a_leave_moves_keys_of_others_too() -> None:
    """
    Envoy's rings do: the others' points become more. Its Maglev tables do so much less.
    """
    moved = {}
    for kind in (EnvoyRing, EnvoyMaglev):
        before, after = kind(PODS), kind(PODS[1:])
        old = [before.get(f"key-{number}") for number in range(5000)]
        new = [after.get(f"key-{number}") for number in range(5000)]
        moved[kind] = sum(
            one is not PODS[0] and one is not other for one, other in zip(old, new, strict=True)
        )

    assert moved[EnvoyRing] > 250
    assert 0 < moved[EnvoyMaglev] < 50


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"min_size": 0}, ConfigError, "min_size must be at least 1"),
    ({"min_size": 8_388_609}, ConfigError, "min_size must be at most 8388608"),
    ({"max_size": 8_388_609}, ConfigError, "max_size must be at most 8388608"),
    ({"max_size": 100}, ConfigError, r"max_size must be at least min_size \(1024\), got 100"),
    ({"min_size": 5, "max_size": 4}, ConfigError, "max_size must be at least min_size"),
    ({"min_size": "5"}, TypeError, "min_size must be an int, not str"),
    ({"hash": "md5"}, ConfigError, "hash must be 'xxh64' or 'murmur2', got 'md5'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_what_envoy_refuses_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """
    A minimum above the maximum, and what is out of its range.
    """
    with pytest.raises(error, match=message):
        EnvoyRing(["a"], **options)


@pytest.mark.parametrize("kind", [EnvoyRing, EnvoyMaglev])
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([Member("a", 0.5)], "the weight of 'a' must be a whole number, as in Envoy, got 0.5"),
        ([Member("a", 2**32)], "the weight of 'a' must be at most 4294967295"),
        ([Member("a", 2**31), Member("b", 2**31)], "all weights together must be at most"),
    ],
)
def test_weights_are_envoys(kind: Any, members: list[Member], message: str) -> None:
    """
    32-bit numbers, also when summed up.
    """
    with pytest.raises(ConfigError, match=message):
        kind(members)


def test_a_whole_weight_may_be_a_float() -> None:
    """
    An endpoint has it as one.
    """
    assert EnvoyRing([Member("a", 2.0), Member("b")]).share()[Member("a", 2)] > 0.6


def test_builds_come_in_slices() -> None:
    """
    A large ring in very many of them, and murmur2, which is slow, in smaller ones.
    """
    empty = EnvoyRing[Endpoint](min_size=65_536)
    assert sum(1 for _ in empty.replacing(PODS)) > 300
    assert exhaust(empty.replacing(PODS)) == EnvoyRing(PODS, min_size=65_536)

    assert sum(1 for _ in EnvoyRing[Endpoint](hash="murmur2").replacing(PODS)) > 30


def test_spec_and_repr() -> None:
    """
    All options, as Envoy has them.
    """
    assert EnvoyRing(["a"]).spec == "envoy-ring/1 min_size=1024 max_size=8388608 hash=xxh64"
    assert EnvoyMaglev(["a"]).spec == "envoy-maglev/1 table_size=65537"
    assert repr(EnvoyMaglev(["a"])) == "<EnvoyMaglev members=1 table_size=65537>"
