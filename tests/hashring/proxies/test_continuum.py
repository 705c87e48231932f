"""
The continuum, with points and hashes that can be done in the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet.endpoint import Endpoint
from knet.hashring.placement import Entry
from knet.hashring.proxies.continuum import Continuum, address_of


def _number(key: bytes) -> int:
    return int(key)


class Numbers(Continuum[str]):
    """
    Points are what members are called, with "/" between them, and keys are numbers, all of 8 bits.
    """

    __slots__ = ()

    hash_bits = 8
    _algorithm = "numbers/1"

    def __init__(self, members: Iterable[str] = ()) -> None:
        self._begin(members, name=None, key_hash=_number)

    def _points(self, entries: list[Entry[str]]) -> Iterator[tuple[int, list[int]]]:
        for position, entry in enumerate(entries):
            for point in entry.name.split(b"/"):
                yield position, [int(point)] if point != b"-" else []


def test_a_key_belongs_to_the_first_point_at_or_after_it() -> None:
    """
    And past the last point to the first one.
    """
    ring = Numbers(["10/200", "20/100"])

    assert [ring.get(str(h)) for h in (0, 10, 11, 20, 21, 100, 101, 200, 201, 255)] == [
        *("10/200", "10/200", "20/100", "20/100", "20/100"),
        *("20/100", "10/200", "10/200", "10/200", "10/200"),
    ]
    assert ring.get_hash(11 << 56) == "20/100"
    assert ring.get_hash((11 << 56) - 1) == "10/200"
    assert ring.share() == {"10/200": (10 + 100 + 56) / 256, "20/100": 90 / 256}


def test_preference_is_the_order_of_points() -> None:
    """
    Each member where it first appears, past the last point too.
    """
    ring = Numbers(["10", "20/40", "30/50"])

    assert ring.get_n("15", 3) == ("20/40", "30/50", "10")
    assert ring.get_n("45", 3) == ("30/50", "10", "20/40")
    assert ring.get_n("51", 2) == ("10", "20/40")


def test_of_equal_points_the_one_given_first_stays() -> None:
    """
    Whose points are all taken has no keys.
    """
    assert Numbers(["7/9", "9"]).get("9") == "7/9"
    assert Numbers(["9", "7/9"]).get("9") == "9"

    ring = Numbers(["7/9", "9", "-"])
    assert ring.get_n("8", 3) == ("7/9",)
    assert ring.share() == {"7/9": 1.0, "9": 0.0, "-": 0.0}


points = st.lists(st.integers(0, 255), min_size=1, max_size=40)


@given(st.lists(points, min_size=1, max_size=6))
def test_a_scan_of_all_points_agrees(several: list[list[int]]) -> None:
    """
    The index, the search and the groups that points are sorted in make no difference.
    """
    names = list(dict.fromkeys("/".join(map(str, each)) for each in several))
    circle: dict[int, str] = {}
    for name in names:
        for point in name.split("/"):
            circle.setdefault(int(point), name)
    ring = Numbers(names)

    for h in range(256):
        turn = sorted(circle, key=lambda point: (point < h, point))
        walk = tuple(dict.fromkeys(circle[point] for point in turn))
        assert ring.get(str(h)) == ring.get_hash(h << 56) == walk[0]
        assert ring.get_n(str(h), 9) == walk


@pytest.mark.parametrize(
    ("member", "address"),
    [
        ("a", "a"),
        (Endpoint("web-0", "10.0.0.1", 8080), "10.0.0.1:8080"),
        (Endpoint("web-0", "fd00::1", 8080), "[fd00::1]:8080"),
        (Endpoint("web-0", "10.0.0.1"), "10.0.0.1"),
    ],
)
def test_what_proxies_hash_of_a_member(member: Any, address: str) -> None:
    """
    Where to connect, not what it is called.
    """
    assert address_of(member) == address
