"""
What the benchmarks measure and against what: the same keys and members for knet and its peers.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import uhashring
import xxhash
from pymemcache.client.rendezvous import RendezvousHash

SIZES = (3, 10, 100, 1000)

_random = random.Random(20190222)
# 16 ASCII characters each, as a user id or a session id may be; more than stay in a cache line.
KEYS = [f"user-{_random.randrange(10**11):011d}" for _ in range(10_000)]

_xxh64 = xxhash.xxh64_intdigest


def names(count: int) -> list[str]:
    """
    The addresses of *count* pods.
    """
    return [f"10.244.{number // 250}.{number % 250 + 1}" for number in range(count)]


def floor(key: str) -> int:
    """
    The least that a lookup by a portable hash can do: encode and hash, in one Python call.
    """
    return _xxh64(key.encode())


def uhashring_get(count: int) -> Callable[[str], object]:
    """
    A uhashring with its defaults.
    """
    get: Callable[[str], object] = uhashring.HashRing(names(count)).get_node
    return get


def pymemcache_get(count: int) -> Callable[[str], object]:
    """
    The rendezvous hash of pymemcache with XXH64, many times faster than with its own murmur3.
    """

    def hash64(text: str, seed: int = 0) -> int:
        return _xxh64(text.encode(), seed)

    ring = RendezvousHash(names(count), hash_function=hash64)
    get: Callable[[str], object] = ring.get_node
    return get
