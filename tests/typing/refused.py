# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedVariable=false
# pyright: reportUnusedFunction=false, reportUnusedCoroutine=false
"""
What type checkers refuse: each of these lines is a mistake that they find before it runs.

A `type: ignore` that is not needed is an error in this file, for mypy and for pyright.
"""

from __future__ import annotations

import knet
from knet import hashring


async def keys(ring: knet.Ring, snapshot: knet.Snapshot) -> None:
    await ring.get(42)  # type: ignore[arg-type]
    snapshot.get(None)  # type: ignore[arg-type]
    await ring.get_n("key", "2")  # type: ignore[arg-type]
    await ring.get_n("key", 2, spread="rack")  # type: ignore[arg-type]
    ring.is_mine(1.5)  # type: ignore[arg-type]


async def what_is_frozen(pod: knet.Endpoint, policy: knet.RefreshPolicy) -> None:
    pod.port = 80  # type: ignore[misc]
    policy.interval = 1  # type: ignore[misc]


async def options() -> None:
    knet.Ring("web.prod", 8080)  # type: ignore[call-arg]
    knet.Ring("web.prod", ports=8080)  # type: ignore[call-arg]
    knet.Ring("web.prod", family="ipv5")  # type: ignore[arg-type]
    knet.Ring("web.prod", protocol="icmp")  # type: ignore[arg-type]
    knet.RefreshPolicy(interval="5")  # type: ignore[arg-type]
    knet.RefreshPolicy(5)  # type: ignore[call-arg]


async def waiting(ring: knet.Ring) -> None:
    await ring.wait_for("ready")  # type: ignore[arg-type]
    print(ring.get("key").port)  # type: ignore[attr-defined]


async def serving(ring: knet.Ring) -> None:
    def not_awaited(pod: knet.Endpoint) -> int:
        return 1

    await ring.call("key", not_awaited)  # type: ignore[arg-type]
    await ring.call("key", lambda: None)  # type: ignore[arg-type, misc]
    ring.acquire("key", bound="1.5")  # type: ignore[arg-type]


class Silent:
    """
    No source: it has neither `resolve` nor `watch`.
    """


class GivesTexts:
    """
    No source: an answer is an `Answer`.
    """

    async def resolve(self, service: str, /) -> list[str]:
        return [service]


def sources() -> None:
    knet.Ring("web.prod", resolver=Silent())  # type: ignore[arg-type]
    knet.Ring("web.prod", resolver=GivesTexts())  # type: ignore[arg-type]


class HalfAPlacement:
    """
    No placement: who comes next is not told.
    """

    def __init__(self, members: tuple[knet.Endpoint, ...]) -> None:
        self.members = members

    def get(self, key: str | bytes, /) -> knet.Endpoint:
        return self.members[0]


def placements() -> None:
    knet.Ring("web.prod", placement=HalfAPlacement)  # type: ignore[arg-type]
    hashring.HashRing(["a"]).get(1)  # type: ignore[arg-type]
    number: int = hashring.HashRing(["a"]).get("key")  # type: ignore[assignment]
    print(number)
