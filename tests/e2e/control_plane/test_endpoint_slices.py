"""
`EndpointSlices` on a real control plane, beside a ring that asks a real CoreDNS on it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from knet import Forbidden, RefreshPolicy, Resolver, Ring, ServerUnreachable
from knet.kubernetes import EndpointSlices
from tests.conformance.live.servers import free_port
from tests.e2e.coredns import find_binary

from .plane import ControlPlane, Kubelet, deployment, headless, stateful_set

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

QUICK = RefreshPolicy(interval=0.3, min_interval=0.1, retry=0.1, max_retry=1.0)
PODS = "/api/v1/namespaces/default/pods"
WITHIN = 60.0


class World:
    """
    A control plane, its kubelet, and a CoreDNS.
    """

    def __init__(self, plane: ControlPlane, kubelet: Kubelet, nameserver: str) -> None:
        self.plane = plane
        self.kubelet = kubelet
        self.dns = Resolver(nameservers=[nameserver])
        self.slices = EndpointSlices(
            kubeconfig=str(plane.dir / "kubeconfig"), domain="cluster.local"
        )

    @asynccontextmanager
    async def both(self, service: str, port: int | str) -> AsyncIterator[tuple[Ring, Ring]]:
        """
        Open a ring that asks and one that is told.
        """
        async with (
            Ring(service, port=port, resolver=self.dns, refresh=QUICK) as asks,
            Ring(service, port=port, resolver=self.slices, refresh=QUICK) as told,
        ):
            yield asks, told

    async def pods(self, name: str) -> list[dict[str, Any]]:
        items = (await self.plane.api.get(PODS)).json()["items"]
        return [each for each in items if each["metadata"]["name"].startswith(name)]


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    coredns = find_binary()
    if coredns is None:
        pytest.skip("no CoreDNS")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        async with (
            ControlPlane(Path(os.environ["CONTROLPLANE_BIN"]), folder) as plane,
            Kubelet(plane) as kubelet,
        ):
            port = free_port()
            lines = [f"kubeconfig {folder / 'kubeconfig'}", "ttl 5"]
            (folder / "Corefile").write_text(
                f".:{port} {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n"
                + "\n".join(lines)
                + "\n }\n}\n"
            )
            command = [coredns, "-conf", str(folder / "Corefile")]
            with (folder / "coredns.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
            try:
                for name, kind in (("web", deployment("web", 5)), ("db", stateful_set("db", 3))):
                    await plane.apply(headless(name))
                    await plane.apply(kind)
                yield World(plane, kubelet, f"127.0.0.1:{port}")
                # A request that is cancelled in the middle of a handshake leaves its socket to the collector.
                for what, name in (("deployment", "web"), ("statefulset", "db")):
                    await plane.scale(what, name, 0)
                await plane.until(PODS, lambda told: not told["items"])
            finally:
                process.kill()
                process.wait()


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(WITHIN):
        while not true():
            await anyio.sleep(0.02)


def agree(asks: Ring, told: Ring, count: int) -> bool:
    return len(told.snapshot) == count and asks.snapshot.digest == told.snapshot.digest


def knows(ring: Ring, address: str, is_there: bool) -> bool:
    return (ring.snapshot.find(address) is not None) == is_there


async def test_the_same_endpoints_as_by_dns_through_rollouts_and_outages() -> None:
    """
    One world for all of it, since it takes seconds to make.
    """
    async with world() as it:
        web = "web.default.svc.cluster.local"
        for service, port, count in (
            (web, 8080, 5),
            (web, "http", 5),
            ("db.default", "http", 3),
            ("db.default", 8080, 3),
        ):
            async with it.both(service, port) as (asks, told):
                await until(partial(agree, asks, told, count))
                assert told.snapshot.zones == {"zone-a"}

        async with it.both(web, 8080) as (asks, told):
            # A pod that gets unready, and ready again.
            pod = (await it.pods("web"))[0]
            name, address = pod["metadata"]["name"], f"{pod['status']['podIP']}:8080"
            for ready in (False, True):
                await it.kubelet.set_ready(name, ready)
                await until(partial(knows, told, address, ready))
            # Up and down, and everything replaced.
            for replicas in (12, 2):
                await it.plane.scale("deployment", "web", replicas)
                await until(partial(agree, asks, told, replicas))
            before = set(told.snapshot.endpoints)
            for pod in await it.pods("web"):
                await it.plane.delete(f"{PODS}/{pod['metadata']['name']}")
            await until(lambda: agree(asks, told, 2) and not before & set(told.snapshot.endpoints))
            # The API is killed, and comes back.
            generation = told.snapshot.generation
            it.plane.stop("apiserver", kill=True)
            with anyio.fail_after(WITHIN):
                await told.wait_for("stale")
                it.plane.start("apiserver")
                await it.plane.until_ready()
                await told.wait_for("fresh")
            assert told.snapshot.generation == generation
            await it.plane.scale("deployment", "web", 4)
            await until(lambda: len(told.snapshot) == 4)
            # Nobody is left: held by both.
            await it.plane.scale("deployment", "web", 0)
            with anyio.fail_after(WITHIN):
                await told.wait_for("stale")
            assert len(told.snapshot) >= 1


async def test_who_may_not_read_slices_is_told_what_to_apply() -> None:
    async with world() as it:
        plane = it.plane
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}}
        await plane.apply(account)
        source = EndpointSlices(api=plane.url, token=await plane.token("app"), ca=str(plane.ca))
        with pytest.raises(
            Forbidden, match=r"resources: \[endpointslices\], verbs: \[list, watch\]"
        ):
            await Ring("web.default", resolver=source, refresh=QUICK, start_timeout=1).start()
        meta = {"name": "knet", "namespace": "default"}
        group = "rbac.authorization.k8s.io"
        rule = {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        }
        await plane.apply(
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": [rule]}
        )
        await plane.apply(
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": "knet"},
                "subjects": [{"kind": "ServiceAccount", "name": "app", "namespace": "default"}],
            }
        )
        async with Ring("web.default", port=80, resolver=source, refresh=QUICK) as ring:
            await until(lambda: len(ring.snapshot) == 5)

        stranger = EndpointSlices(api=plane.url, token="x")
        with pytest.raises(ServerUnreachable, match="is not to be trusted"):
            await Ring("web.default", resolver=stranger, refresh=QUICK, start_timeout=1).start()
