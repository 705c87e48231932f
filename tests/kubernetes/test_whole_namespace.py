"""
`EndpointSlices(whole_namespace=True)`: one watch for the rings of many services.

What holds of a ring by itself is in `test_source.py`, for both kinds of watch.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from knet import Answer, Forbidden, NoData, Question, Ring
from knet.kubernetes import EndpointSlices
from knet.sources import Alive
from knet.testing.api.door import KubernetesAPI
from knet.testing.api.responder import Responder
from knet.testing.api.server import Place
from knet.testing.zone import Pod, Port, Zone

from .test_source import QUICK, addresses, until

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(2)]

NAMES = tuple(f"web-{n}" for n in range(100))


class Namespace:
    """
    The API of a namespace with several services in it.
    """

    def __init__(self, responder: Responder, place: Place) -> None:
        self._responder = responder
        self.api = KubernetesAPI(responder, place, "prod", "cluster.local")

    def put(self, service: str, *pods: str | Pod) -> None:
        """
        Let a service have these pods.
        """
        self._responder.publish(zone_of(service, *pods))

    def delete(self, service: str) -> None:
        self._responder.withdraw(service)

    def source(self, **options: Any) -> EndpointSlices:
        options = {"whole_namespace": True, **options}
        return EndpointSlices(api=self.api.url, namespace="prod", domain="cluster.local", **options)

    def ring(self, service: str, **options: Any) -> Ring:
        settings = {"port": 80, "refresh": QUICK, "start_timeout": 10, "resolver": self.source()}
        return Ring(service, **{**settings, **options})

    @asynccontextmanager
    async def rings(self, services: Sequence[str], **options: Any) -> AsyncIterator[list[Ring]]:
        async with AsyncExitStack() as stack:
            made = [self.ring(each, **options) for each in services]
            async with anyio.create_task_group() as tasks:
                for ring in made:
                    stack.push_async_callback(ring.aclose)
                    tasks.start_soon(ring.start)
            yield made


def zone_of(service: str, *pods: str | Pod) -> Zone:
    made = tuple(Pod(pod) if isinstance(pod, str) else pod for pod in pods)
    return Zone(service, "prod", "cluster.local", made, (Port("http", 8080),))


@pytest.fixture
def prod() -> Iterator[Namespace]:
    """
    Two services.
    """
    responder = Responder(("ipv4",), zone_of("cart", "10.1.0.1"), random.Random(1))
    place = Place(responder, "127.0.0.1")
    place.open()
    namespace = Namespace(responder, place)
    namespace.put("web", "10.0.0.1", "10.0.0.2")
    yield namespace
    place.close()


def heard(rings: Sequence[Ring]) -> list[int]:
    """
    How many words each of them took.
    """
    return [ring.stats().lookups for ring in rings]


async def test_a_hundred_services_have_one_watch(prod: Namespace) -> None:
    """
    For as long as one ring is left.
    """
    for number, name in enumerate(NAMES):
        prod.put(name, f"10.2.0.{number}")
    async with prod.rings(NAMES) as rings:
        assert [addresses(ring) for ring in rings] == [[f"10.2.0.{n}"] for n in range(100)]
        assert (len(prod.api.requests), prod.api.watches) == (1, 1)
        for ring in rings[:99]:
            await ring.aclose()
        prod.put(NAMES[99], "10.3.0.1")
        await until(lambda: addresses(rings[99]) == ["10.3.0.1"])
        assert (len(prod.api.requests), prod.api.watches) == (1, 1)
    await until(lambda: not prod.api.watches)
    assert len(prod.api.requests) == 1


async def test_a_ring_is_woken_by_its_own_service_alone(prod: Namespace) -> None:
    async with prod.rings(
        ["web", "cart", "web", "cart.prod", "nobody"], require_endpoints=False
    ) as rings:
        web, cart, same, spelt, nobody = rings
        prod.put("cart", "10.1.0.8")
        await until(lambda: addresses(cart) == addresses(spelt) == ["10.1.0.8"])
        before = heard(rings)  # the first word may be taken twice
        for number in range(1, 6):
            prod.put("cart", f"10.1.0.{number}")
            await until(lambda: heard([cart])[0] >= before[1] + number)  # noqa: B023 - at once
        prod.put("new", "10.5.0.1")
        prod.delete("new")
        prod.put("cart", "10.1.0.9")
        await until(lambda: addresses(cart) == addresses(spelt) == ["10.1.0.9"])
        assert heard([web, same, nobody]) == [before[0], before[2], before[4]]
        assert heard([cart])[0] > before[1]
        prod.put("web", "10.0.0.3")
        await until(lambda: addresses(web) == addresses(same) == ["10.0.0.3"])


async def test_the_keys_are_those_of_a_watch_for_each(prod: Namespace) -> None:
    prod.put("db", *[Pod(f"10.4.0.{n}", hostname=f"db-{n}", zone="eu-1a") for n in range(1, 200)])
    apart = prod.source(whole_namespace=False)
    for port in ("http", 8080):
        async with (
            prod.rings(["db", "web", "cart"], port=port) as together,
            prod.rings(["db", "web", "cart"], port=port, resolver=apart) as each,
        ):
            assert [ring.snapshot.digest for ring in together] == [
                ring.snapshot.digest for ring in each
            ]
            assert together[0].snapshot.endpoints == each[0].snapshot.endpoints
            assert together[0].snapshot.zones == {"eu-1a"}


async def test_a_service_that_is_not_there_yet_and_one_that_goes(prod: Namespace) -> None:
    async with prod.rings(["late", "web"], require_endpoints=False) as (late, web):
        assert (late.state, len(web.snapshot)) == ("empty", 2)
        assert "there is no EndpointSlice of it" in str(late.stats().last_error)
        prod.put("late", "10.5.0.1")
        await until(lambda: addresses(late) == ["10.5.0.1"])
        prod.delete("late")
        with anyio.fail_after(10):
            await late.wait_for("stale")
            assert addresses(late) == ["10.5.0.1"]
            await late.wait_for("empty")
            assert "there is no EndpointSlice of it" in str(late.stats().last_error)
            prod.put("late", "10.5.0.2")
            await late.wait_for("fresh")
        assert addresses(late) == ["10.5.0.2"]
        assert (web.state, web.snapshot.generation) == ("fresh", 1)
        assert len(prod.api.requests) == 1


async def test_a_namespace_may_be_empty(prod: Namespace) -> None:
    prod.delete("web")
    prod.delete("cart")
    async with prod.rings(["web"], require_endpoints=False) as (web,):
        assert web.state == "empty"
        prod.put("web", "10.0.0.9")
        await until(lambda: addresses(web) == ["10.0.0.9"])


async def test_who_joins_later_hears_all(prod: Namespace) -> None:
    async with prod.rings(["web"]) as (web,):
        prod.put("cart", "10.1.0.5")
        prod.put("web", "10.0.0.5")
        await until(lambda: addresses(web) == ["10.0.0.5"])
        async with prod.rings(["cart", "web.prod.svc.cluster.local"]) as (cart, same):
            assert addresses(cart) == ["10.1.0.5"]
            assert addresses(same) == ["10.0.0.5"]
        assert len(prod.api.requests) == 1
        async with prod.rings(["web.other"], require_endpoints=False) as (other,):
            assert other.state == "empty"
            assert prod.api.requests[-1].path.split("/")[5] == "other"


@pytest.mark.parametrize("lists", [False, True])
async def test_what_happened_while_the_watch_was_away(prod: Namespace, lists: bool) -> None:
    """
    A list that is whole counts: one service is gone, one has changed, and one is new.
    """
    prod.put("old", "10.6.0.1")
    if lists:
        prod.api.fail("NO_INITIAL_EVENTS")
    async with prod.rings(["web", "cart", "old", "new"], require_endpoints=False) as rings:
        web, cart, old, new = rings
        await until(lambda: [len(ring.snapshot) for ring in rings] == [2, 1, 1, 0])
        prod.api.stop()
        prod.delete("old")
        prod.put("cart", "10.1.0.7")
        prod.put("new", "10.7.0.1")
        await until(lambda: {ring.state for ring in (web, cart, old)} == {"stale"})
        prod.api.start()
        await until(lambda: addresses(cart) == ["10.1.0.7"] and addresses(new) == ["10.7.0.1"])
        await until(lambda: (web.state, old.state) == ("fresh", "empty"))
        assert web.snapshot.generation == 1


async def test_a_version_that_is_too_old_is_no_failure(prod: Namespace) -> None:
    async with prod.rings(["web", "cart", "old"], require_endpoints=False) as rings:
        web, cart, _ = rings
        prod.api.compact()
        prod.api.break_watches()
        prod.put("cart", "10.1.0.7")
        await until(lambda: addresses(cart) == ["10.1.0.7"])
        assert (web.state, web.stats().failures, web.snapshot.generation) == ("fresh", {}, 1)


async def test_a_slice_that_is_given_to_another_service(prod: Namespace) -> None:
    """
    A server that is asked for one service says that it is gone; to a namespace it has changed.
    """
    async with prod.rings(["web", "cart"]) as (web, cart):
        (told,) = (each for each in prod.api.slices if "10.1.0.1" in str(each))
        labels = {**told["metadata"]["labels"], "kubernetes.io/service-name": "web"}
        moved = {**told, "metadata": {**told["metadata"], "labels": labels}}
        prod.api.send({"type": "MODIFIED", "object": moved})
        await until(lambda: len(web.snapshot) == 3)
        with anyio.fail_after(10):
            await cart.wait_for("stale")
        prod.api.send({"type": "DELETED", "object": told})
        await until(lambda: len(web.snapshot) == 2)


async def test_what_is_in_the_way_is_told_to_all(prod: Namespace) -> None:
    async with prod.rings(["web", "cart"]) as rings:
        web, cart = rings
        prod.api.fail("FORBIDDEN")
        prod.api.break_watches()
        await until(lambda: [ring.state for ring in rings] == ["stale"] * 2)
        assert "metadata: {name: knet, namespace: prod}" in str(web.stats().last_error)
        assert (addresses(web), addresses(cart)) == (["10.0.0.1", "10.0.0.2"], ["10.1.0.1"])
        prod.api.heal()
        await until(lambda: [ring.state for ring in rings] == ["fresh"] * 2)
        assert [ring.stats().source for ring in rings] == ["EndpointSlices"] * 2
        assert [ring.stats().alive for ring in rings] == [True] * 2
    prod.api.fail("FORBIDDEN")
    with pytest.raises(Forbidden, match=r"verbs: \[list, watch\]"):
        await prod.ring("web", start_timeout=0.3).start()


async def test_a_namespace_has_more_slices_than_a_service_may_have(
    prod: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knet.kubernetes.reflector._MOST_SLICES", 1)
    monkeypatch.setattr("knet.kubernetes.reflector._MOST_IN_NAMESPACE", 2)
    async with prod.rings(["web", "cart"]) as (web, _):
        prod.put("third", "10.8.0.1")
        with anyio.fail_after(10):
            await web.wait_for("stale")
        assert str(web.stats().last_error) == "the namespace has more than 2 slices"


@pytest.mark.parametrize("seed", range(8))
async def test_rings_begin_and_end_in_any_order(prod: Namespace, seed: int) -> None:
    """
    Closed or cancelled, while they start or later: the others go on, and nothing is left of the watch in the end.
    """
    drawn = random.Random(seed)

    async def live(scope: anyio.CancelScope, service: str, before: int, after: int) -> None:
        with scope:
            for _ in range(before):
                await anyio.lowlevel.checkpoint()
            async with prod.ring(service, require_endpoints=False):
                for _ in range(after):
                    await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        scopes = [anyio.CancelScope() for _ in range(12)]
        for scope in scopes:
            service = drawn.choice(["web", "cart", "nobody"])
            tasks.start_soon(live, scope, service, drawn.randrange(40), drawn.randrange(40))
        drawn.shuffle(scopes)
        for scope in scopes[:6]:
            await anyio.sleep(drawn.random() * 0.01)
            scope.cancel()
            prod.put("web", f"10.0.0.{drawn.randrange(1, 9)}")
    await until(lambda: not prod.api.watches)
    async with prod.rings(["web", "cart"]) as (web, cart):
        assert (len(web.snapshot), len(cart.snapshot)) == (1, 1)


async def test_a_watch_by_hand_tells_of_its_service_alone(prod: Namespace) -> None:
    told: list[Answer | Exception | Alive] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(prod.source(settle=0).watch, Question("web", 80), told.append)
        await until(lambda: len(told) == 1)
        prod.put("cart", "10.1.0.2")
        prod.put("web", "10.0.0.9")
        prod.delete("web")
        await until(lambda: isinstance(told[-1], NoData))
        assert isinstance(told[0], Answer)
        assert [pod.address for pod in told[0].endpoints] == ["10.0.0.1", "10.0.0.2"]
        assert not any("10.1.0.2" in str(each) for each in told)
        tasks.cancel_scope.cancel()
