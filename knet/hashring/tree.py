"""
Bring your own tree: `TreeRing` keeps the points of a ring in a sorted tree of the caller's choice.

Mutable, and key for key the picks of `HashRing` with the same points and slots, and no `balance`:
the tree holds the points as they are, and a key looks from the start of its slot for the first
point at or after it. The rules of the placement are written down in `knet.hashring.hash_ring`.

It says what a tree must be able to do (`Tree`), gives trees of nodes a correct successor
(`NodeTree`), and is the only importer of bintrees, whose red-black tree is the default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice, repeat
from operator import itemgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from knet.errors import ConfigError
from knet.hashring.hash_ring import POINTS, SLOTS, check_options, point_count, shift_of
from knet.hashring.hashing import hash_key, xxh64
from knet.hashring.placement import (
    check_count,
    check_hash,
    key_list,
    name_of,
    no_members,
    read_member,
)

__all__ = ["BintreesTree", "Node", "NodeTree", "Tree", "TreeRing"]

M = TypeVar("M", bound=Hashable)


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

        >>> ring = TreeRing[str]()
        >>> for member in ("a", "b", "c"):
        ...     ring.add(member)
        >>> [ring.get(key) for key in ("alice", "bob", "dave")]
        ['b', 'a', 'c']
        >>> ring.remove("c")
        >>> [ring.get(key) for key in ("alice", "bob", "dave")]
        ['b', 'a', 'a']

    A join or a leave touches only the member's own points, some milliseconds with the default tree,
    where a `HashRing` is built anew. In return each `get` walks a tree, some 20 times as slow.

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
        if tree is None:
            tree = BintreesTree()
        elif not isinstance(tree, Tree):
            raise TypeError(
                f"a tree needs put, remove, get and ceiling; {type(tree).__name__} lacks some"
            )
        if tree.ceiling(0) is not None:
            raise ConfigError("the tree must be empty: its points would be nobody's")
        self._tree = tree
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
        own = (entry.name, member)
        # A set, since two points of one member may be equal.
        for point in set(map(xxh64, repeat(entry.name), range(count))):
            others = self._tree.get(point)
            # Members whose points collide share the place; the name that sorts first has it.
            held = (own,) if others is None else tuple(sorted((*others, own), key=_joined_name))
            self._tree.put(point, held)

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
