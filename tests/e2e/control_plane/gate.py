"""
A port of loopback in front of a server, which can be shut: what is open breaks, and nobody is let in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream, SocketStream

from tests.e2e.ports import HOST, reserve_port

__all__ = ["Gate"]

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class Gate:
    """
    Passes connections on to *port*, byte by byte; `async with Gate.before(port) as gate`.

    Attributes:
        port: Where it listens itself.
        is_open: Whether it lets anybody in.
    """

    def __init__(self, port: int) -> None:
        self.is_open = True
        self.port, self._reserved = reserve_port()
        self._server = port
        self._scopes: set[anyio.CancelScope] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, port: int) -> AsyncIterator[Gate]:
        gate = cls(port)
        try:
            async with (
                await anyio.create_tcp_listener(
                    local_host=HOST, local_port=gate.port, reuse_port=True
                ) as listener,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(listener.serve, gate._pass)
                yield gate
                tasks.cancel_scope.cancel()
        finally:
            gate._reserved.close()

    @property
    def connections(self) -> int:
        """
        How many are open.
        """
        return len(self._scopes)

    def shut(self) -> None:
        """
        Break all that is open, and let nobody in.
        """
        self.is_open = False
        self.cut()

    def cut(self) -> None:
        """
        Break all that is open.
        """
        for scope in self._scopes:
            scope.cancel()

    async def _pass(self, client: SocketStream) -> None:
        async with client:
            if not self.is_open:
                return
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    async with (
                        await anyio.connect_tcp(HOST, self._server) as server,
                        anyio.create_task_group() as tasks,
                    ):
                        tasks.start_soon(_copy, client, server, scope)
                        await _copy(server, client, scope)
                except OSError:
                    pass  # nobody is there
                finally:
                    self._scopes.discard(scope)


async def _copy(source: ByteStream, target: ByteStream, scope: anyio.CancelScope) -> None:
    """
    Copy until one of them ends; then all is over.
    """
    try:
        while True:
            await target.send(await source.receive())
    except _BROKEN:
        scope.cancel()
