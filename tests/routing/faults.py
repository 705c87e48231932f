"""
Servers that misbehave in one way each, and count the requests that they have seen.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FAULTS", "Faulty", "faulty"]

# What happens to a client: the connection is refused; it is closed or reset once the request was read;
# nobody answers; nobody speaks TLS; the certificate is another host's.
FAULTS = ("refused", "closed", "reset", "silent", "certificate")
CERTIFICATE = Path(__file__).with_name("other.pem")


class Faulty:
    """
    Attributes:
        port: Where it is, on 127.0.0.1.
        seen: How many requests it has read.
    """

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.seen = 0
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        if fault == "refused":
            self._listener.close()
        else:
            self._thread = threading.Thread(target=self._serve)
            self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._ended.is_set():
                connection.close()
                return
            self._connections.append(connection)
            with contextlib.suppress(OSError):
                self._go_wrong(connection)

    def _go_wrong(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        if self.fault == "certificate":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            with context.wrap_socket(connection, server_side=True) as wrapped:
                self.seen += bool(wrapped.recv(65536))
            return
        self.seen += bool(connection.recv(65536))
        if self.fault == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if self.fault != "silent":
            connection.close()

    def close(self) -> None:
        self._ended.set()
        if self.fault != "refused":
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                pass
            self._thread.join()
            self._listener.close()
            for connection in self._connections:
                connection.close()


@contextlib.contextmanager
def faulty(fault: str) -> Iterator[Faulty]:
    server = Faulty(fault)
    try:
        yield server
    finally:
        server.close()
