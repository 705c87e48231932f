"""
What the benchmarks measure: the same keys and members for knet and its peers, and the placements of knet.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any

import xxhash

from knet.hashring import HashRing, Maglev, Rendezvous
from knet.hashring.proxies import (
    EnvoyMaglev,
    EnvoyRing,
    GrpcRing,
    HAProxyRing,
    Ketama,
    NginxRing,
    PymemcacheRendezvous,
)

SIZES = (3, 10, 100, 1000)

_random = random.Random(20190222)
# 16 ASCII characters each, as a user id or a session id may be; more than stay in a cache line.
KEYS = [f"user-{_random.randrange(10**11):011d}" for _ in range(10_000)]

_xxh64 = xxhash.xxh64_intdigest

# Everything in knet that places keys on members. The proxies' placements hash "ip:port" by default;
# here they hash the same names as the others, so that all have the same work.
PLACEMENTS: dict[str, Callable[[Iterable[Hashable]], Any]] = {
    "HashRing": HashRing,
    "HashRing, 512 points": partial(HashRing, points=512),
    "HashRing, balance=1.1": partial(HashRing, balance=1.1),
    "HashRing, 2**18 slots": partial(HashRing, slots=2**18),
    "Maglev": Maglev,
    "Rendezvous": Rendezvous,
    "EnvoyRing": EnvoyRing,
    "EnvoyMaglev": EnvoyMaglev,
    "GrpcRing": GrpcRing,
    "NginxRing": NginxRing,
    "HAProxyRing": HAProxyRing,
    "Ketama": Ketama,
    "PymemcacheRendezvous": PymemcacheRendezvous,
}
# The ones that ask all members for each key.
ASK_ALL = {"Rendezvous", "PymemcacheRendezvous"}


def names(count: int, family: int = 0) -> list[str]:
    """
    The addresses of *count* pods; those of different families, 0 to 255, have none in common.
    """
    return [f"10.{244 ^ family}.{number // 250}.{number % 250 + 1}" for number in range(count)]


def floor(key: str) -> int:
    """
    The least that a lookup by a portable hash can do: encode and hash, in one Python call.
    """
    return _xxh64(key.encode())


def calls(function: Callable[[str], object], keys: Sequence[str]) -> Callable[[], float]:
    """
    Time *function* for each of *keys*: a loop and a call are part of every such case.
    """

    def run() -> float:
        started = time.thread_time()
        for key in keys:
            function(key)
        return (time.thread_time() - started) / len(keys)

    return run
