"""
`HashRing(balance=...)`: nobody owns more than its limit, and what that costs when members move.
"""

from __future__ import annotations

import math
import pickle
import random
from functools import partial
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet.errors import ConfigError
from knet.hashring import HashRing, Member
from knet.hashring.balance import level, limits_of, run_starts
from knet.hashring.placement import Entry
from knet.hashring.steps import exhaust
from tests.hashring.reference import ReferenceRing, xxh64
from tests.hashring.tools import (
    KEYS,
    ByMinima,
    ByRuns,
    Hopping,
    Stepping,
    few_bits,
    keys,
    parts_of,
    points,
    printed_with_hash_seeds,
    sets_of_members,
    slots,
    use_hash,
    with_keys,
)

PODS = [Member(f"pod-{number}") for number in range(30)]

balances = st.sampled_from([1.000001, 1.05, 1.1, 1.25, 2, 100.0])
# From next to nothing to nearly everything, beside the handy weights of `tools`.
skewed = st.lists(
    st.builds(
        Member,
        st.text(st.sampled_from("abcdé☃🐍"), min_size=1, max_size=3),
        st.floats(0, 1000) | st.sampled_from([5e-324, 1e-9, 1 / 3, 1, 7]),
    ),
    max_size=12,
    unique_by=lambda member: member.name,
)
any_members = sets_of_members() | skewed


def moved(before: HashRing[Member], after: HashRing[Member]) -> float:
    """
    What part of the keys changed hands.
    """
    pairs = list(zip(parts_of(before), parts_of(after), strict=True))
    return sum(old is not new for old, new in pairs) / len(pairs)


@pytest.mark.parametrize(
    ("before", "limits", "after"),
    [
        pytest.param("aaaabc", {"a": 2, "b": 2, "c": 2}, "bcaabc", id="to the next with room"),
        pytest.param("abcaaa", {"a": 2, "b": 2, "c": 2}, "abcbca", id="past the top"),
        pytest.param("abaaaabc", {"a": 3, "b": 3, "c": 2}, "abbcaabc", id="short runs stay whole"),
        pytest.param(
            "aabaacaad", {"a": 4, "b": 2, "c": 2, "d": 2}, "aabcacdad", id="lower slots stay"
        ),
        pytest.param("aaaa", {"a": 2, "b": 1, "c": 1}, "bcaa", id="to those that had none"),
    ],
)
def test_the_slots_farthest_from_the_end_of_a_run_go_to_the_next_with_room(
    before: str, limits: dict[str, int], after: str
) -> None:
    """
    Tables of a few slots, levelled in the head.
    """
    # Owners are told apart by identity.
    names = {name: name for name in limits}
    table = [names[name] for name in before]
    starts = exhaust(run_starts(table))
    owned = exhaust(level(table, starts, list(names), list(limits.values())))

    assert "".join(table) == after
    assert owned == [after.count(name) for name in limits]


def test_a_table_in_which_nobody_has_too_much_stays() -> None:
    """
    And says so.
    """
    a, b = "a", "b"
    table = [a, a, b, a]

    assert exhaust(level(table, exhaust(run_starts(table)), [a, b], [3, 2])) is None
    assert table == [a, a, b, a]


@pytest.mark.parametrize(
    ("weights", "slots", "balance", "limits"),
    [
        pytest.param([1, 1, 1], 65_536, 1.1, [24_029] * 3, id="rounded down"),
        pytest.param([1] * 6, 8, 1.1, [2] * 6, id="but never below the share rounded up"),
        pytest.param([1] * 12, 4, 1.1, [1] * 12, id="or below 1"),
        pytest.param([1], 16, 1.1, [16], id="one has all"),
        pytest.param([1, 3], 16, 1.25, [5, 15], id="by weight"),
        pytest.param([1, 3], 16, 2.0, [8, 16], id="at most all"),
        pytest.param([5e-324, 2**20], 16, 1.1, [1, 16], id="however small"),
        pytest.param([5e-324, 5e-324], 16, 1.1, [8, 8], id="both of them"),
    ],
)
def test_a_limit_is_a_multiple_of_the_fair_share(
    weights: list[float], slots: int, balance: float, limits: list[int]
) -> None:
    """
    In whole slots, and enough of them for all.
    """
    entries = [Entry(b"%d" % number, weight, None) for number, weight in enumerate(weights)]

    assert exhaust(limits_of(entries, slots, balance)) == limits


def test_the_example_of_the_ring_module_holds() -> None:
    """
    The worked example beside the rules, with the real hash.
    """
    ring = HashRing(["a", "b", "c"], points=2, slots=8)

    assert "".join(parts_of(ring)) == "bbbbccab"
    assert (
        "".join(parts_of(HashRing(["a", "b", "c"], points=2, slots=8, balance=1.25))) == "cabbccab"
    )


@given(any_members, points, slots, balances)
def test_nobody_owns_more_than_its_limit(
    members: list[Member], points: int, slots: int, balance: float
) -> None:
    """
    Whatever the weights and however few the slots; and all slots are somebody's.
    """
    ring = HashRing(members, points=points, slots=slots, balance=balance)
    share = ring.share()

    assert sum(share.values()) == (1 if with_keys(members) else 0)
    for member, fair in fair_shares(members).items():
        # The comparison is in exact slots; only the limit itself may be off by a rounding error.
        most = max(math.ceil(fair * slots), fair * slots * balance)
        assert share[member] * slots <= max(most * (1 + 1e-9), 1 if member.weight else 0)


def fair_shares(members: list[Member]) -> dict[Member, float]:
    total = math.fsum(member.weight for member in members)
    # Not weight / total * slots: what is negligible must not become nothing on the way.
    return {member: member.weight / total for member in members} if total else {}


@pytest.mark.long
@given(any_members.filter(with_keys), points, slots, balances, keys, st.booleans())
def test_the_rules_as_written_give_the_same_table_and_walk(
    members: list[Member], points: int, slots: int, balance: float, key: str, collide: bool
) -> None:
    """
    The library and the slow reference agree, however the table was made.
    """
    hash64 = few_bits if collide else xxh64
    reference = ReferenceRing(
        {member.name: member.weight for member in members},
        points=points,
        slots=slots,
        balance=balance,
        hash64=hash64,
    )

    class HoppingByRuns(ByRuns[Member], Hopping[Member]):
        pass

    class SteppingByMinima(ByMinima[Member], Stepping[Member]):
        pass

    for kind in (HoppingByRuns, SteppingByMinima):
        with pytest.MonkeyPatch.context() as patch:
            use_hash(patch, hash64)
            levelled = kind(members, points=points, slots=slots, balance=balance)
            walk = list(levelled.walk(key))
            replicas = levelled.get_n(key, 3)

        assert [owner.name for owner in parts_of(levelled)] == list(
            map(reference.owner, range(slots))
        )
        assert [member.name for member in walk] == list(reference.walk(key.encode()))
        assert list(replicas) == walk[:3]


@given(any_members, points, slots, balances, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(
    members: list[Member], points: int, slots: int, balance: float, shuffle: random.Random
) -> None:
    """
    Not even to the sum of their weights.
    """
    shuffled = members.copy()
    shuffle.shuffle(shuffled)
    build = partial(HashRing[Member], points=points, slots=slots, balance=balance)

    assert build(members) == build(shuffled)
    assert parts_of(build(members)) == parts_of(build(shuffled))


@given(any_members, any_members, points, slots, balances)
def test_replacing_is_building_afresh(
    before: list[Member], after: list[Member], points: int, slots: int, balance: float
) -> None:
    """
    A levelled ring has no memory either: who comes back finds the keys it had.
    """
    build = partial(HashRing[Member], points=points, slots=slots, balance=balance)
    replaced = build(before).replace(after)

    assert replaced == build(after)
    assert parts_of(replaced) == parts_of(build(after))


@given(any_members.filter(with_keys), points, slots, balances, keys)
def test_all_that_have_keys_are_in_the_walk_once(
    members: list[Member], points: int, slots: int, balance: float, key: str
) -> None:
    """
    The first has the key, as without a bound.
    """
    ring = HashRing(members, points=points, slots=slots, balance=balance)
    walk = list(ring.walk(key))

    assert walk[0] is ring.get(key)
    assert sorted(walk, key=id) == sorted((m for m in members if m.weight), key=id)
    assert list(ring.get_n(key, 99)) == walk
    assert all(ring.get_n(key, n) == tuple(walk[:n]) for n in (1, 2, 3))


@given(any_members, points, slots)
def test_a_bound_out_of_reach_changes_nothing(
    members: list[Member], points: int, slots: int
) -> None:
    """
    With one that everybody keeps, the table is the one without.
    """
    plain = HashRing(members, points=points, slots=slots)
    loose = HashRing(members, points=points, slots=slots, balance=2.0**52)

    if not any(0 < member.weight < 1e-6 for member in members):
        assert parts_of(loose) == parts_of(plain)
    assert plain.balance is None


@pytest.mark.parametrize(
    ("count", "slots"),
    [(1, 2**16), (2, 2**16), (3, 2**16), (30, 2**16), (100, 2**16), (300, 2**18)],
)
def test_the_busiest_member_has_at_most_its_bound(count: int, slots: int) -> None:
    """
    At 1.1, where without it the busiest of 100 has 1.2 times the mean.
    """
    pods = [f"10.244.{number // 250}.{number % 250 + 1}" for number in range(count)]

    assert max(HashRing(pods, slots=slots, balance=1.1).share().values()) <= 1.1 / count


@pytest.mark.long
def test_a_leaver_or_joiner_moves_little_more_than_its_own_keys() -> None:
    """
    On average over all 30, a leave moves at most 1.25 times a fair share; a join is its mirror.
    """
    ring = HashRing(PODS, balance=1.1)
    rest = [[pod for pod in PODS if pod is not leaver] for leaver in PODS]
    shares = [moved(ring, ring.replace(members)) * len(PODS) for members in rest]

    assert 1 <= fmean(shares) <= 1.25


def test_the_bound_goes_wherever_a_ring_goes() -> None:
    """
    Into its pickle, its repr, its spec, what it is equal to, and the rings made of it.
    """
    ring = HashRing(PODS, slots=64, balance=1.1)
    again = pickle.loads(pickle.dumps(ring))

    assert again == ring
    assert parts_of(again) == parts_of(ring)
    assert again.balance == ring.replace(PODS[1:]).balance == 1.1
    assert ring != HashRing(PODS, slots=64)
    assert ring != HashRing(PODS, slots=64, balance=1.2)
    assert ring == HashRing(PODS, slots=64, balance=1.1)
    assert hash(ring) == hash(again)
    assert repr(ring) == "<HashRing members=30 points=160 slots=64 balance=1.1>"
    assert ring.spec == "hashring/1 points=160 slots=64 balance=1.1"
    assert HashRing(PODS, balance=2).spec == HashRing(PODS, balance=2.0).spec


def test_a_levelled_ring_may_be_empty_or_without_weights() -> None:
    """
    As any other.
    """
    assert HashRing[Member](balance=1.1).share() == {}
    assert HashRing([Member("none", 0)], balance=1.1).share() == {Member("none", 0): 0.0}


@pytest.mark.parametrize(
    ("balance", "error"),
    [
        (1, ConfigError),
        (1.0, ConfigError),
        (0.5, ConfigError),
        (-1.1, ConfigError),
        (math.nan, ConfigError),
        (math.inf, ConfigError),
        (2**60, ConfigError),
        (True, TypeError),
        ("1.1", TypeError),
    ],
)
def test_a_bound_must_be_a_number_above_1(balance: Any, error: type[Exception]) -> None:
    """
    At 1 no two members could ever be rounded alike.
    """
    with pytest.raises(error, match="balance must be"):
        HashRing(PODS, balance=balance)


def test_levelling_comes_in_slices_too() -> None:
    """
    A build with a bound has many more of them than one without.
    """
    plain = sum(1 for _ in HashRing[Member]().replacing(PODS))
    levelled = sum(1 for _ in HashRing[Member](balance=1.01).replacing(PODS))

    assert levelled > plain + len(PODS)


PROGRAM = """
from knet.hashring import HashRing
ring = HashRing({f"pod-{number}" for number in range(20)}, balance=1.02)
print([ring.get_n(f"key-{number}", 2) for number in range(300)])
"""


def test_processes_with_different_hash_seeds_agree() -> None:
    """
    Not even a set of members, whose order differs, makes two processes disagree.
    """
    ring = HashRing([f"pod-{number}" for number in range(20)], balance=1.02)
    expected = str([ring.get_n(key, 2) for key in KEYS])
    assert printed_with_hash_seeds(PROGRAM) == {expected}
