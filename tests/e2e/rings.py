"""
Pods to put behind a Service, rings that ask a test's CoreDNS, and waiting for what they show.

Time really passes in these tests, and none of them sleeps for a while and hopes: each waits for
what it wants to see, and fails when that takes unreasonably long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import anyio

from knet import Endpoint, RefreshPolicy, Resolver, Ring
from knet.hashring import HashRing

from .coredns import ZONE
from .fake_kube_api import Pod

__all__ = [
    "HTTP_PORTS",
    "KEYS",
    "QUICK",
    "WEB",
    "addresses",
    "asked",
    "deployment",
    "picks",
    "picks_of_addresses",
    "resolver_at",
    "ring_at",
    "rolling_update",
    "shown",
    "stateful_set",
    "until",
]

T = TypeVar("T")

WEB = f"web.prod.svc.{ZONE}"
KEYS = tuple(f"user:{n}" for n in range(1_000))

# The number and the name of one port.
HTTP_PORTS: tuple[int | str, ...] = (8080, "http")

QUICK = RefreshPolicy(interval=0.2, min_interval=0.05, retry=0.1, max_retry=0.5)


def deployment(count: int, *, start: int = 1) -> list[Pod]:
    """
    Return *count* pods as of a Deployment, from 10.1.0.1 on unless *start* says otherwise.
    """
    return [Pod(f"10.1.{n // 256}.{n % 256}") for n in range(start, start + count)]


def stateful_set(count: int) -> list[Pod]:
    """
    Return web-0 at 10.1.0.1, web-1 at 10.1.0.2 and so on.
    """
    return [Pod(pod.ipv4, hostname=f"web-{n}") for n, pod in enumerate(deployment(count))]


def rolling_update(old: Sequence[Pod], new: Sequence[Pod]) -> Iterator[list[Pod]]:
    """
    Yield what is behind a Service while a Deployment replaces *old* by *new*, as many, ready pods.

    As its controller does with the defaults: `maxSurge` 25 %, rounded up, and `maxUnavailable` 25 %,
    rounded down. New pods start out not ready, and old ones terminate for a while.
    """
    size = len(old)
    most, fewest = size + math.ceil(size / 4), size - size // 4
    old, ahead = list(old), list(new)
    starting: list[Pod] = []
    ready: list[Pod] = []
    leaving: list[Pod] = []
    while len(ready) < size or leaving:
        while old and len(old) + len(ready) > fewest:
            leaving.append(replace(old.pop(0), terminating=True))
        while ahead and len(old) + len(starting) + len(ready) < most:
            starting.append(replace(ahead.pop(0), ready=False))
        yield [*old, *ready, *starting, *leaving]
        if starting:
            ready.append(replace(starting.pop(0), ready=True))
            yield [*old, *ready, *starting, *leaving]
        del leaving[:1]
    yield ready


def addresses(found: Iterable[Endpoint] | Iterable[Pod]) -> set[str]:
    """
    Return the addresses of endpoints or of pods.
    """
    return {one.address for one in found}


def shown(ring: Ring) -> set[str]:
    return addresses(ring.snapshot.endpoints)


def picks(ring: Ring) -> list[Endpoint]:
    return [ring.get_nowait(key) for key in KEYS]


def picks_of_addresses(pods: Sequence[Pod]) -> list[str]:
    """
    Return who owns each key if *pods* are placed by address, with no DNS involved.
    """
    placement = HashRing([pod.address for pod in pods])
    return [placement.get(key) for key in KEYS]


class Server(Protocol):
    """
    A DNS server: a `CoreDNS`, or what stands in front of some.
    """

    @property
    def address(self) -> str:
        """
        Where it listens, as a nameserver is written.
        """
        ...


def resolver_at(server: Server, **options: Any) -> Resolver:
    """
    Return a resolver that asks *server*.
    """
    return Resolver(nameservers=[server.address], zone=ZONE, **options)


def ring_at(server: Server, service: str = WEB, **options: Any) -> Ring:
    """
    Return a ring that asks *server*, five times a second unless *options* say otherwise.
    """
    return Ring(service, **{"resolver": resolver_at(server), "refresh": QUICK, **options})


async def until(look: Callable[[], T], wanted: T, *, within: float = 20.0) -> None:
    """
    Return once *look* returns *wanted*; after *within* seconds, fail and show the difference.
    """
    with anyio.move_on_after(within):
        while True:
            if look() == wanted:
                return
            await anyio.sleep(0.005)
    assert look() == wanted


async def asked(ring: Ring, times: int = 1) -> None:
    """
    Return once *ring* has ended so many lookups that it had not begun yet.
    """
    # One more may be under way now, and the last of them is over when the next one begins.
    enough = ring.stats().lookups + times + 1
    await until(lambda: ring.stats().lookups >= enough, True)
