"""
`Rendezvous`: each key asks all members and goes to the one that bids the highest.

Pure: the same members, in any order, give the same picks in every process. This page is the whole
definition of the placement, ``rendezvous/1``; a client in another language that follows it agrees key
for key. It is known as highest random weight too; the weights are those of the logarithmic method of
Schindelhauer and Schomaker.

1. Members of weight 0 are left out.
2. A key is XXH64, seed 0, of its bytes, text as UTF-8: ``h``.
3. The bid of a member is XXH64 of its name as UTF-8, with ``h`` as the seed: ``b``.
4. With ``u = ((b >> 11) + 1) / 2**53``, a number above 0 and at most 1, its score is ``ln(u) / weight``, at
   most 0. (The order of these is that of ``-weight / ln(u)``.) They are compared as real numbers, not
   as doubles, to 50 digits.
5. The members are preferred in the order of their scores, highest first. Between equal scores the
   higher bid decides, and between equal bids the name that sorts first, by its UTF-8 bytes.

Where all weights are equal, this is the order of bids, and no logarithm is taken.

An example with the members a, b and c, of equal weight, bids cut to 16 bits:

    key     h      a      b      c      preferred
    alice   73a3   4984   4ea5   14ee   b a c

So when a member leaves only its keys move, each to the next in its order, and when one joins it only
receives, whatever the weights; and a change of one weight moves keys to or from that member alone.

Logarithms differ between C libraries in the last digit, which would let two machines disagree about a
key in some 10**15. So scores are compared as doubles only where they differ by more than any
library's error, and else as decimals, whose logarithm is rounded correctly everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import repeat
from math import fsum, log
from typing import TypeVar

from knet.errors import ConfigError
from knet.hashring.base import BasePlacement
from knet.hashring.hashing import encode_key, xxh64
from knet.hashring.placement import no_members, sorted_entries

__all__ = ["Rendezvous"]

M = TypeVar("M", bound=Hashable)

# About 0.1 ms of work.
_MEMBERS_PER_SLICE = 256

# As for other placements; it keeps integers from overflowing a double.
_MAX_WEIGHT = 2**32 - 1

# Two scores are told apart as doubles if one is more than this times the other: thousands of times the
# error of a bad logarithm.
_CLEARLY = 1 + 1e-12

# Nothing is left to the defaults, which a program may change. u has up to 53 digits.
_EXACT = Context(80, ROUND_HALF_EVEN, -999_999, 999_999, 1, 0, [], [])
_ROUNDED = Context(50, ROUND_HALF_EVEN, -999_999, 999_999, 1, 0, [], [])
_DENOMINATOR = Decimal(2**53)


class Rendezvous(BasePlacement[M]):
    """
    Rendezvous hashing: no table, even shares, no key moved without cause, time in proportion to members.

        >>> members = Rendezvous(["a", "b", "c"])
        >>> members.get_n("alice", 3)
        ('b', 'a', 'c')
        >>> members.replace(["a", "c"]).get_n("alice", 2)
        ('a', 'c')

    Immutable, hashable, and picklable if its members are (and `name`, where given). Without members it
    is legal and raises `NoEndpoints` when asked for a key.

    It is built in no time and a key's members are in a random order of their own, so that those of a
    leaver spread over all. But each `get` asks every member, about 0.05 us for each, several times that
    where weights differ: beyond ten or twenty members a `HashRing` or a `Maglev` is faster.

    Args:
        members: Strings, `Member`s, endpoints: anything hashable with a name, and a `weight` if that
            is not 1. The order does not matter.
        name: What of a member is hashed; by default a string itself, else its `name`.

    Raises:
        ConfigError: A name is given twice or empty, or a weight is out of range.
        TypeError: A member or its weight has the wrong type.
    """

    __slots__ = ("_able", "_names", "_weights")

    _algorithm = "rendezvous/1"

    # The members of any weight but 0, sorted by name, and their names.
    _able: tuple[M, ...]
    _names: tuple[bytes, ...]
    # Their weights, or None where all are equal.
    _weights: tuple[float, ...] | None

    def __init__(
        self, members: Iterable[M] = (), *, name: Callable[[M], str] | None = None
    ) -> None:
        self._begin(members, name=name)

    def get(self, key: str | bytes) -> M:
        return self._owner(xxh64(encode_key(key)))

    def share(self) -> dict[M, float]:
        """
        Return the share of the key space that each member has: that of its weight.

        It is what many keys come to; there is no table to count.
        """
        weights = [getattr(member, "weight", 1) for member in self._members]
        total = fsum(weights)
        return {
            member: weight / total if weight else 0.0
            for member, weight in zip(self._members, weights, strict=True)
        }

    def _has_keys(self) -> bool:
        return bool(self._able)

    def _owner(self, h: int) -> M:
        if not self._able:
            raise no_members(self._members)
        bids = list(map(xxh64, self._names, repeat(h)))
        if self._weights is None:
            # The first of equal ones, in the order of names.
            return self._able[bids.index(max(bids))]
        scores = _scores(bids, self._weights)
        best = max(scores)
        position = scores.index(best)
        scores[position] = float("-inf")
        if max(scores) < best * _CLEARLY:
            return self._able[position]
        return next(self._walk(h))

    def _walk(self, h: int) -> Iterator[M]:
        bids = list(map(xxh64, self._names, repeat(h)))
        # Sorting in reverse keeps equal ones in the order of names, too.
        if self._weights is None:
            order = sorted(range(len(bids)), key=bids.__getitem__, reverse=True)
        else:
            order = _order(bids, self._weights)
        return map(self._able.__getitem__, order)

    def _build(self, members: Iterable[M]) -> Generator[None, None, None]:
        """
        Fill in everything that depends on the members, in slices.
        """
        entries = yield from sorted_entries(members, self._name or self._default_name)
        self._members = tuple([entry.member for entry in entries])
        able: list[M] = []
        names: list[bytes] = []
        weights: list[float] = []
        # From the end on, so that what is read is let go of.
        while entries:
            for entry in reversed(entries[-_MEMBERS_PER_SLICE:]):
                if entry.weight > _MAX_WEIGHT:
                    raise ConfigError(
                        f"the weight of {entry.name.decode()!r} must be at most {_MAX_WEIGHT}, "
                        f"got {entry.weight}"
                    )
                if entry.weight:
                    able.append(entry.member)
                    names.append(entry.name)
                    weights.append(entry.weight)
            del entries[-_MEMBERS_PER_SLICE:]
            yield
        self._able = tuple(reversed(able))
        self._names = tuple(reversed(names))
        self._weights = tuple(reversed(weights)) if len(set(weights)) > 1 else None


def _scores(bids: list[int], weights: tuple[float, ...]) -> list[float]:
    return [
        log(((bid >> 11) + 1) * 2**-53) / weight for bid, weight in zip(bids, weights, strict=True)
    ]


def _order(bids: list[int], weights: tuple[float, ...]) -> list[int]:
    """
    Return the positions of members, the most preferred first.
    """
    scores = _scores(bids, weights)
    order = sorted(range(len(bids)), key=scores.__getitem__, reverse=True)
    first = 0
    for last in range(1, len(order) + 1):
        if last < len(order) and scores[order[last]] >= scores[order[last - 1]] * _CLEARLY:
            # Too close to call; neighbours of neighbours are compared too.
            continue
        if last - first > 1:
            close = sorted(order[first:last])
            close.sort(key=lambda at: (_exact(bids[at], weights[at]), bids[at]), reverse=True)
            order[first:last] = close
        first = last
    return order


def _exact(bid: int, weight: float) -> Decimal:
    """
    A score to 50 digits, alike on every machine.
    """
    u = _EXACT.divide(Decimal((bid >> 11) + 1), _DENOMINATOR)
    return _ROUNDED.divide(_EXACT.ln(u), Decimal(weight))
