# pyright: strict, reportUnusedFunction=false, reportUnusedVariable=false
"""
What users write, and the types that they get.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Unpack, assert_type

import knet
from knet import hashring
from knet.hashring import proxies
from knet.kubernetes import EndpointSlices
from knet.testing import HeadlessService


class Client:
    """
    A client of somebody's, of one pod.
    """

    def __init__(self, pod: knet.Endpoint) -> None:
        self.pod = pod

    async def count(self, key: str) -> int:
        return len(key)

    async def aclose(self) -> None: ...


async def picks(ring: knet.Ring) -> None:
    assert_type(await ring.get("key"), knet.Endpoint)
    assert_type(await ring.get(b"key"), knet.Endpoint)
    assert_type(await ring.get_n("key", 2), tuple[knet.Endpoint, ...])
    assert_type(await ring.get_n("key", 2, spread="zone"), tuple[knet.Endpoint, ...])
    assert_type(await ring.get_many(["a", b"b"]), list[knet.Endpoint])
    assert_type(ring.get_nowait("key"), knet.Endpoint)
    assert_type(ring.group(["a", b"b"]), dict[knet.Endpoint, list[str | bytes]])
    assert_type(ring.ejected, Mapping[knet.Endpoint, float])
    assert_type(ring.state, knet.State)
    assert_type(await ring.wait_for("fresh", "empty"), knet.State)
    assert_type(ring.stats(), knet.RingStats)
    async for change in ring.changes():
        assert_type(change, knet.Change)
        assert_type(change.lost().filter(["a"]), list[str | bytes])


async def snapshots(snapshot: knet.Snapshot) -> None:
    assert_type(snapshot.get("key"), knet.Endpoint)
    assert_type(snapshot.endpoints, tuple[knet.Endpoint, ...])
    assert_type(snapshot.find("web-0"), knet.Endpoint | None)
    assert_type(snapshot.digest, str)


async def serving(ring: knet.Ring) -> None:
    async def fetch(pod: knet.Endpoint) -> bytes:
        return pod.name.encode()

    assert_type(await ring.call("key", fetch), bytes)
    assert_type(await ring.call("key", fetch, retry_on=knet.may_repeat, total=2), bytes)
    async with ring.acquire("key", bound=1.5) as pod:
        assert_type(pod, knet.Endpoint)
    async with ring.acquire("key", bound=knet.Bound(1.5, slack=2)) as pod:
        assert_type(pod, knet.Endpoint)
    async for attempt in ring.attempts("key"):
        with attempt as pod:
            assert_type(pod, knet.Endpoint)


async def pools(ring: knet.Ring) -> None:
    async with knet.Pool(ring, Client) as pool:
        assert_type(pool, knet.Pool[Client])
        assert_type(await pool.call("key", lambda client: client.count("key")), int)
        async with pool.client("key") as client:
            assert_type(client, Client)


async def owning(ring: knet.Ring) -> None:
    async def work(part: str, held: knet.Held) -> None:
        await held.lost.wait()

    assert_type(ring.is_mine("key"), bool)
    assert_type(ring.me, knet.Endpoint | None)
    async with ring.while_mine("key", grace=1) as held:
        assert_type(held, knet.Held)
    with ring.hold("key") as held:
        assert_type(held, knet.Held)
    await ring.own(["a", "b"], work)


def placements() -> None:
    assert_type(hashring.HashRing(["a", "b"]).get("key"), str)
    assert_type(hashring.Maglev(["a", "b"]).get_n("key", 2), tuple[str, ...])
    places: hashring.Placement[str] = hashring.Rendezvous(["a"])
    assert_type(places.get("key"), str)
    knet.Ring("web.prod", placement=hashring.Maglev)
    knet.Ring("web.prod", placement=functools.partial(hashring.HashRing, balance=1.1))
    knet.Ring("web.prod", port=8080, placement=proxies.EnvoyRing)


class ByText:
    """
    A source that is asked by the text of a service.
    """

    async def resolve(self, service: str, /, *, port: int | str | None = None) -> knet.Answer:
        return knet.Answer([knet.Endpoint(service, "10.0.0.1")])


class Asked:
    """
    A source that is asked the whole question.
    """

    async def resolve(self, question: knet.Question, /) -> knet.Answer:
        return knet.Answer([knet.Endpoint(question.service, "10.0.0.1")], ttl=5)


class Tells:
    """
    A source that tells by itself.
    """

    async def watch(self, question: knet.Question, tell: knet.Tell, /) -> None:
        tell(knet.Answer())
        tell(knet.ALIVE)
        tell(knet.ResolveError(question.service))


async def sources(service: HeadlessService) -> None:
    for source in (ByText(), Asked(), Tells(), knet.Resolver(), EndpointSlices()):
        knet.Ring("web.prod", resolver=source)
    knet.Ring("web.prod", resolver=knet.Fallback(EndpointSlices(), knet.Resolver()))
    knet.Ring("web.prod", resolver=service.api.source())
    assert_type(await knet.Resolver().resolve("web.prod", port=8080), knet.Answer)
    assert_type(knet.Ring.static(["10.0.0.1:8080"]), knet.Ring)


def hands_on(**options: Unpack[knet.RingOptions]) -> knet.Ring:
    return knet.Ring("web.prod", **options)


def without_a_loop(ring: knet.blocking.Ring) -> None:
    with ring:
        assert_type(ring.get("key"), knet.Endpoint)
        assert_type(ring.call("key", lambda pod: pod.port), int | None)
    hands_on(port="http", me=knet.this_pod, start_timeout=3)
