"""
A DNS server on loopback, in a thread of its own.

Owns the thread, its event loop and the sockets; what to answer is `Responder`'s business. The
loop under test, whichever it is, can neither stall this one nor be stalled by it. Nothing here
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
from typing import Any, cast

from knet.testing.responder import Responder

__all__ = ["Server"]

_ATTEMPTS = 100
# CoreDNS closes an idle TCP connection after this many seconds.
_IDLE = 10.0
_BACKLOG = 128
_RECEIVE_BUFFER = 1 << 20


class Server:
    """
    One listening server, from construction until `close`.

    Args:
        responder: Asked from the server's thread, one query at a time.
        host: A loopback address.
        port: For UDP and TCP both; 0 takes one that is free for both.
        tcp: Whether TCP connections are taken at first.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, responder: Responder, *, host: str, port: int, tcp: bool) -> None:
        self._responder = responder
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._host = host
        self._udp_socket, self._tcp_socket = self._bind(port)
        self.port: int = self._udp_socket.getsockname()[1]
        self._listener: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        # Not the policy's loop: it is to work beside uvloop and trio alike, with UDP everywhere.
        self._loop = asyncio.SelectorEventLoop()
        self._stopped = asyncio.Event()
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._run, args=(tcp,), name=f"knet-headless-service-{self.port}", daemon=True
        )
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise

    @property
    def is_own_thread(self) -> bool:
        """
        Whether the caller runs on the server's thread, as the user's hook does.
        """
        return threading.current_thread() is self._thread

    def set_tcp(self, enabled: bool) -> None:
        """
        Take TCP connections, or refuse them and drop those that are open.
        """
        asyncio.run_coroutine_threadsafe(self._set_tcp(enabled), self._loop).result()

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
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stopped.set)

    def _bind(self, port: int) -> tuple[socket.socket, socket.socket]:
        last: OSError | None = None
        for _ in range(1 if port else _ATTEMPTS):
            udp = socket.socket(self._family, socket.SOCK_DGRAM)
            try:
                udp.bind((self._host, port))
                tcp = self._bind_tcp(udp.getsockname()[1])
            except OSError as error:
                udp.close()
                last = error
                continue
            # A burst of queries should meet a slow answer, not a full buffer.
            with contextlib.suppress(OSError):
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            udp.setblocking(False)
            return udp, tcp
        where = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        raise OSError(f"cannot listen on {where}, UDP and TCP: {last}") from last

    def _bind_tcp(self, port: int) -> socket.socket:
        """
        A TCP socket that holds the port and refuses connections until it listens.
        """
        tcp = socket.socket(self._family, socket.SOCK_STREAM)
        tcp.setblocking(False)
        if os.name == "posix":
            # Closed connections linger on the port, and are no reason to refuse it.
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind((self._host, port))
        except OSError:
            tcp.close()
            raise
        return tcp

    def _run(self, tcp: bool) -> None:
        try:
            self._loop.run_until_complete(self._serve(tcp))
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            self._udp_socket.close()
            self._tcp_socket.close()
            self._loop.close()

    async def _serve(self, tcp: bool) -> None:
        loop = asyncio.get_running_loop()
        datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._responder), sock=self._udp_socket
        )
        if tcp:
            await self._set_tcp(True)
        self._started.set_result(None)
        try:
            await self._stopped.wait()
        finally:
            datagrams.abort()
            await self._set_tcp(False)
            # Transports close their sockets one turn of the loop later; a connection that has just
            # been accepted takes two turns more until it is one.
            for _ in range(5):
                await asyncio.sleep(0)

    async def _set_tcp(self, enabled: bool) -> None:
        if enabled and self._listener is None:
            loop = asyncio.get_running_loop()
            connections = self._connections = set()
            self._listener = await loop.create_server(
                lambda: _Connection(self._responder, connections, self._takes),
                sock=self._tcp_socket,
                backlog=_BACKLOG,
            )
        elif not enabled and self._listener is not None:
            listener = self._listener
            # asyncio loses the socket of a connection that was accepted and is not yet one when its
            # server is closed: accept no more, and wait the two turns that it takes.
            asyncio.get_running_loop().remove_reader(self._tcp_socket)
            for _ in range(3):
                await asyncio.sleep(0)
            if self._listener is not listener:
                return  # somebody else was quicker
            listener.close()
            self._listener = None
            for connection in tuple(self._connections):
                connection.abort()
            await asyncio.sleep(0)
            if not self._stopped.is_set():
                self._tcp_socket = self._bind_tcp(self.port)

    def _takes(self, connections: set[_Connection]) -> bool:
        """
        Whether TCP is still taken as it was when *connections* began to come.
        """
        return self._listener is not None and self._connections is connections


class _Datagrams(asyncio.DatagramProtocol):
    """
    The UDP side.
    """

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own is no subclass of it, only shaped like one.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        outcome = self._responder.handle(data, "udp")
        if outcome.wire is not None:
            send = self._send_from_elsewhere if outcome.elsewhere else self._send
            _later(outcome.delay, send, outcome.wire, addr)

    def _send(self, wire: bytes, addr: tuple[str | Any, int]) -> None:
        # An answer over UDP's own limit cannot be sent: a client hears nothing, as with CoreDNS.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(wire, addr)

    def _send_from_elsewhere(self, wire: bytes, addr: tuple[str | Any, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            own = self._transport.get_extra_info("socket")
            with socket.socket(own.family, socket.SOCK_DGRAM) as other:
                other.bind((own.getsockname()[0], 0))
                other.sendto(wire, addr)


class _Connection(asyncio.Protocol):
    """
    One TCP connection: any number of length-prefixed queries, answered in order.
    """

    def __init__(
        self,
        responder: Responder,
        connections: set[_Connection],
        takes: Callable[[set[_Connection]], bool],
    ) -> None:
        self._responder = responder
        self._connections = connections
        self._takes = takes
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._takes(self._connections):  # refused after it was accepted
            self._transport.abort()
            return
        self._connections.add(self)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._wait()
        while len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < end:
                return
            wire = bytes(self._received[2:end])
            del self._received[:end]
            outcome = self._responder.handle(wire, "tcp")
            if outcome.close:
                _later(outcome.delay, self.close)
                return
            if outcome.wire is not None:
                _later(outcome.delay, self._send, outcome.wire)

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

    def _send(self, wire: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(len(wire).to_bytes(2, "big") + wire)

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE, self.close)


def _later(delay: float, call: Callable[..., None], *args: Any) -> None:
    """
    Call now, or in *delay* seconds.
    """
    if delay > 0:
        asyncio.get_running_loop().call_later(delay, call, *args)
    else:
        call(*args)
