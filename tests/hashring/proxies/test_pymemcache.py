"""
`PymemcacheRendezvous`, example by example; that it picks as pymemcache does is in `tests.conformance`.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import Member, Placement
from knet.hashring.placement import Sliced
from knet.hashring.proxies import PymemcacheRendezvous, pymemcache
from knet.hashring.steps import exhaust

CACHES = [Endpoint("cache", f"10.0.0.{n}", 11211) for n in range(1, 6)]
KEYS = [f"key-{n}" for n in range(200)]


def test_the_highest_score_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With the length as the hash: "ccc" before "bb" before "a", whatever the key.
    """
    monkeypatch.setattr(pymemcache, "murmur3_32", len)
    nodes = PymemcacheRendezvous(["a", "bb", "ccc"])

    assert nodes.get("key") == "ccc"
    assert list(nodes.walk("key")) == ["ccc", "bb", "a"]
    assert nodes.get_n("key", 2) == ("ccc", "bb")


def test_of_equal_scores_the_last_name_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The order of the members does not matter.
    """
    monkeypatch.setattr(pymemcache, "murmur3_32", lambda data: 1)
    for order in (["a", "c", "b"], ["c", "b", "a"]):
        nodes = PymemcacheRendezvous(order)

        assert nodes.get("key") == "c"
        assert list(nodes.walk("key")) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("member", "name"),
    [
        (Endpoint("x", "10.0.0.1", 11212), "10.0.0.1:11212"),
        (Endpoint("x", "fd00::1", 11212), "fd00::1:11212"),
        (Endpoint("x", "10.0.0.1"), "10.0.0.1:11211"),
        ("10.0.0.1", "10.0.0.1"),
        (Member("shard-0"), "shard-0"),
    ],
)
def test_nodes_are_called_as_hashclient_calls_them(member: Any, name: str) -> None:
    """
    Strings are the nodes of a `RendezvousHash` themselves.
    """
    assert PymemcacheRendezvous._default_name(member) == name


def test_only_the_keys_of_a_leaver_move_and_get_n_says_where() -> None:
    """
    Rendezvous hashing at its best.
    """
    nodes = PymemcacheRendezvous(CACHES)
    smaller = nodes.replace(CACHES[1:])
    for key in KEYS:
        first, second = nodes.get_n(key, 2)

        assert smaller.get(key) == (second if first == CACHES[0] else first)


def test_characters_are_hashed_by_their_lower_bits() -> None:
    """
    So U+0161 is like "a", and bytes that are no UTF-8 are as they are.
    """
    nodes = PymemcacheRendezvous(CACHES)

    assert nodes.get("user-\u0161") == nodes.get("user-a")
    assert nodes.get("größe") == nodes.get("größe".encode()) == nodes.get("größe".encode("latin-1"))


def test_shares_are_equal() -> None:
    """
    Of all that have keys; sampling says the same.
    """
    members = [*CACHES[:4], Endpoint("x", "10.0.0.9", weight=0)]
    nodes = PymemcacheRendezvous(members)
    share = nodes.share()
    picks = [nodes.get_hash(at << 52) for at in range(4096)]

    assert set(share) == set(members)
    for member in CACHES[:4]:
        assert share[member] == 0.25
        assert picks.count(member) / 4096 == pytest.approx(0.25, rel=0.15)
    assert share[members[-1]] == 0
    assert members[-1] not in nodes.walk("key")


@pytest.mark.parametrize("weight", [0.5, 2])
def test_weights_are_refused(weight: float) -> None:
    """
    Rather than silently ignored.
    """
    with pytest.raises(ConfigError, match="must be 0 or 1, as pymemcache has none"):
        PymemcacheRendezvous([Member("a", weight)])


def test_it_is_a_placement() -> None:
    """
    Empty or not, built at once or in slices, and through a pickle.
    """
    nodes = PymemcacheRendezvous(CACHES)
    empty = PymemcacheRendezvous[Endpoint]()

    assert isinstance(nodes, Placement)
    assert isinstance(nodes, Sliced)
    assert exhaust(empty.replacing(CACHES)) == nodes == pickle.loads(pickle.dumps(nodes))
    assert nodes.get_many(KEYS) == [nodes.get(key) for key in KEYS]
    assert repr(nodes) == "<PymemcacheRendezvous members=5>"
    assert nodes.spec == "pymemcache/1"
    for ask in (empty.get, empty.walk):
        with pytest.raises(NoEndpoints, match="the ring has no members"):
            ask("key")
    with pytest.raises(NoEndpoints):
        empty.get_hash(0)
    with pytest.raises(NoEndpoints, match="all 1 members have weight 0"):
        PymemcacheRendezvous([Member("a", 0)]).get_n("key", 1)
