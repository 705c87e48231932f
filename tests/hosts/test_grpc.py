"""
A pool of real gRPC channels.
"""

from __future__ import annotations

from typing import Any

import pytest

from knet import Endpoint, Pool, Ring

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """
    `grpc.aio` is asyncio's.
    """
    return "asyncio"


async def test_channels_of_grpc_are_clients_like_others() -> None:
    """
    Real ones, to real servers: one for each pod, closed in the end.
    """
    import grpc  # type: ignore[import-untyped]
    import grpc.aio  # type: ignore[import-untyped]

    class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
        def __init__(self, name: bytes) -> None:
            self.name = name

        def service(self, handler_call_details: Any) -> Any:
            async def answer(request: bytes, context: Any) -> bytes:
                return self.name + b" " + request

            return grpc.unary_unary_rpc_method_handler(answer)

    servers, ports = [], []
    for number in range(2):
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([Echo(str(number).encode())])
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    try:
        async with Ring.static([f"127.0.0.1:{port}" for port in ports]) as ring:
            opened: list[Endpoint] = []

            def connect(pod: Endpoint) -> Any:
                opened.append(pod)
                return grpc.aio.insecure_channel(str(pod))

            async with Pool[Any](ring, connect, lambda channel: channel.close(1)) as pool:
                for key in (f"user-{n}" for n in range(20)):

                    async def ask(channel: Any, key: str = key) -> Any:
                        return await channel.unary_unary("/web.Shop/Buy")(key.encode(), timeout=10)

                    pod = ring.snapshot.get(key)
                    wanted = f"{ports.index(pod.port)} {key}"
                    assert await pool.call(key, ask) == wanted.encode()
            assert sorted(e.port or 0 for e in opened) == sorted(ports)
    finally:
        for server in servers:
            await server.stop(None)
