"""
The memberships that proxies are given: sizes, weights, ports and families that differ.

A server is a host, the slot of a port and a weight; which port a slot is, each run decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from knet import Endpoint

__all__ = ["HOSTS", "MEMBERSHIPS", "SLOTS", "Server", "endpoints", "listeners"]


class Server(NamedTuple):
    """
    Where a server listens, and its weight.
    """

    host: str
    slot: str = "a"
    weight: int = 1


IPV4 = tuple(f"127.0.0.{n}" for n in range(2, 13))
HOSTS = (*IPV4, "::1")
SLOTS = "abcd"


def _equal(count: int) -> tuple[Server, ...]:
    return tuple(Server(host) for host in IPV4[:count])


def _weighted(*weights: int) -> tuple[Server, ...]:
    return tuple(Server(host, "a", weight) for host, weight in zip(IPV4, weights, strict=False))


MEMBERSHIPS: Mapping[str, tuple[Server, ...]] = {
    "one": _equal(1),
    "three": _equal(3),
    "seven": _equal(7),
    "eleven": _equal(11),
    "seven_without_the_third": tuple(s for s in _equal(7) if s.host != IPV4[2]),
    "backwards": _equal(5)[::-1],
    "weights_1_2_3": _weighted(1, 2, 3),
    "weights_skewed": _weighted(1, 50, 3, 7, 100, 2),
    "mixed_ports": (
        Server(IPV4[0]),
        Server(IPV4[0], "b", 3),
        Server(IPV4[1], "b"),
        Server(IPV4[2], "c", 2),
    ),
    "ipv6": tuple(Server("::1", slot) for slot in SLOTS),
    "both_families": (
        Server("::1", "a", 2),
        Server(IPV4[0]),
        Server("::1", "c"),
        Server(IPV4[4], "d"),
    ),
}


def endpoints(servers: tuple[Server, ...], ports: Mapping[str, int]) -> list[Endpoint]:
    """
    The servers as endpoints, all of one name: proxies hash addresses.
    """
    return [Endpoint("pod", s.host, ports[s.slot], s.weight) for s in servers]


def listeners(ports: Mapping[str, int]) -> list[tuple[str, int]]:
    """
    Every host and port of any membership.
    """
    found = {(s.host, ports[s.slot]) for servers in MEMBERSHIPS.values() for s in servers}
    return sorted(found)
