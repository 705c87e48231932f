"""
What holds for every `HashRing`, whatever its members and options.
"""

from __future__ import annotations

import pickle
import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet.hashring import HashRing, Member
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
    sets_of_members,
    slots,
    use_hash,
    with_keys,
)


@given(sets_of_members(), points, slots, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(
    members: list[Member], points: int, slots: int, shuffle: random.Random
) -> None:
    """
    DNS answers come in any order.
    """
    shuffled = members.copy()
    shuffle.shuffle(shuffled)

    one = HashRing(members, points=points, slots=slots)
    other = HashRing(shuffled, points=points, slots=slots)

    assert one == other
    assert parts_of(one) == parts_of(other)


@given(sets_of_members(min_size=1), points, slots, st.booleans(), st.data())
def test_the_rules_as_written_give_the_same_walk(
    members: list[Member], points: int, slots: int, collide: bool, data: st.DataObject
) -> None:
    """
    The library and the slow reference agree on whole walks, colliding points included.
    """
    members.append(Member("with keys"))
    hash64 = few_bits if collide else xxh64
    reference = ReferenceRing(
        {member.name: member.weight for member in members},
        points=points,
        slots=slots,
        hash64=hash64,
    )
    key = data.draw(keys)

    with pytest.MonkeyPatch.context() as patch:
        use_hash(patch, hash64)
        ring = HashRing(members, points=points, slots=slots)
        walk = [member.name for member in ring.walk(key)]

    assert walk == list(reference.walk(key.encode()))


@given(sets_of_members(), points, slots, st.booleans())
def test_both_ways_to_make_the_table_agree(
    members: list[Member], points: int, slots: int, collide: bool
) -> None:
    """
    How many points there are decides how the table is made, and never what is in it.
    """
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            use_hash(patch, few_bits)
        by_runs = ByRuns(members, points=points, slots=slots)
        by_minima = ByMinima(members, points=points, slots=slots)

    assert parts_of(by_runs) == parts_of(by_minima)
    for key in KEYS[:5] if with_keys(members) else ():
        assert by_runs.get_n(key, 99) == by_minima.get_n(key, 99)


@given(sets_of_members(min_size=1), points, slots, keys)
def test_hops_and_single_steps_find_the_same_members(
    members: list[Member], points: int, slots: int, key: str
) -> None:
    """
    Skipping runs is faster and nothing else.
    """
    members.append(Member("with keys"))
    hopping = Hopping(members, points=points, slots=slots)
    stepping = Stepping(members, points=points, slots=slots)

    assert hopping.get_n(key, 99) == stepping.get_n(key, 99)
    assert hopping.get_n(key, 3) == stepping.get_n(key, 3)
    assert list(hopping.walk(key)) == list(stepping.walk(key)) == [*hopping.get_n(key, 99)]


@given(sets_of_members(min_size=2), points, slots)
def test_only_the_keys_of_a_leaver_move(members: list[Member], points: int, slots: int) -> None:
    """
    Read backwards it says that who joins only receives.
    """
    leaver, *rest = members
    before = parts_of(HashRing(members, points=points, slots=slots))
    after = parts_of(HashRing(rest, points=points, slots=slots))

    if after:
        assert all(old is new or old is leaver for old, new in zip(before, after, strict=True))


@given(sets_of_members(min_size=1), points, slots, keys, st.integers(1, 12))
def test_get_n_is_distinct_and_begins_with_get(
    members: list[Member], points: int, slots: int, key: str, n: int
) -> None:
    """
    A shorter answer is the beginning of a longer one, and all that have keys are in the longest.
    """
    members.append(Member("with keys"))
    able = {member for member in members if member.weight}
    ring = HashRing(members, points=points, slots=slots)

    replicas = ring.get_n(key, n)

    assert replicas[0] == ring.get(key)
    assert len(replicas) == len(set(replicas)) == min(n, len(able))
    assert ring.get_n(key, n + 1)[:n] == replicas
    assert tuple(islice(ring.walk(key), n)) == replicas
    assert set(ring.walk(key)) == able


@given(sets_of_members(), sets_of_members(), points, slots)
def test_replacing_is_building_afresh(
    before: list[Member], after: list[Member], points: int, slots: int
) -> None:
    """
    A ring has no memory, in one go or in slices.
    """
    ring = HashRing(before, points=points, slots=slots)
    fresh = HashRing(after, points=points, slots=slots)

    for replaced in (ring.replace(after), exhaust(ring.replacing(after))):
        assert replaced == fresh
        assert parts_of(replaced) == parts_of(fresh)


@given(sets_of_members(), points, slots)
def test_a_pickle_keeps_the_picks(members: list[Member], points: int, slots: int) -> None:
    """
    Another process may load it.
    """
    ring = HashRing(members, points=points, slots=slots)
    loaded = pickle.loads(pickle.dumps(ring))

    assert loaded == ring
    assert hash(loaded) == hash(ring)
    assert parts_of(loaded) == parts_of(ring)


@given(keys)
def test_a_key_is_the_same_as_text_and_as_bytes(key: str) -> None:
    """
    In every method that takes one.
    """
    ring = HashRing(["a", "b", "c", "d"])
    data = key.encode()

    assert ring.get(key) == ring.get(data)
    assert ring.get_n(key, 3) == ring.get_n(data, 3)
    assert ring.get_many([key, data]) == [ring.get(key)] * 2
    assert list(ring.walk(key)) == list(ring.walk(data))


@given(sets_of_members(min_size=1), points, slots)
def test_shares_add_up_and_are_the_slots(members: list[Member], points: int, slots: int) -> None:
    """
    Each is a whole number of slots, and every slot is somebody's.
    """
    ring = HashRing(members, points=points, slots=slots)
    share = ring.share()

    assert tuple(share) == ring.members
    assert sum(share.values()) == (1 if with_keys(members) else 0)
    for member, part in share.items():
        assert part * slots == sum(1 for owner in parts_of(ring) if owner is member)
