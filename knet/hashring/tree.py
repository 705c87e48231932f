"""
Bring your own tree: the points of a ring in a sorted tree of the caller's choice.

`TreeRing` is mutable, and has key for key the picks of `HashRing` with the same points and slots, and no
`balance`: the tree holds the points as they are, and a key looks from the start of its slot for the
first point at or after it. `TreePlacement` asks the tree that once for each slot, and is what a
`knet.Ring` can have. The rules of the placement are written down in `knet.hashring.hash_ring`.

It says what a tree must be able to do (`Tree`), gives trees of nodes a correct successor
(`NodeTree`), and is the only importer of bintrees, whose red-black tree is the default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from itertools import islice, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from knet.errors import ConfigError
from knet.hashring.hash_ring import (
    POINTS,
    SLOTS,
    HashRing,
    check_options,
    laying,
    point_count,
    shift_of,
)
from knet.hashring.hashing import hash_key, xxh64
from knet.hashring.placement import (
    Entry,
    check_count,
    check_hash,
    key_list,
    name_of,
    no_members,
    read_member,
)
from knet.hashring.steps import Steps, exhaust

__all__ = ["BintreesTree", "Node", "NodeTree", "Tree", "TreePlacement", "TreeRing"]

if TYPE_CHECKING:
    # Not a name that the interpreter has to know: `TreeRing()` is a `TreeRing[str]` for type checkers.
    import typing_extensions

    M = typing_extensions.TypeVar("M", bound=Hashable, default=str)
else:
    M = TypeVar("M", bound=Hashable)

# About 0.2 ms of work with a tree that is written in Python.
_POINTS_PER_SLICE = 16
# A tree of more points is taken apart point by point, since it may take milliseconds to free in one piece.
_FEW_POINTS = 2048


@runtime_checkable
class Tree(Protocol):
    """
    A sorted map from points to whatever a `TreeRing` keeps there.

    Keys are integers in ``[0, 2**64)``. Values are the ring's: tuples, never None, never mutated.
    """

    def put(self, key: int, value: Any, /) -> None:
        """
        Keep *value* at *key*, in place of the one there.
        """
        ...

    def remove(self, key: int, /) -> None:
        """
        Forget *key*. A ring removes only keys that are there.
        """
        ...

    def get(self, key: int, /) -> Any:
        """
        Return the value at *key*, or None where there is none.
        """
        ...

    def ceiling(self, key: int, /) -> tuple[int, Any] | None:
        """
        Return the smallest key at or above *key*, with its value; None where there is none.
        """
        ...


class Node(Protocol):
    """
    A node of a binary search tree: keys on its left are lower, those on its right higher.
    """

    @property
    def key(self) -> int: ...

    @property
    def value(self) -> Any: ...

    @property
    def left(self) -> Node | None: ...

    @property
    def right(self) -> Node | None: ...


class NodeTree(ABC):
    """
    A `Tree` made of nodes: give `root`, `put`, `remove` and `get`, inherit `ceiling`.

    `root` is the topmost `Node`, None while the tree is empty; a property will do.

    The successor is looked for on the way down, remembering the lowest key that was high enough,
    so the answer depends on the keys alone. Taking the last node on the path instead, which may be
    the predecessor, makes it depend on the shape of the tree, hence on the order of insertion: then
    two clients with the same members disagree, and keys move between members that neither came
    nor left.
    """

    # A `Node` or None; Any, so that a subclass may say which kind of node.
    root: Any

    @abstractmethod
    def put(self, key: int, value: Any, /) -> None:
        """
        Keep *value* at *key*, in place of the one there.
        """

    @abstractmethod
    def remove(self, key: int, /) -> None:
        """
        Forget *key*. A ring removes only keys that are there.
        """

    @abstractmethod
    def get(self, key: int, /) -> Any:
        """
        Return the value at *key* (not its node), or None where there is none.
        """

    def ceiling(self, key: int, /) -> tuple[int, Any] | None:
        """
        Return the smallest key at or above *key*, with its value; None where there is none.
        """
        found: Node | None = None
        node = self.root
        while node is not None:
            if node.key < key:
                node = node.right
            else:
                found = node
                node = node.left
        return None if found is None else (found.key, found.value)


class BintreesTree:
    """
    A tree of the bintrees package as a `Tree`; a red-black tree unless another is given.

        >>> import bintrees
        >>> tree = BintreesTree(bintrees.AVLTree())

    Args:
        tree: Anything with the `insert`, `remove`, `get` and `ceiling_item` of bintrees.
    """

    __slots__ = ("_tree",)

    def __init__(self, tree: Any = None) -> None:
        if tree is None:  # an empty tree is falsy
            # The packages of this project are its user's choice, bintrees among them. It is imported
            # where it is needed, so that rings without it do without: its development has stopped,
            # and sortedcontainers is faster (docs/trees.md).
            import bintrees  # noqa: PLC0415

            tree = bintrees.FastRBTree()
        self._tree = tree

    def put(self, key: int, value: Any, /) -> None:
        self._tree.insert(key, value)

    def remove(self, key: int, /) -> None:
        self._tree.remove(key)

    def get(self, key: int, /) -> Any:
        return self._tree.get(key)

    def ceiling(self, key: int, /) -> tuple[int, Any] | None:
        try:
            item: tuple[int, Any] = self._tree.ceiling_item(key)
        except KeyError:
            return None
        return item


class _Joined(NamedTuple, Generic[M]):
    """
    A member of a tree ring, its name, and how many points it had when it joined.
    """

    name: bytes
    points: int
    member: M


_joined_name = itemgetter(0)


class TreeRing(Generic[M]):
    """
    A ring whose members come and go one by one, kept in a tree; `HashRing`'s picks, key for key.

        >>> ring = TreeRing()
        >>> for member in ("a", "b", "c"):
        ...     ring.add(member)
        >>> [ring.get(key) for key in ("alice", "bob", "dave")]
        ['b', 'a', 'c']
        >>> ring.remove("c")
        >>> [ring.get(key) for key in ("alice", "bob", "dave")]
        ['b', 'a', 'a']

    A join or a leave touches only the member's own points, some milliseconds with the default tree. In
    return each `get` walks a tree, some 20 times as slow. A `knet.Ring` needs a placement that is never
    changed: `TreePlacement`.

    Not safe to share between threads while members come or go.

    Args:
        tree: An empty `Tree` that nobody else writes to; by default `BintreesTree()`.
        points: Points of a member of weight 1.
        slots: Parts of the hash space, a power of two up to 2**20.
        name: What of a member is hashed; by default a string itself, else its `name`.

    Raises:
        ConfigError: The tree is not empty, or an option is out of range.
        TypeError: The tree lacks a method of `Tree`, or an option has the wrong type.
    """

    __slots__ = ("_joined", "_name", "_points", "_shift", "_slots", "_tree")

    def __init__(
        self,
        tree: Tree | None = None,
        *,
        points: int = POINTS,
        slots: int = SLOTS,
        name: Callable[[M], str] | None = None,
    ) -> None:
        check_options(points, slots, name)
        if isinstance(tree, (list, tuple, set, frozenset)):
            raise TypeError(
                "TreeRing takes a tree and no members: add() them one by one. As the placement of a "
                "knet.Ring write placement=TreePlacement, or partial(TreePlacement, tree=MyTree)"
            )
        self._tree = _checked(BintreesTree() if tree is None else tree)
        self._points = points
        self._slots = slots
        self._shift = shift_of(slots)
        self._name: Callable[[M], str] = name_of if name is None else name
        # Sorted by name.
        self._joined: list[_Joined[M]] = []

    def add(self, member: M) -> None:
        """
        Let *member* join; it only receives keys. A bad member leaves the ring as it was.

        Raises:
            ConfigError: Its name is empty or taken, or its weight is out of range.
            TypeError: It has no name, is unhashable, or its weight is no number.
        """
        entry = read_member(member, self._name)
        count = point_count(entry, self._points)
        if self._find(entry.name) is not None:
            raise ConfigError(f"there is a member of the name {entry.name.decode()!r} already")
        insort(self._joined, _Joined(entry.name, count, member), key=_joined_name)
        exhaust(_adding(self._tree, (entry.name, member), count))

    def remove(self, member: M) -> None:
        """
        Let the member with the name of *member* leave; only its keys move.

        Raises:
            ConfigError: There is none; the ring stays as it was.
            TypeError: *member* has no name or is unhashable.
        """
        name = read_member(member, self._name).name
        index = self._find(name)
        if index is None:
            raise ConfigError(f"there is no member of the name {name.decode()!r}")
        count = self._joined.pop(index).points
        for point in set(map(xxh64, repeat(name), range(count))):
            others = tuple([held for held in self._tree.get(point) if held[0] != name])
            if others:
                self._tree.put(point, others)
            else:
                self._tree.remove(point)

    def get(self, key: str | bytes) -> M:
        """
        Return the member that *key* belongs to.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: The key is text with a lone surrogate.
            TypeError: The key is neither `str` nor `bytes`.
        """
        return self._owner(hash_key(key))

    def get_n(self, key: str | bytes, n: int) -> tuple[M, ...]:
        """
        Return the distinct members for *key*, most preferred first.

        Returns:
            ``min(n, members that have keys)`` members, the first being ``get(key)``.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: *n* is below 1, or the key is text with a lone surrogate.
            TypeError: *n* is no `int`, or the key is neither `str` nor `bytes`.
        """
        check_count(n, "n")
        return tuple(islice(self.walk(key), n))

    def get_many(self, keys: Iterable[str | bytes]) -> list[M]:
        """
        Return the member of each key, in the order of *keys*.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: A key is text with a lone surrogate.
            TypeError: A key is neither `str` nor `bytes`, or *keys* is a single one.
        """
        return [self.get(key) for key in key_list(keys)]

    def walk(self, key: str | bytes) -> Iterator[M]:
        """
        Iterate over all members that have keys, most preferred for *key* first.

        The members must not change meanwhile.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: The key is text with a lone surrogate.
            TypeError: The key is neither `str` nor `bytes`.
        """
        h64 = hash_key(key)
        self._owner(h64)
        return self._walk(h64 >> self._shift)

    def get_hash(self, h64: int) -> M:
        """
        Return the member that a key of this hash belongs to.

        Raises:
            NoEndpoints: No member has keys.
            ConfigError: The hash is not in ``[0, 2**64)``.
            TypeError: It is no `int`.
        """
        check_hash(h64)
        return self._owner(h64)

    @property
    def members(self) -> tuple[M, ...]:
        """
        Every member, those of weight 0 too, sorted by the UTF-8 bytes of its name.
        """
        return tuple([joined.member for joined in self._joined])

    def __len__(self) -> int:
        return len(self._joined)

    def __contains__(self, member: object) -> bool:
        """
        Whether a member with the name of *member* is in the ring.
        """
        try:
            name = read_member(member, self._name).name  # type: ignore[arg-type]
        except (ConfigError, TypeError):
            return False
        return self._find(name) is not None

    def __repr__(self) -> str:
        return (
            f"<{self.__class__.__name__} members={len(self._joined)} "
            f"points={self._points} slots={self._slots}>"
        )

    def _find(self, name: bytes) -> int | None:
        index = bisect_left(self._joined, name, key=_joined_name)
        if index < len(self._joined) and self._joined[index].name == name:
            return index
        return None

    def _owner(self, h64: int) -> M:
        slot = h64 >> self._shift
        found = self._tree.ceiling(slot << self._shift) or self._tree.ceiling(0)
        if found is None:
            raise no_members(self._joined)
        owner: M = found[1][0][1]
        return owner

    def _walk(self, first_slot: int) -> Iterator[M]:
        """
        Go from slot to slot, past those that share a point, as `HashRing` goes from run to run.
        """
        shift, slots = self._shift, self._slots
        waiting = {joined.name: joined.member for joined in self._joined if joined.points}
        slot = first_slot
        while waiting and slot < first_slot + slots:
            turn = slot - slot % slots
            found = self._tree.ceiling(slot - turn << shift)
            if found is None:
                # Past the top the first point follows, one turn further.
                found = self._tree.ceiling(0)
                assert found is not None
                turn += slots
            point, held = found
            name, member = held[0]
            if name in waiting:
                del waiting[name]
                yield member
            slot = turn + (point >> shift) + 1
        yield from waiting.values()


class TreePlacement(HashRing[M]):
    """
    `HashRing`, made by the caller's tree: every point is put there, and every slot asks it once.

        >>> from functools import partial
        >>> from knet.hashring import BintreesTree, HashRing
        >>> placement = TreePlacement(["a", "b", "c"], tree=BintreesTree)
        >>> [placement.get(key) for key in ("alice", "bob", "dave")]
        ['b', 'a', 'c']

    Immutable, with the picks and the `digest` of a `HashRing` of the same points and slots. A key costs
    what it costs there, since the tree has been asked before. Each `replace` fills a new tree, which
    takes some 10 us a point with the default one, in slices: a second for 1,000 members.

        knet.Ring("web.prod", port=8080, placement=partial(TreePlacement, tree=MyTree))

    Args:
        members: Strings, `Member`s, endpoints: anything hashable with a name, and a `weight` if that
            is not 1. The order does not matter.
        tree: What makes an empty `Tree`: a class, or a function.
        points: Points of a member of weight 1.
        slots: Parts of the hash space, a power of two up to 2**20.
        name: What of a member is hashed; by default a string itself, else its `name`.

    Raises:
        ConfigError: A name is given twice or empty, a weight or an option is out of range, or the tree
            is not empty.
        TypeError: A member, weight or option has the wrong type; *tree* is no function, or what it makes
            lacks a method of `Tree` or finds a wrong ceiling.
    """

    __slots__ = ("_tree",)

    _options = ("points", "slots", "tree")

    def __init__(
        self,
        members: Iterable[M] = (),
        *,
        tree: Callable[[], Tree] = BintreesTree,
        points: int = POINTS,
        slots: int = SLOTS,
        name: Callable[[M], str] | None = None,
    ) -> None:
        check_options(points, slots, name)
        made_by: object = tree
        if not callable(made_by):
            kind = type(made_by).__name__
            raise TypeError(
                f"tree must be a function that makes an empty tree, such as its class: write tree={kind}, "
                f"not an object of type {kind}"
            )
        self._tree = tree
        self._points = points
        self._slots = slots
        # Each build looks at its own tree, but where nobody has points none is made.
        _checked(tree())
        self._begin(members, name=name, key_hash=xxh64)

    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        self._balance = None
        yield from super()._build(members)
        # Each change asks a tree of its own.
        self._where = None

    def _filling(
        self,
        pointed: list[tuple[Entry[M], int]],
        starts: array[int] | None,
        high: bytearray,
        low: bytearray,
    ) -> Generator[None, None, tuple[list[M], bytearray]]:
        tree = _checked(self._tree())
        for number, (entry, count) in enumerate(pointed):
            yield from _adding(tree, (entry.name, number), count)
        members = [entry.member for entry, _ in pointed]
        runs = self._runs(tree)
        made = yield from laying(runs, members, self._slots, starts, _POINTS_PER_SLICE)
        if len(high) > _FEW_POINTS:
            for entry, count in pointed:
                yield from _forgetting(tree, entry.name, count)
        return made

    def _runs(self, tree: Tree) -> Iterator[tuple[int, int]]:
        """
        Ask *tree* for the point of every slot: yield the slot after it, and whose it is.
        """
        shift, slots = self._shift, self._slots
        slot = 0
        while slot < slots and (found := tree.ceiling(slot << shift)) is not None:
            point, held = found
            end = (point >> shift) + 1
            if not slot < end <= slots:
                raise _wrong_ceiling(tree, slot << shift, point)
            yield end, held[0][1]
            slot = end
        if not slot:
            raise _wrong_ceiling(tree, 0, None)


def _checked(tree: Any) -> Tree:
    """
    Return *tree*, or raise unless it is an empty one.
    """
    if not isinstance(tree, Tree):
        raise TypeError(
            f"a tree needs put, remove, get and ceiling; {type(tree).__name__} lacks some"
        )
    empty: Tree = tree
    if empty.ceiling(0) is not None:
        raise ConfigError("the tree must be empty: its points would be nobody's")
    return empty


def _wrong_ceiling(tree: Tree, key: int, found: int | None) -> TypeError:
    return TypeError(
        f"ceiling of {type(tree).__name__} must return the smallest key at or above the one that it is "
        f"asked for, and of {key} it returned {found}"
    )


def _adding(tree: Tree, own: tuple[bytes, Any], count: int) -> Steps[None]:
    """
    Put so many points of a member into *tree*: its name, and what is kept there.
    """
    # A set, since two points of one member may be equal.
    for done, point in enumerate(set(map(xxh64, repeat(own[0]), range(count))), 1):
        others = tree.get(point)
        # Members whose points collide share the place; the name that sorts first has it.
        held = (own,) if others is None else tuple(sorted((*others, own), key=_joined_name))
        tree.put(point, held)
        if done % _POINTS_PER_SLICE == 0:
            yield


def _forgetting(tree: Tree, name: bytes, count: int) -> Steps[None]:
    """
    Remove so many points of a member from *tree*, those that are still there.
    """
    for done, point in enumerate(set(map(xxh64, repeat(name), range(count))), 1):
        if tree.get(point) is not None:
            tree.remove(point)
        if done % _POINTS_PER_SLICE == 0:
            yield
