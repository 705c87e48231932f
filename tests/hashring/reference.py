"""
The ring placement done slowly: straight from the rules in `knet.hashring.ring`, sharing no code.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

import xxhash


def xxh64(data: bytes, seed: int = 0) -> int:
    return xxhash.xxh64(data, seed=seed).intdigest()


class ReferenceRing:
    """
    A sorted list of points, searched once for every slot that is asked about.

    Args:
        weights: The weight of each name.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        points: int = 160,
        slots: int = 65_536,
        hash64: Callable[[bytes, int], int] = xxh64,
    ) -> None:
        self.slots = slots
        self.hash64 = hash64
        self.with_points = sorted(
            (name for name, weight in weights.items() if weight > 0), key=str.encode
        )
        self.circle = sorted(
            (hash64(name.encode(), i), name.encode())
            for name in self.with_points
            for i in range(max(1, math.floor(points * weights[name] + 0.5)))
        )

    def owner(self, slot: int) -> str:
        start = slot * 2**64 // self.slots
        found = bisect_left(self.circle, (start, b""))
        return self.circle[found % len(self.circle)][1].decode()

    def walk(self, key: bytes) -> Iterator[str]:
        first = self.hash64(key, 0) * self.slots // 2**64
        seen = []
        for step in range(self.slots):
            owner = self.owner((first + step) % self.slots)
            if owner not in seen:
                seen.append(owner)
                yield owner
            if len(seen) == len(self.with_points):
                break
        yield from (name for name in self.with_points if name not in seen)
