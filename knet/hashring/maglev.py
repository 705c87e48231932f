"""
`Maglev`: a table of prime size in which the members take turns, so that all have their share exactly.

Pure: the same members, in any order, give the same table in every process. This page is the whole
definition of the placement, ``maglev/1``, which is Envoy's MAGLEV over the members' names; a client in
another language that follows it agrees key for key.

Inputs: members, each with a name and a weight, and `table_size` (65 537, a prime *M*). All arithmetic on
weights is that of IEEE doubles.

1. Members of weight 0 are left out; the others are sorted by the UTF-8 bytes of their names. Each has
   ``w = weight / sum of all weights``, the greatest of which is ``w_max``.
2. A member tries the slots ``(offset + skip * j) mod M`` for j = 0, 1, 2, ..., where ``offset`` is XXH64
   of its name, seed 0, modulo M, and ``skip`` is XXH64 of its name, seed 1, modulo M - 1, plus 1.
3. In rounds 1, 2, 3, ... each member in turn, unless ``round * w < target``, takes the first free slot
   of those that it has not tried yet, and adds ``w_max`` to its ``target``, 0 at first. This ends when all
   slots are taken.
4. A key is XXH64, seed 0, of its bytes, text as UTF-8: ``h``. It belongs to slot ``h mod M``.
5. The order of preference for a key: the owners of its slot, then of the slots of ``h xor (2**64 - 1)``,
   ``h xor (2**64 - 2)``, and so on, each member where it first appears.

An example with ``table_size=7`` and the members a, b and c, of equal weight:

    member   offset   skip   tries               takes
    a        6        1      6 0 1 2 3 4 5       6, then 0, then 2, as 1 is c's
    b        4        3      4 0 3 6 2 5 1       4, then 3, as 0 is a's
    c        1        2      1 3 5 0 2 4 6       1, then 5, as 3 is b's

    slot     0 1 2 3 4 5 6
    owner    a c a b b c a

"alice" hashes to 73a3ea485f2e6049, which is 0 modulo 7: a. After a she prefers c, then b.

No key moves without cause, but for a few: when a member leaves, the others take its slots in turns that
come out differently further down, so that some slots of theirs change hands too. That is less than 1 %
for up to a hundred members; `HashRing` and `Rendezvous` move none. In return shares are exact to a slot or
two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from itertools import count, cycle
from math import fsum, isqrt
from typing import Any, Final, TypeVar

from knet.errors import ConfigError
from knet.hashring.base import BasePlacement
from knet.hashring.hashing import encode_key, xxh64
from knet.hashring.placement import Entry, check_count, key_list, no_members, sorted_entries

__all__ = ["Maglev"]

M = TypeVar("M", bound=Hashable)

# Envoy's default, and the most that it accepts.
TABLE_SIZE = 65_537
MAX_TABLE_SIZE = 5_000_011
# Envoy's limit; it keeps integers from overflowing a double.
_MAX_WEIGHT = 2**32 - 1

# About 0.1 ms of work each.
_TRIES_PER_SLICE = 512
_SLOTS_PER_SEARCH = 4096
_SLOTS_PER_SLICE = 2**17


class Maglev(BasePlacement[M]):
    """
    A Maglev table: the most even shares, at the price of a few keys that move without cause.

        >>> maglev = Maglev(["a", "b", "c"])
        >>> maglev.get("alice")
        'c'
        >>> {member: round(share, 4) for member, share in maglev.share().items()}
        {'a': 0.3333, 'b': 0.3333, 'c': 0.3333}

    Immutable, hashable, and picklable if its members are (and `name`, where given); a pickle holds
    the members and builds the table again. Without members it is legal and raises `NoEndpoints` when
    asked for a key.

    A lookup takes as long as with a `HashRing`, a build longer: some 30 ms, in slices. There should be
    a hundred slots or more to a member. Each has at least one, unless there are more members than
    slots: then those that sort last have none, and no keys.

    Args:
        members: Strings, `Member`s, endpoints: anything hashable with a name, and a `weight` if that
            is not 1. The order does not matter.
        table_size: Slots, a prime up to 5 000 011.
        name: What of a member is hashed; by default a string itself, else its `name`.

    Raises:
        ConfigError: A name is given twice or empty, a weight is out of range, or *table_size* is not a
            prime in range.
        TypeError: A member, weight or option has the wrong type.
    """

    __slots__ = ("_owning", "_table", "_table_size")

    _algorithm = "maglev/1"
    _options = ("table_size",)

    # The owner of each slot: references to members, or none at all where no member has a weight.
    # Nobody writes to it.
    _table: list[M]
    # How many members own a slot.
    _owning: int

    def __init__(
        self,
        members: Iterable[M] = (),
        *,
        table_size: int = TABLE_SIZE,
        name: Callable[[M], str] | None = None,
    ) -> None:
        check_count(table_size, "table_size", most=MAX_TABLE_SIZE)
        if not _is_prime(table_size):
            raise ConfigError(f"table_size must be a prime number, got {table_size}")
        self._table_size = table_size
        self._begin(members, name=name)

    def get(self, key: str | bytes) -> M:
        # Whatever is not a text key and a table with members fails in this line, which costs nothing.
        try:
            return self._table[xxh64(key.encode()) % self._table_size]  # type: ignore[union-attr]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        return self._owner(xxh64(encode_key(key)))

    def get_many(self, keys: Iterable[str | bytes]) -> list[M]:
        # Takes about four fifths of the time of as many calls of `get`.
        keys = key_list(keys)
        table, size = self._table, self._table_size
        try:
            return [table[xxh64(key.encode()) % size] for key in keys]  # type: ignore[union-attr]
        except (AttributeError, IndexError, UnicodeEncodeError):
            pass
        return [self.get(key) for key in keys]

    def share(self) -> dict[M, float]:
        """
        Return the share of the key space that each member has, exactly; none is 0.0.

        Counts every slot, which takes some milliseconds.
        """
        slots = Counter(map(id, self._table))
        return {member: slots[id(member)] / self._table_size for member in self._members}

    @property
    def table_size(self) -> int:
        """
        Parts of the hash space.
        """
        return self._table_size

    def _parts(self) -> list[M]:
        return self._table

    def _has_keys(self) -> bool:
        return bool(self._table)

    def _owner(self, h: int) -> M:
        if not self._table:
            raise no_members(self._members)
        return self._table[h % self._table_size]

    def _walk(self, h: int) -> Iterator[M]:
        table, size = self._table, self._table_size
        last = table[h % size]
        seen = {id(last)}
        yield last
        # Of `size` or more numbers in a row, as these are but for their order, no remainder is
        # missing, hence no slot and no owner.
        mask = 2**64
        while len(seen) < self._owning:
            mask -= 1
            member = table[(h ^ mask) % size]
            if member is not last and id(member) not in seen:
                seen.add(id(member))
                yield member
            last = member

    def _weights(self, entries: list[Entry[M]]) -> list[float]:
        """
        Return the weight of each of *entries*, checked.
        """
        for entry in entries:
            if entry.weight > _MAX_WEIGHT:
                raise ConfigError(
                    f"the weight of {entry.name.decode()!r} must be at most {_MAX_WEIGHT}, "
                    f"got {entry.weight}"
                )
        return [entry.weight for entry in entries]

    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        """
        Fill in everything that depends on the members, in slices.
        """
        entries = yield from sorted_entries(members, self._name or self._default_name)
        self._members = tuple([entry.member for entry in entries])
        self._table = []
        self._owning = 0
        weights = self._weights(entries)
        # Rounded once, so that the order of the members does not show in it.
        total = fsum(weights)
        yield
        if total:
            placed = [
                (entry, weight / total)
                for entry, weight in zip(entries, weights, strict=True)
                if weight
            ]
            yield
            self._table, self._owning = yield from _table(placed, self._table_size)


def _table(
    placed: list[tuple[Entry[M], float]], size: int
) -> Generator[None, None, tuple[list[M], int]]:
    """
    Let the members take their slots; return the table and how many members own a slot.

    Args:
        placed: The members with their shares, sorted by name.
        size: The length of the table, a prime.
    """
    owners = [entry.member for entry, _ in placed]
    free: Final = object()
    # Any, for the slots that are nobody's yet.
    table: list[Any] = []
    first: object = owners[0] if len(owners) == 1 else free
    while len(table) < size:
        table += [first] * min(_SLOTS_PER_SLICE, size - len(table))
        yield
    if len(owners) == 1:
        return table, 1

    at: list[int] = []
    skips: list[int] = []
    for low in range(0, len(placed), _TRIES_PER_SLICE):
        for entry, _ in placed[low : low + _TRIES_PER_SLICE]:
            at.append(xxh64(entry.name) % size)
            skips.append(xxh64(entry.name, 1) % (size - 1) + 1)
        yield

    takers = _takers([share for _, share in placed], size)
    # While there are many free slots, trying finds one soon. When few are left it is faster to look
    # which of them a member tries first: M being prime, `skip` has an inverse.
    few = isqrt(size)
    left = size
    budget = _TRIES_PER_SLICE
    while left > few:
        member = next(takers)
        slot, skip = at[member], skips[member]
        while table[slot] is not free:
            slot += skip
            if slot >= size:
                slot -= size
        table[slot] = owners[member]
        at[member] = slot
        # As many tries as it took on average, and the rest of the work.
        budget -= 1 + size // left
        left -= 1
        if budget <= 0:
            budget = _TRIES_PER_SLICE
            yield

    rest: list[int] = []
    for low in range(0, size, _SLOTS_PER_SEARCH):
        high = min(low + _SLOTS_PER_SEARCH, size)
        rest += [slot for slot in range(low, high) if table[slot] is free]
        yield
    while rest:
        member = next(takers)
        # What it has tried it tries last.
        tried, inverse = at[member], pow(skips[member], -1, size)
        tries = [(slot - tried) * inverse % size for slot in rest]
        slot = rest.pop(tries.index(min(tries)))
        table[slot] = owners[member]
        at[member] = slot
        budget -= 1 + len(tries)
        if budget <= 0:
            budget = _TRIES_PER_SLICE
            yield
    return table, min(len(owners), size)


def _takers(shares: list[float], size: int) -> Iterator[int]:
    """
    Who takes a slot, without end: positions in *shares*, round by round.

    Most members sit most rounds out when weights differ much, so that each notes down its next one.
    """
    most = max(shares)
    # ``round * w_max`` is below the sum of as many fewer of them only by rounding errors, which take
    # some 10**8 rounds to add up to a share: whoever has the most takes part in every round.
    always = [position for position, share in enumerate(shares) if share == most]
    if len(always) == len(shares):
        return cycle(always)
    return _rounds(shares, most, always, size)


def _rounds(shares: list[float], most: float, always: list[int], size: int) -> Iterator[int]:
    targets = [0.0] * len(shares)
    others = [position for position, share in enumerate(shares) if share != most]
    due = {1: others}
    for turn in count(1):
        others = due.pop(turn, [])
        for position in sorted(always + others) if others else always:
            yield position
            share = shares[position]
            if share == most:
                continue
            target = targets[position] = targets[position] + most
            # There are at most as many rounds as slots; dividing by less could overflow.
            if share * size < target:
                continue
            following = max(turn + 1, int(target / share) - 1)
            while following * share < target:
                following += 1
            due.setdefault(following, []).append(position)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))
