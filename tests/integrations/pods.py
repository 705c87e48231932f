"""
Pods that speak HTTP/1.1, on the event loop of the test, and misbehave on demand.

What each has seen is noted: the proof that nothing was sent twice.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import h11
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from knet import Endpoint

__all__ = ["FAULTS", "Pod", "Seen", "pods"]

# What happens to a request that a pod has read: the connection is closed; it is reset; nobody answers; the
# answer is no HTTP; only half of the body comes.
FAULTS = ("closed", "reset", "silent", "garbage", "half")


@dataclass(frozen=True, slots=True)
class Seen:
    """
    One request that a pod has read.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Pod:
    """
    One pod. It answers with its name, and `/...` as `_answers` says.

    Attributes:
        name: `"127.0.0.1:port"`.
        fault: One of `FAULTS`, or `"refused"` once `refuse()` was called.
        seen: What it has read, in order.
        connections: How many it has accepted.
        open: How many of them are open.
        gate: Requests for `/wait` are answered once it is set.
    """

    name: str
    port: int
    fault: str = ""
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    gate: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.name, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """
        Be dead, as a process that was killed: nobody listens, and connections are closed.
        """
        self.fault = "refused"
        self.scope.cancel()
        with anyio.fail_after(5):
            while True:
                try:
                    await (await anyio.connect_tcp("127.0.0.1", self.port)).aclose()
                except OSError:
                    return
                await anyio.sleep(0.01)

    async def serve(self, stream: Any) -> None:
        self.connections += 1
        self.open += 1
        try:
            with suppress(
                anyio.BrokenResourceError,
                anyio.ClosedResourceError,
                anyio.EndOfStream,
                h11.RemoteProtocolError,
                OSError,
            ):
                async with stream:
                    await self._converse(stream)
        finally:
            self.open -= 1

    async def _converse(self, stream: Any) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            head, body = None, b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive())
                elif isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    break
            if head is None or not isinstance(event, h11.EndOfMessage):
                return
            headers = {k.decode(): v.decode() for k, v in head.headers}
            seen = Seen(head.method.decode(), head.target.decode(), headers, body)
            self.seen.append(seen)
            if self.fault:
                await self._go_wrong(stream)
                return
            for told in await self._answers(seen):
                await stream.send(connection.send(told))
            if connection.our_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _answers(self, seen: Seen) -> Sequence[Any]:
        status, headers, body = 200, [("x-pod", self.name)], self.name.encode()
        route, _, rest = seen.path.partition("?")
        if route == "/redirect":
            status, headers = 307, [("location", rest)]
        elif route == "/cookie":
            headers = [("set-cookie", "a=b")]
        elif route == "/status":
            status = int(rest)
        elif route == "/wait":
            await self.gate.wait()
        elif route == "/echo":
            body = seen.body
        headers.append(("content-length", str(len(body))))
        return [
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]

    async def _go_wrong(self, stream: Any) -> None:
        if self.fault == "silent":
            await anyio.sleep_forever()
        elif self.fault == "garbage":
            await stream.send(b"no HTTP at all\r\n\r\n")
        elif self.fault == "half":
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        elif self.fault == "reset":
            raw = stream.extra(SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def pods(count: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[list[Pod]]:
    """
    Run *count* of them.
    """
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        made = []
        for _ in range(count):
            made.append(await start(tasks, stack, tls))
        try:
            yield made
        finally:
            tasks.cancel_scope.cancel()


async def start(tasks: Any, stack: AsyncExitStack, tls: ssl.SSLContext | None) -> Pod:
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", reuse_port=False)
    port = listener.extra(SocketAttribute.local_port)
    if tls is not None:
        listener = TLSListener(listener, tls, standard_compatible=False)
    pod = Pod(f"127.0.0.1:{port}", port)

    async def live() -> None:
        with pod.scope:
            async with listener:
                await listener.serve(pod.serve)

    tasks.start_soon(live)
    return pod
