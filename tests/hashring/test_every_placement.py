"""
What holds for every placement, whatever its algorithm, members and options.
"""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter
from collections.abc import Callable
from hashlib import sha1
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import HashRing, Member, Placement, Sliced
from knet.hashring.steps import exhaust
from tests.hashring.placements_under_test import PLACEMENTS, UnderTest, members_of
from tests.hashring.tools import KEYS, keys, printed_with_hash_seeds, with_keys

every_placement = pytest.mark.parametrize("tested", PLACEMENTS, ids=lambda tested: tested.name)
# In the short run each test has a few placements, and not always the same ones.
pytestmark = pytest.mark.sampled(3)

# A dozen placements take part in everything.
few = settings(max_examples=25)
PODS = [Endpoint(f"web-{number}", f"10.0.0.{number}", 8080) for number in range(1, 6)]


def those(promise: str) -> pytest.MarkDecorator:
    chosen = [tested for tested in PLACEMENTS if getattr(tested, promise)]
    return pytest.mark.parametrize("tested", chosen, ids=lambda tested: tested.name)


def picks(placement: Placement[Any]) -> list[Any]:
    """
    Who has each of the keys; nobody where there is nobody.
    """
    try:
        return placement.get_many(KEYS[:50])
    except NoEndpoints:
        return []


# --- promises of some


@those("any_order")
@few
@given(data=st.data(), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(
    tested: UnderTest, data: st.DataObject, shuffle: random.Random
) -> None:
    """
    DNS answers come in any order.
    """
    members = data.draw(members_of(tested))
    shuffled = members.copy()
    shuffle.shuffle(shuffled)

    one, other = tested.make(members), tested.make(shuffled)

    assert picks(one) == picks(other)
    if with_keys(members):
        assert one.get_n("key", 9) == other.get_n("key", 9)
    assert (one == other) == (not tested.keeps_order or members == shuffled)


@pytest.mark.parametrize("name", ["EnvoyRing", "GrpcRing", "HAProxyRing"])
def test_where_the_order_of_members_decides(name: str) -> None:
    """
    The proxies have it so; with 75 hosts the sums of Envoy's doubles give one of them a point more.
    """
    tested = next(tested for tested in PLACEMENTS if tested.name == name)
    make = tested.make if name == "HAProxyRing" else tested.make.func  # type: ignore[attr-defined]
    hosts = [f"10.0.0.{number}:80" for number in range(75)]

    one, other = make(hosts), make(hosts[::-1])

    assert one.share() != other.share()
    assert one.members == tuple(hosts)
    assert other.members == tuple(hosts[::-1])


@those("moves_with_cause")
@few
@given(data=st.data())
def test_only_the_keys_of_a_leaver_move(tested: UnderTest, data: st.DataObject) -> None:
    """
    Read backwards it says that who joins only receives.
    """
    leaver, *rest = data.draw(members_of(tested, min_size=2))
    before, after = tested.make([leaver, *rest]), tested.make(rest)

    if with_keys(rest):
        pairs = zip(before.get_many(KEYS), after.get_many(KEYS), strict=True)
        assert all(old in (new, leaver) for old, new in pairs)


# --- promises of all


@every_placement
def test_it_is_a_placement_and_sliced(tested: UnderTest) -> None:
    """
    So it can be handed to a `knet.Ring`, whose shortcut is for `HashRing` alone.
    """
    placement = tested.make(PODS)

    assert isinstance(placement, Placement)
    assert isinstance(placement, Sliced)
    assert hasattr(placement, "_shift") == isinstance(placement, HashRing)


@every_placement
@few
@given(data=st.data(), key=keys, n=st.integers(1, 12))
def test_get_n_is_distinct_and_begins_with_get(
    tested: UnderTest, data: st.DataObject, key: str, n: int
) -> None:
    """
    A shorter answer is the beginning of a longer one, and all that have keys are in the longest.
    """
    members = [*data.draw(members_of(tested)), Member("with keys")]
    placement = tested.make(members)
    replicas = placement.get_n(key, n)
    walk = list(placement.walk(key))

    assert walk[0] == placement.get(key)
    assert len(walk) == len(set(walk))
    assert replicas == tuple(walk[:n])
    share = placement.share()
    assert {member for member in members if share[member]} <= set(walk)
    assert set(walk) <= {member for member in members if member.weight}


@every_placement
@few
@given(data=st.data(), key=keys)
def test_a_key_is_the_same_as_text_and_as_bytes(
    tested: UnderTest, data: st.DataObject, key: str
) -> None:
    """
    In every method that takes one, and as a hash where it has one.
    """
    placement = tested.make([*data.draw(members_of(tested)), Member("with keys")])
    owner = placement.get(key)
    encoded = key.encode()

    assert placement.get(encoded) is owner
    assert placement.get_n(encoded, 3) == placement.get_n(key, 3)
    assert placement.get_many([key, encoded]) == [owner, owner]
    assert placement.get_many(iter([encoded])) == [owner]
    assert next(placement.walk(encoded)) is owner
    if tested.name not in ("HashRing", "PymemcacheRendezvous"):
        h64 = placement._key_hash(encoded) << 64 - placement.hash_bits
        assert placement.get_hash(h64) is owner


@every_placement
@few
@given(data=st.data())
@pytest.mark.sampled(3)
def test_replacing_is_building_afresh(tested: UnderTest, data: st.DataObject) -> None:
    """
    A placement has no memory, in one go or in slices.
    """
    before = tested.make(data.draw(members_of(tested)))
    members = data.draw(members_of(tested))
    fresh = tested.make(members)

    for replaced in (before.replace(members), exhaust(before.replacing(members))):
        assert replaced == fresh
        assert hash(replaced) == hash(fresh)
        assert replaced.spec == fresh.spec
        assert replaced.share() == fresh.share()
        assert picks(replaced) == picks(fresh)


@every_placement
@few
@given(data=st.data())
@pytest.mark.sampled(3)
def test_a_pickle_keeps_the_picks(tested: UnderTest, data: st.DataObject) -> None:
    """
    Another process may load it.
    """
    placement = tested.make(data.draw(members_of(tested)))

    for loaded in (pickle.loads(pickle.dumps(placement)), copy.deepcopy(placement)):
        assert loaded == placement
        assert hash(loaded) == hash(placement)
        assert loaded.members == placement.members
        assert picks(loaded) == picks(placement)


@every_placement
@few
@given(data=st.data())
def test_shares_add_up(tested: UnderTest, data: st.DataObject) -> None:
    """
    Every member has one, and that of weight 0 has nothing.
    """
    members = data.draw(members_of(tested))
    placement = tested.make(members)
    share = placement.share()

    assert list(share) == list(placement.members)
    assert sum(share.values()) == pytest.approx(1 if with_keys(members) else 0)
    assert all(member.weight or not part for member, part in share.items())


@every_placement
@pytest.mark.sampled(3)
def test_shares_are_what_many_keys_come_to(tested: UnderTest) -> None:
    """
    Within three standard deviations or so of 20,000 keys.
    """
    placement = tested.make([Member(f"10.0.0.{i}:80") for i in range(4)])
    # Some of the 32-bit hashes leave much to be desired if keys differ in a digit only.
    keys = (sha1(b"%d" % number).hexdigest() for number in range(20_000))
    owners = Counter(placement.get_many(keys))

    for member, part in placement.share().items():
        assert owners[member] / 20_000 == pytest.approx(part, abs=0.012)


@every_placement
def test_members_are_those_given(tested: UnderTest) -> None:
    """
    Sorted by name, or in their order; the same objects, those without keys too.
    """
    members = [Member("b"), Member("c", 0), Member("a")]
    placement = tested.make(members)

    assert placement.members == tuple(
        members if tested.keeps_order else sorted(members, key=lambda member: member.name)
    )
    assert {id(member) for member in placement.members} == set(map(id, members))
    assert len(placement) == 3
    assert placement.get("key") in (members[0], members[2])


@every_placement
@pytest.mark.parametrize(
    "members", [[], [Member("a", 0), Member("b", 0)]], ids=["none", "weight 0"]
)
def test_without_members_that_have_keys_every_question_is_answered_alike(
    tested: UnderTest, members: list[Member]
) -> None:
    """
    Such a placement is legal, and grows from there.
    """
    placement = tested.make(members)

    asks: list[Callable[[], Any]] = [
        lambda: placement.get("key"),
        lambda: placement.get(b"key"),
        lambda: placement.get_n("key", 1),
        lambda: placement.get_many(["key"]),
        lambda: placement.walk("key"),
        lambda: placement.get_hash(0),
    ]
    for ask in asks:
        with pytest.raises(NoEndpoints) as raised:
            ask()
        assert raised.value.__context__ is None
    assert placement.get_many([]) == []
    assert placement.share() == dict.fromkeys(members, 0.0)
    assert placement.replace([Member("c")]).get("key") == Member("c")


@every_placement
@pytest.mark.parametrize("members", [[], ["a", "b"]], ids=["empty", "two"])
@pytest.mark.parametrize(
    ("key", "error"),
    [
        (1, TypeError),
        (None, TypeError),
        (bytearray(b"a"), TypeError),
        ("\ud800", ConfigError),
    ],
)
def test_a_bad_key_is_refused_everywhere(
    tested: UnderTest, members: list[str], key: Any, error: type[Exception]
) -> None:
    """
    At the call that got it, walks included, and as the only error in sight.
    """
    placement = tested.make(members)
    asks: list[Callable[[], Any]] = [
        lambda: placement.get(key),
        lambda: placement.get_n(key, 1),
        lambda: placement.get_many([key]),
        lambda: placement.walk(key),
    ]
    for ask in asks:
        with pytest.raises(error) as raised:
            ask()
        assert raised.value.__context__ is raised.value.__cause__


@every_placement
def test_bad_questions_are_refused(tested: UnderTest) -> None:
    """
    Whatever the algorithm, in the same words.
    """
    placement = tested.make(["a", "b"])

    for n, error in ((0, ConfigError), (-1, ConfigError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="n must be"):
            placement.get_n("key", n)
    for h64, error in ((-1, ConfigError), (2**64, ConfigError), (0.5, TypeError)):
        with pytest.raises(error, match="a hash must be"):
            placement.get_hash(h64)
    for several in ("key", b"key"):
        with pytest.raises(TypeError, match="iterable of keys, not one"):
            placement.get_many(several)


@every_placement
def test_bad_members_are_refused(tested: UnderTest) -> None:
    """
    By the constructor and by `replace`, which leaves everything as it was.
    """
    placement = tested.make(["a"])
    bad: list[tuple[Any, type[Exception], str]] = [
        (["a", ""], ConfigError, "must not be empty"),
        (["a", "\ud800"], ConfigError, "lone surrogate"),
        (["a", 5], TypeError, "must be a str or have a name, not int"),
        ("web", TypeError, "iterable of members, not one str"),
        ([Endpoint("a", "10.0.0.1", 80, weight=1), Member("b", 10**12)], ConfigError, "weight"),
    ]
    if not tested.merges:
        bad.append((["b", "a", "b"], ConfigError, "more than once: 'b'"))
    for members, error, message in bad:
        for place in (tested.make, placement.replace):
            with pytest.raises(error, match=message):
                place(members)
    with pytest.raises(TypeError, match="name must be a function"):
        tested.make(["a"], name="name")
    assert placement.get("key") == "a"


@every_placement
def test_name_says_what_is_hashed(tested: UnderTest) -> None:
    """
    With `name=` any hashable object is a member, None and True among them.
    """
    objects: list[Any] = [80, None, True]
    options: dict[str, Any] = {"ids": None} if "ids" in tested.name else {}
    placement = tested.make(objects, name=str, **options)
    strings = tested.make(list(map(str, objects)), **options)

    assert [str(placement.get(key)) for key in KEYS] == strings.get_many(KEYS)
    assert placement.replace([80]).members == (80,)
    assert placement != tested.make(objects, name=repr, **options)


@every_placement
def test_equality_and_repr(tested: UnderTest) -> None:
    """
    Equal are those of one class, with equal members and options.
    """
    placement = tested.make(PODS)

    assert placement == tested.make(list(PODS))
    assert placement != tested.make(PODS[1:])
    assert placement != "placement"
    assert all((placement == other.make(PODS)) == (other is tested) for other in PLACEMENTS)
    assert repr(placement).startswith(f"<{type(placement).__name__} members=5")
    assert "\n" not in repr(placement) + placement.spec


@every_placement
def test_it_has_no_room_for_other_attributes(tested: UnderTest) -> None:
    """
    Nothing of it is meant to be set.
    """
    placement = tested.make(PODS)

    with pytest.raises(AttributeError):
        placement.extra = 1
    with pytest.raises(AttributeError):
        placement.members = ()


@every_placement
def test_a_subclass_stays_one(tested: UnderTest) -> None:
    """
    Through `replace`.
    """
    kind = type(tested.make([]))
    rack = type("Rack", (kind,), {})(["a", "b"])

    assert type(rack.replace(["a"])) is type(rack)
    assert rack != kind(["a", "b"])


@every_placement
def test_a_build_reads_the_members_first_and_can_be_given_up(tested: UnderTest) -> None:
    """
    A caller may reuse its list while slices are worked off, or stop taking them.
    """
    names = [f"10.0.0.{number}:80" for number in range(100)]
    options: dict[str, Any] = {"ids": None} if "ids" in tested.name else {}
    placement = tested.make(["a"], **options)
    slices = placement.replacing(names)
    given_up = placement.replacing(names)
    next(slices)
    next(given_up)
    names.clear()
    given_up.close()

    assert len(exhaust(slices)) == 100
    assert placement.get("key") == "a"


PROGRAM = """
from itertools import islice
from tests.hashring.placements_under_test import PLACEMENTS
names = {f"10.0.0.{number}:80" for number in range(20)}
for tested in PLACEMENTS:
    some = names if tested.any_order and "ids" not in tested.name else sorted(names)
    placement = tested.make(some, **({"ids": None} if "ids" in tested.name else {}))
    print(tested.name, [tuple(islice(placement.walk(f"key-{i}"), 2)) for i in range(30)])
"""


@pytest.mark.long
def test_processes_with_different_hash_seeds_agree() -> None:
    """
    Not even a set of members, whose order differs, makes two processes disagree.
    """
    outputs = printed_with_hash_seeds(PROGRAM)

    assert len(outputs) == 1
    assert outputs.pop().count("10.0.0.") == len(PLACEMENTS) * 60


def test_every_public_placement_is_under_test() -> None:
    """
    A class that is added to a front door gets its line.
    """
    import knet.hashring
    import knet.hashring.proxies

    public = {
        thing
        for door in (knet.hashring, knet.hashring.proxies)
        for name in door.__all__
        if isinstance(thing := getattr(door, name), type) and hasattr(thing, "replacing")
    }

    assert public - {Sliced} == {type(tested.make([])) for tested in PLACEMENTS}
