"""
The continuum: rings of sorted points, as the proxies have them. All but whose points are where.

A key belongs to the first point at or after its hash, wrapping past the top. Of equal points the
one of the member that was given first stays. Envoy, gRPC, nginx and the ketama family differ in how
many points a member has, in what is hashed to place them, and in the hash of a key; what they have
in common is here.

The members keep the order in which they were given, because in several of these algorithms it
decides about single points.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Generator, Hashable, Iterable, Iterator
from typing import Any, Final, TypeVar

from knet.endpoint import Endpoint
from knet.hashring.base import BasePlacement
from knet.hashring.hashing import encode_key
from knet.hashring.placement import Entry, check_distinct, in_order, key_list, name_of, no_members

__all__ = ["Continuum", "address_of"]

M = TypeVar("M", bound=Hashable)

# Points are sorted in groups of about this many, and 512 points are about 0.1 ms of work.
_POINTS_PER_GROUP = 64
_POINTS_PER_SLICE = 512
# The index has at least this many entries to a point, so that few keys need a search, and at most
# 2**18, two megabytes.
_ENTRIES_PER_POINT = 16
_MAX_INDEX_BITS = 18
# A point and its member's position are sorted as one integer.
_POSITION_BITS: Final = 32
_POSITION_MASK: Final = 2**_POSITION_BITS - 1


class _Mixed:
    """
    The entry of the index where a point lies, so that two members may have keys there.
    """

    __slots__ = ()


_MIXED: Final = _Mixed()


class Continuum(BasePlacement[M]):
    """
    A ring of sorted points.

    A subclass sets `hash_bits`, `_algorithm` and `_options`, implements `_points`, and its
    constructor ends with `_begin`:

        class Tiny(Continuum[M]):
            __slots__ = ("_points_each",)
            hash_bits = 32
            _algorithm = "tiny/1"
            _options = ("points_each",)

            def __init__(self, members=(), *, points_each=4, name=None):
                check_count(points_each, "points_each")
                self._points_each = points_each
                self._begin(members, name=name, key_hash=crc32)

            def _points(self, entries):
                for position, entry in enumerate(entries):
                    if entry.weight:
                        yield position, [crc32(entry.name, i) for i in range(self._points_each)]
    """

    __slots__ = ("_down", "_index", "_owners", "_owning", "_sorted")

    # Every point, ascending, and whose it is, with the first owner once more at the end. An array, since
    # a list of so many integers takes milliseconds to free, when an old ring is let go of.
    _sorted: array[int]
    _owners: list[M]
    # Equal parts of the hash space: the member that has all of it, or _MIXED; and how far a hash is
    # shifted down to become the number of its part. A search takes two or three times as long.
    _index: list[M | _Mixed]
    _down: int
    # How many members have points.
    _owning: int

    @staticmethod
    def _default_name(member: Any) -> str:
        return address_of(member)

    @abstractmethod
    def _points(self, entries: list[Entry[M]]) -> Iterator[tuple[int, list[int]]]:
        """
        Yield the points of the members: the position of one in *entries*, and some of its points.

        A point is in ``[0, 2**hash_bits)``. Each list is made in about 0.1 ms or less, and a member
        may have several lists, or none. *entries* are all members in the order given, those of
        weight 0 too, which shall have no points.
        """

    def _distinct(self, entries: list[Entry[M]]) -> list[Entry[M]]:
        """
        Return *entries* with one for each name; unless overridden, a name given twice is refused.
        """
        check_distinct(sorted([entry.name for entry in entries]))
        return entries

    def get(self, key: str | bytes) -> M:
        # Whatever is not a text key on a ring with points fails here and costs others nothing.
        try:
            h = self._key_hash(key.encode())  # type: ignore[union-attr]
            owner = self._index[h >> self._down]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        else:
            if owner is not _MIXED:
                return owner  # type: ignore[return-value]
            return self._owners[bisect_left(self._sorted, h)]
        return self._owner(self._key_hash(encode_key(key)))

    def get_many(self, keys: Iterable[str | bytes]) -> list[M]:
        get = self.get
        return [get(key) for key in key_list(keys)]

    def share(self) -> dict[M, float]:
        """
        Return the share of the key space that each member has, exactly; none is 0.0.

        Adds up the arcs between all points, some milliseconds for 10 000 of them.
        """
        arcs: dict[int, int] = {}
        # The first point has what is above the last one too.
        below = self._sorted[-1] - 2**self.hash_bits if self._sorted else 0
        for point, owner in zip(self._sorted, self._owners, strict=False):
            arcs[id(owner)] = arcs.get(id(owner), 0) + point - below
            below = point
        shares = dict.fromkeys(self._members, 0.0)
        for member in self._members:
            if id(member) in arcs:
                shares[member] = arcs[id(member)] / 2**self.hash_bits
        return shares

    @property
    def members(self) -> tuple[M, ...]:
        """
        Every member, those of weight 0 too, in the order given.
        """
        return self._members

    @property
    def points(self) -> tuple[tuple[int, M], ...]:
        """
        Every point on the circle and whose it is, ascending, as a new tuple.
        """
        return tuple(zip(self._sorted, self._owners, strict=False))

    def _has_keys(self) -> bool:
        return bool(self._sorted)

    def _owner(self, h: int) -> M:
        if not self._sorted:
            raise no_members(self._members)
        return self._owners[bisect_left(self._sorted, h)]

    def _walk(self, h: int) -> Iterator[M]:
        owners, size = self._owners, len(self._sorted)
        at = bisect_left(self._sorted, h)
        last = owners[at]
        seen = {id(last)}
        yield last
        while len(seen) < self._owning:
            # The last owner is the first one once more, hence no wrap to 0.
            at = at + 1 if at < size else 1
            member = owners[at]
            if member is not last and id(member) not in seen:
                seen.add(id(member))
                yield member
            last = member

    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        """
        Fill in everything that depends on the members, in slices.
        """
        entries = yield from in_order(members, self._name or self._default_name)
        self._members = tuple([entry.member for entry in entries])
        entries = self._distinct(entries)
        self._index = []
        self._down = 0
        self._owning = 0
        self._sorted = array("I" if self.hash_bits <= 32 else "Q")
        self._owners = []
        yield
        packed: list[list[int]] = []
        count = 0
        for position, points in self._points(entries):
            packed.append([point << _POSITION_BITS | position for point in points])
            count += len(points)
            yield
        if not count:
            return
        yield from self._sort(packed, count, entries)
        yield from self._fill_index()

    def _sort(
        self, packed: list[list[int]], count: int, entries: list[Entry[M]]
    ) -> Generator[None, None, None]:
        """
        Sort the points in groups that differ in their top bits: one sort could not be interrupted.
        """
        group_bits = max(0, (count // _POINTS_PER_GROUP).bit_length() - 1)
        down = self.hash_bits + _POSITION_BITS - group_bits
        groups: list[list[int]] = []
        while len(groups) < 1 << group_bits:
            some = min(_POINTS_PER_SLICE, (1 << group_bits) - len(groups))
            groups += [[] for _ in range(some)]
            yield
        budget = _POINTS_PER_SLICE
        # Whatever is used up is let go of at once: freeing it all at the end takes milliseconds.
        packed.reverse()
        while packed:
            points = packed.pop()
            for point in points:
                groups[point >> down].append(point)
            budget -= len(points)
            if budget <= 0:
                budget = _POINTS_PER_SLICE
                yield
        groups.reverse()
        placed, owners = self._sorted, self._owners
        last = -1
        # A member whose points all equal those of earlier ones has none.
        landed = set()
        while groups:
            group = groups.pop()
            group.sort()
            for point in group:
                position = point & _POSITION_MASK
                point >>= _POSITION_BITS
                # Of equal points the first member's stays.
                if point != last:
                    placed.append(point)
                    owners.append(entries[position].member)
                    landed.add(position)
                    last = point
            budget -= len(group)
            if budget <= 0:
                budget = _POINTS_PER_SLICE
                yield
        owners.append(owners[0])
        self._owning = len(landed)

    def _fill_index(self) -> Generator[None, None, None]:
        """
        Note for each part of the hash space in which no point lies whose it is.
        """
        placed, owners = self._sorted, self._owners
        bits = (len(placed) * _ENTRIES_PER_POINT - 1).bit_length()
        bits = min(bits, _MAX_INDEX_BITS, self.hash_bits)
        down = self.hash_bits - bits
        index: list[M | _Mixed] = [_MIXED] * (1 << bits)
        yield
        low = 0
        for first in range(0, len(placed), _POINTS_PER_SLICE):
            for at in range(first, min(first + _POINTS_PER_SLICE, len(placed))):
                part = placed[at] >> down
                if part > low:
                    index[low:part] = [owners[at]] * (part - low)
                low = part + 1
            yield
        index[low:] = owners[:1] * ((1 << bits) - low)
        self._index = index
        self._down = down


def address_of(member: Any) -> str:
    """
    Return what proxies hash of *member*: where to connect for an endpoint, else its name.

    That is ``"10.0.0.1:8080"`` or ``"[fd00::1]:8080"``; without a port it is the bare address,
    which no proxy hashes.
    """
    if isinstance(member, Endpoint):
        return str(member)
    return name_of(member)
