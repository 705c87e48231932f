"""
Where the points of a ring are, in few bytes, to find those in some slots without hashing them all.

Of each point the upper 16 bits are kept, in the order of members and seeds, so that a position says
whose it is; what the bits leave open is hashed again. They are two rows of bytes and no integers, since
CPython searches and maps bytes about as fast as memory is read.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence

from knet.hashring.steps import Steps

__all__ = ["Points", "upper_bytes"]

# About 0.1 ms of work.
_POINTS_PER_SEARCH = 2**14
# A search looks for so many slots at once, in eight groups. With more of them fewer searches are
# needed, and more of what they find is none of the slots.
_SLOTS_PER_SEARCH = 80
_GROUPS = 8

# Where the two upper bytes of a 64-bit integer are in memory.
_HIGH, _LOW = (7, 6) if sys.byteorder == "little" else (0, 1)
# 1 for whatever is not 0.
_ANY = bytes([0]) + bytes([1]) * 255


class Points:
    """
    The upper 16 bits of all points of a ring, member by member in the order of names, seed by seed.

    Attributes:
        high: The uppermost byte of each. Nobody writes to it.
        low: The byte below it.
        counts: How many points each member has, with those that have none.
    """

    __slots__ = ("counts", "high", "low")

    def __init__(self, high: bytearray, low: bytearray, counts: array[int]) -> None:
        self.high = high
        self.low = low
        self.counts = counts

    def places(self, slots: Sequence[int], bits: int) -> Steps[array[int]]:
        """
        Return where the points in *slots* are, of 2**bits, in order; there may be some others too.
        """
        places = array("Q")
        for begin in range(0, len(slots), _SLOTS_PER_SEARCH):
            # What is in the same group in both bytes has a bit left.
            of_high, of_low = bytearray(256), bytearray(256)
            for number, slot in enumerate(slots[begin : begin + _SLOTS_PER_SEARCH]):
                group = 1 << number % _GROUPS
                first = (slot << 16) >> bits
                last = (((slot + 1) << 16) - 1) >> bits
                for high in range(first >> 8, (last >> 8) + 1):
                    of_high[high] |= group
                is_within = first >> 8 == last >> 8
                for low in range(first & 255, (last & 255) + 1) if is_within else range(256):
                    of_low[low] |= group
            for start in range(0, len(self.high), _POINTS_PER_SEARCH):
                end = min(start + _POINTS_PER_SEARCH, len(self.high))
                high = int.from_bytes(self.high[start:end].translate(of_high), "little")
                low = int.from_bytes(self.low[start:end].translate(of_low), "little")
                hits = (high & low).to_bytes(end - start, "little").translate(_ANY)
                at = hits.find(1)
                while at >= 0:
                    places.append(start + at)
                    at = hits.find(1, at + 1)
                yield
        return places


def upper_bytes(points: Iterable[int]) -> tuple[bytes, bytes]:
    """
    Return the uppermost byte of each point, and the byte below it.
    """
    data = array("Q", points).tobytes()
    return data[_HIGH::8], data[_LOW::8]
