"""
A DNS server on loopback, in a thread of its own.

Owns the sockets; the thread is `Host`'s, and what to answer is `Responder`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

from knet.testing.host import Connection, Host, Listener, bind_tcp, later, shown_address
from knet.testing.responder import Responder

__all__ = ["Server"]

_ATTEMPTS = 100
# CoreDNS closes an idle TCP connection after this many seconds.
_IDLE = 10.0
_RECEIVE_BUFFER = 1 << 20


class Server(Host):
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
        self._tcp_at_first = tcp
        self._udp_socket, tcp_socket = _bind(host, port)
        self.port: int = self._udp_socket.getsockname()[1]
        self._listener = Listener(tcp_socket, lambda: _Queries(responder))
        super().__init__(f"knet-headless-service-{self.port}")
        self._launch()

    def set_tcp(self, enabled: bool) -> None:
        """
        Take TCP connections, or refuse them and drop those that are open.
        """
        change = self._listener.open() if enabled else self._listener.shut()
        asyncio.run_coroutine_threadsafe(change, self._loop).result()

    def _release(self) -> None:
        self._udp_socket.close()
        self._listener.release()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._responder), sock=self._udp_socket
        )
        if self._tcp_at_first:
            await self._listener.open()
        self._started.set_result(None)
        try:
            await self._stopped.wait()
        finally:
            datagrams.abort()
            await self._listener.shut(for_good=True)
            # Transports close their sockets one turn of the loop later; a connection that has just
            # been accepted takes two turns more until it is one.
            for _ in range(5):
                await asyncio.sleep(0)


def _bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """
    A socket for UDP and one for TCP, on the same port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last: OSError | None = None
    for _ in range(1 if port else _ATTEMPTS):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.bind((host, port))
            tcp = bind_tcp(family, host, udp.getsockname()[1])
        except OSError as error:
            udp.close()
            last = error
            continue
        # A burst of queries should meet a slow answer, not a full buffer.
        with contextlib.suppress(OSError):
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        udp.setblocking(False)
        return udp, tcp
    raise OSError(f"cannot listen on {shown_address(host, port)}, UDP and TCP: {last}") from last


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
            later(outcome.delay, send, outcome.wire, addr)

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


class _Queries(Connection):
    """
    One TCP connection: any number of length-prefixed queries, answered in order.
    """

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._received = bytearray()
        self._idle: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
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
                later(outcome.delay, self.close)
                return
            if outcome.wire is not None:
                reply = len(outcome.wire).to_bytes(2, "big") + outcome.wire
                later(outcome.delay, self.write, reply)

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE, self.close)
