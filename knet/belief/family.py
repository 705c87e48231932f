"""
IPv4 gone, IPv6 left.

A Service of both families whose IPv4 slice is missing for a moment answers with IPv6 alone, and to
believe it would move every key, twice. So that counts as saying that nothing is left, and is
believed as late.
"""

from __future__ import annotations

from knet.endpoint import Endpoint

__all__ = ["MOST_FAMILY_HOLD", "leaves_ipv4"]

# Seconds that it is held for, at most: "never empty" is not "never IPv6".
MOST_FAMILY_HOLD = 30.0


def leaves_ipv4(believed: tuple[Endpoint, ...], named: tuple[Endpoint, ...]) -> bool:
    """
    Are all that are *believed* at IPv4 addresses, and all that are *named* at IPv6 ones?
    """
    return (
        bool(believed)
        and ":" in named[0].address
        and all(":" in e.address for e in named)
        and not any(":" in e.address for e in believed)
    )
