"""
Snapshots are whole and frozen; changes say what moved.
"""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
import pydoc
from collections.abc import Iterable, Iterator
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet import Change, ConfigError, Endpoint, NoEndpoints, Snapshot
from knet.hashring import HashRing, Rendezvous, hash_key
from tests.fakes import A, B, C, endpoints

KEYS = [f"user-{i}" for i in range(2000)]


def snapshot(*members: Endpoint, generation: int = 1) -> Snapshot:
    return Snapshot(HashRing(members), generation=generation)


class FirstMember:
    """
    A placement without a table: turn and turn about, by the upper bits of the hash.
    """

    def __init__(self, members: Iterable[Endpoint] = ()) -> None:
        self.members = tuple(sorted(members))

    def get_hash(self, h64: int) -> Endpoint:
        if not self.members:
            raise NoEndpoints("none")
        return self.members[(h64 >> 52) % len(self.members)]

    def get(self, key: str | bytes) -> Endpoint:
        return self.get_hash(len(key) << 52)

    def get_n(self, key: str | bytes, n: int) -> tuple[Endpoint, ...]:
        return self.members[:n]

    def get_many(self, keys: Iterable[str | bytes]) -> list[Endpoint]:
        return [self.get(key) for key in keys]

    def walk(self, key: str | bytes) -> Iterator[Endpoint]:
        return iter(self.members)

    def share(self) -> dict[Endpoint, float]:
        return {m: 1 / len(self.members) for m in self.members}

    def replace(self, members: Iterable[Endpoint]) -> Self:
        return type(self)(members)


def test_a_snapshot_answers_as_its_placement_does() -> None:
    """
    It adds a generation and a digest, and no opinion.
    """
    ring = HashRing([A, B, C])

    shot = Snapshot(ring, generation=7)

    assert [shot.get(k) for k in KEYS] == shot.get_many(KEYS) == ring.get_many(KEYS)
    assert shot.get_n("user-42", 2) == ring.get_n("user-42", 2)
    assert list(shot.walk("user-42")) == list(ring.walk("user-42"))
    assert shot.share() == ring.share()
    assert shot.endpoints == (A, B, C)
    assert len(shot) == 3
    assert repr(shot) == "<Snapshot generation=7 endpoints=3>"


@pytest.mark.parametrize("name", ["get", "endpoints", "generation", "something"])
def test_a_snapshot_is_frozen(name: str) -> None:
    """
    Whoever holds one can rely on it.
    """
    shot = snapshot(A)

    with pytest.raises(AttributeError, match="frozen"):
        setattr(shot, name, None)
    with pytest.raises(AttributeError, match="frozen"):
        delattr(shot, name)


def test_a_snapshot_survives_pickling() -> None:
    """
    Picks, generation and digest are the same on the other side.
    """
    shot = snapshot(A, B, C, generation=3)

    for other in (pickle.loads(pickle.dumps(shot)), copy.deepcopy(shot)):
        assert other.get_many(KEYS) == shot.get_many(KEYS)
        assert (other.generation, other.digest) == (3, shot.digest)


def test_equal_digests_mean_equal_picks() -> None:
    """
    Order and generation do not matter; an endpoint, its weight or an option of the placement does.
    """
    digest = snapshot(A, B).digest

    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert snapshot(B, A, generation=9).digest == digest
    different = [
        snapshot(A),
        snapshot(A, B, C),
        snapshot(A, Endpoint("b", "10.9.9.9", 80)),
        snapshot(A, Endpoint("b", "10.0.0.2", 81)),
        snapshot(A, Endpoint("b", "10.0.0.2", 80, weight=2)),
        Snapshot(HashRing([A, B], points=161)),
        Snapshot(HashRing([A, B], slots=1024)),
        Snapshot(FirstMember([A, B])),
    ]
    assert len({digest, *(d.digest for d in different)}) == 9


def test_a_digest_is_the_same_for_ever() -> None:
    """
    Clients of different versions and machines compare it.
    """
    assert snapshot(A, B).digest == "955d2bc74496890c"


def test_a_change_says_who_came_and_went() -> None:
    """
    A pod with another address is another endpoint.
    """
    moved = Endpoint("b", "10.0.0.99", 80)

    change = snapshot(A, B).diff(snapshot(A, moved, C, generation=2))

    assert change.added == (moved, C)
    assert change.removed == (B,)
    assert repr(change) == "<Change generation=1->2 added=2 removed=1>"


def test_equal_endpoints_are_no_change() -> None:
    """
    By value, also where the objects are others, as after pickling.
    """
    twin = pickle.loads(pickle.dumps(snapshot(A, B, C)))

    change = snapshot(A, B, C).diff(twin)

    assert (change.added, change.removed, change.moved) == ((), (), 0.0)


@given(st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_what_moved_is_what_was_gained_and_what_was_lost(
    before: int, after: int, twins: bool
) -> None:
    """
    Every key that moved was lost by one and gained by another; the shares are exact.
    """
    old, new = (Snapshot(HashRing(endpoints(n), slots=1024)) for n in (before, after))
    if twins:
        new = pickle.loads(pickle.dumps(new))
    change = Change(old, new)

    gained = sum(change.gained(e).share for e in new.endpoints)
    lost = sum(change.lost(e).share for e in old.endpoints)

    if before:
        assert lost == pytest.approx(change.moved)
    if after:
        assert gained == pytest.approx(change.moved)
    if before == after:
        assert change.moved == 0
    elif 0 in (before, after):
        assert change.moved == 1
    else:
        smaller = min(before, after)
        share = new.share() if after > before else old.share()
        expected = sum(s for e, s in share.items() if e in endpoints(before + after)[smaller:])
        assert change.moved == pytest.approx(expected)


def test_a_key_is_in_what_was_lost_or_not() -> None:
    """
    Membership agrees with the picks of the two snapshots, key for key.
    """
    old, new = snapshot(A, B), snapshot(A, B, C)
    change = old.diff(new)

    for key in KEYS:
        assert (key in change.lost(A)) == (old.get(key) == A != new.get(key))
        assert (key in change.gained(C)) == (new.get(key) == C)
        assert key not in change.gained(B)
    assert change.gained(C).endpoint == C
    assert repr(change.lost(A)).startswith("<KeySpace of a share=0.")


def test_empty_snapshots_can_be_compared() -> None:
    """
    A ring that empties loses all keys, and one that fills gains them.
    """
    empty, full = snapshot(), snapshot(A)

    assert empty.diff(empty).moved == 0
    assert empty.diff(full).moved == full.diff(empty).moved == 1
    assert full.diff(empty).lost(A).share == 1
    assert "user-42" in full.diff(empty).lost(A)
    assert "user-42" not in full.diff(empty).gained(A)


def test_a_placement_without_a_table_is_sampled() -> None:
    """
    Any placement can be compared; how much moved is then an estimate.
    """
    before, after = Snapshot(FirstMember([A])), Snapshot(FirstMember([A, B]))

    change = before.diff(after)

    assert change.moved == pytest.approx(0.5, abs=0.05)
    assert change.gained(B).share == pytest.approx(0.5, abs=0.05)
    assert Snapshot(FirstMember()).diff(after).moved == 1


def test_placements_of_different_sizes_are_sampled() -> None:
    """
    Tables that do not line up cannot be compared slot by slot.
    """
    coarse, fine = Snapshot(HashRing([A, B], slots=1024)), snapshot(A, B)

    assert 0 < coarse.diff(fine).moved < 0.1


def test_an_endpoint_is_found_by_what_a_person_knows_of_it() -> None:
    """
    Name, address and port, hostname, address; one that fits, or none.
    """
    pods = [
        Endpoint("web-0.web.prod.svc.cluster.local", "10.0.0.1", 80),
        Endpoint("web-1.web.prod.svc.cluster.local", "10.0.0.2", 80),
        Endpoint("web-1.other.prod.svc.cluster.local", "10.0.0.2", 81),
        Endpoint("fd00::1", "fd00::1", 80),
    ]
    found = Snapshot(HashRing(pods)).find

    assert (
        found("web-0.web.prod.svc.cluster.local") == found("web-0") == found("10.0.0.1") == pods[0]
    )
    assert found("10.0.0.1:80") == pods[0]
    assert found("10.0.0.2:81") == pods[2]
    assert found("[fd00::1]:80") == found("fd00::1") == pods[3]
    assert found("web-1") is found("10.0.0.2") is None  # two of them
    assert found("10") is found("") is found("10.0.0.9") is None
    with pytest.raises(TypeError, match="found by a str, not by a Endpoint"):
        found(pods[0])  # type: ignore[arg-type]


@pytest.mark.long
def test_the_keys_of_a_key_space_out_of_many() -> None:
    """
    As one by one, in their order; also where nobody is left, or nobody was.
    """
    pods = endpoints(5)
    for before, after in ((pods[:4], pods), (pods, pods[:4]), ((), pods), (pods, ()), (pods, pods)):
        for make in (HashRing, Rendezvous, functools.partial(HashRing, slots=256)):
            change = Change(
                Snapshot(make(before)),
                Snapshot(make(after)),
            )
            for whose in pods:
                for space in (change.gained(whose), change.lost(whose)):
                    assert space.filter(KEYS) == [key for key in KEYS if key in space]
    with pytest.raises(TypeError):
        snapshot(*pods).diff(snapshot()).gained(pods[0]).filter("user-42")


def test_the_hashes_of_a_key_space_as_ranges() -> None:
    """
    Exactly: each key is in one of them if it is in the space, and their sum is its share.
    """
    pods = endpoints(5)
    for before, after in ((pods[:4], pods), (pods, pods[:4]), ((), pods[:1]), (pods, pods)):
        change = Change(snapshot(*before), snapshot(*after))
        for whose in pods:
            for space in (change.gained(whose), change.lost(whose)):
                ranges = space.ranges()
                assert list(ranges) == sorted(ranges)
                assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges))
                total = sum(last - first + 1 for first, last in ranges)
                assert total / 2**64 == pytest.approx(space.share)
                for key in KEYS:
                    h = hash_key(key)
                    assert any(first <= h <= last for first, last in ranges) == (key in space)
    with pytest.raises(TypeError, match="only a HashRing has ranges of hashes"):
        Change(Snapshot(Rendezvous(pods)), Snapshot(Rendezvous(pods))).lost(pods[0]).ranges()


def test_a_change_may_know_this_pod() -> None:
    """
    The change in which it is gone loses everything.
    """
    one, two = endpoints(2)
    change = Change(snapshot(one, two), snapshot(two), me=(one, None))
    assert change.lost().filter(KEYS) == change.lost(one).filter(KEYS) != []
    assert change.gained().filter(KEYS) == []
    assert change.gained().share == 0
    assert change.gained().ranges() == ()
    assert "user-42" not in change.gained()
    assert repr(change.gained()).startswith("<KeySpace of nobody")
    for ask in (
        Change(snapshot(one), snapshot(two)).lost,
        snapshot(one).diff(snapshot(two)).gained,
    ):
        with pytest.raises(ConfigError, match=r"me=knet\.this_pod"):
            ask()


@pytest.mark.parametrize("wrong", ["10.0.0.1:80", ("a", "10.0.0.1")])
def test_only_an_endpoint_gains_or_loses_keys(wrong: Any) -> None:
    """
    A text would have no keys, silently.
    """
    one, two = endpoints(2)
    change = Change(snapshot(one), snapshot(one, two))
    for ask in (change.gained, change.lost):
        with pytest.raises(TypeError, match=r"snapshot\.find"):
            ask(wrong)


@pytest.mark.parametrize("name", ["get", "get_n", "get_many", "walk", "endpoints", "generation"])
def test_help_tells_what_each_part_is_for(name: str) -> None:
    """
    Though methods are attributes of each snapshot.
    """
    text = pydoc.plain(pydoc.render_doc(Snapshot))
    shown = text.partition(f" {name}\n |      ")[2]

    assert shown.strip()
    assert not shown.startswith("list of weak")
