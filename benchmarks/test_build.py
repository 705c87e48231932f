"""
How long does it take to build a ring, and to change one by a member?

    pytest benchmarks/test_build.py --benchmark-group-by=param:count
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cases import PLACEMENTS, names
from benchmarks.peers import PEERS
from knet.hashring import BintreesTree, TreeRing

by_size = pytest.mark.parametrize("count", [10, 100, 1000])


@by_size
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_build(benchmark: Any, placement: str, count: int) -> None:
    make = PLACEMENTS[placement]
    members = names(count)

    benchmark(lambda: make(members))


@by_size
@pytest.mark.parametrize("peer", PEERS)
def test_build_of_a_peer(benchmark: Any, peer: str, count: int) -> None:
    build = PEERS[peer].build
    members = names(count)

    benchmark(lambda: build(members))


@by_size
def test_one_member_joins_and_leaves_a_tree_ring(benchmark: Any, count: int) -> None:
    ring = TreeRing[str](BintreesTree())
    for member in names(count):
        ring.add(member)

    def join_and_leave() -> None:
        ring.add("10.0.0.1")
        ring.remove("10.0.0.1")

    benchmark(join_and_leave)
