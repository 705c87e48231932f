"""
A change of few members patches the table: what comes of it is what a build from nothing gives.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet.errors import ConfigError, NoEndpoints
from knet.hashring import HashRing, Member, hash_key
from knet.hashring import patch as patching
from tests.hashring.tools import (
    KEYS,
    M,
    few_bits,
    parts_of,
    points,
    sets_of_members,
    slots,
    use_hash,
    with_keys,
)


class Patching(HashRing[M]):
    """
    Patches, however much changes.
    """

    @classmethod
    def _most_changes(cls, members: int) -> int:
        return 10**9


class Building(HashRing[M]):
    """
    Builds from nothing, however little changes.
    """

    @classmethod
    def _most_changes(cls, members: int) -> int:
        return -1


@dataclass(frozen=True)
class Pod:
    """
    A member that knows more than it is compared by.
    """

    name: str
    weight: float = 1
    zone: str = field(default="", compare=False)


def assert_alike(one: HashRing[Any], other: HashRing[Any], keys: Iterable[str] = KEYS[:20]) -> None:
    """
    Assert that two rings say the same, to the last member of every walk, of the very same objects.
    """
    assert list(map(id, one.members)) == list(map(id, other.members))
    assert list(map(id, parts_of(one))) == list(map(id, parts_of(other)))
    assert one.share() == other.share()
    for key in keys if parts_of(one) else ():
        assert one.get_n(key, 3) == other.get_n(key, 3)
        assert one.get_n(key, 9999) == other.get_n(key, 9999) == tuple(one.walk(key))
    assert pickle.loads(pickle.dumps(one)).members == other.members


@given(st.lists(sets_of_members(), min_size=2, max_size=5), points, slots, st.booleans(), st.data())
def test_a_chain_of_changes_ends_where_builds_from_nothing_do(
    chain: list[list[Member]], points: int, slots: int, collide: bool, data: st.DataObject
) -> None:
    """
    Joins, leaves, other weights, points that collide and members that own nothing.
    """
    keyless = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            use_hash(patch, few_bits)
        ring = Patching(chain[0], points=points, slots=slots)
        for members in chain[1:]:
            # Somebody stays, or it is no change but another ring.
            after = [*members] if keyless else [*members, Member("stays")]
            # Equal members may be other objects.
            ring = ring.replace(after)
            fresh = Building(ring.members, points=points, slots=slots)

            assert sorted(ring.members, key=lambda m: m.name) == sorted(after, key=lambda m: m.name)
            assert_alike(ring, fresh, KEYS[:5] if with_keys(after) else ())


@pytest.mark.parametrize("options", [{}, {"slots": 2**18}, {"points": 700}, {"slots": 4096}])
@pytest.mark.parametrize("count", [4, 12, 67, 68, 69, 100, 400])
@pytest.mark.sampled(14)
def test_pods_come_and_go_at_the_defaults(count: int, options: Any) -> None:
    """
    Around the number at which `get_n` stops to hop, with few points and with many.
    """
    names = [f"10.0.{number // 250}.{number % 250}" for number in range(count)]
    ring = HashRing(names, **options)
    for after in (
        [*names, "10.9.9.9"],
        [*names[1:], "10.9.9.9"],
        [*names[2:], "10.9.9.9", "10.9.9.8"],
        [*names[3:], "10.9.9.8"],
        names,
    ):
        ring = ring.replace(after)

        assert_alike(ring, HashRing(ring.members, **options))


def test_a_change_of_few_members_is_a_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The tests above compare a patch with a build, and not two builds.
    """
    joined: list[str] = []
    join = patching.Patch.join

    def recorded(self: Any, member: str, size: int) -> Any:
        joined.append(member)
        return join(self, member, size)

    monkeypatch.setattr(patching.Patch, "join", recorded)
    ring = HashRing([f"pod-{number}" for number in range(100)])
    ring.replace([*ring.members, "one"])
    ring.replace([*ring.members, *(f"more-{number}" for number in range(100))])

    assert joined == ["one"]


def test_the_old_ring_is_as_it_was() -> None:
    """
    Whoever still reads it sees nothing of the change.
    """
    ring = HashRing([f"pod-{number}" for number in range(50)])
    before, walks = parts_of(ring), [tuple(ring.walk(key)) for key in KEYS[:20]]

    ring.replace([*ring.members[1:], "new"])

    assert parts_of(ring) == before
    assert [tuple(ring.walk(key)) for key in KEYS[:20]] == walks


def test_a_change_that_is_given_up_harms_nobody() -> None:
    """
    A loop that ends in the middle leaves the old ring, which can change anew.
    """
    ring = HashRing([f"pod-{number}" for number in range(50)])
    after = [*ring.members[1:], "new"]
    steps = ring.replacing(after)
    for _ in range(3):
        next(steps)
    steps.close()

    assert_alike(ring.replace(after), HashRing([*ring.members[1:], "new"]))


def test_who_is_equal_and_knows_more_takes_the_place() -> None:
    """
    A zone is not compared, and still the new one is what a pick returns.
    """
    ring = HashRing([Pod(f"pod-{number}") for number in range(30)])
    moved = Pod("pod-7", zone="b")

    replaced = ring.replace([moved, *(m for m in ring.members if m.name != "pod-7")])

    assert next(m for m in replaced.members if m.name == "pod-7") is moved
    assert {id(m) for m in parts_of(replaced)} == {id(m) for m in replaced.members}
    assert_alike(replaced, HashRing(replaced.members))


@pytest.mark.parametrize(("old", "new"), [(1, 1.001), (1, 2), (2, 0), (0, 1), (3, 0.1)])
def test_another_weight_is_another_number_of_points(old: float, new: float) -> None:
    """
    Or the same number, if it is rounded to it.
    """
    rest = [Member(f"pod-{number}") for number in range(30)]
    ring = HashRing([*rest, Member("heavy", old)])

    replaced = ring.replace([*rest, Member("heavy", new)])

    assert replaced.members[0] == Member("heavy", new)
    assert_alike(replaced, HashRing(replaced.members))


def test_members_with_nothing_get_something_when_others_leave() -> None:
    """
    With more members than slots most own nothing, and come last in a walk.
    """
    names = [f"pod-{number}" for number in range(64)]
    ring = HashRing(names, points=2, slots=16)
    for _ in range(16):
        # The owner of a slot leaves.
        ring = ring.replace([m for m in ring.members if m != ring.get("key")])
        assert_alike(ring, HashRing(ring.members, points=2, slots=16))


def test_the_last_with_points_leaves_and_comes_back() -> None:
    """
    From nobody a ring is built from nothing.
    """
    ring = Patching([Member("a"), Member("b", 0)]).replace([Member("b", 0)])
    with pytest.raises(NoEndpoints):
        ring.get("key")
    assert ring.replace([Member("a"), Member("b", 0)]).get("key") == Member("a")


def test_bad_members_are_refused_as_ever() -> None:
    """
    Whether they are new or have the name of somebody who stays.
    """
    stay = [f"pod-{number}" for number in range(30)]
    ring: HashRing[Any] = HashRing(stay)
    for bad, words in (
        ([*stay, "pod-7"], "more than once: 'pod-7'"),
        ([*stay, Member("pod-7")], "more than once: 'pod-7'"),
        ([*stay, "x", Member("x")], "more than once: 'x'"),
        ([*stay, ""], "must not be empty"),
        ([*stay, Pod("x", weight=-1)], "must be finite"),
    ):
        with pytest.raises(ConfigError, match=words):
            ring.replace(bad)
    wrong: tuple[Any, ...] = ("pod-7", [*stay, 7], [*stay, ["pod-7"]])
    for one in wrong:
        with pytest.raises(TypeError):
            ring.replace(one)


def test_a_joiner_only_receives_and_a_leaver_only_gives() -> None:
    """
    In the picks of a patched ring.
    """
    ring = HashRing([f"pod-{number}" for number in range(40)])
    joined = ring.replace([*ring.members, "new"])
    left = ring.replace(ring.members[1:])

    for key in KEYS:
        assert joined.get(key) in {ring.get(key), "new"}
        assert left.get(key) == ring.get(key) or ring.get(key) == ring.members[0]
        assert joined.get_hash(hash_key(key)) == joined.get(key)
