"""
Members, and what of them every placement reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError
from knet.hashring import HashRing, Member, Placement, Sliced, TreeRing

BAD_WEIGHTS = [-1, -0.5, math.nan, math.inf, -math.inf]


@dataclass(frozen=True)
class Weighted:
    """
    A member of somebody else's making, with no checks of its own.
    """

    name: Any
    weight: Any = 1


def test_a_hash_ring_is_a_placement_and_sliced() -> None:
    """
    A ring of endpoints can be handed to whoever asks for one of the protocols.
    """
    placement: Placement[Endpoint] = HashRing[Endpoint]()
    sliced: Sliced[Endpoint] = HashRing[Endpoint]()

    assert isinstance(placement, Placement)
    assert isinstance(sliced, Sliced)


def test_a_tree_ring_is_no_placement() -> None:
    """
    It changes in place, so it has no `replace`.
    """
    assert not isinstance(TreeRing[str](), Placement)


def test_strings_members_and_endpoints_mix() -> None:
    """
    What they are does not matter to where keys go; only their names do.
    """
    endpoint = Endpoint("c", "10.0.0.3", 8080)
    mixed = HashRing[object](["a", Member("b"), endpoint])
    plain = HashRing(["a", "b", "c"])

    assert mixed.members == ("a", Member("b"), endpoint)
    by_name = {"a": "a", "b": Member("b"), "c": endpoint}
    for key in ("alice", "bob", "carol", "dave", "erin"):
        assert mixed.get(key) == by_name[plain.get(key)]


def test_name_says_what_of_a_member_is_hashed() -> None:
    """
    With `name=` any hashable object is a member.
    """
    ports = HashRing([80, 443, 8080], name=str)
    strings = HashRing(["80", "443", "8080"])

    assert ports.members == (443, 80, 8080)
    assert [str(ports.get(key)) for key in "abcdef"] == [strings.get(key) for key in "abcdef"]
    assert ports.replace([80]).members == (80,)


def test_even_none_can_be_a_member() -> None:
    """
    No value is taken for "nobody".
    """
    few = HashRing([None, True], name=str)
    many = HashRing([None, True], name=str, points=2000)

    assert {few.get(str(number)) for number in range(99)} == {None, True}
    assert {many.get(str(number)) for number in range(99)} == {None, True}


def test_the_port_and_address_of_an_endpoint_are_not_hashed() -> None:
    """
    A pod that comes back elsewhere under its name keeps its keys.
    """
    before = HashRing([Endpoint("web-0", "10.0.0.1", 80), Endpoint("web-1", "10.0.0.2", 80)])
    after = before.replace([Endpoint("web-0", "10.0.9.9", 81), Endpoint("web-1", "10.0.0.2", 80)])

    for key in map(str, range(50)):
        assert before.get(key).name == after.get(key).name


@pytest.mark.parametrize("weight", BAD_WEIGHTS)
def test_a_member_refuses_a_weight_out_of_range(weight: float) -> None:
    """
    A weight is a finite number >= 0.
    """
    with pytest.raises(ConfigError, match=r"the weight of 'a' must be finite and >= 0"):
        Member("a", weight)


@pytest.mark.parametrize("weight", ["1", None, 1j])
def test_a_member_refuses_a_weight_that_is_no_number(weight: Any) -> None:
    """
    The message names the type that was given.
    """
    with pytest.raises(TypeError, match=f"must be a number, not {type(weight).__name__}"):
        Member("a", weight)


@pytest.mark.parametrize(
    ("name", "error"), [("", ConfigError), (None, TypeError), (b"a", TypeError)]
)
def test_a_member_needs_a_name(name: Any, error: type[Exception]) -> None:
    """
    A name is a `str` with something in it.
    """
    with pytest.raises(error, match="a member's name must"):
        Member(name)


BAD_MEMBERS: list[tuple[Any, type[Exception], str]] = [
    *[(Weighted("w", weight), ConfigError, "finite and >= 0") for weight in BAD_WEIGHTS],
    (Weighted("w", "1"), TypeError, "must be a number, not str"),
    (Weighted(None), TypeError, "name of a member must be a str, not NoneType"),
    (Weighted(""), ConfigError, "must not be empty"),
    ("", ConfigError, "must not be empty"),
    ("\ud800", ConfigError, "lone surrogate"),
    (Weighted("w", 1e9), ConfigError, "divide all weights"),
    (Weighted("w", 10**400), ConfigError, "divide all weights"),
    (5, TypeError, "must be a str or have a name, not int"),
    (b"a", TypeError, "must be a str or have a name, not bytes"),
    (["a"], TypeError, "must be a str or have a name, not list"),
]


@pytest.mark.parametrize(("member", "error", "message"), BAD_MEMBERS)
def test_a_bad_member_is_refused(member: Any, error: type[Exception], message: str) -> None:
    """
    Rings of both kinds refuse it, alike, and a tree ring stays as it was.
    """
    with pytest.raises(error, match=message):
        HashRing(["a", member])

    ring = TreeRing[Any]()
    ring.add("a")
    with pytest.raises(error, match=message):
        ring.add(member)
    assert ring.members == ("a",)
    assert ring.get_n("key", 2) == ("a",)


def test_an_unhashable_member_is_refused() -> None:
    """
    Members are keys of what `share` returns.
    """
    with pytest.raises(TypeError, match="unhashable"):
        HashRing[Any]([["a"]], name=str)
    with pytest.raises(TypeError, match="unhashable"):
        TreeRing[Any](name=str).add(["a"])


def test_duplicate_names_are_refused_and_named() -> None:
    """
    Two members of one name would be told apart by chance.
    """
    with pytest.raises(ConfigError, match=r"more than once: 'a', 'b'$"):
        HashRing(["b", "c", Member("a"), "a", "b", "b"])


def test_the_same_member_twice_is_a_duplicate() -> None:
    """
    Nothing is silently dropped.
    """
    member = Member("a")
    with pytest.raises(ConfigError, match="more than once: 'a'"):
        HashRing([member, member])


@pytest.mark.parametrize("members", ["web", b"web"])
def test_one_name_in_place_of_members_is_refused(members: Any) -> None:
    """
    A string is not taken for its letters.
    """
    with pytest.raises(TypeError, match="iterable of members, not one"):
        HashRing(members)


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"points": 0}, ConfigError, "points must be at least 1, got 0"),
    ({"points": -1}, ConfigError, "points must be at least 1"),
    ({"points": 2**20 + 1}, ConfigError, "points must be at most 1048576"),
    ({"points": "160"}, TypeError, "points must be an int, not str"),
    ({"points": 160.0}, TypeError, "points must be an int, not float"),
    ({"points": True}, TypeError, "points must be an int, not bool"),
    ({"slots": 0}, ConfigError, "slots must be at least 1"),
    ({"slots": 3}, ConfigError, "slots must be a power of two, got 3"),
    ({"slots": 65_537}, ConfigError, "slots must be a power of two"),
    ({"slots": 2**21}, ConfigError, "slots must be at most 1048576"),
    ({"slots": "4"}, TypeError, "slots must be an int, not str"),
    ({"name": "name"}, TypeError, "name must be a function of a member, not str"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_a_bad_option_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """
    By the constructor, with the value that was given, in rings of both kinds.
    """
    with pytest.raises(error, match=message):
        HashRing(["a"], **options)
    with pytest.raises(error, match=message):
        TreeRing[str](**options)
