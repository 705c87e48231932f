"""
What a real API server says of EndpointSlices: the contract that the one in the box is held to.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from tests.kubernetes.contract import CONTRACT, Service, conditions_of

from .plane import ControlPlane, Json, deployment, headless, stateful_set
from .world import World, without_api, world

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

NUMBERS: Iterator[int] = itertools.count(1)


class Real:
    """
    A Service of the control plane.
    """

    def __init__(self, it: World, name: str, kind: str) -> None:
        self.name = name
        self.namespace = it.namespace
        self._it = it
        self._kind = kind

    async def scale(self, pods: int) -> None:
        await self._it.scale(self._kind, self.name, pods)
        await self.until(pods)

    async def until(self, pods: int) -> None:
        """
        Wait until so many are there and ready, and nobody else.
        """
        path = self._it.path("endpointslices")

        def are_there(told: dict[str, Any]) -> bool:
            found = [v for each in told["items"] for v in conditions_of(each).values()]
            return bool(told["items"]) and found == [(True, True, False)] * pods

        await self._it.plane.until(
            f"{path}?labelSelector=kubernetes.io/service-name={self.name}", are_there
        )

    async def set_ready(self, address: str, ready: bool) -> None:
        await self._it.set_ready(await self._pod(address), ready)

    async def terminate(self, address: str) -> None:
        name = (await self._pod(address))["metadata"]["name"]
        await self._it.plane.delete(self._it.path("pods", name))

    async def _pod(self, address: str) -> Json:
        pods = await self._it.pods(f"app={self.name}")
        (found,) = (each for each in pods if each["status"].get("podIP") == address)
        return found


class Reality:
    """
    A control plane as the contract sees it.
    """

    def __init__(self, it: World) -> None:
        self._it = it
        self.client = it.plane.api

    @asynccontextmanager
    async def service(
        self, pods: int, *, stateful: bool = False, port: str = "http", slices: int = 1
    ) -> AsyncIterator[Service]:
        name = f"web{next(NUMBERS)}"
        kind = "statefulset" if stateful else "deployment"
        await self._it.apply(headless(name, port_name=port))
        await self._it.apply((stateful_set if stateful else deployment)(name, pods))
        made = Real(self._it, name, kind)
        await made.until(pods)
        for number in range(1, slices):
            await self._it.apply(
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
        meta = {"name": "app", "namespace": self._it.namespace}
        await self._it.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
        async with self._client(await self._it.plane.token("app", self._it.namespace)) as client:
            yield client

    @asynccontextmanager
    async def unauthorized(self) -> AsyncIterator[httpx.AsyncClient]:
        async with self._client("nobody's") as client:
            yield client

    def _client(self, token: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        url = self._it.plane.url
        return httpx.AsyncClient(base_url=url, headers=headers, verify=False, timeout=30)

    async def forget(self) -> None:
        async with without_api(self._it.plane):
            pass


async def test_a_real_server_keeps_the_contract(plane: ControlPlane) -> None:
    """
    One world for all of it, since it takes seconds to make; the last check restarts its server.
    """
    broken: list[Exception] = []
    async with world(plane, grace=0.1) as it:
        reality = Reality(it)
        for name, check in CONTRACT.items():
            try:
                await check(reality)
            except Exception as error:
                error.add_note(f"in the check {name}")
                broken.append(error)
        # A request that is cancelled in the middle of a handshake leaves its socket to the collector.
        await anyio.sleep(0.5)
    if broken:
        raise ExceptionGroup("a real server does not keep the contract", broken)
