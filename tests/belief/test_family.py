"""
IPv4 gone, IPv6 left.
"""

from __future__ import annotations

import pytest

from knet import Endpoint
from knet.belief.family import leaves_ipv4
from tests.fakes import A, B

SIX, SEVEN = Endpoint("six", "fd00::6"), Endpoint("seven", "fd00::7")


@pytest.mark.parametrize(
    ("believed", "named", "leaves"),
    [
        ((A, B), (SIX, SEVEN), True),
        ((A, B), (A, SIX), False),
        ((A, B), (A,), False),
        ((A, SIX), (SIX,), False),  # a set of both is somebody's own list
        ((SIX,), (SEVEN,), False),
        ((SIX,), (A,), False),
        ((), (SIX,), False),
    ],
)
def test_a_service_of_ipv4_does_not_become_one_of_ipv6(
    believed: tuple[Endpoint, ...], named: tuple[Endpoint, ...], leaves: bool
) -> None:
    assert leaves_ipv4(believed, named) is leaves
