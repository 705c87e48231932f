"""
`TreeRing`: `HashRing`'s picks from whatever tree one brings.
"""

from __future__ import annotations

from typing import Any

import bintrees
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedDict

from knet import Ring
from knet.endpoint import Endpoint
from knet.errors import ConfigError, NoEndpoints
from knet.hashring import BintreesTree, HashRing, Member, NodeTree, Tree, TreePlacement, TreeRing
from tests.hashring.tools import (
    KEYS,
    few_bits,
    keys,
    parts_of,
    points,
    sets_of_members,
    sixteenths,
    slots,
    use_hash,
    with_keys,
)


class SortedDictTree:
    """
    A tree that is none: all that is needed is an order.
    """

    def __init__(self) -> None:
        self._items = SortedDict()

    def put(self, key: int, value: Any) -> None:
        self._items[key] = value

    def remove(self, key: int) -> None:
        del self._items[key]

    def get(self, key: int) -> Any:
        return self._items.get(key)

    def ceiling(self, key: int) -> tuple[int, Any] | None:
        found = next(self._items.irange(key), None)
        return None if found is None else (found, self._items[found])


class PlainNode:
    """
    A node with the attributes of the protocol and no more.
    """

    def __init__(self, key: int, value: Any) -> None:
        self.key = key
        self.value = value
        self.left: PlainNode | None = None
        self.right: PlainNode | None = None


class UnbalancedTree(NodeTree):
    """
    A binary search tree by the book, as deep as the order of insertion makes it.
    """

    root: PlainNode | None

    def __init__(self) -> None:
        self.root = None

    def put(self, key: int, value: Any) -> None:
        self.root = self._put(self.root, key, value)

    def remove(self, key: int) -> None:
        self.root = self._remove(self.root, key)

    def get(self, key: int) -> Any:
        node = self.root
        while node is not None and node.key != key:
            node = node.right if node.key < key else node.left
        return None if node is None else node.value

    def _put(self, node: PlainNode | None, key: int, value: Any) -> PlainNode:
        if node is None:
            return PlainNode(key, value)
        if key == node.key:
            node.value = value
        elif key < node.key:
            node.left = self._put(node.left, key, value)
        else:
            node.right = self._put(node.right, key, value)
        return node

    def _remove(self, node: PlainNode | None, key: int) -> PlainNode | None:
        assert node is not None
        if key < node.key:
            node.left = self._remove(node.left, key)
        elif key > node.key:
            node.right = self._remove(node.right, key)
        elif node.left is None:
            return node.right
        elif node.right is None:
            return node.left
        else:
            lowest = node.right
            while lowest.left is not None:
                lowest = lowest.left
            node.key, node.value = lowest.key, lowest.value
            node.right = self._remove(node.right, lowest.key)
        return node


TREES: list[Any] = [
    BintreesTree,
    lambda: BintreesTree(bintrees.AVLTree()),
    SortedDictTree,
    UnbalancedTree,
]
IDS = ["bintrees", "bintrees AVL", "SortedDict", "NodeTree"]


@pytest.fixture(params=TREES, ids=IDS)
def tree(request: pytest.FixtureRequest) -> Tree:
    made: Tree = request.param()
    return made


trees = st.sampled_from(TREES).map(lambda make: make())


def test_a_tree_finds_the_true_successor(tree: Tree) -> None:
    """
    The smallest key at or above, whatever the shape: 7 is on no path's end for 6.
    """
    for key in (8, 3, 12, 1, 7, 10, 0, 2**64 - 1):
        tree.put(key, f"at {key}")

    assert [tree.ceiling(key) for key in (0, 2, 6, 7, 9, 11, 13)] == [
        (key, f"at {key}") for key in (0, 3, 7, 7, 10, 12, 2**64 - 1)
    ]
    tree.remove(7)
    tree.remove(2**64 - 1)
    assert tree.ceiling(6) == (8, "at 8")
    assert tree.ceiling(13) is None
    assert tree.get(7) is None
    assert tree.get(8) == "at 8"


def test_the_trees_here_are_trees(tree: Tree) -> None:
    """
    The protocol can be checked at run time.
    """
    assert isinstance(tree, Tree)


def test_a_tree_ring_of_strings_needs_no_annotation() -> None:
    """
    For type checkers, which read this file.
    """
    ring = TreeRing()
    ring.add("a")
    member: str = ring.get("key")

    assert member == "a"


def test_a_tree_ring_has_the_default_picks_of_a_hash_ring(tree: Tree) -> None:
    """
    With the real number of points and slots, members of any kind.
    """
    members = [Endpoint(f"web-{i}", f"10.0.0.{i}", weight=i % 3) for i in range(9)]
    ring = TreeRing[Endpoint](tree)
    for member in members:
        ring.add(member)
    expected = HashRing(members)

    assert ring.members == expected.members
    assert ring.get_many(KEYS) == expected.get_many(KEYS)
    for key in KEYS[:50]:
        assert ring.get_n(key, 3) == expected.get_n(key, 3)
        assert list(ring.walk(key)) == list(expected.walk(key))


@given(trees, sets_of_members(), points, slots, st.booleans(), st.data())
def test_after_any_joins_and_leaves_it_picks_as_a_hash_ring_of_those_left(
    tree: Tree,
    members: list[Member],
    points: int,
    slots: int,
    collide: bool,
    data: st.DataObject,
) -> None:
    """
    Neither the order of insertion nor members that came and went leave a trace, colliding or not.
    """
    steps = data.draw(st.lists(st.sampled_from(members), max_size=12)) if members else []
    asked = data.draw(st.lists(keys, min_size=1, max_size=4))

    with pytest.MonkeyPatch.context() as patch:
        if collide:
            use_hash(patch, few_bits)
        ring = TreeRing[Member](tree, points=points, slots=slots)
        present: set[Member] = set()
        for member in steps:
            if member in present:
                ring.remove(member)
                present.remove(member)
            else:
                ring.add(member)
                present.add(member)
            expected = HashRing(present, points=points, slots=slots)
            assert ring.members == expected.members
            for key in asked if any(member.weight for member in present) else ():
                assert ring.get(key) == expected.get(key)
                assert list(ring.walk(key)) == list(expected.walk(key))
                assert ring.get_n(key, 2) == expected.get_n(key, 2)

        for member in present:
            ring.remove(member)
        assert tree.ceiling(0) is None


def test_members_whose_points_collide_survive_each_other(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    "1" has points at 1 and 6, "6" at 6 and 11: whoever leaves, the other still has 6.
    """
    use_hash(monkeypatch, sixteenths)
    for leaver, left in (("1", "6"), ("6", "1")):
        ring = TreeRing[str](tree, points=2, slots=16)
        ring.add("1")
        ring.add("6")
        assert ring.get("5") == "1"

        ring.remove(leaver)

        assert ring.get("5") == left
        assert [ring.get(str(key)) for key in range(16)] == [left] * 16
        ring.remove(left)


def test_a_member_whose_own_points_collide_comes_and_goes(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    20 points on 16 places.
    """
    use_hash(monkeypatch, sixteenths)
    ring = TreeRing[str](tree, points=20, slots=16)
    ring.add("3")
    assert ring.get("5") == "3"

    ring.remove("3")

    assert tree.ceiling(0) is None


def test_an_empty_tree_ring_says_that_it_has_no_members() -> None:
    """
    As at the beginning, so after the last has left, and with members of weight 0.
    """
    ring = TreeRing[Member]()
    ring.add(Member("a"))
    ring.remove(Member("a"))

    for ask in (
        lambda: ring.get("key"),
        lambda: ring.get_n(b"key", 1),
        lambda: ring.get_many(["key"]),
        lambda: ring.walk("key"),
        lambda: ring.get_hash(0),
    ):
        with pytest.raises(NoEndpoints, match="the ring has no members"):
            ask()

    ring.add(Member("a", 0))
    with pytest.raises(NoEndpoints, match="all 1 members have weight 0"):
        ring.get("key")


def test_a_name_that_is_taken_is_refused() -> None:
    """
    The ring stays as it was.
    """
    ring = TreeRing[Member]()
    ring.add(Member("a"))

    with pytest.raises(ConfigError, match="member of the name 'a' already"):
        ring.add(Member("a", 2))

    assert ring.members == (Member("a"),)


def test_removing_who_is_not_there_is_refused() -> None:
    """
    As bad input, by the same error as a name that is taken.
    """
    ring = TreeRing[str]()
    ring.add("a")

    with pytest.raises(ConfigError, match="no member of the name 'b'"):
        ring.remove("b")

    assert ring.members == ("a",)


def test_members_are_found_by_name() -> None:
    """
    A pod that has another address by now can still be removed.
    """
    ring = TreeRing[Endpoint]()
    ring.add(Endpoint("web-0", "10.0.0.1"))
    elsewhere = Endpoint("web-0", "10.0.0.9", weight=3)

    assert elsewhere in ring
    assert "web-0" in ring
    assert "web-1" not in ring
    assert 5 not in ring
    assert len(ring) == 1
    ring.remove(elsewhere)
    assert len(ring) == 0
    assert ring.members == ()


def test_a_tree_that_is_in_use_is_refused(tree: Tree) -> None:
    """
    What is in it would be taken for members.
    """
    tree.put(7, "somebody's")

    with pytest.raises(ConfigError, match="the tree must be empty"):
        TreeRing[str](tree)


def test_what_is_no_tree_is_refused() -> None:
    """
    A bare bintrees tree, say, which wants an adapter.
    """
    bare: Any = bintrees.RBTree()
    with pytest.raises(TypeError, match=r"put, remove, get and ceiling; RBTree lacks some"):
        TreeRing[str](bare)


def test_a_node_tree_needs_its_methods() -> None:
    """
    `put`, `remove` and `get` are the user's part.
    """
    with pytest.raises(TypeError, match="abstract"):
        NodeTree()  # type: ignore[abstract]


@pytest.mark.parametrize("key", [1, None, bytearray(b"a"), memoryview(b"a")])
def test_a_bad_key_is_refused(key: Any) -> None:
    """
    As by a `HashRing`.
    """
    ring = TreeRing[str]()
    ring.add("a")
    for ask in (
        lambda: ring.get(key),
        lambda: ring.get_n(key, 1),
        lambda: ring.get_many([key]),
        lambda: ring.walk(key),
    ):
        with pytest.raises(TypeError, match="str or bytes"):
            ask()


@pytest.mark.parametrize(("n", "error"), [(0, ConfigError), (True, TypeError)])
def test_get_n_wants_an_int_of_at_least_1(n: Any, error: type[Exception]) -> None:
    """
    As of a `HashRing`.
    """
    ring = TreeRing[str]()
    ring.add("a")
    with pytest.raises(error, match="n must be"):
        ring.get_n("key", n)


def test_get_hash_takes_the_hash_of_a_key() -> None:
    """
    And nothing outside of 64 bits.
    """
    ring = TreeRing[str]()
    ring.add("a")

    assert ring.get_hash(2**64 - 1) == "a"
    with pytest.raises(ConfigError, match="a hash must be"):
        ring.get_hash(2**64)


def test_a_tree_ring_fits_on_a_line() -> None:
    """
    The repr says what decides the picks, short of the names.
    """
    ring = TreeRing[str](points=10, slots=64)
    ring.add("a")

    assert repr(ring) == "<TreeRing members=1 points=10 slots=64>"


# --- TreePlacement


@given(sets_of_members(), points, slots, st.booleans())
def test_a_tree_placement_is_the_hash_ring(
    members: list[Member], points: int, slots: int, collide: bool
) -> None:
    """
    Slot for slot, walk for walk and in what clients compare, with points that collide too.
    """
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            use_hash(patch, few_bits)
        placement = TreePlacement(members, tree=SortedDictTree, points=points, slots=slots)
        ring = HashRing(members, points=points, slots=slots)
        for key in KEYS[:5] if with_keys(members) else ():
            assert placement.get_n(key, 99) == ring.get_n(key, 99) == tuple(placement.walk(key))

    assert list(map(id, parts_of(placement))) == list(map(id, parts_of(ring)))
    assert placement.spec == ring.spec
    assert placement.share() == ring.share()


@pytest.mark.parametrize("tree", [BintreesTree, SortedDictTree, UnbalancedTree])
def test_a_tree_placement_changes_as_a_hash_ring_does(tree: type[Tree]) -> None:
    """
    At the defaults, on whatever tree; each build asks for a tree of its own.
    """
    made: list[Tree] = []

    def make() -> Tree:
        made.append(tree())
        return made[-1]

    names = [f"10.0.0.{number}" for number in range(30)]
    placement = TreePlacement(names, tree=make).replace([*names[1:], "10.0.1.1"])

    assert parts_of(placement) == parts_of(HashRing([*names[1:], "10.0.1.1"]))
    assert placement.replace(names) == TreePlacement(names, tree=make)
    assert len(set(map(id, made))) == len(made)
    # A large tree is taken apart point by point.
    assert all(each.ceiling(0) is None for each in made)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (SortedDictTree(), r"write tree=SortedDictTree"),
        (dict, r"a tree needs put, remove, get and ceiling; dict lacks some"),
        (None, "must be a function"),
    ],
)
def test_what_makes_no_tree_is_refused(tree: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        TreePlacement(tree=tree)


def test_a_tree_that_is_not_empty_or_finds_wrongly_is_refused() -> None:
    full = SortedDictTree()
    full.put(1, ())
    with pytest.raises(ConfigError, match="must be empty"):
        TreePlacement(["a"], tree=lambda: full)

    class Below(SortedDictTree):
        """
        Takes the predecessor for the successor, as the original of this library did.
        """

        def ceiling(self, key: int) -> tuple[int, Any] | None:
            found = next(self._items.irange(None, key, reverse=True), None)
            return None if found is None else (found, self._items[found])

    with pytest.raises(
        TypeError, match="ceiling of Below must return the smallest key at or above"
    ):
        TreePlacement(["a", "b"], tree=Below)


@pytest.mark.parametrize("placement", [TreeRing, lambda _members: TreeRing[Endpoint]()])
def test_a_ring_of_a_tree_ring_says_what_to_write(placement: Any) -> None:
    with pytest.raises(
        TypeError, match=r"placement=TreePlacement.*partial\(TreePlacement, tree=MyTree\)"
    ):
        Ring("web.prod", port=80, placement=placement)
