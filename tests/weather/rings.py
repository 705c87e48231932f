"""
Rings that stand in the rain, requests that must not notice, and waiting for what should be seen.

Nothing here sleeps and hopes: `until` waits for a fact, and fails when that takes unreasonably long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio

from knet import Endpoint, RefreshPolicy, Resolver, Ring
from knet.testing import HeadlessService

__all__ = [
    "FORGED",
    "KEYS",
    "PATIENT",
    "QUICK",
    "SRV",
    "WEB",
    "addresses",
    "lookups",
    "picks",
    "resolver_at",
    "ring_at",
    "shown",
    "traffic",
    "until",
]

WEB = "web.prod.svc.cluster.local"
SRV = f"_http._tcp.{WEB}"
KEYS = [f"user-{n}" for n in range(200)]

# The pod that every lie names. Pods of a `HeadlessService` are in 10.244.0.0/16 or fd00:244::/64.
FORGED = "10.66.6.6"
_REAL = ("10.244.", "fd00:244:")

# A day of the defaults in a minute.
QUICK = RefreshPolicy(interval=0.05, min_interval=0.01, retry=0.02, max_retry=0.1, empty_hold=0.3)
# The same, and no lie ever empties it.
PATIENT = replace(QUICK, empty_hold=3600)


def resolver_at(*services: HeadlessService, **options: Any) -> Resolver:
    """
    Return a resolver that asks *services*, and waits for them unless *options* say otherwise.
    """
    servers = [service.nameserver for service in services]
    return Resolver(nameservers=servers, **{"deadline": 10.0, **options})


def ring_at(*services: HeadlessService, **options: Any) -> Ring:
    """
    Return a ring of `web.prod` that asks *services*.
    """
    usual = {"port": 8080, "resolver": resolver_at(*services), "refresh": PATIENT}
    return Ring("web.prod", **{**usual, **options})


def picks(ring: Ring) -> list[Endpoint]:
    """
    Return whose the keys are.
    """
    return [ring.get_nowait(key) for key in KEYS]


def shown(ring: Ring) -> set[str]:
    """
    Return the addresses that a ring serves.
    """
    return {endpoint.address for endpoint in ring.snapshot.endpoints}


def addresses(service: HeadlessService) -> set[str]:
    """
    Return the first address of each pod.
    """
    return {pod.address for pod in service.pods}


@asynccontextmanager
async def traffic(
    ring: Ring, real: Collection[str] | None = None, *, pause: float = 0.002
) -> AsyncIterator[None]:
    """
    Send requests meanwhile: each gets a pod at once, and no pod that never existed.

    Args:
        ring: It has a first snapshot.
        real: The addresses of all pods that there ever are; `None`: those of a `HeadlessService`.
        pause: Seconds between two rounds of requests.
    """
    rounds = 0

    def is_real(pod: Endpoint) -> bool:
        return pod.address.startswith(_REAL) if real is None else pod.address in real

    async def send() -> None:
        nonlocal rounds
        while True:
            snapshot = ring.snapshot
            assert snapshot.generation >= 1
            for pod in snapshot.endpoints:
                assert is_real(pod), pod
            for key in KEYS[rounds % 7 :: 7]:
                pod = await ring.get(key)
                assert pod == snapshot.get(key)
                assert pod is (await ring.get_n(key, 2))[0]
            rounds += 1
            await anyio.sleep(pause)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        yield
        before = rounds
        await until(lambda: rounds > before, within=30 + pause)
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool], within: float = 30.0) -> None:
    """
    Return once *condition* holds; fail if that takes longer than *within* seconds.
    """
    with anyio.move_on_after(within):
        while not condition():
            await anyio.sleep(0.002)
    assert condition()


async def lookups(ring: Ring, count: int) -> None:
    """
    Return once *count* more lookups have begun, or the ring is closed.
    """
    wanted = ring.stats().lookups + count
    await until(lambda: ring.stats().lookups >= wanted or ring.state == "closed")
