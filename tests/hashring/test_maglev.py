"""
`Maglev`, example by example and against a slow reference; what all placements share is in
`test_every_placement`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet.errors import ConfigError
from knet.hashring import Maglev, Member, hash_key
from knet.hashring.steps import exhaust
from tests.hashring.reference import xxh64
from tests.hashring.tools import KEYS, parts_of, sets_of_members

PRIMES = [2, 3, 5, 7, 17, 101, 251, 1009]


def reference_table(members: list[Member], size: int) -> list[Member]:
    """
    The rules of the module taken literally: every member asked in every round, every slot tried.
    """
    able = sorted((each for each in members if each.weight), key=lambda each: each.name.encode())
    total = math.fsum(each.weight for each in able)
    shares = [each.weight / total for each in able]
    targets = [0.0] * len(able)
    tried = [0] * len(able)
    table: dict[int, Member] = {}
    turn = 0
    while able and len(table) < size:
        turn += 1
        for at, each in enumerate(able):
            if len(table) == size or turn * shares[at] < targets[at]:
                continue
            targets[at] += max(shares)
            offset = xxh64(each.name.encode()) % size
            skip = xxh64(each.name.encode(), 1) % (size - 1) + 1
            while (slot := (offset + skip * tried[at]) % size) in table:
                tried[at] += 1
            table[slot] = each
    return [table[slot] for slot in sorted(table)]


def test_the_example_of_the_module_holds() -> None:
    """
    The worked example beside the rules.
    """
    maglev = Maglev(["a", "b", "c"], table_size=7)

    assert [maglev.get_hash(slot) for slot in range(7)] == ["a", "c", "a", "b", "b", "c", "a"]
    assert hash_key("alice") == 0x73A3EA485F2E6049
    assert hash_key("alice") % 7 == 0
    assert maglev.get_n("alice", 3) == ("a", "c", "b")
    assert maglev.share() == {"a": 3 / 7, "b": 2 / 7, "c": 2 / 7}


@given(sets_of_members(), st.sampled_from(PRIMES))
def test_the_rules_as_written_give_the_same_table(members: list[Member], size: int) -> None:
    """
    Skipping what cannot happen is faster and nothing else, with any weights.
    """
    assert parts_of(Maglev(members, table_size=size)) == reference_table(members, size)


@pytest.mark.parametrize(
    "weights",
    [
        [1, 1_000_000],
        [1, 1e-300, 3],
        [1, 5e-324, 2**32 - 1],
        [0.1, 0.2, 0.3],
        [1, 0.999_999_999_999],
        [1, 3, 3, 2, 3, 1, 1],
        [1, *[0.01] * 30],
    ],
)
def test_weights_far_apart_and_close_together(weights: list[float]) -> None:
    """
    Each has a slot at least, and the rounds are those of the rules.
    """
    members = [Member(f"m{at}", weight) for at, weight in enumerate(weights)]
    maglev = Maglev(members, table_size=1009)

    assert parts_of(maglev) == reference_table(members, 1009)
    assert min(maglev.share().values()) >= 1 / 1009


def test_shares_are_as_even_as_can_be() -> None:
    """
    Nobody has more than a slot above another, and weights are kept to a few.
    """
    even = Maglev([f"pod-{number}" for number in range(100)]).share().values()
    assert max(even) - min(even) <= 1 / 65_537 + 1e-12

    heavy = [Member(f"pod-{number}", 1 + number % 4) for number in range(40)]
    for member, share in Maglev(heavy).share().items():
        assert share == pytest.approx(member.weight / 100, abs=4 / 65_537)


def test_more_members_than_slots() -> None:
    """
    Those that sort last have nothing, and are no answer.
    """
    maglev = Maglev(["gfedcba", *"abcdef"], table_size=5)

    assert sorted(parts_of(maglev)) == ["a", "b", "c", "d", "e"]
    assert sorted(maglev.get_n("key", 9)) == ["a", "b", "c", "d", "e"]
    assert maglev.share()["f"] == 0


def test_a_leave_moves_few_keys_of_others() -> None:
    """
    Not none, as with a `HashRing`: that is what even shares cost.
    """
    names = [f"pod-{number}" for number in range(20)]
    before, after = Maglev(names), Maglev(names[1:])

    moved = sum(
        old is not new and old != "pod-0"
        for old, new in zip(parts_of(before), parts_of(after), strict=True)
    )

    assert 0 < moved / 65_537 < 0.01


def test_preference_follows_the_hash_downwards() -> None:
    """
    By the slots of ``h``, ``h ^ (2**64 - 1)``, ``h ^ (2**64 - 2)`` and so on.
    """
    maglev = Maglev([f"pod-{number}" for number in range(9)], table_size=251)
    for key in KEYS[:20]:
        h = hash_key(key)
        turn = [maglev.get_hash(h), *(maglev.get_hash(h ^ (2**64 - i)) for i in range(1, 256))]

        assert tuple(maglev.walk(key)) == tuple(dict.fromkeys(turn))


def test_a_walk_finds_even_the_owner_of_a_single_slot() -> None:
    """
    However many there are for another.
    """
    maglev = Maglev([Member("small", 1e-9), Member("large")])

    assert maglev.share()[Member("small", 1e-9)] == 1 / 65_537
    assert len(maglev.get_n("key", 2)) == 2


@pytest.mark.parametrize(
    ("table_size", "error", "message"),
    [
        (0, ConfigError, "at least 1"),
        (1, ConfigError, "must be a prime number, got 1"),
        (65_536, ConfigError, "must be a prime number, got 65536"),
        (251 * 251, ConfigError, "prime"),
        (5_000_029, ConfigError, "at most 5000011"),
        ("7", TypeError, "must be an int, not str"),
        (7.0, TypeError, "must be an int"),
        (True, TypeError, "must be an int"),
    ],
)
def test_a_table_that_cannot_work_is_refused(
    table_size: Any, error: type[Exception], message: str
) -> None:
    """
    As Envoy refuses it.
    """
    with pytest.raises(error, match=message):
        Maglev(["a"], table_size=table_size)


@pytest.mark.parametrize("weight", [2**32, 1e308, 10**400])
def test_a_weight_that_overflows_is_refused(weight: float) -> None:
    """
    Rather than turning into infinity further on.
    """
    with pytest.raises(ConfigError, match="the weight of 'a' must be at most 4294967295"):
        Maglev([Member("a", weight)])


def test_the_largest_table_works() -> None:
    """
    With its options in the repr and the spec.
    """
    maglev = Maglev(["a"], table_size=5_000_011)

    assert maglev.get("key") == "a"
    assert maglev.table_size == 5_000_011
    assert repr(maglev) == "<Maglev members=1 table_size=5000011>"
    assert maglev.spec == "maglev/1 table_size=5000011"


def test_a_build_comes_in_many_slices() -> None:
    """
    Equal weights or not, 65,537 slots are some hundreds of slices.
    """
    empty = Maglev[Member]()
    equal = [Member(f"pod-{number}") for number in range(300)]
    weighted = [Member(f"pod-{number}", 1 + number % 50) for number in range(300)]
    for members in (equal, weighted):
        assert sum(1 for _ in empty.replacing(members)) > 300
        assert exhaust(empty.replacing(members)) == Maglev(members)
