"""
One pod of a service that routes to itself, in a process of its own.

    python -m tests.integrations.served_pod SERVER ADDRESS PORT NAMESERVER

SERVER is uvicorn, hypercorn or hypercorn-trio.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import anyio
from fastapi import Depends, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse

import knet
from knet.integrations.asgi import OwnerMiddleware, ring_lifespan, ring_of
from knet.resolver import surrounded_by
from knet.surroundings import surroundings_from

QUICK = knet.RefreshPolicy(interval=0.05, min_interval=0.02, retry=0.05, confirm=1, jitter=0)
SECRET = "hush"

# It tells the pod that it was loaded from what it heard.
PAGE = """<!doctype html><script>
const socket = new WebSocket(`ws://${location.host}/rooms/ROOM/socket`, ["chat"]);
socket.onopen = () => socket.send("hello");
socket.onmessage = (event) => {
  fetch("/heard", {method: "POST", body: `${socket.protocol}: ${event.data}`});
  socket.close();
};
</script>
"""

TheRing = Annotated[knet.Ring, Depends(ring_of)]


def key_of(scope: Any) -> str | None:
    parts = scope["path"].split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "rooms" else None


def app_at(address: str, port: int) -> Any:
    me = f"{address}:{port}"
    options: dict[str, Any] = {"refresh": QUICK, "start_timeout": 5}
    app = FastAPI(lifespan=ring_lifespan("web.prod", port=port, me=knet.this_pod, **options))
    streams = [0]
    heard: list[str] = []

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok"

    @app.get("/streams")
    async def count() -> int:
        return streams[0]

    @app.get("/known")
    async def known(ring: TheRing) -> int:
        return len(ring.snapshot)

    @app.get("/in-flight")
    async def in_flight(ring: TheRing) -> int:
        return ring.stats().in_flight

    @app.post("/heard")
    async def hear(request: Request) -> None:
        heard.append((await request.body()).decode())

    @app.get("/heard")
    async def tell() -> list[str]:
        return heard

    @app.get("/page/{room}", response_class=HTMLResponse)
    async def page(room: str) -> str:
        return PAGE.replace("ROOM", room)

    @app.get("/rooms/{room}", response_class=PlainTextResponse)
    async def find(room: str, request: Request) -> str:
        return f"{me} {request.headers['host']}"

    @app.get("/rooms/{room}/ticks")
    async def ticks(room: str) -> StreamingResponse:
        async def tick() -> AsyncIterator[bytes]:
            streams[0] += 1
            try:
                while True:
                    yield f"{me}\n".encode()
                    await anyio.sleep(0.02)
            finally:
                streams[0] -= 1

        return StreamingResponse(tick())

    @app.post("/rooms/{room}/size", response_class=PlainTextResponse)
    async def size(room: str, request: Request) -> str:
        total = 0
        async for part in request.stream():
            total += len(part)
        return f"{me} {total}"

    @app.websocket("/rooms/{room}/socket")
    async def socket(websocket: WebSocket, room: str) -> None:
        if "refused" in websocket.query_params:
            await websocket.close()
            return
        await websocket.accept("chat" if "chat" in websocket.scope["subprotocols"] else None)
        with suppress(WebSocketDisconnect):
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                text, data = message.get("text"), message.get("bytes")
                if text == "bye":
                    await websocket.close(4001, "as you wish")
                    break
                if data is not None:
                    await websocket.send_bytes(data)
                else:
                    await websocket.send_text(f"{me} {text}")

    app.add_middleware(OwnerMiddleware, key=key_of, secret=SECRET)
    return app


def main(server: str, address: str, port: str, nameserver: str) -> None:
    kubelet = surroundings_from("search prod.svc.cluster.local svc.cluster.local cluster.local")
    with surrounded_by(replace(kubelet, nameservers=(nameserver,), addresses=(address,))):
        app = app_at(address, int(port))
        if server == "uvicorn":
            import uvicorn

            uvicorn.run(app, host=address, port=int(port), log_level="warning")
            return
        from hypercorn.config import Config

        config = Config()
        config.bind = [f"{address}:{port}"]
        config.loglevel = "warning"
        if server == "hypercorn":
            import asyncio

            from hypercorn.asyncio import serve

            asyncio.run(serve(app, config))
        else:
            import trio
            from hypercorn.trio import serve as serve_on_trio

            trio.run(serve_on_trio, app, config)


if __name__ == "__main__":
    main(*sys.argv[1:])
