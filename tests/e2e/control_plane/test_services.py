"""
What is done to a Service itself, under rings by DNS, by slices, and by both.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

import anyio
import pytest

from knet import Ring
from knet.kubernetes import EndpointSlices

from .plane import ControlPlane, Json, deployment, headless, stateful_set
from .world import QUICK, Rings, until, world

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

one_loop = pytest.mark.parametrize("anyio_backend", ["trio"])
other_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])


async def all_in(rings: Rings, state: str) -> None:
    for ring in rings:
        with anyio.fail_after(60):
            await ring.wait_for(state)  # type: ignore[arg-type]  # one of its names


@one_loop
async def test_pods_that_are_not_ready_are_published_where_the_service_says_so(
    plane: ControlPlane,
) -> None:
    """
    Those that terminate stay until they are gone.
    """
    async with world(plane) as it:
        await it.apply(headless("web", publishNotReadyAddresses=True))
        await it.apply(deployment("web", 3))
        async with it.rings() as rings:
            await it.settled(rings, 3)
            first, second, _ = await it.pods()
            await it.set_ready(first, False)
            await it.settled(rings, 3, serves=has_address)
            await it.scale("deployment", "web", 4)
            await it.settled(rings, 4, serves=has_address)

            it.kubelet.grace = 2.0
            await it.plane.delete(it.path("pods", second["metadata"]["name"]))
            await until(lambda: len(rings.told.snapshot) == 5)
            await it.settled(rings, 4, serves=has_address)

            await it.apply(headless("web", publishNotReadyAddresses=False))
            await it.settled(rings, 3)


def has_address(pod: Json) -> bool:
    return bool(pod["status"].get("podIP"))


async def test_a_service_that_is_deleted_and_made_again(plane: ControlPlane) -> None:
    """
    Sooner than the hold ends, nobody notices; its pods stay all the time.
    """
    async with world(plane) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 3))
        async with it.rings() as rings:
            await it.settled(rings, 3)
            generation = rings.told.snapshot.generation
            await it.plane.delete(it.path("services", "web"))
            await all_in(rings, "stale")
            await it.apply(headless("web"))
            await all_in(rings, "fresh")
            await it.settled(rings, 3)
            assert not rings.callers.empty
            assert rings.told.snapshot.generation == generation

            rings.callers.may_be_empty = True
            await it.plane.delete(it.path("services", "web"))
            await all_in(rings, "empty")
            await it.scale("deployment", "web", 4)
            await it.apply(headless("web"))
            await all_in(rings, "fresh")
            rings.callers.may_be_empty = False
            await it.settled(rings, 4)


@other_loop
async def test_a_selector_that_changes_takes_other_pods(plane: ControlPlane) -> None:
    """
    From blue to green, to both, and to nobody.
    """
    async with world(plane) as it:
        await it.apply(headless("web", selector={"color": "blue"}))
        for color, count in (("blue", 3), ("green", 4)):
            made = deployment(color, count, color=color, tier="front")
            await it.apply(made)
        async with it.rings() as rings:
            await it.settled(rings, 3, selector="color=blue")
            await it.patch(it.path("services", "web"), {"spec": {"selector": {"color": "green"}}})
            await it.settled(rings, 4, selector="color=green")
            both = {"selector": {"color": None, "tier": "front"}}
            await it.patch(it.path("services", "web"), {"spec": both})
            await it.settled(rings, 7, selector="tier=front")

            rings.callers.may_be_empty = True
            await it.patch(it.path("services", "web"), {"spec": {"selector": {"tier": "none"}}})
            await all_in(rings, "empty")
            await it.settled(rings, 0, selector="tier=none")
            await it.patch(it.path("services", "web"), {"spec": {"selector": {"tier": "front"}}})
            await all_in(rings, "fresh")
            rings.callers.may_be_empty = False
            await it.settled(rings, 7, selector="tier=front")


@one_loop
async def test_endpoints_by_hand(plane: ControlPlane) -> None:
    """
    A Service without a selector: somebody else writes its slices.
    """
    async with world(plane) as it:
        service = headless("web")
        del service["spec"]["selector"]
        await it.apply(service)
        addresses = [f"10.245.0.{n}" for n in range(1, 7)]
        it.kubelet.given |= dict.fromkeys(addresses, it.namespace)
        await it.apply(by_hand("web-a", addresses[:2]))
        async with it.rings() as rings:
            await agreed(rings, addresses[:2])
            await it.apply(by_hand("web-b", addresses[2:5]))
            await agreed(rings, addresses[:5])
            await it.apply(by_hand("web-a", addresses[1:2], unready=addresses[:1]))
            await agreed(rings, addresses[1:5])
            # In both of them, and then in the other one.
            await it.apply(by_hand("web-b", addresses[1:6]))
            await it.plane.delete(it.path("endpointslices", "web-a"))
            await agreed(rings, addresses[1:6])

            rings.callers.may_be_empty = True
            await it.plane.delete(it.path("endpointslices", "web-b"))
            await all_in(rings, "empty")
            await it.apply(by_hand("web-c", addresses[:1]))
            await all_in(rings, "fresh")
            rings.callers.may_be_empty = False
            await agreed(rings, addresses[:1])


def by_hand(name: str, ready: list[str], *, unready: list[str] | None = None) -> Json:
    endpoints = [
        {"addresses": [address], "conditions": {"ready": is_ready}}
        for addresses, is_ready in ((ready, True), (unready or [], False))
        for address in addresses
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


async def agreed(rings: Rings, addresses: list[str]) -> None:
    await until(lambda: rings.shown == [set(addresses)] * 3)
    assert len({ring.snapshot.digest for ring in rings}) == 1


@other_loop
async def test_a_namespace_that_goes_and_comes_back(plane: ControlPlane) -> None:
    """
    All of it goes at once, its Service first or its pods.
    """
    async with world(plane, grace=0.2) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 3))
        async with it.rings() as rings:
            await it.settled(rings, 3)
            rings.callers.may_be_empty = True
            path = f"/api/v1/namespaces/{it.namespace}"
            await it.plane.delete(path)
            await all_in(rings, "empty")
            with anyio.fail_after(60):
                while (await it.plane.api.get(path)).status_code != 404:
                    await anyio.sleep(0.1)
            meta = {"name": it.namespace}
            await it.plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
            await it.apply(headless("web"))
            await it.apply(deployment("web", 2))
            await all_in(rings, "fresh")
            rings.callers.may_be_empty = False
            await it.settled(rings, 2)


@one_loop
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_both_families(plane: ControlPlane, family: str) -> None:
    """
    A slice for each family; a ring has one of them, and that may become the only one.
    """
    async with world(plane) as it:
        await it.apply(headless("web", ipFamilyPolicy="RequireDualStack"))
        await it.apply(deployment("web", 3))
        async with it.rings(port="http", family=family) as rings:
            await it.settled(rings, 3, family=family)
            await it.scale("deployment", "web", 5)
            await it.settled(rings, 5, family=family)


@other_loop
@pytest.mark.parametrize("is_written_out", [False, True])
async def test_a_cluster_with_a_domain_of_its_own(
    plane: ControlPlane, is_written_out: bool
) -> None:
    """
    Names by hostname have it, whether it is given or stands in the name of the service.
    """
    async with world(plane, domain="k8s.example.org") as it:
        await it.apply(headless("web"))
        await it.apply(stateful_set("web", 2))
        service, slices = "web", it.slices
        if is_written_out:
            service = f"web.{it.namespace}.svc.{it.domain}"
            slices = EndpointSlices(kubeconfig=it.slices.kubeconfig)
        async with it.rings(service, "http", slices=slices) as rings:
            await it.settled(rings, 2)
            names = [f"web-{n}.web.{it.namespace}.svc.k8s.example.org" for n in range(2)]
            assert [pod.name for pod in rings.told.snapshot.endpoints] == names
            await it.scale("statefulset", "web", 4)
            await it.settled(rings, 4)


@other_loop
async def test_a_hundred_rings_of_a_service_have_one_watch(plane: ControlPlane) -> None:
    """
    And one connection, whatever their ports are; none is left when the last ring ends.
    """
    async with world(plane) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 3))
        ports = ["http" if n % 2 else 8080 + n for n in range(100)]
        async with AsyncExitStack() as stack:
            rings = [
                await stack.enter_async_context(
                    Ring(f"web.{it.namespace}", port=port, resolver=it.slices, refresh=QUICK)
                )
                for port in ports
            ]
            await until(lambda: {len(ring.snapshot) for ring in rings} == {3})
            assert it.gate.connections == 1
            await it.scale("deployment", "web", 5)
            await until(lambda: {len(ring.snapshot) for ring in rings} == {5})
            assert it.gate.connections == 1
        await until(lambda: not it.gate.connections)


async def test_rings_of_a_whole_namespace_have_one_watch(plane: ControlPlane) -> None:
    """
    Each of them has what other rings of its service have; a neighbour changes nothing, and a watch that is cut goes on.
    """
    async with world(plane) as it:
        await it.apply(headless("web"))
        await it.apply(headless("shop"))
        await it.apply(stateful_set("web", 3))
        await it.apply(deployment("shop", 2))
        whole = replace(it.slices, whole_namespace=True)
        ring = partial(Ring, port="http", resolver=whole, refresh=QUICK, require_endpoints=False)
        async with (
            it.rings("web", "http") as rings,
            ring(f"web.{it.namespace}") as web,
            ring(f"shop.{it.namespace}") as shop,
            ring(f"late.{it.namespace}") as late,
        ):

            async def same(count: int) -> None:
                await it.settled(rings, count)
                await until(lambda: web.snapshot.digest == rings.asks.snapshot.digest)

            await same(3)
            await until(lambda: len(shop.snapshot) == 2)
            assert it.gate.connections == 2  # one of the service, and one of the namespace
            await it.scale("statefulset", "web", 5)
            await same(5)
            first, *_ = await it.pods()
            await it.set_ready(first, False)
            await same(4)
            await it.set_ready(first, True)
            await same(5)
            assert (shop.snapshot.generation, late.state) == (1, "empty")

            it.gate.cut()
            await it.apply(headless("late", selector={"app": "shop"}))
            await until(lambda: len(late.snapshot) == 2)
            assert late.snapshot.endpoints == shop.snapshot.endpoints
            await it.plane.delete(it.path("services", "late"))
            with anyio.fail_after(60):
                await late.wait_for("empty")
            await it.scale("statefulset", "web", 2)
            await same(2)
            assert (shop.snapshot.generation, len(shop.snapshot)) == (1, 2)
            assert it.gate.connections == 2
        await until(lambda: not it.gate.connections)
