"""
A change of a table of slots that costs what changes, not what the table holds.

`HashRing.replace` comes here when few members come or go. The rules of `knet.hashring.hash_ring` say
what has to come of it: what a build from nothing would give, slot for slot.

A slot belongs to the lowest point in it, or where it has none, to that of the next slot that has one.
So a joiner takes, for each of its points that is the lowest in its slot, that slot and the empty ones
below it. A leaver gives up the slots that it won; each goes to the lowest of the points left in it, and
where none is left, joins the empty ones below the next. For both one must know where the points of
others are, which `Points` tells.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, repeat
from typing import Generic, TypeVar

from knet.hashring.hashing import xxh64
from knet.hashring.placement import Entry, Member, in_order
from knet.hashring.points import Points, upper_bytes
from knet.hashring.steps import Steps

__all__ = ["Difference", "Patch", "difference", "hops_of"]

M = TypeVar("M", bound=Hashable)

# About 0.1 ms of work each.
_POINTS_PER_SLICE = 64
_SLOTS_PER_SLICE = 64
_MEMBERS_PER_SLICE = 2048
_BYTES_PER_SLICE = 2**19

# Members of these types are interchangeable if they are equal; of others one may know more than `==`.
_VALUES = (str, Member)
# The hops from the last 255 slots of a run to the next one; from further back a hop is 255 slots.
_HOPS = bytes(range(255, 0, -1))


def hops_of(length: int) -> bytes:
    """
    Return the hops of a run: how many slots on each slot looks for another owner, 255 at most.
    """
    return _HOPS[-length:] if length <= 255 else b"\xff" * (length - 255) + _HOPS


@dataclass(frozen=True, slots=True)
class Difference(Generic[M]):
    """
    How the members of a ring become others.

    Attributes:
        swapped: The old and the new of those that have the same name and as many points.
        gone: Those that leave.
        come: Those that join, with how many points. Who gets more points or fewer leaves and joins.
        total: How many points there are then.
    """

    swapped: tuple[tuple[M, M], ...]
    gone: tuple[M, ...]
    come: tuple[tuple[M, int], ...]
    total: int


def difference(
    before: Sequence[M],
    after: Sequence[M],
    counts: Sequence[int],
    *,
    name: Callable[[M], str],
    count_of: Callable[[Entry[M]], int],
    most: int,
) -> Steps[Difference[M] | None]:
    """
    Compare the members of a ring with others, reading only those that differ.

    Args:
        before: Sorted by name.
        after: In any order.
        counts: How many points each of *before* has.
        name: What of a member is hashed.
        count_of: How many points a member has.
        most: How many changes a patch is worth, a leave counting as two.

    Returns:
        None where there are more, nobody stays who has points, or a name is given twice: who builds from
        nothing says so.

    Raises:
        ConfigError: One of those that differ has no proper name or weight.
        TypeError: The same.
    """
    known = yield from _identities(before)
    new = yield from _not_among(known, after)
    if any(member.__class__ in _VALUES for member in new):
        equal = dict(zip(before, before, strict=True))
        yield
        after = [equal.get(m, m) if m.__class__ in _VALUES else m for m in after]
        yield
        new = yield from _not_among(known, after)
    here = yield from _identities(after)
    gone = yield from _not_among(here, before)
    if len(here) < len(after) or len(new) + 2 * len(gone) > most:
        return None
    entries = yield from in_order(new, name)
    if len({entry.name for entry in entries}) < len(entries):
        return None

    def place_of(text: bytes) -> int:
        return bisect_left(before, text, key=lambda member: name(member).encode())

    left = {text: place_of(text) for text in [name(member).encode() for member in gone]}
    swapped: list[tuple[M, M]] = []
    come: list[tuple[M, int]] = []
    for entry in entries:
        count, number = count_of(entry), left.get(entry.name)
        if number is not None and counts[number] == count:
            swapped.append((before[number], entry.member))
            del left[entry.name]
            continue
        if number is None:
            place = place_of(entry.name)
            if place < len(before) and name(before[place]).encode() == entry.name:
                return None
        come.append((entry.member, count))
    yield
    stay = sum(counts) - sum([counts[number] for number in left.values()])
    if not stay:
        return None
    total = stay + sum([count for _, count in come])
    return Difference(
        tuple(swapped), tuple([before[number] for number in left.values()]), tuple(come), total
    )


def _identities(members: Sequence[M]) -> Steps[set[int]]:
    found: set[int] = set()
    for first in range(0, len(members), _MEMBERS_PER_SLICE):
        found.update(map(id, members[first : first + _MEMBERS_PER_SLICE]))
        yield
    return found


def _not_among(identities: set[int], members: Sequence[M]) -> Steps[list[M]]:
    found: list[M] = []
    for first in range(0, len(members), _MEMBERS_PER_SLICE):
        some = members[first : first + _MEMBERS_PER_SLICE]
        found += [member for member in some if id(member) not in identities]
        yield
    return found


def _copied(data: bytearray) -> Steps[bytearray]:
    """
    Copy *data* in steps: what is written to for the first time takes long.
    """
    copy = bytearray(len(data))
    with memoryview(data) as view:
        for first in range(0, len(data), _BYTES_PER_SLICE):
            copy[first : first + _BYTES_PER_SLICE] = view[first : first + _BYTES_PER_SLICE]
            yield
    return copy


class Patch(Generic[M]):
    """
    A table that is being changed, and all that must stay true of it.

    After `begin` members change by `swap`, `leave` and `join`, in this order; then `finish` brings the
    rest in order.

    Attributes:
        table: The owner of each slot.
        hops: For each slot how far on to look for another owner, or None.
        members: All of them, sorted by name.
        landless: Those that have points and own no slot, sorted by name.
        points: Where all points lie.
    """

    def __init__(
        self,
        table: list[M],
        hops: bytes | None,
        members: Sequence[M],
        landless: Iterable[M],
        points: Points,
        name: Callable[[M], str],
    ) -> None:
        self.table = table
        self.hops = None if hops is None else bytearray(hops)
        self.members = list(members)
        self.landless = tuple(landless)
        self.points = points
        self._name = name
        self._names: dict[int, bytes] = {}
        self._shift = 65 - len(table).bit_length()
        self._bits = 64 - self._shift
        # Of all members, those that come are after those that were: who has which number, and where its
        # points begin and end.
        self._all = self.members.copy()
        self._numbers: dict[int, int] = {}
        self._ends = array("Q")
        self._high = points.high
        self._low = points.low
        self._gone: set[int] = set()
        self._come: list[int] = []
        # By identity: who has slots more than before, and who has fewer.
        self._gainers: set[int] = set()
        self._losers: dict[int, M] = {}

    def begin(self) -> Steps[None]:
        """
        Copy what will change.
        """
        self.table = self.table.copy()
        yield
        for first in range(0, len(self.members), _MEMBERS_PER_SLICE):
            some = self.members[first : first + _MEMBERS_PER_SLICE]
            self._numbers.update(zip(map(id, some), count(first), strict=False))
            yield
        self._ends = array("Q", accumulate(self.points.counts, initial=0))
        yield
        self._high = yield from _copied(self._high)
        self._low = yield from _copied(self._low)

    def swap(self, old: M, new: M) -> Steps[None]:
        """
        Put *new* in the place of *old*, which has the same name and as many points.
        """
        number = self._numbers.pop(id(old))
        self._numbers[id(new)] = number
        self._all[number] = self.members[number] = new
        self.landless = tuple([new if each is old else each for each in self.landless])
        name = self._name_of(new)
        table = self.table
        size = self._ends[number + 1] - self._ends[number]
        for first in range(0, size, _POINTS_PER_SLICE):
            for seed in range(first, min(first + _POINTS_PER_SLICE, size)):
                slot = xxh64(name, seed) >> self._shift
                # Down the whole run; past slot 0 the top follows.
                while table[slot] is old:
                    table[slot] = new
                    slot -= 1
            yield

    def leave(self, leavers: Collection[M]) -> Steps[None]:
        """
        Take *leavers* out; somebody who has points stays.
        """
        won: dict[int, M] = {}
        for member in leavers:
            number = self._numbers[id(member)]
            self._gone.add(number)
            name = self._name_of(member)
            size = self._ends[number + 1] - self._ends[number]
            for first in range(0, size, _POINTS_PER_SLICE):
                for seed in range(first, min(first + _POINTS_PER_SLICE, size)):
                    slot = xxh64(name, seed) >> self._shift
                    if self.table[slot] is member:
                        won[slot] = member
                yield
        if not won:
            return
        heirs = yield from self._heirs(won)
        slots = sorted(won, reverse=True)
        # Downwards, so that who has the next slot is known. The first one is such that it is.
        left = set(map(id, leavers))
        begin = next(
            place
            for place, slot in enumerate(slots)
            if slot in heirs or id(self.table[(slot + 1) % len(self.table)]) not in left
        )
        for done, slot in enumerate(slots[begin:] + slots[:begin], 1):
            if (heir := heirs.get(slot)) is not None:
                owner = heir
                self._gainers.add(id(owner))
            else:
                owner = self.table[(slot + 1) % len(self.table)]
            self._give(slot, *self._reach(slot), owner)
            if done % _SLOTS_PER_SLICE == 0:
                yield

    def join(self, member: M, size: int) -> Steps[None]:
        """
        Let *member* in, whose name nobody has, with so many points.
        """
        name = self._name_of(member)
        number = len(self._all)
        lowest: dict[int, int] = {}
        for first in range(0, size, _POINTS_PER_SLICE):
            seeds = range(first, min(first + _POINTS_PER_SLICE, size))
            points = list(map(xxh64, repeat(name), seeds))
            high, low = upper_bytes(points)
            self._high += high
            self._low += low
            for point in points:
                slot = point >> self._shift
                lowest[slot] = min(point, lowest.get(slot, point))
            yield
        self._all.append(member)
        self._numbers[id(member)] = number
        self._ends.append(len(self._high))
        self._come.append(number)
        if size:
            self._losers[id(member)] = member
        for done, (slot, point) in enumerate(lowest.items(), 1):
            owner = self.table[slot]
            if owner is not member:
                start, own = self._reach(slot)
                rivals = [other for other in own if other >> self._shift == slot] if own else own
                if not rivals or (point, name) < (min(rivals), self._name_of(owner)):
                    self._losers[id(owner)] = owner
                    self._give(slot, start, own, member)
            if done % _SLOTS_PER_SLICE == 0:
                yield

    def finish(self) -> Steps[None]:
        """
        Bring everything in order: who has no slot, and the points by name.
        """
        gone = {id(self._all[number]) for number in self._gone}
        landless = {
            id(each): each
            for each in self.landless
            if id(each) not in gone and id(each) not in self._gainers
        }
        for done, (identity, member) in enumerate(self._losers.items(), 1):
            if identity not in gone and not self._lands(member):
                landless[identity] = member
            if done % _SLOTS_PER_SLICE == 0:
                yield
        self.landless = tuple(sorted(landless.values(), key=self._name_of))
        counts = self.points.counts[:]
        high, low = self._high, self._low
        pieces = {}
        for number in self._come:
            start, end = self._ends[number], self._ends[number + 1]
            pieces[number] = high[start:end], low[start:end]
        known = self._ends[len(self.members)]
        del high[known:], low[known:]
        yield
        # From the end on, so that what is before keeps its place; who leaves before who comes there.
        edits = [(number, b"", -1) for number in self._gone]
        for number in self._come:
            name = self._name_of(self._all[number])
            edits.append((bisect_right(self.members, name, key=self._name_of), name, number))
        edits.sort(key=lambda edit: (edit[0], edit[2] < 0, edit[1]), reverse=True)
        for place, _, number in edits:
            start = self._ends[place]
            if number < 0:
                end = self._ends[place + 1]
                del self.members[place], counts[place], high[start:end], low[start:end]
            else:
                more_high, more_low = pieces[number]
                self.members.insert(place, self._all[number])
                counts.insert(place, len(more_high))
                high[start:start] = more_high
                low[start:start] = more_low
            yield
        self.points = Points(high, low, counts)
        yield

    def _name_of(self, member: M) -> bytes:
        name = self._names.get(id(member))
        if name is None:
            name = self._names[id(member)] = self._name(member).encode()
        return name

    def _points_within(self, member: M, first: int, last: int) -> list[int]:
        """
        Return the points of *member* in the slots from *first* to before *last*.
        """
        number = self._numbers[id(member)]
        start, end = self._ends[number], self._ends[number + 1]
        name, find, shift, bits = self._name_of(member), self._high.find, self._shift, self._bits
        found: list[int] = []
        for high in range((first << 8) >> bits, ((last << 8) - 1 >> bits) + 1):
            at = find(high, start, end)
            while at >= 0:
                point = xxh64(name, at - start)
                if first <= point >> shift < last:
                    found.append(point)
                at = find(high, at + 1, end)
        return found

    def _lands(self, member: M) -> bool:
        """
        Whether *member* owns a slot: then it has the lowest point in one.
        """
        name = self._name_of(member)
        number = self._numbers[id(member)]
        table, shift = self.table, self._shift
        for seed in range(self._ends[number + 1] - self._ends[number]):
            if table[xxh64(name, seed) >> shift] is member:
                return True
        return False

    def _heirs(self, won: Collection[int]) -> Steps[dict[int, M]]:
        """
        Return who has the lowest of the points left in each slot of *won*, where there are any.
        """
        # A slot by the part of it that `Points` knows, and a prefix of 16 bits by the same part.
        narrow, wide = max(0, 16 - self._bits), max(0, self._bits - 16)
        wanted = {slot >> wide for slot in won}
        lowest: dict[int, tuple[int, bytes]] = {}
        heirs: dict[int, M] = {}
        places = yield from self.points.places(sorted(won), self._bits)
        for done, place in enumerate(places, 1):
            if (self._high[place] << 8 | self._low[place]) >> narrow in wanted:
                number = bisect_right(self._ends, place) - 1
                if number not in self._gone:
                    member = self._all[number]
                    name = self._name_of(member)
                    point = xxh64(name, place - self._ends[number])
                    slot = point >> self._shift
                    if slot in won and (slot not in lowest or (point, name) < lowest[slot]):
                        lowest[slot] = point, name
                        heirs[slot] = member
            if done % _SLOTS_PER_SLICE == 0:
                yield
        return heirs

    def _reach(self, slot: int) -> tuple[int, list[int]]:
        """
        Return the first slot of the run that *slot* is in, and the points of its owner up to *slot*.
        """
        low = self._run_down_from(slot)
        return low, self._points_within(self.table[slot], low, slot + 1)

    def _give(self, slot: int, low: int, own: Sequence[int], owner: M) -> None:
        """
        Give *slot*, and the empty ones below that follow it, to *owner*.

        Args:
            slot: It has a point, of whomever.
            low: Where the run begins that it is in.
            own: The points that the owner so far has from there to *slot*.
            owner: Who gets it.
        """
        table = self.table
        before, top = table[slot], len(table)
        below = [point for point in own if point >> self._shift < slot] if own else own
        if below:
            low = (max(below) >> self._shift) + 1
        elif not low and table[-1] is before:
            # Past slot 0 the top follows.
            top = max(slot + 1, self._run_down_from(top - 1))
            if above := self._points_within(before, top, len(table)):
                top = (max(above) >> self._shift) + 1
            self._assign(top, len(table), owner)
        self._assign(low, slot + 1, owner)

    def _run_down_from(self, slot: int) -> int:
        """
        Return the first slot of the run that *slot* is in.
        """
        if self.hops is not None:
            # The last slot of the run before hops 1.
            return self.hops.rfind(1, 0, slot) + 1
        owner = self.table[slot]
        while slot and self.table[slot - 1] is owner:
            slot -= 1
        return slot

    def _assign(self, low: int, high: int, owner: M) -> None:
        """
        Let *owner* have the slots from *low* to before *high*, which are part of one run.
        """
        table, hops = self.table, self.hops
        if low == high:
            return
        table[low:high] = [owner] * (high - low)
        if hops is None:
            return
        # The last slot of a run hops 1.
        start = hops.rfind(1, 0, low) + 1
        end = hops.find(1, high - 1) + 1
        if start < low:
            hops[start:low] = hops_of(low - start)
            start = low
        elif low and table[low - 1] is owner:
            start = hops.rfind(1, 0, low - 1) + 1
        if end == high and high < len(table) and table[high] is owner:
            end = hops.find(1, high) + 1
        elif end > high:
            end = high
        hops[start:end] = hops_of(end - start)
