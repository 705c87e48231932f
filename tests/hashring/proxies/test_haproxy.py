"""
`HAProxyRing`, example by example; that it picks as HAProxy does is in `tests.conformance`.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import Member
from knet.hashring.proxies import HAProxyRing, haproxy
from knet.hashring.proxies.hashes import MASK, crc32, djb2, full_avalanche, sdbm, wt6
from knet.hashring.steps import exhaust

PODS = [Endpoint(f"web-{n}", f"10.0.0.{n + 1}", 8080) for n in range(5)]
KEYS = [f"key-{n}" for n in range(300)]


def ordinal(pod: Endpoint) -> int:
    return int(pod.name.rpartition("-")[2]) + 1


class TestTheRingInTheHead:
    """
    Four nodes for each server, and the node of number n at n times 2**18.

    An id has 4096 numbers, so server s has its nodes at s * 2**30 + 0, 1, 2 and 3 times 2**18. In
    units of 2**18, of which there are 16384: "a", the first, at 4096 to 4099, "b" at 8192 to 8195.
    """

    @pytest.fixture(autouse=True)
    def _hash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(haproxy, "full_avalanche", lambda number: number << 18 & MASK)
        monkeypatch.setattr(haproxy, "_NODES_PER_WEIGHT", 4)

    def at(self, ring: HAProxyRing[str], place: float) -> str:
        return ring.get_hash(int(place * 2**18) << 32)

    def test_a_key_belongs_to_the_nearest_node(self) -> None:
        """
        Halfway between 4099 and 8192 is 6145.5; the lower node has what is as near to both.
        """
        ring = HAProxyRing(["a", "b"])

        assert [self.at(ring, place) for place in (4096, 4099, 6145, 6145.5)] == ["a"] * 4
        assert self.at(ring, 6145.5 + 2**-18) == "b"
        assert [self.at(ring, place) for place in (8192, 8195, 8200)] == ["b"] * 3

    def test_the_circle_is_closed(self) -> None:
        """
        From 8195 over the top to 4096 there are 12285; halfway is 14337.5.
        """
        ring = HAProxyRing(["a", "b"])

        assert [self.at(ring, place) for place in (14337, 14337.5)] == ["b"] * 2
        assert [self.at(ring, place) for place in (14338, 16383, 0, 4095)] == ["a"] * 4

    def test_the_middle_may_lie_past_the_top(self) -> None:
        """
        Servers 3 and 1: from 12291 up to 4096 there are 8189, and halfway is 1.5 past the top.
        """
        ring = HAProxyRing(["c", "a"], ids={"c": 3, "a": 1})

        assert [self.at(ring, place) for place in (12288, 16383, 0, 1.5)] == ["c"] * 4
        assert [self.at(ring, place) for place in (2, 4096, 8193)] == ["a"] * 3
        assert self.at(ring, 8194) == "c"
        assert ring.share() == {"c": 0.5, "a": 0.5}

    def test_the_walk_goes_outwards_on_both_sides(self) -> None:
        """
        From 6000 "a" is 1901 away and "b" 2192; "c", at 12288 to 12291, is the farthest.
        """
        ring = HAProxyRing(["a", "b", "c"])
        walk = list(ring._walk(6000 << 18))

        assert walk == ["a", "b", "c"]
        # From 100, over the top: "a" 3996, "c" 4193, "b" 8092 away.
        assert list(ring._walk(100 << 18)) == ["a", "c", "b"]


def test_the_address_does_not_matter() -> None:
    """
    Positions do: who stands third has the keys of the third server.
    """
    ring, other = HAProxyRing(["a", "b", "c"]), HAProxyRing(["c", "a", "b"])
    places = {"a": "c", "b": "a", "c": "b"}

    assert other.get_many(KEYS) == [places[name] for name in ring.get_many(KEYS)]


def test_without_ids_a_gap_moves_everybody_behind_it() -> None:
    """
    HAProxy has it so; with ids only the leaver's keys move.
    """
    left = [pod for pod in PODS if pod != PODS[1]]
    by_position, by_id = HAProxyRing(PODS), HAProxyRing(PODS, ids=ordinal)

    def strays(ring: HAProxyRing[Endpoint]) -> int:
        after = ring.replace(left)
        return sum(ring.get(k) not in (PODS[1], after.get(k)) for k in KEYS)

    assert by_position == HAProxyRing(PODS)
    assert by_position.get_many(KEYS) == by_id.get_many(KEYS)
    assert strays(by_position) > 50
    assert strays(by_id) == 0


def test_the_walk_is_who_would_have_the_key_if_the_others_were_down() -> None:
    """
    For every key, one after the other.
    """
    ring = HAProxyRing(PODS, ids=ordinal)
    for key in KEYS[:50]:
        rest = list(PODS)
        for pod in ring.walk(key):
            assert ring.replace(rest).get(key) == pod
            rest.remove(pod)
        assert not rest
        assert ring.get_n(key, 9) == tuple(ring.walk(key))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (None, (1, 2, 3, 4, 5)),
        (ordinal, (1, 2, 3, 4, 5)),
        (lambda pod: 10 * ordinal(pod), (10, 20, 30, 40, 50)),
        ({pod: 100 + ordinal(pod) for pod in PODS}, (101, 102, 103, 104, 105)),
        ({"10.0.0.1:8080": 2, "10.0.0.4:8080": 3}, (2, 4, 5, 3, 7)),
        ({"10.0.0.5:8080": 1}, (2, 3, 4, 5, 1)),
        ([(PODS[0], 7)], (7, 2, 3, 4, 5)),
        ({"10.7.7.7:8080": 2}, (1, 2, 3, 4, 5)),
    ],
)
def test_ids_are_given_or_the_next_free_ones(ids: Any, expected: tuple[int, ...]) -> None:
    """
    By member or by name; a server without one takes the next free from its position on.
    """
    assert HAProxyRing(PODS, ids=ids).ids == expected


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ({"a": 0}, ConfigError, "id of 'a' must be 1 to"),
        ({"a": 2**31}, ConfigError, "id of 'a' must be 1 to"),
        ({"a": "1"}, TypeError, "id of 'a' must be an int"),
        (lambda name: True, TypeError, "id of 'a' must be an int"),
        (lambda name: 1, ConfigError, "an id of its own"),
        ({"a": 5, "b": 5 + 2**20}, ConfigError, "an id of its own, also modulo 1048576"),
    ],
)
def test_bad_ids_are_refused(ids: Any, error: type[Exception], message: str) -> None:
    """
    Those that HAProxy refuses, and those with which two servers would have the same nodes.
    """
    with pytest.raises(error, match=message):
        HAProxyRing(["a", "b"], ids=ids)


@pytest.mark.parametrize("function", [sdbm, djb2, wt6, crc32])
def test_the_words_of_hash_type(function: Any) -> None:
    """
    A function alone, or followed by `avalanche`.
    """
    plain = HAProxyRing(PODS, hash=function.__name__)
    mixed = HAProxyRing(PODS, hash=f"{function.__name__} avalanche")
    hashes = [function(key.encode()) for key in KEYS]

    assert plain.get_many(KEYS) == [plain.get_hash(h << 32) for h in hashes]
    assert mixed.get_many(KEYS) == [plain.get_hash(full_avalanche(h) << 32) for h in hashes]


@pytest.mark.parametrize("words", ["", "md5", "sdbm sdbm", "avalanche", "sdbm avalanche twice"])
def test_other_words_are_refused(words: str) -> None:
    """
    And the message says which there are.
    """
    with pytest.raises(ConfigError, match="sdbm, djb2, wt6, crc32, alone or followed by avalanche"):
        HAProxyRing(["a"], hash=words)
    with pytest.raises(TypeError, match="hash must be a str"):
        HAProxyRing(["a"], hash=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [0.5, 257])
def test_weights_are_whole_and_at_most_256(weight: float) -> None:
    """
    As in HAProxy.
    """
    assert HAProxyRing([Member("a", 256), Member("b", 0)]).get("key") == Member("a", 256)
    with pytest.raises(ConfigError, match="the weight of 'a' must be"):
        HAProxyRing([Member("a", weight)])


def test_an_empty_ring_is_legal() -> None:
    """
    And fills up.
    """
    ring = HAProxyRing[Endpoint](ids=ordinal)

    with pytest.raises(NoEndpoints):
        ring.get("key")
    with pytest.raises(NoEndpoints):
        ring.walk("key")
    assert ring.share() == {}
    assert exhaust(ring.replacing(PODS)) == HAProxyRing(PODS, ids=ordinal)
    assert HAProxyRing(PODS).replace([]).ids == ()


def test_one_member_has_everything() -> None:
    """
    Both neighbours of every key are its own.
    """
    ring = HAProxyRing(["a"])

    assert set(ring.get_many(KEYS)) == {"a"}
    assert list(ring.walk("key")) == ["a"]
    assert ring.share() == {"a": 1.0}


def test_a_pickle_keeps_ids_and_hash() -> None:
    """
    Whether the ids came as a mapping or as a function.
    """
    for ids in ({PODS[0]: 9}, ordinal, None):
        ring = HAProxyRing(PODS, ids=ids, hash="djb2")
        loaded = pickle.loads(pickle.dumps(ring))

        assert loaded == ring
        assert hash(loaded) == hash(ring)
        assert loaded.ids == ring.ids
        assert loaded.get_many(KEYS) == ring.get_many(KEYS)


def test_the_ids_belong_to_the_spec() -> None:
    """
    They decide every pick; the repr stays short.
    """
    ring = HAProxyRing(PODS, ids={PODS[0]: 9})

    assert ring.spec == "haproxy/1 hash='sdbm avalanche' ids=9,2,3,4,5"
    assert repr(ring) == "<HAProxyRing members=5 hash='sdbm avalanche'>"
