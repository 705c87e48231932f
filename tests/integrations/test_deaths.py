"""
A pod is killed under 20 clients, in a process of its own: no GET fails whose response had not begun, and no POST
is sent twice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import pytest

import knet.integrations.httpx
import knet.integrations.httpx2
from knet import Ring
from knet.integrations.aiohttp import ring_middleware
from tests.hosts.backend import backends

pytestmark = [pytest.mark.anyio, pytest.mark.long]

ADDRESSES = [f"127.0.0.{n}" for n in range(41, 46)]
CLIENTS = 20
WITHIN = 60.0

# Sends a request by a method for a path with a key; returns who answered.
Send = Callable[[str, str, str], Awaitable[str]]


@asynccontextmanager
async def by_httpx(ring: Ring, library: Any, integration: Any) -> AsyncIterator[Send]:
    mounts = integration.RingTransport(ring).mounts()
    async with library.AsyncClient(mounts=mounts, trust_env=False) as client:

        async def send(method: str, path: str, key: str) -> str:
            url, more = f"http://web.prod{path}", {"knet_key": key}
            response = await client.request(method, url, extensions=more)
            response.raise_for_status()
            text: str = response.text
            return text

        yield send


@asynccontextmanager
async def by_aiohttp(ring: Ring) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(method: str, path: str, key: str) -> str:
            at = ring_middleware(ring, key=key)
            url = f"http://web.prod{path}"
            async with session.request(method, url, middlewares=[at]) as response:
                response.raise_for_status()
                return await response.text()

        yield send


def sender(name: str, ring: Ring) -> Any:
    if name == "aiohttp":
        return by_aiohttp(ring)
    library = {"httpx2": httpx2, "httpx": httpx}[name]
    return by_httpx(ring, library, getattr(knet.integrations, name))


@pytest.mark.parametrize("name", ["httpx2", "httpx", "aiohttp"])
async def test_a_killed_pod_costs_no_get_and_repeats_no_post(
    name: str, anyio_backend: str, tmp_path: Path
) -> None:
    if name == "aiohttp" and anyio_backend == "trio":
        pytest.skip("aiohttp is asyncio's")
    notes = tmp_path / "posts"
    errors = (httpx2.TransportError, httpx.TransportError, aiohttp.ClientError)
    done: set[str] = set()
    unknown: set[str] = set()
    served = 0
    is_over = False
    with backends(*ADDRESSES, file=str(notes)) as pods:
        ring = Ring.static([f"{address}:{pods.port}" for address in ADDRESSES], service="web.prod")
        async with ring, sender(name, ring) as send:

            async def client(number: int) -> None:
                nonlocal served
                chance = random.Random(number)
                for count in range(10_000):
                    if is_over:
                        return
                    key = f"user-{chance.randrange(1000)}"
                    await send("GET", "/x", key)
                    path = f"/{number}-{count}"
                    try:
                        await send("POST", path, key)
                        done.add(path)
                    except errors:
                        unknown.add(path)
                    served += 1

            with anyio.fail_after(WITHIN):
                async with anyio.create_task_group() as tasks:
                    for number in range(CLIENTS):
                        tasks.start_soon(client, number)
                    while served < 400:
                        await anyio.sleep(0.005)
                    pods.kill(ADDRESSES[0])
                    while served < 1000:
                        await anyio.sleep(0.005)
                    is_over = True
            assert ring.stats().in_flight == 0
            assert [pod.address for pod in ring.ejected] == [ADDRESSES[0]]
    seen = Counter(notes.read_text().split())
    assert max(seen.values()) == 1
    assert done <= seen.keys()
    assert len(unknown) <= CLIENTS
