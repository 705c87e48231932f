"""
What the tests of the placements share: other hashes, and rings to compare.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st

from knet.hashring import HashRing, Member, hash_ring, hashing, tree
from knet.hashring import patch as patching
from knet.hashring.base import owners

M = TypeVar("M", bound=Hashable)

KEYS = [f"key-{number}" for number in range(300)]


def printed_with_hash_seeds(program: str) -> set[str]:
    """
    Return what *program* prints in processes with different hash seeds: one text, if they agree.
    """
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }


def use_hash(patch: pytest.MonkeyPatch, hash64: Callable[[bytes, int], int]) -> None:
    """
    Let placements hash with *hash64* in place of XXH64.
    """

    def hashed(data: bytes, seed: int = 0, /) -> int:
        return hash64(data, seed)

    for module in (hashing, hash_ring, patching, tree):
        patch.setattr(module, "xxh64", hashed)


def sixteenths(data: bytes, seed: int) -> int:
    """
    A hash to do in the head, for names that are numbers: (number + 5 * seed) sixteenths of the circle.
    """
    return (int(data) + 5 * seed) % 16 << 60


def few_bits(data: bytes, seed: int) -> int:
    """
    A hash with 32 values, all over the circle, so that points collide within and between members.
    """
    return (sum(data) * 7 + seed * 3) % 32 << 59


names = st.text(st.sampled_from("abcé☃🐍0"), min_size=1, max_size=3)
weights = st.sampled_from([0, 0.1, 0.5, 1, 1, 1, 2.5, 3])
members = st.builds(Member, names, weights)
keys = st.text(max_size=8)


def sets_of_members(min_size: int = 0) -> st.SearchStrategy[list[Member]]:
    return st.lists(members, min_size=min_size, max_size=8, unique_by=lambda member: member.name)


# Small rings, where slots are shared, empty, and too few for everybody.
points = st.integers(1, 20)
slots = st.sampled_from([1, 2, 4, 16, 64, 512])


def with_keys(some: Iterable[Member]) -> bool:
    return any(member.weight for member in some)


def parts_of(placement: Any) -> list[Any]:
    """
    Return who owns each equal part of the key space of a placement that has such parts.
    """
    parts = owners(placement)
    assert parts is not None
    return list(parts)


class ByRuns(HashRing[M]):
    """
    Sorts all points, however many there are.
    """

    _few_points = 10**9


class ByMinima(HashRing[M]):
    """
    Looks for the lowest point of each slot, however few there are.
    """

    _few_points = 0


class Hopping(HashRing[M]):
    """
    Hops over runs of slots, however short.
    """

    _slots_per_hop = 0


class Stepping(HashRing[M]):
    """
    Goes from slot to slot, however long the runs are.
    """

    _slots_per_hop = 10**9
