"""
A DNS server of a large service one of whose connections hears and never answers.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["StuckServer", "stuck_server"]

# As many as do not fit in a datagram, and all of them.
SOME, ALL = 20, 200


class StuckServer:
    """
    Answers UDP with what fits and TC, or with all; TCP with all.

    Attributes:
        nameserver: Where it listens.
        truncates: Whether UDP answers say that there is more.
        swallows: How many connections, or UDP source ports, from now on hear and never answer.
        halves: Whether those send the first half of an answer before they fall silent.
        connections: How many TCP connections there have been.
        delay: Seconds before each answer over TCP.
    """

    def __init__(self, udp: socket.socket, tcp: socket.socket) -> None:
        host, port = udp.getsockname()
        self.nameserver = f"{host}:{port}"
        self.truncates = True
        self.swallows = 0
        self.halves = False
        self.connections = 0
        self.delay = 0.0
        self._dead_ports: set[int] = set()
        self._udp = udp
        self._tcp = tcp
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=f) for f in (self._serve_udp, self._accept)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for each in (self._udp, self._tcp, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _serve_udp(self) -> None:
        while True:
            try:
                query, address = self._udp.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            host, port = address
            if self.swallows and not self.truncates:
                self.swallows -= 1
                self._dead_ports.add(port)
            if port in self._dead_ports:
                continue
            flags = 0x8600 if self.truncates else 0x8400
            self._udp.sendto(_answer(query, SOME, flags), (host, port))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            self.connections += 1
            is_dead = self.swallows > 0
            self.swallows -= is_dead
            self._open.append(connection)
            thread = threading.Thread(target=self._serve_tcp, args=(connection, is_dead))
            self._threads.append(thread)
            thread.start()

    def _serve_tcp(self, connection: socket.socket, is_dead: bool) -> None:
        while True:
            try:
                head = connection.recv(2, socket.MSG_WAITALL)
                if len(head) < 2:
                    return
                query = connection.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL)
                time.sleep(self.delay)
                wire = _answer(query, ALL, 0x8400)
                message = struct.pack(">H", len(wire)) + wire
                if not is_dead:
                    connection.sendall(message)
                elif self.halves:
                    connection.sendall(message[: len(message) // 2])
            except OSError:
                return


@contextmanager
def stuck_server() -> Iterator[StuckServer]:
    """
    Run one on a free port of loopback.
    """
    with _both_on_one_port() as (udp, tcp):
        server = StuckServer(udp, tcp)
        try:
            yield server
        finally:
            server.close()


@contextmanager
def _both_on_one_port() -> Iterator[tuple[socket.socket, socket.socket]]:
    for _ in range(50):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue  # free for the one and not for the other
            tcp.listen(50)
            yield udp, tcp
            return
    raise RuntimeError("no port is free for UDP and TCP")


def _answer(query: bytes, count: int, flags: int) -> bytes:
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 5, 4, 10, 0, number >> 8, number & 255)
        for number in range(1, count + 1)
    )
    return query[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + question + records
