"""
Pods to put behind a Service, rings that ask a test's CoreDNS, and waiting for what they show.

Time really passes in these tests, and none of them sleeps for a while and hopes: each waits for
what it wants to see, and fails when that takes unreasonably long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import anyio

from knet import Endpoint, RefreshPolicy, Resolver, Ring

from .coredns import ZONE, CoreDNS
from .fake_kube_api import Pod

__all__ = [
    "HTTP_PORTS",
    "KEYS",
    "QUICK",
    "WEB",
    "addresses",
    "deployment",
    "resolver_at",
    "ring_at",
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


def addresses(found: Iterable[Endpoint] | Iterable[Pod]) -> set[str]:
    """
    Return the addresses of endpoints or of pods.
    """
    return {one.address for one in found}


def resolver_at(coredns: CoreDNS, **options: Any) -> Resolver:
    """
    Return a resolver that asks *coredns*.
    """
    return Resolver(nameservers=[coredns.address], zone=ZONE, **options)


def ring_at(coredns: CoreDNS, service: str = WEB, **options: Any) -> Ring:
    """
    Return a ring that asks *coredns*, five times a second unless *options* say otherwise.
    """
    return Ring(service, **{"resolver": resolver_at(coredns), "refresh": QUICK, **options})


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
