"""
What the servers of this package stand on: a thread with an event loop, and a TCP port that can be shut.

The loop under test, whichever it is, can neither stall this one nor be stalled by it. Nothing here
refers to the `HeadlessService`, which can so be collected, and complain, if it was never closed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Self, cast

__all__ = ["Connection", "Host", "Listener", "bind_tcp", "later", "shown_address"]

_BACKLOG = 128


class Host:
    """
    An event loop in a thread of its own; a server says what runs on it, `_serve`.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        # Not the policy's loop: it is to work beside uvloop and trio alike, with UDP everywhere.
        self._loop = asyncio.SelectorEventLoop()
        self._stopped = asyncio.Event()
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_own_thread(self) -> bool:
        """
        Whether the caller runs on the server's thread, as the user's hook does.
        """
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """
        Stop, and return once the thread has ended and the sockets are closed.
        """
        self.stop_soon()
        self._thread.join()

    def stop_soon(self) -> None:
        """
        Stop without waiting.
        """
        self._soon(self._stopped.set)

    def _launch(self) -> None:
        """
        Start the thread; return once `_serve` has set `_started`.
        """
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise

    def _soon(self, call: Callable[[], object]) -> None:
        """
        Call on the loop, from any thread.
        """
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(call)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            self._release()
            self._loop.close()

    async def _serve(self) -> None:
        """
        Listen, set `_started`, and wait for `_stopped`.
        """
        raise NotImplementedError

    def _release(self) -> None:
        """
        Close the sockets.
        """
        raise NotImplementedError


class Listener:
    """
    A TCP port that is held, and takes connections or refuses them.

    Args:
        tcp: What `bind_tcp` gave.
        make: A connection, for each one that is taken.
    """

    def __init__(self, tcp: socket.socket, make: Callable[[], Connection]) -> None:
        self._socket = tcp
        self._family = tcp.family
        self._host, self._port = tcp.getsockname()[:2]
        self._make = make
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    async def open(self) -> None:
        """
        Take connections, if it does not yet.
        """
        if self._server is None:
            connections = self._connections = set()

            def make() -> Connection:
                return self._make().join(connections, lambda: self._takes(connections))

            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(make, sock=self._socket, backlog=_BACKLOG)

    async def shut(self, *, for_good: bool = False) -> None:
        """
        Refuse connections and drop those that are open; hold the port, unless it is *for_good*.
        """
        server = self._server
        if server is None:
            return
        # asyncio loses the socket of a connection that was accepted and is not yet one when its
        # server is closed: accept no more, and wait the two turns that it takes.
        asyncio.get_running_loop().remove_reader(self._socket)
        for _ in range(3):
            await asyncio.sleep(0)
        if self._server is not server:
            return  # somebody else was quicker
        server.close()
        self._server = None
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)
        if not for_good:
            self._socket = bind_tcp(self._family, self._host, self._port)

    def release(self) -> None:
        """
        Give the port back.
        """
        self._socket.close()

    def _takes(self, connections: set[Connection]) -> bool:
        """
        Whether connections are still taken as they were when *connections* began to come.
        """
        return self._server is not None and self._connections is connections


class Connection(asyncio.Protocol):
    """
    One TCP connection, known to its `Listener` while it is open.
    """

    _transport: asyncio.Transport | None = None

    def join(self, connections: set[Connection], takes: Callable[[], bool]) -> Self:
        """
        Belong to *connections* once it is made, if *takes* then says so.
        """
        self._connections, self._takes = connections, takes
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._takes():  # refused after it was accepted
            self._transport.abort()
            return
        self._connections.add(self)
        self.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)

    def opened(self) -> None:
        """
        Called once, before anything has arrived.
        """

    def abort(self) -> None:
        """
        End the connection at once.
        """
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """
        End the connection after what is being sent.
        """
        if self._transport is not None:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """
        Send *data*, unless the connection is ending.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def bind_tcp(family: int, host: str, port: int) -> socket.socket:
    """
    A TCP socket that holds the port and refuses connections until it listens.
    """
    tcp = socket.socket(family, socket.SOCK_STREAM)
    tcp.setblocking(False)
    if os.name == "posix":
        # Closed connections linger on the port, and are no reason to refuse it.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        tcp.bind((host, port))
    except OSError:
        tcp.close()
        raise
    return tcp


def shown_address(host: str, port: int) -> str:
    """
    ``127.0.0.1:5353`` or ``[::1]:5353``.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def later(delay: float, call: Callable[..., None], *args: Any) -> None:
    """
    Call now, or in *delay* seconds.
    """
    if delay > 0:
        asyncio.get_running_loop().call_later(delay, call, *args)
    else:
        call(*args)
