"""
`HashRing`, example by example; what holds for all rings is in `test_ring_properties`.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import HashRing, Member, hash_key
from knet.hashring.steps import exhaust
from tests.hashring.tools import (
    KEYS,
    ByMinima,
    ByRuns,
    printed_with_hash_seeds,
    sixteenths,
    use_hash,
)


@pytest.mark.parametrize("kind", [ByRuns, ByMinima])
class TestTheRingInTheHead:
    """
    A ring of 16 positions: name n has its point i at n + 5 * i, modulo 16; a slot is two wide.

        member   points
        "1"      1, 6
        "6"      6, 11
        "12"     12, 1     (17 - 16)

        slot   starts at   first point from there   owner
        0      0           1, of "1" and "12"       "1", the name that sorts first: b"1" < b"12"
        1      2           6, of "1" and "6"        "1"
        2      4           6                        "1"
        3      6           6                        "1"
        4      8           11                       "6"
        5      10          11                       "6"
        6      12          12                       "12"
        7      14          1, past the top          "1"
    """

    @pytest.fixture(autouse=True)
    def _hash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_hash(monkeypatch, sixteenths)

    @pytest.fixture
    def ring(self, kind: type[HashRing[str]]) -> HashRing[str]:
        return kind(["12", "6", "1"], points=2, slots=8)

    def test_each_slot_belongs_to_the_first_point_from_its_start(self, ring: HashRing[str]) -> None:
        """
        Keys 0 to 15 are one at each position, two in each slot.
        """
        owners = [ring.get(str(key)) for key in range(16)]

        assert owners == ["1"] * 8 + ["6"] * 4 + ["12"] * 2 + ["1"] * 2
        assert ring.get_many(map(str, range(16))) == owners
        assert [ring.get_hash(key << 60) for key in range(16)] == owners

    def test_preference_goes_from_slot_to_slot_and_past_the_top(self, ring: HashRing[str]) -> None:
        """
        Each member comes where it first appears.
        """
        assert ring.get_n("7", 3) == ("1", "6", "12")
        assert ring.get_n("9", 3) == ("6", "12", "1")
        assert ring.get_n("13", 3) == ("12", "1", "6")
        assert list(ring.walk("15")) == ["1", "6", "12"]

    def test_shares_are_counted_in_slots(self, ring: HashRing[str]) -> None:
        """
        5, 2 and 1 of 8.
        """
        assert ring.share() == {"1": 0.625, "6": 0.25, "12": 0.125}

    def test_members_without_a_slot_come_last_by_name(self, kind: type[HashRing[str]]) -> None:
        """
        With a single slot the first point, 1, has everything; nobody is lost to `get_n`.
        """
        ring = kind(["6", "12", "1"], points=2, slots=1)

        assert ring.get("9") == "1"
        assert ring.get_n("9", 2) == ("1", "12")
        assert ring.get_n("9", 9) == ("1", "12", "6")
        assert list(ring.walk("9")) == ["1", "12", "6"]
        assert ring.share() == {"1": 1.0, "12": 0.0, "6": 0.0}

    def test_a_leaver_gives_its_slots_to_the_next_points(self, ring: HashRing[str]) -> None:
        """
        Without "6", slots 4 and 5 go on to 12; without "1", "12" has its point 1 to itself.
        """
        without_6 = ring.replace(["1", "12"])
        without_1 = ring.replace(["6", "12"])

        assert [without_6.get(str(key)) for key in range(16)] == (
            ["1"] * 8 + ["12"] * 6 + ["1"] * 2
        )
        assert [without_1.get(str(key)) for key in range(16)] == (
            ["12"] * 2 + ["6"] * 10 + ["12"] * 4
        )


def test_the_example_of_the_module_holds() -> None:
    """
    The worked example beside the rules, with the real hash.
    """
    ring = HashRing(["a", "b", "c"], points=2, slots=4)

    assert [ring.get_hash(slot << 62) for slot in range(4)] == ["b", "b", "c", "a"]
    assert [hash_key(key) >> 48 for key in ("alice", "carol")] == [0x73A3, 0xC1CE]
    assert ring.get_n("alice", 3) == ("b", "c", "a")
    assert ring.get_n("carol", 3) == ("a", "b", "c")


@pytest.mark.parametrize("count", [1, 3, 30, 60, 300])
def test_the_order_of_preference_is_the_order_of_slots(count: int) -> None:
    """
    However long the runs are, `get_n` and `walk` agree with a plain walk through the slots.
    """
    ring = HashRing([f"pod-{number}" for number in range(count)])
    for key in KEYS[:4]:
        first = hash_key(key) >> 48
        turn = (ring.get_hash((first + step) % 65_536 << 48) for step in range(65_536))
        expected = tuple(dict.fromkeys(turn))

        assert tuple(ring.walk(key)) == expected
        for n in (1, 2, 3, count, count + 1):
            assert ring.get_n(key, n) == expected[:n]


@pytest.mark.parametrize("points", [1, 2, 160])
@pytest.mark.parametrize("slots", [1, 2, 65_536, 2**20])
def test_the_limits_of_the_options_work(points: int, slots: int) -> None:
    """
    From one slot to a million, and one point to many.
    """
    ring = HashRing(["a", "b", "c"], points=points, slots=slots)

    assert set(ring.get_n("key", 3)) == {"a", "b", "c"}
    assert sum(ring.share().values()) == 1
    assert (ring.points, ring.slots) == (points, slots)


def test_shares_follow_weights() -> None:
    """
    Within the tenth or so that 160 points allow; weight 0 has nothing.
    """
    members = [Member("none", 0), *(Member(f"{w}-{i}", w) for w in (1, 2, 4) for i in range(8))]
    ring = HashRing(members)
    share = ring.share()

    assert share[Member("none", 0)] == 0
    assert sum(share.values()) == pytest.approx(1)
    for weight in (1, 2, 4):
        together = sum(share[member] for member in members if member.weight == weight)
        assert together == pytest.approx(weight / 7, rel=0.1)
    assert Member("none", 0) not in ring.walk("key")
    assert Member("none", 0) in ring.members


def test_the_smallest_weight_still_has_a_point() -> None:
    """
    Only weight 0 means none.
    """
    ring = HashRing([Member("a"), Member("b", 1e-9)])

    assert len(ring.get_n("key", 2)) == 2


def test_members_are_sorted_by_the_bytes_of_their_names() -> None:
    """
    So that the order does not depend on a locale or on who asks.
    """
    assert HashRing(["é", "b", "a", "Z", "🐍"]).members == ("Z", "a", "b", "é", "🐍")


def test_an_empty_ring_says_that_it_has_no_members() -> None:
    """
    It is legal, and every question for a key is answered by the same error.
    """
    ring = HashRing[str]()

    for ask in (
        lambda: ring.get("key"),
        lambda: ring.get(b"key"),
        lambda: ring.get_n("key", 1),
        lambda: ring.get_many(["key"]),
        lambda: ring.walk("key"),
        lambda: ring.get_hash(0),
    ):
        with pytest.raises(NoEndpoints, match="the ring has no members"):
            ask()
    assert ring.get_many([]) == []
    assert ring.share() == {}
    assert ring.members == ()
    assert len(ring) == 0
    assert ring.replace(["a"]).get("key") == "a"


def test_a_ring_of_weights_0_says_so() -> None:
    """
    There are members, and none may have a key.
    """
    ring = HashRing([Member("a", 0), Member("b", 0)])

    with pytest.raises(NoEndpoints, match="all 2 members have weight 0"):
        ring.get("key")
    with pytest.raises(NoEndpoints):
        ring.get_n(b"key", 1)
    assert ring.share() == {Member("a", 0): 0.0, Member("b", 0): 0.0}


@pytest.mark.parametrize("ring", [HashRing(["a", "b"]), HashRing[str]()], ids=["two", "empty"])
@pytest.mark.parametrize(
    ("key", "error"),
    [
        (1, TypeError),
        (None, TypeError),
        (bytearray(b"a"), TypeError),
        (memoryview(b"a"), TypeError),
        ("\ud800", ConfigError),
    ],
)
def test_a_bad_key_is_refused_everywhere(
    ring: HashRing[str], key: Any, error: type[Exception]
) -> None:
    """
    At the call that got it, walks included, and as the only error in sight.
    """
    for ask in (
        lambda: ring.get(key),
        lambda: ring.get_n(key, 1),
        lambda: ring.get_many([key]),
        lambda: ring.walk(key),
    ):
        with pytest.raises(error) as raised:
            ask()
        assert raised.value.__context__ is raised.value.__cause__


def test_bytes_and_text_mix_in_get_many() -> None:
    """
    Whatever the keys come in: a list, a tuple, an iterator.
    """
    ring = HashRing(["a", "b", "c"])
    keys: list[str | bytes] = ["alice", b"bob", "carol"]
    expected = [ring.get(key) for key in keys]

    assert ring.get_many(keys) == ring.get_many(tuple(keys)) == ring.get_many(iter(keys))
    assert ring.get_many(keys) == expected


@pytest.mark.parametrize("keys", ["alice", b"alice"])
def test_one_key_in_place_of_many_is_refused(keys: Any) -> None:
    """
    A string is not taken for its letters.
    """
    with pytest.raises(TypeError, match="iterable of keys, not one"):
        HashRing(["a"]).get_many(keys)


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ConfigError), (-1, ConfigError), (True, TypeError), (1.0, TypeError), ("1", TypeError)],
)
def test_get_n_wants_an_int_of_at_least_1(n: Any, error: type[Exception]) -> None:
    """
    Nobody asks for nothing on purpose.
    """
    with pytest.raises(error, match="n must be"):
        HashRing(["a"]).get_n("key", n)


@pytest.mark.parametrize(
    ("h64", "error"),
    [
        (-1, ConfigError),
        (2**64, ConfigError),
        (True, TypeError),
        (0.5, TypeError),
        ("1", TypeError),
    ],
)
def test_get_hash_wants_64_bits(h64: Any, error: type[Exception]) -> None:
    """
    Python's `hash()` can be negative, and is no hash for this.
    """
    with pytest.raises(error, match="a hash must be"):
        HashRing(["a"]).get_hash(h64)


def test_get_hash_takes_the_hash_of_a_key() -> None:
    """
    Who has hashed a key already need not do it twice.
    """
    ring = HashRing(["a", "b", "c"])

    assert [ring.get_hash(hash_key(key)) for key in KEYS] == ring.get_many(KEYS)


def test_equal_rings_have_equal_members_and_options() -> None:
    """
    The order in which members were given is no part of it.
    """
    ring = HashRing(["a", "b"])

    assert ring == HashRing(["b", "a"])
    assert hash(ring) == hash(HashRing(["b", "a"]))
    assert ring != HashRing(["a", "c"])
    assert ring != HashRing(["a", "b"], points=161)
    assert ring != HashRing(["a", "b"], slots=2)
    assert ring != HashRing(["a", "b"], name=str)
    assert ring != "ring"


def test_a_ring_fits_on_a_line() -> None:
    """
    The repr says what decides the picks, short of the names.
    """
    ring = HashRing(["a", "b"], points=10, slots=64)

    assert repr(ring) == "<HashRing members=2 points=10 slots=64>"
    assert ring.spec == "hashring/1 points=10 slots=64"
    assert len(ring) == 2


def test_a_ring_has_no_room_for_other_attributes() -> None:
    """
    Nothing of it is meant to be set.
    """
    with pytest.raises(AttributeError):
        HashRing(["a"]).extra = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        HashRing(["a"]).members = ()  # type: ignore[misc]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_the_members_and_not_the_table(protocol: int) -> None:
    """
    It is small, and what is loaded is equal and picks alike.
    """
    ring = HashRing([Endpoint("web-0", "10.0.0.1"), Endpoint("web-1", "10.0.0.2")], points=50)
    pickled = pickle.dumps(ring, protocol)
    loaded = pickle.loads(pickled)

    assert len(pickled) < 1000
    assert loaded == ring
    assert loaded.get_many(KEYS) == ring.get_many(KEYS)
    assert copy.deepcopy(ring) == copy.copy(ring) == ring


class Rack(HashRing[str]):
    """
    A user's subclass.
    """


def test_a_subclass_stays_one() -> None:
    """
    Through `replace` and through a pickle.
    """
    rack = Rack(["a", "b"])

    assert type(rack.replace(["a"])) is Rack
    assert type(pickle.loads(pickle.dumps(rack))) is Rack
    assert rack != HashRing(["a", "b"])


def test_replacing_reads_the_members_before_it_yields() -> None:
    """
    A caller may reuse its list while slices are still being worked off.
    """
    names = [f"pod-{number}" for number in range(300)]
    slices = HashRing[str]().replacing(names)
    next(slices)
    names.clear()

    assert len(exhaust(slices)) == 300


def test_a_large_build_comes_in_many_slices() -> None:
    """
    No slice hashes more than a few members' points, or a single huge member's all at once.
    """
    empty = HashRing[Member]()
    many = sum(1 for _ in empty.replacing([Member(f"pod-{i}") for i in range(300)]))
    heavy = sum(1 for _ in empty.replacing([Member("heavy", 300)]))

    assert many > 300 * 160 // 1000
    assert heavy > 300 * 160 // 1000


def test_a_build_can_be_given_up() -> None:
    """
    The ring that it would have replaced is as it was.
    """
    ring = HashRing(["a", "b"])
    picks = ring.get_many(KEYS)
    slices = ring.replacing([f"pod-{number}" for number in range(100)])
    for _ in range(10):
        next(slices)
    slices.close()

    assert ring.get_many(KEYS) == picks


PROGRAM = """
from knet.hashring import HashRing
ring = HashRing({f"pod-{number}" for number in range(20)})
print([ring.get_n(f"key-{number}", 2) for number in range(50)])
"""


def test_processes_with_different_hash_seeds_agree() -> None:
    """
    Not even a set of members, whose order differs, makes two processes disagree.
    """
    ring = HashRing([f"pod-{number}" for number in range(20)])
    expected = str([ring.get_n(f"key-{number}", 2) for number in range(50)])
    assert printed_with_hash_seeds(PROGRAM) == {expected}
