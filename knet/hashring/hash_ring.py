"""
`HashRing`: members become points on a circle of 64-bit hashes, snapped to equal slots.

Pure: the same members, in any order, give the same table in every process. This page is the whole
definition of the placement, ``hashring/1``; a client in another language that follows it agrees key
for key.

Inputs: members, each with a name and a weight; `points` (160) and `slots` (65 536, a power of two).

1. A member of weight 0 has no points; any other has ``max(1, floor(points * weight + 0.5))``, the
   product being that of IEEE doubles.
2. Point *i* of a member, counting from 0, is XXH64 of its name as UTF-8, with *i* as the seed.
3. The hash space ``[0, 2**64)`` is cut in `slots` equal slots. A slot is owned by the member of the
   first point at or after the slot's start, wrapping past the top. Where two points are equal, the
   name that sorts first, by its UTF-8 bytes, has it.
4. A key is XXH64, seed 0, of its bytes, text as UTF-8. It belongs to the owner of its slot.
5. The order of preference for a key: the owners of its slot, of the next slot, and so on once
   around, each member where it first appears. Members that have points and own no slot come after
   them, sorted by name.

So when a member leaves only its own slots change hands, and when one joins it only receives: the
first point after a slot's start is another one only if it was the leaver's, or is the joiner's.

An example with `points=2, slots=4` and the members a, b and c, hashes cut to 16 bits:

    points   a: d24e dec2     b: 7845 5938     c: a3da a9f8

    slot   starts at   first point from there   owner
    0      0000        5938                     b
    1      4000        5938                     b
    2      8000        a3da                     c
    3      c000        d24e                     a

"alice" hashes to 73a3, so slot 1 and b; after b she prefers c, then a. "carol" hashes to c1ce: slot
3, a, then b (slot 0, past the top), then c.

With a `balance`, a number above 1, three more steps follow upon 3, and 4 and 5 go by the table that
they leave. All arithmetic on weights is that of IEEE doubles.

6. The fair share of a member that has points is ``slots * weight / total``, where `total` is the
   sum of their weights, added one by one in the order of names. Its limit is the largest of 1,
   ``ceil(share)`` and ``floor(balance * share)``, but at most `slots`.
7. A run is a row of slots with one owner, as long as can be, from slot 0 to the last; it does not go
   past the top. A member that owns more slots than its limit keeps so many, those with the fewest
   slots between them and the end of their run, and among equals the lower ones; it gives up the others.
8. From slot 0 on, each slot given up goes to the first member that owns fewer slots than its limit
   by then, in the order of preference that 5 gives for the table of 3.

So no member owns more than `balance` times its fair share, unless the share itself, rounded up to
whole slots, is more. Then some keys do move without cause: with the members all limits change, and
what one of them gives up or takes back may go to the next, or come from there.

The example above with `slots=8, balance=1.25`: shares are 8/3, limits ``max(1, 3, floor(10/3))``.

    slot            0  1  2  3  4  5  6  7
    first point     b  b  b  b  c  c  a  b    b owns 5 and keeps 7, 3 and 2
    levelled        c  a  b  b  c  c  a  b    0 goes to c, which then has 3, so 1 goes on to a

Points are snapped to slots because a lookup is then one read from one list, as fast with a thousand
members as with three, where a search among the points takes longer the more there are. The price is
balance: with fewer than about 100 slots for each member, some get noticeably more than their share.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from itertools import compress, islice, repeat
from math import floor
from operator import is_not
from typing import Any, ClassVar, TypeVar

from knet.errors import ConfigError
from knet.hashring.balance import check_balance, level, limits_of, run_starts
from knet.hashring.base import BasePlacement
from knet.hashring.hashing import encode_key, xxh64
from knet.hashring.patch import Difference, Patch, difference, hops_of
from knet.hashring.placement import (
    Entry,
    check_count,
    key_list,
    no_members,
    sorted_entries,
)
from knet.hashring.points import Points, upper_bytes

__all__ = ["HashRing", "check_options", "laying", "point_count", "shift_of"]

M = TypeVar("M", bound=Hashable)

# 160 is what nginx, ketama and uhashring use: the busiest of 10 members gets 1.1 times the mean.
POINTS = 160
# A table of 512 KB. Part of what decides who owns a key, so it does not grow with the members.
SLOTS = 2**16
# An 8 MB table. A million slots are enough for 10 000 members; beyond that each lookup is a cache
# miss and nothing is gained.
MAX_SLOTS = 2**20
# Points of one member. Above it a build takes seconds, and the weights are in the wrong unit.
MAX_POINTS = 2**20

# About 0.1 ms of work each.
_POINTS_PER_SLICE = 512
_SLOTS_PER_SLICE = 2048
_RUNS_PER_SLICE = 512
_MEMBERS_PER_SLICE = 128
# What a try of one point costs, beside one of the many of a member.
_TRY = 3
# Where runs are short, this many slots are looked at together.
_SLOTS_PER_STEP = 16
# Up to this many members of `get_n` are told apart by comparing each with each.
_FEW_MEMBERS = 8


class HashRing(BasePlacement[M]):
    """
    A consistent-hash ring: who owns a key moves only with the members that come or go.

        >>> ring = HashRing(["a", "b", "c"])
        >>> [ring.get(key) for key in ("alice", "bob", "dave")]
        ['b', 'a', 'c']
        >>> [ring.replace(["a", "b"]).get(key) for key in ("alice", "bob", "dave")]
        ['b', 'a', 'a']

    With `balance=1.1` no member has more than 1.1 times its fair share of the key space; without it the
    busiest of 10 to 100 equal ones has 1.2 times as much. Lookups take as long, a build two or three
    times as long, each change takes a build, and some keys move that need not: a leave or a join moves no
    more than without it up to 10 members, 1.1 times as much at 100 and 1.2 times at 300; at 1 000 it is
    1.5 times, or 1.2 with `slots=2**18`, or 1.1 with `points=512` too.

    `replace` costs what changes, not what the ring holds, as long as few members come or go and there is
    no `balance`.

    Immutable, hashable, and picklable if its members are (and `name`, where given); a pickle holds
    the members and rebuilds the ring. A ring without members is legal and raises `NoEndpoints` when
    asked for a key.

    Args:
        members: Strings, `Member`s, endpoints: anything hashable with a name, and a `weight` if that
            is not 1. The order does not matter.
        points: Points of a member of weight 1. More are better balanced and slower to build.
        slots: Parts of the hash space, a power of two up to 2**20. The default suits up to about
            300 members of weight 1; 2**18 balances 1 000 better and makes a lookup 1.5 times slower.
        balance: How many times its fair share, by weight, a member may have, above 1; shares are
            rounded up to a slot at least. None, the default, sets no bound.
        name: What of a member is hashed; by default a string itself, else its `name`.

    Raises:
        ConfigError: A name is given twice or empty, or a weight or an option is out of range.
        TypeError: A member, weight or option has the wrong type.
    """

    __slots__ = (
        "_balance",
        "_hops",
        "_landless",
        "_owners",
        "_points",
        "_shift",
        "_slots",
        "_table",
        "_where",
    )

    _algorithm = "hashring/1"
    _options = ("points", "slots", "balance")

    # The owner of each slot: `slots` references to members, or none at all where no member has
    # points. Nobody writes to it.
    _table: list[M]
    # Up to this many points sorting them all is the faster build, and short enough to be one step.
    _few_points: ClassVar[int] = 2048
    # Where there are at least this many slots to a point, `get_n` hops over runs of slots with one
    # owner. Shorter runs are walked through slot by slot as fast, without the memory and the longer
    # build.
    _slots_per_hop: ClassVar[int] = 6
    # For each slot, how many slots on to look for another owner; None where runs are short.
    _hops: bytes | None
    # How many members own a slot, and those that have points and own none.
    _owners: int
    _landless: tuple[M, ...]
    # Where the points are, for a change of few members; None where any change takes a full build.
    _where: Points | None

    def __init__(
        self,
        members: Iterable[M] = (),
        *,
        points: int = POINTS,
        slots: int = SLOTS,
        balance: float | None = None,
        name: Callable[[M], str] | None = None,
    ) -> None:
        check_options(points, slots, name)
        self._points = points
        self._slots = slots
        self._balance = check_balance(balance)
        self._begin(members, name=name, key_hash=xxh64)

    def get(self, key: str | bytes) -> M:
        # One hash and one read. Everything that is not a text key on a ring with members, such as
        # bytes, fails somewhere in this line and costs it nothing.
        try:
            return self._table[xxh64(key.encode()) >> self._shift]  # type: ignore[union-attr]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        return self._owner(xxh64(encode_key(key)))

    def get_n(self, key: str | bytes, n: int) -> tuple[M, ...]:
        if n.__class__ is not int or n < 1:
            check_count(n, "n")
        try:
            slot = xxh64(key.encode()) >> self._shift  # type: ignore[union-attr]
        except (AttributeError, UnicodeEncodeError):
            slot = -1
        if slot < 0:
            slot = xxh64(encode_key(key)) >> self._shift
        table = self._table
        if not table:
            raise no_members(self._members)
        if n > _FEW_MEMBERS:
            return tuple(islice(self._walk_from(slot), n))
        slots = self._slots
        hops = self._hops
        # Compared by identity, with a loop: all references in the table are to the members, and an
        # `in` would compare endpoints field by field, which takes longer than all the rest.
        last = table[slot]
        found = [last]
        more = (n if n < self._owners else self._owners) - 1  # noqa: FURB136 - min() is slower
        if hops is not None:
            while more:
                slot += hops[slot]
                if slot == slots:
                    slot = 0
                member = table[slot]
                for known in found:
                    if known is member:
                        break
                else:
                    found.append(member)
                    more -= 1
        else:
            slot += 1
            while more:
                for member in table[slot : slot + _SLOTS_PER_STEP]:
                    if member is not last:
                        last = member
                        for known in found:
                            if known is member:
                                break
                        else:
                            found.append(member)
                            more -= 1
                            if not more:
                                break
                slot += _SLOTS_PER_STEP
                if slot >= slots:
                    slot = 0
        if len(found) < n:
            found += self._landless[: n - len(found)]
        return tuple(found)

    def get_many(self, keys: Iterable[str | bytes]) -> list[M]:
        # Takes about four fifths of the time of as many calls of `get`.
        keys = key_list(keys)
        table = self._table
        shift = self._shift
        try:
            return [table[xxh64(key.encode()) >> shift] for key in keys]  # type: ignore[union-attr]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        return [self.get(key) for key in keys]

    def skipping(self, out: Iterable[M]) -> Generator[None, None, list[M] | None]:
        """
        Make the table by which each key goes to the first member of its `walk` that is not *out*.

        Yields after about every 0.1 ms of work. `None`: nobody else owns a slot. Unlike `replace`, this
        moves no other key, and those of *out* not as a placement without them would.
        """
        table, away = self._table, set(map(id, out))
        heir = next((member for member in table if id(member) not in away), None)
        if heir is None:
            return None
        # Who follows a slot is whom the next one has that is not out, so it goes from the end.
        parts: list[list[M]] = []
        for first in range(len(table) - _SLOTS_PER_SLICE, -_SLOTS_PER_SLICE, -_SLOTS_PER_SLICE):
            part = table[max(first, 0) : first + _SLOTS_PER_SLICE]
            for place in range(len(part) - 1, -1, -1):
                member = part[place]
                if id(member) in away:
                    part[place] = heir
                else:
                    heir = member
            parts.append(part)
            yield
        made: list[M] = []
        for part in reversed(parts):
            made += part
            yield
        return made

    def share(self) -> dict[M, float]:
        """
        Return the share of the key space that each member has, exactly; none is 0.0.

        Counts every slot, which takes some milliseconds.
        """
        slots = Counter(map(id, self._table))
        return {member: slots[id(member)] / self._slots for member in self._members}

    @property
    def points(self) -> int:
        """
        Points of a member of weight 1.
        """
        return self._points

    @property
    def slots(self) -> int:
        """
        Parts of the hash space.
        """
        return self._slots

    @property
    def balance(self) -> float | None:
        """
        How many times its fair share a member may have; None: no bound.
        """
        return self._balance

    def _option_texts(self) -> list[str]:
        balance = [] if self._balance is None else [f"balance={self._balance}"]
        return [f"points={self._points}", f"slots={self._slots}", *balance]

    def _parts(self) -> list[M]:
        return self._table

    def _has_keys(self) -> bool:
        return bool(self._table)

    def _owner(self, h: int) -> M:
        if not self._table:
            raise no_members(self._members)
        return self._table[h >> self._shift]

    def _walk(self, h: int) -> Iterator[M]:
        return self._walk_from(h >> self._shift)

    def _walk_from(self, slot: int) -> Iterator[M]:
        table, hops, slots = self._table, self._hops, self._slots
        last = table[slot]
        seen = {id(last)}
        yield last
        while len(seen) < self._owners:
            slot += 1 if hops is None else hops[slot]
            if slot == slots:
                slot = 0
            member = table[slot]
            if member is not last and id(member) not in seen:
                seen.add(id(member))
                yield member
            last = member
        yield from self._landless

    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        """
        Fill in everything that depends on the members, in slices.
        """
        entries = yield from sorted_entries(members, self._name or self._default_name)
        self._members = tuple([entry.member for entry in entries])
        self._shift = shift_of(self._slots)
        yield
        pointed: list[tuple[Entry[M], int]] = []
        counts = array("I")
        for first in range(0, len(entries), _MEMBERS_PER_SLICE):
            for entry in entries[first : first + _MEMBERS_PER_SLICE]:
                count = point_count(entry, self._points)
                counts.append(count)
                if count:
                    pointed.append((entry, count))
            yield
        total = sum(counts)
        self._table = []
        self._hops = None
        self._owners = 0
        self._landless = ()
        self._where = None
        yield
        if not pointed:
            return
        hop = self._hops_with(total)
        starts = array("I") if hop or self._balance is not None else None
        high, low = bytearray(total), bytearray(total)
        yield
        self._table, landed = yield from self._filling(pointed, starts, high, low)
        if self._balance is None:
            self._where = Points(high, low, counts)
        elif starts is not None:
            able = [entry for entry, _ in pointed]
            limits = yield from limits_of(able, self._slots, self._balance)
            owned = yield from level(self._table, starts, [entry.member for entry in able], limits)
            del able
            if owned is not None:
                landed = bytearray(map(bool, owned))
                if hop:
                    starts = yield from run_starts(self._table)
        if starts is not None and hop:
            self._hops = yield from _hops(starts, self._slots)
        self._owners = landed.count(1)
        if self._owners < len(landed):
            owns = zip(pointed, landed, strict=True)
            self._landless = tuple([entry.member for (entry, _), is_owner in owns if not is_owner])
        yield
        # Ten thousand of these are not let go of at once.
        while entries:
            del entries[-_MEMBERS_PER_SLICE:], pointed[-_MEMBERS_PER_SLICE:]
            yield

    def _filling(
        self,
        pointed: list[tuple[Entry[M], int]],
        starts: array[int] | None,
        high: bytearray,
        low: bytearray,
    ) -> Generator[None, None, tuple[list[M], bytearray]]:
        """
        Make the table; see `_table_by_minima`.
        """
        fill = _table_by_runs if len(high) <= self._few_points else _table_by_minima
        return fill(pointed, self._slots, starts, high, low)

    def _hops_with(self, total: int) -> bool:
        """
        Whether runs are so long that hops over them pay, with so many points in all.
        """
        return total * self._slots_per_hop <= self._slots

    @classmethod
    def _most_changes(cls, members: int) -> int:
        """
        Return up to how many changes of so many members a patch is faster; a leave counts as two.
        """
        return min(members // 4, 8 + members // 30)

    def _build_on(self, before: Any, members: Iterable[M]) -> Generator[None, None, None]:
        change: Difference[M] | None = None
        where: Points | None = before._where
        if where is not None and not issubclass(type(members), str | bytes):
            members = after = tuple(members)
            change = yield from self._difference(before._members, after, where)
        # A patch cannot begin to hop.
        if (
            where is None
            or change is None
            or (before._hops is None and self._hops_with(change.total))
        ):
            yield from self._build(members)
            return
        patch = Patch(
            before._table,
            before._hops if self._hops_with(change.total) else None,
            before._members,
            before._landless,
            where,
            self._name or self._default_name,
        )
        yield from patch.begin()
        for old, new in change.swapped:
            yield from patch.swap(old, new)
        yield from patch.leave(change.gone)
        for member, count in change.come:
            yield from patch.join(member, count)
        yield from patch.finish()
        self._shift = before._shift
        self._table = patch.table
        self._hops = None if patch.hops is None else bytes(patch.hops)
        self._members = tuple(patch.members)
        self._landless = patch.landless
        self._where = patch.points
        counts = patch.points.counts
        self._owners = len(counts) - counts.count(0) - len(patch.landless)

    def _difference(
        self, before: tuple[M, ...], after: tuple[M, ...], where: Points
    ) -> Generator[None, None, Difference[M] | None]:
        return difference(
            before,
            after,
            where.counts,
            name=self._name or self._default_name,
            count_of=lambda entry: point_count(entry, self._points),
            most=self._most_changes(len(before)),
        )


def _table_by_runs(
    pointed: list[tuple[Entry[M], int]],
    slots: int,
    starts: array[int] | None,
    high: bytearray,
    low: bytearray,
) -> Generator[None, None, tuple[list[M], bytearray]]:
    """
    Make the table run by run from all points in order, while they are few.

    Args:
        pointed: The members that have points, sorted by name, and how many.
        slots: The length of the table.
        starts: Gets slot 0 and all slots that have another owner than the slot before, ascending.
        high: Gets the uppermost byte of each point, member by member and seed by seed.
        low: Gets the byte below it.

    Returns:
        The table, and a 1 for each of *pointed* that owns a slot, else a 0.
    """
    shift = shift_of(slots)
    owner_of: dict[int, int] = {}
    at = len(high)
    # Backwards, so that of two equal points the name that sorts first is written last.
    for index in range(len(pointed) - 1, -1, -1):
        entry, count = pointed[index]
        points = list(map(xxh64, repeat(entry.name), range(count)))
        owner_of.update(dict.fromkeys(points, index))
        at -= count
        high[at : at + count], low[at : at + count] = upper_bytes(points)
        yield
    ordered = sorted(owner_of)
    yield

    def runs() -> Iterator[tuple[int, int]]:
        last = 0
        for point in ordered:
            end = (point >> shift) + 1
            # Else a lower point was in the same slot and has it.
            if end != last:
                yield end, owner_of[point]
            last = end

    members = [entry.member for entry, _ in pointed]
    return (yield from laying(runs(), members, slots, starts, _RUNS_PER_SLICE))


def laying(
    runs: Iterable[tuple[int, int]],
    members: Sequence[M],
    slots: int,
    starts: array[int] | None,
    per_slice: int,
) -> Generator[None, None, tuple[list[M], bytearray]]:
    """
    Make a table of the slots that follow each point, in slices.

    Args:
        runs: The slot after that of each point, ascending, and which of *members* has it.
        members: Those that have points, sorted by name.
        slots: The length of the table.
        starts: As in `_table_by_minima`.
        per_slice: How many runs are about 0.1 ms of work.

    Returns:
        The table, and a 1 for each of *members* that owns a slot, else a 0.
    """
    table: list[Any] = [None] * slots
    yield
    landed = bytearray(len(members))
    start, below = 0, -1
    for done, (end, index) in enumerate(runs, 1):
        table[start:end] = [members[index]] * (end - start)
        landed[index] = 1
        if starts is not None and index != below:
            starts.append(start)
        below, start = index, end
        if done % per_slice == 0:
            yield
    # Past the last point the first one follows.
    table[start:] = table[:1] * (slots - start)
    if starts is not None and start < slots and table[start] is not table[start - 1]:
        starts.append(start)
    return table, landed


def _table_by_minima(
    pointed: list[tuple[Entry[M], int]],
    slots: int,
    starts: array[int] | None,
    high: bytearray,
    low: bytearray,
) -> Generator[None, None, tuple[list[M], bytearray]]:
    """
    Make the table from the lowest point in each slot; a slot without one is as the next above.

    With many points this takes half as long as sorting them, and unlike a sort it can be sliced.

    Args:
        pointed: The members that have points, sorted by name, and how many.
        slots: The length of the table.
        starts: Gets slot 0 and all slots that have another owner than the slot before, ascending.
        high: Gets the uppermost byte of each point, member by member and seed by seed.
        low: Gets the byte below it.

    Returns:
        The table, and a 1 for each of *pointed* that owns a slot, else a 0.
    """
    shift = shift_of(slots)
    free = object()
    table: list[Any] = [free] * slots
    yield
    # No list: its integers would lie all over the memory, and take a millisecond to free.
    lowest = array("Q", [2**64 - 1]) * slots
    yield
    at = len(high)
    budget = _POINTS_PER_SLICE
    # Backwards, and what is equal replaces, so that of two equal points the name that sorts first stays.
    for entry, count in reversed(pointed):
        member = entry.member
        for first in range(0, count, _POINTS_PER_SLICE)[::-1]:
            seeds = range(first, min(first + _POINTS_PER_SLICE, count))
            points = list(map(xxh64, repeat(entry.name), seeds))
            at -= len(points)
            high[at : at + len(points)], low[at : at + len(points)] = upper_bytes(points)
            for point in points:
                slot = point >> shift
                if point <= lowest[slot]:
                    lowest[slot] = point
                    table[slot] = member
            budget -= len(seeds)
            if budget <= 0:
                budget = _POINTS_PER_SLICE
                yield
    del lowest
    yield

    # Whoever owns a slot has the lowest point in one; mostly the first few tries find it.
    landed = bytearray(len(pointed))
    for index, (entry, count) in enumerate(pointed):
        for seed in range(count):
            budget -= _TRY
            if table[xxh64(entry.name, seed) >> shift] is entry.member:
                landed[index] = 1
                break
        if budget <= 0:
            budget = _POINTS_PER_SLICE
            yield

    # Past the last point the first one follows.
    top = slots
    while table[top - 1] is free:
        top -= 1
    if starts is not None and top < slots:
        starts.append(top)
    above = below = table[top - 1]
    for start in range((top - 1) // _SLOTS_PER_SLICE * _SLOTS_PER_SLICE, -1, -_SLOTS_PER_SLICE):
        end = min(start + _SLOTS_PER_SLICE, top)
        filled = [
            above := (above if member is free else member) for member in reversed(table[start:end])
        ]
        if starts is not None:
            other = map(is_not, (below, *filled), filled)
            starts.extend(compress(range(end, start, -1), other))
            below = above
        filled.reverse()
        table[start:end] = filled
        yield
    table[top:] = table[:1] * (slots - top)
    if starts is not None:
        if top < slots and table[top] is table[top - 1]:
            del starts[0]
        starts.append(0)
        starts.reverse()
    return table, landed


def _hops(starts: array[int], slots: int) -> Generator[None, None, bytes]:
    """
    For each slot, the way to the next of *starts*, or 255 where it is longer.
    """
    hops = bytearray()
    for first in range(0, len(starts), _RUNS_PER_SLICE):
        ends = starts[first + 1 : first + _RUNS_PER_SLICE + 1]
        if first + _RUNS_PER_SLICE >= len(starts):
            ends.append(slots)
        for start, end in zip(starts[first : first + _RUNS_PER_SLICE], ends, strict=True):
            hops += hops_of(end - start)
        yield
    return bytes(hops)


def check_options(points: int, slots: int, name: object) -> None:
    """
    Raise unless these can be the options of a ring.
    """
    check_count(points, "points", most=MAX_POINTS)
    check_count(slots, "slots", most=MAX_SLOTS)
    if slots & (slots - 1):
        raise ConfigError(f"slots must be a power of two, got {slots}")
    if name is not None and not callable(name):
        raise TypeError(f"name must be a function of a member, not {type(name).__name__}")


def shift_of(slots: int) -> int:
    """
    How far a hash is shifted down to become the number of its slot.
    """
    return 65 - slots.bit_length()


def point_count(entry: Entry[Any], points: int) -> int:
    """
    How many points a member has on a ring that gives *points* to a member of weight 1.

    Raises:
        ConfigError: It would have more than 2**20.
    """
    if not entry.weight:
        return 0
    # The first test also keeps integers from overflowing a double.
    if entry.weight > MAX_POINTS or points * entry.weight > MAX_POINTS:
        raise ConfigError(
            f"{entry.name.decode()!r} would have {points} points times its weight {entry.weight}, "
            f"more than {MAX_POINTS}; divide all weights by the same number"
        )
    return max(1, floor(points * entry.weight + 0.5))
