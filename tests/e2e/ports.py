"""
Ports of loopback that stay ours, also while the server that uses one is stopped.
"""

from __future__ import annotations

import random
import socket

__all__ = ["HOST", "reserve_port"]

HOST = "127.0.0.1"


def reserve_port() -> tuple[int, socket.socket]:
    """
    Return a port that is free for UDP and TCP, and a socket to close when it is given up.

    CoreDNS listens with SO_REUSEPORT, so a second one on the same port would not fail but answer
    half of the queries. The socket never listens; it keeps other test runs away, also while the
    server is stopped. Ports lie below those that systems give to clients, since a client's socket
    may come to sit on the port in the meantime.
    """
    while True:
        port = random.randrange(20_000, 30_000)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            try:
                tcp.bind((HOST, port))
                udp.bind((HOST, port))
            except OSError:
                continue
        reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((HOST, port))
        return port, reserved
