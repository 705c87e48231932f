"""
The API server in the box, held against what a real one says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from knet.testing import HeadlessService, Pod

from .contract import CONTRACT, Service

pytestmark = [pytest.mark.anyio, pytest.mark.sampled(4)]


class Boxed:
    """
    The service in the box.
    """

    def __init__(self, box: HeadlessService) -> None:
        self.box = box
        self.name, self.namespace = box.name.split(".")[:2]

    async def scale(self, pods: int) -> None:
        self.box.scale(0)
        for _ in range(pods):
            self.box.add(Pod(zone="zone-a"))

    async def set_ready(self, address: str, ready: bool) -> None:
        (self.box.ready if ready else self.box.unready)(address)

    async def terminate(self, address: str) -> None:
        self.box.terminate(address)
        self.box.remove(address)


class Box:
    """
    A world of one service, `web.default`, that is another one each time.
    """

    def __init__(self, box: HeadlessService, client: httpx.AsyncClient) -> None:
        self.box = box
        self.client = client

    @asynccontextmanager
    async def service(
        self, pods: int, *, stateful: bool = False, port: str = "http", slices: int = 1
    ) -> AsyncIterator[Service]:
        with HeadlessService("web.default", pods=0, stateful=stateful, ports={port: 8080}) as box:
            async with httpx.AsyncClient(base_url=box.api.url, timeout=30) as client:
                before = self.box, self.client
                self.box, self.client = box, client
                for _ in range(pods if slices == 1 else slices * 100 - 50):
                    box.add(Pod(zone="zone-a"))
                try:
                    yield Boxed(box)
                finally:
                    self.box, self.client = before

    @asynccontextmanager
    async def forbidden(self) -> AsyncIterator[httpx.AsyncClient]:
        with self.box.api.failing("FORBIDDEN"):
            yield self.client

    @asynccontextmanager
    async def unauthorized(self) -> AsyncIterator[httpx.AsyncClient]:
        with self.box.api.failing("UNAUTHORIZED"):
            yield self.client

    async def forget(self) -> None:
        self.box.api.stop()
        self.box.api.start()


@pytest.mark.parametrize("check", CONTRACT)
async def test_the_box_says_what_a_real_server_says(check: str) -> None:
    with HeadlessService("web.default") as box:
        async with httpx.AsyncClient(base_url=box.api.url, timeout=30) as client:
            await CONTRACT[check](Box(box, client))
