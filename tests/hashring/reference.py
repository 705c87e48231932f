"""
The ring placement done slowly: straight from the rules in `knet.hashring.hash_ring`, sharing no code.
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
        balance: float | None = None,
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
        self.table = None if balance is None else self.levelled(weights, balance)

    def owner(self, slot: int) -> str:
        return self.first_point(slot) if self.table is None else self.table[slot]

    def first_point(self, slot: int) -> str:
        start = slot * 2**64 // self.slots
        found = bisect_left(self.circle, (start, b""))
        return self.circle[found % len(self.circle)][1].decode()

    def levelled(self, weights: Mapping[str, float], balance: float) -> list[str]:
        """
        The owners of all slots once nobody owns more than the limit.
        """
        table = [self.first_point(slot) for slot in range(self.slots)]
        total = 0.0
        for name in self.with_points:
            total = total + weights[name]
        limit = {}
        for name in self.with_points:
            share = self.slots * weights[name] / total
            limit[name] = min(self.slots, max(1, math.ceil(share), math.floor(balance * share)))

        to_the_end = [0] * self.slots
        for slot in reversed(range(self.slots - 1)):
            if table[slot] == table[slot + 1]:
                to_the_end[slot] = to_the_end[slot + 1] + 1
        owned: dict[str, list[int]] = {name: [] for name in self.with_points}
        for slot, name in enumerate(table):
            owned[name].append(slot)
        given_up = []
        for name, slots in owned.items():
            slots.sort(key=lambda slot: (to_the_end[slot], slot))
            given_up += slots[limit[name] :]
            del slots[limit[name] :]

        after = table.copy()
        for slot in sorted(given_up):
            for name in self.preference(table.__getitem__, slot):
                if len(owned[name]) < limit[name]:
                    owned[name].append(slot)
                    after[slot] = name
                    break
        return after

    def walk(self, key: bytes) -> Iterator[str]:
        return self.preference(self.owner, self.hash64(key, 0) * self.slots // 2**64)

    def preference(self, owner_of: Callable[[int], str], first: int) -> Iterator[str]:
        seen = []
        for step in range(self.slots):
            owner = owner_of((first + step) % self.slots)
            if owner not in seen:
                seen.append(owner)
                yield owner
            if len(seen) == len(self.with_points):
                break
        yield from (name for name in self.with_points if name not in seen)
