"""
A namespace of a control plane, with the CoreDNS of its cluster: rings in three ways, and who uses them all the time.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from knet import Fallback, NoEndpoints, RefreshPolicy, Resolver, Ring
from knet.kubernetes import EndpointSlices
from tests.e2e.coredns import find_binary
from tests.e2e.ports import HOST, reserve_port

from .gate import Gate
from .plane import ControlPlane, Json, Kubelet

__all__ = [
    "Callers",
    "Rings",
    "World",
    "address_of",
    "coredns",
    "is_serving",
    "until",
    "without_api",
    "world",
]

QUICK = RefreshPolicy(interval=0.3, min_interval=0.1, retry=0.1, max_retry=1.0, empty_hold=3.0)

# CoreDNS may take most of a minute to come back to an API server that was away.
WITHIN = 90.0

KEYS = tuple(f"user:{n}" for n in range(1000))

_numbers = itertools.count(1)


class Callers:
    """
    Whoever picks 200 keys a second in each ring, as a pod would; each pick is one of pods that were there.

    Attributes:
        picks: How many there were.
        empty: How many of them found nobody.
        may_be_empty: Whether they may. That is an error unless a test says so.
    """

    def __init__(self, rings: Rings, given: Mapping[str, str], namespace: str) -> None:
        self.picks = 0
        self.empty = 0
        self.may_be_empty = False
        self._rings = rings
        self._given = given
        self._namespace = namespace
        self._keys: Iterator[str] = itertools.cycle(KEYS)

    async def run(self) -> None:
        while True:
            for _ in range(2):
                awaited, other = next(self._keys), next(self._keys)
                for ring in self._rings:
                    try:
                        pods = await ring.get(awaited), ring.get_nowait(other)
                    except NoEndpoints:
                        assert self.may_be_empty, ring
                        assert (ring.state, len(ring.snapshot)) == ("empty", 0), ring
                        self.empty += 1
                    else:
                        for pod in pods:
                            assert self._given.get(pod.address) == self._namespace, (ring, pod)
                    self.picks += 2
            await anyio.sleep(0.02)


class Rings:
    """
    One service, three rings of it.

    Attributes:
        asks: By DNS.
        told: By slices.
        falls: By slices, and by DNS where they cannot tell.
        callers: Who uses them meanwhile.
    """

    def __init__(self, asks: Ring, told: Ring, falls: Ring) -> None:
        self.asks = asks
        self.told = told
        self.falls = falls
        self.callers: Callers

    def __iter__(self) -> Iterator[Ring]:
        return iter((self.asks, self.told, self.falls))

    @property
    def shown(self) -> list[set[str]]:
        """
        The addresses that each of them has.
        """
        return [{pod.address for pod in ring.snapshot.endpoints} for ring in self]


class World:
    """
    A namespace.

    Attributes:
        domain: Of the cluster.
        namespace: Its name, new each time unless it was given.
        kubelet: Of the node.
        gate: In front of the API server, for the rings alone.
        dns: What asks CoreDNS.
        slices: What asks the API, as an administrator.
    """

    def __init__(
        self,
        plane: ControlPlane,
        kubelet: Kubelet,
        gate: Gate,
        nameserver: str,
        domain: str,
        namespace: str | None,
    ) -> None:
        self.plane = plane
        self.kubelet = kubelet
        self.gate = gate
        self.domain = domain
        self.namespace = namespace or f"t{next(_numbers)}"
        self.url = f"https://{HOST}:{gate.port}"
        self.dns = Resolver(nameservers=[nameserver], zone=domain)
        self.slices = EndpointSlices(
            kubeconfig=str(plane.kubeconfig("admin-token", "gated", url=self.url)),
            domain=domain,
            namespace=self.namespace,
        )

    @asynccontextmanager
    async def rings(
        self,
        service: str = "web",
        port: int | str = 8080,
        *,
        slices: EndpointSlices | None = None,
        refresh: RefreshPolicy = QUICK,
        **options: Any,
    ) -> AsyncIterator[Rings]:
        """
        Open the three rings of a service of this namespace, and use them until all is over.
        """
        name = service if "." in service else f"{service}.{self.namespace}"
        told = slices or self.slices
        options |= {"port": port, "refresh": refresh}
        async with (
            Ring(name, resolver=self.dns, **options) as asks,
            Ring(name, resolver=told, **options) as tells,
            Ring(name, resolver=Fallback(told, self.dns), **options) as falls,
            anyio.create_task_group() as tasks,
        ):
            rings = Rings(asks, tells, falls)
            rings.callers = Callers(rings, self.kubelet.given, self.namespace)
            tasks.start_soon(rings.callers.run)
            yield rings
            assert rings.callers.picks
            tasks.cancel_scope.cancel()

    async def apply(self, thing: Json) -> Json:
        """
        Make or change *thing* in this namespace.
        """
        meta = {**thing["metadata"], "namespace": self.namespace}
        return await self.plane.apply({**thing, "metadata": meta})

    async def scale(self, kind: str, name: str, replicas: int) -> None:
        await self.plane.scale(kind, name, replicas, self.namespace)

    def path(self, plural: str, name: str = "") -> str:
        """
        Return where objects of this namespace are: `"pods"`, `"services"`, `"endpointslices"`, ...
        """
        group = {
            "endpointslices": "apis/discovery.k8s.io/v1",
            "deployments": "apis/apps/v1",
            "statefulsets": "apis/apps/v1",
            "replicasets": "apis/apps/v1",
            "roles": "apis/rbac.authorization.k8s.io/v1",
        }.get(plural, "api/v1")
        return f"/{group}/namespaces/{self.namespace}/{plural}{name and '/'}{name}"

    async def pods(self, selector: str = "app=web") -> list[Json]:
        reply = await self.plane.api.get(self.path("pods"), params={"labelSelector": selector})
        reply.raise_for_status()
        items: list[Json] = reply.json()["items"]
        return items

    async def patch(self, path: str, body: Json) -> None:
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        reply = await self.plane.api.request("PATCH", path, json=body, headers=headers)
        reply.raise_for_status()

    async def set_ready(self, pod: Json, ready: bool) -> None:
        await self.kubelet.set_ready(pod["metadata"]["name"], ready, self.namespace)

    async def settled(
        self,
        rings: Rings,
        count: int,
        *,
        selector: str = "app=web",
        within: float = WITHIN,
        family: str = "ipv4",
        serves: Callable[[Json], bool] | None = None,
    ) -> None:
        """
        Return once the API has *count* pods that are ready, and each ring has those and nobody else.
        """
        wanted: set[str] = set()

        async def look() -> bool:
            nonlocal wanted
            pods = [pod for pod in await self.pods(selector) if (serves or is_serving)(pod)]
            wanted = {address_of(pod, family) for pod in pods}
            return len(wanted) == count and rings.shown == [wanted] * 3

        with anyio.move_on_after(within):
            while not await look():
                await anyio.sleep(0.05)
        assert len(wanted) == count
        assert rings.shown == [wanted] * 3, [ring.stats() for ring in rings]
        assert len({ring.snapshot.digest for ring in rings}) == 1


def address_of(pod: Json, family: str = "ipv4") -> str:
    found: list[str] = [each["ip"] for each in pod["status"].get("podIPs", ())]
    return next(each for each in found if (":" in each) == (family == "ipv6"))


def is_serving(pod: Json) -> bool:
    """
    Is this pod to be behind a service, as the API has it?
    """
    conditions = pod["status"].get("conditions", ())
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return is_ready and not pod["metadata"].get("deletionTimestamp")


@asynccontextmanager
async def world(
    plane: ControlPlane,
    *,
    domain: str = "cluster.local",
    ttl: int = 5,
    namespace: str | None = None,
    **kubelet: float,
) -> AsyncIterator[World]:
    """
    Make a namespace, and let it go in the end; *kubelet* has the options of one.
    """
    async with (
        coredns(plane, domain=domain, ttl=ttl) as nameserver,
        plane.connected(),
        Kubelet(plane, **kubelet) as node,
        Gate.before(int(plane.url.rpartition(":")[2])) as gate,
    ):
        it = World(plane, node, gate, nameserver, domain, namespace)
        await plane.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": it.namespace}}
        )
        yield it
        await _end(it)


@asynccontextmanager
async def coredns(
    plane: ControlPlane, *, domain: str = "cluster.local", ttl: int = 5, cached: bool = False
) -> AsyncIterator[str]:
    """
    Run a CoreDNS that follows the control plane, with a cache before it or none, and return its `HOST:PORT`.
    """
    binary = find_binary()
    if binary is None:
        pytest.skip("no CoreDNS")
    cache = " cache\n" if cached else ""
    port, reserved = reserve_port()
    with tempfile.TemporaryDirectory() as place, reserved:
        file = Path(place) / "Corefile"
        file.write_text(
            f".:{port} {{\n bind {HOST}\n errors\n{cache} kubernetes {domain} {{\n"
            f"  kubeconfig {plane.dir / 'kubeconfig'}\n  ttl {ttl}\n }}\n}}\n"
        )
        process = subprocess.Popen(  # noqa: ASYNC220
            [binary, "-conf", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield f"{HOST}:{port}"
        finally:
            process.kill()
            process.wait()


async def _end(it: World) -> None:
    """
    Let the namespace and its pods go. A request that is cancelled in the middle leaves its socket to the collector.
    """
    it.kubelet.delay = it.kubelet.grace = 0.0
    # The namespace would wait for five seconds before it looks at what is in it.
    for plural in ("deployments", "statefulsets", "replicasets", "pods"):
        await it.plane.delete(it.path(plural), gracePeriodSeconds=0)
    await it.plane.delete(f"/api/v1/namespaces/{it.namespace}")
    await it.plane.until(it.path("pods"), lambda told: not told["items"], WITHIN)
    await it.kubelet.until_idle()


@asynccontextmanager
async def without_api(plane: ControlPlane) -> AsyncIterator[None]:
    """
    Kill the API server, and have it back after the body; and its controllers, which would wait for minutes before they
    look again. Where there are several, they end by themselves when they cannot renew their lease.
    """
    plane.stop("controller-manager", kill=True)
    plane.stop("apiserver", kill=True)
    try:
        yield
    finally:
        plane.start("apiserver")
        await plane.until_ready()
        plane.start("controller-manager")


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(WITHIN):
        while not true():
            await anyio.sleep(0.02)
