"""
How long does it take to find the member of a key, beside hashing it, and beside other libraries?

    pytest benchmarks/test_get.py --benchmark-group-by=param:count
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from benchmarks.cases import KEYS, PLACEMENTS, SIZES, floor, names
from benchmarks.peers import PEERS
from knet.hashring import HashRing

by_size = pytest.mark.parametrize("count", SIZES)


def test_hashing_a_key(benchmark: Any) -> None:
    keys = itertools.cycle(KEYS)

    benchmark(lambda: floor(next(keys)))


@by_size
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_get(benchmark: Any, placement: str, count: int) -> None:
    get = PLACEMENTS[placement](names(count)).get
    keys = itertools.cycle(KEYS)

    benchmark(lambda: get(next(keys)))


@by_size
def test_get_of_a_bytes_key(benchmark: Any, count: int) -> None:
    get = HashRing(names(count)).get
    keys = itertools.cycle([key.encode() for key in KEYS])

    benchmark(lambda: get(next(keys)))


@by_size
def test_get_3_members(benchmark: Any, count: int) -> None:
    get_n = HashRing(names(count)).get_n
    keys = itertools.cycle(KEYS)

    benchmark(lambda: get_n(next(keys), 3))


@by_size
def test_get_of_10_000_keys_at_once(benchmark: Any, count: int) -> None:
    get_many = HashRing(names(count)).get_many

    benchmark(lambda: get_many(KEYS))


@by_size
@pytest.mark.parametrize("peer", PEERS)
def test_get_of_a_peer(benchmark: Any, peer: str, count: int) -> None:
    get = PEERS[peer].get(PEERS[peer].build(names(count)))
    keys = itertools.cycle(KEYS)

    benchmark(lambda: get(next(keys)))
