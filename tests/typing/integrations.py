# pyright: strict, reportUnusedFunction=false, reportUnusedVariable=false, reportUnknownMemberType=false
"""
What users write with other libraries, and the types that they get.
"""

from __future__ import annotations

from typing import assert_type

import aiohttp
import httpx
import httpx2
from aiohttp import web
from fastapi import Depends, FastAPI
from opentelemetry.metrics import get_meter
from prometheus_client import CollectorRegistry
from starlette.types import Scope

import knet
from knet.integrations import httpx as of_httpx
from knet.integrations import httpx2 as of_httpx2
from knet.integrations.aiohttp import ring_context, ring_middleware, ring_websocket
from knet.integrations.asgi import OwnerMiddleware, StatusPage, ring_lifespan, ring_of
from knet.integrations.grpc import RingChannels
from knet.integrations.opentelemetry import Observed, observe, traced
from knet.integrations.prometheus import RingCollector


async def clients(ring: knet.Ring) -> None:
    transport = of_httpx2.RingTransport(ring, key=knet.keys.path, bound=1.5, total=5)
    async with httpx2.AsyncClient(mounts=transport.mounts()) as client:
        assert_type(await client.get("http://web.prod/"), httpx2.Response)
    async with httpx2.AsyncClient(transport=of_httpx2.RingTransport(ring)) as client:
        await client.get("http://web.prod/", extensions={"knet_key": "user-42"})
    other = of_httpx.RingTransport(ring, key=lambda request: request.url.path, http2=True)
    async with httpx.AsyncClient(mounts=other.mounts()) as old:
        assert_type(await old.get("http://web.prod/"), httpx.Response)


def key_of(request: aiohttp.ClientRequest) -> str:
    return request.url.path


async def of_aiohttp(ring: knet.Ring) -> None:
    middleware = ring_middleware(ring, key=key_of, retry_on=knet.may_repeat)
    async with aiohttp.ClientSession(middlewares=[middleware]) as session:
        async with session.get("http://web.prod/") as response:
            assert_type(response, aiohttp.ClientResponse)
        async with ring_websocket(session, ring, "room-7", "ws://web.prod/rooms/7") as socket:
            assert_type(socket, aiohttp.ClientWebSocketResponse)


RING = web.AppKey("RING", knet.Ring)


def application() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(ring_context(RING, "web.prod", port=8080))
    assert_type(app[RING], knet.Ring)
    return app


async def of_grpc(ring: knet.Ring) -> None:
    async with RingChannels(ring, n=2, bound=knet.Bound(1.5)) as channels:
        assert_type(channels, RingChannels)
        async with channels.channel("user-42"):
            pass


def room_of(scope: Scope) -> str | None:
    path: str = scope["path"]
    return path or None


def servers() -> FastAPI:
    app = FastAPI(lifespan=ring_lifespan("web.prod", port=8080, me=knet.this_pod))
    app.add_middleware(OwnerMiddleware, key=room_of, mode="redirect")
    app.mount("/knet", StatusPage("ring"))

    async def find(room: str, ring: knet.Ring = Depends(ring_of)) -> str:  # noqa: B008 - it is how they write it
        return str(await ring.get(room))

    return app


async def fetch(pod: knet.Endpoint) -> bytes:
    return pod.name.encode()


async def fetch_many(pod: knet.Endpoint, keys: list[str]) -> dict[str, int]:
    return dict.fromkeys(keys, 1)


async def for_operators(ring: knet.Ring) -> None:
    registry = CollectorRegistry()
    registry.register(RingCollector(ring, endpoints=True))
    RingCollector({"reads": ring}, lambda: [ring], knet.open_rings)
    with observe(ring, meter=get_meter("shop")) as observed:
        assert_type(observed, Observed)
    assert_type(await ring.call("user-42", traced(fetch)), bytes)
    assert_type(await ring.call_many(["a", "b"], traced(fetch_many)), dict[str, int])
