"""
`GrpcRing`, example by example; that it picks as gRPC core does is in `tests.conformance`.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.hashring import Member
from knet.hashring.proxies import EnvoyRing, GrpcRing
from tests.hashring.tools import KEYS

PODS = [Endpoint(f"web-{number}", f"10.0.0.{number}", 8080) for number in range(1, 8)]


def test_the_default_ring_is_envoys() -> None:
    """
    Until there would be more than 4096 points.
    """
    assert GrpcRing(PODS).get_many(KEYS) == EnvoyRing(PODS).get_many(KEYS)

    heavy = [Member(str(pod), 1 if pod is PODS[0] else 1000) for pod in PODS]
    assert len(GrpcRing(heavy).points) == 4096
    assert GrpcRing(heavy).get_many(KEYS) != EnvoyRing(heavy).get_many(KEYS)


def test_the_cap_limits_both_sizes() -> None:
    """
    Unless a channel argument lifts it.
    """
    capped = GrpcRing(PODS, min_size=16_384, max_size=65_536)
    lifted = GrpcRing(PODS, min_size=16_384, max_size=65_536, cap=65_536)

    assert len(capped.points) == 4096
    assert len(lifted.points) == 16_387
    assert capped.get_many(KEYS) == GrpcRing(PODS, min_size=4096, max_size=4096).get_many(KEYS)


def test_an_address_that_is_there_twice_is_one_with_both_weights() -> None:
    """
    In the first place, as the first of the two, and so again after a pickle.
    """
    a, b, again = Endpoint("a", "10.0.0.1", 80), Endpoint("b", "10.0.0.2", 80), None
    again = Endpoint("again", "10.0.0.1", 80, weight=2)
    ring = GrpcRing([a, b, again])
    weighted = GrpcRing([Member("10.0.0.1:80", 3), Member("10.0.0.2:80")])

    assert [str(pod) for pod in ring.get_many(KEYS)] == [
        member.name for member in weighted.get_many(KEYS)
    ]
    assert set(ring.get_many(KEYS)) == {a, b}
    assert ring.members == (a, b, again)
    assert ring.share()[a] == weighted.share()[Member("10.0.0.1:80", 3)]
    assert ring.share()[again] == 0
    assert pickle.loads(pickle.dumps(ring)).get_many(KEYS) == ring.get_many(KEYS)


def test_the_very_same_member_twice_counts_twice() -> None:
    """
    It has one share, that of both.
    """
    twice = GrpcRing(["a", "b", "a"])

    assert twice.get_many(KEYS) == [
        member.name for member in GrpcRing([Member("a", 2), Member("b")]).get_many(KEYS)
    ]
    assert sum(twice.share().values()) == pytest.approx(1)
    assert list(twice.share()) == ["a", "b"]


def test_the_keys_of_a_dead_pod_walk_on() -> None:
    """
    To the owner of the next point, while all others stay: the ring is as it was.
    """
    ring = GrpcRing(PODS)
    dead = {PODS[2]}
    for key in KEYS:
        alive = next(pod for pod in ring.walk(key) if pod not in dead)

        if ring.get(key) in dead:
            assert alive == ring.get_n(key, 2)[1]
        else:
            assert alive == ring.get(key)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"min_size": 0}, ConfigError, "min_size must be at least 1"),
        ({"max_size": 8_388_609}, ConfigError, "max_size must be at most 8388608"),
        ({"min_size": 5000}, ConfigError, r"max_size must be at least min_size \(5000\), got 4096"),
        ({"cap": 0}, ConfigError, "cap must be at least 1"),
        ({"cap": 1.5}, TypeError, "cap must be an int"),
    ],
)
def test_what_grpc_refuses_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """
    Before the cap is applied.
    """
    with pytest.raises(error, match=message):
        GrpcRing(["a"], **options)


def test_weights_are_whole() -> None:
    """
    As those of xDS are, summed up too.
    """
    with pytest.raises(ConfigError, match="must be a whole number, as in gRPC"):
        GrpcRing([Member("a", 1.5)])
    with pytest.raises(ConfigError, match="all weights together must be at most 4294967295"):
        GrpcRing([Member("a", 2**31), Member("b", 2**31)])


def test_spec_and_repr() -> None:
    """
    All options, the cap too.
    """
    assert GrpcRing(["a"]).spec == "grpc-ring/1 min_size=1024 max_size=4096 cap=4096"
    assert repr(GrpcRing(["a"])) == "<GrpcRing members=1 min_size=1024 max_size=4096 cap=4096>"
