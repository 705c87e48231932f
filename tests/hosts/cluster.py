"""
A cluster for examples: they say `knet.Ring("web.prod.svc.cluster.local", port=8080)` and mean it.

No example knows that it is being tested, so what surrounds it is what differs: the system's DNS
settings lead to a `HeadlessService`, and the time between two lookups is short.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

import knet
import knet.integrations.aiohttp
import knet.integrations.asgi
import knet.integrations.grpc  # those that know what a ring is, before it is another class
import knet.integrations.httpx2
import knet.integrations.opentelemetry
import knet.integrations.prometheus
from knet import RefreshPolicy, Ring
from knet.resolver import surrounded_by
from knet.surroundings import surroundings_from
from knet.testing import HeadlessService, Pod

__all__ = ["QUICK", "WEB", "cluster", "follows_a_rollout"]

WEB = "web.prod.svc.cluster.local"

# Nothing waits for five seconds here; what is decided, and in what order, stays the same.
QUICK = RefreshPolicy(interval=0.05, min_interval=0.05, retry=0.05, empty_hold=1.0)

_KEYS = [f"user-{i}" for i in range(40)]


@contextmanager
def cluster(
    monkeypatch: pytest.MonkeyPatch,
    *,
    pods: int | Sequence[str] = 3,
    stateful: bool = False,
    makes_rings: bool = False,
) -> Iterator[HeadlessService]:
    """
    Be in the namespace `prod` of a cluster in which the service `web` has three pods, or these.
    """
    made: list[Ring] = []

    class QuickRing(Ring):  # type: ignore[misc] # it is final for users
        """
        A ring that asks often, as nothing here waits for five seconds.
        """

        def __init__(self, service: str, **options: Any) -> None:
            super().__init__(service, **{"refresh": QUICK, "start_timeout": 0.5, **options})
            made.append(self)

    kubelet = surroundings_from("search prod.svc.cluster.local svc.cluster.local cluster.local")
    for maker in (knet, knet.integrations.asgi, knet.integrations.aiohttp):
        monkeypatch.setattr(maker, "Ring", QuickRing)
    with (
        HeadlessService(WEB, pods=pods, stateful=stateful) as service,
        surrounded_by(replace(kubelet, nameservers=(service.nameserver,))),
    ):
        yield service
    assert made or not makes_rings, "no example has made a ring, or it got one from elsewhere"


async def follows_a_rollout(service: HeadlessService, ask: Callable[[str], Awaitable[str]]) -> None:
    """
    Replace every pod and add two, asking for keys all the while; see all keys with the new pods.

    Args:
        service: Whose pods are replaced.
        ask: Sends a request for a key and returns the `host:port` that it met. It may never fail.
    """
    with anyio.fail_after(20):
        for pod in service.pods:
            service.replace(pod)
            for key in _KEYS:
                await ask(key)
            await anyio.sleep(0.02)
        service.scale(5)
        wanted = {_address(pod) for pod in service.pods}
        while {await ask(key) for key in _KEYS} != wanted:
            await anyio.sleep(0.01)


def _address(pod: Pod) -> str:
    return f"{pod.addresses[0]}:8080"
