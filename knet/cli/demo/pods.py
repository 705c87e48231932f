"""
Pods for the demo: HTTP servers on loopback that tell their name, and the client that asks them.

They really listen and really die. All of them share 127.0.0.1, since a Mac has no other loopback
address, so each has a port of its own.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Final, Self

import anyio
from anyio.abc import SocketStream, TaskStatus

from knet import Endpoint
from knet.testing import Pod

__all__ = ["PORT", "Fleet", "ask", "fetch", "short"]

PORT: Final = "http"

_LOOPBACK = "127.0.0.1"
# A pod on this machine answers in a millisecond; this only bounds what went wrong.
_PATIENCE = 2.0
_MAX_REPLY = 4096
_TROUBLE = (OSError, TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError)


class _Server:
    """
    One pod: answers every request with its name until it is stopped.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._clients: set[socket.socket] = set()
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        try:
            with socket.create_server((_LOOPBACK, 0)) as listener, self._scope:
                listener.setblocking(False)
                self.port = listener.getsockname()[1]
                task_status.started()
                await self._accept(listener)
        finally:
            # Those whose task was cancelled before it had begun.
            for client in self._clients:
                client.close()
            self._over.set()

    async def stop(self) -> None:
        """
        Die as a node does, mid-request if need be; return once its port refuses connections.
        """
        self._scope.cancel()
        await self._over.wait()

    async def _accept(self, listener: socket.socket) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                # Wait first and accept then: asyncio's own accept complains if a client comes
                # while it is being cancelled.
                await anyio.wait_readable(listener)
                with suppress(BlockingIOError, ConnectionError):
                    client, _ = listener.accept()
                    self._clients.add(client)
                    tasks.start_soon(self._answer, client)

    async def _answer(self, client: socket.socket) -> None:
        name = self.name.encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(name)
        try:
            stream = await SocketStream.from_socket(client)
        except BaseException:
            self._clients.discard(client)
            client.close()  # cancelled before the stream took it over
            raise
        try:
            async with stream:
                with anyio.fail_after(_PATIENCE):
                    await stream.receive()
                    await stream.send(head + name)
        except (*_TROUBLE, anyio.EndOfStream):
            return  # the client went away, which is its own affair
        finally:
            self._clients.discard(client)


class Fleet:
    """
    The pods that run, by name; leaving it stops them all.
    """

    def __init__(self) -> None:
        self._tasks = anyio.create_task_group()
        self._servers: dict[str, _Server] = {}
        self._used: set[int] = set()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    async def start(self, name: str) -> Pod:
        """
        Start a pod, and return what Kubernetes would publish of it.
        """
        while True:
            server = _Server(name)
            await self._tasks.start(server.serve)
            if server.port not in self._used:
                break
            # A port that a dead pod had: whoever still goes there must not find another pod.
            await server.stop()
        self._used.add(server.port)
        self._servers[name] = server
        ports = MappingProxyType({PORT: server.port})
        return Pod(_LOOPBACK, hostname=name, ports=ports)

    async def kill(self, name: str) -> None:
        """
        Stop a pod without a word to anybody.
        """
        await self._servers.pop(name).stop()


def short(endpoint: Endpoint) -> str:
    """
    Return the pod's name, `"web-0"`, of an endpoint named `"web-0.web.demo.svc.cluster.local"`.
    """
    return endpoint.name.partition(".")[0]


async def ask(endpoint: Endpoint, key: str) -> str | None:
    """
    Send one request for *key* to *endpoint*; return the name of the pod that answered, if any did.
    """
    try:
        return await fetch(endpoint, key)
    except (*_TROUBLE, EOFError):
        return None


async def fetch(endpoint: Endpoint, key: str) -> str:
    """
    Send one request for *key* to *endpoint*; return the name of the pod that answered.

    Raises:
        OSError, EOFError: None did, and how; or as anyio calls it.
    """
    request = f"GET /{key} HTTP/1.1\r\nHost: {endpoint.name}\r\nConnection: close\r\n\r\n"
    reply = b""
    with anyio.fail_after(_PATIENCE):
        async with await anyio.connect_tcp(endpoint.address, endpoint.port or 0) as stream:
            await stream.send(request.encode())
            while len(reply) < _MAX_REPLY:
                try:
                    reply += await stream.receive()
                except anyio.EndOfStream:
                    break
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or not body:
        raise EOFError(f"{endpoint} broke off its answer")
    return body.decode("ascii", "replace")
