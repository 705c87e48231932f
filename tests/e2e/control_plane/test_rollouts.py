"""
Pods come and go by the real controllers, under rings by DNS, by slices, and by both.
"""

from __future__ import annotations

import itertools

import anyio
import pytest

from .plane import ControlPlane, Json, deployment, headless, stateful_set
from .world import KEYS, QUICK, Rings, World, until, world

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

one_loop = pytest.mark.parametrize("anyio_backend", ["trio"])
other_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])

_versions = itertools.count(1)


async def roll(
    it: World,
    plural: str = "deployments",
    name: str = "web",
    *,
    within: float = 90,
    **spec: Json,
) -> None:
    """
    Have all pods replaced by new ones, as *spec* says, and return once the controller has done so.
    """
    version = str(next(_versions))
    path = it.path(plural, name)
    template = {"metadata": {"annotations": {"version": version}}}
    await it.patch(path, {"spec": {"template": template, **spec}})

    def is_done(told: Json) -> bool:
        status, count = told["status"], told["spec"]["replicas"]
        counts = [status.get(each) for each in ("updatedReplicas", "replicas", "readyReplicas")]
        is_seen: bool = status.get("observedGeneration", 0) >= told["metadata"]["generation"]
        return is_seen and counts == [count] * 3

    await it.plane.until(path, is_done, within)


def rolling(surge: int | str, unavailable: int | str) -> Json:
    limits = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"type": "RollingUpdate", "rollingUpdate": limits}


async def test_rolling_updates_replace_all_and_fail_no_pick(plane: ControlPlane) -> None:
    """
    Pods take a while to get ready and to go. With `maxUnavailable: 100%` there may be nobody for a moment, which
    is less than the hold.
    """
    async with world(plane, delay=0.3, grace=0.3) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 6))
        async with it.rings() as rings:
            await it.settled(rings, 6)
            for surge, unavailable in ((2, 0), (0, 2), ("25%", "25%"), ("100%", 0), (0, "100%")):
                before = rings.shown[0]
                await roll(it, strategy=rolling(surge, unavailable))
                await it.settled(rings, 6)
                assert not before & rings.shown[0]
            assert rings.falls.stats().source == "EndpointSlices"
            before = rings.shown[0]
            await it.patch(
                it.path("deployments", "web"),
                {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}},
            )
            await roll(it)
            await it.settled(rings, 6)
            assert not before & rings.shown[0]


async def test_pods_of_a_stateful_set_keep_their_keys_through_restarts(
    plane: ControlPlane,
) -> None:
    """
    Their names stay, and so do the owners of keys; their addresses are new.
    """
    async with world(plane, delay=0.2, grace=0.2) as it:
        await it.apply(headless("web"))
        await it.apply(stateful_set("web", 3))
        async with it.rings(port="http") as rings:
            await it.settled(rings, 3)
            names = [f"web-{n}.web.{it.namespace}.svc.{it.domain}" for n in range(3)]
            owners, before = owners_in(rings), rings.shown[0]
            assert [pod.name for pod in rings.told.snapshot.endpoints] == names
            # One after the other, and all at once.
            await roll(it, "statefulsets")
            await it.settled(rings, 3)
            assert not before & rings.shown[0]
            for pod in await it.pods():
                await it.plane.delete(it.path("pods", pod["metadata"]["name"]))
            await until(lambda: not before & rings.shown[1])
            await it.settled(rings, 3)
            assert owners_in(rings) == owners
            for replicas in (5, 2):
                await it.scale("statefulset", "web", replicas)
                await it.settled(rings, replicas)


def owners_in(rings: Rings) -> list[list[str]]:
    return [[ring.snapshot.get(key).name for key in KEYS] for ring in rings]


@one_loop
async def test_readiness_flips_are_followed(plane: ControlPlane) -> None:
    """
    One by one, in quick succession, and all but one at once.
    """
    async with world(plane) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 5))
        async with it.rings() as rings:
            await it.settled(rings, 5)
            first, *others = await it.pods()
            for ready in (False, True):
                await it.set_ready(first, ready)
                await it.settled(rings, 4 + ready)
            for ready in (False, True) * 10:
                await it.set_ready(first, ready)
                await anyio.sleep(0.02)
            await it.settled(rings, 5)
            for ready in (False, True):
                async with anyio.create_task_group() as tasks:
                    for pod in others:
                        tasks.start_soon(it.set_ready, pod, ready)
                await it.settled(rings, 5 if ready else 1)


@other_loop
async def test_crash_loops_and_evictions_are_followed(plane: ControlPlane) -> None:
    """
    One pod dies again and again and comes back at its address; another one fails for good, and is replaced. Who asks
    DNS lets a pod go that flaps only a minute after its last crash, which is not waited for here.
    """
    async with world(plane) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 4))
        async with it.rings() as rings:
            await it.settled(rings, 4)
            crashing, evicted, *_ = await it.pods()
            for restarts in range(1, 6):
                await it.kubelet.crash(crashing["metadata"]["name"], restarts, it.namespace)
                await anyio.sleep(0.1 * restarts)
                await it.set_ready(crashing, True)
                await anyio.sleep(0.1)
            await it.settled(rings, 4)
            await it.kubelet.evict(evicted["metadata"]["name"], it.namespace)
            await until(lambda: evicted["status"]["podIP"] not in rings.shown[1])
            await it.settled(rings, 4)


async def test_scaled_to_nobody_and_back(plane: ControlPlane) -> None:
    """
    Sooner than the hold ends, nobody notices; later the rings are empty, and pick again with the first pod.
    """
    async with world(plane, delay=0.2, grace=0.2) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 3))
        async with it.rings() as rings:
            await it.settled(rings, 3)
            await it.scale("deployment", "web", 0)
            await it.plane.until(it.path("pods"), lambda told: not told["items"])
            await it.scale("deployment", "web", 4)
            await it.settled(rings, 4)
            assert not rings.callers.empty

            rings.callers.may_be_empty = True
            await it.scale("deployment", "web", 0)
            for ring in rings:
                with anyio.fail_after(60):
                    assert await ring.wait_for("empty") == "empty"
            await it.settled(rings, 0)
            # A slow pick of all three may still be under way.
            await until(lambda: rings.callers.empty >= 10)
            await it.scale("deployment", "web", 2)
            for ring in rings:
                with anyio.fail_after(60):
                    await ring.wait_for("fresh")
            rings.callers.may_be_empty = False
            await it.settled(rings, 2)


@one_loop
async def test_a_thousand_pods_up_and_down(plane: ControlPlane) -> None:
    """
    Ten slices; scaled down to fifty, their pods lie in slices that are all but empty.
    """
    async with world(plane) as it:
        await it.apply(headless("web"))
        await it.apply(deployment("web", 5))
        async with it.rings(refresh=QUICK) as rings:
            await it.settled(rings, 5)
            await it.scale("deployment", "web", 1000)
            await it.settled(rings, 1000, within=200)
            assert len((await _slices(it))["items"]) >= 10
            await it.scale("deployment", "web", 50)
            await it.settled(rings, 50, within=200)
            sizes = [len(each["endpoints"] or ()) for each in (await _slices(it))["items"]]
            assert len(sizes) > 1
            assert min(sizes) < 50


async def _slices(it: World) -> Json:
    told: Json = (await it.plane.api.get(it.path("endpointslices"))).json()
    return told
