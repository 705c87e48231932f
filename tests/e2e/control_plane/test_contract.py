"""
What a real API server says of EndpointSlices: the contract that the one in the box is held to.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.kubernetes.contract import CONTRACT, Service, conditions_of, path_of

from .plane import ControlPlane, Kubelet, deployment, headless, stateful_set

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PODS = "/api/v1/namespaces/default/pods"
NUMBERS: Iterator[int] = itertools.count(1)


class Real:
    """
    A Service of the control plane.
    """

    namespace = "default"

    def __init__(self, plane: ControlPlane, kubelet: Kubelet, name: str, kind: str) -> None:
        self.plane = plane
        self.kubelet = kubelet
        self.name = name
        self.kind = kind

    async def scale(self, pods: int) -> None:
        await self.plane.scale(self.kind, self.name, pods)
        await self.until(pods)

    async def until(self, pods: int) -> None:
        """
        Wait until so many are there and ready, and nobody else.
        """
        path = f"{path_of('default')}?labelSelector=kubernetes.io/service-name={self.name}"

        def are_there(told: dict[str, Any]) -> bool:
            found = [v for each in told["items"] for v in conditions_of(each).values()]
            return bool(told["items"]) and found == [(True, True, False)] * pods

        await self.plane.until(path, are_there)

    async def set_ready(self, address: str, ready: bool) -> None:
        await self.kubelet.set_ready(await self._pod(address), ready)

    async def terminate(self, address: str) -> None:
        await self.plane.delete(f"{PODS}/{await self._pod(address)}")

    async def _pod(self, address: str) -> str:
        items = (await self.plane.api.get(PODS)).json()["items"]
        (name,) = (
            each["metadata"]["name"] for each in items if each["status"].get("podIP") == address
        )
        return str(name)


class Reality:
    """
    A control plane as the contract sees it.
    """

    def __init__(self, plane: ControlPlane, kubelet: Kubelet) -> None:
        self.plane = plane
        self.kubelet = kubelet
        self.client = plane.api

    @asynccontextmanager
    async def service(
        self, pods: int, *, stateful: bool = False, port: str = "http", slices: int = 1
    ) -> AsyncIterator[Service]:
        name = f"web{next(NUMBERS)}"
        kind = "statefulset" if stateful else "deployment"
        await self.plane.apply(headless(name, port_name=port))
        await self.plane.apply((stateful_set if stateful else deployment)(name, pods))
        made = Real(self.plane, self.kubelet, name, kind)
        await made.until(pods)
        for number in range(1, slices):
            await self.plane.apply(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "name": f"{name}-by-hand-{number}",
                        "labels": {"kubernetes.io/service-name": name},
                    },
                    "addressType": "IPv4",
                    "endpoints": [
                        {
                            "addresses": [f"10.244.200.{number}"],
                            "conditions": {
                                "ready": True,
                                "serving": True,
                                "terminating": False,
                            },
                        }
                    ],
                }
            )
        yield made

    @asynccontextmanager
    async def forbidden(self) -> AsyncIterator[httpx.AsyncClient]:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}}
        await self.plane.apply(account)
        async with self._client(await self.plane.token("app")) as client:
            yield client

    @asynccontextmanager
    async def unauthorized(self) -> AsyncIterator[httpx.AsyncClient]:
        async with self._client("nobody's") as client:
            yield client

    def _client(self, token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.plane.url, headers=headers, verify=False, timeout=30)

    async def forget(self) -> None:
        self.plane.stop("apiserver", kill=True)
        self.plane.start("apiserver")
        await self.plane.until_ready()


@asynccontextmanager
async def reality() -> AsyncIterator[Reality]:
    with tempfile.TemporaryDirectory() as place:
        async with (
            ControlPlane(Path(os.environ["CONTROLPLANE_BIN"]), Path(place)) as plane,
            Kubelet(plane, grace=0.1) as kubelet,
        ):
            yield Reality(plane, kubelet)
            # A request that is cancelled in the middle of a handshake leaves its socket to the collector.
            await anyio.sleep(0.5)


async def test_a_real_server_keeps_the_contract() -> None:
    """
    One world for all of it, since it takes seconds to make; the last check restarts its server.
    """
    async with reality() as world:
        broken: list[Exception] = []
        for name, check in CONTRACT.items():
            try:
                await check(world)
            except Exception as error:
                error.add_note(f"in the check {name}")
                broken.append(error)
        if broken:
            raise ExceptionGroup("a real server does not keep the contract", broken)
